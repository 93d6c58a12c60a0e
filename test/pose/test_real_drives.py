"""Real drives: a Husky round a car park, and a KITTI car with IMU and GPS alone."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.pose_drives import Run

from mm_fusion.config import load
from mm_fusion.geodesy import LocalTangentPlane
from mm_fusion.geometry import FrameTree, RigidTransform
from mm_fusion.pose.pipeline import PosePipeline
from mm_fusion.samples import CovarianceType, GnssFix, ImuSample, Sample, WheelOdometry

# +90 deg about x, then -90 deg about the fixed z: the IMU lies on its side.
IMU_ON_ITS_SIDE = RigidTransform.from_rpy((0.0, -0.3, 0.52), (np.pi / 2, 0.0, -np.pi / 2))


def stamp(header) -> int:
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def vector(v) -> np.ndarray:
    return np.array([v.x, v.y, v.z])


def to_sample(topic: str, m) -> Sample:
    """A bag's message as a sample, independently of the package's own decoding."""
    if topic == "/imu/data":
        q = m.orientation
        return ImuSample(
            "imu",
            stamp(m.header),
            m.header.frame_id,
            vector(m.angular_velocity),
            vector(m.linear_acceleration),
            np.array([q.x, q.y, q.z, q.w]),
            m.angular_velocity_covariance.reshape(3, 3),
            m.linear_acceleration_covariance.reshape(3, 3),
        )
    if topic == "/fix":
        return GnssFix(
            "gps",
            stamp(m.header),
            m.header.frame_id,
            m.latitude,
            m.longitude,
            m.altitude,
            m.position_covariance.reshape(3, 3),
            CovarianceType(m.position_covariance_type),
            m.status.status,
        )
    return WheelOdometry(
        "wheels",
        stamp(m.header),
        m.child_frame_id,
        vector(m.twist.twist.linear),
        vector(m.twist.twist.angular),
        m.twist.covariance.reshape(6, 6),
    )


@pytest.fixture(scope="module")
def husky() -> list[Sample]:
    """Every message of the bag, in the order it was recorded."""
    root = os.environ.get("MM_FUSION_DATA")
    if not root or not (Path(root) / "husky_test1").is_dir():
        pytest.skip("MM_FUSION_DATA does not name a folder with husky_test1")
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    with AnyReader(
        [Path(root) / "husky_test1"], default_typestore=get_typestore(Stores.ROS2_JAZZY)
    ) as reader:
        return [
            to_sample(c.topic, reader.deserialize(raw, c.msgtype))
            for c, _, raw in reader.messages()
        ]


def run(samples: list[Sample], *assignments: str, mounted: bool = True) -> Run:
    tree = FrameTree()
    if mounted:
        tree.set("base_link", "imu_link", IMU_ON_ITS_SIDE)
    return Run(PosePipeline(load(assignments=assignments), tree)).feed(samples)


def apart(out: Run, samples: list[Sample]) -> np.ndarray:
    """Horizontal distance [m] of the global track from every fix."""
    plane = LocalTangentPlane(*out.pipeline.datum)
    fixes = [s for s in samples if isinstance(s, GnssFix)]
    t = np.array([e.stamp_ns for e in out.global_], dtype=np.float64)
    p = np.array([e.frame_from_base.translation for e in out.global_])
    at = np.array([f.stamp_ns for f in fixes], dtype=np.float64)
    enu = np.array([plane.to_enu(f.latitude_deg, f.longitude_deg, f.altitude_m) for f in fixes])
    mine = np.stack([np.interp(at, t, p[:, k]) for k in (0, 1)], axis=1)
    return np.linalg.norm(mine - enu[:, :2], axis=1)[at >= t[0]]


@pytest.mark.parametrize("mounted", [True, False])
def test_husky_with_gps_the_track_agrees_with_the_fixes(husky, mounted) -> None:
    """GIVEN 359 m round a car park with fixes that wander by metres (their height by 40 m)
    WHEN all sensors are fused, the IMU's mounting given or levelled by gravity
    THEN the track stays with the fixes and none is locked out."""
    out = run(husky, mounted=mounted)
    distance = apart(out, husky)
    assert np.sqrt((distance**2).mean()) < 2.5
    assert distance.max() < 8.0
    refused = Counter(out.reasons())
    assert refused[("gps", "outlier")] < 20
    assert refused[("wheels", "outlier")] < 20
    levelled = any("taken from gravity" in w for w in out.pipeline.warnings())
    assert levelled != mounted


def test_husky_odometry_with_the_gyro_closes_the_loop(husky) -> None:
    """GIVEN no GPS WHEN gyro and wheels carry the pose THEN it ends about as far from its start
    as GPS says (13.4 m), within 2 % of the way."""
    out = run([s for s in husky if not isinstance(s, GnssFix)])
    end = out.local[-1].frame_from_base.translation
    assert abs(np.hypot(end[0], end[1]) - 13.4) < 0.02 * 359.0


def test_husky_odometry_with_the_imus_compass_ends_where_robot_localization_does(husky) -> None:
    """GIVEN no GPS WHEN the heading is the IMU's own orientation, as in robot_localization's test
    of this bag THEN the end is that test's (-40.0454, -76.9988) within its tolerance of 1.0452."""
    out = run([s for s in husky if not isinstance(s, GnssFix)], "pose.imu_orientation=local")
    end = out.local[-1].frame_from_base.translation
    assert np.hypot(end[0] + 40.0454, end[1] + 76.9988) < 1.0452


