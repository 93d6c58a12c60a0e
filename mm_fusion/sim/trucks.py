"""Large vehicles: box and flatbed trucks, tippers, tankers, semitrailers, buses and trams."""

from __future__ import annotations

import numpy as np

from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import Mesh, box, hexahedron, merge, quad, tube
from mm_fusion.sim.models import CAR, ObjectModel
from mm_fusion.sim.vehicles import Parts, paint, wheels

Rng = np.random.Generator

KINDS = ("box", "flatbed", "tipper", "tanker", "semitrailer", "bus")
_SHARE = (0.36, 0.14, 0.12, 0.08, 0.12, 0.18)


class TruckFactory:
    """Makes large vehicles of random kind and size; they carry the label of a car."""

    def __init__(self, table: MaterialTable, rng: Rng, parts: Parts) -> None:
        self._table, self._rng, self._parts = table, rng, parts

    def make(self, kind: str = "") -> ObjectModel:
        """One vehicle of one of KINDS, or of any."""
        rng = self._rng
        kind = kind or str(rng.choice(KINDS, p=_SHARE))
        if kind == "bus":
            return self._bus()
        spans = {"box": (5.8, 9.5), "flatbed": (5.5, 9.0), "tipper": (6.0, 9.0)}
        length = float(rng.uniform(*spans.get(kind, (9.5, 15.5))))
        small = length < 7.5
        width = float(rng.uniform(2.0, 2.35) if small else rng.uniform(2.4, 2.55))
        height = float(rng.uniform(2.5, 3.3) if small else rng.uniform(3.1, 4.0))
        cab = float(rng.uniform(1.6, 2.3))
        colour = paint(self._table, rng)
        parts = [self._cab(length, width, min(height, 2.0 + 0.45 * cab), cab, colour)]
        parts.append(self._load(kind, length, width, height, cab))
        parts.append(self._chassis(length, width, cab))
        tops = [float(m.vertices[:, 2].max()) for m in parts]
        size = (length, width, max(tops))
        return ObjectModel(CAR, size, (merge(parts),), kind=f"truck_{kind}")

    def _cab(self, length: float, width: float, height: float, cab: float, colour: int) -> Mesh:
        """The driver's cab: sheet below, glass on three sides above, a roof."""
        front, back = length / 2, length / 2 - cab
        half, belt, lean = 0.48 * width, 0.55 * height, 0.12
        low = _ring(front, back, half, 0.45)
        middle = _ring(front, back, half, belt)
        upper = _ring(front - lean, back, 0.95 * half, height - 0.25)
        roof = _ring(front - 2 * lean, back, 0.9 * half, height)
        parts = [
            hexahedron(np.concatenate([low, middle]), colour),
            hexahedron(np.concatenate([upper, roof]), colour),
            quad([middle[1], middle[2], upper[2], upper[1]], colour),
            quad([middle[3], middle[0], upper[0], upper[3]], self._parts.glass),
        ]
        for a, b in ((0, 1), (3, 2)):
            split_low = 0.35 * middle[a] + 0.65 * middle[b]
            split_top = 0.35 * upper[a] + 0.65 * upper[b]
            parts.append(quad([middle[a], split_low, split_top, upper[a]], self._parts.glass))
            parts.append(quad([split_low, middle[b], upper[b], split_top], colour))
        seat_z = belt + 0.25
        parts.append(box((back + 0.35, 0, seat_z), (0.2, 1.6 * half, 0.5), self._parts.cloth))
        parts += self._lights(front, half, 0.75, self._parts.front_light)
        parts.append(box((front, 0, 0.55), (0.03, 0.5, 0.12), self._parts.plate))
        return merge(parts)

    def _lights(self, x: float, half: float, z: float, material: int) -> list[Mesh]:
        return [box((x, s * 0.8 * half, z), (0.06, 0.3, 0.18), material) for s in (1.0, -1.0)]

    def _load(self, kind: str, length: float, width: float, height: float, cab: float) -> Mesh:
        """What is behind the cab."""
        rng, colour = self._rng, paint(self._table, self._rng)
        start, end = length / 2 - cab - float(rng.uniform(0.1, 0.7)), -length / 2
        middle, span, floor = (start + end) / 2, start - end, float(rng.uniform(0.85, 1.25))
        deck = box((middle, 0, floor - 0.1), (span, width, 0.2), self._parts.trim)
        if kind in ("box", "semitrailer"):
            body = box((middle, 0, (floor + height) / 2), (span, width, height - floor), colour)
            return merge([body, deck])
        if kind == "tanker":
            radius = min(0.48 * width, 0.5 * (height - floor))
            z = floor + radius
            barrel = tube((start, 0, z), (end, 0, z), radius, colour, sides=14)
            hump = tube((middle, 0, z), (middle, 0, z + radius + 0.12), 0.35, colour)
            return merge([barrel, hump, deck])
        rise = float(rng.uniform(0.35, 0.6) if kind == "flatbed" else rng.uniform(0.7, 1.3))
        walls = [
            box((middle, s * (width / 2 - 0.03), floor + rise / 2), (span, 0.06, rise), colour)
            for s in (1.0, -1.0)
        ]
        ends = [
            box((x, 0, floor + rise / 2), (0.06, width, rise), colour)
            for x in (start - 0.03, end + 0.03)
        ]
        return merge([deck, *walls, *ends, *self._cargo(kind, middle, span, width, floor, rise)])

    def _cargo(
        self, kind: str, middle: float, span: float, width: float, floor: float, rise: float
    ) -> list[Mesh]:
        """Something on the bed, or nothing."""
        rng = self._rng
        if rng.random() < 0.35:
            return []
        stuff = self._table.add(
            rng.uniform(0.05, 0.4, 3), float(rng.uniform(0.1, 0.6)), Texture.NOISE, (0.2, 0.4, 0, 0)
        )
        if kind == "tipper":
            top = floor + rise + float(rng.uniform(-0.2, 0.4))
            low = _ring(middle + 0.46 * span, middle - 0.46 * span, 0.45 * width, floor)
            peak = _ring(middle + 0.2 * span, middle - 0.2 * span, 0.15 * width, top)
            return [hexahedron(np.concatenate([low, peak]), stuff)]
        meshes = []
        for _ in range(int(rng.integers(1, 5))):
            size = rng.uniform((0.5, 0.4, 0.3), (0.4 * span, 0.85 * width, 1.4))
            x = middle + float(rng.uniform(-0.5, 0.5)) * (span - size[0])
            y = float(rng.uniform(-0.5, 0.5)) * (width - size[1])
            meshes.append(box((x, y, floor + size[2] / 2), size, stuff))
        return meshes

    def _chassis(self, length: float, width: float, cab: float) -> Mesh:
        """Frame, wheels, underrun guard and rear lights."""
        rng, parts = self._rng, self._parts
        front = 0.5 - 0.75 * min(cab, 1.8) / length
        axles = [front, -0.5 + 1.6 / length]
        if length > 7.5:
            axles.append(axles[-1] + 1.25 / length)
        if length > 9.5:
            axles += [-0.5 + (1.6 + 2.5) / length, front - 3.2 / length]
        radius = float(rng.uniform(0.36, 0.42) if length < 7.5 else rng.uniform(0.46, 0.53))
        meshes = [
            box((0, 0, 0.8), (0.94 * length, 0.4 * width, 0.25), parts.trim),
            wheels(length, width, radius, parts, tuple(axles)),
            box((-length / 2 + 0.05, 0, 0.55), (0.1, 0.95 * width, 0.12), parts.trim),
            box((-length / 2, 0, 0.75), (0.03, 0.5, 0.12), parts.plate),
            *self._lights(-length / 2 + 0.02, 0.48 * width, 0.75, parts.rear_light),
        ]
        if rng.random() < 0.5:  # a guard or a tank between the axles
            for s in (1.0, -1.0):
                at = (-0.05 * length, s * 0.45 * width, 0.6)
                meshes.append(box(at, (0.35 * length, 0.1, 0.45), parts.hub))
        return merge(meshes)

    def _bus(self) -> ObjectModel:
        """A city bus: glass all around above a low belt."""
        rng, parts = self._rng, self._parts
        length, width = float(rng.uniform(8.5, 13.0)), float(rng.uniform(2.35, 2.55))
        height, belt = float(rng.uniform(2.85, 3.2)), float(rng.uniform(1.0, 1.35))
        colour, half, x = paint(self._table, rng), width / 2, length / 2
        low, waist = _ring(x, -x, half, 0.3), _ring(x, -x, half, belt)
        upper, roof = (
            _ring(x - 0.08, -x, half, height - 0.5),
            _ring(x - 0.15, -x, 0.95 * half, height),
        )
        meshes = [
            hexahedron(np.concatenate([low, waist]), colour),
            hexahedron(np.concatenate([upper, roof]), colour),
            quad([waist[3], waist[0], upper[0], upper[3]], parts.glass),
            quad([waist[1], waist[2], upper[2], upper[1]], parts.glass),
        ]
        bays = int(rng.integers(5, 9))
        for a, b in ((0, 1), (3, 2)):
            for k in range(bays):
                for u0, u1, material in (
                    (k / bays, (k + 0.1) / bays, colour),
                    ((k + 0.1) / bays, (k + 1) / bays, parts.glass),
                ):
                    corners = [
                        waist[a] * (1 - u0) + waist[b] * u0,
                        waist[a] * (1 - u1) + waist[b] * u1,
                        upper[a] * (1 - u1) + upper[b] * u1,
                        upper[a] * (1 - u0) + upper[b] * u0,
                    ]
                    meshes.append(quad(corners, material))
        for seat in np.linspace(-0.42, 0.38, 9):
            for s in (1.0, -1.0):
                at = (seat * length, s * 0.5 * half, belt + 0.1)
                meshes.append(box(at, (0.15, 0.8, 0.4), parts.cloth))
        meshes.append(wheels(length, width, 0.48, parts, (0.28, -0.25)))
        meshes += self._lights(x, half, 0.7, parts.front_light)
        meshes += self._lights(-x, half, 0.9, parts.rear_light)
        meshes.append(box((-x, 0, 0.6), (0.03, 0.5, 0.12), parts.plate))
        return ObjectModel(CAR, (length, width, height), (merge(meshes),), kind="bus")


def _ring(front: float, back: float, half: float, z: float) -> np.ndarray:
    """Four corners [4,3] in the order of ``hexahedron``."""
    return np.array([[front, half, z], [back, half, z], [back, -half, z], [front, -half, z]])
