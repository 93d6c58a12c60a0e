"""The plan of a town: a grid of streets, bent by a smooth warp, on gently rolling ground.

Plan coordinates are the straight grid's; ``warp`` takes them to the world (an east-north-up frame
at the town's origin). Traffic keeps to the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

F64 = npt.NDArray[np.float64]

KERB_M = 0.12
_OUTER_BLOCK_M = 40.0
_HEADINGS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # east, north, west, south


@dataclass(frozen=True, slots=True)
class Street:
    """A straight street of the plan: where its middle lies, the width of the carriageway of each
    direction, of a parking strip beyond it (0: none), and the lanes of each direction."""

    middle_m: float
    lane_m: float
    parking_m: float
    lanes: int = 1

    @property
    def half_m(self) -> float:
        """From the middle to the kerb."""
        return self.lane_m + self.parking_m

    def lane_middle_m(self, share: float) -> float:
        """From the street's middle to that of the lane at ``share`` (0..1) of the lanes there
        are, the innermost first."""
        lane = min(int(share * self.lanes), self.lanes - 1)
        return self.lane_m * (lane + 0.5) / self.lanes


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle between streets: (x0, x1) x (y0, y1), and the streets along its four sides in
    the order south, east, north, west (None: no street there)."""

    x: tuple[float, float]
    y: tuple[float, float]
    streets: tuple[Street | None, Street | None, Street | None, Street | None]

    def side(self, index: int) -> tuple[F64, F64, F64, float]:
        """Corner, direction along, direction inwards (to its left), and length of a side."""
        (x0, x1), (y0, y1) = self.x, self.y
        corner = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)][index], float)
        along = np.array(_HEADINGS[index], float)
        inwards = np.array([-along[1], along[0]])
        return corner, along, inwards, float((x1 - x0) if index % 2 == 0 else (y1 - y0))


