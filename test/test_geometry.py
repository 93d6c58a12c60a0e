"""Transforms, frames and projection against scipy, OpenCV and hand-computed values."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mm_fusion.errors import CalibrationError
from mm_fusion.geometry import (
    FrameTree,
    RigidTransform,
    areas,
    box_corners,
    overlaps,
    project,
    shared_areas,
    skew,
    wrap_angle_rad,
)

RNG_SEED = 3


def random_transform(rng: np.random.Generator) -> RigidTransform:
    return RigidTransform(Rotation.random(rng=rng).as_matrix(), rng.normal(0, 5, 3))


def homogeneous(t: RigidTransform) -> Any:
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = t.rotation, t.translation
    return m


# ------------------------------------------------------------------------------ transforms


def test_composition_inverse_and_application_are_those_of_matrices() -> None:
    rng = np.random.default_rng(RNG_SEED)
    a, b = random_transform(rng), random_transform(rng)
    points = rng.normal(0, 10, (4, 5, 3))
    ones = np.concatenate([points, np.ones((4, 5, 1))], axis=-1)
    both = homogeneous(a) @ homogeneous(b)
    np.testing.assert_allclose((a @ b).matrix(), both, atol=1e-12)
    np.testing.assert_allclose(a.inverse().matrix(), np.linalg.inv(homogeneous(a)), atol=1e-12)
    np.testing.assert_allclose((a @ b).apply(points), (ones @ both.T)[..., :3], atol=1e-12)


def test_roll_pitch_yaw_turn_about_fixed_axes_in_this_order() -> None:
    roll, pitch, yaw = 0.3, -0.4, 1.1
    x = np.array(
        [[1, 0, 0], [0, math.cos(roll), -math.sin(roll)], [0, math.sin(roll), math.cos(roll)]]
    )
    y = np.array(
        [[math.cos(pitch), 0, math.sin(pitch)], [0, 1, 0], [-math.sin(pitch), 0, math.cos(pitch)]]
    )
    z = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    found = RigidTransform.from_rpy([1, 2, 3], [roll, pitch, yaw])
    np.testing.assert_allclose(found.rotation, z @ y @ x, atol=1e-12)
    assert found.translation.tolist() == [1.0, 2.0, 3.0]
    assert found.yaw_rad() == pytest.approx(yaw)


def test_a_left_turn_turns_forward_into_left() -> None:
    quarter = RigidTransform.from_quaternion([0, 0, 0], [0, 0, math.sqrt(0.5), math.sqrt(0.5)])
    np.testing.assert_allclose(quarter.apply(np.array([1.0, 0.0, 0.0])), [0, 1, 0], atol=1e-12)
    assert quarter.yaw_rad() == pytest.approx(math.pi / 2)


def test_quaternions_there_and_back() -> None:
    rng = np.random.default_rng(RNG_SEED)
    for _ in range(20):
        xyzw = Rotation.random(rng=rng).as_quat()
        found = RigidTransform.from_quaternion([0, 0, 0], xyzw * 1.005).quaternion_xyzw()
        np.testing.assert_allclose(abs(found @ xyzw), 1.0, atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(found), 1.0, atol=1e-12)


def test_identity_changes_nothing() -> None:
    points = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_array_equal(RigidTransform.identity().apply(points), points)


@pytest.mark.parametrize(
    ("rotation", "translation", "words"),
    [
        (np.eye(3) * 2, np.zeros(3), "orthonormal"),
        (np.diag([1.0, 1.0, -1.0]), np.zeros(3), "determinant"),
        (np.eye(4), np.zeros(3), r"\[3,3\]"),
        (np.eye(3), np.zeros(4), r"\[3\]"),
        (np.eye(3), np.array([0, 0, math.nan]), "finite"),
        (np.full((3, 3), math.nan), np.zeros(3), "finite"),
    ],
)
def test_what_is_no_rigid_motion_is_refused(rotation: Any, translation: Any, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        RigidTransform(rotation, translation)


@pytest.mark.parametrize("xyzw", [[0, 0, 0, 0], [1, 1, 0, 0], [math.nan, 0, 0, 1]])
def test_a_quaternion_nobody_filled_is_refused(xyzw: list[float]) -> None:
    with pytest.raises(CalibrationError, match="unit norm"):
        RigidTransform.from_quaternion([0, 0, 0], xyzw)


# ----------------------------------------------------------------------------------- frames


def test_a_tree_answers_between_any_two_frames() -> None:
    rng = np.random.default_rng(RNG_SEED)
    base_from_mast, mast_from_lidar, base_from_camera = (random_transform(rng) for _ in range(3))
    tree = FrameTree()
    tree.set("base_link", "mast", base_from_mast)
    tree.set("/mast", "/lidar", mast_from_lidar)
    tree.set("base_link", "camera", base_from_camera)
    wanted = (
        np.linalg.inv(homogeneous(base_from_camera))
        @ homogeneous(base_from_mast)
        @ homogeneous(mast_from_lidar)
    )
    found = tree.lookup("camera", "/lidar")
    assert found is not None
    np.testing.assert_allclose(found.matrix(), wanted, atol=1e-12)
    back = tree.lookup("lidar", "camera")
    assert back is not None
    np.testing.assert_allclose(back.matrix(), np.linalg.inv(wanted), atol=1e-12)
    assert tree.frames() == ["base_link", "camera", "lidar", "mast"]


def test_there_is_no_identity_in_place_of_a_missing_link() -> None:
    tree = FrameTree()
    tree.set("base_link", "lidar", RigidTransform.identity())
    tree.set("other", "camera", RigidTransform.identity())
    assert tree.lookup("base_link", "camera") is None
    assert tree.lookup("base_link", "never_heard_of") is None
    same = tree.lookup("gps", "gps")
    assert same is not None
    np.testing.assert_array_equal(same.matrix(), np.eye(4))


def test_a_frame_that_moves_to_another_parent_leaves_the_first() -> None:
    tree = FrameTree()
    tree.set("base_link", "lidar", RigidTransform.identity())
    assert tree.lookup("base_link", "lidar") is not None
    tree.set("mast", "lidar", RigidTransform.from_rpy([0, 0, 1], [0, 0, 0]))
    assert tree.lookup("base_link", "lidar") is None
    found = tree.lookup("mast", "lidar")
    assert found is not None
    assert found.translation.tolist() == [0.0, 0.0, 1.0]


def test_a_later_transform_of_the_same_frame_replaces_the_first() -> None:
    tree = FrameTree()
    for z in (1.0, 2.0):
        tree.set("base_link", "lidar", RigidTransform.from_rpy([0, 0, z], [0, 0, 0]))
        # Twice: what was found once is remembered until something changes.
        for target, source, wanted in 2 * (("base_link", "lidar", z), ("lidar", "base_link", -z)):
            found = tree.lookup(target, source)
            assert found is not None
            assert found.translation[2] == wanted


@pytest.mark.parametrize(("parent", "child"), [("", "a"), ("a", ""), ("a", "a"), ("a", "/a")])
def test_bad_frame_names_are_refused(parent: str, child: str) -> None:
    with pytest.raises(CalibrationError, match="frame names"):
        FrameTree().set(parent, child, RigidTransform.identity())


# ------------------------------------------------------------------------------ the smaller


@pytest.mark.parametrize(
    ("angle", "wanted"),
    [
        (0.0, 0.0),
        (math.pi, math.pi),
        (-math.pi, math.pi),
        (1.5 * math.pi, -0.5 * math.pi),
        (-7.0, -7.0 + 2 * math.pi),
        (100.0, 100.0 - 32 * math.pi),
    ],
)
def test_angles_are_wrapped(angle: float, wanted: float) -> None:
    assert wrap_angle_rad(angle) == pytest.approx(wanted, abs=1e-12)


def test_skew_is_the_cross_product() -> None:
    a, b = np.array([1.0, -2.0, 3.0]), np.array([0.5, 4.0, -1.0])
    np.testing.assert_allclose(skew(a) @ b, np.cross(a, b))


def test_projection_is_opencvs() -> None:
    rng = np.random.default_rng(RNG_SEED)
    k = np.array([[700.0, 0, 320.5], [0, 710.0, 190.25], [0, 0, 1]])
    camera_from_base = RigidTransform(
        Rotation.from_rotvec([0.1, -0.2, 0.05]).as_matrix(), np.array([0.3, -0.1, 2.0])
    )
    points = rng.uniform([-3, -3, 4], [3, 3, 30], (200, 3))
    matrix = k @ camera_from_base.matrix()[:3]
    pixels, front = project(matrix, points)
    rvec = cv2.Rodrigues(camera_from_base.rotation)[0]
    wanted = cv2.projectPoints(points, rvec, camera_from_base.translation, k, None)[0]
    assert front.all()
    np.testing.assert_allclose(pixels, wanted[:, 0], atol=1e-8)


def test_points_behind_the_camera_have_no_pixel() -> None:
    matrix = np.eye(3, 4)
    points = np.array([[0.0, 0, 1], [0, 0, 0.1], [0, 0, 0], [0, 0, -1], [1, 1, 0.11]])
    pixels, front = project(matrix, points)
    assert front.tolist() == [True, False, False, False, True]
    assert np.isnan(pixels[~front]).all()
    np.testing.assert_allclose(pixels[front], [[0, 0], [1 / 0.11, 1 / 0.11]])


def test_box_corners_of_a_car_that_heads_left() -> None:
    # GIVEN a car of 4 x 2 x 1.5 m at (10, 5, 1) that points along +y
    corners = box_corners([10.0, 5.0, 1.0], [4.0, 2.0, 1.5], math.pi / 2)
    # THEN its front corners are 2 m further in y, one on either side, its bottom at 0.25 m
    np.testing.assert_allclose(
        corners,
        [
            [9, 7, 0.25],
            [11, 7, 0.25],
            [11, 3, 0.25],
            [9, 3, 0.25],
            [9, 7, 1.75],
            [11, 7, 1.75],
            [11, 3, 1.75],
            [9, 3, 1.75],
        ],
        atol=1e-12,
    )


def test_matrix_of_a_quaternion_is_scipys_to_the_bit() -> None:
    """GIVEN quaternions of every kind WHEN made matrices THEN scipy would have made the same."""
    rng = np.random.default_rng(5)
    for n in range(500):
        q = rng.normal(size=4)
        q[: n % 4] = 0.0  # also turns about one axis only, and none
        q *= (1.0 + 0.005 * (n % 3 - 1)) / np.linalg.norm(q)
        made = RigidTransform.from_quaternion(np.zeros(3), q).rotation
        assert np.array_equal(made, Rotation.from_quat(q).as_matrix())


@pytest.mark.parametrize("place", [[0.0, np.nan, 0.0], [0.0, 0.0], [0.0, 0.0, np.inf]])
def test_bad_translation_beside_a_good_quaternion_is_refused(place: list[float]) -> None:
    """GIVEN a translation that is none WHEN a transform is made THEN it is refused."""
    with pytest.raises(CalibrationError, match="translation"):
        RigidTransform.from_quaternion(place, [0.0, 0.0, 0.0, 1.0])


def test_rectangles_share_what_lies_in_both() -> None:
    a = np.array([[0.0, 0.0, 4.0, 2.0], [np.nan, 0.0, 1.0, 1.0]])
    b = np.array([[2.0, 1.0, 6.0, 3.0], [4.0, 0.0, 5.0, 2.0]])
    assert areas(a)[0] == 8.0
    assert shared_areas(a, b).tolist() == [[2.0, 0.0], [0.0, 0.0]]
    assert overlaps(a, b)[0].tolist() == [2.0 / 14.0, 0.0]
    assert not (overlaps(a, b)[1] > 0.0).any()


def test_intersection_over_union() -> None:
    a = np.array([[0.0, 0.0, 4.0, 2.0]])
    assert overlaps(a, a) == 1.0
    assert overlaps(a, np.add(a, [2.0, 0.0, 2.0, 0.0])) == pytest.approx(1 / 3)
    assert overlaps(a, a + 10.0) == 0.0
