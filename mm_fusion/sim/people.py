"""Pedestrians in walking phases, and cyclists on bicycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.materials import MaterialTable, Texture
from mm_fusion.sim.mesh import Mesh, blob, box, loft, merge, tube
from mm_fusion.sim.models import CYCLIST, PEDESTRIAN, PHASES, ObjectModel, bounding_size

F64 = npt.NDArray[np.float64]

_SKINS = ((0.50, 0.32, 0.24), (0.42, 0.26, 0.18), (0.25, 0.14, 0.09), (0.10, 0.05, 0.03))


@dataclass(frozen=True, slots=True)
class _Clothes:
    skin: int
    hair: int
    top: int
    legs: int
    shoes: int
    extra: int


class PeopleFactory:
    """Makes pedestrians and cyclists of random build and clothes; ``rng`` decides."""

    def __init__(self, table: MaterialTable, rng: np.random.Generator) -> None:
        self._table, self._rng = table, rng
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
        meshes = tuple(
            _walker(height, girth, 2 * np.pi * (k + 0.5) / PHASES, swing, clothes, coat, bag)
            for k in range(1 if standing else PHASES)
        )
        return ObjectModel(PEDESTRIAN, bounding_size(meshes), meshes, stride_m=0.8 * height)

    def cyclist(self) -> ObjectModel:
        """One person riding a bicycle."""
        rng = self._rng
        height = float(np.clip(rng.normal(1.74, 0.08), 1.5, 1.95))
        clothes = self._clothes()
        frame = self._table.add(rng.uniform(0.02, 0.6, 3), 0.3, Texture.PAINT)
        lean = float(rng.uniform(0.15, 0.75))
        helmet = bool(rng.random() < 0.5)
        bicycle = bicycle_mesh(frame, self._rubber, self._metal)
        meshes = tuple(
            merge([bicycle, _rider(height, lean, 2 * np.pi * k / PHASES, clothes, helmet)])
            for k in range(PHASES)
        )
        return ObjectModel(CYCLIST, bounding_size(meshes), meshes, stride_m=4.5)

    def parked_bicycle(self) -> Mesh:
        """A bicycle nobody rides: it carries no label."""
        frame = self._table.add(self._rng.uniform(0.02, 0.6, 3), 0.3, Texture.PAINT)
        return bicycle_mesh(frame, self._rubber, self._metal)

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
        return _Clothes(skin, hair, cloth(), cloth(), shoes, cloth())


def _at(x: float, y: float, z: float) -> F64:
    return np.array([x, y, z], np.float64)


def _limb(points: list[F64], radii: list[float], material: int, sides: int = 6) -> Mesh:
    """A chain of tapered tubes."""
    return merge(
        [
            tube(p, q, r0, material, r1, sides)
            for p, q, r0, r1 in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
        ]
    )


def _trunk(base: F64, top: F64, depth: float, width: float, material: int) -> Mesh:
    """A torso: elliptical rings from hip to neck along a leaning axis."""
    angle = np.arange(10) * (2 * np.pi / 10)
    circle = np.stack([np.cos(angle) * depth, np.sin(angle) * width, np.zeros(10)], axis=1)
    shares = [(0.0, 0.92), (0.25, 0.85), (0.6, 1.0), (0.86, 1.05), (1.0, 0.45)]
    return loft(np.stack([base + (top - base) * u + circle * w for u, w in shares]), material)


def _head(at: F64, scale: float, clothes: _Clothes, helmet: bool = False) -> Mesh:
    cap = clothes.extra if helmet else clothes.hair
    return merge(
        [
            blob(at, np.array([0.095, 0.078, 0.12]) * scale, clothes.skin),
            blob(
                at + _at(-0.015 * scale, 0, 0.03 * scale), np.array([0.1, 0.09, 0.105]) * scale, cap
            ),
        ]
    )


def _walker(
    height: float,
    girth: float,
    phase: float,
    swing: float,
    clothes: _Clothes,
    coat: bool,
    bag: bool,
) -> Mesh:
    """A person of ``height`` whose legs swing by ``swing`` rad at ``phase`` of the stride."""
    h = height
    hip, shoulder, leg = 0.50 * h, 0.82 * h, 0.245 * h
    parts = [
        _trunk(
            np.array([0, 0, hip - 0.03 * h]),
            np.array([0.01, 0, 0.86 * h]),
            0.065 * h * girth,
            0.105 * h * girth,
            clothes.top,
        ),
        _head(np.array([0.02, 0, h - 0.07 * h]), h / 1.75, clothes),
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
        parts.append(_limb([start, knee, foot], [thigh, 0.036 * h, 0.026 * h], clothes.legs))
        parts.append(
            box(foot + _at(0.03 * h, 0, -0.02 * h), (0.15 * h, 0.055 * h, 0.04 * h), clothes.shoes)
        )
        c = -a * 0.8
        top = np.array([0, side * 0.115 * h * girth, shoulder])
        elbow = top + 0.17 * h * np.array([np.sin(c), side * 0.12, -np.cos(c)])
        hand = elbow + 0.17 * h * np.array([np.sin(c + 0.3), 0, -np.cos(c + 0.3)])
        parts.append(_limb([top, elbow, hand], [0.03 * h, 0.025 * h, 0.02 * h], clothes.top, 5))
        parts.append(blob(hand, np.full(3, 0.028 * h), clothes.skin))
    if coat:
        low, high = np.array([0, 0, 0.33 * h]), np.array([0, 0, 0.55 * h])
        parts.append(tube(low, high, 0.115 * h * girth, clothes.top, 0.095 * h * girth, 9))
    if bag:
        parts.append(box((-0.1 * h, 0, 0.7 * h), (0.09 * h, 0.17 * h, 0.25 * h), clothes.extra))
    return merge(parts)


def bicycle_mesh(frame: int, rubber: int, metal: int) -> Mesh:
    """A bicycle 1.75 m long, wheels on the ground, centred at the origin."""
    r, x0, x1 = 0.34, 0.53, -0.53
    parts = [_rim(x0, r, rubber), _rim(x1, r, rubber)]
    head, seat, crank = (
        np.array([0.36, 0, 0.85]),
        np.array([-0.2, 0, 0.9]),
        np.array([-0.06, 0, 0.3]),
    )
    hub0, hub1 = np.array([x0, 0, r]), np.array([x1, 0, r])
    low_head = np.array([0.40, 0, 0.66])
    for p, q in (
        *((low_head, hub0), (head, low_head), (low_head, crank), (seat, crank)),
        *((np.array([-0.17, 0, 0.75]), np.array([0.38, 0, 0.78])), (crank, hub1)),
        (hub1, np.array([-0.17, 0, 0.75])),
    ):
        parts.append(tube(p, q, 0.022, frame, sides=5))
    bar = np.array([0.33, 0, 1.0])
    parts += [
        tube(head, bar, 0.018, metal, sides=5),
        tube(bar + _at(0, 0.28, 0.02), bar + _at(0, -0.28, 0.02), 0.016, metal, sides=5),
        box(seat + _at(-0.03, 0, 0.03), (0.26, 0.15, 0.06), rubber),
    ]
    return merge(parts)


def _rim(x: float, radius: float, material: int) -> Mesh:
    """A wheel as a tyre without spokes, in the xz plane."""
    angle = np.arange(17) * (2 * np.pi / 16)
    circle = np.stack([np.cos(angle), np.zeros(17), np.sin(angle)], axis=1)
    centre = np.array([x, 0.0, radius])
    across = np.array([0.0, 0.022, 0.0])
    inner, outer = centre + circle * (radius - 0.045), centre + circle * radius
    rings = np.stack([outer + across, inner + across, inner - across, outer - across], axis=1)
    return loft(rings, material, cap=False)


def _rider(height: float, lean: float, phase: float, clothes: _Clothes, helmet: bool) -> Mesh:
    """Someone on the saddle of ``bicycle_mesh``, hands on its bar, feet on its pedals."""
    h = height
    hip = np.array([-0.2, 0, 0.97])
    up = np.array([np.sin(lean), 0, np.cos(lean)])
    neck = hip + 0.36 * h * up
    parts = [
        _trunk(hip - 0.03 * h * up, neck, 0.065 * h, 0.1 * h, clothes.top),
        _head(neck + 0.1 * h * np.array([np.sin(0.4 * lean), 0, np.cos(0.4 * lean)]), h / 1.75,
              clothes, helmet),
    ]  # fmt: skip
    for side in (1.0, -1.0):
        turn = phase + (0.0 if side > 0 else np.pi)
        pedal = np.array([-0.06, side * 0.1, 0.3]) + 0.17 * np.array(
            [np.cos(turn), 0, np.sin(turn)]
        )
        start = hip + _at(0, side * 0.08, 0)
        knee = _joint(start, pedal, 0.255 * h, 0.27 * h, np.array([1.0, 0.0, 0.5]))
        parts.append(_limb([start, knee, pedal], [0.052 * h, 0.038 * h, 0.03 * h], clothes.legs))
        parts.append(box(pedal + _at(0.04, 0, -0.02), (0.25, 0.09, 0.07), clothes.shoes))
        shoulder = neck - 0.05 * h * up + _at(0, side * 0.11 * h, 0)
        grip = np.array([0.33, side * 0.26, 1.03])
        elbow = _joint(shoulder, grip, 0.18 * h, 0.18 * h, np.array([0.0, side * 0.6, -1.0]))
        parts.append(
            _limb([shoulder, elbow, grip], [0.032 * h, 0.027 * h, 0.022 * h], clothes.top, 5)
        )
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
