"""Thinning a sweep before its points are corrected loses and misplaces none that belong there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scenes
import yaml
from scipy.linalg import expm

from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.choosing import ends_ns
from mm_fusion.perception.contract import parse_contract
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.staging import Staging
from mm_fusion.samples import NS_PER_S, SyncedSet

T0 = scenes.T0
LINEAR, ANGULAR = (20.0, 0.0, 0.0), (0.0, 0.0, np.pi / 2)
LAST_S = {"start": (0.0, 0.1), "middle": (-0.05, 0.05), "end": (-0.1, 0.0)}
ALL_FAR_M = 29.0  # of 4 points 3 fit: only nearer ones have to go
FEW, MANY = 900, 50_000  # points: a part of a sweep, and several parts


def base_from_base(seconds):
    """The motion by the matrix exponential of its twist: where the base is ``seconds`` on [4,4]."""
    x, y, z = ANGULAR
    twist = np.zeros((4, 4))
    twist[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    twist[:3, 3] = LINEAR
    return expm(twist * seconds)


class Fast:
    """Staging on a vehicle that goes fast and turns hard."""

    def __init__(self, budget=scenes.BUDGET):
        config = scenes.config()
        calibration = Calibration(config)
        self.motion = MotionBuffer(config.deskew)
        for n in range(-40, 41):
            place = base_from_base(n * 0.02)
            pose = RigidTransform(place[:3, :3], place[:3, 3])
            stamp_ns = T0 + n * NS_PER_S // 50
            self.motion.add(scenes.pose(stamp_ns, pose, LINEAR, ANGULAR))
        text = yaml.safe_dump(scenes.contract_values(point_budget=budget))
        self.staging = Staging(parse_contract(text, "net.yaml"), calibration)

    def staged(self, sweep):
        synced = SyncedSet(T0, (sweep,), (None,), dt_ns={})
        staged = self.staging.fill(synced, self.motion, deskew=True)
        return staged, self.staging.inputs.feeds()["points"]


def cloud(where, count=FEW):
    """Points over more than the network's volume, numbered by their intensity."""
    rng = np.random.default_rng(5)
    xyz = rng.uniform((-25.0, -25.0, -2.0), (45.0, 25.0, 1.5), (count, 3))
    columns, column = np.linspace(*LAST_S[where], FEW), np.arange(count) * FEW // count
    intensity = np.arange(count) / count * 255
    sweep = scenes.sweep(xyz, seconds=columns[column], intensity=intensity)
    moved = np.array([base_from_base(s)[:3] for s in columns])[column]
    in_base = sweep.points[["x", "y", "z"]].tolist() + np.array(scenes.LIDAR_AT[:3])
    exact = np.einsum("nij,nj->ni", moved[:, :, :3], in_base) + moved[:, :, 3]
    return sweep, exact


@pytest.mark.parametrize("count", [FEW, MANY])
@pytest.mark.parametrize("where", LAST_S)
def test_what_stays_stands_exactly_and_nothing_far_is_lost(where, count):
    """GIVEN 20 m/s and 90 degrees/s, and a sweep of more points than fit, WHEN it is staged,
    THEN each point stands where its own instant puts it, none outside, and of the far ones all."""
    sweep, exact = cloud(where, count)
    budget = count * 5 // 9
    staged, rows = Fast(budget).staged(sweep)
    assert f"cloud thinned to {budget} points" in staged.remarks
    numbers = np.rint(rows[:, 3] * count).astype(int)
    np.testing.assert_allclose(rows[:, :3], exact[numbers], atol=2e-3)
    inside = ((exact >= [-20.0, -20.0, -1.0]) & (exact < [40.0, 20.0, 4.0])).all(axis=1)
    far = inside & (np.hypot(exact[:, 0], exact[:, 1]) > ALL_FAR_M)
    # What is within the polynomial's error of the limits may be on either side.
    off_m = np.abs(exact[:, None] - [[-20.0, -20.0, -1.0], [40.0, 20.0, 4.0]]).min(axis=(1, 2))
    assert (inside | (off_m < 2e-3))[numbers].all()
    assert np.count_nonzero(far) > count // 9
    assert set(np.flatnonzero(far & (off_m > 2e-3))) <= set(numbers)
    # A part of a sweep of a few parts is off by less, and takes less of the budget for that.
    assert (0.6 if count == FEW else 0.85) * budget < len(rows) <= budget


def test_points_that_lie_far_apart_in_memory_are_taken_too():
    sweep, _ = cloud("end")
    staged, rows = Fast().staged(sweep)
    rows = rows.copy()
    apart = np.repeat(sweep.points, 2)[::2]
    assert not apart.flags.c_contiguous
    again, same = Fast().staged(replace(sweep, points=apart))
    assert same.tobytes() == rows.tobytes()
    assert again.remarks == staged.remarks


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [([-0.1, -0.05, 0.0], (-0.1, 0.0)), ([0.0, np.nan, 0.1], (0.0, 0.1)), ([99.0], (0.0, 0.0))],
)
def test_a_sweep_says_from_when_to_when_it_lasts(seconds, ends):
    sweep = scenes.sweep(np.ones((len(seconds), 3)), seconds=seconds)
    assert ends_ns(sweep) == pytest.approx([s * NS_PER_S for s in ends], abs=10)
    assert ends_ns(replace(sweep, time_field="")) == (0, 0)
