"""What stands about in a street and is nothing to be found: small furniture, and things that are
as large as a car and as easily taken for one.

Shapes stand at the origin on z = 0, their long side along x.
"""

from __future__ import annotations

import numpy as np

from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import Mesh, blob, box, hexahedron, leaves, loft, merge, tube
from mm_fusion.sim.scenery import SceneryFactory

Rng = np.random.Generator

SMALL = {
    "bin": 0.22,
    "bollard": 0.18,
    "cabinet": 0.10,
    "bench": 0.08,
    "planter": 0.10,
    "column": 0.04,
    "meter": 0.12,
    "post": 0.08,
    "pallets": 0.04,
    "board": 0.04,
}
LARGE = {
    "hedge_block": 0.20,
    "bushes": 0.14,
    "wall_end": 0.14,
    "heap": 0.07,
    "dumpster": 0.07,
    "skip": 0.05,
    "shed": 0.06,
    "shelter": 0.05,
    "barrier": 0.06,
    "rail": 0.05,
    "stones": 0.04,
    "container": 0.03,
    "billboard": 0.04,
}


class ClutterFactory:
    """Makes unlabelled things of random kind and size; ``rng`` decides."""

    def __init__(self, table: MaterialTable, rng: Rng, scenery: SceneryFactory) -> None:
        self._table, self._rng, self._scenery = table, rng, scenery
        self._dark = table.add((0.05, 0.05, 0.055), 0.15)
        self._metal = table.add((0.3, 0.3, 0.31), 0.4)
        self._stone = table.add((0.36, 0.35, 0.33), 0.35, Texture.NOISE, (0.3, 0.25, 0, 0))
        self._wood = table.add((0.2, 0.13, 0.07), 0.4, Texture.PLANKS, (0.12, 0.3, 0, 0))
        self._glass = table.add((0.04, 0.05, 0.06), 0.1, Texture.GLASS, (1, 0, 0, 0), 0.4, 0.75)

    def small(self) -> Mesh:
        """Furniture of the pavement."""
        return self._make(SMALL)

    def large(self) -> Mesh:
        """Something of the size of a car."""
        return self._make(LARGE)

    def _make(self, kinds: dict[str, float]) -> Mesh:
        share = np.array(list(kinds.values()))
        kind = str(self._rng.choice(list(kinds), p=share / share.sum()))
        made: Mesh = getattr(self, f"_{kind}")()
        return made

    def _colour(self) -> int:
        rgb = self._rng.uniform(0.02, 0.5) * self._rng.uniform(0.3, 1.0, 3)
        return self._table.add(rgb, float(self._rng.uniform(0.08, 0.6)))

    # ------------------------------------------------------------------------------- small

    def _bin(self) -> Mesh:
        w, h = float(self._rng.uniform(0.45, 0.9)), float(self._rng.uniform(0.8, 1.25))
        body = box((0, 0, h / 2), (w, 0.8 * w, h), self._colour())
        return merge([body, box((0, 0, h), (1.06 * w, 0.9 * w, 0.07), self._dark)])

    def _bollard(self) -> Mesh:
        h = float(self._rng.uniform(0.6, 1.15))
        return tube((0, 0, -0.1), (0, 0, h), float(self._rng.uniform(0.05, 0.14)), self._dark)

    def _cabinet(self) -> Mesh:
        size = self._rng.uniform((0.5, 0.3, 0.9), (1.5, 0.6, 1.7))
        return box((0, 0, size[2] / 2), size, self._metal)

    def _bench(self) -> Mesh:
        seat = box((0, 0, 0.45), (1.6, 0.45, 0.06), self._wood)
        back = box((0, 0.22, 0.7), (1.6, 0.05, 0.4), self._wood)
        feet = [box((x, 0, 0.2), (0.08, 0.4, 0.45), self._dark) for x in (-0.6, 0.6)]
        return merge([seat, back, *feet])

    def _planter(self) -> Mesh:
        pot = tube((0, 0, 0), (0, 0, 0.5), 0.3, self._stone, 0.4)
        return merge([pot, self._scenery.bush().placed((0, 0, 0.4))])

    def _column(self) -> Mesh:
        h, r = float(self._rng.uniform(2.0, 3.4)), float(self._rng.uniform(0.3, 0.65))
        return tube((0, 0, 0), (0, 0, h), r, self._stone, sides=12)

    def _meter(self) -> Mesh:
        """As high and as thick as somebody who stands there."""
        rng = self._rng
        h, w = float(rng.uniform(1.2, 1.9)), float(rng.uniform(0.15, 0.5))
        body = box((0, 0, 0.75 * h), (w, 0.8 * w, 0.5 * h), self._colour())
        return merge([tube((0, 0, 0), (0, 0, 0.6 * h), 0.06, self._metal), body])

    def _post(self) -> Mesh:
        h, r = float(self._rng.uniform(1.3, 6.0)), float(self._rng.uniform(0.04, 0.2))
        return tube((0, 0, -0.1), (0, 0, h), r, self._metal, 0.8 * r)

    def _pallets(self) -> Mesh:
        n = int(self._rng.integers(3, 13))
        return merge([box((0, 0, 0.15 * k + 0.06), (1.2, 0.8, 0.11), self._wood) for k in range(n)])

    def _board(self) -> Mesh:
        """A sandwich board in front of a shop."""
        colour = self._colour()
        sides = []
        for lean in (0.22, -0.22):
            corners = [(x, lean * (1 - z), z) for z in (0.0, 1.1) for x in (0.35, -0.35)]
            thick = [(x, y + 0.03, z) for x, y, z in corners]
            ring = [corners[0], corners[1], thick[1], thick[0]]
            ring += [corners[2], corners[3], thick[3], thick[2]]
            sides.append(hexahedron(np.array(ring, float), colour))
        return merge(sides)

    # ------------------------------------------------------------------------------- large

    def _hedge_block(self) -> Mesh:
        """A piece of hedge with two ends, of the height and width of a car or near it."""
        rng = self._rng
        return self._scenery.hedge(
            float(rng.uniform(1.5, 6.0)), float(rng.uniform(1.0, 2.3)), float(rng.uniform(0.6, 2.0))
        )

    def _bushes(self) -> Mesh:
        """Shrubs grown into each other."""
        rng = self._rng
        foliage = self._scenery.foliage()
        long, high = float(rng.uniform(1.5, 5.5)), float(rng.uniform(0.9, 2.3))
        parts = []
        for x in np.arange(-long / 2, long / 2 + 0.1, 0.9):
            radii = np.array([0.8, rng.uniform(0.5, 1.1), 0.5 * high * rng.uniform(0.7, 1.1)])
            at = (float(x), float(rng.normal(scale=0.2)), float(radii[2]) * 0.9)
            parts.append(blob(at, radii * 0.85, foliage, rng, 0.22))
            parts.append(leaves(at, radii, 45, 0.14, foliage, rng))
        return merge(parts)

    def _wall_end(self) -> Mesh:
        """A wall that ends at the street: two pieces at right angles, often with a pier."""
        rng = self._rng
        h, thick = float(rng.uniform(0.6, 2.4)), float(rng.uniform(0.2, 0.45))
        material = self._table.add(
            rng.uniform(0.12, 0.5) * np.array([1, 0.9, 0.8]),
            float(rng.uniform(0.2, 0.6)),
            Texture.BRICK,
            (0.12, 0.3, 0.3, 0),
        )
        a, b = float(rng.uniform(0.8, 5.0)), float(rng.uniform(0.0, 4.0))
        parts = [box((0, 0, h / 2 - 0.2), (a, thick, h + 0.4), material)]
        if b > 0.5:
            at = (a / 2, b / 2 * float(rng.choice([-1, 1])), h / 2 - 0.2)
            parts.append(box(at, (thick, b, h + 0.4), material))
        if rng.random() < 0.5:
            parts.append(box((-a / 2, 0, (h + 0.2) / 2), (0.5, 0.5, h + 0.2), material))
        return merge(parts)

    def _heap(self) -> Mesh:
        """Earth, gravel or leaves."""
        rng = self._rng
        colour = self._table.add(
            rng.uniform(0.08, 0.35) * np.array([1, 0.85, 0.7]),
            0.3,
            Texture.NOISE,
            (0.15, 0.5, 0, 0),
        )
        radii = rng.uniform((0.9, 0.7, 0.5), (2.8, 1.6, 1.6))
        return blob((0, 0, 0), radii, colour, rng, 0.18)

    def _dumpster(self) -> Mesh:
        """Large bins in a row."""
        rng, colour = self._rng, self._colour()
        h, n = float(rng.uniform(1.1, 1.6)), int(rng.integers(1, 4))
        parts = []
        for k in range(n):
            x = 1.3 * (k - (n - 1) / 2)
            parts.append(box((x, 0, 0.15 + h / 2), (1.2, 1.0, h - 0.15), colour))
            parts.append(tube((x - 0.6, 0, h), (x + 0.6, 0, h), 0.45, self._dark, sides=10))
        return merge(parts)

    def _skip(self) -> Mesh:
        """An open container for rubble."""
        rng, colour = self._rng, self._colour()
        a, h, w = float(rng.uniform(2.5, 4.2)), float(rng.uniform(1.0, 1.7)), 1.75
        low = np.array([[0.32 * a, w / 2, 0.1], [-0.32 * a, w / 2, 0.1]])
        low = np.concatenate([low, low[::-1] * [1, -1, 1]])
        top = low * [1.55, 1, 1] + [0, 0, h - 0.1]
        rubble = blob((0, 0, h - 0.2), (0.38 * a, 0.7, 0.45), self._stone, rng, 0.2)
        return merge([hexahedron(np.concatenate([low, top]), colour), rubble])

    def _shed(self) -> Mesh:
        """A hut or a low garage."""
        rng = self._rng
        size = rng.uniform((1.8, 1.5, 1.6), (5.5, 3.2, 2.6))
        roof = box((0, 0, size[2] + 0.06), size * [1.1, 1.15, 0] + [0, 0, 0.12], self._dark)
        wall = self._wood if rng.random() < 0.5 else self._colour()
        door = box((0.1 * size[0], -size[1] / 2, 0.95), (1.2, 0.06, 1.9), self._metal)
        return merge([box((0, 0, size[2] / 2), size, wall), roof, door])

    def _shelter(self) -> Mesh:
        """A bus stop: a roof on posts, panes behind and at its sides."""
        a, w, h = float(self._rng.uniform(2.5, 5.0)), 1.4, 2.4
        posts = [
            tube((x, y, 0), (x, y, h), 0.04, self._metal, sides=6)
            for x in (-a / 2, a / 2)
            for y in (-w / 2, w / 2)
        ]
        panes = [
            box((0, w / 2, 1.2), (a, 0.02, 1.9), self._glass),
            box((a / 2, 0, 1.2), (0.02, w, 1.9), self._glass),
        ]
        roof = box((0, 0, h), (a + 0.3, w + 0.3, 0.12), self._dark)
        seat = box((0, 0.35, 0.45), (0.7 * a, 0.35, 0.08), self._wood)
        return merge([*posts, *panes, roof, seat])

    def _barrier(self) -> Mesh:
        """Concrete or plastic barriers end to end."""
        a, h = float(self._rng.uniform(1.5, 8.0)), float(self._rng.uniform(0.7, 1.1))
        outline = np.array([(-0.3, 0), (-0.3, 0.1), (-0.1, 0.4), (-0.08, h)])
        outline = np.concatenate([outline, outline[::-1] * [-1, 1]])
        rings = np.zeros((2, 8, 3))
        rings[:, :, 1:] = outline
        rings[0, :, 0], rings[1, :, 0] = -a / 2, a / 2
        return loft(rings, self._stone if self._rng.random() < 0.6 else self._colour())

    def _rail(self) -> Mesh:
        """A guard rail or a railing on posts."""
        rng = self._rng
        a, h = float(rng.uniform(4.0, 14.0)), float(rng.uniform(0.6, 1.2))
        posts = [
            box((x, 0, h / 2), (0.08, 0.08, h), self._metal) for x in np.arange(-a / 2, a / 2, 1.8)
        ]
        return merge([*posts, box((0, -0.06, h - 0.15), (a, 0.06, 0.3), self._metal)])

    def _stones(self) -> Mesh:
        """Blocks of rock or concrete."""
        rng = self._rng
        parts = []
        for k in range(int(rng.integers(1, 5))):
            size = rng.uniform(0.4, 1.4, 3)
            at = (1.3 * k - 1.5, float(rng.normal(scale=0.2)), float(size[2]) / 2)
            parts.append(box(at, size, self._stone))
        return merge(parts)

    def _container(self) -> Mesh:
        """A site or freight container."""
        a = float(self._rng.choice([3.0, 6.06, 12.2]))
        return box((0, 0, 1.3 + 0.1), (a, 2.44, 2.6), self._colour())

    def _billboard(self) -> Mesh:
        """A large board on two posts, facing across."""
        rng = self._rng
        a, h, z = float(rng.uniform(1.5, 4.0)), float(rng.uniform(1.2, 2.7)), rng.uniform(0.2, 2.0)
        posts = [
            tube((x, 0, 0), (x, 0, z + h), 0.06, self._metal, sides=6) for x in (-a / 2.5, a / 2.5)
        ]
        return merge([*posts, box((0, -0.08, z + h / 2), (a, 0.1, h), self._colour())])
