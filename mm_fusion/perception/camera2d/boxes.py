"""Upright boxes about points that show one or two faces of an object.

The LIDAR sees the near faces only. For every heading, a box of the class's usual sizes is put
behind the faces that face the sensor; what is compared then is how near the points lie to those
faces (the closeness of L-shape fitting: Zhang et al., Efficient L-Shape Fitting for Vehicle
Detection Using Laser Scanners, 2017), how well the box fills the camera's box, and how usual size
and heading are. The spread of the hypotheses that do nearly as well as the best one is the
covariance.

All objects of a set are fitted in one go: M objects, A headings, P points, H sizes and places.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

HEADINGS = 36
POINTS = 64  # of an object that are looked at
CELL_M = 0.08  # points nearer to each other than that count as one

FACE_SIGMA_M = 0.13
FACE_FAR_M = 0.35  # a point further from the faces says no more than that it is far
FACE_WEIGHT = 12.0  # so many points' worth, however many there are: they are not independent
EDGE_SIGMA = 0.08  # of the width of the camera's box
EDGE_SIGMA_PX = 2.5
EDGE_WORST = 9.0  # of either edge, twice what it costs
NEGLIGIBLE = 15.0  # hypotheses that cost so much more than the best weigh nothing
HEADING_WEIGHT = 0.7  # of the road going where the robot goes
OVERHANG_SIGMA_M = 0.2  # points beyond the box
LEAST_SIGMA_M = 0.15
# Where along its length and width a box may lie to its points: as the faces seen say (0), or else
# in the middle (1) or at the far end (2).
PLACES = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2))
ELSEWHERE = 5.0  # price of a box whose near end is not where its points end


class Prior(NamedTuple):
    """How large things of a class are: hypotheses of lengths and widths (m), their mean and
    standard deviation, and those of the height."""

    lengths: tuple[float, ...]
    widths: tuple[float, ...]
    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    lies: bool = True  # has a heading worth seeking


CAR = Prior((3.6, 4.1, 4.6, 5.4), (1.62, 1.85), (4.1, 0.45), (1.72, 0.12), (1.55, 0.15))
PRIORS = {
    "car": CAR,
    "van": Prior((4.6, 5.2, 6.0), (1.8, 2.0), (5.1, 0.5), (1.93, 0.12), (2.2, 0.25)),
    "lorry": Prior((6.0, 8.0, 10.0, 12.5), (2.1, 2.5), (9.0, 2.5), (2.5, 0.2), (3.2, 0.4)),
    "coach": Prior((9.0, 11.0, 12.5), (2.5,), (11.5, 1.5), (2.55, 0.15), (3.1, 0.3)),
    # What detectors call so: vans as well.
    "truck": Prior((5.2, 8.0, 12.5), (2.0, 2.5), (8.0, 3.0), (2.3, 0.3), (2.7, 0.6)),
    "bus": Prior((5.2, 8.0, 12.5), (2.0, 2.5), (10.5, 3.0), (2.5, 0.3), (2.9, 0.5)),
    "pedestrian": Prior((0.7,), (0.6,), (0.7, 0.2), (0.6, 0.1), (1.72, 0.12), lies=False),
    "cyclist": Prior((1.75,), (0.6,), (1.75, 0.15), (0.6, 0.1), (1.72, 0.12), lies=False),
    "unknown": Prior((0.8,), (0.6,), (0.8, 0.6), (0.6, 0.4), (1.2, 0.6), lies=False),
}


class Target(NamedTuple):
    """What is to be boxed: points [P,2] in the plane, the camera's box (left, right, in px), the
    camera's projection [3,4] and width, the sensor's place [2], and z of bottom and top."""

    points: F64
    edges: tuple[float, float]
    pixel_from_base: F64
    width_px: int
    sensor: F64
    z: tuple[float, float]
    prior: Prior


class Fitted(NamedTuple):
    """Centre [2], size [2] (length, width), heading, and covariance [3,3] of (x, y, yaw)."""

    center: F64
    size: F64
    yaw: float
    covariance: F64


def thinned(points: F64, cell_m: float = CELL_M, most: int = POINTS) -> F64:
    """At most ``most`` of points [N,2], no two in one cell, spread evenly over the rest."""
    cells = np.floor(points / cell_m).astype(np.int64)
    _, first = np.unique(cells[:, 0] * 100003 + cells[:, 1], return_index=True)
    if len(first) > most:
        first = first[np.linspace(0, len(first) - 1, most).round().astype(int)]
    return points[first]


def fit(targets: list[Target]) -> list[Fitted]:
    """The boxes of vehicles, one for each target, in its order; all of one prior's sizes."""
    if not targets:
        return []
    prior = targets[0].prior
    points, weight = _padded(targets)
    yaw: F64 = np.arange(HEADINGS, dtype=np.float64) * (np.pi / HEADINGS) - np.pi / 2.0
    axes = np.stack([np.cos(yaw), np.sin(yaw), -np.sin(yaw), np.cos(yaw)], -1).reshape(-1, 2, 2)
    local = np.einsum("aij,mjp->maip", axes, points)  # [M,A,2,P]
    low, high = local.min(axis=-1), local.max(axis=-1)  # [M,A,2]
    sensor = np.einsum("aij,mj->mai", axes, np.array([t.sensor for t in targets]))
    side = np.where(sensor < low, -1.0, np.where(sensor > high, 1.0, 0.0))
    sizes, size_cost = _sizes(prior)  # [S,2], [S]
    center, overhang = _placed(low, high, side, sizes)  # [M,A,S,T,2], [M,A,S]
    cost = _closeness(local, weight, low, high, side)[:, :, None, None]
    cost = cost + (overhang + size_cost)[..., None] + _elsewhere(side)[:, :, None]
    cost = cost + HEADING_WEIGHT * np.sin(yaw)[:, None, None] ** 2
    # What the camera's box could not make one of the best any more is not projected into it.
    bound = cost.min(axis=(1, 2, 3)) + EDGE_WORST + NEGLIGIBLE
    m, a, s, t = np.nonzero(cost <= bound[:, None, None, None])
    middle = center[m, a, s, t]
    total = cost[m, a, s, t] + _edge_cost(targets, m, a, middle, sizes[s], axes)
    return _chosen(m, total, middle, sizes[s], yaw[a], axes[a])


