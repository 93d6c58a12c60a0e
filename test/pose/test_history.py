"""Who leads, the filter or the last minutes as a whole, and what the whole finds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mm_fusion.pose.history import History
from mm_fusion.pose.whole import Piece, Whole

F64 = npt.NDArray[np.float64]
S = 10**9
EVERY_S = 0.2


class Way:
    """A winding course at 8 m/s and what odometry makes of it, written without the code under test:
    truth and odometry are integrated, each by itself.

    ``bias`` rad/s turns odometry too far, one value or [N]; ``scale`` and ``turns`` are the parts
    by which it takes the way and its turns too long. The course winds by ``wind`` rad.
    """

    def __init__(
        self,
        seconds: float,
        bias: float | F64 = 0.0,
        scale: float = 0.0,
        turns: float = 0.0,
        wind: float = 2.0,
    ) -> None:
        self.t = np.arange(0.0, seconds, EVERY_S)
        yaw = wind * np.sin(self.t / 15.0)
        self.yaw = (1.0 + turns) * yaw + np.cumsum(np.broadcast_to(bias, yaw.shape)) * EVERY_S
        self.true = _driven(yaw + 0.7, 8.0)
        self.odom = _driven(self.yaw, 8.0 * (1.0 + scale))

    def judged(
        self, wrong: F64, claimed_m: float, white: float, off: F64 | float = 0.0
    ) -> tuple[list[bool], list[Whole | None]]:
        """Whether the whole leads, and its answer, second for second. ``wrong`` [N,2] are the
        fixes' errors, ``off`` how far the filter is from each: zero where it follows them."""
        history, leads, answers = History(0.01), [], []
        far = np.broadcast_to(off, self.t.shape)
        for k, t in enumerate(self.t):
            stamp_ns, fix = int(t * S) + 1, self.true[k] + wrong[k]
            piece = Piece(stamp_ns, fix, self.odom[k], 0.0, 0.0, far[k], claimed_m, self.yaw[k])
            if history.add(piece, moving=True):
                answers.append(history.whole(0.0, 0.01, white))
                leads.append(history.leads)
        return leads, answers

    def off(self, found: Whole) -> float:
        """How far the place found for the last instant is from the truth."""
        return float(np.linalg.norm(found.place(self.odom[-1]) - self.true[-1]))


def _driven(yaw: F64, speed: float) -> F64:
    return np.cumsum(np.stack([np.cos(yaw), np.sin(yaw)], 1) * speed * EVERY_S, axis=0)


def wandering(count: int, sigma_m: float, lives_s: float, seed: int) -> F64:
    """Errors [N,2] of a Gauss-Markov process, with little scatter about it."""
    rng = np.random.default_rng([seed, 4])
    keep, out = float(np.exp(-EVERY_S / lives_s)), np.zeros((count, 2))
    now = rng.normal(0, sigma_m, 2)
    for k in range(count):
        now = keep * now + rng.normal(0, sigma_m * np.sqrt(1 - keep**2), 2)
        out[k] = now
    return out + rng.normal(0, 0.3, out.shape)


@pytest.mark.parametrize("seed", range(4))
def test_slow_errors_larger_than_claimed_make_the_whole_lead(seed) -> None:
    """GIVEN fixes that claim 5 m, whose errors of 20 m change slowly and hardly scatter, so that
    the filter follows them and is never off them WHEN a minute and a half was heard THEN the whole
    leads; WHEN they claim 20 m THEN it never does."""
    way = Way(150.0)
    wrong = wandering(len(way.t), 20.0, 25.0, seed)
    assert all(way.judged(wrong, 5.0, 0.01)[0][90:])
    assert not any(way.judged(wrong, 20.0, 0.01)[0])


@pytest.mark.parametrize(("claimed_m", "aside_m"), [(0.5, 10.0), (3.0, 30.0)])
@pytest.mark.parametrize("begin_s", [20.0, 25.0, 45.0, 80.0])
def test_a_jump_that_passes_does_not_make_the_whole_lead(begin_s, claimed_m, aside_m) -> None:
    """GIVEN fixes that are as good as they claim WHEN they are ten or twenty sigma aside for 20 s,
    whenever that is THEN the whole never leads, during it and after."""
    way = Way(140.0)
    wrong = np.random.default_rng(1).normal(0, claimed_m, way.true.shape)
    aside = (way.t > begin_s) & (way.t < begin_s + 20.0)
    wrong[aside, 1] += aside_m
    assert not any(way.judged(wrong, claimed_m, 1.0, aside_m * aside)[0])


