"""Pedestrians in walking phases, people who stand or sit, and riders on two wheels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.cycles import bicycle_mesh, motorbike_mesh
from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import Mesh, blob, box, loft, merge, tube
from mm_fusion.sim.models import CYCLIST, PEDESTRIAN, PHASES, ObjectModel, bounding_size

F64 = npt.NDArray[np.float64]

_SKINS = ((0.50, 0.32, 0.24), (0.42, 0.26, 0.18), (0.25, 0.14, 0.09), (0.10, 0.05, 0.03))
_ARMS = {"swing": 0.5, "pockets": 0.15, "phone": 0.15, "crossed": 0.1, "hips": 0.1}


@dataclass(frozen=True, slots=True)
class _Clothes:
    """Materials; ``band`` is that of every other stripe of the top, ``fore`` of the forearms and
    ``shin`` of the lower legs."""

    skin: int
    hair: int
    top: int
    legs: int
    shoes: int
    extra: int
    band: int
    fore: int
    shin: int


@dataclass(frozen=True, slots=True)
class _Build:
    """What a person is like: size, girth, what they wear and carry, how they hold themselves."""

    height: float
    girth: float
    clothes: _Clothes
    coat: bool = False
    backpack: bool = False
    skirt: bool = False
    hat: bool = False
    long_hair: bool = False
    carries: str = ""  # "", shoulder bag, shopping, suitcase or umbrella
    arms: str = "swing"
    lean: float = 0.0


@dataclass(frozen=True, slots=True)
class _Mount:
    """Where a rider sits and holds on: hip [3], the middle of the pedals (x, half gap, z) and their
    radius, a grip (x, half gap, z)."""

    hip: tuple[float, float, float]
    pedals: tuple[float, float, float]
    crank_m: float
    grip: tuple[float, float, float]


_ON_BICYCLE = _Mount((-0.2, 0, 0.97), (-0.06, 0.1, 0.3), 0.17, (0.33, 0.26, 1.03))
_ON_MOTORBIKE = _Mount((-0.25, 0, 0.88), (0.02, 0.17, 0.36), 0.0, (0.34, 0.32, 1.04))


class PeopleFactory:
    """Makes pedestrians and riders of random build and clothes; ``rng`` decides."""

    def __init__(self, table: MaterialTable, rng: np.random.Generator) -> None:
        self._table, self._rng = table, rng
        self._dress = rng.spawn(1)[0]  # what was added later leaves the rest as it was
        self._rubber = table.add((0.02, 0.02, 0.02), 0.06)
        self._metal = table.add((0.3, 0.3, 0.3), 0.4)

    def pedestrian(self, standing: bool = False) -> ObjectModel:
        """One person on foot: walking through its phases, or standing in one of them."""
        rng = self._rng
        child = rng.random() < 0.1
        height = float(rng.uniform(1.15, 1.5) if child else rng.normal(1.73, 0.08))
        height = float(np.clip(height, 1.1, 1.95))
        girth = float(rng.uniform(0.85, 1.25))
        clothes = self._clothes()
        coat, bag = bool(rng.random() < 0.25), bool(rng.random() < 0.25)
        swing = float(rng.uniform(0.05, 0.15) if standing else rng.uniform(0.4, 0.6))
        build = self._looks(_Build(height, girth, clothes, coat, bag), standing)
        meshes = tuple(
            _walker(build, 2 * np.pi * (k + 0.5) / PHASES, swing)
            for k in range(1 if standing else PHASES)
        )
        kind = "child" if child else ""
        return ObjectModel(PEDESTRIAN, bounding_size(meshes), meshes, 0.8 * height, kind)

    def seated(self, seat_m: float) -> ObjectModel:
        """One person who sits on something ``seat_m`` high, the face towards x."""
        rng = self._rng
        height = float(np.clip(rng.normal(1.72, 0.09), 1.45, 1.95))
        build = _Build(height, float(rng.uniform(0.85, 1.25)), self._clothes())
        mesh = _sitter(self._looks(build, True), seat_m)
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        middle = [*-(low + high)[:2] / 2, 0.0]
        meshes = (mesh.placed(middle),)
        return ObjectModel(PEDESTRIAN, bounding_size(meshes), meshes, kind="sitting")

    def _looks(self, build: _Build, standing: bool) -> _Build:
        """The same person with clothes of its own cut, things to carry and a posture."""
        rng, c = self._dress, build.clothes
        sleeves, legs = float(rng.random()), float(rng.random())
        band = int(rng.choice([c.extra, c.skin])) if rng.random() < 0.2 else c.top
        skirt = legs > 0.85
        bare = legs > 0.68 and rng.random() < 0.8
        clothes = replace(
            c,
            band=band,
            fore=c.skin if sleeves < 0.45 and not build.coat else c.top,
            shin=c.skin if bare else c.legs,
        )
        kinds = ["", "shoulder bag", "shopping", "suitcase", "umbrella"]
        carries = str(rng.choice(kinds, p=[0.56, 0.2, 0.14, 0.06, 0.04]))
        arms = str(rng.choice(list(_ARMS), p=list(_ARMS.values())))
        if not standing and rng.random() < 0.6:
            arms = "swing"
        return replace(
            build,
            clothes=clothes,
            skirt=skirt,
            hat=bool(rng.random() < 0.12),
            long_hair=bool(rng.random() < 0.3),
            carries=carries,
            arms=arms,
            lean=float(rng.normal(scale=0.06)),
        )

    def cyclist(self) -> ObjectModel:
        """One person riding a bicycle, a motorcycle or a scooter."""
        rng = self._rng
        height = float(np.clip(rng.normal(1.74, 0.08), 1.5, 1.95))
        clothes = self._clothes()
        frame = self._table.add(rng.uniform(0.02, 0.6, 3), 0.3, Texture.PAINT)
        lean = float(rng.uniform(0.15, 0.75))
        helmet = bool(rng.random() < 0.5)
        bicycle, mount, kind = bicycle_mesh(frame, self._rubber, self._metal), _ON_BICYCLE, ""
        build = self._looks(_Build(height, 1.0, clothes), False)
        build = replace(build, backpack=bool(self._dress.random() < 0.25))
        if self._dress.random() < 0.12:
            scooter = bool(self._dress.random() < 0.6)
            bicycle = motorbike_mesh(frame, self._rubber, self._metal, scooter)
            mount, helmet, lean, kind = _ON_MOTORBIKE, True, 0.5 * lean, "motorcyclist"
        meshes = tuple(
            merge([bicycle, _rider(build, lean, 2 * np.pi * k / PHASES, helmet, mount)])
            for k in range(PHASES)
        )
        return ObjectModel(CYCLIST, bounding_size(meshes), meshes, 4.5, kind)

    def parked_bicycle(self) -> Mesh:
        """A bicycle nobody rides: it carries no label."""
        frame = self._table.add(self._rng.uniform(0.02, 0.6, 3), 0.3, Texture.PAINT)
        return bicycle_mesh(frame, self._rubber, self._metal)

    def parked_motorbike(self) -> Mesh:
        """A motorcycle or scooter nobody rides: it carries no label."""
        paint = self._table.add(self._rng.uniform(0.02, 0.6, 3), 0.3, Texture.PAINT)
        scooter = bool(self._rng.random() < 0.6)
        return motorbike_mesh(paint, self._rubber, self._metal, scooter)

    def _clothes(self) -> _Clothes:
        rng, table = self._rng, self._table

        def cloth() -> int:
            if rng.random() < 0.5:
                rgb = rng.uniform(0.01, 0.15) * rng.uniform(0.8, 1.2, 3)
            else:
                grey = rng.uniform(0.02, 0.6)
                rgb = grey + rng.uniform(0.1, 0.8) * (rng.uniform(0.02, 0.6, 3) - grey)
            return table.add(rgb, float(rng.uniform(0.08, 0.6)), Texture.NOISE, (0.06, 0.15, 0, 0))

        skin = table.add(np.array(_SKINS[int(rng.integers(4))]), 0.4)
        hair = table.add(rng.uniform(0.01, 0.2) * np.array([1.0, 0.7, 0.5]), 0.12)
        shoes = table.add(rng.uniform(0.02, 0.4) * np.ones(3), 0.2)
        top, legs = cloth(), cloth()
        return _Clothes(skin, hair, top, legs, shoes, cloth(), band=top, fore=top, shin=legs)


def _at(x: float, y: float, z: float) -> F64:
    return np.array([x, y, z], np.float64)


def _limb(points: list[F64], radii: list[float], materials: list[int], sides: int = 6) -> Mesh:
    """A chain of tapered tubes."""
    return merge(
        [
            tube(p, q, r0, material, r1, sides)
            for p, q, r0, r1, material in zip(
                points[:-1], points[1:], radii[:-1], radii[1:], materials, strict=True
            )
        ]
    )


def _trunk(base: F64, top: F64, depth: float, width: float, materials: tuple[int, int]) -> Mesh:
    """A torso: elliptical rings from hip to neck along a leaning axis, striped in two materials."""
    angle = np.arange(10) * (2 * np.pi / 10)
    circle = np.stack([np.cos(angle) * depth, np.sin(angle) * width, np.zeros(10)], axis=1)
    shares = [(0.0, 0.92), (0.25, 0.85), (0.6, 1.0), (0.86, 1.05), (1.0, 0.45)]
    if materials[0] != materials[1]:
        heights = np.linspace(0.0, 1.0, 9)
        widths = np.interp(heights, *np.array(shares).T)
        shares = list(zip(heights.tolist(), widths.tolist(), strict=True))
    rings = np.stack([base + (top - base) * u + circle * w for u, w in shares])
    whole = loft(rings, materials[0])
    stripe = np.arange(len(rings) - 1) % 2 == 1
    sides = np.concatenate([np.repeat(stripe, 10)] * 2)  # both halves of each ring's patches
    whole.materials[: len(sides)][sides] = materials[1]
    return whole


def _head(at: F64, build: _Build, helmet: bool = False) -> Mesh:
    clothes, scale = build.clothes, build.height / 1.75
    cap = clothes.extra if helmet else clothes.hair
    parts = [
        blob(at, np.array([0.095, 0.078, 0.12]) * scale, clothes.skin),
        blob(at + _at(-0.015 * scale, 0, 0.03 * scale), np.array([0.1, 0.09, 0.105]) * scale, cap),
    ]
    if build.long_hair:
        low = at + _at(-0.06, 0, -0.07) * scale
        parts.append(blob(low, np.array([0.06, 0.085, 0.15]) * scale, clothes.hair))
    if build.hat and not helmet:
        brim = at + _at(0, 0, 0.055 * scale)
        parts.append(tube(brim, brim + _at(0, 0, 0.02), 0.15 * scale, clothes.extra))
        parts.append(tube(brim, brim + _at(0, 0, 0.06), 0.1 * scale, clothes.extra))
    return merge(parts)


def _walker(build: _Build, phase: float, swing: float) -> Mesh:
    """A person whose legs swing by ``swing`` rad at ``phase`` of the stride."""
    h, girth, clothes = build.height, build.girth, build.clothes
    hip, leg = 0.50 * h, 0.245 * h
    neck = np.array([0.01 + 0.36 * h * np.sin(build.lean), 0, 0.86 * h])
    parts = [
        _trunk(
            np.array([0, 0, hip - 0.03 * h]),
            neck,
            0.065 * h * girth,
            0.105 * h * girth,
            (clothes.top, clothes.band),
        ),
        _head(neck + _at(0.01, 0, 0.07 * h), build),
    ]
    for side in (1.0, -1.0):
        a = side * swing * np.sin(phase)
        knee_bend = max(0.0, side * np.cos(phase)) * swing
        knee = np.array([leg * np.sin(a), side * 0.055 * h, hip - leg * np.cos(a)])
        b = a - knee_bend
        foot = knee + np.array([leg * np.sin(b), 0, -leg * np.cos(b)])
        foot[2] = max(foot[2], 0.04 * h)
        thigh = 0.052 * h * girth
        start = np.array([0, side * 0.055 * h, hip])
        radii, cloth = [thigh, 0.036 * h, 0.026 * h], [clothes.legs, clothes.shin]
        parts.append(_limb([start, knee, foot], radii, cloth))
        parts.append(
            box(foot + _at(0.03 * h, 0, -0.02 * h), (0.15 * h, 0.055 * h, 0.04 * h), clothes.shoes)
        )
        top = np.array([neck[0] - 0.01, side * 0.115 * h * girth, 0.82 * h])
        parts.append(_arm(build, top, side, -a * 0.8))
    return merge([*parts, *_worn(build), *_carried(build, neck)])


def _arm(build: _Build, top: F64, side: float, swung: float) -> Mesh:
    """One arm from its shoulder ``top``, as its owner holds it."""
    h, clothes = build.height, build.clothes
    kind = build.arms
    if build.carries == "umbrella":
        kind = "phone" if side > 0 else "swing"
    elif kind == "phone" and side < 0:
        kind = "swing"
    upper, fore = {  # (forwards, sideways) of both halves, rad
        "swing": ((swung, 0.12), (swung + 0.3, 0.0)),
        "pockets": ((-0.35, 0.2), (0.45, -0.1)),
        "phone": ((0.35, 0.1), (2.2, -0.3)),
        "crossed": ((0.35, 0.15), (1.5, -0.9)),
        "hips": ((-0.2, 0.6), (0.3, -0.6)),
    }[kind]
    elbow = top + 0.17 * h * _direction(*upper, side)
    hand = elbow + 0.17 * h * _direction(*fore, side)
    radii = [0.03 * h, 0.025 * h, 0.02 * h]
    limb = _limb([top, elbow, hand], radii, [clothes.top, clothes.fore], 5)
    return merge([limb, blob(hand, np.full(3, 0.028 * h), clothes.skin)])


def _direction(forwards: float, sideways: float, side: float) -> F64:
    """A unit vector that hangs down, turned forwards and outwards."""
    v = np.array([np.sin(forwards), side * np.sin(sideways), -np.cos(forwards) * np.cos(sideways)])
    return np.asarray(v / np.linalg.norm(v))


def _worn(build: _Build) -> list[Mesh]:
    """A coat or a skirt round the thighs."""
    h, clothes, parts = build.height, build.clothes, []
    if build.coat:
        low, high = np.array([0, 0, 0.33 * h]), np.array([0, 0, 0.55 * h])
        parts.append(
            tube(low, high, 0.115 * h * build.girth, clothes.top, 0.095 * h * build.girth, 9)
        )
    if build.skirt:
        low, high = np.array([0, 0, 0.3 * h]), np.array([0, 0, 0.53 * h])
        parts.append(
            tube(low, high, 0.13 * h * build.girth, clothes.legs, 0.09 * h * build.girth, 9)
        )
    return parts


def _carried(build: _Build, neck: F64) -> list[Mesh]:
    """A backpack, and what hangs from a shoulder or a hand."""
    h, extra, parts = build.height, build.clothes.extra, []
    if build.backpack:
        parts.append(box((-0.1 * h, 0, 0.7 * h), (0.09 * h, 0.17 * h, 0.25 * h), extra))
    out = 0.16 * h * build.girth
    if build.carries == "shoulder bag":
        parts.append(box((-0.02, -out, 0.5 * h), (0.2 * h, 0.07 * h, 0.15 * h), extra))
        low, high = (0, -out, 0.57 * h), neck + _at(0, 0.05 * h, -0.03 * h)
        parts.append(tube(low, high, 0.012, extra, sides=5))
    elif build.carries == "shopping":
        for side in (1.0, -1.0) if build.height > 1.7 else (1.0,):
            parts.append(box((0, side * out, 0.33 * h), (0.18 * h, 0.07 * h, 0.2 * h), extra))
    elif build.carries == "suitcase":
        parts.append(box((-0.27, -0.2, 0.3), (0.22, 0.36, 0.54), extra))
        parts.append(tube((-0.27, -0.2, 0.55), (-0.05, -0.18, 0.47 * h), 0.015, extra, sides=5))
    elif build.carries == "umbrella":
        grip, top = np.array([0.17 * h, 0.1 * h, 0.75 * h]), np.array([0.08, 0.05, h + 0.22])
        parts.append(tube(grip, top, 0.012, extra, sides=5))
        parts.append(tube(top - [0, 0, 0.24], top, 0.48, extra, 0.03, 8))
    return parts


def _sitter(build: _Build, seat_m: float) -> Mesh:
    """A person on a seat ``seat_m`` high at the origin, the face towards x."""
    h, girth, clothes = build.height, build.girth, build.clothes
    hip = np.array([0, 0, seat_m + 0.05 * h])
    up = np.array([np.sin(build.lean + 0.05), 0, np.cos(build.lean + 0.05)])
    neck = hip + 0.36 * h * up
    parts = [
        _trunk(hip - 0.04 * h * up, neck, 0.07 * h * girth, 0.105 * h * girth,
               (clothes.top, clothes.band)),
        _head(neck + _at(0.02, 0, 0.075 * h), build),
    ]  # fmt: skip
    for side in (1.0, -1.0):
        start = hip + _at(0, side * 0.06 * h, 0)
        knee = start + _at(0.26 * h, side * 0.03 * h, 0.01)
        foot = np.array([knee[0] + 0.05 * h * build.lean, knee[1], 0.05 * h])
        radii, cloth = [0.055 * h * girth, 0.04 * h, 0.028 * h], [clothes.legs, clothes.shin]
        parts.append(_limb([start, knee, foot], radii, cloth))
        shoe = foot + _at(0.03 * h, 0, -0.03 * h)
        parts.append(box(shoe, (0.15 * h, 0.055 * h, 0.04 * h), clothes.shoes))
        top = neck + _at(0, side * 0.115 * h * girth, -0.05 * h)
        hand = start + _at(0.18 * h, -side * 0.02 * h, 0.08 * h)
        elbow = _joint(top, hand, 0.18 * h, 0.18 * h, np.array([-0.6, side * 0.5, -0.5]))
        radii = [0.03 * h, 0.025 * h, 0.02 * h]
        parts.append(_limb([top, elbow, hand], radii, [clothes.top, clothes.fore], 5))
    return merge(parts)


def _rider(build: _Build, lean: float, phase: float, helmet: bool, mount: _Mount) -> Mesh:
    """Someone on a saddle, hands on the bar, feet on the pedals."""
    h, clothes = build.height, build.clothes
    hip = np.array(mount.hip)
    up = np.array([np.sin(lean), 0, np.cos(lean)])
    neck = hip + 0.36 * h * up
    above = 0.1 * h * np.array([np.sin(0.4 * lean), 0, np.cos(0.4 * lean)])
    parts = [
        _trunk(hip - 0.03 * h * up, neck, 0.065 * h, 0.1 * h, (clothes.top, clothes.band)),
        _head(neck + above, build, helmet),
    ]
    if build.backpack:
        back = hip + 0.22 * h * up + 0.1 * h * np.array([-np.cos(lean), 0, np.sin(lean)])
        parts.append(box(back, (0.1 * h, 0.17 * h, 0.22 * h), clothes.extra))
    x, gap, z = mount.pedals
    for side in (1.0, -1.0):
        turn = phase + (0.0 if side > 0 else np.pi)
        crank = mount.crank_m * np.array([np.cos(turn), 0, np.sin(turn)])
        pedal = np.array([x, side * gap, z]) + crank
        start = hip + _at(0, side * 0.08, 0)
        knee = _joint(start, pedal, 0.255 * h, 0.27 * h, np.array([1.0, 0.0, 0.5]))
        radii, cloth = [0.052 * h, 0.038 * h, 0.03 * h], [clothes.legs, clothes.shin]
        parts.append(_limb([start, knee, pedal], radii, cloth))
        parts.append(box(pedal + _at(0.04, 0, -0.02), (0.25, 0.09, 0.07), clothes.shoes))
        shoulder = neck - 0.05 * h * up + _at(0, side * 0.11 * h, 0)
        grip = np.array(mount.grip) * [1, side, 1]
        elbow = _joint(shoulder, grip, 0.18 * h, 0.18 * h, np.array([0.0, side * 0.6, -1.0]))
        radii = [0.032 * h, 0.027 * h, 0.022 * h]
        parts.append(_limb([shoulder, elbow, grip], radii, [clothes.top, clothes.fore], 5))
    return merge(parts)


def _joint(start: F64, end: F64, first_m: float, second_m: float, towards: F64) -> F64:
    """Where a joint of two limbs lies between ``start`` and ``end``, bent ``towards``."""
    span = end - start
    d = float(np.linalg.norm(span))
    axis = span / d
    along = (d * d + first_m**2 - second_m**2) / (2 * d)
    off = np.sqrt(max(first_m**2 - along**2, 0.0))
    side = towards - axis * (towards @ axis)
    return np.asarray(start + axis * along + side / np.linalg.norm(side) * off)
