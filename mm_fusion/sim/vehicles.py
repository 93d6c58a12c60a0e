"""Cars: a rounded body, a cabin with slanted glass, wheels, lights and plates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import Mesh, box, hexahedron, loft, merge, quad, tube
from mm_fusion.sim.models import CAR, ObjectModel

F64 = npt.NDArray[np.float64]


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


_SHAPES: dict[str, _Shape] = {
    "hatchback": _Shape(
        (3.6, 4.2), (1.64, 1.78), (1.42, 1.55), 0.21, 0.02, 0.60, 1.3, 0.5, 0.74, 0.18
    ),
    "sedan": _Shape(
        (4.4, 4.95), (1.76, 1.88), (1.40, 1.50), 0.25, 0.15, 0.62, 1.6, 1.3, 0.72, 0.17
    ),
    "wagon": _Shape((4.4, 4.9), (1.76, 1.86), (1.44, 1.55), 0.25, 0.02, 0.61, 1.5, 0.6, 0.74, 0.17),
    "suv": _Shape((4.2, 4.9), (1.80, 1.98), (1.62, 1.82), 0.23, 0.02, 0.60, 1.0, 0.4, 0.78, 0.24),
    "minivan": _Shape(
        (4.3, 4.9), (1.78, 1.92), (1.65, 1.85), 0.16, 0.01, 0.56, 1.1, 0.2, 0.82, 0.2
    ),
    "van": _Shape(
        (4.9, 5.8), (1.90, 2.05), (1.90, 2.40), 0.12, 0.0, 0.52, 0.7, 0.05, 0.90, 0.2, 0.35
    ),
}
_SHARE = (0.28, 0.22, 0.14, 0.20, 0.08, 0.08)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Rows of the materials every car has."""

    glass: int
    rubber: int
    hub: int
    trim: int
    front_light: int
    rear_light: int
    plate: int


class CarFactory:
    """Makes car models of random shape and paint; ``rng`` decides."""

    def __init__(self, table: MaterialTable, rng: np.random.Generator) -> None:
        self._table, self._rng = table, rng
        self._parts = _Parts(
            glass=table.add((0.03, 0.035, 0.04), 0.1, Texture.GLASS, lidar_return=0.12),
            rubber=table.add((0.02, 0.02, 0.02), 0.05),
            hub=table.add((0.35, 0.35, 0.36), 0.35),
            trim=table.add((0.03, 0.03, 0.035), 0.08),
            front_light=table.add((0.8, 0.8, 0.78), 0.75, lidar_return=0.8),
            rear_light=table.add((0.45, 0.02, 0.02), 0.8),
            plate=table.add((0.75, 0.75, 0.7), 1.0),
        )

    def make(self) -> ObjectModel:
        """One car."""
        rng = self._rng
        shape = _SHAPES[str(rng.choice(list(_SHAPES), p=_SHARE))]
        length, width, height = (
            float(rng.uniform(*bounds)) for bounds in (shape.length, shape.width, shape.height)
        )
        paint = self._paint()
        bonnet = shape.bonnet + float(rng.uniform(-0.02, 0.02))
        body = _body(shape, length, width, height, bonnet, paint)
        cabin = _cabin(shape, length, width, height, bonnet, paint, self._parts.glass)
        wheels = _wheels(length, width, float(rng.uniform(0.29, 0.35)), self._parts)
        details = _details(shape, length, width, height, self._parts)
        return ObjectModel(CAR, (length, width, height), (merge([body, cabin, wheels, details]),))

    def _paint(self) -> int:
        rng = self._rng
        if rng.random() < 0.62:  # most cars are some grey
            level = float(rng.choice([0.02, 0.05, 0.12, 0.25, 0.45, 0.75])) * rng.uniform(0.8, 1.2)
            rgb = level * rng.uniform(0.95, 1.05, 3)
        else:
            rgb = rng.choice(np.array(_COLOURS)) * rng.uniform(0.6, 1.4)
        reflectivity = 0.06 + 0.5 * float(np.mean(rgb)) + float(rng.uniform(0.0, 0.25))
        return self._table.add(rgb, reflectivity, Texture.PAINT, lidar_return=0.95)


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


def _body(
    shape: _Shape, length: float, width: float, height: float, bonnet: float, paint: int
) -> Mesh:
    """The lower body: octagonal rings from the front bumper to the rear one."""
    belt = shape.belt * height
    foot = length / 2 - bonnet * length
    rear_foot = -length / 2 + shape.boot * length
    low = shape.clearance
    stations = [  # x, half width share, bottom z, top z
        (length / 2, 0.80, low + 0.12, 0.74 * belt),
        (length / 2 - 0.12, 0.93, low, 0.80 * belt),
        (length / 2 - 0.45, 1.0, low, 0.88 * belt),
        (foot, 1.0, low, belt),
        (rear_foot, 1.0, low, belt),
        (min(-length / 2 + 0.25, rear_foot - 0.01), 0.97, low, 0.98 * belt),
        (-length / 2, 0.86, low + 0.14, 0.93 * belt),
    ]
    rings = []
    for x, share, z0, z1 in stations:
        h = share * 0.965 * width / 2  # the wheels reach the full width
        outline = [
            (h * 0.9, z0),
            (h, z0 + 0.16),
            (h, z1 - 0.14),
            (h * 0.88, z1),
            (-h * 0.88, z1),
            (-h, z1 - 0.14),
            (-h, z0 + 0.16),
            (-h * 0.9, z0),
        ]
        rings.append([(x, y, z) for y, z in outline])
    return loft(np.array(rings), paint)


