"""The street bench counts what it says it counts, on an object that is placed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.bench.street import K, Street, Thing, _errors
from mm_fusion.geometry import RigidTransform
from mm_fusion.sim.camera import optical_mount


@pytest.mark.parametrize(("moved", "near"), [(0.0, True), (3.0, False)])
def test_an_error_is_the_distance_from_the_true_place(moved: float, near: bool) -> None:
    """GIVEN the rear of a car 12 m ahead, and a truth that says so or lies 3 m aside
    WHEN the errors are asked for
    THEN the car is found, and within a metre only where the truth is true."""
    y, z = (m.ravel() for m in np.meshgrid(np.arange(-0.85, 0.86, 0.05), np.arange(0.3, 1.5, 0.1)))
    rear = np.column_stack([np.full_like(y, 12.0), y, z])
    x, across = (m.ravel() for m in np.meshgrid(np.arange(4.0, 30.0, 0.4), np.arange(-9.0, 9, 0.4)))
    road = np.column_stack([x, across, np.zeros_like(x)])
    road = road[~((x > 11.9) & (x < 16.3) & (np.abs(across) < 0.9))]
    mount: RigidTransform = optical_mount((0.0, 0.0, 1.65), (0.0, 0.0, 0.0))
    edges = np.array([556.0, 180.0, 663.0, 273.0])
    box = np.array([14.05, moved, 0.75, 4.1, 1.75, 1.5, 0.0])
    car = Thing("car", "sedan", box, 8000, edges, edges, False)
    xyz = np.concatenate([rear, road]).astype(np.float32)
    street = Street(xyz, [car], K @ mount.inverse().matrix()[:3])
    ((thing, error),) = _errors(street, np.random.default_rng(1))
    assert thing is car
    assert (error < 1.0) is near
