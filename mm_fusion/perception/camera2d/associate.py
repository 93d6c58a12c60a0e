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

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Index = npt.NDArray[np.intp]

LEAST_POINTS = 2
RANGE_SIGMA = 0.25  # of the logarithm of the range that a height in the picture tells
WORST_RANGE = 0.02
LEAST_COVER, LEAST_WITHIN = 0.05, 0.15  # what a cluster has for certain of either
SHARED_PRICE, MOST_SHARING = 0.6, 3
PART_GAP_M = 0.8  # between the parts of one object
TAKEN_SHARE = 0.6  # of whose points nearer objects took that much is seen twice


class Seen(NamedTuple):
    """One box of a camera detector: left, top, right, bottom in px of the rectified picture."""

    box: F64
    score: float
    label: str
    kind: str
    prior: Prior


class InView(NamedTuple):
    """The points that a camera can see: their pixels [N,2], depths [N] (m), clusters [N], and which
    points of the cloud they are [N]."""

    uv: F32
    depth: F32
    labels: I32
    rows: Index
    plane: F32  # [2,N]
    sizes: npt.NDArray[np.intp]  # points by cluster


class Match(NamedTuple):
    """A box with its points (indices of the cloud), none where nothing fits; ``twice`` where a
    better box has them."""

    points: Index
    twice: bool = False


def in_view(pixel_from_base: F64, size: tuple[int, int], xyz: F32, labels: I32) -> InView:
    """The points [3,N] that fall into a picture of ``size`` (width, height)."""
    p = pixel_from_base.astype(np.float32)
    depth = p[2, :3] @ xyz + p[2, 3]
    front = np.flatnonzero(depth > 0.5)
    u = (p[0, :3] @ xyz[:, front] + p[0, 3]) / depth[front]
    v = (p[1, :3] @ xyz[:, front] + p[1, 3]) / depth[front]
    kept = np.flatnonzero((u > -0.5) & (v > -0.5) & (u < size[0] - 0.5) & (v < size[1] - 0.5))
    index = front[kept]
    uv, seen = np.stack([u[kept], v[kept]], axis=1), labels[index]
    return InView(uv, depth[index], seen, index, xyz[:2, index], np.bincount(seen, minlength=1))


def associate(seen: list[Seen], view: InView, focal_px: float, height_px: int) -> list[Match]:
    """The points of every box, in the boxes' order."""
    choices = [_candidates(s, view, focal_px, height_px) for s in seen]
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
        if len(taken) > TAKEN_SHARE * len(body) and _same(n, taken, seen, out, view):
            out[n] = Match(none, twice=True)
            continue
        left = body[free[body]]
        if len(left) >= LEAST_POINTS:
            free[left] = False
            out[n] = Match(view.rows[left])
    return out


def _same(n: int, taken: Index, seen: list[Seen], out: list[Match], view: InView) -> bool:
    """Whether those who took the points are of the same class."""
    points = view.rows[taken]
    return any(
        other.label == seen[n].label and np.isin(points, match.points).mean() > TAKEN_SHARE
        for other, match in zip(seen, out, strict=True)
        if len(match.points)
    )


class _Candidates(NamedTuple):
    """The clusters of which a box holds points, K of them: their names, how well they fit, their
    nearest depth, the share of them within the box; and the rows of the view, in K parts."""

    names: I32
    score: F64
    near: F32
    within: F64
    rows: list[Index]

    def near_of(self, name: int) -> float:
        return float(self.near[np.flatnonzero(self.names == name)[0]])


def _candidates(s: Seen, view: InView, focal_px: float, height_px: int) -> _Candidates:
    left, top, right, bottom = s.box
    u, v = view.uv[:, 0], view.uv[:, 1]
    rows = np.flatnonzero((u >= left) & (u <= right) & (v >= top) & (v <= bottom))
    rows = rows[view.labels[rows] > 0]
    if len(rows) < LEAST_POINTS:
        nothing = np.zeros(0)
        return _Candidates(
            nothing.astype(np.int32), nothing, nothing.astype(np.float32), nothing, []
        )
    order = rows[np.argsort(view.labels[rows], kind="stable")]
    labels = view.labels[order]
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    names = labels[starts]
    counts = np.diff(np.append(starts, len(labels)))
    near = np.minimum.reduceat(view.depth[order], starts)
    uv = view.uv[order]
    spread = np.maximum.reduceat(uv, starts) - np.minimum.reduceat(uv, starts)
    size = np.maximum([right - left, bottom - top], 1.0)
    cover = np.minimum(spread / size, 1.0) + LEAST_COVER
    within = counts / view.sizes[names]
    score = cover[:, 0] * cover[:, 1] * (LEAST_WITHIN + within) * (counts >= LEAST_POINTS)
    depth, sigma = _expected(s, focal_px, height_px)
    if depth > 0.0:
        off = np.log(np.maximum(near, 0.5) / depth) / sigma
        score = score * np.maximum(np.exp(-0.5 * off**2), WORST_RANGE)
    return _Candidates(names, score, near, within, np.split(order, starts[1:]))


def _expected(s: Seen, focal_px: float, height_px: int) -> tuple[float, float]:
    """The depth that the box's height tells, and the standard deviation of its logarithm; 0 depth
    where the picture's border cuts the box off."""
    top, bottom = float(s.box[1]), float(s.box[3])
    mean, sigma = s.prior.height
    tall = bottom - top
    if top < 1.0 or bottom > height_px - 2.5 or tall < 4.0:
        return 0.0, 1.0
    spread = float(np.hypot(sigma / mean, 2.0 / tall))
    return focal_px * mean / tall, float(np.hypot(RANGE_SIGMA, spread))


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
    """The main cluster's rows, with those of the small ones that go with it."""
    best = int(np.flatnonzero(c.names == main)[0])
    reach = s.prior.lengths[-1]
    rows = c.rows[best]
    low, high = view.plane[:, rows].min(axis=1), view.plane[:, rows].max(axis=1)
    parts = [rows]
    for k in np.flatnonzero((c.within > 0.5) & (np.abs(c.near - c.near[best]) < reach)):
        if k == best or int(c.names[k]) in others:
            continue
        part = view.plane[:, c.rows[k]]
        at_low, at_high = part.min(axis=1), part.max(axis=1)
        gap = np.maximum(np.maximum(at_low - high, low - at_high), 0.0)
        whole = np.maximum(high, at_high) - np.minimum(low, at_low)
        if np.hypot(*gap) < PART_GAP_M and np.hypot(*whole) < reach + PART_GAP_M:
            parts.append(c.rows[k])
    chosen = np.concatenate(parts)
    return _one_depth(chosen, view.depth[chosen], reach)


def _one_depth(rows: Index, depth: F32, reach_m: float) -> Index:
    """Those within ``reach_m`` behind the front of the points, single points before it aside."""
    front = np.partition(depth, len(depth) // 20)[len(depth) // 20]
    return rows[(depth >= front - 0.5) & (depth <= front + reach_m)]
