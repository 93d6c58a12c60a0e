"""The whole fusion network: bytes and points in, boxes out, in one file.

The road through it, for one sample (a leading batch axis is there in training only):

    images u8 ── trunk, neck ──► maps at stride 4 ──┬─ sampled at every point ──┐ (painting)
                     └─► depth at every pixel ──┐   │                           ▼
    points ── voxel occupancy, per-pillar means ┼───┼─────────────────────► pillars, 0.4 m
                                                ▼   ▼                           │ stride 2
                         sampled at BEV cells, at four heights (lifting) ──► trust, join
                                                                                │
      boxes ◄── decode ◄── gate ◄──┬── head ◄── BEV backbone with attention ◄───┘
                                   └── expert: the same again, of the bare pillars alone

Everything is in the frame ``base_link`` (x forward, y left, z up, metres). A bird's-eye map is
indexed [ix, iy]: ix grows with x, iy with y. A sensor that is absent (its flag is 0) contributes
exactly nothing, whatever its buffer holds. The trunk is in encoders.py, the geometry of
pictures in views.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_fusion.training.encoders import LITE0, make_trunk
from mm_fusion.training.frames import CLASSES
from mm_fusion.training.grid import Grid
from mm_fusion.training.layers import Attention, Residual, conv, upsample
from mm_fusion.training.views import (
    DEPTH_BINS,
    chance_of_depth,
    gather_cameras,
    ground_hint,
)

SENSES = ("fused", "camera", "lidar")
TOP_K = 100
MAX_ABS_LOG_SIZE = 4.0
REGRESSION_CHANNELS = 10  # offset 2, z 1, log size 3, sin cos yaw 2, velocity 2
SPREAD_CHANNELS = 5  # logarithms of the mean errors of x y, z, size, yaw and velocity
PEAK_CELLS = (7, 3, 3)  # no two objects of a class have centres closer than half of it
SEGMENTATION_CLASSES = 1 + len(CLASSES)
Answer = tuple[Tensor, Tensor, Tensor]  # heat, boxes, spreads: see Head


@dataclass(frozen=True)
class Widths:
    """Channel counts: the only thing to touch for a smaller or larger network."""

    image8: int = 64
    image16: int = 96
    image_map: int = 24
    paint: int = 8
    lift_map: int = 16
    lift: int = 32
    bev2: int = 48
    bev4: int = 80
    bev8: int = 128
    heads: int = 4


class ImageEncoder(nn.Module):
    """uint8 RGB [N,H,W,3] to maps for lifting [N,lift_map,H/4,W/4] and for painting
    [N,paint,H/4,W/4], and depth logits [N,DEPTH_BINS,H/8,W/8].

    The first four paint channels are class logits (background, then CLASSES): segmentation trains
    them. The LIDAR teaches depth.
    """

    def __init__(self, w: Widths, encoder: str, pretrained: bool) -> None:
        super().__init__()
        self.trunk = make_trunk(encoder, pretrained)
        self.trunk_learns = True
        c4, c8, c16 = self.trunk.channels
        self.stage16 = nn.Sequential(conv(c16, w.image16, 1), Residual(w.image16))
        self.from16 = nn.Conv2d(w.image16, w.image8, 1)
        self.lateral8 = nn.Conv2d(c8, w.image8, 1)
        self.hint8 = nn.Conv2d(2, w.image8, 1, bias=False)
        self.merge8 = nn.Sequential(nn.BatchNorm2d(w.image8), nn.ReLU(), Residual(w.image8))
        self.depth = nn.Conv2d(w.image8, DEPTH_BINS, 1)
        self.from8 = nn.Conv2d(w.image8, w.image_map, 1)
        self.lateral4 = nn.Conv2d(c4, w.image_map, 1)
        self.norm = nn.BatchNorm2d(w.image_map)
        self.smooth = conv(w.image_map, w.image_map)
        self.refine = Residual(w.image_map, silent=True)
        self.paint = nn.Conv2d(w.image_map, w.paint, 1)
        self.lift = nn.Conv2d(w.image_map, w.lift_map, 1)

    def train(self, mode: bool = True) -> ImageEncoder:
        super().train(mode)
        if not self.trunk_learns:
            self.trunk.eval()  # batch norm keeps ImageNet's statistics
        return self

    def forward(self, images: Tensor, pixel_from_base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x4, x8, x16 = self.trunk(images.permute(0, 3, 1, 2).to(torch.float32))
        x16 = self.stage16(x16)
        hint = ground_hint(pixel_from_base, *x8.shape[2:])
        x8 = self.merge8(self.lateral8(x8) + upsample(self.from16(x16)) + self.hint8(hint))
        features = self.smooth(F.relu(self.norm(upsample(self.from8(x8)) + self.lateral4(x4))))
        features = self.refine(features)
        return self.lift(features), self.paint(features), self.depth(x8)


class PillarEncoder(nn.Module):
    """Points to a bird's-eye map [B,channels,nx,ny] of occupancy by height and pillar means.

    Channels: ``height_bins`` of 0/1 occupancy; log count; mean intensity; the share of the
    pillar's points that a camera sees; the mean of those points' painted features.
    Rows with a non-finite or out-of-range coordinate take no part (padding is made of NaN).
    """

    def __init__(self, grid: Grid, w: Widths) -> None:
        super().__init__()
        self.grid = grid
        self.channels = grid.height_bins + 3 + w.paint

    def valid(self, points: Tensor, has_points: Tensor) -> Tensor:
        """[B,P] bool: inside the grid and wanted. Comparisons with NaN are false."""
        g = self.grid
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        inside = (x >= g.x_min_m) & (x < g.x_max_m) & (y >= g.y_min_m) & (y < g.y_max_m)
        return inside & (z >= g.z_min_m) & (z < g.z_max_m) & (has_points > 0.5)

    def forward(self, points: Tensor, valid: Tensor, paint: Tensor, seen: Tensor) -> Tensor:
        """``points`` [B,P,5] without NaN, ``paint`` [B,P,paint], ``seen`` [B,P] 0/1 float."""
        g = self.grid
        batch, cells = points.shape[0], g.nx * g.ny
        ix = ((points[..., 0] - g.x_min_m) / g.pillar_m).to(torch.int64).clamp(0, g.nx - 1)
        iy = ((points[..., 1] - g.y_min_m) / g.pillar_m).to(torch.int64).clamp(0, g.ny - 1)
        bin_m = (g.z_max_m - g.z_min_m) / g.height_bins
        iz = ((points[..., 2] - g.z_min_m) / bin_m).to(torch.int64).clamp(0, g.height_bins - 1)
        cell = ix * g.ny + iy
        number = torch.arange(batch, device=points.device).unsqueeze(1)

        # one spare slot at the end swallows the invalid rows
        spare = batch * g.height_bins * cells
        voxel = torch.where(valid, (number * g.height_bins + iz) * cells + cell, spare)
        ones = torch.ones_like(voxel, dtype=torch.float32).reshape(-1)
        occupancy = torch.zeros(spare + 1, device=points.device)
        occupancy = occupancy.scatter(0, voxel.reshape(-1), ones)[:spare]
        occupancy = occupancy.reshape(batch, g.height_bins, g.nx, g.ny)

        positive = torch.where(points[..., 3] > 0.0, points[..., 3], torch.zeros_like(seen))
        values = torch.cat(
            [
                torch.ones_like(seen).unsqueeze(-1),
                positive.clamp(max=1.0).unsqueeze(-1),
                seen.unsqueeze(-1),
                paint * seen.unsqueeze(-1),
            ],
            dim=-1,
        )
        width = values.shape[-1]
        spare = batch * cells
        row = torch.where(valid, number * cells + cell, spare).reshape(-1, 1).expand(-1, width)
        sums = torch.zeros(spare + 1, width, device=points.device)
        sums = sums.scatter_add(0, row, values.reshape(-1, width))[:spare]
        sums = sums.reshape(batch, g.nx, g.ny, width).permute(0, 3, 1, 2)
        count, share = sums[:, 0:1], sums[:, 2:3]
        means = sums[:, 1:3] / count.clamp(min=1.0)
        painted = sums[:, 3:] / share.clamp(min=1.0)
        return torch.cat([occupancy, torch.log1p(count) * 0.25, means, painted], dim=1)


class Lift(nn.Module):
    """Image features into the bird's-eye map: every cell looks at what the camera shows at it.

    Each cell's vertical axis is sampled at HEIGHTS_M (idea: Harley et al., Simple-BEV, 2022). A
    cell at the foot of an object sees its contact with the ground at the lowest height, which
    carries depth; and half of the features pass only as far as the image is likely to show
    something at the sample's depth (idea: Philion and Fidler, Lift, splat, shoot, 2020).
    """

    HEIGHTS_M = (0.0, 0.6, 1.2, 1.8)

    def __init__(self, grid: Grid, w: Widths) -> None:
        super().__init__()
        self.shape = nx, ny = grid.bev_shape
        xs = grid.x_min_m + (torch.arange(nx) + 0.5) * grid.bev_cell_m
        ys = grid.y_min_m + (torch.arange(ny) + 0.5) * grid.bev_cell_m
        gx, gy = torch.meshgrid(xs, ys, indexing="ij")
        per_height = [torch.stack([gx, gy, torch.full_like(gx, z)], -1) for z in self.HEIGHTS_M]
        # the heights of a cell lie side by side, so that a reshape makes them channels
        self.register_buffer("at", torch.stack(per_height, 2).reshape(-1, 3), persistent=False)
        self.gated = w.lift_map // 2
        self.channels = len(self.HEIGHTS_M) * (w.lift_map + 2)
        self.mix = nn.Sequential(conv(self.channels, w.lift, 1), conv(w.lift, w.lift))

    def forward(
        self, features: Tensor, depth: Tensor, pixel_from_base: Tensor, has_image: Tensor
    ) -> Tensor:
        """``features`` [B,C,lift_map,h,w], ``depth`` chances [B,C,h',w',DEPTH_BINS],
        ``pixel_from_base`` [B,C,3,4], ``has_image`` [B,C]."""
        batch = has_image.shape[0]
        at = self.at.unsqueeze(0).expand(batch, -1, -1)

        def gate(c: int, values: Tensor, u: Tensor, v: Tensor, depth_m: Tensor) -> Tensor:
            fits = chance_of_depth(depth[:, c], u, v, depth_m).unsqueeze(-1)
            passed = values[..., : self.gated] * fits
            return torch.cat([passed, values[..., self.gated :], fits.clamp(max=4.0)], -1)

        values, seen = gather_cameras(features, at, pixel_from_base, has_image, gate)
        both = torch.cat([values * seen.unsqueeze(-1), seen.unsqueeze(-1)], -1)
        nx, ny = self.shape
        flat = both.reshape(batch, nx, ny, self.channels).permute(0, 3, 1, 2)
        return self.mix(flat) * (has_image.sum(1) > 0.5).to(flat.dtype).reshape(batch, 1, 1, 1)


class Join(nn.Module):
    """Points and image into one bird's-eye map, each weighed by how far it is to be trusted there.

    Both maps together say, cell by cell, how much of each passes: where they contradict each
    other one of them is wrong. What is absent has no weight.
    """

    TRUSTED = 2.0  # the trust's logit before anything is learned

    def __init__(self, w: Widths, sees: bool = True) -> None:
        """``sees``: whether there ever is an image."""
        super().__init__()
        self.points = nn.Conv2d(w.bev2, w.bev2, 1, bias=False)
        self.image = nn.Conv2d(w.lift, w.bev2, 1, bias=False) if sees else None
        self.norm = nn.BatchNorm2d(w.bev2)
        known = w.bev2 + w.lift if sees else w.bev2
        self.trust = nn.Sequential(conv(known, 16, 3), nn.Conv2d(16, 2, 1))
        nn.init.constant_(self.trust[1].bias, self.TRUSTED)

    def forward(self, points: Tensor, image: Tensor | None, has: Tensor) -> Tensor:
        """``points`` [B,bev2,nx,ny], ``image`` [B,lift,nx,ny] if it sees, ``has`` [B,2] 0 or 1."""
        known = points if image is None else torch.cat([points, image], 1)
        trust = torch.sigmoid(self.trust(known)) * has[:, :, None, None]
        joined = self.points(points * trust[:, 0:1])
        if image is not None and self.image is not None:
            joined = joined + self.image(image * trust[:, 1:2])
        return F.relu(self.norm(joined))


class BevBackbone(nn.Module):
    """Strides 2, 4 and 8 of the pillar grid, attention at the coarsest, and back up to 2."""

    def __init__(self, grid: Grid, w: Widths, pillar_channels: int, sees: bool = True) -> None:
        super().__init__()
        self.down2 = conv(pillar_channels, w.bev2, 4, 2)
        self.join = Join(w, sees)
        self.stage2 = Residual(w.bev2)
        self.stage4 = nn.Sequential(conv(w.bev2, w.bev4, 2, 2), Residual(w.bev4), Residual(w.bev4))
        self.stage8 = nn.Sequential(conv(w.bev4, w.bev8, 2, 2), Residual(w.bev8))
        self.attention = Attention(w.bev8, w.heads, (grid.nx // 8, grid.ny // 8))
        self.up4 = conv(w.bev8, w.bev4, 1)
        self.merge4 = conv(w.bev4, w.bev4)
        self.up2 = conv(w.bev4, w.bev2, 1)

    def forward(self, pillars: Tensor, lifted: Tensor | None, has: Tensor) -> Tensor:
        x2 = self.stage2(self.join(self.down2(pillars), lifted, has))
        x4 = self.stage4(x2)
        x8 = self.attention(self.stage8(x4), has)
        x4 = self.merge4(x4 + upsample(self.up4(x8)))
        return x2 + upsample(self.up2(x4))


class Head(nn.Module):
    """Class heat map logits [B,3,nx,ny], box regressions [B,10,nx,ny] (Yin et al., 2021), and the
    logarithms of the errors that these are likely to have [B,5,nx,ny].

    Each cell of the backbone's map speaks for its four pillars, so that people who walk side by
    side keep a peak each.
    """

    def __init__(self, w: Widths) -> None:
        super().__init__()
        self.shared = conv(w.bev2, w.bev2)
        self.heat = nn.Sequential(
            conv(w.bev2, w.bev2), nn.Conv2d(w.bev2, 4 * len(CLASSES), 1), nn.PixelShuffle(2)
        )
        said = 4 * (REGRESSION_CHANNELS + SPREAD_CHANNELS)
        self.boxes = nn.Sequential(
            conv(w.bev2, w.bev2), nn.Conv2d(w.bev2, said, 1), nn.PixelShuffle(2)
        )
        nn.init.constant_(self.heat[1].bias, -4.0)  # few cells hold an object

    def forward(self, x: Tensor) -> Answer:
        x = self.shared(x)
        said = self.boxes(x).float()
        return self.heat(x).float(), said[:, :REGRESSION_CHANNELS], said[:, REGRESSION_CHANNELS:]


class Expert(nn.Module):
    """A second opinion, of the points alone, and how much it counts, cell by cell.

    Backbone and head are those of a LIDAR network, which looks at nothing else and so is better
    where points are all there is to go by, and untouched where the picture is wrong. A gate sees
    both roads' maps and says, for each class and for the box, which share the joint answer has
    (mixture of experts: Jacobs et al., 1991). Without points the joint answer is all there is.
    """

    def __init__(self, grid: Grid, w: Widths) -> None:
        super().__init__()
        self.channels = grid.height_bins + 2  # of the pillars: what the points alone give
        self.bev = BevBackbone(grid, w, self.channels, sees=False)
        self.head = Head(w)
        self.gate = nn.Sequential(
            conv(2 * w.bev2 + w.lift, 24, 1),
            conv(24, 16),
            nn.Conv2d(16, 4 * (len(CLASSES) + 1), 1),
            nn.PixelShuffle(2),
        )
        self.learns = True

    def train(self, mode: bool = True) -> Expert:
        super().train(mode)
        self.bev.train(mode and self.learns)
        self.head.train(mode and self.learns)
        return self

    def forward(
        self, pillars: Tensor, joint: Tensor, lifted: Tensor, has: Tensor, said: Answer
    ) -> Answer:
        """``pillars`` as of PillarEncoder; ``joint`` [B,bev2,nx,ny] and ``said``: the joint road's
        map and answer; ``lifted`` [B,lift,nx,ny]; ``has`` [B,2]."""
        points = has[:, :1]
        x = self.bev(
            pillars[:, : self.channels].detach(),  # nobody painted these: there is nothing to learn
            None,
            torch.cat([points, torch.zeros_like(points)], 1),
        )
        share = torch.sigmoid(self.gate(torch.cat([joint, x, lifted], 1)).float())
        share = 1.0 - (1.0 - share) * points.reshape(-1, 1, 1, 1)
        by_class, box = share[:, : len(CLASSES)], share[:, len(CLASSES) :]
        shares, own = (by_class, box, box), self.head(x)
        each = zip(shares, said, own, strict=True)
        heat, boxes, spreads = (w * s + (1.0 - w) * o for w, s, o in each)
        return heat, boxes, spreads


@dataclass
class Maps:
    """What the head says about every cell, before decoding."""

    heat: Tensor  # [B,3,nx,ny] logits
    boxes: Tensor  # [B,10,nx,ny]
    spreads: Tensor  # [B,5,nx,ny]
    segmentation: Tensor | None  # [B*C,4,H/4,W/4] logits; training only
    depth: Tensor | None  # [B*C,DEPTH_BINS,H/8,W/8] logits; training only


class FusionNet(nn.Module):
    """The network over a batch; ``forward`` gives maps, ``decode`` turns maps into boxes.

    ``senses`` "lidar" or "camera" makes the network of one sense alone: the other's part is left
    out and its inputs are not looked at.
    """

    def __init__(
        self,
        grid: Grid | None = None,
        widths: Widths | None = None,
        senses: str = "fused",
        encoder: str = LITE0,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.grid = grid or Grid()
        self.senses, self.encoder = senses, encoder
        self.widths = w = widths or Widths()
        self.pillars = PillarEncoder(self.grid, w)
        if senses != "lidar":
            self.image = ImageEncoder(w, encoder, pretrained)
            self.lift = Lift(self.grid, w)
        self.bev = BevBackbone(self.grid, w, self.pillars.channels)
        self.head = Head(w)
        if senses == "fused":
            self.expert = Expert(self.grid, w)
        # What makes a score the chance that its box is right; fitted after training.
        self.register_buffer("score_scale", torch.ones(len(CLASSES)))
        self.register_buffer("score_shift", torch.zeros(len(CLASSES)))

    def freeze_trunk(self, but_late: bool = False) -> None:
        """Keep the image trunk's weights and statistics as they are from now on; ``but_late``
        lets the weights beyond stride 8 learn."""
        if self.senses != "lidar":
            self.image.trunk.requires_grad_(False)
            self.image.trunk_learns = False
            for parameter in self.image.trunk.late_parameters() if but_late else ():
                parameter.requires_grad_(True)

    def freeze_expert(self) -> None:
        """Keep the points' expert as it is from now on, but for its gate."""
        self.expert.bev.requires_grad_(False)
        self.expert.head.requires_grad_(False)
        self.expert.learns = False

    def forward(
        self,
        points: Tensor,
        images: Tensor,
        pixel_from_base: Tensor,
        has_points: Tensor,
        has_image: Tensor,
    ) -> Maps:
        """Shapes: points [B,P,5], images u8 [B,C,H,W,3], [B,C,3,4], [B,1], [B,C]."""
        if self.senses == "lidar":
            has_image = has_image * 0.0
        if self.senses == "camera":
            has_points = has_points * 0.0
        any_image = (has_image.sum(1, keepdim=True) > 0.5).to(torch.float32)
        has = torch.cat([(has_points > 0.5).to(torch.float32), any_image], dim=1)
        if self.senses == "camera":
            points = points[:, :1]
        valid = self.pillars.valid(points, has_points)
        points = torch.where(valid.unsqueeze(-1), points, torch.zeros_like(points))
        if self.senses == "lidar":
            batch, count = points.shape[:2]
            painted, seen = points.new_zeros(batch, count, self.widths.paint), points[..., 0] * 0.0
            lifted = points.new_zeros(batch, self.widths.lift, *self.grid.bev_shape)
            segmentation = depth = None
        else:
            painted, seen, lifted, segmentation, depth = self.look(
                points, images, pixel_from_base, has_image
            )
        pillars = self.pillars(points, valid, painted, seen)
        joint = self.bev(pillars, lifted, has)
        said = self.head(joint)
        if self.senses == "fused":
            said = self.expert(pillars, joint, lifted, has, said)
        return Maps(*said, segmentation, depth)

    def look(
        self, points: Tensor, images: Tensor, pixel_from_base: Tensor, has_image: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What the images give: paint [B,P,paint] and seen [B,P] of the points, the lifted map
        [B,lift,nx,ny], and the logits of segmentation and depth."""
        batch, cameras = has_image.shape
        known = (has_image > 0.5).reshape(batch, cameras, 1, 1)
        pixel_from_base = torch.where(known, pixel_from_base, torch.zeros_like(pixel_from_base))
        maps = self.image(images.flatten(0, 1), pixel_from_base.flatten(0, 1))
        features, paint, depth = (m.float() for m in maps)
        chances = torch.softmax(depth.permute(0, 2, 3, 1), -1)  # over the last axis: faster
        each = [m.reshape(batch, cameras, *m.shape[1:]) for m in (features, paint, chances)]
        painted, seen = gather_cameras(each[1], points[..., :3], pixel_from_base, has_image)
        lifted = self.lift(each[0], each[2], pixel_from_base, has_image)
        return painted, seen, lifted, paint[:, :SEGMENTATION_CLASSES], depth

    def decode(self, maps: Maps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes [B,K,9], scores [B,K], labels i64 [B,K], best first, without NMS, and the errors
        [B,K,5] that x y, z, size, yaw and velocity are likely to have.

        A cell answers where its score is the largest around it (PEAK_CELLS) in its class.
        """
        grid, nx, ny = self.grid, self.grid.nx, self.grid.ny
        batch, cells = maps.heat.shape[0], nx * ny
        scale, shift = self.score_scale, self.score_shift
        heat = torch.sigmoid(maps.heat * scale[:, None, None] + shift[:, None, None])
        peaks = [
            F.max_pool2d(heat[:, n : n + 1], size, stride=1, padding=size // 2)
            for n, size in enumerate(PEAK_CELLS)
        ]
        peaks = torch.cat(peaks, 1)
        kept = torch.where(heat >= peaks, heat, torch.zeros_like(heat))
        scores, index = torch.topk(kept.flatten(1), TOP_K, dim=1, sorted=True)
        labels = index // cells
        cell = index - labels * cells
        said = torch.cat([maps.boxes, maps.spreads], 1)
        rows = said.flatten(2).transpose(1, 2).reshape(batch * cells, said.shape[1])
        base = torch.arange(batch, device=cell.device).unsqueeze(1) * cells
        r = rows.index_select(0, (cell + base).reshape(-1)).reshape(batch, TOP_K, -1)
        ix, iy = (cell // ny).to(r.dtype), (cell % ny).to(r.dtype)
        x = grid.x_min_m + (ix + r[..., 0]) * grid.pillar_m
        y = grid.y_min_m + (iy + r[..., 1]) * grid.pillar_m
        size = torch.exp(r[..., 3:6].clamp(-MAX_ABS_LOG_SIZE, MAX_ABS_LOG_SIZE))
        yaw = torch.atan2(r[..., 6], r[..., 7])
        boxes = torch.cat(
            [torch.stack([x, y, r[..., 2]], -1), size, yaw.unsqueeze(-1), r[..., 8:10]], dim=-1
        )
        spreads = torch.exp(r[..., REGRESSION_CHANNELS:].clamp(-5.0, 3.0))
        return boxes, scores, labels, spreads


class DeployedNet(nn.Module):
    """The contract's signature: one sample without a batch axis, boxes out. This is exported."""

    def __init__(self, net: FusionNet) -> None:
        super().__init__()
        self.net = net

    def forward(
        self,
        points: Tensor,
        images: Tensor,
        pixel_from_base: Tensor,
        has_points: Tensor,
        has_image: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inputs = (points, images, pixel_from_base, has_points, has_image)
        maps = self.net(*(value.unsqueeze(0) for value in inputs))
        boxes, scores, labels, spreads = self.net.decode(maps)
        return boxes.squeeze(0), scores.squeeze(0), labels.squeeze(0), spreads.squeeze(0)
