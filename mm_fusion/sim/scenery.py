"""The unlabelled town: houses, walls, hedges, trees, street furniture.

Shapes stand at the origin on z = 0 with their front towards -y (the street), or upright.
"""

from __future__ import annotations

import numpy as np

from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import Mesh, blob, box, gable, grid, leaves, loft, merge, tube

Rng = np.random.Generator


class SceneryFactory:
    """Makes unlabelled things; shared materials are added to ``table`` once."""

    def __init__(self, table: MaterialTable, rng: Rng) -> None:
        self._table, self._rng = table, rng
        add, noise = table.add, Texture.NOISE
        self.asphalt = add(
            np.full(3, rng.uniform(0.05, 0.16)),
            float(rng.uniform(0.1, 0.35)),
            noise,
            (0.07, 0.28, 0, 0),
        )
        self.marking = add((0.62, 0.62, 0.6), 0.6, noise, (0.1, 0.25, 0, 0))
        self.pavement = add(
            np.full(3, rng.uniform(0.16, 0.34)), 0.22, Texture.BRICK, (0.5, 0.5, 0.1, 0)
        )
        self.kerb = add((0.35, 0.35, 0.34), 0.3)
        self.grass = add((0.07, 0.13, 0.03), 0.45, noise, (0.12, 0.5, 0, 0))
        self.earth = add((0.2, 0.15, 0.1), 0.3, noise, (0.2, 0.4, 0, 0))
        self.bark = add((0.12, 0.09, 0.06), 0.3, noise, (0.08, 0.5, 0, 0))
        greens = rng.uniform((0.03, 0.08, 0.01), (0.12, 0.2, 0.05), (4, 3))
        self._foliage = [add(g, 0.5, noise, (0.15, 0.7, 0, 0)) for g in greens]
        self._metal = [add(np.full(3, v), 0.35) for v in (0.06, 0.2, 0.42)]
        self._wood = add((0.18, 0.11, 0.06), 0.35, Texture.PLANKS, (0.15, 0.3, 0, 0))
        self._concrete = add((0.36, 0.35, 0.33), 0.35, noise, (0.4, 0.15, 0, 0))
        self._glass = add(
            (0.04, 0.05, 0.06), 0.1, Texture.GLASS, lidar_return=0.4, lidar_through=0.7
        )
        self._roofs = [
            add(rgb, 0.3, Texture.BRICK, (0.3, 0.25, 0.3, 0))
            for rgb in ((0.25, 0.09, 0.05), (0.1, 0.1, 0.11), (0.2, 0.13, 0.09))
        ]
        self._signs = [
            add(rgb, 1.0)
            for rgb in ((0.6, 0.02, 0.02), (0.02, 0.1, 0.5), (0.75, 0.75, 0.7), (0.7, 0.5, 0.02))
        ]

    def wall_material(self) -> int:
        """A façade of its own colour and window rhythm."""
        rng = self._rng
        level = rng.uniform(0.15, 0.75)
        tint = rng.choice(np.array([(1, 1, 1), (1, 0.9, 0.75), (1, 0.75, 0.6), (0.85, 0.9, 1)]))
        if rng.random() < 0.2:
            rgb = np.array([0.3, 0.12, 0.08]) * rng.uniform(0.6, 1.4)
        else:
            rgb = level * tint
        params = (rng.uniform(2.6, 3.6), rng.uniform(1.8, 4.0), rng.uniform(0.3, 0.6), 0.0)
        return self._table.add(rgb, float(rng.uniform(0.3, 0.7)), Texture.FACADE, params)

    def house(self, width_m: float, depth_m: float) -> Mesh:
        """A house ``width_m`` along the street, its façade at y = 0, the rest behind it."""
        rng = self._rng
        wall = self.wall_material()
        height = float(rng.uniform(5.5, 9.0) if rng.random() < 0.5 else rng.uniform(9.0, 18.0))
        parts = self._walls(width_m, depth_m, height, wall)
        if rng.random() < 0.6:
            roof = gable(
                width_m + 0.6,
                depth_m + 0.8,
                float(rng.uniform(0.25, 0.5)) * depth_m,
                height - 0.02,
                int(rng.choice(self._roofs)),
            )
            parts.append(roof.placed((0, depth_m / 2, 0)))
        parts += self._front_details(width_m, height, wall)
        return merge(parts)

    def _walls(self, width_m: float, depth_m: float, height_m: float, wall: int) -> list[Mesh]:
        """The house's body: a plain one, or one with an entrance, a portal or a corner that is
        set back from the street by as much as a car is wide."""
        rng, tall = self._rng, height_m + 1.0
        z = height_m / 2 - 0.5
        if rng.random() < 0.45 or width_m < 8:
            return [box((0, depth_m / 2, z), (width_m, depth_m, tall), wall)]
        gap, back = float(rng.uniform(1.2, 4.5)), float(rng.uniform(0.4, 3.0))
        at = float(rng.uniform(-0.5, 0.5)) * (width_m - gap)
        lintel = float(rng.uniform(2.2, 3.4)) if rng.random() < 0.6 else height_m
        left, right = at - gap / 2 + width_m / 2, width_m / 2 - at - gap / 2
        rest = depth_m - back
        parts = [
            box((0, back + rest / 2, z), (width_m, rest, tall), wall),
            box((-width_m / 2 + left / 2, back / 2, z), (left, back, tall), wall),
            box((width_m / 2 - right / 2, back / 2, z), (right, back, tall), wall),
        ]
        if lintel < height_m:
            over = height_m - lintel
            parts.append(box((at, back / 2, lintel + over / 2), (gap, back, over), wall))
        if rng.random() < 0.5:
            door = self._wood if rng.random() < 0.5 else int(rng.choice(self._metal))
            parts.append(box((at, back - 0.03, 1.05), (0.8 * gap, 0.1, 2.1), door))
        return parts

    def bank(self, length_m: float, depth_m: float) -> Mesh:
        """A slope with grass or scrub, rising from the street (y = 0) to its far side."""
        rng = self._rng
        h = float(rng.uniform(0.6, 3.0))
        xs = np.linspace(-length_m / 2, length_m / 2, max(3, int(length_m / 1.2)))
        ys = np.linspace(0.0, depth_m, max(3, int(depth_m / 1.0)))
        sheet = grid(xs, ys, self.grass if rng.random() < 0.6 else self.earth)
        share = sheet.vertices[:, 1] / depth_m
        rough = rng.normal(scale=0.12, size=len(share)) * (share > 0.05)
        ends = np.minimum(1.0, (length_m / 2 - np.abs(sheet.vertices[:, 0])) / 1.5)
        sheet.vertices[:, 2] = h * np.sin(0.5 * np.pi * share) * ends + rough - 0.05
        scrub = [
            self.bush().placed((float(rng.uniform(-0.45, 0.45)) * length_m, y, h * y / depth_m))
            for y in rng.uniform(0.3, 1.0, int(rng.integers(0, 6))) * depth_m
        ]
        return merge([sheet, *scrub])

    def overpass(self, span_m: float) -> Mesh:
        """A bridge across a street: a deck along y from -span to span, on pillars beside it."""
        rng = self._rng
        z, wide = float(rng.uniform(4.6, 6.5)), float(rng.uniform(4.0, 12.0))
        deck = box((0, 0, z + 0.5), (wide, 2 * span_m, 1.0), self._concrete)
        rails = [
            box((s * wide / 2, 0, z + 1.4), (0.12, 2 * span_m, 0.9), self._metal[1])
            for s in (1.0, -1.0)
        ]
        pillars = [
            tube((x, s * 0.55 * span_m, -0.5), (x, s * 0.55 * span_m, z + 0.1), 0.5, self._concrete)
            for x in (-0.3 * wide, 0.3 * wide)
            for s in (1.0, -1.0)
        ]
        return merge([deck, *rails, *pillars])

    def _front_details(self, width_m: float, height_m: float, wall: int) -> list[Mesh]:
        """Doors, bays, balconies, steps and shop windows in front of a façade."""
        rng = self._rng
        parts = []
        half = width_m / 2
        door_x = float(rng.uniform(-0.7, 0.7)) * half
        door = self._wood if rng.random() < 0.6 else int(rng.choice(self._metal))
        parts.append(box((door_x, -0.04, 1.05), (1.1, 0.12, 2.1), door))
        if rng.random() < 0.5:
            parts.append(box((door_x, -0.5, 0.1), (1.6, 1.0, 0.4), self._concrete))
        if rng.random() < 0.3:  # a bay
            x, w = float(rng.uniform(-0.6, 0.6)) * half, float(rng.uniform(2, 3.5))
            top = float(rng.uniform(0.5, 0.9)) * height_m
            parts.append(box((x, -0.3, top / 2), (w, 0.9, top), wall))
        if rng.random() < 0.35:  # garage doors or a shop window
            x, w = float(rng.uniform(-0.5, 0.5)) * half, float(rng.uniform(2.4, 4.0))
            material = self._glass if rng.random() < 0.5 else int(rng.choice(self._metal))
            parts.append(box((x, -0.02, 1.15), (w, 0.1, 2.3), material))
        if rng.random() < 0.3 and height_m > 7:
            for z in np.arange(3.2, height_m - 2, 3.1):
                parts.append(box((0.3 * half, -0.6, z), (3.0, 1.2, 0.15), self._concrete))
                parts.append(box((0.3 * half, -1.17, z + 0.5), (3.0, 0.05, 0.9), wall))
        return parts

    def garage(self) -> Mesh:
        """A low garage set back from the street."""
        wall = self._concrete
        return merge(
            [
                box((0, 3, 1.1), (3.2, 6, 3.2), wall),
                box((0, -0.03, 1.0), (2.5, 0.1, 2.1), int(self._rng.choice(self._metal))),
            ]
        )

    def wall(self, length_m: float) -> Mesh:
        """A garden wall along x."""
        h = float(self._rng.uniform(0.6, 2.2))
        material = self._table.add(
            self._rng.uniform(0.15, 0.45) * np.array([1, 0.85, 0.75]),
            0.35,
            Texture.BRICK,
            (0.12, 0.3, 0.3, 0),
        )
        return box((0, 0, h / 2 - 0.3), (length_m, 0.25, h + 0.6), material)

    def foliage(self) -> int:
        """The material of one plant's leaves."""
        return int(self._rng.choice(self._foliage))

    def hedge(self, length_m: float, height_m: float = 0.0, width_m: float = 0.0) -> Mesh:
        """A clipped hedge along x with a rough skin and stray leaves."""
        rng = self._rng
        h = height_m or float(rng.uniform(0.8, 2.2))
        w = width_m or float(rng.uniform(0.5, 1.2))
        material = self.foliage()
        xs = np.linspace(-length_m / 2, length_m / 2, max(2, int(length_m / 0.6)))
        outline = np.array(
            [
                (-w, -0.3),
                (-w, 0.5 * h),
                (-w, 0.95 * h),
                (0, h),
                (w, 0.95 * h),
                (w, 0.5 * h),
                (w, -0.3),
            ]
        )
        outline[:, 0] *= 0.5
        rings = np.zeros((len(xs), len(outline), 3))
        rings[:, :, 0] = xs[:, None]
        rings[:, :, 1:] = outline
        rings[:, 1:6] += rng.normal(scale=0.06, size=(len(xs), 5, 3))
        stray = leaves(
            (0, 0, h / 2), (length_m / 2, w / 2, h / 2), int(length_m * 10), 0.1, material, rng
        )
        return merge([loft(rings, material), stray])

    def fence(self, length_m: float) -> Mesh:
        """Posts and rails one can see through."""
        h = float(self._rng.uniform(0.9, 2.0))
        material = self._wood if self._rng.random() < 0.5 else self._metal[0]
        posts = [
            box((x, 0, h / 2 - 0.1), (0.08, 0.08, h + 0.2), material)
            for x in np.arange(-length_m / 2, length_m / 2, 1.6)
        ]
        rails = [box((0, 0, z * h), (length_m, 0.04, 0.09), material) for z in (0.3, 0.6, 0.92)]
        pickets = [
            box((x, 0, h / 2), (0.03, 0.03, 0.9 * h), material)
            for x in np.arange(-length_m / 2, length_m / 2, 0.3)
        ]
        return merge(posts + rails + pickets)

    def tree(self) -> Mesh:
        """A trunk and an irregular crown of blobs and loose leaves, or a cone of branches."""
        rng = self._rng
        if rng.random() < 0.15:
            return self._conifer()
        trunk_m, r = float(rng.uniform(1.2, 4.5)), float(rng.uniform(0.07, 0.4))
        lean = rng.normal(scale=0.15, size=2)
        top = np.array([lean[0], lean[1], trunk_m + 0.8])
        parts = [tube((0, 0, -0.3), top, r, self.bark, 0.7 * r, 7)]
        material = int(rng.choice(self._foliage))
        spread = float(rng.uniform(1.0, 2.4))
        for _ in range(int(rng.integers(2, 5))):
            sideways = rng.normal(scale=0.45 * spread, size=2)
            at = top + np.array([*sideways, rng.uniform(0.3, 1.3) * spread])
            radii = spread * rng.uniform(0.45, 0.8, 3)
            parts.append(blob(at, radii * 0.75, material, rng, 0.25))
            parts.append(leaves(at, radii, 90, 0.3, material, rng))
        return merge(parts)

    def _conifer(self) -> Mesh:
        rng, material = self._rng, self.foliage()
        h, w = float(rng.uniform(2.5, 9.0)), float(rng.uniform(0.6, 1.8))
        parts = [tube((0, 0, -0.2), (0, 0, 0.6), 0.12, self.bark, sides=6)]
        for share in (0.1, 0.35, 0.6):
            low, top = (0, 0, share * h + 0.3), (0, 0, min(1.0, share + 0.45) * h)
            parts.append(tube(low, top, (1 - share) * w, material, 0.05, 9))
        parts.append(leaves((0, 0, 0.35 * h), (w, w, 0.4 * h), 80, 0.25, material, rng))
        return merge(parts)

    def bush(self) -> Mesh:
        """A low round bush."""
        rng = self._rng
        radii = rng.uniform(0.3, 0.9, 3)
        material = int(rng.choice(self._foliage))
        at = (0.0, 0.0, float(radii[2]) * 0.7)
        return merge(
            [blob(at, radii * 0.85, material, rng, 0.2), leaves(at, radii, 60, 0.12, material, rng)]
        )

    def thicket(self, length_m: float) -> Mesh:
        """Shrubs and young trees grown into each other along x, of uneven height and depth. Some
        are nothing but leaves, which LIDAR sees through in part."""
        rng, parts = self._rng, []
        high, x = float(rng.uniform(0.9, 3.6)), -length_m / 2
        while x < length_m / 2:
            radii = rng.uniform((0.4, 0.4, 0.25), (1.3, 1.2, 0.55)) * [1.0, 1.0, high]
            at = (x, float(rng.normal(scale=0.3)), float(radii[2] * rng.uniform(0.6, 1.1)))
            material, leaf_m = self.foliage(), float(rng.uniform(0.08, 0.2))
            if rng.random() < 0.65:
                parts.append(blob(at, radii * 0.8, material, rng, 0.3))
            parts.append(leaves(at, radii, 45, leaf_m, material, rng))
            x += float(rng.uniform(0.5, 1.5))
        return merge(parts)

    def lamp(self) -> Mesh:
        """A street lamp."""
        rng = self._rng
        h, metal = float(rng.uniform(4.5, 8.0)), int(rng.choice(self._metal))
        arm = float(rng.uniform(0.4, 1.6))
        return merge(
            [
                tube((0, 0, -0.1), (0, 0, h), 0.09, metal, 0.05),
                tube((0, 0, h), (0, -arm, h + 0.2), 0.04, metal, sides=5),
                box((0, -arm, h + 0.2), (0.25, 0.6, 0.12), metal),
            ]
        )

    def sign(self) -> Mesh:
        """A traffic sign on its post, facing along x."""
        rng = self._rng
        h, face = float(rng.uniform(1.9, 2.7)), int(rng.choice(self._signs))
        parts = [tube((0, 0, -0.1), (0, 0, h + 0.3), 0.035, self._metal[2], sides=6)]
        if rng.random() < 0.5:
            parts.append(tube((0.05, 0, h), (0.07, 0, h), 0.33, face, sides=12))
        else:
            parts.append(box((0.06, 0, h), (0.02, *rng.uniform(0.4, 0.8, 2)), face))
        return merge(parts)

    def traffic_light(self) -> Mesh:
        """A signal head on a pole."""
        dark, metal = self._metal[0], self._metal[1]
        lit = self._signs[int(self._rng.choice([0, 3]))]
        return merge(
            [
                tube((0, 0, -0.1), (0, 0, 3.4), 0.06, metal, sides=7),
                box((0.1, 0, 2.9), (0.2, 0.3, 0.9), dark),
                tube((0.2, 0, 3.15), (0.22, 0, 3.15), 0.1, lit, sides=9),
            ]
        )
