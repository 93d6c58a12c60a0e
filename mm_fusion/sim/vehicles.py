"""Cars: a rounded body, a cabin of pillars, glass and seats, wheels, lights and plates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import Mesh, box, hexahedron, loft, merge, quad, tube
from mm_fusion.sim.models import CAR, ObjectModel

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class _Shape:
    """Proportions: ranges of length, width, height in metres, the rest as shares of them."""

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    bonnet: float  # share of the length ahead of the windscreen's foot
    boot: float  # share of the length behind the rear window's foot
    belt: float  # share of the height at the windows' lower edge
    slant_front: float  # metres by which the windscreen leans, per metre of its height
    slant_rear: float
    roof: float  # half width of the roof over half width of the body
    clearance: float
    windows: float = 1.0  # share of the cabin's side that has windows, from the front
    bed: bool = False  # an open load bed in place of the boot


_SHAPES: dict[str, _Shape] = {
    "city": _Shape((2.7, 3.65), (1.5, 1.66), (1.42, 1.6), 0.17, 0.02, 0.58, 1.2, 0.3, 0.76, 0.17),
    "hatchback": _Shape(
        (3.6, 4.25), (1.62, 1.78), (1.40, 1.55), 0.21, 0.02, 0.60, 1.3, 0.5, 0.74, 0.18
    ),
    "sedan": _Shape(
        (4.3, 5.05), (1.70, 1.90), (1.36, 1.50), 0.25, 0.15, 0.62, 1.6, 1.3, 0.72, 0.17
    ),
    "coupe": _Shape((3.9, 4.6), (1.68, 1.88), (1.20, 1.40), 0.28, 0.10, 0.63, 1.9, 1.9, 0.70, 0.13),
    "wagon": _Shape((4.3, 4.9), (1.70, 1.86), (1.40, 1.55), 0.25, 0.02, 0.61, 1.5, 0.6, 0.74, 0.17),
    "suv": _Shape((4.1, 4.95), (1.76, 2.0), (1.58, 1.90), 0.23, 0.02, 0.60, 1.0, 0.4, 0.78, 0.24),
    "minivan": _Shape(
        (4.2, 4.95), (1.74, 1.94), (1.62, 1.88), 0.16, 0.01, 0.56, 1.1, 0.2, 0.82, 0.2
    ),
    "van": _Shape(
        (4.7, 6.0), (1.88, 2.08), (1.88, 2.75), 0.12, 0.0, 0.52, 0.7, 0.05, 0.90, 0.2, 0.35
    ),
    "minibus": _Shape((4.8, 6.0), (1.88, 2.08), (1.9, 2.6), 0.12, 0.0, 0.50, 0.7, 0.08, 0.90, 0.2),
    "pickup": _Shape(
        (4.9, 5.8), (1.78, 2.03), (1.68, 1.95), 0.24, 0.36, 0.58, 0.9, 0.25, 0.80, 0.26, 1.0, True
    ),
}
_SHARE = (0.09, 0.22, 0.18, 0.05, 0.13, 0.15, 0.06, 0.07, 0.02, 0.03)


@dataclass(frozen=True, slots=True)
class Parts:
    """Rows of the materials every vehicle has."""

    glass: int
    rubber: int
    hub: int
    trim: int
    front_light: int
    rear_light: int
    plate: int
    cloth: int

    @staticmethod
    def of(table: MaterialTable) -> Parts:
        """Add them to a table."""
        return Parts(
            glass=table.add(
                (0.03, 0.035, 0.04), 0.1, Texture.GLASS, lidar_return=0.4, lidar_through=0.8
            ),
            rubber=table.add((0.02, 0.02, 0.02), 0.05),
            hub=table.add((0.35, 0.35, 0.36), 0.35),
            trim=table.add((0.03, 0.03, 0.035), 0.08),
            front_light=table.add((0.8, 0.8, 0.78), 0.75, lidar_return=0.8, emission=3.0),
            rear_light=table.add((0.45, 0.02, 0.02), 0.8, emission=1.2),
            plate=table.add((0.75, 0.75, 0.7), 1.0),
            cloth=table.add((0.05, 0.05, 0.055), 0.25),
        )


class CarFactory:
    """Makes car models of random shape and paint; ``rng`` decides."""

    def __init__(self, table: MaterialTable, rng: Rng) -> None:
        self._table, self._rng = table, rng
        self.parts = Parts.of(table)

    def make(self, kind: str = "") -> ObjectModel:
        """One car of a kind of ``_SHAPES``, or of any."""
        rng = self._rng
        kind = kind or str(rng.choice(list(_SHAPES), p=_SHARE))
        shape = _SHAPES[kind]
        length, width, height = (
            float(rng.uniform(*bounds)) for bounds in (shape.length, shape.width, shape.height)
        )
        made = _Car(shape, length, width, height, paint(self._table, rng), self.parts, rng)
        return ObjectModel(CAR, (length, width, height), (made.mesh(),), kind=kind)


_COLOURS = (
    (0.35, 0.02, 0.02),
    (0.02, 0.05, 0.25),
    (0.03, 0.15, 0.35),
    (0.02, 0.12, 0.05),
    (0.30, 0.22, 0.10),
    (0.45, 0.30, 0.02),
    (0.12, 0.05, 0.03),
    (0.25, 0.30, 0.35),
)


def paint(table: MaterialTable, rng: Rng) -> int:
    """A paint: its colour, and how well it answers the LIDAR, which the colour hardly says."""
    if rng.random() < 0.62:  # most cars are some grey
        level = float(rng.choice([0.02, 0.05, 0.12, 0.25, 0.45, 0.75])) * rng.uniform(0.8, 1.2)
        rgb = level * rng.uniform(0.95, 1.05, 3)
    else:
        rgb = rng.choice(np.array(_COLOURS)) * rng.uniform(0.6, 1.4)
    reflectivity = 0.03 + 0.4 * float(np.mean(rgb)) + float(rng.uniform(0.0, 0.3))
    returned = 1.0 - 0.75 * float(rng.random()) ** 1.3  # a clean dark car may all but vanish
    return table.add(rgb, reflectivity, Texture.PAINT, lidar_return=returned)


class _Car:
    """One car being built: every part is a mesh about the box's bottom centre."""

    def __init__(
        self,
        shape: _Shape,
        length: float,
        width: float,
        height: float,
        colour: int,
        parts: Parts,
        rng: Rng,
    ) -> None:
        self._shape, self._colour, self._parts, self._rng = shape, colour, parts, rng
        self._length, self._width, self._height = length, width, height
        self._belt = shape.belt * height * float(rng.uniform(0.96, 1.04))
        self._foot = length / 2 - (shape.bonnet + float(rng.uniform(-0.02, 0.02))) * length
        self._rear_foot = -length / 2 + shape.boot * length

    def mesh(self) -> Mesh:
        """The whole car."""
        radius = float(self._rng.uniform(0.28, 0.36))
        meshes = [self._body(), self._cabin(), self._seats(), self._details()]
        meshes.append(wheels(self._length, self._width, radius, self._parts))
        if self._shape.bed:
            meshes.append(self._bed())
        return merge(meshes)

    def _body(self) -> Mesh:
        """The lower body: twelve-sided rings from the front bumper to the rear one."""
        rng, half, belt, low = self._rng, self._length / 2, self._belt, self._shape.clearance
        nose, tail = float(rng.uniform(0.66, 0.82)), float(rng.uniform(0.86, 0.98))
        swell = float(rng.uniform(0.04, 0.12))
        rear = min(-half + 0.25, self._rear_foot - 0.01)
        floor = 0.72 if self._shape.bed else 1.0
        stations = [  # x, half width share, bottom z, top z
            (half, 0.72, low + 0.14, (nose - 0.06) * belt),
            (half - 0.06, 0.86, low + 0.03, nose * belt),
            (half - 0.2, 0.95, low, (nose + 0.05) * belt),
            (half - 0.55, 1.0, low, (nose + 0.5 * (1 - nose)) * belt),
            (self._foot, 1.0, low, belt),
            (self._rear_foot, 1.0, low, belt),
            (rear, 0.97, low, floor * 0.98 * belt),
            (-half + 0.07, 0.92, low + 0.04, floor * tail * belt),
            (-half, 0.80, low + 0.15, floor * (tail - 0.08) * belt),
        ]
        rings = []
        for x, share, z0, z1 in stations:
            h, rise = share * 0.965 * self._width / 2, z1 - z0
            side = [
                (h * 0.86, z0),
                (h * (1 - 0.4 * swell), z0 + 0.2 * rise),
                (h, z0 + 0.5 * rise),
                (h * (1 - 0.5 * swell), z0 + 0.82 * rise),
                (h * (0.96 - 0.5 * swell), z0 + 0.95 * rise),
                (h * 0.80, z1),
            ]
            rings.append([(x, y, z) for y, z in side] + [(x, -y, z) for y, z in side[::-1]])
        return loft(np.array(rings), self._colour)

    def _corners(self) -> F64:
        """The cabin's eight corners: four at the belt, four at the roof."""
        shape, belt, height = self._shape, self._belt - 0.02, self._height
        rise, front, rear = height - belt, self._foot, self._rear_foot + 0.02
        low_half, top_half = 0.90 * self._width / 2, shape.roof * self._width / 2
        top_front, top_rear = front - shape.slant_front * rise, rear + shape.slant_rear * rise
        top_rear = min(top_rear, top_front - 0.5)
        return np.array(
            [
                *([front, low_half, belt], [rear, low_half, belt]),
                *([rear, -low_half, belt], [front, -low_half, belt]),
                *([top_front, top_half, height], [top_rear, top_half, height]),
                *([top_rear, -top_half, height], [top_front, -top_half, height]),
            ]
        )

    def _cabin(self) -> Mesh:
        """Roof, pillars and panes; there is nothing behind the panes but seats."""
        shape, corners = self._shape, self._corners()
        low, top = corners[:4], corners[4:].copy()
        under = top.copy()
        under[:, 2] -= 0.05
        ridge = top.copy()
        ridge[:, :2] *= 0.93
        ridge[:, 0] += 0.07 * top[:, 0].mean()
        top[:, 2] -= 0.03
        parts = [hexahedron(np.concatenate([under, top]), self._colour)]
        parts.append(hexahedron(np.concatenate([top, ridge]), self._colour))
        for a, b, whole in ((3, 0, True), (1, 2, shape.windows >= 1.0)):  # windscreen, rear window
            glass = [(0.07, 0.93)] if whole else []
            parts.append(_panel(low, under, (a, b), glass, self._colour, self._parts.glass))
        doors = [(0.07, 0.47), (0.52, 0.93)] if self._length > 4.0 else [(0.08, 0.6), (0.66, 0.92)]
        for a, b in ((0, 1), (3, 2)):
            glass = [(u, v) for u, v in doors if v <= shape.windows or u < 0.1 < shape.windows]
            glass = [(u, min(v, shape.windows)) for u, v in glass]
            parts.append(_panel(low, under, (a, b), glass, self._colour, self._parts.glass))
        return merge(parts)

    def _seats(self) -> Mesh:
        """What a beam meets behind the panes: dashboard, seats and their headrests."""
        cloth, belt = self._parts.cloth, self._belt
        span = self._foot - self._rear_foot
        top = min(belt + 0.30, self._height - 0.12)
        meshes = [box((self._foot - 0.2, 0, belt), (0.4, 0.75 * self._width, 0.1), cloth)]
        for share in (0.45, 0.8):
            for side in (1.0, -1.0):
                x, y = self._foot - share * span, side * 0.22 * self._width
                meshes.append(box((x, y, belt + 0.02), (0.16, 0.46, 0.2), cloth))
                meshes.append(box((x - 0.02, y, top - 0.1), (0.1, 0.26, 0.18), cloth))
        return merge(meshes)

    def _bed(self) -> Mesh:
        """The walls of a pickup's load bed."""
        half, belt = self._length / 2, self._belt
        x0, x1 = -half + 0.06, self._rear_foot
        y, low = 0.46 * self._width, 0.6 * belt
        middle, rise = (low + belt) / 2, belt - low
        return merge(
            [
                box(((x0 + x1) / 2, y, middle), (x1 - x0, 0.08, rise), self._colour),
                box(((x0 + x1) / 2, -y, middle), (x1 - x0, 0.08, rise), self._colour),
                box((x0 + 0.03, 0, middle), (0.06, 2 * y, rise), self._colour),
            ]
        )

    def _details(self) -> Mesh:
        """Lights, plates, bumpers, mirrors."""
        parts, belt, low = self._parts, self._belt, self._shape.clearance
        width, front, rear = self._width, self._length / 2, -self._length / 2
        meshes = [
            box((front - 0.02, 0, low + 0.22), (0.04, 0.6 * width, 0.15), parts.trim),
            box((front, 0, low + 0.22), (0.02, 0.5, 0.11), parts.plate),
            box((rear + 0.02, 0, low + 0.24), (0.04, 0.6 * width, 0.1), parts.trim),
            box((rear, 0, 0.62 * belt), (0.02, 0.5, 0.11), parts.plate),
        ]
        tall = float(self._rng.uniform(0.12, 0.35))
        for side in (1.0, -1.0):
            lamp, tail = side * 0.33 * width, side * 0.38 * width
            mirror = (self._foot - 0.3, side * (width / 2 + 0.04), belt + 0.03)
            meshes += [
                box((front - 0.06, lamp, 0.60 * belt), (0.12, 0.28, 0.13), parts.front_light),
                box((rear + 0.06, tail, 0.74 * belt), (0.12, 0.2, tall), parts.rear_light),
                box(mirror, (0.12, 0.2, 0.13), parts.trim),
            ]
        return merge(meshes)


