"""The motion within a sweep is taken out of it, and only where it is known."""

from __future__ import annotations

import numpy as np
import pytest
import scenes
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from mm_fusion.config import DeskewConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.clouds import CloudPlacer, Mounted
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.twist import moved, twist_of
from mm_fusion.samples import Reason

T0 = scenes.T0
MS = 1_000_000


def twist_matrix(linear, angular):
    """The 4x4 generator of a screw motion, written out."""
    (vx, vy, vz), (wx, wy, wz) = linear, angular
    return np.array([[0, -wz, wy, vx], [wz, 0, -wx, vy], [-wy, wx, 0, vz], [0, 0, 0, 0]], float)


def rigid(matrix):
    return RigidTransform(matrix[:3, :3], matrix[:3, 3])


def screw(linear, angular, start=None):
    """``odom_from_base`` after t seconds of constant twist, by scipy's matrix exponential."""
    first = np.eye(4) if start is None else start.matrix()
    return lambda t: rigid(first @ expm(twist_matrix(linear, angular) * t))


def buffer_of(course, stamps_ms, linear=(0, 0, 0), angular=(0, 0, 0), max_age_s=0.5):
    motion = MotionBuffer(DeskewConfig(max_motion_age_s=max_age_s))
    for ms in stamps_ms:
        assert motion.add(scenes.pose(T0 + ms * MS, course(ms / 1e3), linear, angular)) is None
    return motion


def placed(sweep, base_from_lidar, motion, stamp_ns=T0):
    """One sweep in base axes at a stamp."""
    return CloudPlacer().place([Mounted(sweep, base_from_lidar, sweep.stamp_ns)], stamp_ns, motion)[
        0
    ]


@pytest.mark.parametrize("angle", [0.0, 1e-7, 9e-5, 1.1e-4, 0.3, 2.0, 3.1])
def test_exponential_and_logarithm_agree_with_scipys_matrix_exponential(angle):
    rng = np.random.default_rng(5)
    axis = rng.normal(size=(4, 3))
    angular = angle * axis / np.linalg.norm(axis, axis=1, keepdims=True)
    linear = rng.normal(size=(4, 3)) * 10.0
    for n in range(4):
        motion = np.array(moved(linear[n], angular[n])).reshape(3, 4)
        expected = expm(twist_matrix(linear[n], angular[n]))
        np.testing.assert_allclose(motion, expected[:3], atol=1e-11)
        np.testing.assert_allclose(
            np.array(moved(linear[n] / 0.4, angular[n] / 0.4, 0.4)).reshape(3, 4), motion, atol=1e-9
        )
        back_linear, back_angular = twist_of(motion[:, :3], motion[:, 3])
        np.testing.assert_allclose(back_angular, angular[n], atol=1e-9)
        np.testing.assert_allclose(back_linear, linear[n], atol=1e-8)


def test_the_logarithm_of_turns_about_every_axis():
    # GIVEN turns by nearly half a turn, where each axis in turn has the quaternion's largest part
    for axis in (*np.eye(3), *-np.eye(3), [0.6, 0.8, 0.0], [-0.36, 0.48, 0.8]):
        for angle in (0.0, 1e-9, 3.14159, 3.0):
            angular = angle * np.array(axis)
            rotation = Rotation.from_rotvec(angular).as_matrix()
            _, back = twist_of(rotation, np.zeros(3))
            np.testing.assert_allclose(back, angular, atol=1e-9)


def test_a_quarter_turn_by_hand():
    # GIVEN a base that drives a quarter of a circle of 10 m radius to the left in one second
    speed = 10.0 * np.pi / 2.0
    course = screw((speed, 0, 0), (0, 0, np.pi / 2.0))
    motion = buffer_of(course, [-1000, 0], max_age_s=0.6)
    # THEN from a second before to now it went 10 m ahead and 10 m left, and turned by 90 degrees
    moved = motion.base_from_base(T0 - 1000 * MS, T0)
    np.testing.assert_allclose(moved.translation, [10, 10, 0], atol=1e-9)
    np.testing.assert_allclose(moved.apply(np.array([1.0, 0, 0])), [10, 11, 0], atol=1e-9)
    # and half-way, seen from the start, it was on the circle at 45 degrees
    half = motion.base_from_base(T0 - 1000 * MS, T0 - 500 * MS)
    expected = [10 * np.sin(np.pi / 4), 10 * (1 - np.cos(np.pi / 4)), 0]
    np.testing.assert_allclose(half.translation, expected, atol=1e-9)