class Layout:
    """Streets, blocks and ground of a town, drawn by ``rng`` within ``extent_m`` of the origin.

    ``slope`` (rise over run) is the steepest of its hills, None leaves it to chance.
    """

    def __init__(
        self, rng: np.random.Generator, extent_m: float, slope: float | None = None
    ) -> None:
        self.extent_m = extent_m
        self.pavement_m = float(rng.uniform(1.9, 3.6))
        self.columns = _streets(rng, extent_m)  # run north-south, one per x
        self.rows = _streets(rng, extent_m)  # run east-west, one per y
        self.blocks = self._blocks()
        self._bend_m = rng.uniform(-1, 1, 2) * rng.uniform(0.0, 7.0)
        self._bend_k = rng.uniform(0.015, 0.035, 2)
        self._bend_phase = rng.uniform(0, 2 * np.pi, 2)
        self._wave_k = rng.normal(scale=0.06, size=(3, 2))
        self._wave_m = rng.uniform(0.0, 0.22, 3)
        self._wave_phase = rng.uniform(0, 2 * np.pi, 3)
        hill = rng.uniform(0.0, 2 * np.pi)
        self._hill_k = rng.uniform(0.02, 0.05) * np.array([np.cos(hill), np.sin(hill)])
        # the steepest slope, on which half the towns have next to nothing
        drawn = 0.07 * float(rng.uniform(0, 1)) ** 2
        steepest = drawn if slope is None else slope
        self._hill_m = steepest / float(np.linalg.norm(self._hill_k))
        self._hill_phase = rng.uniform(0, 2 * np.pi)

    def _blocks(self) -> list[Block]:
        xs, ys = _intervals(self.columns), _intervals(self.rows)
        blocks = []
        for i, x in enumerate(xs):
            for j, y in enumerate(ys):
                south = self.rows[j - 1] if j > 0 else None
                north = self.rows[j] if j < len(self.rows) else None
                west = self.columns[i - 1] if i > 0 else None
                east = self.columns[i] if i < len(self.columns) else None
                blocks.append(Block(x, y, (south, east, north, west)))
        return blocks

    def warp(self, plan: F64) -> F64:
        """World xy [N,2] of plan points [N,2]."""
        swapped = plan[:, ::-1]
        return plan + self._bend_m * np.sin(self._bend_k * swapped + self._bend_phase)

    def warped(self, plan: F64, step: F64) -> tuple[F64, float]:
        """World xy [2] of one plan point [2], and the world heading of a short ``step`` there."""
        xy, a, b = self.warp(np.array([plan, plan - step, plan + step]))
        return xy, float(np.arctan2(b[1] - a[1], b[0] - a[0]))

    def road_z(self, plan: F64) -> F64:
        """Height of the road surface at plan points [N,2]."""
        waves = np.sin(plan @ self._wave_k.T + self._wave_phase)
        hill = np.sin(plan @ self._hill_k + self._hill_phase)
        return np.asarray(waves @ self._wave_m + self._hill_m * hill)

    def ground_z(self, plan: F64) -> F64:
        """Height of the ground at plan points [N,2]: the road's, a kerb higher on the blocks."""
        z = self.road_z(plan)
        for block in self.blocks:
            inside = (
                (plan[:, 0] > block.x[0])
                & (plan[:, 0] < block.x[1])
                & (plan[:, 1] > block.y[0])
                & (plan[:, 1] < block.y[1])
            )
            z = z + KERB_M * inside
        return np.asarray(z)

    def lane_route(
        self, rng: np.random.Generator, turns: int, length_m: float, offset_m: float = 0.0
    ) -> F64:
        """Plan points [N,2], half a metre apart, of a drive through at most ``turns`` turns.

        It starts at a random street, keeps ``offset_m`` to the right of the lane's middle, and is
        ``length_m`` long where the town is large enough.
        """
        heading = int(rng.integers(4))
        column = int(rng.integers(len(self.columns)))
        row = int(rng.integers(len(self.rows)))
        share = float(rng.random())  # of the lanes there are, from the left
        corners = [self._lane_point(column, row, heading, offset_m, share)]
        travelled = 0.0
        while travelled < length_m:
            dx, dy = _HEADINGS[heading]
            column, row = column + dx, row + dy
            if not (0 <= column < len(self.columns) and 0 <= row < len(self.rows)):
                column, row = column - dx, row - dy
                corners.append(corners[-1] + 30.0 * np.array([dx, dy]))
                break
            choices = [heading] if turns <= 0 else [heading, (heading + 1) % 4, (heading - 1) % 4]
            inside = [h for h in choices if self._has_next(column, row, h)]
            new = int(rng.choice(inside)) if inside else heading
            here = self._lane_corner((column, row), heading, new, offset_m, share)
            travelled += float(np.abs(here - corners[-1]).sum())
            corners.append(here)
            turns -= int(new != heading)
            heading = new
        return _rounded(corners, rng)

    def _has_next(self, column: int, row: int, heading: int) -> bool:
        dx, dy = _HEADINGS[heading]
        return 0 <= column + dx < len(self.columns) and 0 <= row + dy < len(self.rows)

    def _lane_point(
        self, column: int, row: int, heading: int, offset_m: float, share: float
    ) -> F64:
        """Where the lane of a heading enters the middle of a crossing."""
        dx, dy = _HEADINGS[heading]
        street = self.rows[row] if dy == 0 else self.columns[column]
        right = np.array([dy, -dx], float) * (street.lane_middle_m(share) + offset_m)
        centre = np.array([self.columns[column].middle_m, self.rows[row].middle_m])
        return np.asarray(centre + right)

    def _lane_corner(
        self, crossing: tuple[int, int], old: int, new: int, offset_m: float, share: float
    ) -> F64:
        """Where the lane of the old heading meets that of the new one."""
        a = self._lane_point(*crossing, old, offset_m, share)
        if new == old:
            return a
        b = self._lane_point(*crossing, new, offset_m, share)
        return np.array([b[0], a[1]]) if _HEADINGS[old][1] == 0 else np.array([a[0], b[1]])


