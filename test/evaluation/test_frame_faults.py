"""What each fault does to a frame's raw data, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.datasets.frame import Cloud
from mm_fusion.evaluation.frame_faults import (
    CLEAN,
    FAULTS,
    Condition,
    Sensed,
    apply,
    split_projection,
)
from mm_fusion.geometry import RigidTransform, project

K = np.array([[500.0, 0.5, 320.0], [0.0, 510.0, 200.0], [0.0, 0.0, 1.0]])
OPTICAL = RigidTransform(
    np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.array([0.1, 1.5, -0.4])
)
NAMES = {c.name: c for c in FAULTS}


def cloud(rings: int = 64, columns: int = 36) -> Cloud:
    """A ring of points 10 m around, every 10 degrees, for each beam."""
    azimuth = np.deg2rad(np.arange(columns) * 10.0 - 175.0)
    flat = np.stack([10 * np.cos(azimuth), 10 * np.sin(azimuth), 0 * azimuth], 1)
    count = rings * columns
    return Cloud(
        np.tile(flat, (rings, 1)).astype(np.float32),
        np.full(count, 0.5, np.float32),
        np.arange(count, dtype=np.float32),  # tells the points apart
        np.repeat(np.arange(rings), columns).astype(np.uint8),
    )


def sensed(**more: object) -> Sensed:
    values = {
        "cloud": cloud(),
        "image": np.full((400, 640, 3), 90, np.uint8),
        "k": K,
        "camera_from_base": OPTICAL,
    }
    return Sensed(**{**values, **more})  # type: ignore[arg-type]


def under(name: str, frame: Sensed, of: str = "000001.npz") -> Sensed:
    out = apply(NAMES[name], of, frame, None)
    assert out is not None
    return out


@pytest.mark.parametrize("scale", [1.0, 3.0, -2.0])
def test_a_projection_falls_into_lens_and_place(scale: float) -> None:
    turned = RigidTransform.from_rpy((0.3, -0.2, 0.1), (0.1, -0.05, 0.4)) @ OPTICAL
    k, camera_from_base = split_projection(scale * K @ turned.matrix()[:3])
    np.testing.assert_allclose(k, K, atol=1e-9)
    np.testing.assert_allclose(camera_from_base.matrix(), turned.matrix(), atol=1e-9)


def test_what_is_missing_or_blank() -> None:
    assert under("camera missing", sensed()).image is None
    assert under("LIDAR missing", sensed()).cloud is None
    blank = under("camera blank", sensed()).image
    assert blank is not None
    assert blank.shape == (400, 640, 3)
    assert not blank.any()


@pytest.mark.parametrize("beams", [16, 8, 4])
def test_fewer_beams_are_spread_over_all_heights(beams: int) -> None:
    left = under(f"LIDAR beams, {beams}", sensed()).cloud
    assert left is not None
    rings = np.unique(left.ring)
    assert len(rings) == beams
    assert len(left.xyz) == beams * 36
    assert set(np.diff(rings)) == {64 // beams}
    # as much is left out below as above
    assert rings[0] == 63 - rings[-1] + 1


def test_beams_that_are_not_there_cannot_be_lost() -> None:
    assert apply(NAMES["LIDAR beams, 16"], "a", sensed(cloud=cloud(rings=16)), None) is None
    unknown = cloud(rings=1)
    unknown.ring[:] = 255
    assert apply(NAMES["LIDAR beams, 4"], "a", sensed(cloud=unknown), None) is None


def test_the_front_is_a_third_of_the_turn() -> None:
    left = under("LIDAR front only, 120°", sensed()).cloud
    assert left is not None
    assert len(left.xyz) == 64 * 12
    assert (left.xyz[:, 0] >= 5.0 - 1e-4).all()


def test_more_lost_means_the_same_and_others() -> None:
    kept = []
    for share in (20, 40, 60):
        left = under(f"points lost, {share} %", sensed(cloud=cloud(columns=360))).cloud
        assert left is not None
        assert len(left.xyz) / (64 * 360) == pytest.approx(1 - share / 100, abs=0.01)
        kept.append(set(left.seconds.tolist()))
    assert kept[0] > kept[1] > kept[2]
    # another frame loses others
    other = under("points lost, 20 %", sensed(cloud=cloud(columns=360)), "000002.npz").cloud
    assert other is not None
    assert set(other.seconds.tolist()) != kept[0]


@pytest.mark.parametrize("angle_deg", [0.2, 0.5, 1.0, 2.0])
def test_a_wrong_rotation_turns_by_its_angle(angle_deg: float) -> None:
    wrong = under(f"extrinsic rotation, {angle_deg:g}°", sensed()).camera_from_base
    assert wrong is not None
    turn = wrong.rotation @ OPTICAL.rotation.T
    angle = np.arccos((np.trace(turn) - 1) / 2)
    assert np.rad2deg(angle) == pytest.approx(angle_deg, abs=1e-6)
    # about the camera's own centre
    np.testing.assert_allclose(wrong.inverse().translation, OPTICAL.inverse().translation)


def test_a_wrong_place_moves_the_camera_and_the_axis_is_the_faults_own() -> None:
    moved = [
        under(f"extrinsic offset, {cm} cm", sensed()).camera_from_base for cm in (2, 5, 10, 20)
    ]
    shifts = [m.translation - OPTICAL.translation for m in moved if m is not None]
    np.testing.assert_allclose(np.linalg.norm(shifts, axis=1), [0.02, 0.05, 0.1, 0.2], rtol=1e-9)
    np.testing.assert_allclose(shifts[3] / 10, shifts[0], rtol=1e-9)
    np.testing.assert_array_equal(moved[0].rotation, OPTICAL.rotation)  # type: ignore[union-attr]


def test_motion_blur_smears_along_rows_in_linear_light() -> None:
    # GIVEN a black and white edge
    image = np.zeros((20, 640, 3), np.uint8)
    image[:, 320:] = 255
    # WHEN the camera turns by half a degree while it exposes: 500 px * 0.0087 = 4.4, so 4 px
    out = under("motion blur, 0.5°", sensed(image=image)).image
    assert out is not None
    # THEN the edge is a ramp of 4 steps, equal in light, with rows untouched
    light = (out[3, 315:326, 0] / 255.0) ** 2.2
    steps = np.diff(light)
    assert (steps > 0.01).sum() == 4
    np.testing.assert_allclose(steps[steps > 0.01], 0.25, atol=0.01)
    assert (out == out[:1]).all()


def test_clean_changes_nothing_and_a_variant_changes_only_what_it_touches() -> None:
    frame = sensed()
    assert apply(CLEAN, "a", frame, None) is frame
    late = NAMES["camera late, 100 ms"]
    assert apply(late, "a", frame, None) is None  # no such file: not made up


def test_every_fault_has_a_name_of_its_own_and_says_what_it_touches() -> None:
    assert len(NAMES) == len(FAULTS) == 29
    for condition in FAULTS:
        assert set(condition.touches) <= {"camera", "lidar"}
        assert condition.touches
        assert (condition.change is None) == bool(condition.variant)
    assert {c.loses for c in FAULTS} == {"", "camera", "lidar"}


def test_pixels_follow_the_calibration() -> None:
    """Two degrees shift the picture's middle by up to f tan 2 degrees = 17.5 px."""
    condition: Condition = NAMES["extrinsic rotation, 2°"]
    ahead = OPTICAL.inverse().apply(np.array([[0.0, 0.0, 20.0]]))
    shifts = []
    for n in range(40):
        wrong = under(condition.name, sensed(), f"{n}.npz").camera_from_base
        assert wrong is not None
        pixel, _ = project(K @ wrong.matrix()[:3], ahead)
        shifts.append(float(np.linalg.norm(pixel[0] - K[:2, 2])))
    assert max(shifts) <= 18.0
    assert np.median(shifts) > 8.0
