"""Bags through both roads, end to end: outputs, determinism, and every kind of bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from perception.scenes import write_network
from support import bags

from mm_fusion import config
from mm_fusion.errors import BagError, ConfigError, ContractError, StageError
from mm_fusion.evaluation import records
from mm_fusion.evaluation.overlays import write_overlays
from mm_fusion.evaluation.replay import replay

S, START = bags.S, bags.START_NS
SMALL = "network.threads=1"
FILES = (
    records.DETECTIONS,
    records.TRACKS,
    records.POSE,
    records.POSE_LOCAL,
    records.GPS,
)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real network: its first box stands on the mean of the points."""
    return write_network(tmp_path_factory.mktemp("network"))


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Callable[..., dict[str, Any]]:
    """Write rows to a bag, replay it to ``out``; the summary."""

    def go(rows: list[bags.Row], *assignments: str, out: str = "out") -> dict[str, Any]:
        bag = bags.write_bag(tmp_path / f"{out}_bag", rows)
        settings = config.load(assignments=(f"network.model={model}", SMALL, *assignments))
        return replay(bag, tmp_path / out, settings)

    return go


def detections(directory: Path) -> list[dict[str, Any]]:
    return records.read_lines(directory / records.DETECTIONS)


def block(ns: int, x: float = 10.0, y: float = 2.0) -> Any:
    """A sweep whose points have their mean at (x, y, 0.8) in the base frame."""
    random = np.random.default_rng(1)
    points = random.uniform(-1, 1, (200, 3))
    points -= points.mean(axis=0)
    return bags.cloud(ns, points + np.array([x, y, 0.8 - 1.8]))


def with_blocks(rows: list[bags.Row]) -> list[bags.Row]:
    return [(t, ns, block(ns) if t == "/lidar/points" else m) for t, ns, m in rows]


def replaced(
    rows: list[bags.Row], topic: str, index: int, change: Callable[[Any], Any]
) -> list[bags.Row]:
    """Rows with one message of a topic changed; ``change`` edits it in place."""
    at = [i for i, r in enumerate(rows) if r[0] == topic][index]
    change(rows[at][2])
    return rows


# --------------------------------------------------------------------------- outputs


