"""Frames, their augmentation and their targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from support.frames import stored

from mm_fusion.errors import StageError
from mm_fusion.training.augment import (
    NO_AUGMENTATION,
    Augmentation,
    augment,
    flip,
    keep,
    miscalibrated,
    move,
    stale,
)
from mm_fusion.training.dataset import collate, indices, limit_points, make_batch
from mm_fusion.training.frames import Frame, frame_of, list_frames, load_frame
from mm_fusion.training.grid import Grid
from mm_fusion.training.losses import (
    DEPTH_POINT_STEP,
    DEPTH_SCALE,
    SEGMENTATION_SCALE,
    box_loss,
    depth_loss,
    heat_loss,
    losses,
    segmentation_loss,
    spread_loss,
)
from mm_fusion.training.network_torch import FusionNet, Maps
from mm_fusion.training.targets import Targets, make_targets
from mm_fusion.training.views import DEPTH_BINS

GRID = Grid()


def pixels(frame: Frame, xyz: np.ndarray) -> np.ndarray:
    uvw = np.c_[xyz, np.ones(len(xyz))] @ frame.pixel_from_base.T.astype(np.float64)
    return uvw[:, :2] / uvw[:, 2:]


# ------------------------------------------------------------------------ augmentation


def test_flip_mirrors_what_the_image_shows(frame: Frame) -> None:
    flipped = flip(frame)
    before, after = pixels(frame, frame.boxes[:, :3]), pixels(flipped, flipped.boxes[:, :3])
    np.testing.assert_allclose(after[:, 0], 639.0 - before[:, 0], atol=1e-2)
    np.testing.assert_allclose(after[:, 1], before[:, 1], atol=1e-2)
    assert (flipped.image[:, 100] == frame.image[:, 539]).all()
    assert (flipped.seg[:, 20] == frame.seg[:, 139]).all()
    assert flipped.boxes[0, 6] == -frame.boxes[0, 6]
    again = flip(flipped)
    np.testing.assert_allclose(again.pixel_from_base, frame.pixel_from_base, atol=1e-3)


def test_turned_world_stays_under_its_pixels(frame: Frame) -> None:
    moving = frame.boxes.copy()
    moving[:, 7:9] = 3.0 * np.stack([np.cos(moving[:, 6]), np.sin(moving[:, 6])], 1)
    frame = replace(frame, boxes=moving)
    turned = move(frame, 0.3, 1.1, 0.2)
    np.testing.assert_allclose(
        pixels(turned, turned.boxes[:, :3]), pixels(frame, frame.boxes[:, :3]), atol=5e-2
    )
    np.testing.assert_allclose(turned.boxes[:, 3:6], frame.boxes[:, 3:6] * 1.1, rtol=1e-5)
    speed = np.hypot(*turned.boxes[:, 7:9].T)
    np.testing.assert_allclose(speed, 3.3, rtol=1e-4)
    heading = np.arctan2(turned.boxes[:, 8], turned.boxes[:, 7])
    np.testing.assert_allclose(np.cos(heading - turned.boxes[:, 6]), 1.0, atol=1e-5)


def test_tilted_world_stays_under_its_pixels(frame: Frame) -> None:
    tilted = move(frame, pitch_rad=0.02, roll_rad=-0.01)
    np.testing.assert_allclose(
        pixels(tilted, tilted.boxes[:, :3]), pixels(frame, frame.boxes[:, :3]), atol=5e-2
    )
    assert np.abs(tilted.boxes[:, 2] - frame.boxes[:, 2]).max() > 0.05
    np.testing.assert_array_equal(tilted.boxes[:, 3:7], frame.boxes[:, 3:7])


def test_points_move_with_their_boxes_and_under_their_pixels(frame: Frame) -> None:
    centres = np.zeros((len(frame.boxes), 5), np.float32)
    centres[:, :3], centres[:, 3], centres[:, 4] = frame.boxes[:, :3], 0.5, 0.05
    moved = move(replace(frame, points=centres), 0.3, 0.95, -0.1, 0.02, 0.01)
    np.testing.assert_allclose(moved.points[:, :3], moved.boxes[:, :3], atol=1e-4)
    np.testing.assert_array_equal(moved.points[:, 3:], centres[:, 3:])
    shown = pixels(moved, moved.points[:, :3].astype(np.float64))
    np.testing.assert_allclose(shown, pixels(frame, frame.boxes[:, :3]), atol=5e-2)
    # the base's tilt comes last: what lay far ahead is lower by pitch times its new x
    c, s = np.cos(0.3), np.sin(0.3)
    x, y, z = 0.95 * frame.boxes[:, :3].T.astype(np.float64)
    height = z - 0.1 - 0.02 * (c * x - s * y) + 0.01 * (s * x + c * y)
    np.testing.assert_allclose(moved.boxes[:, 2], height, atol=1e-4)


def test_a_wrong_calibration_is_wrong_by_as_much_as_robots_are(frame: Frame) -> None:
    """Two degrees, 0.2 m and 0.1 s late at 15 m/s: at 20 m, some tens of pixels and no more."""
    far = np.array([[20.0, 1.0, 1.0], [20.0, -4.0, 0.5]])
    moved = []
    for seed in range(200):
        wrong = miscalibrated(frame.pixel_from_base, np.random.default_rng(seed))
        off = pixels(replace(frame, pixel_from_base=wrong), far) - pixels(frame, far)
        moved.append(np.abs(off).max())
    assert max(moved) < 60.0
    assert 3.0 < np.median(moved) < 20.0


def test_large_errors_of_the_calibration_are_as_frequent_as_small_ones(frame: Frame) -> None:
    """The angle between the camera's true and its believed attitude: up to 2.2 degrees, more only
    where the vehicle also turned before a late picture was taken."""

    def attitude(projection: np.ndarray) -> Rotation:
        return Rotation.from_matrix(cv2.decomposeProjectionMatrix(projection.astype(float))[1])

    true = attitude(frame.pixel_from_base)
    angles = np.array(
        [
            np.degrees((attitude(wrong) * true.inv()).magnitude())
            for seed in range(300)
            for wrong in [miscalibrated(frame.pixel_from_base, np.random.default_rng(seed))]
        ]
    )
    for least, most, share in ((0.0, 0.8, 0.34), (0.8, 1.6, 0.36), (1.6, 2.4, 0.27)):
        found = np.count_nonzero((angles >= least) & (angles < most)) / len(angles)
        assert found == pytest.approx(share, abs=0.08)
    assert angles.max() < 5.0


def test_a_stale_picture_is_of_a_place_further_back(frame: Frame) -> None:
    """What stands ahead is looked for further out from the vanishing point than the picture shows
    it, and the picture teaches no object and the right depth."""
    far = np.array([[40.0, 3.0, 0.0]])
    for seed in range(20):
        old = stale(replace(frame, looked_from=frame.pixel_from_base), np.random.default_rng(seed))
        assert old.looked_from is not None
        looked_for, shown = (
            (old.pixel_from_base @ (*far[0], 1.0))[2],
            (frame.pixel_from_base @ (*far[0], 1.0))[2],
        )
        assert 0.5 < shown - looked_for < 40.0
        np.testing.assert_array_equal(old.looked_from, frame.pixel_from_base)
        assert not old.num_pixels.any()


def test_depth_is_taught_from_where_the_camera_was(frame: Frame) -> None:
    believed = np.zeros((3, 4), np.float32)
    wrong = replace(frame, pixel_from_base=believed, looked_from=frame.pixel_from_base)
    batch = collate([wrong], [(1.0, 1.0)], Grid())
    np.testing.assert_array_equal(batch.looked_from[0, 0].numpy(), frame.pixel_from_base)
    np.testing.assert_array_equal(batch.pixel_from_base[0, 0].numpy(), believed)


def test_lost_points_are_lost_to_the_objects_too(frame: Frame) -> None:
    kept = np.arange(len(frame.points)) % 4 == 0
    fewer = keep(frame, kept)
    assert len(fewer.points) == len(fewer.rings) == np.count_nonzero(kept)
    assert (fewer.num_points == 15).all()  # of 60


def test_augmentation_follows_its_generator(frame: Frame) -> None:
    one, two, other = (augment(frame, Augmentation(), np.random.default_rng(s)) for s in (1, 1, 2))
    for name in vars(one):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.points[:100], other.points[:100])


def test_no_augmentation_is_none(frame: Frame) -> None:
    same = augment(frame, NO_AUGMENTATION, np.random.default_rng(0))
    np.testing.assert_array_equal(same.looked_from, frame.pixel_from_base)
    for name, value in vars(replace(frame, looked_from=same.looked_from)).items():
        np.testing.assert_allclose(getattr(same, name), value, atol=1e-4)


def test_point_budget_is_kept_in_order(frame: Frame) -> None:
    few = limit_points(frame.points, 500, np.random.default_rng(0))
    assert 450 <= len(few) <= 500
    places = [np.flatnonzero((frame.points == row).all(1))[0] for row in few[:50]]
    assert places == sorted(places)


def test_modality_dropout_withholds_one_sense_at_most(write_frames: Callable[[int], Path]) -> None:
    paths = list_frames(write_frames(2)) * 40
    batch = make_batch(paths, Augmentation(), GRID, np.random.default_rng(0))
    no_points, no_image = batch.has_points[:, 0] == 0, batch.has_image[:, 0] == 0
    assert not (no_points & no_image).any()
    assert 8 <= no_points.sum() <= 34
    assert 4 <= no_image.sum() <= 24


@pytest.mark.parametrize(
    ("senses", "points", "pixels", "asked_for"),
    [
        ("lidar", 40, 0, True),
        ("lidar", 0, 900, False),
        ("camera", 0, 900, True),
        ("camera", 40, 0, False),
        ("fused", 40, 0, True),
        ("fused", 0, 900, True),
    ],
)
def test_a_network_of_one_sense_is_asked_for_what_that_sense_sees(
    write_frames: Callable[[int], Path], senses: str, points: int, pixels: int, asked_for: bool
) -> None:
    """GIVEN objects that only the LIDAR or only the camera sees, WHEN a batch is made for a network
    of one sense, THEN it has that sense in every frame, and the others' objects are neither wanted
    of it nor held against it."""
    (path,) = list_frames(write_frames(1))
    stored = dict(np.load(path))
    count = len(stored["labels"])
    stored["num_points"], stored["num_pixels"] = (
        np.full(count, n, np.int32) for n in (points, pixels)
    )
    np.savez(path, **stored)
    batch = make_batch([path] * 8, NO_AUGMENTATION, GRID, np.random.default_rng(0), senses)
    assert (batch.has_points == (senses != "camera")).all()
    assert (batch.has_image == (senses != "lidar")).all()
    assert bool((batch.targets.heat == 1.0).any()) is asked_for
    assert bool((batch.targets.heat_weight == 0.0).any()) is not asked_for


# ----------------------------------------------------------------------------- batches


def test_an_epoch_visits_every_frame_once() -> None:
    seen = [n for step in range(10) for n in indices(7, step, 20, 4)]
    assert sorted(seen[:20]) == list(range(20))
    assert sorted(seen[20:]) == list(range(20))
    assert seen[:20] != seen[20:]


def test_a_batch_may_run_over_several_epochs() -> None:
    assert sorted(indices(0, 0, 3, 9)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_no_frames_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no training frames"):
        list_frames(tmp_path)


def test_a_file_that_is_no_frame_is_named(tmp_path: Path, frame: Frame) -> None:
    broken = tmp_path / "a.npz"
    broken.write_bytes(b"not a zip")
    with pytest.raises(StageError, match=r"a\.npz"):
        load_frame(broken)
    np.savez(tmp_path / "c.npz", points=frame.points)
    with pytest.raises(StageError, match="not a frame"):
        load_frame(tmp_path / "c.npz")


def test_a_stored_frame_of_another_size_shows_the_same_places(frame: Frame) -> None:
    large = cv2.resize(frame.image, (1280, 1152), interpolation=cv2.INTER_NEAREST)
    enlarge = np.array([[2.0, 0, 0.5], [0, 3.0, 1.0], [0, 0, 1.0]])
    whole = stored(frame)
    projection = (enlarge @ whole.pixel_from_base[0]).astype(np.float32)[None]
    back = frame_of(replace(whole, images=(large,), pixel_from_base=projection))
    np.testing.assert_allclose(
        pixels(back, frame.boxes[:, :3]), pixels(frame, frame.boxes[:, :3]), atol=1e-2
    )
    assert np.abs(back.image.astype(int) - frame.image).max() <= 1
    np.testing.assert_array_equal(back.seg, frame.seg)
    assert (back.num_pixels == frame.num_pixels // 6).all()


def test_points_outside_the_volume_stay_behind(frame: Frame) -> None:
    whole = stored(frame)
    away = whole.cloud.xyz.copy()
    away[:100, 0] = 60.0
    away[100:200, 2] = 4.5
    moved = replace(whole, cloud=replace(whole.cloud, xyz=away))
    assert len(frame_of(moved).points) == len(frame_of(whole).points) - 200


def test_what_is_of_no_class_is_neither_demanded_nor_punished(frame: Frame) -> None:
    labels = frame.labels.copy()
    labels[0] = -1
    targets = targets_of(replace(frame, labels=labels), 50, 50)
    ix = int((frame.boxes[0, 0] - GRID.x_min_m) / GRID.pillar_m)
    iy = int((frame.boxes[0, 1] - GRID.y_min_m) / GRID.pillar_m)
    assert (targets.heat_weight[:, ix, iy] == 0.0).all()
    assert targets.box_weight[ix, iy] == 0.0
    assert (targets_of(frame, 50, 50).heat_weight[:, ix, iy] == 1.0).all()


def test_unknown_velocities_and_classes_cost_nothing() -> None:
    boxes = torch.zeros(1, 10, 1, 1, requires_grad=True)
    target = torch.zeros(1, 10, 1, 1)
    target[0, 8], target[0, 0] = float("nan"), 0.5
    value = box_loss(boxes, target, torch.ones(1, 1, 1))
    value.backward()
    assert value.item() == pytest.approx(0.5)
    assert boxes.grad is not None
    assert boxes.grad[0, 8].item() == 0.0
    logits = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    unknown = torch.full((1, 2, 2), 255)
    assert segmentation_loss(logits, unknown).item() == 0.0
    half = unknown.clone()
    half[0, 0, 0] = 1
    alone = segmentation_loss(logits[:, :, :1, :1], half[:, :1, :1])
    assert segmentation_loss(logits, half).item() == pytest.approx(alone.item())


# ----------------------------------------------------------------------------- targets


def targets_of(frame: Frame, points: int, pixels_: int) -> Targets:
    count = len(frame.boxes)
    return make_targets(
        frame.boxes,
        frame.labels,
        np.full(count, points, np.int32),
        np.full(count, pixels_, np.int32),
        GRID,
    )


def perfect(targets: Targets) -> Maps:
    """Maps that say exactly what is wanted at the cells that count."""
    heat = torch.where(targets.heat == 1.0, 15.0, -15.0)
    return Maps(heat[None], targets.boxes[None], torch.zeros(1, 5, GRID.nx, GRID.ny), None, None)


def test_targets_decode_to_their_boxes(frame: Frame) -> None:
    targets = targets_of(frame, 50, 0)
    boxes, scores, labels, _ = FusionNet().decode(perfect(targets))
    count = len(frame.boxes)
    assert (scores[0, :count] > 0.99).all()
    assert (scores[0, count:] < 0.01).all()
    for box, label in zip(frame.boxes, frame.labels, strict=True):
        distance = (boxes[0, :count] - torch.from_numpy(box)).abs().amax(1)
        best = int(distance.argmin())
        assert distance[best] < 1e-4
        assert labels[0, best] == label


def test_objects_outside_the_grid_are_no_targets(frame: Frame) -> None:
    away = frame.boxes.copy()
    away[:, 1] = 25.7
    targets = targets_of(replace(frame, boxes=away), 50, 50)
    assert targets.heat.sum() == 0.0
    assert targets.box_weight.sum() == 0.0


@pytest.mark.parametrize(
    ("points", "pixels_", "wanted"), [(3, 0, True), (0, 30, True), (2, 29, False)]
)
def test_what_no_sensor_sees_is_not_asked_for(
    frame: Frame, points: int, pixels_: int, wanted: bool
) -> None:
    targets = targets_of(frame, points, pixels_)
    assert bool((targets.heat == 1.0).any()) == wanted
    assert bool((targets.heat_weight == 0.0).any()) != wanted


# ------------------------------------------------------------------------------ losses


def test_perfect_maps_cost_nothing(frame: Frame) -> None:
    targets = Targets.stack([targets_of(frame, 50, 50)])
    maps = perfect(targets_of(frame, 50, 50))
    assert heat_loss(maps.heat, targets.heat, targets.heat_weight) < 1e-3
    assert box_loss(maps.boxes, targets.boxes, targets.box_weight) == 0.0


def test_heat_loss_by_hand() -> None:
    target = torch.zeros(1, 1, 1, 3)
    target[..., 0], target[..., 1] = 1.0, 0.5
    logits = torch.zeros(1, 1, 1, 3)  # p = 0.5 everywhere
    log_half = np.log(0.5)
    expected = -(0.25 * log_half + 0.5**4 * 0.25 * log_half + 0.25 * log_half)
    assert heat_loss(logits, target, torch.ones_like(target)).item() == pytest.approx(expected)
    weight = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    assert heat_loss(logits, target, weight).item() == pytest.approx(-0.25 * log_half)


def test_box_loss_by_hand() -> None:
    boxes = torch.zeros(1, 10, 1, 2)
    target = torch.zeros_like(boxes)
    target[0, 0, 0, 0], target[0, 8, 0, 0], target[0, 3, 0, 1] = 0.5, 2.0, 9.0
    weight = torch.tensor([[[1.0, 0.0]]])
    assert box_loss(boxes, target, weight).item() == pytest.approx(0.5 + 0.1 * 2.0)


def test_total_is_finite_without_objects(frame: Frame) -> None:
    bare = replace(frame, boxes=frame.boxes[:0], labels=frame.labels[:0], seg=0 * frame.seg)
    bare = replace(bare, num_points=frame.num_points[:0], num_pixels=frame.num_pixels[:0])
    batch = collate([bare], [(1.0, 1.0)], GRID)
    logits = torch.full((1, 3, GRID.nx, GRID.ny), -15.0)
    depth = torch.zeros((1, DEPTH_BINS, 48, 80))
    boxes = torch.zeros(1, 10, GRID.nx, GRID.ny)
    spreads = torch.zeros(1, 5, GRID.nx, GRID.ny)
    value = losses(Maps(logits, boxes, spreads, torch.zeros(1, 4, 96, 160), depth), batch)
    assert value.heat < 1e-3
    assert value.boxes == 0.0
    assert value.depth.item() == pytest.approx(np.log(DEPTH_BINS), abs=1e-4)
    expected = SEGMENTATION_SCALE * np.log(4.0) + DEPTH_SCALE * np.log(DEPTH_BINS)
    assert value.total.item() == pytest.approx(expected, abs=1e-3)


def test_depth_loss_by_hand(frame: Frame) -> None:
    points = torch.full((1, 4 * DEPTH_POINT_STEP, 5), np.nan)
    points[0, 0, :3] = torch.tensor([10.3, 0.0, 1.0])  # the camera is 0.3 m ahead of base
    points[0, DEPTH_POINT_STEP, :3] = torch.tensor([40.3, 1.0, 1.0])
    points[0, 2 * DEPTH_POINT_STEP, :3] = torch.tensor([-10.0, 0.0, 1.0])  # behind
    points[0, 1, :3] = torch.tensor([20.3, 0.0, 1.0])  # between the steps
    projection = torch.from_numpy(frame.pixel_from_base)[None]
    # 2 m and 64 m are the first and the last of 64 bins; 10 and 40 m lie between two each
    said = torch.full((1, DEPTH_BINS, 48, 80), -1e4)
    places = [63.0 * np.log(d / 2.0) / np.log(32.0) for d in (10.0, 40.0)]
    for place in places:
        said[0, int(place)] = said[0, int(place) + 1] = 0.0
    assert depth_loss(said, points, projection).item() == pytest.approx(np.log(4.0), abs=1e-3)
    said[0, int(places[0]), 24, 40] = said[0, int(places[0]) + 1, 24, 40] = 30.0
    said[0, int(places[0]), 27:29] = said[0, int(places[0]) + 1, 27:29] = 30.0
    assert depth_loss(said, points, projection).item() < np.log(4.0)
    nothing = torch.full_like(points, np.nan)
    assert depth_loss(said, nothing, projection).item() == 0.0


def test_spread_loss_is_least_at_the_mean_error() -> None:
    boxes = torch.zeros(1, 10, 1, 2, requires_grad=True)
    target = torch.full((1, 10, 1, 2), 0.5)
    target[0, 8] = float("nan")
    weight = torch.tensor([[[1.0, 0.0]]])
    values = [
        spread_loss(torch.full((1, 5, 1, 2), np.log(b)), boxes, target, weight)
        for b in (0.3, 0.5, 0.8)
    ]
    assert values[1] < min(values[0], values[2])
    # of ten errors of 0.5, one is not known
    assert values[1].item() == pytest.approx(0.9 * (1.0 + np.log(0.5)), abs=1e-5)
    assert not values[1].requires_grad


def test_right_segmentation_costs_nothing() -> None:
    truth = torch.randint(0, 4, (1, 48, 80), generator=torch.Generator().manual_seed(0))
    logits = 20.0 * torch.nn.functional.one_hot(truth, 4).permute(0, 3, 1, 2).float()
    assert segmentation_loss(logits, truth) < 1e-4
    assert segmentation_loss(-logits, truth) > 1.0


def test_a_cell_of_a_small_object_weighs_more() -> None:
    """GIVEN a car of one cell, and one so large that none of it is missing within four cells of
    its centre, WHEN nothing is told of either, THEN a cell of the first pulls 1.3 / (0.3 + 1/81)
    times as hard."""
    truth = torch.zeros(1, 32, 32, dtype=torch.int64)
    truth[0, 5, 5] = 1
    truth[0, 12:28, 12:28] = 1
    logits = torch.zeros(1, 4, 32, 32, requires_grad=True)
    segmentation_loss(logits, truth).backward()
    assert logits.grad is not None
    pull = -logits.grad[0, 1]
    assert (pull[5, 5] / pull[20, 20]).item() == pytest.approx(1.3 / (0.3 + 1.0 / 81.0), rel=1e-4)