def _panel(
    low: F64,
    top: F64,
    edge: tuple[int, int],
    panes: list[tuple[float, float]],
    colour: int,
    glass: int,
) -> Mesh:
    """One side of the cabin over the bottom edge: panes between ``spans`` of it, sheet around."""
    a, b = edge

    def patch(span: tuple[float, float], rise: tuple[float, float], material: int) -> Mesh:
        def at(u: float, v: float) -> F64:
            bottom = low[a] * (1 - u) + low[b] * u
            upper = top[a] * (1 - u) + top[b] * u
            return np.asarray(bottom * (1 - v) + upper * v)

        (u0, u1), (v0, v1) = span, rise
        return quad(np.array([at(u0, v0), at(u1, v0), at(u1, v1), at(u0, v1)]), material)

    edges = [0.0, *(x for span in panes for x in span), 1.0]
    meshes = []
    for k, span in enumerate(pairwise(edges)):
        if k % 2 == 0:
            meshes.append(patch(span, (0.0, 1.0), colour))
            continue
        meshes.append(patch(span, (0.08, 0.92), glass))
        meshes.append(patch(span, (0.0, 0.08), colour))
        meshes.append(patch(span, (0.92, 1.0), colour))
    return merge(meshes)


def wheels(
    length: float,
    width: float,
    radius: float,
    parts: Parts,
    axles: tuple[float, ...] = (0.305, -0.295),
) -> Mesh:
    """A pair of wheels per axle in their dark arches; ``axles`` as shares of the length."""
    meshes = []
    for x in (share * length for share in axles):
        for side in (1.0, -1.0):
            inner = side * (width / 2 - 0.22)
            arch, tyre, hub = side * 0.488 * width, side * 0.495 * width, side * 0.5 * width
            high = radius + 0.06
            meshes += [
                tube((x, inner, high), (x, arch, high), radius + 0.05, parts.trim, sides=12),
                tube((x, inner, radius), (x, tyre, radius), radius, parts.rubber, sides=14),
                tube((x, inner, radius), (x, hub, radius), 0.6 * radius, parts.hub, sides=8),
            ]
    return merge(meshes)
