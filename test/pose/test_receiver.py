"""What fixes are really worth: fast and slow errors told apart, and the whole watched."""

from __future__ import annotations

import numpy as np
import pytest
from support.pose_drives import T0_NS, Drive, Sensors, errors, frames, merge, play, rms

from mm_fusion.bench.pose_runs import canyon, errors_of
from mm_fusion.bench.pose_runs import rms as rms_of
from mm_fusion.pose.posterior import HeadingPosterior
from mm_fusion.pose.receiver import Receiver
from mm_fusion.samples import ImuSample

S = 10**9
MOTORWAY = Drive(duration_s=45.0, rest_s=-5.0, speed=30.0, turn=0.15, bend_m=250.0)


def told(scatter_m: float, claimed_m: float) -> Receiver:
    """A receiver after a minute of fixes at 5 Hz."""
    receiver = Receiver(30.0)
    rng = np.random.default_rng(4)
    for k in range(300):
        place = rng.normal(0, scatter_m, 2) + np.array((1.5, 0.0))
        receiver.seen(k * S // 5, place, claimed_m**2)
        receiver.fused(k * S // 5, place, claimed_m**2, 0.01, 0.2)
    return receiver


def test_fixes_that_scatter_as_they_claim_are_taken_at_their_word() -> None:
    receiver = told(3.0, 3.0)
    assert receiver.white == pytest.approx(1.0, abs=0.05)
    assert receiver.slow_m2 == 0.0


def test_fixes_that_scatter_five_times_as_much_are_seen_through() -> None:
    receiver = told(15.0, 3.0)
    assert 12.0 < receiver.white < 36.0


def test_what_a_receiver_claims_and_does_not_scatter_is_slow_error() -> None:
    """GIVEN a claim of 1.5 m and a scatter of 0.2 m WHEN seen for a minute
    THEN most of the claimed variance is counted as an error that averaging does not remove."""
    receiver = told(0.2, 1.5)
    assert receiver.white < 0.15
    assert 1.5 < receiver.slow_m2 <= 2.25


def test_a_few_good_fixes_do_not_make_a_receiver_suspect() -> None:
    """GIVEN receivers that scatter as they claim, and a track that is not sure yet WHEN only some
    seconds of fixes were seen THEN hardly any is taken for one with a slow error: the median of a
    dozen squares is twice what it should be now and then."""
    doubted = 0
    for seed in range(200):
        receiver, rng = Receiver(30.0), np.random.default_rng([seed, 8])
        off = rng.normal(0, 0.39, 2)
        for k in range(60):
            place = off * np.exp(-k / 25.0) + rng.normal(0, 1.0, 2)
            receiver.seen(k * S // 5, place, 1.0)
            receiver.fused(k * S // 5, place, 1.0, 0.15 * np.exp(-k / 12.0), 0.2)
        doubted += receiver.slow_m2 > 0.0
    assert doubted <= 12


def test_a_dozen_fixes_that_happen_to_lie_close_are_no_better_than_they_claim() -> None:
    """GIVEN a dozen fixes that lie 0.6 times as far apart as claimed, as chance has it now and then
    WHEN seen THEN they count as claimed; when a hundred do so, they count as better."""
    found = []
    for count in (12, 100):
        receiver = Receiver(30.0)
        for k in range(count):
            receiver.seen(k * S // 5, np.array((0.985 * (k % 2), 0.0)), 1.0)
        found.append(receiver.white)
    assert found[0] == 1.0
    assert found[1] < 0.5


def test_an_imu_alone_does_not_judge_fixes_a_second_apart() -> None:
    """GIVEN fixes of 7 cm once a second and a track that errs by 0.3 m from one to the next
    WHEN an IMU alone made that track THEN the fixes keep their claim; with wheels they lose it."""
    kept = []
    for alone in (True, False):
        receiver, rng = Receiver(30.0), np.random.default_rng(9)
        for k in range(60):
            receiver.seen(k * S, rng.normal(0, 0.2, 2), 0.07**2, alone)
        kept.append(receiver.white)
    assert kept[0] == 1.0
    assert kept[1] > 3.0


def test_a_constant_error_of_the_fixes_stays_in_the_covariance() -> None:
    """GIVEN a motorway and a receiver 1.5 m off with little scatter, which claims 1.5 m
    WHEN fused THEN the track is much smoother than that about its bias, and the covariance does
    not pretend that the bias had been averaged away."""
    sensors = Sensors(seed=41, gps_sigma=0.2)
    gps = sensors.gps(MOTORWAY, claimed=1.5, extra=lambda _: (1.5, 0.0))
    out = play(merge(sensors.imu(MOTORWAY), sensors.wheels(MOTORWAY), gps), frames(sensors))
    rows = errors(MOTORWAY, out.global_, 10.0)
    rows[:, 1] -= 1.5
    assert rms(rows) < 0.4
    sigma = np.sqrt([e.pose_covariance[0, 0] for e in out.global_[2000:]])
    assert sigma.min() > 0.7
    assert not [w for w in out.pipeline.warnings() if "anew" in w]


def test_between_high_houses_the_track_is_better_than_the_fixes() -> None:
    """GIVEN wheels and yaw rate at 5 Hz and fixes that claim 5 m and are about 37 m off
    WHEN the heading found at first was wrong THEN the last minutes as a whole put it right, and
    the error is less than half of the fixes'."""
    ours, fixes = [], []
    for seed in (0, 1):
        truth, samples, fix_errors, tree = canyon(seed)
        out = play(samples, tree)
        ours.append(rms_of(errors_of(truth, out.global_).place))
        fixes.append(rms_of(fix_errors))
    assert np.mean(fixes) > 30.0
    assert np.mean(ours) < 0.45 * np.mean(fixes)


@pytest.mark.parametrize("seed", range(2))
def test_a_heading_found_from_fixes_that_drifted_is_put_right(seed) -> None:
    """GIVEN wheels and fixes that claim 4 m, are 40 m off at first and come back within a minute,
    so that heading and place are found wrong WHEN they have been good for half a minute THEN the
    estimate starts anew from them, says so, and is with them."""

    def coming_back(second: float) -> tuple[float, float]:
        left_m = 40.0 * float(np.clip((60.0 - second) / 50.0, 0.0, 1.0))
        return left_m * float(np.cos(2.1 * seed)), left_m * float(np.sin(2.1 * seed))

    drive = Drive(duration_s=120.0, heading=0.7 * seed, speed=7.0, turn=1.5, bend_m=40.0)
    sensors = Sensors(seed=70 + seed, gps_sigma=1.0)
    gps = sensors.gps(drive, claimed=4.0, extra=coming_back)
    out = play(merge(sensors.wheels(drive), gps), frames(sensors))
    assert rms(errors(drive, out.global_, 90.0)) < 8.0
    assert any("had left the fixes" in w for w in out.pipeline.warnings())


@pytest.mark.parametrize("seed", range(2))
def test_a_receiver_that_filters_is_seen_through_between_high_houses(seed) -> None:
    """GIVEN wheels and yaw rate at 5 Hz, both 2 % wrong, and fixes that claim 5 m and whose errors
    of 22 m and more change so smoothly that the filter follows them WHEN driven for five minutes
    THEN the last minutes as a whole lead, and the error is less than 0.7 of the fixes'."""
    truth, samples, fix_errors, tree = canyon(seed, smooth=True)
    out = play(samples, tree)
    assert any("as a whole" in w for w in out.pipeline.warnings())
    assert rms_of(errors_of(truth, out.global_).place) < 0.7 * rms_of(fix_errors)


def test_a_receiver_that_claims_3_m_and_errs_by_15_is_not_locked_out() -> None:
    drive = Drive(duration_s=60.0)
    sensors = Sensors(seed=42, gps_sigma=15.0)
    gps = sensors.gps(drive, claimed=3.0)
    out = play(merge(sensors.imu(drive), sensors.wheels(drive), gps), frames(sensors))
    late = [r for r in out.rejections if r.sensor == "gps" and r.stamp_ns > T0_NS + 40 * S]
    assert len(late) < 20
    assert rms(errors(drive, out.global_, 30.0)) < 0.35 * 15.0 * np.sqrt(2.0)
    assert any("as a whole" in w for w in out.pipeline.warnings())


def test_the_posterior_is_the_mean_over_all_headings() -> None:
    """GIVEN a few fixes on a short way WHEN each heading is weighed by its likelihood on a grid
    THEN mean and covariance of the position are the closed form's."""
    rng = np.random.default_rng(6)
    odom = np.stack([np.linspace(0, 3, 8), 0.2 * np.arange(8) ** 1.5, np.zeros(8)], axis=1)
    c, s = np.cos(2.0), np.sin(2.0)
    turn = np.array(((c, -s, 0), (s, c, 0), (0, 0, 1)))
    enu = odom @ turn.T + rng.normal(0, 1.0, (8, 3)) + (5.0, -3.0, 0.0)
    posterior = HeadingPosterior()
    for e, o in zip(enu, odom, strict=True):
        posterior.add(e, o, 1.0, 4.0)
    now = np.array((4.0, 5.0, 0.0))
    mean_e, mean_o = enu[:, :2].mean(axis=0), odom[:, :2].mean(axis=0)
    places, weights = [], []
    for yaw in np.linspace(-np.pi, np.pi, 20001)[:-1]:
        r = np.array(((np.cos(yaw), -np.sin(yaw)), (np.sin(yaw), np.cos(yaw))))
        misfit = enu[:, :2] - mean_e - (odom[:, :2] - mean_o) @ r.T
        weights.append(np.exp(-0.5 * (misfit**2).sum()))
        places.append(mean_e + r @ (now[:2] - mean_o))
    expected = np.average(places, axis=0, weights=weights)
    spread = np.cov(np.array(places).T, aweights=weights, ddof=0) + np.eye(2) / 8.0
    place, covariance = posterior.at(now)
    assert place[:2] == pytest.approx(expected, abs=1e-6)
    assert covariance[:2, :2] == pytest.approx(spread, abs=1e-6)


def test_the_start_of_a_motion_is_not_learned_as_a_bias() -> None:
    """GIVEN a robot at rest WHEN it starts so gently that the wheels still look at rest
    THEN neither speed nor accelerometer bias take the start for something else."""
    drive = Drive(duration_s=6.0)
    sensors = Sensors(seed=43, accel_sigma=0.01, accel_bias=(0.0, 0.0, 0.0), wheel_scale=0.0)
    samples = merge(sensors.imu(drive), sensors.wheels(drive))
    assert any(isinstance(s, ImuSample) for s in samples)
    out = play(samples, frames(sensors))
    moving = [e for e in out.local if e.stamp_ns - T0_NS > 2.6 * S]
    off = [e.linear[0] - drive.at(e.stamp_ns)[3] for e in moving]
    assert np.abs(off).max() < 0.06
