"""What lies along a road outside the town: woods and their undergrowth, banks, guard rails, walls
with ivy, noise barriers; and rows of parked bicycles.

Shapes stand at the origin on z = 0 with their front towards -y (the road) and their length along
x.
"""

from __future__ import annotations

import numpy as np

from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import Mesh, blob, box, leaves, loft, merge, tube
from mm_fusion.sim.people import PeopleFactory
from mm_fusion.sim.scenery import SceneryFactory

Rng = np.random.Generator

_PATCHES = 8  # a town's patches of undergrowth, placed again and again
_TRUNKS = 6


class RoadsideFactory:
    """Makes unlabelled things of the open country; ``rng`` decides."""

    def __init__(
        self, table: MaterialTable, rng: Rng, make: SceneryFactory, people: PeopleFactory
    ) -> None:
        self._table, self._rng, self.make, self._people = table, rng, make, people
        self._steel = table.add(np.full(3, rng.uniform(0.25, 0.45)), float(rng.uniform(0.3, 0.7)))
        self._stone = table.add((0.3, 0.29, 0.27), 0.35, Texture.NOISE, (0.3, 0.25, 0, 0))
        self._patches: list[Mesh] = []
        self._trunks: list[Mesh] = []

    def undergrowth(self) -> Mesh:
        """A patch of low plants, some metres wide: what grows under trees and beside roads."""
        rng = self._rng
        if len(self._patches) < _PATCHES:
            self._patches.append(self._patch())
        return self._patches[int(rng.integers(len(self._patches)))]

    def _patch(self) -> Mesh:
        rng, parts = self._rng, []
        half, high = rng.uniform((1.0, 0.5), (3.5, 1.5)), float(rng.uniform(0.25, 1.9))
        for _ in range(int(rng.integers(3, 9))):
            radii = rng.uniform((0.3, 0.3, 0.2), (1.4, 1.1, 0.6)) * [1.0, 1.0, high]
            x, y = rng.uniform(-1.0, 1.0, 2) * half
            at = (float(x), float(y), float(radii[2] * rng.uniform(0.4, 1.2)))
            material = self.make.foliage()
            if rng.random() < 0.4:
                parts.append(blob(at, radii * 0.75, material, rng, 0.35))
            size_m = float(rng.uniform(0.07, 0.22))
            parts.append(leaves(at, radii, int(rng.integers(20, 60)), size_m, material, rng))
        return merge(parts)

    def trunk(self) -> Mesh:
        """A tree of the woods: a bare trunk, its crown out of reach, at times a low branch."""
        rng = self._rng
        if len(self._trunks) < _TRUNKS:
            h, r = float(rng.uniform(5.0, 11.0)), float(rng.uniform(0.06, 0.35))
            lean = rng.normal(scale=0.4, size=2)
            parts = [tube((0, 0, -0.3), (*lean, h), r, self.make.bark, 0.6 * r, 7)]
            material = self.make.foliage()
            for _ in range(int(rng.integers(1, 4))):
                at = (*(lean + rng.normal(scale=1.0, size=2)), h * float(rng.uniform(0.4, 1.0)))
                radii = rng.uniform(0.6, 2.0, 3)
                parts.append(leaves(at, radii, 60, 0.45, material, rng))
            self._trunks.append(merge(parts))
        return self._trunks[int(rng.integers(len(self._trunks)))]

    def guard_rail(self, length_m: float) -> Mesh:
        """A beam of steel on posts, or a low wall of concrete elements."""
        rng = self._rng
        if rng.random() < 0.2:
            h = float(rng.uniform(0.6, 1.1))
            outline = np.array([(-0.3, 0.0), (-0.1, 0.35), (-0.08, h), (0.08, h), (0.1, 0.35)])
            rings = np.zeros((2, 6, 3))
            rings[:, :, 1:] = np.concatenate([outline, [(0.3, 0.0)]])
            rings[0, :, 0], rings[1, :, 0] = -length_m / 2, length_m / 2
            return loft(rings, self._stone)
        h, gap = float(rng.uniform(0.65, 0.85)), float(rng.choice([1.33, 2.0, 4.0]))
        posts = [
            box((x, 0.08, h / 2 - 0.1), (0.1, 0.06, h + 0.1), self._steel)
            for x in np.arange(-length_m / 2, length_m / 2, gap)
        ]
        beams = [box((0, -0.02, h - z), (length_m, 0.08, 0.12), self._steel) for z in (0.06, 0.24)]
        if rng.random() < 0.3:
            beams.append(box((0, -0.02, 1.1), (length_m, 0.05, 0.05), self._steel))
        return merge([*posts, *beams])

    def ivy_wall(self, length_m: float) -> Mesh:
        """A retaining wall close to the road, with recesses and what hangs over its top."""
        rng, h = self._rng, float(self._rng.uniform(1.0, 4.0))
        material = self._table.add(
            rng.uniform(0.1, 0.4) * np.array([1.0, 0.93, 0.85]),
            float(rng.uniform(0.2, 0.5)),
            Texture.BRICK if rng.random() < 0.5 else Texture.NOISE,
            (0.25, 0.3, 0.2, 0),
        )
        parts, x = [], -length_m / 2
        while x < length_m / 2 - 0.5:
            part = min(float(rng.uniform(3.0, 12.0)), length_m / 2 - x)
            deep = float(rng.choice([0.0, 0.0, 0.3, 1.0]))
            parts.append(
                box((x + part / 2, 0.3 + deep, h / 2 - 0.2), (part, 0.6, h + 0.4), material)
            )
            parts.append(box((x, 0.5, h / 2 - 0.2), (0.4, 1.6, h + 0.4 + deep * 0.2), material))
            x += part
        for at in rng.uniform(-0.5, 0.5, int(length_m * rng.uniform(0.0, 0.6))) * length_m:
            radii = rng.uniform((0.5, 0.3, 0.3), (1.5, 0.9, 1.2))
            leaf, z = self.make.foliage(), h + float(rng.uniform(-0.8, 0.5))
            if rng.random() < 0.5:
                parts.append(blob((at, 0.2, z), radii * 0.8, leaf, rng, 0.3))
            parts.append(leaves((at, 0.1, z), radii, 40, 0.15, leaf, rng))
        return merge(parts)

    def noise_barrier(self, length_m: float) -> Mesh:
        """A high plain fence of panels between posts."""
        rng, h = self._rng, float(self._rng.uniform(2.0, 4.0))
        panel = self._table.add(rng.uniform(0.1, 0.45) * rng.uniform(0.7, 1.0, 3), 0.4)
        posts = [
            box((x, 0, h / 2), (0.2, 0.25, h + 0.1), self._steel)
            for x in np.arange(-length_m / 2, length_m / 2, 4.0)
        ]
        return merge([box((0, 0, h / 2 - 0.1), (length_m, 0.1, h), panel), *posts])

    def bicycles(self) -> Mesh:
        """Bicycles side by side in a stand: as large as a car, and none."""
        rng, gap = self._rng, float(self._rng.uniform(0.45, 0.9))
        kinds = [self._people.parked_bicycle() for _ in range(3)]
        parts = []
        for k in range(int(rng.integers(3, 13))):
            if rng.random() < 0.85:
                yaw = np.pi / 2 + float(rng.normal(scale=0.15)) + np.pi * int(rng.integers(0, 2))
                parts.append(kinds[int(rng.integers(3))].placed((k * gap, 0.0, 0.0), yaw))
        for x in (0.0, 12 * gap * float(rng.uniform(0.2, 1.0))):
            parts.append(tube((x, 0.4, 0.0), (x, 0.4, 0.8), 0.03, self._steel, sides=6))
        return merge(parts)
