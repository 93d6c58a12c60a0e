"""LIDAR odometry on the pose road, told as drives through a street, a tunnel and a field."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.pose_drives import T0_NS, Drive, Run, Sensors, configure, frames, merge

from mm_fusion.bench import lidar_scenes as scenes
from mm_fusion.config import PoseConfig
from mm_fusion.errors import ConfigError
from mm_fusion.pose import lidar_odometry
from mm_fusion.pose.lidar_odometry import SweepMotion
from mm_fusion.pose.pipeline import PosePipeline
from mm_fusion.samples import GnssFix, ImuSample, LidarSweep, Reason, Sample, WheelOdometry

pytest.importorskip("small_gicp", reason="the registration library is not installed")

SMALL = scenes.Lidar("16", 600)
ON = "pose.lidar_odometry=true"


def run(
    sensors: Sensors, samples: list[Sample], *assignments: str
) -> tuple[Run, list[SweepMotion]]:
    """The samples through a new pipeline, and what registration said on the way."""
    tree = frames(sensors)
    tree.set("base_link", "lidar", scenes.BASE_FROM_LIDAR)
    out = Run(PosePipeline(configure(*assignments), tree))
    motions: list[SweepMotion] = []
    add_motion = out.pipeline.add_motion

    def listening(outcome):  # type: ignore[no-untyped-def]
        if isinstance(outcome, SweepMotion) and outcome.from_ns:
            motions.append(outcome)
        return add_motion(outcome)

    out.pipeline.add_motion = listening  # type: ignore[method-assign]
    return out.feed(samples), motions


def until(samples: list[Sample], second: float) -> list[Sample]:
    return [s for s in samples if s.stamp_ns < T0_NS + second * 1e9]


def error_at_end_m(run_: Run, drive: Drive) -> float:
    last = run_.global_[-1]
    east, north, *_ = drive.at(last.stamp_ns)
    return float(np.linalg.norm(last.frame_from_base.translation[:2] - (east, north)))


@pytest.fixture(scope="module")
def street() -> tuple[Drive, Sensors, list[Sample], list[LidarSweep]]:
    """45 s through a street at 10 m/s; GPS ends at 15 s."""
    drive = Drive(duration_s=45.0, speed=10.0, heading=0.5, turn=0.6)
    biases = (0.004, -0.003, 0.008)
    sensors = Sensors(seed=3, gyro_bias=biases, wheel_scale=0.015, gps_sigma=0.3)
    sweeps = scenes.sweeps(scenes.street(drive, 1), drive, SMALL, 1, 1.0, drive.duration_s)
    gps = until(sensors.gps(drive), 15.0)
    return drive, sensors, merge(sensors.imu(drive), sensors.wheels(drive), gps), sweeps


@pytest.fixture(scope="module")
def with_lidar(street):  # type: ignore[no-untyped-def]
    _, sensors, samples, sweeps = street
    return run(sensors, merge(samples, sweeps), ON)


def test_sweeps_carry_a_drive_without_gps(street, with_lidar) -> None:  # type: ignore[no-untyped-def]
    """GIVEN a street, wheels, IMU and sweeps WHEN GPS ends THEN the error after 300 m is below half
    a percent of the way, and within what the covariance says."""
    drive = street[0]
    found, _ = with_lidar
    assert error_at_end_m(found, drive) < 0.005 * 300.0
    last = found.global_[-1]
    off = last.frame_from_base.translation[:2] - drive.at(last.stamp_ns)[:2]
    assert off @ np.linalg.solve(last.pose_covariance[:2, :2], off) < 13.8


def test_sweeps_carry_wheels_of_unequal_size(street) -> None:  # type: ignore[no-untyped-def]
    """GIVEN no IMU and wheels that turn by 0.3 degrees a second too much WHEN GPS ends THEN sweeps
    leave less than a third of the error that the wheels alone come to."""
    drive, sensors, samples, sweeps = street
    more = np.array([0.0, 0.0, 0.005])
    wheels = [
        dataclasses.replace(s, angular=s.angular + more * (s.linear[0] != 0.0))
        if isinstance(s, WheelOdometry)
        else s
        for s in until(samples, 35.0)
        if not isinstance(s, ImuSample)
    ]
    alone, _ = run(sensors, wheels)
    found, _ = run(sensors, merge(wheels, until(sweeps, 35.0)), ON)
    assert error_at_end_m(found, drive) < error_at_end_m(alone, drive) / 3.0


def test_the_local_estimate_gains_as_well(street, with_lidar) -> None:  # type: ignore[no-untyped-def]
    """GIVEN wheels 1.5 % off WHEN sweeps are registered THEN odom's way is right within 0.4 %,
    without GPS having told it anything, and no step of odom is longer than the speed explains."""
    drive, _, _, _ = street
    found, _ = with_lidar
    places = np.array([e.frame_from_base.translation for e in found.local])
    stamps = np.array([e.stamp_ns for e in found.local])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    true = np.array([drive.at(int(s))[:2] for s in stamps])
    true_way = np.linalg.norm(np.diff(true, axis=0), axis=1).sum()
    assert steps.sum() == pytest.approx(true_way, rel=0.004)
    assert steps.max() < 10.0 * 0.01 + 0.01


def test_the_covariance_of_a_sweep_s_motion_is_honest(street, with_lidar) -> None:  # type: ignore[no-untyped-def]
    """GIVEN motions of sweeps in the street THEN their errors are of the size they claim."""
    drive = street[0]
    found, motions = with_lidar
    nees = []
    for m in motions:
        true = scenes.motion_between(drive, m.from_ns, m.to_ns)
        turned = Rotation.from_matrix(true.rotation.T @ m.motion.rotation).as_rotvec()
        off = m.directions @ np.concatenate([m.motion.translation - true.translation, turned])
        nees.append(float(off @ np.linalg.solve(m.variance, off)) / len(off))
    assert len(motions) > 400
    assert 0.1 < np.mean(nees) < 1.5
    counts = found.pipeline.sweep_counts()
    assert counts["refused"] == 0
    assert counts["degenerate"] == 0


def test_the_same_samples_give_the_same_poses(street) -> None:  # type: ignore[no-untyped-def]
    """GIVEN one recording WHEN it is run twice THEN the poses are the same to the last bit."""
    _, sensors, samples, sweeps = street
    part = until(merge(samples, sweeps), 9.0)
    first, second = (run(sensors, part, ON)[0] for _ in range(2))
    for a, b in zip(first.local, second.local, strict=True):
        assert a.frame_from_base.matrix().tobytes() == b.frame_from_base.matrix().tobytes()


def straight(kind: str) -> tuple[Sensors, list[Sample]]:
    drive = Drive(duration_s=9.0, speed=10.0, heading=0.5, turn=0.0)
    sensors = Sensors(seed=3)
    scene = scenes.tunnel(drive) if kind == "tunnel" else scenes.field()
    sweeps = scenes.sweeps(scene, drive, SMALL, 1, 1.0, drive.duration_s)
    samples = merge(sensors.imu(drive), sensors.wheels(drive), sensors.gps(drive), sweeps)
    return sensors, samples


@pytest.mark.parametrize(
    ("kind", "untold"), [("tunnel", {"forward"}), ("field", {"forward", "sideways", "yaw"})]
)
def test_what_the_surroundings_do_not_tell_has_no_weight(kind: str, untold: set[str]) -> None:
    """GIVEN a tunnel, or an open field WHEN sweeps lock onto their own rings THEN the directions
    nothing tells are named and counted, and the speed stays the wheels'; WHEN degeneracy is not
    looked for THEN the rings' standstill contradicts the wheels sweep after sweep."""
    sensors, samples = straight(kind)
    found, motions = run(sensors, samples, ON)
    assert len(motions) > 50
    share = np.mean([set(m.untold) == untold for m in motions])
    assert share > 0.9
    assert all(len(m.directions) == 6 - len(untold) for m in motions if set(m.untold) == untold)
    counts = found.pipeline.sweep_counts()
    assert counts["untold.forward"] > 0.9 * len(motions)
    assert any("forward" in w for w in found.pipeline.warnings())
    assert found.local[-1].linear[0] == pytest.approx(10.0 * 1.01, abs=0.15)
    assert rejected(found, Reason.OUTLIER) < 0.3 * len(motions)
    fooled, _ = run(sensors, samples, ON, "pose.lidar_degenerate=0.0")
    assert rejected(fooled, Reason.OUTLIER) > 0.8 * len(motions)


