"""Which LIDAR points are those of a camera detector's box.

In the box lie the object's points, those of what stands before it, and those of what is behind.
Clusters tell them apart: the object's is the one that fills the box, lies within it, and is about
as far away as its height in the picture says. Near objects take their points first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from mm_fusion.perception.camera2d.boxes import Prior
from mm_fusion.perception.camera2d.solid import Solid, runs

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Index = npt.NDArray[np.intp]

NEAREST_M = np.float32(0.5)  # to the camera
LEAST_POINTS = 2
RANGE_SIGMA = 0.25  # of the logarithm of the range that a height in the picture tells,
NEARER_SIGMA = 0.35  # or of what is nearer: the box may miss what is hidden
HEIGHT_AT = 0.25  # of the usual length behind an object's front it is as tall as its box
LEAST_MOST = 0.1  # what a cluster has for certain of a box's points
WORST_RANGE = 0.02
LEAST_COVER, LEAST_WITHIN = 0.05, 0.05  # what a cluster has for certain of either
SHARED_PRICE, MOST_SHARING = 0.6, 3
PART_DEPTH_M, PART_ACROSS_M = 2.0, 0.6  # between the parts of one object
PART_WITHIN = 0.7  # of a part that lies within the box
PART_TIMES = 3.0
BORDER_PX, BORDER_SHARE = 2.0, 0.08  # a box that ends so near the picture's border is cut off
TAKEN_SHARE = 0.6  # of whose points nearer objects took that much is hidden, or
TWICE_OVER = 0.8  # seen twice, where that much of it lies over one of them


class Seen(NamedTuple):
    """One box of a camera detector: left, top, right, bottom in px of the rectified picture."""

    box: F64
    score: float
    label: str
    kind: str
    prior: Prior


class InView(NamedTuple):
    """The N points that a camera can see: ``extent`` [4,N] their depths and offsets to the right
    (m) and pixels; their clusters [N], and which points of the solid ones they are [N], both
    ascending; and how many each cluster has."""

    extent: F32
    labels: I32
    rows: Index
    sizes: Index


class Match(NamedTuple):
    """A box with its points (indices of the cloud), none where nothing fits; ``twice`` where a
    better box has them. ``clusters`` names the clusters that they are of."""

    points: Index
    twice: bool = False
    clusters: tuple[int, ...] = ()


def cut_off(box: F64, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which sides [4] (left, top, right, bottom) of a box the border of a picture of ``size``
    (width, height) cuts off. Detectors hardly ever draw a box up to the very border."""
    left, top, right, bottom = box.tolist()
    wide = BORDER_PX + BORDER_SHARE * (right - left)
    tall = BORDER_PX + BORDER_SHARE * (bottom - top)
    beyond = size[0] - 0.5 - right, size[1] - 0.5 - bottom
    near = (left + 0.5 < wide, top + 0.5 < tall, beyond[0] < wide, beyond[1] < tall)
    return np.array(near)


def in_view(pixel_from_base: F64, size: tuple[int, int], solid: Solid) -> InView:
    """The points that fall into a picture of ``size`` (width, height)."""
    p = pixel_from_base.astype(np.float32)
    # Clusters of which no point can be there are not looked at.
    some = np.flatnonzero(np.repeat(_may_be_seen(pixel_from_base, size, solid), solid.counts))
    x, y, z = solid.xyz.take(some, axis=1)
    u, v, away = (row[0] * x + row[1] * y + row[2] * z + row[3] for row in p)
    away = np.maximum(away, NEAREST_M, out=away)
    u /= away
    v /= away
    there = (away > NEAREST_M) & (u > -0.5) & (v > -0.5)
    there &= (u < size[0] - 0.5) & (v < size[1] - 0.5)
    kept = np.flatnonzero(there)
    rows, u, v, away = (values.take(kept) for values in (some, u, v, away))
    labels = solid.labels.take(rows)
    focal = np.float32(np.linalg.norm(np.cross(p[0, :3], p[2, :3])))
    extent = np.stack([away, (u - np.float32(size[0] / 2.0)) * away / focal, u, v])
    return InView(extent, labels, rows, np.bincount(labels, minlength=1))


