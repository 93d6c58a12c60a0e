"""All sweeps of a set become one cloud at the set's stamp; a bad LIDAR costs only itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scenes
import turning
import yaml

from mm_fusion.config_objects import GroundConfig
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.contract import parse_contract
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.obstacles import obstacle_points
from mm_fusion.perception.staging import Staging
from mm_fusion.samples import Reason, SyncedSet

T0 = scenes.T0
PLACES = {
    "front": (1.5, 0.3, 1.0, 0.02, 0.05, 0.4),
    "rear": (-1.2, -0.2, 1.1, -0.03, 0.02, 3.0),
    "roof": (0.0, 0.0, 2.0, 0.0, 0.0, 0.0),
}
WIDE = {"x": [-40.0, 40.0], "y": [-40.0, 40.0], "z": [-5.0, 9.0]}


def of(*sweeps, dt_ns=None):
    """A set of these sweeps."""
    there = {s.sensor: s.stamp_ns - T0 for s in sweeps if s is not None}
    return SyncedSet(T0, sweeps, (None,), dt_ns=there if dt_ns is None else dt_ns)


class Stage:
    """Staging for three LIDARs, with the motion of the circle unless told otherwise."""

    def __init__(self, motion=True, budget=scenes.BUDGET, deskew=True):
        lines = [f"{n} " + " ".join(map(str, p)) for n, p in PLACES.items()]
        self.config = scenes.config(topics__lidars=list(PLACES), calibration__extrinsics=lines)
        self.calibration = Calibration(self.config)
        self.motion = MotionBuffer(self.config.deskew)
        self.deskew = deskew
        for pose in turning.poses(np.arange(-0.4, 0.05, 0.02)) if motion else ():
            self.motion.add(pose)
        values = scenes.contract_values(range_m=WIDE, point_budget=budget)
        self.staging = Staging(parse_contract(yaml.safe_dump(values), "net"), self.calibration)

    def fill(self, *sweeps, dt_ns=None, **options):
        synced = of(*sweeps, dt_ns=dt_ns)
        return self.staging.fill(synced, self.motion, deskew=self.deskew, **options)

    def points(self):
        return self.staging.inputs.feeds()["points"]


def circle_sweep(name, world, begin_s, end_s, stamp_s, **options):
    return turning.sweep_of(world, PLACES[name], begin_s, end_s, stamp_s, name, **options)


def test_every_lidar_is_deskewed_by_its_own_times_to_the_sets_stamp():
    # GIVEN three LIDARs that turn with the robot by 90 degrees a second, out of step
    front, rear, roof = (turning.ring_of_points(150, seed=n) for n in range(3))
    stage = Stage()
    staged = stage.fill(
        circle_sweep("front", front, -0.1, 0.0, 0.0),
        circle_sweep("rear", rear, -0.14, -0.04, -0.04),  # ended earlier
        circle_sweep("roof", roof, -0.07, 0.03, -0.07),  # stamped at its start
    )
    # THEN every point of all of them is where it stands in the base frame at the set's stamp
    truth = np.concatenate([front, rear, roof])  # the base is at the world's origin then
    assert staged.points_used == len(stage.points()) == 450
    assert np.linalg.norm(stage.points()[:, :3] - truth, axis=1).max() < 0.005
    assert (staged.rejections, staged.remarks) == ([], [])
    # and its age is that of its own instant
    ages = [np.linspace(0.1, 0.0, 150), np.linspace(0.14, 0.04, 150), np.linspace(0.07, -0.03, 150)]
    expected = np.maximum(np.concatenate(ages), 0.0)
    np.testing.assert_allclose(stage.points()[:, 4], expected, atol=1e-6)
    # WHEN nothing is corrected THEN points are off by metres
    raw = Stage(deskew=False)
    raw.fill(circle_sweep("rear", rear, -0.14, -0.04, -0.04))
    assert np.linalg.norm(raw.points()[:, :3] - rear, axis=1).max() > 2.0


def test_a_sweep_without_times_is_moved_as_one_piece():
    # GIVEN a flash LIDAR that saw everything at once, 40 ms before the set's stamp
    world = turning.ring_of_points(100)
    stage = Stage()
    staged = stage.fill(circle_sweep("rear", world, -0.04, -0.04, -0.04, timed=False))
    assert np.linalg.norm(stage.points()[:, :3] - world, axis=1).max() < 0.005
    np.testing.assert_allclose(stage.points()[:, 4], 0.04, atol=1e-7)
    assert staged.remarks == ["rear: not deskewed: no time per point"]


def test_without_motion_that_is_said_for_every_lidar():
    world = turning.ring_of_points(100)
    stage = Stage(motion=False)
    staged = stage.fill(
        circle_sweep("front", world, -0.1, 0.0, 0.0), circle_sweep("rear", world, -0.1, 0.0, -0.04)
    )
    assert staged.points_used == 200
    assert staged.remarks == [
        "front: not deskewed: no ego motion",
        "rear: not deskewed: no ego motion",
        "rear: no ego motion between sweep and set",
    ]


def test_a_corrected_clock_counts():
    # GIVEN a LIDAR whose clock is 30 ms late; the set knows and says where the sweep belongs
    world = turning.ring_of_points(100)
    sweep = circle_sweep("rear", world, -0.1, 0.0, 0.0)
    late = dataclasses.replace(sweep, stamp_ns=sweep.stamp_ns + 30_000_000)
    stage = Stage()
    stage.fill(late, dt_ns={"rear": 0})
    assert np.linalg.norm(stage.points()[:, :3] - world, axis=1).max() < 0.005
    stage.fill(late)
    assert np.linalg.norm(stage.points()[:, :3] - world, axis=1).max() > 0.5


BAD = [
    ({"frame_id": "elsewhere"}, Reason.NO_EXTRINSICS),
    ({"x": np.nan}, Reason.NON_FINITE),
    ({"x": 500.0}, Reason.OUT_OF_RANGE),
    ({"empty": True}, Reason.EMPTY_CLOUD),
]


def spoilt(sweep, how):
    points = sweep.points.copy()
    if "x" in how:
        points["x"] = how["x"]
    return dataclasses.replace(
        sweep,
        points=points[:0] if how.get("empty") else points,
        frame_id=how.get("frame_id", sweep.frame_id),
    )


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(("how", "reason"), BAD)
def test_a_bad_lidar_costs_only_itself(how, reason, place):
    # GIVEN three LIDARs, of which one is of no use
    worlds = [turning.ring_of_points(60, seed=n) for n in range(3)]
    sweeps = [
        circle_sweep(name, world, -0.1, 0.0, 0.0)
        for name, world in zip(PLACES, worlds, strict=True)
    ]
    bad = sweeps[place] = spoilt(sweeps[place], how)
    stage = Stage()
    staged = stage.fill(*sweeps)
    # THEN it alone is refused, with its reason, and the others are all there
    assert [(r.sensor, r.reason) for r in staged.rejections] == [(bad.sensor, reason)]
    truth = np.concatenate([w for n, w in enumerate(worlds) if n != place])
    assert staged.has_points
    np.testing.assert_allclose(stage.points()[:, :3], truth, atol=0.005)


def test_a_missing_lidar_costs_only_itself_and_withheld_ones_all():
    world = turning.ring_of_points(60)
    stage = Stage()
    staged = stage.fill(None, circle_sweep("rear", world, -0.1, 0.0, 0.0), None)
    assert (staged.has_points, staged.points_used) == (True, 60)
    staged = stage.fill(None, circle_sweep("rear", world, -0.1, 0.0, 0.0), use_lidar=False)
    assert (staged.has_points, staged.points_used) == (False, 0)
    assert not stage.fill(None, None).has_points


def test_the_budget_is_shared_in_proportion():
    counts = {"front": 6000, "rear": 3000, "roof": 1000}
    sweeps = [
        circle_sweep(name, turning.ring_of_points(count), -0.1, 0.0, 0.0)
        for name, count in counts.items()
    ]
    # Each is known by its intensity.
    for n, sweep in enumerate(sweeps):
        made = np.zeros(len(sweep.points), [*sweep.points.dtype.descr, ("intensity", "f4")])
        for name in sweep.points.dtype.names:
            made[name] = sweep.points[name]
        made["intensity"] = 50.0 * (n + 1)
        sweeps[n] = dataclasses.replace(sweep, points=made, intensity_field="intensity")
    stage = Stage(budget=1000)
    staged = stage.fill(*sweeps)
    assert staged.remarks == ["cloud thinned to 1000 points"]
    assert 980 <= staged.points_used <= 1000
    shares = np.bincount(np.rint(stage.points()[:, 3] * 255 / 50).astype(int), minlength=4)
    np.testing.assert_allclose(shares[1:], [600, 300, 100], atol=10)


def test_where_there_is_room_nothing_is_thinned():
    sweeps = [circle_sweep(n, turning.ring_of_points(300), -0.1, 0.0, 0.0) for n in PLACES]
    staged = Stage(budget=900).fill(*sweeps)
    assert (staged.points_used, staged.remarks) == (900, [])


def test_the_same_memory_serves_every_set():
    # GIVEN a set of three LIDARs that has been staged
    stage = Stage()
    sweeps = [circle_sweep(n, turning.ring_of_points(100), -0.1, 0.0, 0.0) for n in PLACES]
    stage.fill(*sweeps)
    fed = stage.points().__array_interface__["data"][0]
    placer = stage.staging._placer
    kept = [placer._rows, placer._xyz, placer._seconds, placer._exact_s]
    # WHEN smaller and equal sets follow THEN nothing is allocated anew
    for chosen in (sweeps[:1], sweeps, sweeps[1:]):
        stage.fill(*chosen)
        now = [placer._rows, placer._xyz, placer._seconds, placer._exact_s]
        assert all(a is b for a, b in zip(kept, now, strict=True))
        assert stage.points().__array_interface__["data"][0] == fed


def test_obstacles_come_from_all_lidars():
    worlds = [turning.ring_of_points(80, seed=n) for n in range(3)]
    sweeps = [
        circle_sweep(name, world, -0.1, 0.0, 0.0)
        for name, world in zip(PLACES, worlds, strict=True)
    ]
    sweeps[1] = spoilt(sweeps[1], {"frame_id": "elsewhere"})
    stage = Stage()
    level = GroundConfig(find=False)  # a ring of points has no ground under it
    config = dataclasses.replace(stage.config, ground=level)
    found = obstacle_points(of(*sweeps), stage.calibration, config, stage.motion)
    truth = np.concatenate([worlds[0], worlds[2]])
    low, high = level.step_m, stage.config.obstacles.max_height_m
    sure = truth[(truth[:, 2] > low + 0.01) & (truth[:, 2] < high - 0.01)]
    assert 0 <= len(found) - len(sure) <= 3
    at = np.column_stack([found[a] for a in "xyz"])
    assert np.linalg.norm(at[:, None] - sure[None], axis=2).min(axis=0).max() < 0.005
    nowhere = [spoilt(s, {"frame_id": "elsewhere"}) for s in sweeps]
    assert obstacle_points(of(*nowhere), stage.calibration, stage.config, stage.motion) is None