def _cabin(
    shape: _Shape,
    length: float,
    width: float,
    height: float,
    bonnet: float,
    paint: int,
    glass: int,
) -> Mesh:
    """Windows and roof above the belt."""
    belt = shape.belt * height - 0.02
    rise = height - belt
    front = length / 2 - bonnet * length
    rear = -length / 2 + shape.boot * length + 0.02
    low_half, top_half = 0.90 * width / 2, shape.roof * width / 2
    top_front, top_rear = front - shape.slant_front * rise, rear + shape.slant_rear * rise
    corners = np.array(
        [
            *([front, low_half, belt], [rear, low_half, belt]),
            *([rear, -low_half, belt], [front, -low_half, belt]),
            *([top_front, top_half, height], [top_rear, top_half, height]),
            *([top_rear, -top_half, height], [top_front, -top_half, height]),
        ]
    )
    parts = [hexahedron(corners, paint)]
    middle = corners.mean(axis=0)
    for a, b in ((3, 0), (1, 2)):  # windscreen and rear window
        if a == 1 and shape.windows < 1.0:
            continue
        parts.append(_pane(corners, a, b, (0.07, 0.93), middle, glass))
    share = shape.windows
    for a, b in ((0, 1), (3, 2)):
        for span in ((0.08, 0.47), (0.52, 0.92)):
            if span[1] <= share or span[0] < 0.1:
                parts.append(_pane(corners, a, b, (span[0], min(span[1], share)), middle, glass))
    return merge(parts)


def _pane(corners: F64, a: int, b: int, span: tuple[float, float], middle: F64, glass: int) -> Mesh:
    """A pane on the cabin's face over the bottom edge a-b, a little outside of it."""

    def at(u: float, v: float) -> F64:
        low = corners[a] * (1 - u) + corners[b] * u
        top = corners[a + 4] * (1 - u) + corners[b + 4] * u
        return np.asarray(low * (1 - v) + top * v)

    points = np.array([at(span[0], 0.1), at(span[1], 0.1), at(span[1], 0.86), at(span[0], 0.86)])
    normal = np.cross(points[1] - points[0], points[3] - points[0])
    normal /= np.linalg.norm(normal)
    if normal @ (points.mean(axis=0) - middle) < 0:
        normal = -normal
    return quad(points + 0.008 * normal, glass)


def _wheels(length: float, width: float, radius: float, parts: _Parts) -> Mesh:
    meshes = []
    for x in (0.305 * length, -0.295 * length):
        for side in (1.0, -1.0):
            inner = side * (width / 2 - 0.22)
            arch, tyre, hub = side * 0.488 * width, side * 0.495 * width, side * 0.5 * width
            high = radius + 0.06
            meshes += [
                tube((x, inner, high), (x, arch, high), radius + 0.05, parts.trim, sides=14),
                tube((x, inner, radius), (x, tyre, radius), radius, parts.rubber, sides=14),
                tube((x, inner, radius), (x, hub, radius), 0.6 * radius, parts.hub, sides=10),
            ]
    return merge(meshes)


def _details(shape: _Shape, length: float, width: float, height: float, parts: _Parts) -> Mesh:
    """Lights, plates, bumpers, mirrors."""
    belt, low = shape.belt * height, shape.clearance
    front, rear = length / 2, -length / 2
    meshes = [
        box((front - 0.02, 0, low + 0.22), (0.04, 0.6 * width, 0.15), parts.trim),
        box((front, 0, low + 0.22), (0.02, 0.5, 0.11), parts.plate),
        box((rear + 0.02, 0, low + 0.24), (0.04, 0.6 * width, 0.1), parts.trim),
        box((rear, 0, 0.66 * belt), (0.02, 0.5, 0.11), parts.plate),
    ]
    foot = length / 2 - 0.25 * length
    for side in (1.0, -1.0):
        lamp, tail = side * 0.33 * width, side * 0.37 * width
        mirror = (foot - 0.25, side * (width / 2 + 0.04), belt + 0.03)
        meshes += [
            box((front - 0.04, lamp, 0.62 * belt), (0.1, 0.28, 0.13), parts.front_light),
            box((rear + 0.04, tail, 0.78 * belt), (0.1, 0.2, 0.2), parts.rear_light),
            box(mirror, (0.12, 0.2, 0.13), parts.trim),
        ]
    return merge(meshes)
