"""From a camera detector's boxes and the LIDAR's points to boxes in space: late fusion itself."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.perception.camera2d.associate import Seen, associate, cut_off, in_view
from mm_fusion.perception.camera2d.bodies import Look, body, explained, focal_px, target
from mm_fusion.perception.camera2d.boxes import PRIORS, Fitted, Prior, Target, fit
from mm_fusion.perception.camera2d.solid import Solid, solid_of
from mm_fusion.perception.ground import Ground
from mm_fusion.samples import Detection

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

BODY_DEPTH_M = 0.15  # from the skin of a person that the LIDAR sees to the middle
PERSON_SIGMA_M = 0.15
HEADING_UNKNOWN_SIGMA = np.pi / np.sqrt(3.0)  # of a heading spread evenly over the circle
BEARING_SIGMA = 0.02  # rad, of where a camera's box is
UNKNOWN_SCORE = 0.3
BEARING_SCORE = 0.5  # of a box without points: there may be nothing


class Unnamed(NamedTuple):
    """Which clusters are worth being called obstacles: the largest side, the fewest points, the
    least height, the farthest, and how many at the most."""

    side_m: float = 6.0
    points: int = 8
    height_m: float = 0.3
    range_m: float = 40.0
    most: int = 60


def locate(
    looks: list[Look],
    xyz: F32,
    ground: Ground,
    range_m: float,
    sensor: F64,
    unnamed: Unnamed | None = None,
) -> list[Detection]:
    """Boxes in the base frame, best first.

    ``xyz`` float32 [3,N] are finite points in the base frame, ``ground`` what find_ground says of
    them, ``sensor`` [2] where the LIDAR stands. ``unnamed`` asks for what no camera has a name for
    as well.
    """
    solid = solid_of(xyz, ground, range_m, sensor)
    taken = np.zeros(len(solid.labels), np.bool_)
    out: list[Detection] = []
    wanted: list[_Wanted] = []
    for look in looks:
        view = in_view(look.pixel_from_base, look.size, solid)
        matches = associate(look.seen, view, focal_px(look.pixel_from_base), look.size)
        for seen, match in zip(look.seen, matches, strict=True):
            if len(match.points):
                found = body(seen, match, look, solid)
                taken[match.points] = taken[found.rows] = taken[found.beyond] = True
                both = (False, True) if len(found.beyond) else (False,)
                targets = [target(seen, found, look, solid, sensor, whole) for whole in both]
                rows = np.concatenate([found.rows, found.beyond])
                wanted.append(_Wanted(seen, targets, solid.xyz[:2].take(rows, axis=1)))
            elif not match.twice:
                bearing = bearing_only(seen, look)
                if bearing is not None:
                    out.append(bearing)
    out += _once(_boxed(wanted))
    if unnamed is not None:
        out += _obstacles(solid, taken, unnamed, sensor)
    return sorted(out, key=lambda d: -d.score)


class _Wanted(NamedTuple):
    """A camera's box and what it is of: with the points in the picture only, or with those beyond
    it as well; and all of them [2,N]."""

    seen: Seen
    targets: list[Target]
    plane: F32


def _boxed(wanted: list[_Wanted]) -> list[Detection]:
    """The objects with points, one class's sizes at a time."""
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    found: dict[tuple[int, int], Fitted] = {}
    for n, one in enumerate(wanted):
        for k, aim in enumerate(one.targets):
            if aim.prior.lies:
                groups[id(aim.prior)].append((n, k))
            else:
                found[n, k] = standing(aim)
    for keys in groups.values():
        found.update(zip(keys, fit([wanted[n].targets[k] for n, k in keys]), strict=True))
    out = []
    for n, one in enumerate(wanted):
        # What hangs together with a car beyond the picture may be a hedge.
        best = max(range(len(one.targets)), key=lambda k: (explained(found[n, k], one.plane), k))
        out.append(_detection(one.seen, one.targets[best], found[n, best]))
    return out