def _may_be_seen(
    pixel_from_base: F64, size: tuple[int, int], solid: Solid
) -> npt.NDArray[np.bool_]:
    """Which clusters [K] reach to the inner side of every plane that bounds what a camera sees."""
    u, v, w = pixel_from_base
    width, height = size
    inside = np.stack([w, u + 0.5 * w, v + 0.5 * w, (width - 0.5) * w - u, (height - 0.5) * w - v])
    middle, half = (solid.low + solid.high) / 2.0, (solid.high - solid.low) / 2.0
    reach = inside[:, :3] @ middle + inside[:, 3:] + np.abs(inside[:, :3]) @ half
    return np.asarray((reach > -1e-3).all(axis=0))


def associate(
    seen: list[Seen], view: InView, focal_px: float, size: tuple[int, int]
) -> list[Match]:
    """The points of every box of a picture of ``size`` (width, height), in the boxes' order."""
    choices = [_candidates(s, view, focal_px, size) for s in seen]
    mains = _assigned(choices)
    reserved = set(mains.values())
    bodies = {n: _body(seen[n], choices[n], c, view, reserved - {c}) for n, c in mains.items()}
    none = np.zeros(0, np.intp)
    out = [Match(none)] * len(seen)
    free = np.ones(len(view.rows), np.bool_)
    # Nearest first; of boxes about one cluster, the surer first.
    order = sorted(bodies, key=lambda n: (round(choices[n].near_of(mains[n])), -seen[n].score))
    for n in order:
        body = bodies[n]
        taken = body[~free[body]]
        if len(taken) > TAKEN_SHARE * len(body):
            takers = _takers(n, taken, seen, out, view)
            if any(_over(seen[n].box, seen[t].box) > TWICE_OVER for t in takers):
                out[n] = Match(none, twice=True)
                continue
            # Somebody behind or beside, of whom next to nothing is seen: about where those are.
            if takers:
                out[n] = Match(view.rows[body])
                continue
        left = body[free[body]]
        if len(left) >= LEAST_POINTS:
            free[left] = False
            names = tuple(np.unique(view.labels[left]).tolist())
            out[n] = Match(view.rows[left], clusters=names)
    return out


def _takers(n: int, taken: Index, seen: list[Seen], out: list[Match], view: InView) -> list[int]:
    """Those of the same class who took the points."""
    points = view.rows[taken]
    return [
        k
        for k, match in enumerate(out)
        if len(match.points)
        and seen[k].label == seen[n].label
        and np.isin(points, match.points).mean() > TAKEN_SHARE
    ]


def _over(a: F64, b: F64) -> float:
    """The share of the smaller of two boxes in the picture that lies within the other."""
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(float(np.prod(a[2:] - a[:2])), float(np.prod(b[2:] - b[:2])))
    return float(np.prod(np.maximum(size, 0.0))) / max(smaller, 1e-6)


class _Candidates(NamedTuple):
    """The clusters of which a box holds points, K of them: their names, how well each of them with
    its parts fits, their nearest depth, which go together [K,K]; the rows of the view, in K
    parts."""

    names: I32
    score: F64
    near: F32
    parts: npt.NDArray[np.bool_]
    rows: list[Index]

    def near_of(self, name: int) -> float:
        return float(self.near[np.flatnonzero(self.names == name)[0]])


def _candidates(s: Seen, view: InView, focal_px: float, size_px: tuple[int, int]) -> _Candidates:
    left, top, right, bottom = s.box
    u, v = view.extent[2:]
    rows = np.flatnonzero((u >= left) & (u <= right) & (v >= top) & (v <= bottom))
    labels = view.labels.take(rows)
    starts, counts = runs(labels)
    names = labels[starts]
    if not len(rows):
        nobody = np.zeros((0, 0), np.bool_)
        return _Candidates(names, np.zeros(0), np.zeros(0, np.float32), nobody, [])
    extent = view.extent.take(rows, axis=1)
    low = np.minimum.reduceat(extent, starts, axis=1)  # [4,K]
    high = np.maximum.reduceat(extent, starts, axis=1)
    inside = view.sizes[names]
    within = counts / inside
    parts = _parts(low[:2], high[:2], within, counts, s.prior.lengths[-1])
    # The extent in the picture, and the share within the box, of each cluster with its parts.
    low_uv = np.where(parts, low[2:, None], np.inf).min(axis=2)
    high_uv = np.where(parts, high[2:, None], -np.inf).max(axis=2)
    size = np.maximum([[right - left], [bottom - top]], 1.0)
    cover = np.minimum((high_uv - low_uv) / size, 1.0) + LEAST_COVER
    together = parts @ counts
    share = together / (parts @ inside)
    score = cover[0] * cover[1] * (LEAST_WITHIN + share) * (together >= LEAST_POINTS)
    # What is behind an object is seen past it only.
    score = score * (LEAST_MOST + together / len(rows))
    near = np.where(parts, low[0], np.inf).min(axis=1)
    depth, sigma, cut = _expected(s, focal_px, size_px)
    if depth > 0.0:
        off = np.log(np.maximum(near, 0.5) / depth)
        nearer = 0.0 if cut else -off / np.hypot(sigma, NEARER_SIGMA)
        off = np.where(off > 0.0, off / np.hypot(sigma, RANGE_SIGMA), nearer)
        score = score * np.maximum(np.exp(-0.5 * off**2), WORST_RANGE)
    each = [rows[i : i + n] for i, n in zip(starts.tolist(), counts.tolist(), strict=True)]
    return _Candidates(names, np.asarray(score), near.astype(np.float32), parts, each)


