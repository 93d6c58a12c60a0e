"""What stands upright before houses, shops and gardens, as high and as thin as a person.

Shapes stand at the origin on z = 0 with their front towards -y, the street.
"""

from __future__ import annotations

import numpy as np

from mm_fusion.sim.cycles import rim
from mm_fusion.sim.materials import MaterialTable
from mm_fusion.sim.mesh import Mesh, blob, box, hexahedron, leaves, merge, tube
from mm_fusion.sim.people import PeopleFactory
from mm_fusion.sim.scenery import SceneryFactory
from mm_fusion.sim.uprights import UprightFactory

Rng = np.random.Generator


class ShopfrontFactory(UprightFactory):
    """Makes what people put before their doors, beside the furniture of the street."""

    def __init__(
        self, table: MaterialTable, rng: Rng, make: SceneryFactory, people: PeopleFactory
    ) -> None:
        super().__init__(table, rng, make)
        self.people = people

    def wheelie_bin(self) -> Mesh:
        """A bin on two wheels with a lid."""
        w, h = self.between(0.45, 0.62), self.between(0.9, 1.15)
        body = self.colour(0.02, 0.25)
        low = np.array([(0.4, 0.4), (-0.4, 0.4), (-0.4, -0.4), (0.4, -0.4)]) * w
        corners = np.concatenate(
            [np.column_stack([low, np.full(4, 0.06)]), np.column_stack([1.25 * low, np.full(4, h)])]
        )
        lid = self.colour() if self.chance(0.5) else body
        parts = [
            hexahedron(corners, body),
            box((0, -0.03, h + 0.03), (1.05 * w, 1.12 * w, 0.07), lid),
            tube((-0.5 * w, 0.5 * w, h), (0.5 * w, 0.5 * w, h), 0.025, body, sides=5),
        ]
        for x in (-0.4 * w, 0.4 * w):
            parts.append(tube((x - 0.03, 0.4 * w, 0.1), (x + 0.03, 0.4 * w, 0.1), 0.1, self.dark))
        return merge(parts)

    def a_board(self) -> Mesh:
        """A sandwich board with a poster on both sides."""
        w, h, lean = self.between(0.45, 0.8), self.between(0.8, 1.35), self.between(0.15, 0.3)
        frame, sides = self.colour(), []
        tilt = np.arctan2(lean, h)
        c, s = np.cos(tilt), np.sin(tilt)
        back = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        for yaw in (0.0, np.pi):
            board = merge(
                [
                    box((0, 0, h / 2), (w, 0.03, h), frame),
                    self.print(0.85 * w, 0.8 * h, 0.12 * h, -0.02),
                ]
            )
            side = board.turned(np.linalg.inv(back)).placed((0, -lean, 0.02))
            sides.append(side.placed((0, 0, 0), yaw))
        return merge(sides)

    def banner(self) -> Mesh:
        """A flag of a shop on its stand, or a parasol that is closed."""
        h, r = self.between(1.7, 2.9), self.between(0.1, 0.24)
        cloth, foot = self.colour(), self.between(0.2, 0.35)
        parts = [
            tube((0, 0, 0), (0, 0, 0.1), foot, self.stone),
            tube((0, 0, 0), (0, 0, h), 0.025, self.steel, sides=5),
        ]
        if self.chance(0.6):
            low = self.between(0.7, 1.1)
            parts.append(tube((0, 0, low), (0, 0, h), r, cloth, 0.05, 7))
        else:
            w = self.between(0.35, 0.7)
            parts.append(box((w / 2, 0, h * 0.62), (w, 0.015, 0.7 * h), cloth))
        return merge(parts)

    def clothes_rack(self) -> Mesh:
        """Clothes on a rail in front of a shop."""
        w, h = self.between(0.5, 1.2), self.between(1.2, 1.75)
        parts = [tube((-w / 2, 0, h), (w / 2, 0, h), 0.02, self.steel, sides=5)]
        for x in (-w / 2, w / 2):
            parts.append(tube((x, 0, 0), (x, 0, h), 0.02, self.steel, sides=5))
        for x in np.arange(-0.45 * w, 0.45 * w, 0.12):
            long = self.between(0.5, 0.95)
            parts.append(box((float(x), 0, h - long / 2 - 0.05), (0.07, 0.42, long), self.colour()))
        return merge(parts)

    def shelves(self) -> Mesh:
        """A stand of postcards, papers or fruit: shelves one above the other."""
        w, d, h = self.between(0.35, 0.9), self.between(0.3, 0.5), self.between(1.0, 1.85)
        parts = [
            box((x, 0.4 * d, h / 2), (0.04, 0.04, h), self.steel) for x in (-0.48 * w, 0.48 * w)
        ]
        for z in np.arange(0.25, h, self.between(0.25, 0.45)):
            parts.append(box((0, 0, float(z)), (w, d, 0.03), self.steel))
            high = self.between(0.1, 0.25)
            parts.append(box((0, 0, float(z) + high / 2), (0.9 * w, 0.8 * d, high), self.colour()))
        return merge(parts)

    def bust(self) -> Mesh:
        """A tailor's dummy: a torso without head or legs on a pole."""
        h, cloth = self.between(1.35, 1.7), self.colour()
        low = h - self.between(0.65, 1.0)
        return merge(
            [
                tube((0, 0, 0), (0, 0, 0.04), 0.22, self.dark),
                tube((0, 0, 0), (0, 0, low + 0.1), 0.025, self.steel, sides=5),
                tube((0, 0, low), (0, 0, h - 0.4), 0.21, cloth, 0.15, 9),
                tube((0, 0, h - 0.4), (0, 0, h - 0.12), 0.15, cloth, 0.2, 9),
                tube((0, 0, h - 0.12), (0, 0, h), 0.19, cloth, 0.06, 9),
            ]
        )

    def statue(self) -> Mesh:
        """A figure of stone on a plinth, half as large again as a person or smaller than one."""
        figure = self.people.pedestrian(standing=True).meshes[0]
        h, scale = self.between(0.5, 1.4), self.between(0.5, 1.2)
        stone = np.full(len(figure.triangles), self.stone, np.int32)
        carved = Mesh(figure.vertices * scale + [0, 0, h], figure.triangles, stone)
        return merge([box((0, 0, h / 2), (0.7, 0.7, h), self.stone), carved])

    def potted(self) -> Mesh:
        """A pot or a tub with a plant as high as a child or higher."""
        rng, pot, r = self.rng, self.between(0.25, 0.65), self.between(0.15, 0.32)
        h, green = self.between(0.7, 2.0), self.make.foliage()
        body = self.colour() if self.chance(0.5) else self.stone
        parts = [tube((0, 0, 0), (0, 0, pot), 0.8 * r, body, r)]
        if self.chance(0.35):
            parts.append(tube((0, 0, pot), (0, 0, h), 0.03, self.make.bark, sides=5))
            parts.append(blob((0, 0, h), np.full(3, self.between(0.2, 0.35)), green, rng, 0.15))
        elif self.chance(0.5):
            parts.append(tube((0, 0, pot), (0, 0, h), r, green, 0.04, 8))
        at, radii = (0, 0, (pot + h) / 2), (1.2 * r, 1.2 * r, (h - pot) / 2 + 0.1)
        parts.append(leaves(at, radii, int(rng.integers(30, 90)), 0.08, green, rng))
        return merge(parts)

    def climber(self) -> Mesh:
        """A plant that climbs up a wall or a pole."""
        h, w = self.between(1.2, 2.6), self.between(0.2, 0.5)
        green, rng = self.make.foliage(), self.rng
        parts = [tube((0, 0.1, 0), (0, 0.1, h), 0.03, self.make.bark, sides=5)]
        for z in np.arange(0.25, h, 0.35):
            radii = np.array([w, 0.2, 0.3]) * rng.uniform(0.6, 1.2, 3)
            at = (float(rng.normal(scale=0.3 * w)), 0.0, float(z))
            kind = self.colour() if self.chance(0.15) else green
            parts.append(leaves(at, radii, 25, 0.08, kind, rng))
        return merge(parts)

    def pier(self) -> Mesh:
        """A post of a gate, the end of a garden's wall, of brick, stone or wood."""
        w, h = self.between(0.15, 0.6), self.between(0.8, 2.1)
        body = (self.stone, self.wood, self.colour(0.1, 0.6))[int(self.rng.integers(3))]
        parts = [box((0, 0, h / 2 - 0.05), (w, w, h + 0.1), body)]
        if self.chance(0.6):
            parts.append(box((0, 0, h), (1.25 * w, 1.25 * w, 0.07), self.stone))
        if self.chance(0.3):
            parts.append(blob((0, 0, h + 0.4 * w), np.full(3, 0.4 * w), self.stone))
        if self.chance(0.3):
            parts.append(box((0, -w / 2 - 0.06, 0.75 * h), (0.28, 0.12, 0.35), self.colour()))
        return merge(parts)

    def crates(self) -> Mesh:
        """Crates or boxes one on the other."""
        w, d, z, parts = self.between(0.35, 0.65), self.between(0.3, 0.45), 0.0, []
        colour = self.colour() if self.chance(0.6) else self.wood
        for _ in range(int(self.rng.integers(2, 7))):
            h = self.between(0.18, 0.35)
            at = (self.between(-0.04, 0.04), self.between(-0.04, 0.04), z + h / 2)
            parts.append(box(at, (w, d, 0.93 * h), colour))
            z += h
        return merge(parts)

    def scaffold(self) -> Mesh:
        """The poles of a scaffold, or props of a building site."""
        h, w = self.between(2.2, 5.0), self.between(0.7, 1.0)
        corners = [(x, y) for x in (-w / 2, w / 2) for y in (-0.35, 0.35)]
        parts = [tube((x, y, 0), (x, y, h), 0.03, self.steel, sides=6) for x, y in corners]
        for z in np.arange(self.between(0.9, 2.0), h, 2.0):
            parts.append(box((0, 0, float(z)), (w, 0.7, 0.05), self.wood))
        parts.append(tube((-w / 2, -0.35, 0.1), (w / 2, -0.35, 2.0), 0.025, self.steel, sides=5))
        return merge(parts)

    def chair(self) -> Mesh:
        """A chair of a café."""
        colour, w = self.colour(), self.between(0.4, 0.52)
        z, top = self.between(0.42, 0.48), self.between(0.75, 0.98)
        legs = [
            tube((x, y, 0), (x, y, z), 0.018, self.steel, sides=5)
            for x in (-0.42 * w, 0.42 * w)
            for y in (-0.42 * w, 0.42 * w)
        ]
        back = box((0, 0.46 * w, (z + top) / 2 + 0.08), (w, 0.03, top - z - 0.1), colour)
        return merge([*legs, box((0, 0, z), (w, w, 0.04), colour), back])

    def cafe_table(self) -> Mesh:
        """A table of a café, at times a high one, with or without a parasol that is closed."""
        r, z = self.between(0.28, 0.45), self.between(1.0, 1.15) if self.chance(0.3) else 0.73
        colour = self.colour()
        parts = [
            tube((0, 0, 0), (0, 0, 0.04), 0.2, self.dark),
            tube((0, 0, 0), (0, 0, z), 0.035, self.steel, sides=6),
            tube((0, 0, z), (0, 0, z + 0.03), r, colour, sides=4 if self.chance(0.4) else 12),
        ]
        if self.chance(0.25):
            parts.append(tube((0, 0, 1.15), (0, 0, 2.4), self.between(0.1, 0.2), colour, 0.04))
        return merge(parts)

    def seat(self) -> Mesh:
        """A bench with its back to the houses."""
        w, colour = self.between(1.4, 1.9), self.wood if self.chance(0.6) else self.colour()
        parts = [box((0, 0, 0.44), (w, 0.42, 0.05), colour)]
        if self.chance(0.7):
            parts.append(box((0, 0.23, 0.68), (w, 0.04, 0.35), colour))
        parts += [box((x, 0, 0.21), (0.07, 0.38, 0.44), self.dark) for x in (-0.4 * w, 0.4 * w)]
        return merge(parts)

    def pushchair(self) -> Mesh:
        """A pram, a pushchair or a shopping trolley without anybody at it."""
        cloth, w = self.colour(), self.between(0.4, 0.55)
        wheels = [
            tube((s * w / 2 - 0.02, y, 0.12), (s * w / 2 + 0.02, y, 0.12), 0.12, self.dark)
            for s in (1.0, -1.0)
            for y in (-0.3, 0.3)
        ]
        frame = [
            tube((x, -0.3, 0.12), (x, 0.55, 1.0), 0.015, self.steel, sides=5)
            for x in (-0.4 * w, 0.4 * w)
        ]
        tub = box((0, -0.05, 0.55), (w, 0.7, 0.3), cloth)
        hood = blob((0, 0.15, 0.78), (0.5 * w, 0.28, 0.25), cloth)
        bar = tube((-0.4 * w, 0.55, 1.0), (0.4 * w, 0.55, 1.0), 0.02, self.dark, sides=5)
        return merge([*wheels, *frame, tub, hood, bar])

    def bicycle(self) -> Mesh:
        """A bicycle on its stand, at times with a box, a basket or bags on it."""
        parts = [self.people.parked_bicycle()]
        if self.chance(0.3):
            at, size = (0.5, 0, 0.95), self.rng.uniform(0.25, 0.4, 3)
            parts.append(box(at, size, self.colour()))
        if self.chance(0.3):
            parts.append(box((-0.45, 0, 0.6), (0.35, 0.4, 0.3), self.colour()))
        return merge(parts)

    def motorbike(self) -> Mesh:
        """A motorcycle or a scooter nobody sits on."""
        return self.people.parked_motorbike()

    def kick_scooter(self) -> Mesh:
        """A small scooter to stand on, as they are hired out."""
        parts = [rim(0.42, 0.11, self.dark), rim(-0.42, 0.11, self.dark)]
        parts.append(box((-0.05, 0, 0.13), (0.75, 0.15, 0.05), self.colour()))
        parts.append(tube((0.42, 0, 0.1), (0.3, 0, 1.12), 0.03, self.dark, sides=6))
        parts.append(tube((0.3, 0.25, 1.12), (0.3, -0.25, 1.12), 0.02, self.dark, sides=5))
        return merge(parts)
