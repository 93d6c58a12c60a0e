"""Points off the ground fall into clusters, lie sorted by them, and are found again in pictures."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.geometry import RigidTransform, project
from mm_fusion.perception.camera2d.associate import in_view
from mm_fusion.perception.camera2d.clusters import cluster
from mm_fusion.perception.camera2d.solid import solid_of
from mm_fusion.perception.ground import Ground

WIDTH, HEIGHT = 1240, 376
K = np.array([[720.0, 0.0, 619.5], [0.0, 720.0, 187.5], [0.0, 0.0, 1.0]])
CAMERA = RigidTransform.from_rpy([0.0, 0.0, 1.65], [-np.pi / 2, 0.0, -np.pi / 2])
PIXEL_FROM_BASE = K @ CAMERA.inverse().matrix()[:3]


def test_clusters_join_what_is_near_and_part_what_is_apart() -> None:
    """Also across the seam behind the sensor, and with wider gaps farther away."""
    x = np.array([5.0, 5.0, 5.0, -8.0, -8.0, 40.0, 40.0, 70.0], np.float32)
    y = np.array([0.0, 0.2, 1.5, 0.05, -0.05, 0.0, 0.5, 0.0], np.float32)
    a, b, c, d, e, f, g, h = cluster(x, y, 60.0).tolist()
    assert a == b
    assert a != c
    assert d == e
    assert f == g
    assert h == 0
    assert len({a, c, d, f}) == 4


def crowd(count: int, seed: int = 4) -> np.ndarray:
    """Points [3,N] of things of half a metre all around, some of them far off."""
    rng = np.random.default_rng(seed)
    away, turn = rng.uniform(2.0, 75.0, (2, count)) * [[1.0], [2.0 * np.pi / 75.0]]
    middles = np.stack([away * np.cos(turn), away * np.sin(turn), np.full(count, 0.8)])
    return (middles[:, None] + rng.uniform(-0.25, 0.25, (3, 20, count))).reshape(3, -1)


def test_points_lie_cluster_by_cluster_and_within_its_bounds() -> None:
    """GIVEN 300 things, some on the ground's side, some too high, some beyond the range
    WHEN they are sorted by cluster
    THEN each cluster is one run of points, none is lost, and they are the clusters as found."""
    rng = np.random.default_rng(5)
    xyz = crowd(300)[:, rng.permutation(6000)].astype(np.float32)
    height = np.where(rng.random(6000) < 0.1, 3.5, xyz[2]).astype(np.float32)
    ground = Ground(rng.random(6000) < 0.2, height)
    solid = solid_of(xyz, ground, 60.0, np.zeros(2))
    wanted = ~ground.is_ground & (height < 2.8)
    labels = cluster(*xyz[:2, wanted], 60.0)
    kept = xyz[:, wanted][:, labels > 0]
    assert len(solid.starts) == len(np.unique(labels[labels > 0])) > 100
    assert sorted(map(tuple, solid.xyz.T)) == sorted(map(tuple, kept.T))
    same = {tuple(p): n for p, n in zip(kept.T, labels[labels > 0], strict=True)}
    for k in range(len(solid.starts)):
        rows = solid.rows_of([k])
        points = solid.xyz[:, rows]
        assert set(solid.labels[rows]) == {k}
        assert len({same[tuple(p)] for p in points.T}) == 1
        assert np.array_equal(solid.low[:, k], points.min(axis=1))
        assert np.array_equal(solid.high[:, k], points.max(axis=1))


@pytest.mark.parametrize("turn", [0.0, 0.6, np.pi])
def test_no_point_in_view_is_left_out(turn: float) -> None:
    """GIVEN things all around WHEN a camera looks THEN it has the points that project into its
    picture, with their depths and pixels."""
    xyz = crowd(400).astype(np.float32)
    solid = solid_of(xyz, Ground(np.zeros(8000, np.bool_), xyz[2]), 60.0, np.zeros(2))
    p = PIXEL_FROM_BASE @ RigidTransform.from_rpy((0.5, -0.2, 0.1), (0.0, 0.02, turn)).matrix()
    view = in_view(p, (WIDTH, HEIGHT), solid)
    pixels, _ = project(p, solid.xyz.T.astype(np.float64))
    depth = p[2, :3] @ solid.xyz + p[2, 3]
    inside = ((pixels > -0.5) & (pixels < [WIDTH - 0.5, HEIGHT - 0.5])).all(axis=1)
    rows = np.flatnonzero(inside & (depth > 0.5))
    assert len(rows) > 300
    np.testing.assert_array_equal(view.rows, rows)
    np.testing.assert_allclose(view.extent[0], depth[rows], rtol=1e-4)
    np.testing.assert_allclose(view.extent[2:], pixels[rows].T, atol=0.02)