def rejected(run_: Run, reason: Reason) -> int:
    return sum(r.sensor == "lidar" and r.reason is reason for r in run_.rejections)


def test_lost_late_and_disordered_sweeps(street) -> None:  # type: ignore[no-untyped-def]
    """GIVEN sweeps of which some are lost, late, repeated or out of order THEN each that cannot be
    used is answered with its reason, and the motion over the gap is still measured."""
    drive, sensors, samples, sweeps = street
    good = until(sweeps, 8.0)
    lost, rest = good[40:44], good[:40] + good[44:]
    tampered = merge(until(samples, 8.0), rest)
    at = tampered.index(rest[50])
    tampered[at + 1 : at + 1] = [rest[50], rest[48]]
    late = dataclasses.replace(rest[30], sensor="lidar", stamp_ns=rest[-1].stamp_ns - 700_000_000)
    tampered.append(dataclasses.replace(late, sensor="second"))
    found, motions = run(sensors, tampered, ON)
    reasons = [r.reason for r in found.rejections if r.sensor in ("lidar", "second")]
    assert reasons == [Reason.DUPLICATE, Reason.OUT_OF_ORDER, Reason.LATE]
    gap = [m for m in motions if m.to_ns - m.from_ns > 300_000_000]
    assert len(lost) == 4
    assert len(gap) == 1
    true = scenes.motion_between(drive, gap[0].from_ns, gap[0].to_ns)
    assert gap[0].motion.translation == pytest.approx(true.translation, abs=0.03)


