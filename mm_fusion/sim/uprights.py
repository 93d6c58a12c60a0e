"""What stands upright in a street, as high and as thin as a person, and is none: the furniture of
roads and pavements.

Shapes stand at the origin on z = 0 with their front towards -y, the street.
"""

from __future__ import annotations

import numpy as np

from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import Mesh, blob, box, leaves, merge, quad, tube
from mm_fusion.sim.scenery import SceneryFactory

Rng = np.random.Generator


class UprightFactory:
    """Makes unlabelled thin things of random build and colour; ``rng`` decides."""

    def __init__(self, table: MaterialTable, rng: Rng, make: SceneryFactory) -> None:
        self.table, self.rng, self.make = table, rng, make
        add = table.add
        self.steel = add(np.full(3, rng.uniform(0.2, 0.5)), float(rng.uniform(0.3, 0.7)))
        self.dark = add(np.full(3, rng.uniform(0.02, 0.08)), float(rng.uniform(0.06, 0.3)))
        self.white = add((0.7, 0.7, 0.68), 0.85)
        self.red = add((0.5, 0.03, 0.02), 0.8)
        self.blue = add((0.01, 0.08, 0.42), 0.8)
        self.yellow = add((0.7, 0.45, 0.02), 0.7)
        self.orange = add((0.75, 0.2, 0.01), 0.6, emission=0.3)
        self.stone = add((0.33, 0.32, 0.3), 0.35, Texture.NOISE, (0.3, 0.25, 0, 0))
        self.wood = add((0.24, 0.16, 0.09), 0.4, Texture.PLANKS, (0.1, 0.3, 0, 0))

    def between(self, low: float, high: float) -> float:
        """A random length."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        """Whether something is so, this time."""
        return bool(self.rng.random() < share)

    def colour(self, low: float = 0.02, high: float = 0.6) -> int:
        """A painted or printed surface of some colour."""
        rng = self.rng
        rgb = rng.uniform(low, high) * rng.uniform(0.15, 1.0, 3)
        return self.table.add(rgb, float(rng.uniform(0.08, 0.7)))

    def banded(self, height_m: float, radius_m: float, bands: tuple[int, ...]) -> Mesh:
        """A post whose colours change along its height."""
        edges = np.linspace(0.0, height_m, len(bands) + 1)
        return merge(
            [
                tube((0, 0, low - 0.05 * (k == 0)), (0, 0, high), radius_m, band, sides=7)
                for k, (low, high, band) in enumerate(zip(edges, edges[1:], bands, strict=False))
            ]
        )

    def print(self, width_m: float, height_m: float, low_m: float, front_m: float) -> Mesh:
        """A poster on an upright face towards -y at y = ``front_m``: patches of colours."""
        rng, parts = self.rng, []
        x, z = width_m / 2, low_m
        for row in rng.dirichlet(np.full(4, 2.0)) * height_m:
            split = float(rng.uniform(-0.7, 0.7)) * x
            for a, b in ((-x, split), (split, x)):
                corners = [(a, z), (b, z), (b, z + row), (a, z + row)]
                face = [(u, front_m, v) for u, v in corners]
                parts.append(quad(face, self.white if rng.random() < 0.3 else self.colour()))
            z += float(row)
        return merge(parts)

    # ----------------------------------------------------------------------- of the road

    def beacon(self) -> Mesh:
        """A warning beacon: a narrow sheet with slanting stripes on a rubber foot."""
        w, h, low = self.between(0.2, 0.3), self.between(0.75, 1.05), self.between(0.08, 0.25)
        bands = (self.red, self.white) if self.chance(0.8) else (self.yellow, self.dark)
        parts = [
            box((0, 0, 0.05), (self.between(0.25, 0.5), 0.4, 0.1), self.dark),
            box((0, 0.02, low + h / 2), (w, 0.03, h), self.steel),
            tube((0, 0.02, 0), (0, 0.02, low), 0.03, self.dark, sides=5),
        ]
        slant, step = (0.15 if self.chance(0.5) else -0.15), h / 6
        for k in range(6):
            ends = [np.clip(low + k * step + s, low, low + h) for s in (slant, -slant)]
            tops = [np.clip(e + step, low, low + h) for e in ends]
            plan = [(-w / 2, ends[0]), (w / 2, ends[1]), (w / 2, tops[1]), (-w / 2, tops[0])]
            for y in (-0.002, 0.042):
                parts.append(quad([(x, y, z) for x, z in plan], bands[k % 2]))
        if self.chance(0.35):
            parts.append(tube((0, 0, low + h), (0, 0, low + h + 0.22), 0.09, self.orange))
        return merge(parts)

    def keep_sign(self) -> Mesh:
        """A low sign on its own post, as on traffic islands: blue, or a plate with it."""
        h, r = self.between(0.85, 1.75), self.between(0.2, 0.33)
        thick = self.between(0.03, 0.09)
        parts = [self.banded(h, thick, (self.white if self.chance(0.5) else self.steel,))]
        parts += self._disc(h, r, -thick - 0.01, self.blue, self.white)
        if self.chance(0.4):
            plate = self.yellow if self.chance(0.6) else self.white
            low = max(0.35, h - r - 0.35)
            parts.append(box((0, -thick - 0.01, low), (0.4, 0.02, 0.3), plate))
        return merge(parts)

    def _disc(self, z: float, r: float, y: float, rim: int, inner: int) -> list[Mesh]:
        """A round sign: a rim, what is painted in it, and its grey back."""
        turned = 1.0 if self.chance(0.65) else -1.0
        parts = [
            tube((0, y, z), (0, y - 0.02 * turned, z), r, rim, sides=14),
            tube((0, y + 0.012 * turned, z), (0, y, z), r, self.steel, sides=14),
        ]
        if inner == self.white and rim == self.blue:  # an arrow
            y = y - 0.023 * turned
            a = 0.3 * r
            bar = [(-a - 0.03, a), (-a, a + 0.06), (a, -a + 0.05), (a - 0.04, -a)]
            parts.append(quad([(u, y, z + v) for u, v in bar], inner))
        else:
            parts.append(
                tube(
                    (0, y - 0.021 * turned, z),
                    (0, y - 0.024 * turned, z),
                    0.7 * r,
                    inner,
                    sides=14,
                )
            )
        return parts

    def mast(self) -> Mesh:
        """A mast of signals or lamps with what hangs on it at the height of a person."""
        rng, r, h = self.rng, self.between(0.05, 0.16), self.between(2.4, 7.0)
        pairs = ((self.steel,), (self.white, self.red, self.white, self.red), (self.dark,))
        bands = pairs[int(rng.integers(3))]
        low = self.between(1.6, 3.0)
        parts = [
            self.banded(low, r, bands),
            tube((0, 0, low), (0, 0, h), r, bands[0], 0.7 * r, sides=7),
        ]
        if self.chance(0.4):
            parts.append(tube((0, 0, -0.05), (0, 0, self.between(0.3, 1.1)), 1.5 * r, bands[0]))
        for _ in range(int(rng.integers(1, 4))):
            z, kind = self.between(0.9, 2.5), float(rng.random())
            y = -r - 0.02
            if kind < 0.3:
                parts.append(box((0, y - 0.06, z), (0.13, 0.14, self.between(0.2, 0.4)), self.yellow
                                 if self.chance(0.4) else self.dark))  # fmt: skip
            elif kind < 0.6:
                rim = (self.blue, self.red, self.white)[int(rng.integers(3))]
                parts += self._disc(z, self.between(0.2, 0.35), y, rim, self.white)
            elif kind < 0.8:
                head = self.between(0.6, 0.9)
                x = float(rng.choice([-1, 0, 1])) * (r + 0.12)
                parts.append(box((x, y - 0.08, z + 0.3), (0.25, 0.2, head), self.dark))
            else:
                w, tall = self.between(0.35, 0.7), self.between(0.3, 1.0)
                parts.append(box((0, y, z), (w, 0.03, tall), self.steel))
                parts.append(self.print(w, tall, z - tall / 2, y - 0.02))
        return merge(parts)

    def poster_post(self) -> Mesh:
        """A tree or a mast with boards of advertising leant at it or tied round it."""
        r, low = self.between(0.06, 0.2), self.between(0.1, 0.6)
        w, h = self.between(0.4, 0.75), self.between(0.7, 1.2)
        pole = self.make.bark if self.chance(0.3) else self.steel
        parts = [tube((0, 0, -0.1), (0, 0, self.between(2.5, 6.0)), r, pole, 0.8 * r)]
        for side in (1.0, -1.0) if self.chance(0.6) else (1.0,):
            board = box((0, 0, low + h / 2), (w, 0.03, h), self.white)
            front = self.print(w, h, low, -0.02)
            parts.append(
                merge([board, front]).placed((0, -side * (r + 0.03), 0), np.pi * (side < 0))
            )
        return merge(parts)

    def bollard(self) -> Mesh:
        """A bollard with a cap, a knob or bands."""
        h, r = self.between(0.6, 1.2), self.between(0.04, 0.13)
        body = (self.dark, self.steel, self.stone, self.wood)[int(self.rng.integers(4))]
        bands: tuple[int, ...] = (body,)
        if self.chance(0.4):
            bands = (body, body, body, self.red if self.chance(0.4) else self.white, body)
        parts = [self.banded(h, r, bands)]
        if self.chance(0.4):
            parts.append(blob((0, 0, h), np.full(3, 1.25 * r), body))
        if self.chance(0.3):
            parts.append(tube((0, 0, 0), (0, 0, 0.15), 1.5 * r, body))
        return merge(parts)

    def reflector(self) -> Mesh:
        """A marker post beside a road: white with a slanting black band."""
        h, w = self.between(0.85, 1.1), self.between(0.1, 0.14)
        return merge(
            [
                tube((0, 0, -0.1), (0, 0, 0.72 * h), w / 2, self.white, sides=5),
                tube((0, 0, 0.72 * h), (0, 0, 0.93 * h), w / 2, self.dark, sides=5),
                tube((0, 0, 0.93 * h), (0, 0, h), w / 2, self.white, sides=5),
                box((0, -w / 2, 0.82 * h), (0.04, 0.02, 0.15), self.orange),
            ]
        )

    def cone(self) -> Mesh:
        """A traffic cone."""
        h = self.between(0.45, 0.95)
        radii, paint = np.linspace(0.14, 0.03, 5), (self.orange, self.white)
        parts = [box((0, 0, 0.02), (0.36, 0.36, 0.04), self.dark)]
        for k in range(4):
            low, high = (0, 0, 0.04 + k * h / 4), (0, 0, 0.04 + (k + 1) * h / 4)
            parts.append(tube(low, high, float(radii[k]), paint[k % 2], float(radii[k + 1])))
        return merge(parts)

    # ------------------------------------------------------------------- of the pavement

    def cabinet(self) -> Mesh:
        """A narrow box of electricity or telephone on its plinth, at times written upon."""
        w, d, h = self.between(0.28, 0.75), self.between(0.2, 0.45), self.between(0.85, 1.75)
        body = self.colour(0.1, 0.5) if self.chance(0.6) else self.stone
        parts = [
            box((0, 0, 0.08), (0.95 * w, 0.9 * d, 0.2), self.stone),
            box((0, 0, h / 2 + 0.05), (w, d, h - 0.1), body),
            box((0, 0, h), (1.08 * w, 1.1 * d, 0.06), body if self.chance(0.5) else self.steel),
        ]
        if self.chance(0.35):
            tall = self.between(0.3, 0.8) * h
            parts.append(self.print(0.8 * w, tall, 0.95 * h - tall, -d / 2 - 0.005))
        return merge(parts)

    def machine(self) -> Mesh:
        """A machine of tickets, parking or money: a box on a plinth or a leg, with a screen."""
        w, h = self.between(0.25, 0.75), self.between(1.35, 1.95)
        low = self.between(0.0, 0.85) if w < 0.45 else 0.1
        body, d = self.colour(0.05, 0.5), self.between(0.2, 0.5)
        return merge(
            [
                tube((0, 0, -0.05), (0, 0, low + 0.1), 0.35 * w, self.dark),
                box((0, 0, (low + h) / 2), (w, d, h - low), body),
                box((0, -d / 2 - 0.01, 0.82 * h), (0.6 * w, 0.02, 0.2), self.dark),
                box((0, -d / 2 - 0.01, 0.62 * h), (0.5 * w, 0.03, 0.1), self.steel),
                box((0, -0.02, h), (1.1 * w, d + 0.1, 0.05), self.colour()),
            ]
        )

    def stop(self) -> Mesh:
        """A bus stop's post with its timetable, a round sign on top, and often a bin."""
        h = self.between(2.2, 3.0)
        w, z = self.between(0.3, 0.55), self.between(1.0, 1.5)
        parts = [
            tube((0, 0, -0.1), (0, 0, h), self.between(0.03, 0.06), self.steel, sides=7),
            box((0, -0.05, z), (w, 0.05, self.between(0.4, 0.8)), self.colour()),
            self.print(0.85 * w, 0.35, z - 0.15, -0.08),
            *self._disc(h, 0.3, -0.06, self.yellow, self.white),
        ]
        if self.chance(0.6):
            at = (0, -0.18, self.between(0.55, 0.85))
            parts.append(box(at, (0.3, 0.25, 0.5), self.colour()))
        return merge(parts)

    def litter_bin(self) -> Mesh:
        """A bin for litter: round or square, on a post or standing, with or without a roof."""
        h, r = self.between(0.7, 1.2), self.between(0.16, 0.33)
        body = self.colour() if self.chance(0.7) else self.stone
        low = self.between(0.2, 0.5) if self.chance(0.5) else 0.0
        sides = 4 if self.chance(0.3) else 10
        parts = [tube((0, 0, low), (0, 0, h), r * self.between(0.75, 1.0), body, r, sides)]
        if low:
            parts.append(tube((0, r, -0.05), (0, r, h + self.between(0, 0.6)), 0.04, self.steel))
        if self.chance(0.4):
            parts.append(tube((0, 0, h + 0.12), (0, 0, h + 0.2), 1.05 * r, self.dark, 0.6 * r))
            parts.append(tube((0, 0, h - 0.1), (0, 0, h + 0.15), 0.02, self.steel, sides=5))
        return merge(parts)

    def post_box(self) -> Mesh:
        """A letter box or a dispenser of newspapers: a coloured box on a leg."""
        w, d, h = self.between(0.3, 0.6), self.between(0.25, 0.45), self.between(0.4, 0.75)
        low = self.between(0.35, 0.75)
        body = (self.yellow, self.red, self.blue, self.colour())[int(self.rng.integers(4))]
        return merge(
            [
                tube((0, 0, -0.05), (0, 0, low), self.between(0.03, 0.08), self.dark),
                box((0, 0, low + h / 2), (w, d, h), body),
                box((0, -d / 2, low + 0.8 * h), (0.7 * w, 0.04, 0.05), self.dark),
                box((0, 0.02, low + h), (1.05 * w, d, 0.06), body),
            ]
        )

    def hydrant(self) -> Mesh:
        """A hydrant or a standpipe."""
        h, r = self.between(0.5, 1.0), self.between(0.08, 0.15)
        body = self.red if self.chance(0.5) else self.colour()
        return merge(
            [
                tube((0, 0, -0.05), (0, 0, h), r, body),
                blob((0, 0, h), (1.1 * r, 1.1 * r, 0.1), body),
                tube((-1.8 * r, 0, 0.6 * h), (1.8 * r, 0, 0.6 * h), 0.05, self.steel, sides=6),
            ]
        )

    def lamp_foot(self) -> Mesh:
        """A lamp of old make: a thick foot, a thin shaft, a lantern."""
        foot, h = self.between(0.6, 1.3), self.between(2.6, 4.5)
        r = self.between(0.1, 0.2)
        return merge(
            [
                tube((0, 0, -0.05), (0, 0, foot), r, self.dark, 0.7 * r),
                blob((0, 0, foot), (0.9 * r, 0.9 * r, 0.08), self.dark),
                tube((0, 0, foot), (0, 0, h), 0.045, self.dark, sides=6),
                tube((0, 0, h), (0, 0, h + 0.5), 0.1, self.white, 0.22, 6),
                tube((0, 0, h + 0.5), (0, 0, h + 0.7), 0.26, self.dark, 0.02, 6),
            ]
        )

    def signpost(self) -> Mesh:
        """A post with plates one above the other, or a small board between two posts."""
        rng = self.rng
        if self.chance(0.3):
            w, low, h = self.between(0.5, 1.0), self.between(0.2, 0.9), self.between(0.4, 1.1)
            posts = [
                tube((x, 0.03, -0.1), (x, 0.03, low + h + 0.1), 0.035, self.steel, sides=6)
                for x in (-0.4 * w, 0.4 * w)
            ]
            board = box((0, -0.02, low + h / 2), (w, 0.03, h), self.white)
            return merge([*posts, board, self.print(0.9 * w, 0.9 * h, low + 0.05 * h, -0.04)])
        h, z = self.between(1.7, 3.0), 0.0
        parts = [tube((0, 0, -0.1), (0, 0, h), self.between(0.025, 0.05), self.steel, sides=6)]
        for _ in range(int(rng.integers(1, 4))):
            w, tall = self.between(0.25, 0.65), self.between(0.15, 0.6)
            z += tall + 0.04
            colour = (self.white, self.blue, self.yellow, self.red)[int(rng.integers(4))]
            parts.append(box((0, 0.045, h - z + tall / 2), (w, 0.01, tall), self.steel))
            parts.append(box((0, -0.05, h - z + tall / 2), (w, 0.015, tall), colour))
        return merge(parts)

    # ---------------------------------------------------------------------------- plants

    def staked_tree(self) -> Mesh:
        """A young tree between stakes that lean towards it and are joined by boards."""
        rng, h, n = self.rng, self.between(1.5, 2.3), int(self.rng.integers(2, 5))
        out, top = self.between(0.25, 0.6), self.between(0.1, 0.3)
        turn = 2 * np.pi * (np.arange(n) + rng.random()) / n
        round_ = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        parts = [tube((0, 0, -0.1), (0, 0, h + 1.2), self.between(0.025, 0.09), self.make.bark)]
        ends = []
        for x, y in round_:
            ends.append((x * top, y * top, h))
            parts.append(tube((x * out, y * out, -0.1), ends[-1], 0.035, self.wood, sides=6))
        for a, b in zip(ends, ends[1:] + ends[:1], strict=True):
            down = self.between(0.0, 0.15)
            low, high = np.array(a) - [0, 0, down], np.array(b) - [0, 0, down]
            parts.append(tube(low, high, 0.03, self.wood, sides=5))
        if self.chance(0.5):
            mat = self.between(0.6, 1.4)
            parts.append(tube((0, 0, 0.1), (0, 0, 0.1 + mat), 0.1, self.wood))
        parts.append(leaves((0, 0, h + 1.3), (0.7, 0.7, 0.8), 70, 0.16, self.make.foliage(), rng))
        return merge(parts)

    def trunk(self) -> Mesh:
        """A trunk whose crown is out of reach: bare, forked, or grown over with ivy."""
        rng, r, h = self.rng, self.between(0.07, 0.32), self.between(3.8, 6.5)
        lean = rng.normal(scale=0.12, size=2)
        parts = [
            tube((0, 0, -0.2), (0, 0, 0.4), 1.5 * r, self.make.bark, r, 7),
            tube((0, 0, 0.3), (*lean, h), r, self.make.bark, 0.7 * r, 7),
        ]
        for _ in range(int(rng.integers(0, 4))):
            z = self.between(0.9, 2.6)
            end = (*rng.uniform(-0.5, 0.5, 2), z + self.between(0.3, 1.2))
            parts.append(tube((0, 0, z), end, 0.3 * r, self.make.bark, 0.1 * r, 5))
        if self.chance(0.3):
            z, green = self.between(0.5, 1.5), self.make.foliage()
            parts.append(leaves((0, 0, z), (1.5 * r, 1.5 * r, z), 70, 0.1, green, rng))
        green = self.make.foliage()
        parts.append(leaves((*lean, h), rng.uniform(0.6, 1.2, 3), 80, 0.3, green, rng))
        return merge(parts)

    def shrub(self) -> Mesh:
        """A shrub as high as a person: thick, thin and see-through, or dry twigs alone."""
        rng, h, w = self.rng, self.between(0.8, 2.1), self.between(0.2, 0.55)
        green, parts = self.make.foliage(), []
        dense = float(rng.random())
        if dense < 0.6:
            for _ in range(int(rng.integers(4, 11))):
                end = (*rng.normal(scale=0.6 * w, size=2), h * self.between(0.6, 1.0))
                parts.append(tube((0, 0, -0.05), end, 0.015, self.make.bark, 0.006, 5))
        if dense > 0.2:
            count = int(40 + 120 * rng.random())
            at, radii = (0, 0, 0.55 * h), (w, w, 0.5 * h)
            parts.append(leaves(at, radii, count, self.between(0.05, 0.14), green, rng))
        if dense > 0.65:
            parts.append(blob((0, 0, 0.5 * h), (0.8 * w, 0.8 * w, 0.45 * h), green, rng, 0.25))
        return merge(parts)