def _padded(targets: list[Target]) -> tuple[F64, F64]:
    """Points [M,2,P], where there are fewer the first one again, and the weights [M,P] of their
    mean."""
    count = max(len(t.points) for t in targets)
    points = np.empty((len(targets), 2, count))
    weight = np.zeros((len(targets), count))
    for m, target in enumerate(targets):
        there = len(target.points)
        points[m, :, :there] = target.points.T
        points[m, :, there:] = target.points[:1].T
        weight[m, :there] = min(there, FACE_WEIGHT) / there
    return points, weight


@cache
def _sizes(prior: Prior) -> tuple[F64, F64]:
    """Hypotheses of (length, width) [S,2] and how unusual they are [S]."""
    length, width = np.meshgrid(prior.lengths, prior.widths, indexing="ij")
    sizes = np.stack([length.ravel(), width.ravel()], axis=1)
    off = (sizes - [prior.length[0], prior.width[0]]) / [prior.length[1], prior.width[1]]
    return sizes, 0.5 * np.asarray((off**2).sum(axis=1))


def _placed(low: F64, high: F64, side: F64, sizes: F64) -> tuple[F64, F64]:
    """Centres [M,A,S,T,2] in turned axes behind the faces seen, and the price of points that stick
    out [M,A,S]."""
    low, high, side = low[:, :, None], high[:, :, None], side[:, :, None]  # [M,A,1,2]
    extent = high - low
    half = sizes / 2.0
    ends = low + half, high - half
    middle = (ends[0] + ends[1]) / 2.0
    found = np.stack(
        [
            np.where(side < 0, ends[0], np.where(side > 0, ends[1], middle)),
            np.where(side == 0, ends[0], middle),
            np.where(side < 0, ends[1], np.where(side > 0, ends[0], ends[1])),
        ],
        axis=-2,
    )  # [M,A,S,3,2]
    center = np.stack([found[..., k, n] for n, k in enumerate(zip(*PLACES, strict=True))], axis=-1)
    beyond = np.maximum(extent - sizes, 0.0) / OVERHANG_SIGMA_M
    return center, 0.5 * np.asarray(np.minimum(beyond**2, 200.0).sum(axis=-1))