def test_sweeps_before_a_pose_and_without_a_mounting(street) -> None:  # type: ignore[no-untyped-def]
    """GIVEN no IMU and no wheels THEN a sweep has nothing to be deskewed with; GIVEN no transform
    THEN that is the reason."""
    _, sensors, samples, sweeps = street
    found, _ = run(sensors, list(sweeps[:2]), ON)
    assert [r.reason for r in found.rejections] == [Reason.NOT_INITIALIZED] * 2
    unmounted = [dataclasses.replace(s, frame_id="nowhere") for s in until(sweeps, 4.0)]
    found, motions = run(sensors, merge(until(samples, 4.0), unmounted), ON)
    assert not motions
    reasons = {r.reason for r in found.rejections if r.sensor == "lidar"}
    assert reasons == {Reason.NO_EXTRINSICS}


def test_wheels_that_spin_are_seen_through(street) -> None:  # type: ignore[no-untyped-def]
    """GIVEN registered sweeps WHEN the wheels spin half as fast again for four seconds THEN they
    are refused as long as that lasts; without sweeps they are believed after one."""
    drive, sensors, samples, sweeps = street
    spun = [
        dataclasses.replace(s, linear=s.linear * 1.5)
        if s.sensor == "wheels" and 8.0 < (s.stamp_ns - T0_NS) / 1e9 < 12.0
        else s
        for s in samples
        if not isinstance(s, GnssFix) or s.stamp_ns < T0_NS + 7.5e9
    ]
    part = until(merge(spun, sweeps), 13.0)
    found, _ = run(sensors, part, ON)
    fooled, _ = run(sensors, until(spun, 13.0))
    # What they drove between 8 and 12 s: 40 m, of which 20 are not true.
    assert way_m(found) == pytest.approx(way_of(drive, 13.0), abs=1.0)
    assert abs(way_m(fooled) - way_of(drive, 13.0)) > 5.0


def way_m(run_: Run) -> float:
    places = np.array([e.frame_from_base.translation[:2] for e in run_.local])
    return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())


def way_of(drive: Drive, second: float) -> float:
    return float(np.abs(drive.v[: round(second * 1000)]).sum() * 1e-3)


def test_without_the_library_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """GIVEN a machine without small_gicp WHEN LIDAR odometry is asked for THEN it says so; WHEN it
    is not THEN nobody misses it."""

    def missing(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(lidar_odometry.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match="pip install small_gicp"):
        lidar_odometry.LidarOdometry(PoseConfig())
    PosePipeline(configure(), frames(Sensors()))
    with pytest.raises(ConfigError, match=r"pose\.lidar_odometry"):
        PosePipeline(configure(ON), frames(Sensors()))
    assert importlib is lidar_odometry.importlib
