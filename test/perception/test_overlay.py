"""Pictures: boxes and points are drawn where OpenCV projects them; real ones fall on real cars."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import scenes

from mm_fusion import wire
from mm_fusion.config import from_values
from mm_fusion.evaluation.bags import Bag
from mm_fusion.geometry import RigidTransform, project
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.overlay import (
    COLOURS,
    View,
    draw_box,
    draw_boxes,
    draw_overlay,
    draw_points,
    view_of,
)
from mm_fusion.samples import (
    CameraFrame,
    CameraModel,
    Detection,
    FusionResult,
    LidarSweep,
    Mode,
    Reason,
    Rejection,
)

T0 = scenes.T0
WIDTH, HEIGHT = 640, 384
CENTER, SIZE, YAW = (12.0, 1.0, 0.75), (4.2, 1.8, 1.5), 0.4


def known(calibrated=True):
    calibration = Calibration(scenes.config())
    if calibrated:
        calibration.set_camera(scenes.camera_model(WIDTH, HEIGHT))
    return calibration


def black(stamp_ns=T0):
    return scenes.frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), stamp_ns=stamp_ns)


def corner_pixels():
    """The eight corners of the box through the camera, by OpenCV; base and optical axes by hand."""
    length, width, height = SIZE
    signs = np.array([[x, y, z] for x in (1, -1) for y in (1, -1) for z in (1, -1)])
    local = signs * np.array([length, width, height]) / 2
    c, s = np.cos(YAW), np.sin(YAW)
    base = local @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + CENTER
    offset = base - scenes.CAMERA_AT[:3]
    optical = np.column_stack([-offset[:, 1], -offset[:, 2], offset[:, 0]])
    k = scenes.camera_model(WIDTH, HEIGHT).k
    return cv2.projectPoints(optical, np.zeros(3), np.zeros(3), k, None)[0][:, 0]


def box(label="car"):
    return Detection(label, 0.7, np.array(CENTER), np.array(SIZE), YAW, np.zeros(2))


def drawn(image):
    v, u = np.nonzero(image.any(axis=2))
    return u, v


def test_a_box_reaches_exactly_to_its_projected_corners():
    view = view_of(black(), known(), T0)
    draw_box(view.image, view.pixel_from_base, CENTER, SIZE, YAW, (255, 0, 0))
    u, v = drawn(view.image)
    corners = corner_pixels()
    found = [u.min(), v.min(), u.max(), v.max()]
    np.testing.assert_allclose(found, [*corners.min(axis=0), *corners.max(axis=0)], atol=2.0)
    for at in corners:  # every corner has ink
        assert np.hypot(u - at[0], v - at[1]).min() < 2.0


def test_the_overlay_shows_the_results_detections_in_their_colours():
    result = FusionResult(
        T0, "base_link", Mode.CAMERA, (), (box("pedestrian"),), (), "base_link", False
    )
    picture = draw_overlay(result, black(), known())
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert (picture == COLOURS["pedestrian"]).all(axis=2).any()
    assert draw_overlay(result, black(), known(calibrated=False)) is None


def test_what_is_behind_the_camera_is_not_drawn_and_what_reaches_behind_is_cut():
    view = view_of(black(), known(), T0)
    draw_boxes(view.image, view.pixel_from_base, [
        Detection("car", 0.9, np.array([-10.0, 0, 0.8]), np.array(SIZE), 0.0, np.zeros(2))
    ])  # fmt: skip
    assert not view.image.any()
    draw_box(view.image, view.pixel_from_base, (1.5, 0.0, 0.5), (8, 2, 1.5), 0.0, (0, 255, 0))
    assert view.image.any()


def test_points_are_drawn_where_they_project_and_the_near_one_on_top():
    view = view_of(black(), known(), T0)
    points = np.array(
        [[10.0, 0.2, 1.5], [40.0, 0.2, 1.5], [-5.0, 0, 0], [10.0, 90.0, 0], [np.nan] * 3]
    )
    assert draw_points(view.image, view.pixel_from_base, points) == 2
    at = project(view.pixel_from_base, points[:1])[0][0].round().astype(int)
    near = view.image[at[1], at[0]].copy()
    alone = view_of(black(), known(), T0)
    draw_points(alone.image, alone.pixel_from_base, points[:1])
    assert (near == alone.image[at[1], at[0]]).all()


def test_motion_between_set_and_exposure_moves_the_projection():
    motion = MotionBuffer(scenes.config().deskew)
    for ms in (-100, 0):
        motion.add(
            scenes.pose(T0 + ms * 1_000_000, RigidTransform.from_rpy((0.02 * ms, 0, 0), (0, 0, 0)))
        )
    early = black(T0 - 50_000_000)
    moved = view_of(early, known(), T0, motion).pixel_from_base
    still = view_of(early, known(), T0).pixel_from_base
    # the camera was 1 m further back
    point = np.array([9.0, 1.0, 0.5, 1.0])
    np.testing.assert_allclose(moved @ point, still @ np.add(point, [1.0, 0, 0, 0]), atol=1e-9)


@pytest.mark.parametrize(
    ("calibration", "frame", "reason"),
    [
        (known(False), black(), Reason.NO_INTRINSICS),
        (known(), scenes.compressed(b"\xff\xd8\xff"), Reason.UNDECODABLE_IMAGE),
        (known(), scenes.frame(np.zeros((5, 5, 3), np.uint8)), Reason.SIZE_MISMATCH),
    ],
)
def test_what_cannot_be_shown_is_said(calibration, frame, reason):
    found = view_of(frame, calibration, T0)
    assert isinstance(found, Rejection)
    assert found.reason is reason


# --------------------------------------------------------------------------------- real data

DATA = os.environ.get("MM_FUSION_DATA", "")


@pytest.mark.skipif(not DATA, reason="MM_FUSION_DATA names no folder with real recordings")
def test_real_lidar_points_fall_on_the_car_ahead(tmp_path):
    # GIVEN the KITTI street: a car stands right ahead, its boot about 8 m from the LIDAR
    calibration = Calibration(from_values({"calibration.extrinsics": ["velodyne 0 0 1.73 0 0 0"]}))
    frames: list[CameraFrame] = []
    sweeps: list[LidarSweep] = []
    with Bag(Path(DATA) / "kitti_five_frames") as bag:
        for message in bag.messages([t.name for t in bag.topics]):
            sample = wire.decode(message.msgtype, message.raw, "camera")
            if isinstance(sample, CameraModel):
                calibration.set_camera(sample)
            elif isinstance(sample, wire.FrameTransforms):
                for t in sample.transforms:
                    calibration.set_transform(t.parent, t.child, t.parent_from_child)
            elif isinstance(sample, LidarSweep):
                sweeps.append(sample)
            else:
                frames.append(sample)
    frame, sweep = frames[2], sweeps[2]
    view = view_of(frame, calibration, frame.stamp_ns)
    assert isinstance(view, View)
    lidar = np.stack([sweep.points[a] for a in "xyz"], axis=1)
    base = calibration.base_from(sweep.frame_id).apply(lidar)
    pixels, front = project(view.pixel_from_base, base)
    u, v = pixels[front].T
    depth = base[front, 0]

    def seen_in(left, right, top, bottom):
        inside = (u > left) & (u < right) & (v > top) & (v < bottom)
        assert np.count_nonzero(inside) > 50
        return depth[inside]

    # THEN within the outlines that the eye reads off the picture there is one thing each: the
    # boot of the car ahead (below its windows), the trailer to its left; between them, the street
    boot = seen_in(567, 693, 245, 285)
    assert np.ptp(boot) < 0.8
    assert np.median(boot) == pytest.approx(8.0, abs=0.2)
    trailer = seen_in(345, 470, 160, 215)
    assert trailer.min() > 11.0
    assert trailer.max() < 15.0
    assert seen_in(520, 545, 205, 225).min() > 20.0
    draw_points(view.image, view.pixel_from_base, base)
    cv2.imwrite(str(tmp_path / "kitti.png"), view.image[:, :, ::-1])