def _elsewhere(side: F64) -> F64:
    """The price of the places [M,A,T]."""
    off = np.array(PLACES).T > 0  # [2,T]
    return ELSEWHERE * ((side != 0)[..., None] & off).any(axis=2)


def _closeness(local: F64, weight: F64, low: F64, high: F64, side: F64) -> F64:
    """How far the points are from the faces that are seen [M,A]."""
    face = np.where(side < 0, low, np.where(side > 0, high, np.inf))[..., None]
    away = np.abs(local - face).min(axis=2)
    away = np.minimum(away, FACE_FAR_M) / FACE_SIGMA_M
    return np.asarray(0.5 * np.einsum("map,map,mp->ma", away, away, weight))


def _edge_cost(
    targets: list[Target], m: Index, a: Index, middle: F64, sizes: F64, axes: F64
) -> F64:
    """How badly N boxes fill the camera's box of their target ``m`` [N] from left to right [N], 0
    to EDGE_WORST, from their headings' indices ``a`` [N], their middles in turned axes and their
    sizes [N,2]; ``axes`` [A,2,2]."""
    p = np.array([t.pixel_from_base[[0, 2]] for t in targets])  # rows of u and of depth
    z = np.array([sum(t.z) / 2.0 for t in targets])
    # What a metre along either axis of a box adds to both, and what they are where x and y are 0.
    step = np.einsum("mij,akj->maki", p[:, :, :2], axes).reshape(-1, 4)
    ahead_u, ahead_w, aside_u, aside_w = step.take(m * len(axes) + a, axis=0).T
    start_u, start_w = (p[:, :, 2] * z[:, None] + p[:, :, 3]).take(m, axis=0).T
    (x, y), (half_length, half_width) = middle.T, sizes.T / 2.0
    corners = [(half_length, half_width), (half_length, -half_width)]
    corners += [(-half_length, half_width), (-half_length, -half_width)]
    u = [
        (start_u + ahead_u * (x + i) + aside_u * (y + j))
        / np.maximum(start_w + ahead_w * (x + i) + aside_w * (y + j), 0.3)
        for i, j in corners
    ]
    edges = np.array([t.edges for t in targets])
    width = np.array([t.width_px for t in targets]) - 0.5
    sigma = EDGE_SIGMA * (edges[:, 1] - edges[:, 0]) + EDGE_SIGMA_PX
    found = np.clip([np.min(u, axis=0), np.max(u, axis=0)], -0.5, width.take(m))
    off = (found - edges.T.take(m, axis=1)) / sigma.take(m)
    return np.asarray(0.5 * np.minimum(off * off, EDGE_WORST).sum(axis=0))


def _chosen(m: Index, cost: F64, middle: F64, sizes: F64, yaw: F64, axes: F64) -> list[Fitted]:
    """The best hypothesis of every target, its place averaged over those that do nearly as well;
    of N hypotheses in the order of their targets ``m``, at least one of each."""
    starts = np.searchsorted(m, np.arange(m[-1] + 1))
    lowest = np.minimum.reduceat(cost, starts)
    near = np.flatnonzero(cost <= lowest[m] + NEGLIGIBLE)
    at = m[near]
    starts = np.searchsorted(at, np.arange(m[-1] + 1))
    first = np.flatnonzero(cost[near] == lowest[at])
    best = near[first[np.searchsorted(at[first], np.arange(m[-1] + 1))]]
    weight = np.exp(lowest[at] - cost[near])
    weight /= np.add.reduceat(weight, starts)[at]
    center = np.einsum("nji,nj->ni", axes[near], middle[near])
    mean = np.add.reduceat(weight[:, None] * center, starts)
    turn = (yaw[near] - yaw[best][at] + np.pi / 2) % np.pi - np.pi / 2
    off = np.column_stack([center - mean[at], turn])
    spread = np.add.reduceat(weight[:, None, None] * off[:, :, None] * off[:, None], starts)
    spread += np.diag([LEAST_SIGMA_M**2, LEAST_SIGMA_M**2, (np.pi / HEADINGS / 2) ** 2])
    return [
        Fitted(*found) for found in zip(mean, sizes[best], yaw[best].tolist(), spread, strict=True)
    ]