def _parts(
    low: F32, high: F32, within: F64, counts: Index, reach_m: float
) -> npt.NDArray[np.bool_]:
    """Which of K clusters may be parts of one object [K,K], from their extents in depth and across
    [2,K]: a car's rear and its windscreen are apart in depth, for its roof is not seen."""
    gap = np.maximum(low[:, :, None] - high[:, None], low[:, None] - high[:, :, None])
    whole = np.maximum(high[:, :, None], high[:, None]) - np.minimum(low[:, :, None], low[:, None])
    near = (gap[0] < min(PART_DEPTH_M, reach_m)) & (gap[1] < PART_ACROSS_M)
    near &= (whole < reach_m + PART_ACROSS_M).all(axis=0) & (within > PART_WITHIN)
    near &= counts < PART_TIMES * counts[:, None]  # what is much larger is no part
    np.fill_diagonal(near, True)
    return np.asarray(near)


def _expected(s: Seen, focal_px: float, size_px: tuple[int, int]) -> tuple[float, float, bool]:
    """The depth of the front that the box's height tells, the standard deviation of its logarithm
    that heights alone make, and whether the picture's border cuts the box off: then the object may
    be nearer, but hardly farther. 0 depth where the box is too flat to tell."""
    top, bottom = float(s.box[1]), float(s.box[3])
    mean, sigma = s.prior.height
    tall = bottom - top
    if tall < 4.0:
        return 0.0, 1.0, False
    cut = bool(cut_off(s.box, size_px)[[1, 3]].any())
    spread = float(np.hypot(sigma / mean, 2.0 / tall))
    front = focal_px * mean / tall - HEIGHT_AT * s.prior.length[0]
    return max(front, 0.5), spread, cut


def _assigned(choices: list[_Candidates]) -> dict[int, int]:
    """The main cluster of each box, such that the sum of scores is the largest. Boxes may share
    one, at a price: people side by side are one cluster, and a detector sees things twice."""
    names = np.unique(np.concatenate([c.names for c in choices])) if choices else np.zeros(0)
    if not len(names):
        return {}
    score = np.zeros((len(choices), len(names)))
    for n, c in enumerate(choices):
        score[n, np.searchsorted(names, c.names)] = c.score
    shared = [score, *[SHARED_PRICE * score] * (MOST_SHARING - 1)]
    rows, columns = linear_sum_assignment(np.concatenate(shared, axis=1), maximize=True)
    columns %= len(names)
    return {int(r): int(names[c]) for r, c in zip(rows, columns, strict=True) if score[r, c] > 0.0}


def _body(s: Seen, c: _Candidates, main: int, view: InView, others: set[int]) -> Index:
    """The main cluster's rows, with those of its parts that are no other box's own."""
    best = int(np.flatnonzero(c.names == main)[0])
    with_it = [c.rows[k] for k in np.flatnonzero(c.parts[best]) if int(c.names[k]) not in others]
    chosen = np.concatenate(with_it)
    return _one_depth(chosen, view.extent[0].take(chosen), s.prior.lengths[-1])


def _one_depth(rows: Index, depth: F32, reach_m: float) -> Index:
    """Those within ``reach_m`` behind the front of the points, single points before it aside."""
    front = np.partition(depth, len(depth) // 20)[len(depth) // 20]
    return rows[(depth >= front - 0.5) & (depth <= front + reach_m)]
