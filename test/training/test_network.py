"""The pieces of the network against values worked out by other means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mm_fusion.training.augment import keep
from mm_fusion.training.dataset import collate
from mm_fusion.training.frames import Frame
from mm_fusion.training.grid import Grid
from mm_fusion.training.network_torch import (
    TOP_K,
    DeployedNet,
    FusionNet,
    Join,
    Lift,
    Maps,
    PillarEncoder,
    Widths,
)
from mm_fusion.training.views import (
    DEPTH_BINS,
    chance_of_depth,
    gather_cameras,
    ground_hint,
    project,
    sample,
)

SMALL = Widths(8, 8, 8, 8, 8, 8, 16, 16, 32, 2)
CAMERA = torch.tensor(
    [[[319.5, -375.0, 0.0, 0.0], [191.5, 0.0, -450.0, 720.0], [1.0, 0.0, 0.0, 0.0]]]
)


@pytest.fixture
def net() -> FusionNet:
    torch.manual_seed(5)
    return FusionNet(widths=SMALL).eval()


def inputs_of(frame: Frame) -> list[torch.Tensor]:
    return [
        torch.from_numpy(frame.points),
        torch.from_numpy(frame.image)[None],
        torch.from_numpy(frame.pixel_from_base)[None],
        torch.ones(1),
        torch.ones(1),
    ]


def answer(net: FusionNet, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(DeployedNet(net)(*inputs))


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------------------- geometry


def test_project_by_hand() -> None:
    # 10 m ahead, 2 m left, 0.6 m up; the camera is 1.6 m above base
    u, v, depth, visible = project(torch.tensor([[[10.0, 2.0, 0.6]]]), CAMERA)
    assert visible.item()
    assert depth.item() == 10.0
    assert u.item() == pytest.approx(319.5 - 375.0 * 2.0 / 10.0)
    assert v.item() == pytest.approx(191.5 + 450.0 * 1.0 / 10.0)


@pytest.mark.parametrize(
    "point",
    [
        [-5.0, 0.0, 1.0],  # behind
        [0.1, 0.0, 1.6],  # too near
        [5.0, 6.0, 1.0],  # left of the image
        [5.0, 0.0, 8.0],  # above it
        [math.nan, 0.0, 1.0],
        [math.inf, 0.0, 1.0],
    ],
)
def test_project_marks_what_the_image_does_not_show(point: list[float]) -> None:
    u, v, depth, visible = project(torch.tensor([[point]]), CAMERA)
    assert not visible.item()
    assert depth.item() > 0.0
    assert u.item() == 0.0
    assert v.item() == 0.0


def test_project_is_not_rounded_where_the_network_computes_in_halves() -> None:
    # bfloat16 has 8 bits: 37.3 m would become 37.25, and 319.5 pixels 320
    point = torch.tensor([[[37.3, 2.1, 0.6]]])
    with torch.autocast("cpu", torch.bfloat16):
        u, v, depth, _ = project(point, CAMERA)
    assert depth.item() == pytest.approx(37.3, rel=1e-6)
    assert u.item() == pytest.approx(319.5 - 375.0 * 2.1 / 37.3, rel=1e-6)
    assert v.item() == pytest.approx(191.5 + 450.0 * 1.0 / 37.3, rel=1e-6)


def test_ground_hint_is_the_depth_of_projected_ground(frame: Frame) -> None:
    matrix = torch.from_numpy(frame.pixel_from_base)[None]
    hint = ground_hint(matrix, 48, 80)[0]
    camera = frame.pixel_from_base.astype(np.float64)
    for x, y in [(7.0, 1.0), (10.0, -3.0), (20.0, 4.0)]:
        u, v, w = camera @ [x, y, 0.0, 1.0]
        row, column = v / w / 8.0, u / w / 8.0
        below, right = int(row), int(column)
        weights = np.outer([1 - row + below, row - below], [1 - column + right, column - right])
        near = hint[0, below : below + 2, right : right + 2].numpy()
        assert (near * weights).sum() == pytest.approx(10.0 / w, rel=1e-3)
    torch.testing.assert_close(torch.exp(-hint[1, 47]) * 10.0, hint[0, 47])
    assert hint[1, 0].max() == pytest.approx(math.log(80.0))
    assert torch.equal(ground_hint(torch.zeros(1, 3, 4), 4, 4)[:, 0], torch.zeros(1, 4, 4))


def test_sample_of_a_ramp_is_the_pixel_itself() -> None:
    stride = 4
    columns = (torch.arange(160.0) * stride).expand(96, 160)
    rows = (torch.arange(96.0) * stride).unsqueeze(1).expand(96, 160)
    ramps = torch.stack([columns, rows]).expand(2, 2, 96, 160)
    u = torch.tensor([[10.0, 300.25], [77.7, 500.0]])
    v = torch.tensor([[20.0, 100.5], [1.5, 250.0]])
    weight = torch.tensor([[1.0, 0.5], [1.0, 0.0]])
    got = sample(ramps, u, v, weight)
    expected = torch.stack([u, v], -1) * weight.unsqueeze(-1)
    torch.testing.assert_close(got, expected, rtol=0.0, atol=1e-3)


def test_sample_repeats_edges_and_keeps_batches_apart() -> None:
    maps = torch.stack([torch.zeros(1, 96, 160), torch.ones(1, 96, 160)])
    maps[1, 0, :, 0] = 7.0
    got = sample(maps, torch.full((2, 1), -0.5), torch.zeros(2, 1), torch.ones(2, 1))
    assert got.flatten().tolist() == [0.0, 7.0]


def test_two_cameras_are_averaged_where_both_see() -> None:
    maps = torch.ones(1, 2, 1, 96, 160)
    maps[:, 1] = 3.0
    to_the_right = CAMERA[0].clone()
    to_the_right[0, 0] = 0.0  # sees y <= 0 only, and further than the first
    pixel_from_base = torch.stack([CAMERA[0], to_the_right]).unsqueeze(0)
    points = torch.tensor(
        [[[10.0, 5.0, 1.0], [10.0, -12.0, 1.0], [10.0, -1.0, 1.0], [-9.0, 0.0, 1.0]]]
    )
    both, seen = gather_cameras(maps, points, pixel_from_base, torch.ones(1, 2))
    assert both.flatten().tolist() == [1.0, 3.0, 2.0, 0.0]
    assert seen.flatten().tolist() == [1.0, 1.0, 1.0, 0.0]
    first, _ = gather_cameras(maps, points, pixel_from_base, torch.tensor([[1.0, 0.0]]))
    assert first.flatten().tolist() == [1.0, 0.0, 1.0, 0.0]


def test_lift_looks_at_the_cells_own_axis() -> None:
    grid = Grid()
    lift = Lift(grid, SMALL)
    nx, ny = grid.bev_shape
    at = lift.at.reshape(nx, ny, len(lift.HEIGHTS_M), 3)
    assert at[0, 0, 0].tolist() == pytest.approx([-25.6 + 0.4, -25.6 + 0.4, 0.0])
    assert at[50, 40, 2].tolist() == pytest.approx([-25.6 + 50.5 * 0.8, -25.6 + 40.5 * 0.8, 1.2])


def test_depth_chances_are_read_between_bins() -> None:
    """Bins lie evenly in the logarithm from 2 to 64 m; 64 / 4 is what a sure one counts."""
    chances = torch.zeros(1, 48, 80, DEPTH_BINS)
    chances[0, 5, 7, 0], chances[0, 5, 7, 1] = 0.25, 0.5
    chances[0, 20, 30, 63] = 1.0
    second = 2.0 * 32.0 ** (1 / 63)
    between = 2.0 * 32.0 ** (0.5 / 63)
    u = torch.tensor([[56.0, 56.0, 56.0, 58.0, 240.0, 56.0]])
    v = torch.tensor([[40.0, 40.0, 40.0, 37.0, 160.0, 40.0]])
    depth = torch.tensor([[2.0, second, between, 1.0, 200.0, 30.0]])
    got = chance_of_depth(chances, u, v, depth)[0]
    torch.testing.assert_close(
        got, 16.0 * torch.tensor([0.25, 0.5, 0.375, 0.25, 1.0, 0.0]), atol=4e-2, rtol=0.0
    )


def test_lift_passes_half_its_features_where_the_depth_is_likely() -> None:
    """GIVEN a camera that is sure of 20 m everywhere, THEN cells at 20 m get all features."""
    lift = Lift(Grid(), SMALL)
    lift.mix = torch.nn.Identity()
    place = 63.0 * math.log(20.4 / 2.0) / math.log(32.0)  # the middle of the cell at 20 m
    depth = torch.zeros(1, 1, 48, 80, DEPTH_BINS)
    depth[..., int(place)], depth[..., int(place) + 1] = 1.0, 1.0
    features = torch.ones(1, 1, SMALL.lift_map, 96, 160)
    with torch.no_grad():
        got = lift(features, depth, CAMERA[None], torch.ones(1, 1))[0]
    at = {x: int((x + 25.6) / 0.8) for x in (12.0, 20.0, 40.0)}
    lowest = got[: SMALL.lift_map + 2, :, 32]
    assert lowest[0, at[20.0]] == pytest.approx(16.0, abs=0.2)
    assert lowest[0, at[12.0]] == 0.0
    assert lowest[0, at[40.0]] == 0.0
    for x in at.values():
        assert lowest[SMALL.lift_map - 1, x] == 1.0
        assert lowest[SMALL.lift_map + 1, x] == 1.0  # seen
    assert (got[:, 0] == 0.0).all()  # behind


# ----------------------------------------------------------------------------- pillars


def test_pillars_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    grid, encoder = Grid(), PillarEncoder(Grid(), SMALL)
    points = rng.uniform([-30, -30, -2, -0.5, 0], [55, 30, 5, 1.5, 0.1], (3000, 5))
    points[:800, :2] = rng.uniform(3.0, 5.0, (800, 2))  # crowded pillars
    points = points.astype(np.float32)
    paint = rng.standard_normal((3000, SMALL.paint)).astype(np.float32)
    seen = (rng.random(3000) < 0.5).astype(np.float32)
    expected = np.zeros((grid.height_bins, grid.nx, grid.ny))
    groups: dict[tuple[int, int], list[int]] = {}
    for n, (x, y, z, _, _) in enumerate(points):
        if not (-25.6 <= x < 51.2 and -25.6 <= y < 25.6 and -1.0 <= z < 4.0):
            continue
        ix, iy = math.floor((x + 25.6) / 0.4), math.floor((y + 25.6) / 0.4)
        expected[math.floor((z + 1.0) / 0.3125), ix, iy] = 1.0
        groups.setdefault((ix, iy), []).append(n)

    batch = torch.from_numpy(points)[None]
    valid = encoder.valid(batch, torch.ones(1, 1))
    got = encoder(batch, valid, torch.from_numpy(paint)[None], torch.from_numpy(seen)[None])[0]

    assert len(groups) > 500
    # float32 division may put a point on a bin's very edge into the neighbour
    assert (got[:16].numpy() != expected).sum() <= 4
    for (ix, iy), members in list(groups.items())[:400]:
        column = got[16:, ix, iy].numpy()
        assert column[0] == pytest.approx(0.25 * math.log1p(len(members)), rel=1e-4)
        intensity = np.clip(points[members, 3], 0.0, 1.0)
        assert column[1] == pytest.approx(intensity.mean(), abs=1e-4)
        assert column[2] == pytest.approx(seen[members].mean(), abs=1e-5)
        visible = [m for m in members if seen[m]]
        mean = paint[visible].mean(0) if visible else np.zeros(SMALL.paint)
        np.testing.assert_allclose(column[3:], mean, atol=1e-4)


def test_rows_that_are_no_points_change_nothing(net: FusionNet, frame: Frame) -> None:
    inputs = inputs_of(frame)
    rubbish = torch.tensor(
        [
            [math.nan] * 5,
            [1.0, 2.0, math.nan, 0.5, 0.0],
            [math.inf, 0.0, 1.0, 0.5, 0.0],
            [-math.inf, 0.0, 1.0, 0.5, 0.0],
            [51.2, 0.0, 1.0, 0.5, 0.0],
            [5.0, 0.0, 4.0, 0.5, 0.0],
            [3e38, 3e38, 3e38, 3e38, 3e38],
        ]
    )
    with_rubbish = [torch.cat([inputs[0], rubbish]), *inputs[1:]]
    assert same(answer(net, inputs), answer(net, with_rubbish))
    one_more = torch.tensor([[8.0, 0.0, 1.0, 0.5, 0.0]])
    assert not same(
        answer(net, inputs), answer(net, [torch.cat([inputs[0], one_more]), *inputs[1:]])
    )


def test_intensity_that_is_no_number_counts_as_zero(net: FusionNet, frame: Frame) -> None:
    inputs = inputs_of(frame)
    dark, broken = inputs[0].clone(), inputs[0].clone()
    dark[:, 3], broken[:, 3] = 0.0, math.nan
    assert same(answer(net, [dark, *inputs[1:]]), answer(net, [broken, *inputs[1:]]))


# ------------------------------------------------------------------------- withholding


def test_withheld_points_are_the_same_as_none(net: FusionNet, frame: Frame) -> None:
    inputs = inputs_of(frame)
    withheld = [inputs[0], *inputs[1:3], torch.zeros(1), inputs[4]]
    absent = [torch.zeros(1, 5), *inputs[1:3], torch.zeros(1), inputs[4]]
    assert same(answer(net, withheld), answer(net, absent))
    assert not same(answer(net, withheld), answer(net, inputs))


def test_withheld_image_is_the_same_as_none(net: FusionNet, frame: Frame) -> None:
    inputs = inputs_of(frame)
    withheld = [*inputs[:4], torch.zeros(1)]
    nothing = [inputs[0], torch.zeros_like(inputs[1]), torch.full((1, 3, 4), math.nan)]
    absent = [*nothing, inputs[3], torch.zeros(1)]
    assert same(answer(net, withheld), answer(net, absent))
    assert not same(answer(net, withheld), answer(net, inputs))


def test_no_points_is_not_the_same_as_no_lidar(net: FusionNet, frame: Frame) -> None:
    inputs = inputs_of(frame)
    empty = [torch.full((1, 5), math.nan), *inputs[1:]]
    absent = [torch.full((1, 5), math.nan), *inputs[1:3], torch.zeros(1), inputs[4]]
    assert not same(answer(net, empty), answer(net, absent))


def test_both_withheld_still_answers(net: FusionNet, frame: Frame) -> None:
    inputs = inputs_of(frame)
    boxes, scores, *_ = answer(net, [*inputs[:3], torch.zeros(1), torch.zeros(1)])
    assert torch.isfinite(boxes).all()
    assert torch.isfinite(scores).all()


def test_a_batch_is_its_frames(net: FusionNet, frame: Frame) -> None:
    shorter = keep(frame, np.arange(len(frame.points)) < 700)
    batch = collate([frame, shorter], [(1.0, 1.0), (1.0, 1.0)], net.grid)
    with torch.no_grad():
        maps = net(
            batch.points, batch.images, batch.pixel_from_base, batch.has_points, batch.has_image
        )
        scores = net.decode(maps)[1]
    for row, single in zip(scores, (frame, shorter), strict=True):
        torch.testing.assert_close(row, answer(net, inputs_of(single))[1], atol=1e-5, rtol=0.0)


# ---------------------------------------------------------------------------- decoding


def test_decode_of_a_handmade_map(net: FusionNet) -> None:
    nx, ny = net.grid.nx, net.grid.ny
    heat = torch.full((1, 3, nx, ny), -12.0)
    boxes = torch.zeros(1, 10, nx, ny)
    heat[0, 0, 40, 30], heat[0, 0, 41, 30] = 2.0, 1.0  # the second is no peak
    heat[0, 2, 41, 30] = 0.0  # but in another class it is
    heat[0, 1, 191, 127] = 3.0
    boxes[0, :, 40, 30] = torch.tensor(
        [0.25, 0.75, 0.9, math.log(4.0), math.log(2.0), math.log(1.5), 1.0, 0.0, 3.0, -1.0]
    )
    boxes[0, 7, 191, 127] = -1.0
    boxes[0, 3, 191, 127] = 1e9  # a size that would overflow is held back
    spreads = torch.zeros(1, 5, nx, ny)
    spreads[0, 0, 40, 30], spreads[0, 4, 40, 30] = math.log(0.2), math.log(1.5)
    heat[0, 0, 43, 30] = 1.9  # 1.2 m away: of cars, too near to be another
    got, scores, labels, errors = net.decode(Maps(heat, boxes, spreads, None, None))
    assert errors.shape == (1, TOP_K, 5)
    assert errors[0, 1].tolist() == pytest.approx([0.2, 1.0, 1.0, 1.0, 1.5])
    assert got.shape == (1, TOP_K, 9)
    assert labels.dtype == torch.int64
    assert labels[0, :3].tolist() == [1, 0, 2]
    expected = [1.0 / (1.0 + math.exp(-x)) for x in (3.0, 2.0, 0.0)]
    assert scores[0, :3].tolist() == pytest.approx(expected, rel=1e-5)
    assert scores[0, 3] < 0.01
    assert got[0, 1].tolist() == pytest.approx(
        [-25.6 + 40.25 * 0.4, -25.6 + 30.75 * 0.4, 0.9, 4.0, 2.0, 1.5, math.pi / 2, 3.0, -1.0],
        abs=1e-4,
    )
    assert got[0, 0, 6].item() == pytest.approx(math.pi, abs=1e-5)
    assert torch.isfinite(got).all()


def test_size_of_the_network() -> None:
    assert sum(p.numel() for p in FusionNet().parameters()) < 3_500_000


# ------------------------------------------------------------------------ networks of one sense


@pytest.mark.parametrize("senses", ["lidar", "camera"])
def test_a_network_of_one_sense_does_not_look_at_the_other(senses: str, frame: Frame) -> None:
    torch.manual_seed(5)
    net = FusionNet(widths=SMALL, senses=senses).eval()
    inputs = inputs_of(frame)
    dark = [inputs[0], torch.zeros_like(inputs[1]), torch.zeros_like(inputs[2]), *inputs[3:]]
    bare = [torch.zeros(1, 5), *inputs[1:]]
    blind, deaf = (dark, bare) if senses == "lidar" else (bare, dark)
    assert same(answer(net, inputs), answer(net, blind))
    assert not same(answer(net, inputs), answer(net, deaf))
    if senses == "lidar":
        assert not any(name.startswith(("image.", "lift.")) for name in net.state_dict())


def test_a_frozen_trunk_learns_nothing() -> None:
    net = FusionNet(widths=SMALL)
    net.freeze_trunk()
    net.train()
    assert not any(p.requires_grad for p in net.image.trunk.parameters())
    assert not net.image.trunk.training
    assert net.image.smooth.training
    assert net.bev.training


def test_a_trunk_may_learn_beyond_stride_8_only() -> None:
    """GIVEN a trunk that learns late only, WHEN a picture's loss goes back, THEN the layers up to
    stride 8 have no gradient, those after it have one, and no statistics move."""
    torch.manual_seed(0)
    net = FusionNet(widths=SMALL)
    net.freeze_trunk(but_late=True)
    net.train()
    trunk = net.image.trunk
    before = {n: v.clone() for n, v in trunk.named_buffers()}
    maps = trunk(torch.rand(1, 3, 32, 32) * 255.0)
    sum(m.sum() for m in maps).backward()
    late = set(trunk.late_parameters())
    learned = {p for p in trunk.parameters() if p.grad is not None}
    assert late == learned
    assert len(late) > 20
    assert not any(p in late for p in trunk.blocks[trunk.ends[2]].parameters())
    assert all(torch.equal(before[n], v) for n, v in trunk.named_buffers())


def test_trust_is_none_in_what_is_absent() -> None:
    torch.manual_seed(2)
    join = Join(SMALL).eval()
    points, image = torch.randn(1, SMALL.bev2, 4, 4), torch.randn(1, SMALL.lift, 4, 4)
    with torch.no_grad():
        alone = join(points, image * 0.0, torch.tensor([[1.0, 0.0]]))
        both = join(points, image, torch.tensor([[1.0, 1.0]]))
        nothing = join(points, image, torch.zeros(1, 2))
    assert not torch.equal(alone, both)
    assert torch.equal(nothing, join(points * 0.0, image * 0.0, torch.ones(1, 2)))