@pytest.mark.parametrize("period_ms", [10, 20, 100])
@pytest.mark.parametrize(
    ("linear", "angular"),
    [
        ((15.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((5.0, 0.3, 0.1), (0.1, -0.2, 1.5)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, -2.0)),
        ((-2.0, 0.0, 0.0), (0.0, 0.0, 0.4)),
    ],
)
def test_points_of_a_standing_world_come_out_where_they_stand(period_ms, linear, angular):
    # GIVEN a world of standing points, each seen at its own instant of a sweep
    start = RigidTransform.from_rpy((300.0, -80.0, 4.0), (0.02, -0.03, 2.5))
    course = screw(linear, angular, start)
    rng = np.random.default_rng(3)
    seconds = np.sort(rng.uniform(-0.1, 0.0, 400)).astype(np.float32)
    at_stamp = np.concatenate([rng.uniform(-40, 40, (400, 2)), rng.uniform(-1, 3, (400, 1))], 1)
    base_from_lidar = RigidTransform.from_rpy((1.0, 0.1, 1.7), (0.01, 0.05, -0.3))
    world = course(0.0).apply(at_stamp)
    seen = [
        base_from_lidar.inverse().apply(course(float(t)).inverse().apply(p))
        for t, p in zip(seconds, world, strict=True)
    ]
    # WHEN the sweep is placed with the poses of an odometry
    motion = buffer_of(course, range(-300, 1, period_ms), linear, angular)
    cloud = placed(scenes.sweep(seen, seconds=seconds), base_from_lidar, motion)
    # THEN every point is where it stands, to float32 and under a millimetre
    assert cloud.deskewed
    assert np.linalg.norm(cloud.xyz.T - at_stamp, axis=1).max() < 1e-3
    # and without the motion it is not
    raw = placed(scenes.sweep(seen, seconds=seconds), base_from_lidar, None)
    assert not raw.deskewed
    assert np.linalg.norm(raw.xyz.T - at_stamp, axis=1).max() > 0.1


def test_points_after_the_stamp_are_moved_back():
    course = screw((10.0, 0, 0), (0, 0, 0))
    motion = buffer_of(course, range(-100, 201, 10), (10.0, 0, 0))
    seconds = [0.0, 0.05, 0.1]
    cloud = placed(
        scenes.sweep([[5, 0, 0]] * 3, seconds=seconds), RigidTransform.identity(), motion
    )
    # at t seconds the base was 10 t further on
    np.testing.assert_allclose(cloud.xyz[0], [5.0, 5.5, 6.0], atol=1e-5)


def test_a_motion_that_changes_within_the_sweep_is_followed():
    # GIVEN a base that stands and then, in the middle of the sweep, drives at 5 m/s
    def course(t):
        return RigidTransform.from_rpy((5.0 * max(t + 0.05, 0.0), 0, 0), (0, 0, 0))

    motion = buffer_of(course, range(-200, 1, 10))
    seconds = np.linspace(-0.1, 0.0, 101).astype(np.float32)
    seen = np.array([[20.0 - 5.0 * max(t + 0.05, 0.0), 0, 0] for t in seconds])
    cloud = placed(scenes.sweep(seen, seconds=seconds), RigidTransform.identity(), motion)
    # THEN the smooth fit stays within 3 cm of the truth; uncorrected it is 25 cm
    truth = 20.0 - 0.25
    assert np.abs(cloud.xyz[0] - truth).max() < 0.03
    assert np.abs(seen[:, 0] - truth).max() == pytest.approx(0.25, abs=1e-6)


def test_a_filters_corrections_of_its_pose_do_not_bend_the_sweep():
    # GIVEN a base that drives straight at 10 m/s, whose filter corrects its pose within the sweep
    motion = MotionBuffer(DeskewConfig())
    for ms in range(-200, 1, 10):
        jump = (0.0, 0.3, 0.1) if ms > -50 else (0.0, 0.0, 0.0)
        where = RigidTransform.from_rpy((0.01 * ms, 2.0 * jump[1], 0), jump)
        motion.add(scenes.pose(T0 + ms * MS, where, (10.0, 0, 0)))
    cloud = placed(
        scenes.sweep([[50.0, 0, 0]] * 3, seconds=[-0.1, -0.05, 0.0]),
        RigidTransform.identity(),
        motion,
    )
    # THEN the sweep is moved by the velocity alone
    np.testing.assert_allclose(cloud.xyz, [[49, 49.5, 50], [0] * 3, [0] * 3], atol=1e-4)
    # and the pose in odom is the corrected one
    np.testing.assert_allclose(motion.odom_from_base(T0).translation, [0, 0.6, 0], atol=1e-9)


def test_an_odometry_without_velocities_tells_them_by_its_poses():
    course = screw((6.0, 0, 0), (0, 0, 0.5))
    motion = buffer_of(course, range(-500, 1, 100))
    # between the poses
    between = motion.base_from_base(T0, T0 - 30 * MS)
    np.testing.assert_allclose(between.matrix(), course(-0.03).matrix(), atol=1e-9)
    # and after the last
    after = motion.base_from_base(T0, T0 + 60 * MS)
    np.testing.assert_allclose(after.matrix(), course(0.06).matrix(), atol=1e-9)


def test_after_the_newest_pose_its_own_velocity_goes_on_for_a_limited_time():
    motion = buffer_of(screw((4, 0, 0), (0, 0, 1)), [0], (4, 0, 0), (0, 0, 1), max_age_s=0.2)
    ahead = motion.base_from_base(T0, T0 + 150 * MS)
    expected = expm(twist_matrix((4, 0, 0), (0, 0, 1)) * 0.15)
    np.testing.assert_allclose(ahead.matrix(), expected, atol=1e-9)
    assert motion.base_from_base(T0, T0 + 201 * MS) is None
    assert motion.odom_from_base(T0 - 201 * MS) is None


def test_a_gap_is_not_bridged():
    motion = buffer_of(screw((1, 0, 0), (0, 0, 0)), [-2000, 0], max_age_s=0.5)
    assert motion.odom_from_base(T0 - 1000 * MS) is None
    assert motion.odom_from_base(T0 - 400 * MS) is not None
    assert motion.polynomial(T0, -0.1, 0.0) is not None
    assert motion.polynomial(T0, -0.8, 0.0) is None


def test_without_any_pose_nothing_is_known():
    motion = MotionBuffer(DeskewConfig())
    assert motion.odom_from_base(T0) is None
    assert motion.polynomial(T0, -0.1, 0.0) is None


def test_old_poses_are_refused_and_a_loop_of_the_bag_begins_anew():
    motion = buffer_of(screw((1, 0, 0), (0, 0, 0)), [0, 10])
    again = motion.add(scenes.pose(T0 + 10 * MS, RigidTransform.identity()))
    assert again.reason is Reason.DUPLICATE
    late = motion.add(scenes.pose(T0 + 5 * MS, RigidTransform.identity()))
    assert late.reason is Reason.OUT_OF_ORDER
    jump = motion.add(scenes.pose(T0 - 5000 * MS, RigidTransform.identity()))
    assert jump.reason is Reason.TIME_JUMP
    assert motion.odom_from_base(T0) is None
    assert motion.odom_from_base(T0 - 5000 * MS) is not None


def test_poses_in_another_frame_are_not_mixed():
    motion = buffer_of(screw((1, 0, 0), (0, 0, 0)), [0])
    far = RigidTransform.from_rpy((1000.0, 0, 0), (0, 0, 0))
    assert motion.add(scenes.pose(T0 + 10 * MS, far, frame_id="odom2")) is None
    np.testing.assert_allclose(motion.odom_from_base(T0 + 5 * MS).translation, [1000, 0, 0])


def test_poses_are_forgotten_after_a_while():
    motion = buffer_of(screw((1, 0, 0), (0, 0, 0)), range(0, 10_000, 100))
    assert motion.odom_from_base(T0 + 5000 * MS) is None
    assert len(motion._course.known) <= 31


def test_points_without_a_usable_time_are_left_out_and_do_not_spoil_the_others():
    course = screw((10.0, 0, 0), (0, 0, 0))
    motion = buffer_of(course, range(-200, 1, 10), (10.0, 0, 0))
    seconds = [np.nan, -0.1, 0.0, 40.0, np.inf]
    cloud = placed(
        scenes.sweep([[5, 0, 0]] * 5, seconds=seconds), RigidTransform.identity(), motion
    )
    np.testing.assert_allclose(cloud.xyz[0][1:3], [4.0, 5.0], atol=1e-5)
    assert np.isnan(cloud.xyz[0][[0, 3, 4]]).all()
