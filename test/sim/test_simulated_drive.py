"""The bag of a drive: order, repeatability, truth that fits, faults."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from mm_fusion.errors import BagError, ConfigError
from mm_fusion.evaluation.bags import typestore
from mm_fusion.geometry import FrameTree, RigidTransform
from mm_fusion.sim.bag import POINT_DTYPE
from mm_fusion.sim.drive import DATUM, Drive, simulate
from mm_fusion.sim.faults import SCENARIOS, FaultPlan

SECONDS = 1.3


def read(path: Path) -> list[tuple[str, int, bytes, Any]]:
    """Topic, log time, bytes and message of everything in a bag, in stored order."""
    store = typestore()
    with Reader(path) as reader:
        return [
            (c.topic, log_ns, bytes(raw), store.deserialize_cdr(raw, c.msgtype))
            for c, log_ns, raw in reader.messages()
        ]


def stamp(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[float]]:
    path = tmp_path_factory.mktemp("drive") / "bag"
    shares: list[float] = []
    answer = simulate(3, SECONDS, "town", path, shares.append)
    return path, answer, shares


@pytest.fixture(scope="module")
def messages(written: Any) -> list[tuple[str, int, bytes, Any]]:
    return read(written[0])


def of(messages: list[tuple[str, int, bytes, Any]], topic: str) -> list[Any]:
    return [m for t, _, _, m in messages if t == topic]


def test_rates_and_topics(written: Any) -> None:
    _, answer, shares = written
    expected = {
        "/camera/image_raw": 13,
        "/camera/camera_info": 13,
        "/lidar/points": 13,
        "/gps/fix": 7,
        "/imu/data": 130,
        "/wheel/odometry": 65,
        "/tf_static": 1,
        "/truth/datum": 1,
        "/truth/objects": 13,
        "/truth/odometry": 65,
    }
    assert answer["messages"] == expected
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_everything_is_received_after_it_was_measured_and_in_order(
    messages: list[tuple[str, int, bytes, Any]],
) -> None:
    logs = [log for _, log, _, _ in messages]
    assert logs == sorted(logs)
    camera = (16, 26)
    limits = {"/lidar/points": (4, 7), "/gps/fix": (50, 110), "/truth/objects": (4, 7)}
    limits |= {"/camera/image_raw": camera, "/camera/camera_info": camera}
    for topic, log_ns, _, message in messages:
        if topic == "/tf_static":
            continue
        late_ms = (log_ns - stamp(message)) / 1e6
        low, high = limits.get(topic, (0, 6))
        assert low - 1e-3 <= late_ms <= high + 1e-3, topic


def test_the_same_seed_gives_the_same_bytes(
    messages: list[tuple[str, int, bytes, Any]], tmp_path: Path
) -> None:
    simulate(3, SECONDS, "town", tmp_path / "again")
    again = read(tmp_path / "again")
    assert [m[:3] for m in again] == [m[:3] for m in messages]
    other = Drive(4, 1.0, "town")
    b = next(e for e in other.events() if e.rank == 1).make(None)[0][1]
    a = of(messages, "/imu/data")[0]
    assert a.angular_velocity.x != b.angular_velocity.x


def truth_pose(messages: list[tuple[str, int, bytes, Any]]) -> dict[int, RigidTransform]:
    poses = {}
    for m in of(messages, "/truth/odometry"):
        p, q = m.pose.pose.position, m.pose.pose.orientation
        poses[stamp(m)] = RigidTransform.from_quaternion((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
    return poses


def tree(messages: list[tuple[str, int, bytes, Any]]) -> FrameTree:
    frames = FrameTree()
    for t in of(messages, "/tf_static")[0].transforms:
        p, q = t.transform.translation, t.transform.rotation
        pose = RigidTransform.from_quaternion((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
        frames.set(t.header.frame_id, t.child_frame_id, pose)
    return frames


def test_points_by_tf_and_true_motion_lie_in_the_true_boxes(
    messages: list[tuple[str, int, bytes, Any]],
) -> None:
    """Only what the bag says: cloud, tf_static, truth/odometry and truth/objects."""
    poses = truth_pose(messages)
    base_from_lidar = tree(messages).lookup("base_link", "lidar")
    assert base_from_lidar is not None
    cloud, objects = of(messages, "/lidar/points")[6], of(messages, "/truth/objects")[6]
    assert stamp(cloud) == stamp(objects)
    assert cloud.point_step == POINT_DTYPE.itemsize
    points = np.frombuffer(cloud.data.tobytes(), POINT_DTYPE)
    assert points["time"].max() <= 0
    assert points["time"].min() > -0.1
    end, begin = poses[stamp(cloud)], poses[stamp(cloud) - 100_000_000]
    speed = (end.translation - begin.translation) / 0.1
    xyz = np.stack([points["x"], points["y"], points["z"]], 1).astype(float)
    in_base = base_from_lidar.apply(xyz)
    in_base += (points["time"][:, None] * speed) @ end.rotation  # a second or so straight on
    hits = []
    for d in objects.detections:
        c, size = d.bbox.center, d.bbox.size
        box = RigidTransform.from_quaternion(
            (c.position.x, c.position.y, c.position.z),
            (c.orientation.x, c.orientation.y, c.orientation.z, c.orientation.w),
        )
        local = np.abs(box.inverse().apply(in_base))
        inside = (local < np.array([size.x, size.y, size.z]) / 2 + 0.05).all(axis=1)
        hits.append((d.results[0].hypothesis.score, int(inside.sum())))
    visible = [n for score, n in hits if score == 1.0]
    assert len(visible) >= 3
    assert np.mean([n > 0 for n in visible]) > 0.7
    assert {score for score, _ in hits} <= {0.0, 1.0}


def test_fixes_are_where_the_antenna_is(messages: list[tuple[str, int, bytes, Any]]) -> None:
    """By the textbook formula of the ellipsoid, not by the library that wrote them."""
    poses = truth_pose(messages)
    antenna = tree(messages).lookup("base_link", "gps")
    assert antenna is not None
    stamps = np.array(sorted(poses))
    errors = []
    for fix in of(messages, "/gps/fix"):
        nearest = int(stamps[np.argmin(np.abs(stamps - stamp(fix)))])
        true = poses[nearest].apply(antenna.translation)
        errors.append(enu(fix.latitude, fix.longitude, fix.altitude) - true)
        assert fix.position_covariance[0] == pytest.approx(0.85**2 + 0.5**2)
    spread = np.sqrt(np.mean(np.square(errors), axis=0))
    assert (spread[:2] < 3.0).all()
    assert (spread > 0.05).all()


def enu(latitude: float, longitude: float, altitude: float) -> np.ndarray:
    """East, north, up about the datum through earth-centred coordinates."""

    def earth(lat: float, lon: float, alt: float) -> np.ndarray:
        a, e2 = 6378137.0, 6.69437999014e-3
        phi, lam = math.radians(lat), math.radians(lon)
        n = a / math.sqrt(1 - e2 * math.sin(phi) ** 2)
        return np.array(
            [
                (n + alt) * math.cos(phi) * math.cos(lam),
                (n + alt) * math.cos(phi) * math.sin(lam),
                (n * (1 - e2) + alt) * math.sin(phi),
            ]
        )

    phi, lam = math.radians(DATUM[0]), math.radians(DATUM[1])
    sp, cp, sl, cl = math.sin(phi), math.cos(phi), math.sin(lam), math.cos(lam)
    turn = np.array([[-sl, cl, 0], [-sp * cl, -sp * sl, cp], [cp * cl, cp * sl, sp]])
    return turn @ (earth(latitude, longitude, altitude) - earth(*DATUM))


def test_camera_info_fits_the_images(messages: list[tuple[str, int, bytes, Any]]) -> None:
    images, infos = of(messages, "/camera/image_raw"), of(messages, "/camera/camera_info")
    for image, info in zip(images, infos, strict=True):
        assert stamp(image) == stamp(info)
        assert (image.height, image.width) == (info.height, info.width) == (400, 640)
        assert image.encoding == "rgb8"
        assert image.step * image.height == len(image.data)
        assert info.distortion_model == "plumb_bob"
        assert abs(info.d[0]) > 0.05
    assert image.header.frame_id == "camera_optical"


# ------------------------------------------------------------------------------- faults


def stamps_by_rank(drive: Drive) -> dict[int, np.ndarray]:
    """Seconds at which events of each kind are received."""
    found: dict[int, list[float]] = {}
    for event in drive.events():
        found.setdefault(event.rank, []).append(event.log_ns / 1e9 - 1_700_000_000)
    return {rank: np.array(v) for rank, v in found.items()}


@pytest.mark.parametrize(
    ("scenario", "rank", "start", "end"),
    [("camera_loss", 5, 0.4, 0.7), ("gps_outage", 3, 0.5, 0.7), ("imu_loss", 1, 0.5, 0.6)],
)
def test_a_lost_sensor_is_silent_for_its_span_only(
    town_world: Any,
    scenario: str,
    rank: int,
    start: float,
    end: float,
) -> None:
    drive = small_drive(town_world, scenario)
    times = stamps_by_rank(drive)[rank]
    inside = (times > start * 8.0 + 0.15) & (times < end * 8.0)
    assert inside.sum() == 0
    assert (times < start * 8.0).sum() > 5
    assert (times > end * 8.0 + 0.15).sum() > 5


def small_drive(world: Any, scenario: str) -> Drive:
    """A drive of eight seconds through a world that exists already."""
    return Drive(1, 8.0, scenario, world)


def test_truth_goes_on_without_the_lidar(town_world: Any) -> None:
    drive = small_drive(town_world, "lidar_loss")
    silent = [e for e in drive.events() if e.rank == 6 and e.work is None]
    assert len(silent) == pytest.approx(24, abs=1)
    topics = [topic for topic, _ in silent[3].make(None)]
    assert topics == ["/truth/objects"]


def test_an_outage_says_that_there_is_no_fix(town_world: Any) -> None:
    drive = small_drive(town_world, "gps_outage")
    fixes = [e.make(None)[0][1] for e in drive.events() if e.rank == 3]
    lost = [f for f in fixes if f.status.status == -1]
    assert 4 <= len(lost) <= 8
    assert all(math.isnan(f.latitude) and f.position_covariance_type == 0 for f in lost)


def test_a_jump_moves_the_fixes_and_keeps_their_covariance(town_world: Any) -> None:
    clean = small_drive(town_world, "town")
    jumped = small_drive(town_world, "gps_jump")
    pairs = [
        (a.make(None)[0][1], b.make(None)[0][1])
        for a, b in zip(clean.events(), jumped.events(), strict=True)
        if a.rank == 3
    ]
    moved = np.array(
        [
            np.linalg.norm(
                enu(a.latitude, a.longitude, a.altitude) - enu(b.latitude, b.longitude, b.altitude)
            )
            for a, b in pairs
        ]
    )
    assert set(np.round(moved, 1)) == {0.0, round(math.sqrt(14**2 + 9**2 + 3**2), 1)}
    assert 3 <= (moved > 1).sum() <= 5
    covariances = [b.position_covariance for _, b in pairs]
    assert all(np.array_equal(c, covariances[0]) for c in covariances)


def test_scenarios_and_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scenario.*town.*got 'storm'"):
        FaultPlan("storm", 10.0)
    with pytest.raises(ConfigError, match="duration"):
        simulate(1, 0.2, "town", tmp_path / "x")
    with pytest.raises(ConfigError, match="seed"):
        simulate(-1, 5.0, "town", tmp_path / "x")
    assert {"town", "gps_outage", "camera_loss", "lidar_loss"} <= set(SCENARIOS)


def test_a_folder_that_is_no_bag_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(BagError, match="not a bag"):
        simulate(1, 1.0, "town", tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "keep me"