def test_every_sweep_is_answered_and_every_file_written(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    summary = run(with_blocks(bags.drive_rows(2.0)))
    assert (summary["sweeps"], summary["answered"]) == (20, 20)
    assert summary["modes"] == {"camera+lidar": 20}
    assert summary["provider"] in ("cpu", "cuda")
    assert {"p50", "p90", "p99", "max"} == set(summary["latency_ms"]["network"])
    assert summary["datum"] == {"lat": 48.0, "lon": 8.0, "alt": 100.0}
    assert summary["source"]["topics"]["topics.lidars"] == "/lidar/points (named)"
    found = detections(tmp_path / "out")
    assert [line["stamp_ns"] for line in found] == [START + i * S // 10 for i in range(20)]
    line = found[5]
    assert set(line) == {"stamp_ns", "frame_id", "mode", "missing", "detections"}
    assert (line["frame_id"], line["mode"], line["missing"]) == ("base_link", "camera+lidar", [])
    car = line["detections"][0]
    assert set(car) == {"class", "score", "center", "size", "yaw", "velocity", "source"}
    assert car["class"] == "car"
    assert car["score"] == pytest.approx(0.9)
    assert car["center"] == pytest.approx([10.0, 2.0, 0.8], abs=1e-3)
    tracks = records.read_lines(tmp_path / "out" / records.TRACKS, "tracks")
    assert len(tracks) == 20
    assert {"id", "class", "center"} <= set(tracks[-1]["tracks"][0])
    pose = records.read_tum(tmp_path / "out" / records.POSE)
    assert pose.positions[-1, 0] == pytest.approx(9.5, abs=1.5)  # 2 s eastwards at 5 m/s
    text = (tmp_path / "out" / records.POSE).read_text().splitlines()[0].split()
    assert len(text) == 8
    assert len(text[0].partition(".")[2]) == 9


def test_sets_without_detections_have_their_line(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run(bags.drive_rows(1.0), "network.score_threshold=1.0")
    assert [line["detections"] for line in detections(tmp_path / "out")] == [[]] * 10


def test_two_replays_are_byte_identical(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    rows = with_blocks(bags.drive_rows(2.0))
    one, two = run(rows, out="one"), run(rows, out="two")
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert (tmp_path / "one" / name).stat().st_size > 0
    for summary in (one, two):  # what is measured, and where the bag lies, may differ
        for key in ("latency_ms", "timing", "source"):
            del summary[key]
    assert one == two


def test_the_order_of_recording_changes_nothing(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rows = with_blocks(bags.drive_rows(2.0))
    random = np.random.default_rng(7)
    late = sorted(
        ((t, ns + int(random.uniform(0, 0.2) * S), m) for t, ns, m in rows), key=lambda r: r[1]
    )
    run(rows, out="one")
    run(late, out="two")
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_truth_is_scored_and_single_modalities_beside_it(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rows = with_blocks(bags.drive_rows(1.0, pose_sensors=False))
    for i in range(10):
        ns = START + i * S // 10
        boxes = (
            ("1", "car", (10, 2, 0.8), (4, 2, 1.5), 1.0),
            ("2", "pedestrian", (20, 2, 0.8), (4, 2, 1.5), 1.0),
        )
        rows.append(("/truth/objects", ns, bags.objects(ns, *boxes)))
    summary = run(sorted(rows, key=lambda r: r[1]))
    # The network puts a car on the points' mean and a pedestrian ten metres behind it; without
    # points it puts them elsewhere.
    assert summary["map"] == {"fused": 1.0, "camera": 0.0, "lidar": 1.0}
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["map"] == summary["map"]
    only_lidar = detections(tmp_path / "out" / "only_lidar")
    assert {line["mode"] for line in only_lidar} == {"lidar"}
    assert only_lidar[0]["detections"][0]["score"] == pytest.approx(0.5)


def test_pose_truth_is_scored(run: Callable[..., dict[str, Any]]) -> None:
    rows = bags.drive_rows(4.0, perception=False)
    rows.append(("/truth/datum", START, bags.fix(START, 48.0, 8.0, 98.5)))
    for i in range(200):
        ns = START + i * S // 50
        position = (5.0 * i / 50, 0.0, 0.0)
        rows.append(("/truth/odometry", ns, bags.odometry(ns, position=position, frame="map")))
    summary = run(sorted(rows, key=lambda r: r[1]))
    # The antenna is 1.5 m above the base, and the fixes are exact.
    assert summary["gps_rmse_m"] == pytest.approx(0.0, abs=0.01)
    assert summary["pose_rmse_horizontal_m"] < 1.0
    assert "map" not in summary


def test_without_camera_or_lidar_the_pose_road_runs_alone(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    summary = run(bags.drive_rows(2.0, perception=False), "network.model=/nowhere.onnx")
    assert (summary["sweeps"], summary["provider"], summary["network"]) == (0, None, None)
    assert len(records.read_tum(tmp_path / "out" / records.POSE_LOCAL)) > 100


def test_without_pose_sensors_perception_runs_alone(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    summary = run(with_blocks(bags.drive_rows(1.0, pose_sensors=False)))
    assert summary["answered"] == 10
    assert summary["datum"] is None
    assert (tmp_path / "out" / records.POSE).read_text() == ""
    assert not (tmp_path / "out" / records.GPS).exists()


def test_overlays_show_points_and_boxes(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    import cv2

    run(with_blocks(bags.drive_rows(1.0)))
    paths = write_overlays(tmp_path / "out", tmp_path / "out_bag", 2)
    names = [p.name.partition("_")[0] for p in paths]
    assert names == ["camera", "above", "camera", "above"]
    picture = cv2.imread(str(paths[0]))
    assert picture.shape[1] >= 1280
    # The block stands 9.5 m ahead of the camera, 2 m to the left, 0.7 m below it; f is 100 px.
    u, v = 64 - 100 * 2 / 9.5, 48 + 100 * 0.7 / 9.5
    scale = picture.shape[1] / 128
    around = picture[int((v - 6) * scale) : int((v + 6) * scale), int((u - 9) * scale) :]
    around = around[:, : int(18 * scale)].reshape(-1, 3).astype(int)
    blue, green, _ = around.T
    # viridis near: bright green to yellow; the noise image has no such run of colour
    assert ((green > 150) & (blue < 100)).mean() > 0.02
    car_blue = np.abs(around - [178, 114, 0]).sum(axis=1) < 30
    assert car_blue.mean() > 0.01


def test_an_old_result_does_not_survive(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / records.GPS).write_text("1.0 0 0 0 0 0 0 1\n")
    (tmp_path / "out" / records.EVALUATION).write_text("{}")
    run(with_blocks(bags.drive_rows(0.5, pose_sensors=False)))
    assert not (tmp_path / "out" / records.GPS).exists()
    assert not (tmp_path / "out" / records.EVALUATION).exists()


# ------------------------------------------------------------------- bad input: said aloud


def test_missing_model(run: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ContractError, match=r"/nowhere/fusion\.onnx: no such network file"):
        run(bags.drive_rows(0.3), "network.model=/nowhere/fusion.onnx")


def test_wrong_contract(run: Callable[..., dict[str, Any]], model: Path, tmp_path: Path) -> None:
    copy = tmp_path / model.name
    copy.write_bytes(model.read_bytes())
    contract = yaml.safe_load(model.with_suffix(".yaml").read_text())
    contract["point_budget"] = -1
    copy.with_suffix(".yaml").write_text(yaml.safe_dump(contract))
    with pytest.raises(ContractError, match=r"net\.yaml: point_budget"):
        run(bags.drive_rows(0.3), f"network.model={copy}")


def test_a_network_of_another_contract(
    run: Callable[..., dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / model.name
    copy.write_bytes(model.read_bytes() + b"\0")
    copy.with_suffix(".yaml").write_text(model.with_suffix(".yaml").read_text())
    with pytest.raises(ContractError, match="sha256"):
        run(bags.drive_rows(0.3), f"network.model={copy}")


def test_bag_without_a_topic_that_was_asked_for(run: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(BagError, match=r"no topic rear/points .*topics\.lidars.*: /lidar/points"):
        run(bags.drive_rows(0.3), "topics.lidars=[rear/points]")


def test_bag_without_any_input(run: Callable[..., dict[str, Any]]) -> None:
    rows = [("/tf_static", START, bags.car_mounting())]
    with pytest.raises(BagError, match="no input topic"):
        run(rows)


def test_nothing_calibrated_and_nothing_else_to_do(run: Callable[..., dict[str, Any]]) -> None:
    rows = [r for r in bags.drive_rows(0.5, pose_sensors=False) if r[0] != "/tf_static"]
    with pytest.raises(StageError, match=r"no_extrinsics, 5 times.*'lidar'.*calibration\."):
        run(rows)


def test_a_parameter_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"sync\.deadline_s: must be within"):
        config.load(assignments=["sync.deadline_s=-1"])


# --------------------------------------------------------------------- bad input: counted


def test_no_calibration_is_counted_while_the_pose_goes_on(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rows = [r for r in bags.drive_rows(1.0) if r[0] != "/tf_static"]
    summary = run(rows)
    assert summary["drops"]["lidar/points"]["no_extrinsics"] == 10
    assert summary["drops"]["camera/image_raw"]["no_extrinsics"] == 10
    assert summary["modes"] == {"none": 10}
    assert len(records.read_tum(tmp_path / "out" / records.POSE_LOCAL)) > 10
    assert any("imu" in w for w in summary["warnings"])


def test_no_intrinsics(run: Callable[..., dict[str, Any]]) -> None:
    rows = [r for r in with_blocks(bags.drive_rows(1.0)) if r[0] != "/camera/camera_info"]
    summary = run(rows)
    assert summary["drops"]["camera/image_raw"]["no_intrinsics"] == 10
    assert summary["modes"] == {"lidar": 10}
    assert summary["source"]["topics"]["topics.camera_infos[0]"].startswith("none beside")


def test_extrinsics_from_the_parameters_replace_tf(run: Callable[..., dict[str, Any]]) -> None:
    rows = [r for r in with_blocks(bags.drive_rows(1.0)) if r[0] != "/tf_static"]
    half = np.pi / 2
    summary = run(
        rows,
        "calibration.extrinsics=['lidar 0 0 1.8 0 0 0',"
        f" 'camera 0.5 0 1.5 {-half} 0 {-half}', 'imu 0 0 0 0 0 0', 'gps 0 0 1.5 0 0 0']",
    )
    assert summary["modes"] == {"camera+lidar": 10}
    assert summary["warnings"] == []


def test_unknown_encoding(run: Callable[..., dict[str, Any]]) -> None:
    rows = with_blocks(bags.drive_rows(1.0))
    for _, _, message in rows:
        if message.__msgtype__.endswith("/Image"):
            message.encoding = "yuv422_magic"
    summary = run(rows)
    assert summary["drops"]["camera/image_raw"] == {"unknown_encoding": 10}
    assert "yuv422_magic" in summary["drop_details"]["camera/image_raw"]["unknown_encoding"]
    assert (summary["answered"], summary["modes"]) == (10, {"lidar": 10})


def test_empty_cloud(run: Callable[..., dict[str, Any]]) -> None:
    rows = with_blocks(bags.drive_rows(1.0))
    at = [i for i, r in enumerate(rows) if r[0] == "/lidar/points"][4]
    ns = rows[at][1]
    rows[at] = ("/lidar/points", ns, bags.cloud(ns, np.zeros((0, 3))))
    summary = run(rows)
    assert summary["drops"]["lidar/points"] == {"empty_cloud": 1}
    assert (summary["sweeps"], summary["answered"]) == (10, 9)


def test_points_that_are_no_numbers(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    rows = with_blocks(bags.drive_rows(1.0))
    lidar = [i for i, r in enumerate(rows) if r[0] == "/lidar/points"]
    some = rows[lidar[3]][2].data.view(np.float32).reshape(-1, 4)
    some[::2, 0] = np.nan
    rows[lidar[6]][2].data.view(np.float32)[:] = np.nan
    summary = run(rows)
    found = detections(tmp_path / "out")
    assert all(np.isfinite(d["center"]).all() for line in found for d in line["detections"])
    # Half of the points are still a sweep; a sweep without a single number is not.
    assert found[3]["mode"] == "camera+lidar"
    assert sum(summary["drops"]["lidar/points"].values()) == 1
    assert summary["modes"].get("camera+lidar") == 9


def test_imu_that_says_nan(run: Callable[..., dict[str, Any]]) -> None:
    def spoil(message: Any) -> None:
        message.angular_velocity.x = float("nan")

    summary = run(replaced(bags.drive_rows(2.0, perception=False), "/imu/data", 120, spoil))
    assert summary["drops"]["imu/data"] == {"non_finite": 1}


def test_zero_stamps(run: Callable[..., dict[str, Any]]) -> None:
    rows = with_blocks(bags.drive_rows(1.0))
    for topic, index in (("/imu/data", 50), ("/lidar/points", 4), ("/gps/fix", 2)):
        replaced(rows, topic, index, lambda m: setattr(m.header, "stamp", bags.stamp(0)))
    summary = run(rows)
    for sensor in ("imu/data", "lidar/points", "gps/fix"):
        assert summary["drops"][sensor]["zero_stamp"] == 1
    assert (summary["sweeps"], summary["answered"]) == (10, 9)


def test_time_jumping_back(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    first = with_blocks(bags.drive_rows(3.0))
    loop = [(t, ns + 3 * S, m) for t, ns, m in first if t != "/tf_static"]
    summary = run(first + loop)
    jumps = {s: counts.get("time_jump", 0) for s, counts in summary["drops"].items()}
    assert jumps["imu/data"] == 1
    # The first of camera and LIDAR to jump resets the synchronizer for both.
    assert jumps.get("camera/image_raw", 0) + jumps.get("lidar/points", 0) == 1
    stamps = [line["stamp_ns"] for line in detections(tmp_path / "out")]
    # After the jump it goes on: both rounds are answered but for the sweep that jumped.
    assert summary["sweeps"] == 60
    assert summary["answered"] >= 57
    assert stamps[-1] == START + 29 * S // 10


def test_gps_without_a_fix(run: Callable[..., dict[str, Any]]) -> None:
    rows = bags.drive_rows(3.0, perception=False)
    for _, _, message in rows:
        if message.__msgtype__.endswith("NavSatFix"):
            message.status.status = -1
            message.latitude = message.longitude = message.altitude = float("nan")
    summary = run(rows)
    assert summary["drops"]["gps/fix"] == {"no_fix": 15}
    assert summary["datum"] is None
