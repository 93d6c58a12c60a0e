"""Two-wheelers without their riders: bicycles, motorcycles and scooters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mm_fusion.sim.mesh import Mesh, blob, box, loft, merge, tube

F64 = npt.NDArray[np.float64]


def _offset(x: float, y: float, z: float) -> F64:
    return np.array([x, y, z], np.float64)


def bicycle_mesh(frame: int, rubber: int, metal: int) -> Mesh:
    """A bicycle 1.75 m long, wheels on the ground, centred at the origin."""
    r, x0, x1 = 0.34, 0.53, -0.53
    parts = [rim(x0, r, rubber), rim(x1, r, rubber)]
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
        tube(bar + _offset(0, 0.28, 0.02), bar + _offset(0, -0.28, 0.02), 0.016, metal, sides=5),
        box(seat + _offset(-0.03, 0, 0.03), (0.26, 0.15, 0.06), rubber),
    ]
    return merge(parts)


def rim(x: float, radius: float, material: int, half_m: float = 0.022) -> Mesh:
    """A wheel as a tyre without spokes, in the xz plane, ``half_m`` to each side of it."""
    angle = np.arange(17) * (2 * np.pi / 16)
    circle = np.stack([np.cos(angle), np.zeros(17), np.sin(angle)], axis=1)
    centre = np.array([x, 0.0, radius])
    across = np.array([0.0, half_m, 0.0])
    inner, outer = centre + circle * (radius - max(0.045, half_m)), centre + circle * radius
    rings = np.stack([outer + across, inner + across, inner - across, outer - across], axis=1)
    return loft(rings, material, cap=False)


def motorbike_mesh(paint: int, rubber: int, metal: int, scooter: bool) -> Mesh:
    """A motorcycle, or a ``scooter`` with small wheels and a shield, 1.9 m long at most, wheels on
    the ground, centred at the origin."""
    r, reach, half = (0.23, 0.6, 0.05) if scooter else (0.31, 0.66, 0.06)
    steer, seat_z = np.array([0.34, 0, 1.0]), 0.78
    parts = [
        *(rim(x, r, rubber, half) for x in (reach, -reach)),
        *(tube((x - 0.02, 0, r), (x + 0.02, 0, r), 0.6 * r, metal) for x in (reach, -reach)),
        tube((reach, 0, r), steer, 0.045, metal, sides=6),
        tube(
            steer + _offset(0, 0.34, 0.02), steer + _offset(0, -0.34, 0.02), 0.02, rubber, sides=5
        ),
        blob(steer + _offset(0.08, 0, -0.1), (0.12, 0.13, 0.14), paint),
        box((-0.3, 0, seat_z), (0.75, 0.26, 0.1), rubber),
        box((-0.75, 0, seat_z - 0.05), (0.25, 0.2, 0.12), paint),
    ]
    if scooter:
        parts += [
            box((-0.4, 0, 0.52), (0.65, 0.32, 0.42), paint),
            box((0.08, 0, 0.3), (0.5, 0.34, 0.08), paint),
            tube((0.32, 0, 0.3), (0.4, 0, 0.95), 0.2, paint, 0.13, 6),
        ]
    else:
        parts += [
            blob((0.1, 0, 0.8), (0.3, 0.17, 0.16), paint),
            box((0.02, 0, 0.48), (0.5, 0.3, 0.34), metal),
            tube((-0.1, 0.16, 0.35), (-0.8, 0.18, 0.42), 0.05, metal, 0.06, 7),
            tube((-reach, 0, r), (-0.15, 0, 0.55), 0.05, metal, sides=6),
        ]
    return merge(parts)