def _streets(rng: np.random.Generator, extent_m: float) -> list[Street]:
    position = -extent_m + float(rng.uniform(0, 30))
    streets = []
    while position < extent_m:
        parking = float(rng.uniform(2.0, 2.4)) if rng.random() < 0.65 else 0.0
        lanes = int(rng.choice([1, 2, 3], p=[0.72, 0.24, 0.04]))
        width = float(rng.uniform(2.9, 3.9)) * (lanes if lanes == 1 else 0.92 * lanes)
        streets.append(Street(position, width, parking, lanes))
        position += float(rng.uniform(42.0, 85.0))
    return streets


def _intervals(streets: list[Street]) -> list[tuple[float, float]]:
    """The gaps between streets, with an outer strip at both ends."""
    low = [streets[0].middle_m - streets[0].half_m - _OUTER_BLOCK_M]
    high = [streets[-1].middle_m + streets[-1].half_m + _OUTER_BLOCK_M]
    starts = low + [s.middle_m + s.half_m for s in streets]
    ends = [s.middle_m - s.half_m for s in streets] + high
    return list(zip(starts, ends, strict=True))


def _rounded(corners: list[F64], rng: np.random.Generator) -> F64:
    """A polyline with right angles as points half a metre apart, its corners rounded."""
    pieces = [corners[0][None]]
    for k in range(1, len(corners) - 1):
        before, here, after = corners[k - 1], corners[k], corners[k + 1]
        u, v = here - before, after - here
        lu, lv = float(np.linalg.norm(u)), float(np.linalg.norm(v))
        if lu < 1e-6 or lv < 1e-6:
            continue
        u, v = u / lu, v / lv
        cross = u[0] * v[1] - u[1] * v[0]
        if abs(cross) < 0.5:
            pieces.append(here[None])
            continue
        radius = float(rng.uniform(6.0, 7.0) if cross < 0 else rng.uniform(8.0, 10.0))
        angle = np.linspace(0, np.pi / 2, 12)[:, None]
        centre = here - radius * u + radius * v
        pieces.append(centre - radius * v * np.cos(angle) + radius * u * np.sin(angle))
    pieces.append(corners[-1][None])
    line = np.concatenate(pieces)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.arange(0.0, way[-1], 0.5)
    return np.stack([np.interp(at, way, line[:, 0]), np.interp(at, way, line[:, 1])], axis=1)


class Path:
    """A way through the world: points half a metre apart and what follows from them.

    ``length_m`` is its whole way; ``at`` looks it up by the way travelled.
    """

    def __init__(self, layout: Layout, plan: F64, on_road: bool, smooth_m: float = 1.5) -> None:
        xy = layout.warp(plan)
        z = layout.road_z(plan) if on_road else layout.ground_z(plan)
        points = np.column_stack([xy, z])
        if smooth_m > 0 and len(points) > 10:
            points = gaussian_filter1d(points, smooth_m / 0.5, axis=0, mode="nearest")
        self.plan = plan
        self.points = points
        steps = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
        self.way_m = np.concatenate([[0.0], np.cumsum(np.maximum(steps, 1e-9))])
        self.length_m = float(self.way_m[-1])
        direction = np.gradient(points[:, :2], axis=0)
        self.yaw = np.unwrap(np.arctan2(direction[:, 1], direction[:, 0]))
        self._table = np.column_stack([points, self.yaw])
        self.curvature = np.gradient(self.yaw) / np.maximum(np.gradient(self.way_m), 1e-6)

    def at(self, way_m: npt.ArrayLike) -> tuple[F64, F64]:
        """Points [...,3] and headings [...] after a way."""
        s = np.asarray(way_m, np.float64)
        # one search for all four columns: movers are looked up thousands of times a frame
        i = np.minimum(np.maximum(self.way_m.searchsorted(s) - 1, 0), len(self.way_m) - 2)
        start = self.way_m[i]
        share = np.minimum(np.maximum((s - start) / (self.way_m[i + 1] - start), 0.0), 1.0)
        share = share[..., None]
        found = self._table[i] + share * (self._table[i + 1] - self._table[i])
        return found[..., :3], found[..., 3]
