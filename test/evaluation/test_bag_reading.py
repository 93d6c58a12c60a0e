"""Bags of every kind, the topics found in them, and the order their samples come out in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import bags

from mm_fusion import config
from mm_fusion.errors import BagError
from mm_fusion.evaluation.bags import Bag, Topic
from mm_fusion.evaluation.order import calibration_first, in_stamp_order, read_samples
from mm_fusion.evaluation.topics import find_inputs, find_named
from mm_fusion.evaluation.truth import read_truth
from mm_fusion.samples import CameraModel, ImuSample, LidarSweep, Reason, Rejection
from mm_fusion.wire import FrameTransforms

S, START = bags.S, bags.START_NS
DEFAULT = config.Config()


def topics(*entries: str) -> list[Topic]:
    """Topics as 'name type' texts."""
    full = {**bags._SHORT, "TF": "tf2_msgs/msg/TFMessage"}
    pairs = [e.split() for e in entries]
    return [Topic(name, full.get(kind, kind), 10) for name, kind in pairs]


# ---------------------------------------------------------------------------- opening


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_reads_what_was_written(tmp_path: Path, storage: str) -> None:
    path = bags.write_bag(tmp_path / "bag", bags.drive_rows(0.5), storage)
    with Bag(path) as bag:
        counts = {t.name: t.count for t in bag.topics}
        assert counts["/imu/data"] == 50
        assert counts["/camera/image_raw"] == 5
        messages = list(bag.messages(["/imu/data"]))
    assert [m.log_ns for m in messages] == [START + i * S // 100 for i in range(50)]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_reads_a_bare_file(tmp_path: Path, storage: str) -> None:
    path = bags.write_bag(tmp_path / "bag", bags.drive_rows(0.5), storage)
    (file,) = [f for f in path.iterdir() if f.suffix in (".mcap", ".db3")]
    with Bag(file) as bag:
        assert sum(1 for _ in bag.messages(["/lidar/points"])) == 5


def test_reads_a_directory_whose_recorder_was_killed(tmp_path: Path) -> None:
    path = bags.write_bag(tmp_path / "bag", bags.drive_rows(0.5))
    (path / "metadata.yaml").unlink()
    with Bag(path) as bag:
        assert sum(1 for _ in bag.messages(["/lidar/points"])) == 5


def test_ros1_and_ros2_give_the_same_samples(tmp_path: Path) -> None:
    rows = [r for r in bags.drive_rows(0.5) if r[0] != "/tf_static"]
    found = []
    for storage, name in (("ros1", "drive.bag"), ("mcap", "drive")):
        with Bag(bags.write_bag(tmp_path / name, rows, storage)) as bag:
            inputs = find_inputs(bag.topics, DEFAULT, name)
            found.append(list(read_samples(bag, inputs)))
    one, two = found
    assert len(one) == len(two) == len(rows)
    for a, b in zip(one, two, strict=True):
        assert (a.sensor, a.stamp_ns, type(a.sample)) == (b.sensor, b.stamp_ns, type(b.sample))
        if isinstance(a.sample, LidarSweep):
            np.testing.assert_array_equal(a.sample.points["x"], b.sample.points["x"])


def test_what_is_no_bag_is_named(tmp_path: Path) -> None:
    junk = tmp_path / "junk.mcap"
    junk.write_text("not a bag")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nowhere", junk, text, tmp_path / "empty"):
        with pytest.raises(BagError, match=path.name):
            Bag(path)


def test_a_truncated_bag_is_named(tmp_path: Path) -> None:
    path = bags.write_bag(tmp_path / "bag", bags.drive_rows(0.5))
    (file,) = path.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError, match="bag"):
        Bag(path)


# --------------------------------------------------------------------------- finding


def test_configured_names_win() -> None:
    found = find_inputs(
        topics("/lidar/points PointCloud2", "/other PointCloud2", "/imu/data Imu"), DEFAULT, "x"
    )
    assert [t and t.name for t in found.lidars] == ["/lidar/points"]
    assert found.gps is None
    assert found.notes["topics.gps"] == "none in the bag"


def test_the_only_one_of_a_type_is_taken() -> None:
    found = find_inputs(topics("/velodyne PointCloud2", "/fix NavSatFix"), DEFAULT, "x")
    named = found.config(DEFAULT).topics
    assert named.lidars == ("velodyne",)
    assert named.gps == "fix"


def test_a_namespace_in_front_of_the_name_is_no_obstacle() -> None:
    found = find_inputs(topics("/robot/imu/data Imu", "/robot/imu/raw Imu"), DEFAULT, "x")
    assert found.imu is not None
    assert found.imu.name == "/robot/imu/data"


def test_several_of_a_type_are_an_error_that_names_them_and_the_way_out() -> None:
    with pytest.raises(BagError, match=r"/a, /b; choose with --set topics\.lidars=\[NAME\]"):
        find_inputs(topics("/a PointCloud2", "/b PointCloud2"), DEFAULT, "x")
    chosen = config.load(assignments=["topics.lidars=[/b]"])
    found = find_inputs(topics("/a PointCloud2", "/b PointCloud2"), chosen, "x")
    assert [t and t.name for t in found.lidars] == ["/b"]


def test_several_lidars_are_found_each_under_its_name() -> None:
    chosen = config.load(
        assignments=["topics.lidars=[/top,rear/points]", "sync.reference=rear/points"]
    )
    there = topics("/top PointCloud2", "/rear/points PointCloud2", "/third PointCloud2")
    found = find_inputs(there, chosen, "x")
    assert [t and t.name for t in found.lidars] == ["/top", "/rear/points"]
    assert found.notes["topics.lidars[1]"] == "/rear/points (named)"
    named = found.config(chosen)
    assert (named.topics.lidars, named.sync.reference) == (("top", "rear/points"), "rear/points")
    with pytest.raises(BagError, match=r"no topic rear/points .*topics\.lidars\[1\]"):
        find_inputs(topics("/top PointCloud2"), chosen, "x")


def test_what_names_a_sensor_follows_it_to_the_name_in_the_bag() -> None:
    chosen = config.load(
        assignments=["sync.reference=camera/image_raw", "sync.required=[lidar/points]"]
    )
    found = find_inputs(topics("/velodyne PointCloud2", "/eye/image Image"), chosen, "x")
    named = found.config(chosen)
    assert (named.sync.reference, named.sync.required) == ("eye/image", ("velodyne",))


def test_a_name_the_user_chose_must_be_there() -> None:
    chosen = config.load(assignments=["topics.gps=my/gps"])
    with pytest.raises(BagError, match=r"no topic my/gps .*topics\.gps.*: /fix"):
        find_inputs(topics("/fix NavSatFix"), chosen, "x")


def test_own_outputs_truth_and_commands_are_no_inputs() -> None:
    found = find_inputs(
        topics(
            "/truth/odometry Odometry",
            "/odometry/local Odometry",
            "/odometry/global Odometry",
            "/cmd_vel TwistStamped",
            "/gps/filtered NavSatFix",
            "/truth/datum NavSatFix",
            "/obstacles PointCloud2",
            "/debug/camera_0 Image",
            "/imu/data Imu",
        ),
        DEFAULT,
        "x",
    )
    assert found.imu is not None
    assert (found.wheels, found.gps, found.lidars, found.cameras) == (None, None, (None,), (None,))


def test_a_bag_without_inputs_is_an_error_that_says_what_it_has() -> None:
    with pytest.raises(BagError, match=r"no input topic.*std_msgs/msg/String"):
        find_inputs(topics("/chatter std_msgs/msg/String"), DEFAULT, "x")


def test_compressed_images_are_found_and_raw_ones_preferred() -> None:
    both = topics("/cam/image/compressed CompressedImage", "/cam/image Image")
    assert find_inputs(both, DEFAULT, "x").cameras[0] == both[1]
    assert find_inputs(both[:1], DEFAULT, "x").cameras[0] == both[0]
    compressed = config.load(assignments=["topics.camera_compressed=true"])
    assert find_inputs(both, compressed, "x").cameras[0] == both[0]


def test_camera_info_beside_the_images_or_the_only_one() -> None:
    beside = topics("/a/image Image", "/a/camera_info CameraInfo", "/b/camera_info CameraInfo")
    assert find_inputs(beside, DEFAULT, "x").camera_infos == (beside[1],)
    only = topics("/a/image Image", "/info CameraInfo")
    assert find_inputs(only, DEFAULT, "x").camera_infos == (only[1],)
    several = topics("/c/image Image", "/a/camera_info CameraInfo", "/b/camera_info CameraInfo")
    found = find_inputs(several, DEFAULT, "x")
    assert found.camera_infos == (None,)
    assert found.notes["topics.camera_infos[0]"] == "none beside /c/image"


def test_wheels_of_each_type() -> None:
    twist = topics("/twist TwistStamped")
    found = find_inputs(twist, DEFAULT, "x")
    assert found.config(DEFAULT).topics.wheels_type == "geometry_msgs/msg/TwistStamped"
    both = topics("/twist TwistStamped", "/odom Odometry")
    assert find_inputs(both, DEFAULT, "x").wheels == both[1]  # the configured type is preferred


def test_find_named_in_any_namespace() -> None:
    there = topics("/sim/truth/objects Detection3DArray", "/imu/data Imu")
    assert find_named(there, "truth/objects", "vision_msgs/msg/Detection3DArray") == there[0]
    assert find_named(there, "truth/odometry", "nav_msgs/msg/Odometry") is None


# ---------------------------------------------------------------------------- order


def samples_of(tmp_path: Path, rows: list[bags.Row], name: str = "bag") -> list:
    with Bag(bags.write_bag(tmp_path / name, rows)) as bag:
        inputs = find_inputs(bag.topics, DEFAULT, name)
        return list(in_stamp_order(read_samples(bag, inputs), DEFAULT))


def test_the_order_of_recording_does_not_matter(tmp_path: Path) -> None:
    rows = bags.drive_rows(1.5)
    random = np.random.default_rng(5)
    late = [(t, ns + int(random.uniform(0, 0.3) * S), m) for t, ns, m in rows]
    late.sort(key=lambda r: r[1])
    one, two = samples_of(tmp_path, rows, "one"), samples_of(tmp_path, late, "two")
    assert [a.stamp_ns for a in one] == sorted(a.stamp_ns for a in one)
    # What has no stamp of its own (CameraInfo) keeps its place; all that is measured is ordered.
    places = [
        [(a.sensor, a.stamp_ns) for a in found if not isinstance(a.sample, CameraModel)]
        for found in (one, two)
    ]
    assert places[0] == places[1]


def test_at_one_instant_motion_comes_before_the_image_and_the_sweep(tmp_path: Path) -> None:
    first = [a for a in samples_of(tmp_path, bags.drive_rows(0.3)) if a.stamp_ns == START]
    kinds = [type(a.sample).__name__ for a in first]
    assert kinds[-2:] == ["CameraFrame", "LidarSweep"]
    assert kinds.index("ImuSample") < kinds.index("CameraFrame")


def test_a_sweep_comes_after_the_motion_it_saw(tmp_path: Path) -> None:
    rows = bags.drive_rows(0.5, perception=False)
    points = np.zeros((3, 5), np.float32)
    points[:, 0], points[:, 4] = 5.0, (0.0, 0.04, 0.09)  # seconds after the stamp
    sweep = bags.cloud(START + S // 10)
    names = ("x", "y", "z", "intensity", "time")
    sweep.fields = [
        bags.make("sensor_msgs/msg/PointField", name=n, offset=4 * i, datatype=7, count=1)
        for i, n in enumerate(names)
    ]
    sweep.width, sweep.point_step, sweep.row_step = 3, 20, 60
    sweep.data = points.view(np.uint8).ravel()
    rows.append(("/lidar/points", START + S // 5, sweep))
    order = samples_of(tmp_path, rows)
    place = [isinstance(a.sample, LidarSweep) for a in order].index(True)
    before = [a.sample.stamp_ns for a in order[:place] if isinstance(a.sample, ImuSample)]
    assert max(before) == START + 19 * S // 100  # the last one at or before 0.1 + 0.09 s
    assert order[place].sample.stamp_ns == START + S // 10  # its stamp stays what it was


def test_a_jump_back_stays_a_jump(tmp_path: Path) -> None:
    first = bags.drive_rows(1.0, perception=False)
    again = [(t, ns + S, m) for t, ns, m in first]  # the loop of a bag: same stamps, later
    stamps = [a.stamp_ns for a in samples_of(tmp_path, first + again) if a.sensor == "imu/data"]
    assert len(stamps) == 200
    assert stamps[:100] == sorted(stamps[:100]) == stamps[100:]


def test_a_zero_stamp_is_rejected_where_it_was_recorded(tmp_path: Path) -> None:
    rows = bags.drive_rows(0.5, perception=False)
    rows.insert(60, ("/imu/data", rows[60][1], bags.imu(0)))
    found = samples_of(tmp_path, rows)
    bad = [a for a in found if isinstance(a.sample, Rejection)]
    assert [a.sample.reason for a in bad] == [Reason.ZERO_STAMP]
    assert START < bad[0].stamp_ns < START + S


def test_calibration_is_known_before_the_first_sample(tmp_path: Path) -> None:
    rows = [r for r in bags.drive_rows(1.0) if r[0] not in ("/tf_static", "/camera/camera_info")]
    rows.append(("/tf_static", START + 2 * S, bags.car_mounting()))
    rows.append(("/camera/camera_info", START + 2 * S, bags.camera_info(START)))
    with Bag(bags.write_bag(tmp_path / "bag", rows)) as bag:
        early = calibration_first(bag, find_inputs(bag.topics, DEFAULT, "bag"))
    kinds = {type(a.sample) for a in early}
    assert kinds == {FrameTransforms, CameraModel}
    # A camera's calibration goes by the name of its images, whatever its own topic is called.
    assert {a.sensor for a in early} == {"tf_static", "camera/image_raw"}


# ---------------------------------------------------------------------------- truth


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_truth(tmp_path: Path, storage: str) -> None:
    rows: list[bags.Row] = [("/truth/datum", START, bags.fix(START, 48.1, 8.2, 300.0))]
    for i in range(5):
        ns = START + i * S // 10
        rows.append(("/truth/odometry", ns, bags.odometry(ns, position=(0.5 * i, 0, 0))))
        boxes = (
            ("1", "car", (10.0 - 0.5 * i, 2, 0.8), (4, 2, 1.5), 1.0),
            ("2", "pedestrian", (5.0, -2.0, 0.9), (0.6, 0.6, 1.8), 0.0),
        )
        rows.append(("/truth/objects", ns, bags.objects(ns, *boxes)))
    with Bag(bags.write_bag(tmp_path / "bag", rows, storage)) as bag:
        truth = read_truth(bag)
    assert truth.datum == (48.1, 8.2, 300.0)
    assert truth.trajectory is not None
    assert len(truth.trajectory) == 5
    car, walker = truth.objects[START + S // 5]
    assert (car.label, car.counted, walker.label, walker.counted) == (
        *("car", True),
        *("pedestrian", False),
    )
    np.testing.assert_allclose(car.center, [9.0, 2.0, 0.8])
    np.testing.assert_allclose(car.velocity, [0.0, 0.0], atol=1e-9)  # parked while we pass
    np.testing.assert_allclose(walker.velocity, [5.0, 0.0], atol=1e-9)  # keeps pace with us


def test_a_bag_without_truth_has_none(tmp_path: Path) -> None:
    with Bag(bags.write_bag(tmp_path / "bag", bags.drive_rows(0.3))) as bag:
        truth = read_truth(bag)
    assert (truth.objects, truth.trajectory, truth.datum) == ({}, None, None)


# ------------------------------------------------------------------------- real bags


def data(name: str) -> Path:
    root = os.environ.get("MM_FUSION_DATA", "")
    if not root or not (Path(root) / name).exists():
        pytest.skip(f"MM_FUSION_DATA names no folder with {name}")
    return Path(root) / name


def test_real_bags_without_any_configuration(tmp_path: Path) -> None:
    with Bag(data("husky_test1")) as bag:
        husky = find_inputs(bag.topics, DEFAULT, "husky").config(DEFAULT).topics
    assert (husky.gps, husky.imu, husky.wheels) == (
        *("fix", "imu/data"),
        "husky_velocity_controller/odom",
    )
    copy = tmp_path / "kitti.mcap"
    shutil.copy(data("kitti_five_frames") / "kitti_five_frames.mcap", copy)
    with Bag(copy) as bag:
        kitti = find_inputs(bag.topics, DEFAULT, "kitti")
        order = list(in_stamp_order(read_samples(bag, kitti), DEFAULT))
    assert kitti.config(DEFAULT).topics.lidars == ("velodyne_points",)
    assert sum(isinstance(a.sample, LidarSweep) for a in order) == 5


def test_samples_of_several_lidars_come_in_the_order_of_their_instants(tmp_path: Path) -> None:
    # GIVEN two LIDARs, the second one recorded 50 ms after its stamps
    rows = [
        row
        for n in range(5)
        for row in (
            ("/top", START + n * S // 10, bags.cloud(START + n * S // 10)),
            ("/rear", START + n * S // 10 + S // 20, bags.cloud(START + n * S // 10 - S // 100)),
        )
    ]
    chosen = config.load(assignments=["topics.lidars=[top,rear]"])
    with Bag(bags.write_bag(tmp_path / "bag", rows)) as bag:
        found = find_inputs(bag.topics, chosen, "x")
        arrivals = list(in_stamp_order(read_samples(bag, found), chosen))
    assert [a.sensor for a in arrivals] == ["rear", "top"] * 5
    assert [a.sample.arrival_ns for a in arrivals] == [a.log_ns for a in arrivals]