def _once(found: list[Detection]) -> list[Detection]:
    """Of vehicles whose middle lies within another's footprint the likeliest: two cameras, or a
    detector that calls one vehicle a car and a truck, name a thing twice."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda d: -d.score):
        if one.label != "car" or not any(_within(one, other) for other in kept):
            kept.append(one)
    return kept


def _within(one: Detection, other: Detection) -> bool:
    if other.label != one.label:
        return False
    x, y = one.center[:2] - other.center[:2]
    c, s = np.cos(other.yaw), np.sin(other.yaw)
    along, aside = abs(c * x + s * y), abs(c * y - s * x)
    return bool(along < other.size[0] / 2 and aside < other.size[1] / 2)


def standing(target: Target) -> Fitted:
    """A person, on foot or on a bicycle: where most of the points are, a little further back."""
    prior = target.prior
    middle = np.median(target.points, axis=0)
    away = middle - target.sensor
    away /= max(float(np.linalg.norm(away)), 1e-6)
    covariance = np.diag([PERSON_SIGMA_M**2, PERSON_SIGMA_M**2, HEADING_UNKNOWN_SIGMA**2])
    size = np.array([prior.length[0], prior.width[0]])
    return Fitted(middle + BODY_DEPTH_M * away, size, 0.0, covariance)


def _detection(seen: Seen, target: Target, f: Fitted) -> Detection:
    bottom, top = target.z
    covariance = np.zeros((4, 4))
    covariance[np.ix_([0, 1, 3], [0, 1, 3])] = f.covariance
    covariance[2, 2] = (target.prior.height[1] / 2.0) ** 2 + 0.05**2
    return Detection(
        seen.label,
        seen.score,
        np.array([f.center[0], f.center[1], (bottom + top) / 2.0]),
        np.array([f.size[0], f.size[1], top - bottom]),
        f.yaw,
        np.zeros(2),
        "camera2d",
        covariance,
    )


def bearing_only(seen: Seen, look: Look) -> Detection | None:
    """A box without points: along its ray, as far away as its height tells, and unsure by as much
    as heights differ. None where the picture's border cuts its height off."""
    left, top, right, bottom = seen.box
    mean, sigma = seen.prior.height
    tall = float(bottom - top)
    if cut_off(seen.box, look.size)[[1, 3]].any() or tall < 4.0:
        return None
    p = look.pixel_from_base
    depth = focal_px(p) * mean / tall
    inverse = np.linalg.inv(p[:, :3])
    pixel = np.array([(left + right) / 2.0, (top + bottom) / 2.0, 1.0])
    center = inverse @ (depth * pixel - p[:, 3])
    ray = center - inverse @ -p[:, 3]
    along = ray / np.linalg.norm(ray)
    distance = float(np.linalg.norm(ray))
    far = distance * float(np.hypot(sigma / mean, 3.0 / tall))
    covariance = np.zeros((4, 4))
    covariance[:3, :3] = (distance * BEARING_SIGMA) ** 2 * np.eye(3)
    covariance[:3, :3] += far**2 * np.outer(along, along)
    covariance[3, 3] = HEADING_UNKNOWN_SIGMA**2
    size = np.array([seen.prior.length[0], seen.prior.width[0], mean])
    return Detection(
        seen.label,
        seen.score * BEARING_SCORE,
        center,
        size,
        0.0,
        np.zeros(2),
        "bearing",
        covariance,
    )


def _obstacles(solid: Solid, taken: Mask, rule: Unnamed, sensor: F64) -> list[Detection]:
    """Upright boxes about the clusters of which no camera's box took a larger part."""
    if not len(solid.starts):
        return []
    size, middle = solid.high - solid.low, (solid.low + solid.high) / 2.0
    away = np.hypot(middle[0] - sensor[0], middle[1] - sensor[1])
    used = np.add.reduceat(taken, solid.starts, dtype=np.intp) / solid.counts
    fits = (solid.counts >= rule.points) & (used < 0.3) & (away <= rule.range_m)
    fits &= (size[:2] <= rule.side_m).all(axis=0) & (size[2] >= rule.height_m)
    chosen = np.flatnonzero(fits)
    chosen = chosen[np.argsort(away[chosen], kind="stable")][: rule.most]
    return _turned_boxes(solid, chosen, middle.astype(np.float64)) if len(chosen) else []


def _turned_boxes(solid: Solid, chosen: Index, middle: F64) -> list[Detection]:
    """Upright boxes, turned as their points are spread, about K clusters of which the ``middle``
    [3,.] is given."""
    counts = solid.counts[chosen]
    starts = np.cumsum(counts) - counts
    body = solid.xyz.take(solid.rows_of(chosen.tolist()), axis=1)
    # Small numbers, of which float32 holds enough digits, are what is left of the middles.
    x, y = body[:2] - np.repeat(middle[:2, chosen], counts, axis=1).astype(np.float32)
    off = np.stack([np.add.reduceat(v, starts) for v in (x, y)]) / counts
    x, y = np.stack([x, y]) - np.repeat(off, counts, axis=1).astype(np.float32)
    xx, xy, yy = (np.add.reduceat(v, starts) for v in (x * x, x * y, y * y))
    yaw = 0.5 * np.arctan2(2.0 * xy, xx - yy).astype(np.float64)
    c, s = np.cos(yaw), np.sin(yaw)
    each_c, each_s = (np.repeat(v.astype(np.float32), counts) for v in (c, s))
    turned = np.stack([each_c * x + each_s * y, each_c * y - each_s * x])
    low = np.minimum.reduceat(turned, starts, axis=1).astype(np.float64)
    high = np.maximum.reduceat(turned, starts, axis=1).astype(np.float64)
    m, at = (low + high) / 2.0, middle[:2, chosen] + off
    center = np.stack([at[0] + c * m[0] - s * m[1], at[1] + s * m[0] + c * m[1], middle[2, chosen]])
    upright = (solid.high - solid.low)[2:, chosen]
    size = np.maximum(np.concatenate([high - low, upright]), 0.1).T
    covariance = np.zeros((len(chosen), 4, 4))
    covariance[:, range(3), range(3)] = np.square(size / 4.0) + 0.0025
    covariance[:, 3, 3] = HEADING_UNKNOWN_SIGMA**2 + 0.0025
    still = np.zeros((len(chosen), 2))
    rows = zip(center.T.copy(), size, yaw.tolist(), still, covariance, strict=True)
    return [Detection("unknown", UNKNOWN_SCORE, *row[:4], "cluster", row[4]) for row in rows]


def prior_of(label: str, kind: str) -> Prior:
    """The usual sizes of a class, of the network's own where they are known."""
    return PRIORS.get(kind.lower(), PRIORS[label])
