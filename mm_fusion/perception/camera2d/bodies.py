"""From a camera's box and the LIDAR points it was given to what is to be boxed in space."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from mm_fusion.perception.camera2d.associate import Match, Seen, cut_off
from mm_fusion.perception.camera2d.boxes import PRIORS, Fitted, Prior, Target, thinned
from mm_fusion.perception.camera2d.solid import Solid

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]

NEAR_SIDE = 0.1  # of the depths of an object's points, in order
VAN_M, LORRY_M = 1.9, 2.55  # from this height on a vehicle is as long and wide as those
COLUMN_M = 0.3  # side of a column, and how much higher than its box a thing may be
LEAST_LEFT = 0.3  # of an object's points; where fewer would be left, all stay
AROUND_M = 0.2  # a box, as far as it holds points
PIECE_M, PIECE_SHARE = 0.25, 0.1  # cells that hang together; of a box's points in a piece of it


class Look(NamedTuple):
    """What one camera saw: its boxes, its projection [3,4] from the base, its picture's size."""

    seen: list[Seen]
    pixel_from_base: F64
    size: tuple[int, int]


class Glance(NamedTuple):
    """What one camera saw, and all of its network's boxes, faint ones among them."""

    look: Look
    faint: list[Seen]


def focal_px(pixel_from_base: F64) -> float:
    """The focal length that a projection has."""
    return float(np.linalg.norm(np.cross(pixel_from_base[1, :3], pixel_from_base[2, :3])))


class Body(NamedTuple):
    """An object's points: rows of the solid ones within its camera box, and perhaps beyond the
    picture; z of the ground under them; and how high above it the upper side of the camera box is,
    0 where the picture's border cuts that off."""

    rows: Index
    beyond: Index
    ground_m: float
    top_m: float


def body(seen: Seen, match: Match, look: Look, solid: Solid) -> Body:
    """The points of a box without those that cannot be the object's, and those beyond the picture's
    border where that cuts the box off: the LIDAR sees the whole car."""
    rows = match.points
    ground = float(np.median(solid.xyz[2].take(rows) - solid.height_m.take(rows)))
    top = _top_m(seen, look, solid.xyz.take(rows, axis=1), ground)
    if not match.clusters:
        return Body(rows, rows[:0], ground, top)
    all_of_them = solid.rows_of(match.clusters)
    rest = rows[:0]
    cut = cut_off(seen.box, look.size)
    if top > 0.0:
        # Where the picture ends, the highest part of a thing may be beyond it.
        mean, sigma = seen.prior.height
        limit = max(top, mean + 2.0 * sigma if cut.any() else mean) + COLUMN_M
        low = _low_columns(solid, all_of_them, limit)
        if len(low) < len(all_of_them):
            kept = np.zeros(len(solid.labels), np.bool_)
            kept[low] = True
            left = rows[kept[rows]]
            rows = left if len(left) > LEAST_LEFT * len(rows) else rows
            all_of_them = low
    if cut.any():
        rest = _beyond(seen, cut, look, solid.xyz, rows, all_of_them)
    return Body(rows, rest, ground, top)


def _top_m(seen: Seen, look: Look, points: F32, ground_m: float) -> float:
    """How high above the ground the ray of a box's upper side is at the object's near side."""
    if cut_off(seen.box, look.size)[1]:
        return 0.0
    p = look.pixel_from_base
    depth = p[2, :3] @ points + p[2, 3]
    near = int(np.argpartition(depth, int(NEAR_SIDE * len(depth)))[int(NEAR_SIDE * len(depth))])
    x, y = points[:2, near].astype(np.float64)
    row = p[1] - seen.box[1] * p[2]
    z = -(row[0] * x + row[1] * y + row[3]) / row[2]
    return max(float(z) - ground_m, 0.0)