def test_husky_odom_makes_no_step_larger_than_the_wheels_explain(husky) -> None:
    out = run(husky)
    place = np.array([e.frame_from_base.translation[:2] for e in out.local])
    seconds = np.array([e.stamp_ns for e in out.local]) / 1e9
    speed = np.linalg.norm(np.diff(place, axis=0), axis=1) / np.diff(seconds)
    assert speed.max() < 1.35  # the wheels' fastest is 1.02 m/s


@pytest.fixture(scope="module")
def kitti() -> tuple[list[Sample], list[GnssFix]]:
    """The drive as samples; every tenth fix is kept back."""
    gtsam = pytest.importorskip("gtsam", reason="gtsam's wheel carries the KITTI logs")
    folder = Path(gtsam.__file__).parent / "Data"
    imu = np.loadtxt(folder / "KittiEquivBiasedImu.txt", skiprows=1)
    gps = np.loadtxt(folder / "KittiGps_converted.txt", skiprows=1, delimiter=",")
    plane = LocalTangentPlane(49.0, 8.4, 100.0)
    samples: list[Sample] = [
        ImuSample("imu", round(r[0] * 1e9), "imu_link", r[5:8], r[2:5]) for r in imu[1:]
    ]
    held = []
    for index, (seconds, *enu) in enumerate(gps):
        fix = GnssFix(
            "gps",
            round(seconds * 1e9),
            "gps",
            *plane.to_geodetic(enu),
            np.eye(3) * 0.07**2,
            CovarianceType.DIAGONAL_KNOWN,
        )
        if index > 10 and index % 10 == 5:
            held.append(fix)
        else:
            samples.append(fix)
    return sorted(samples, key=lambda s: s.stamp_ns), held


def test_kitti_imu_and_gps_alone(kitti) -> None:
    """GIVEN 3.7 km of town with IMU at 100 Hz and fixes at 1 Hz, and no wheels; in some turns gyro
    and accelerometer disagree about the tilt, and the speed runs away WHEN fused THEN the track
    passes the fixes that were kept back, half of them within 0.25 m, and once fixes were believed
    against the filter its tilt is put right too: none is missed by more than 1.5 m."""
    samples, held = kitti
    tree = FrameTree()
    for frame in ("imu_link", "gps"):
        tree.set("base_link", frame, RigidTransform.identity())
    config = load(assignments=["pose.datum=[49.0, 8.4, 100.0]"])
    out = Run(PosePipeline(config, tree)).feed(samples)
    distance = apart(out, list(held))
    assert np.median(distance) < 0.25
    assert distance.max() < 1.5
    refused = Counter(out.reasons())
    assert refused[("gps", "outlier")] < 45
    assert any("driving forwards assumed" in w for w in out.pipeline.warnings())


def test_kitti_without_the_constraint_comes_back_from_where_accelerations_lead(kitti) -> None:
    """GIVEN the same logs and a base that may move sideways, so that nothing but an accelerometer
    ties the speed to the heading WHEN it runs away from the fixes THEN fixes that one vehicle could
    have made are believed within seconds, with the speed they tell, and the heading is doubted."""
    samples, held = kitti
    tree = FrameTree()
    for frame in ("imu_link", "gps"):
        tree.set("base_link", frame, RigidTransform.identity())
    config = load(assignments=["pose.datum=[49.0, 8.4, 100.0]", "pose.nonholonomic=false"])
    distance = apart(Run(PosePipeline(config, tree)).feed(samples), list(held))
    assert np.median(distance) < 0.25
    assert np.sqrt((distance**2).mean()) < 2.0
    assert distance.max() < 10.0


def test_kitti_beside_gtsams_own_smoother(kitti) -> None:
    """GIVEN the same logs and the same fixes kept back WHEN gtsam smooths them by the method of its
    example, knowing also what comes after, and we filter them online THEN our distances to the
    fixes kept back are within 1.5 times the smoother's, RMS and median."""
    gtsam = pytest.importorskip("gtsam", reason="gtsam is the peer")
    from support.gtsam_peer import smoothed

    folder = Path(gtsam.__file__).parent / "Data"
    imu = np.loadtxt(folder / "KittiEquivBiasedImu.txt", skiprows=1)
    gps = np.loadtxt(folder / "KittiGps_converted.txt", skiprows=1, delimiter=",")
    kept_back = [i for i in range(len(gps)) if i > 10 and i % 10 == 5]
    peer = np.linalg.norm((smoothed(imu, gps, kept_back) - gps[:, 1:])[:, :2], axis=1)[kept_back]
    assert np.sqrt((peer**2).mean()) < 0.5, "the peer must be a good one"
    samples, held = kitti
    tree = FrameTree()
    for frame in ("imu_link", "gps"):
        tree.set("base_link", frame, RigidTransform.identity())
    config = load(assignments=["pose.datum=[49.0, 8.4, 100.0]"])
    ours = apart(Run(PosePipeline(config, tree)).feed(samples), list(held))
    assert np.median(ours) < 1.5 * np.median(peer)
    assert np.sqrt((ours**2).mean()) < 1.5 * np.sqrt((peer**2).mean())