@pytest.mark.parametrize("claimed_m", [0.05, 1.0, 5.0])
def test_bad_odometry_does_not_make_the_whole_lead(claimed_m) -> None:
    """GIVEN wheels 5 % and turns 5 % wrong and a gyro whose bias grows to a third of a degree a
    second WHEN fixes are as good as they claim, white or slow THEN the filter is left to them."""
    seconds = 200.0
    bias = np.linspace(0.0, 0.006, int(seconds / EVERY_S))
    way = Way(seconds, bias, 0.05, 0.05)
    white = np.random.default_rng(2).normal(0, claimed_m, way.true.shape)
    slow = wandering(len(way.t), 0.9 * claimed_m, 40.0, 3)
    assert not any(way.judged(white, claimed_m, 1.0)[0])
    assert not any(way.judged(slow, claimed_m, 0.1)[0])


def test_the_whole_finds_how_far_turns_are_wrong() -> None:
    """GIVEN a yaw rate that is 3 % too large on a course that winds by two turns to either side,
    and fixes that claim 3 m and scatter by 15 m WHEN laid on as a whole THEN the place is found
    within 5 m."""
    way = Way(200.0, turns=0.03, wind=12.0)
    wrong = np.random.default_rng(6).normal(0, 15.0, way.true.shape)
    leads, answers = way.judged(wrong, 3.0, 25.0, 20.0)
    assert leads[-1]
    assert way.off(answers[-1]) < 5.0


def houses_then_sky(bias_after: F64, claimed_m: float) -> tuple[Way, F64]:
    """A way with errors of 20 m for 120 s and of half the claim after it, while the gyro goes
    wrong."""
    way = Way(120.0 + len(bias_after) * EVERY_S, np.concatenate([np.zeros(600), bias_after]))
    wrong = wandering(len(way.t), 20.0, 25.0, 5)
    wrong[600:] = wandering(len(bias_after), 0.5 * claimed_m, 25.0, 7)
    return way, wrong


def test_the_filter_goes_on_from_the_last_fixes_where_they_are_good_again() -> None:
    """GIVEN a whole that leads between houses, and a gyro that is half a degree a second wrong from
    then on WHEN fixes are worth their claim THEN within a minute and a half the filter leads again,
    and is put within 8 m of the truth, where the whole with its one bias was 15 m off."""
    way, wrong = houses_then_sky(np.full(500, 0.01), 5.0)
    leads, answers = way.judged(wrong, 5.0, 0.01)
    assert leads[100]
    last = max(k for k, led in enumerate(leads) if led)
    assert not leads[-1]
    off = []
    for found in answers[last : last + 2]:
        now = np.argmin(np.linalg.norm(way.odom - found.odom_end, axis=1))
        off.append(np.linalg.norm(found.map_end - way.true[now]))
    assert off[0] > 15.0
    assert off[1] < 8.0
    assert not any(answers[last + 2 :])


def test_where_odometry_is_wrong_good_fixes_get_the_filter_back_in_the_end() -> None:
    """GIVEN a whole that leads between houses, and a gyro whose bias swings by a degree a second
    from then on WHEN fixes are worth their claim, yet miss any minute and a half of such dead
    reckoning, THEN the filter leads again before four minutes are over, and goes on to."""
    swing = 0.015 * np.sin(np.arange(1400) * EVERY_S / 8.0)
    way, wrong = houses_then_sky(swing, 1.0)
    leads, _ = way.judged(wrong, 1.0, 0.01)
    assert leads[110]
    assert leads[110 + 60]
    assert not any(leads[110 + 240 :])


def test_a_filter_that_has_left_its_fixes_is_told_where_they_are() -> None:
    """GIVEN a minute of fixes 40 m from the filter WHEN they agree among themselves THEN the
    minute as a whole says where; where the filter is with them, nothing."""
    rng = np.random.default_rng(2)
    for off_m in (40.0, 0.0):
        history = History(0.01)
        for k in range(300):
            odom = np.array((1.6 * k, 20.0 * np.sin(k / 20.0)))
            enu = odom + rng.normal((0.0, off_m), 3.0)
            off = float(np.linalg.norm(enu - odom))
            history.add(Piece(k * S // 5 + 1, enu, odom, 0.0, 0.0, off, 3.0), moving=True)
        found = history.diverged(0.0, np.zeros(2), 0.0, 0.001)
        assert (found is not None) == (off_m > 0.0)
        if found is not None:
            assert np.linalg.norm(found.map_end - found.odom_end - (0.0, off_m)) < 2.0