def _low_columns(solid: Solid, rows: Index, limit_m: float) -> Index:
    """Those of the rows in whose columns nothing is higher than ``limit_m``: a car's, without the
    wall or the tree beside it."""
    high = solid.height_m.take(rows) > limit_m
    if not high.any():
        return rows
    plane = solid.xyz[:2].take(rows, axis=1)
    x, y = ((plane - plane.min(axis=1, keepdims=True)) / COLUMN_M).astype(np.int32)
    tall = np.zeros((x.max() + 1, y.max() + 1), np.bool_)
    tall[x[high], y[high]] = True
    return rows[~tall[x, y]]


def _beyond(
    seen: Seen, cut: npt.NDArray[np.bool_], look: Look, xyz: F32, rows: Index, others: Index
) -> Index:
    """Those of ``others`` that lie beyond the picture's border, and hang together with most of
    the box's ``rows``."""
    u, v, w = look.pixel_from_base @ np.vstack([xyz.take(others, axis=1), np.ones(len(others))])
    border = np.array([-0.5, -0.5, look.size[0] - 0.5, look.size[1] - 0.5])
    left, top, right, bottom = np.where(cut, border, seen.box)
    # Half-spaces, each bounded by the plane through the camera and one side of the box.
    sides = np.stack([u - left * w, v - top * w, right * w - u, bottom * w - v])
    within = ((sides >= 0.0) | cut[:, None]).all(axis=0)
    beyond = others[within & (cut[:, None] & (sides < 0.0)).any(axis=0)]
    if not len(beyond):
        return beyond
    piece = _pieces(xyz[:2, np.concatenate([rows, beyond])])
    share = np.bincount(piece[: len(rows)], minlength=int(piece.max()) + 1) / len(rows)
    return beyond[share[piece[len(rows) :]] > PIECE_SHARE]


def _pieces(plane: F32) -> npt.NDArray[np.int32]:
    """Which points [2,N] hang together, more closely than a cluster: their pieces [N]."""
    cell = np.floor((plane - plane.min(axis=1, keepdims=True)) / PIECE_M).astype(np.int64)
    occupied = np.zeros(cell.max(axis=1) + 1, np.uint8)
    occupied[cell[0], cell[1]] = 1
    _, labels = cv2.connectedComponents(occupied, connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(labels[cell[0], cell[1]])


def target(seen: Seen, found: Body, look: Look, solid: Solid, sensor: F64, whole: bool) -> Target:
    """What is known of an object; ``whole``: with the points beyond the picture."""
    rows = np.concatenate([found.rows, found.beyond]) if whole else found.rows
    points = solid.xyz.take(rows, axis=1)
    highest = float(solid.height_m[rows].max())
    prior = _sized(seen, max(found.top_m, highest))
    mean, sigma = prior.height
    height = mean
    if found.top_m > 0.0:
        height = float(np.clip(found.top_m, mean - 2 * sigma, mean + 2 * sigma))
    return Target(
        points=thinned(points[:2].T.astype(np.float64)),
        edges=(float(seen.box[0]), float(seen.box[2])),
        pixel_from_base=look.pixel_from_base,
        width_px=look.size[0],
        sensor=sensor,
        z=(found.ground_m, found.ground_m + max(height, highest)),
        prior=prior,
    )


def _sized(seen: Seen, tall_m: float) -> Prior:
    """The sizes of what is as tall: detectors call vans cars, and cars and vans lorries."""
    if seen.label != "car":
        return seen.prior
    called = seen.kind.lower()
    if tall_m > LORRY_M:
        return PRIORS["coach" if called == "bus" else "lorry"]
    return PRIORS["van" if tall_m > VAN_M or called in ("truck", "bus") else "car"]


def explained(fitted: Fitted, plane: F32) -> int:
    """How many points [2,N] a box holds."""
    c, s = np.cos(fitted.yaw), np.sin(fitted.yaw)
    off = np.array([[c, s], [-s, c]]) @ (plane - fitted.center[:, None])
    return int((np.abs(off) < fitted.size[:, None] / 2.0 + AROUND_M).all(axis=0).sum())
