"""What has thrown other filters off for good: clusters of wrong fixes, numbers that are none,
covariances that collapse."""

from __future__ import annotations

import numpy as np
import pytest
from support.pose_drives import T0_NS, Drive, Sensors, configure, errors, fix, frames, merge, play

from mm_fusion.bench.pose_runs import BACK_S, gone_astray
from mm_fusion.pose.gates import Reacceptance
from mm_fusion.pose.history import History
from mm_fusion.pose.pipeline import PosePipeline
from mm_fusion.pose.whole import Piece
from mm_fusion.samples import PoseEstimate, Sample

S = 10**9
DRIVE = Drive(duration_s=60.0)


def after_a_blackout(scatter_m: float, seconds: float, claimed_m: float) -> list[Sample]:
    """Fixes up to 20 s, none to 35 s, then some 800 m off, then good ones again."""
    rng = np.random.default_rng(5)
    sensors = Sensors(seed=60)
    good = sensors.gps(DRIVE)
    out: list[Sample] = [f for f in good if f.stamp_ns - T0_NS < 20 * S]
    back_ns = T0_NS + int((35.0 + seconds) * S)
    for f in good:
        if T0_NS + 35 * S <= f.stamp_ns < back_ns:
            east, north, _, _ = DRIVE.at(f.stamp_ns)
            e, n = rng.normal(0, scatter_m, 2)
            out.append(fix(f.stamp_ns, east + 800.0 + e, north + n, claimed_m))
    out += [f for f in good if f.stamp_ns >= back_ns]
    return merge(sensors.imu(DRIVE), sensors.wheels(DRIVE), out)


@pytest.mark.parametrize(("scatter_m", "seconds"), [(60.0, 8.0), (1.0, 2.0)])
def test_a_cluster_800_m_off_after_a_blackout_does_not_take_the_robot(scatter_m, seconds) -> None:
    """GIVEN a blackout and, at its end, fixes 800 m off: many that scatter, or few that agree
    WHEN good fixes follow THEN the wrong ones are refused, the estimate stays, and the good ones
    are believed within 5 s."""
    out = play(after_a_blackout(scatter_m, seconds, 3.0), frames(Sensors(seed=60)))
    rows = errors(DRIVE, out.global_, 20.0)
    off = np.linalg.norm(rows[:, 1:3], axis=1)
    assert off.max() < 20.0
    assert off[rows[:, 0] > 35.0 + seconds + 5.0].max() < 4.0
    assert out.reasons().count(("gps", "outlier")) >= 5 * seconds - 1


def test_a_filter_that_has_lost_its_numbers_begins_anew_and_says_so() -> None:
    """GIVEN a running pose WHEN its covariance becomes NaN THEN nothing that is not a number is
    published, both estimates begin anew, it is announced, and the datum stays."""
    sensors = Sensors(seed=61)
    drive = Drive(duration_s=30.0)
    samples = merge(sensors.imu(drive), sensors.wheels(drive), sensors.gps(drive))
    pipeline = PosePipeline(configure(), frames(sensors))
    estimates = []
    spoiled = False
    for sample in samples:
        if not spoiled and sample.stamp_ns - T0_NS > 12 * S:
            pipeline._local.core.covariance[3, 3] = np.nan
            spoiled, datum = True, pipeline.datum
        estimates += [a for a in pipeline.add(sample) if isinstance(a, PoseEstimate)]
    assert all(np.isfinite(e.pose_covariance).all() for e in estimates)
    assert any("diverged" in w for w in pipeline.warnings())
    assert pipeline.datum == datum
    last = estimates[-1]
    assert last.frame_id == "map"
    east, north, _, _ = drive.at(last.stamp_ns)
    assert np.hypot(*(last.frame_from_base.translation[:2] - (east, north))) < 3.0


@pytest.mark.parametrize("seed", range(3))
def test_the_covariance_is_never_negative_nor_silently_tiny(seed) -> None:
    """GIVEN sensors with random faults (NaN, wrong scale, jumps, outages, late and absurd fixes)
    WHEN all went through THEN every covariance is finite, symmetric and positive, and the global
    position never claims to be better than the receivers' floor."""
    rng = np.random.default_rng([seed, 62])
    drive = Drive(duration_s=25.0, heading=rng.uniform(-3, 3))
    sensors = Sensors(seed=62 + seed, gps_sigma=rng.uniform(0.05, 10))
    samples = merge(
        sensors.imu(drive),
        sensors.wheels(drive),
        sensors.gps(drive, claimed=rng.uniform(0.02, 5.0)),
        delay_s=rng.uniform(0, 0.4),
    )
    for sample in samples:
        draw = rng.random()
        if draw < 0.003 and sample.sensor == "imu":
            object.__setattr__(sample, "angular_velocity", sample.angular_velocity * np.nan)
        elif draw < 0.02 and sample.sensor == "wheels":
            object.__setattr__(sample, "linear", sample.linear * rng.uniform(0, 5))
        elif draw < 0.1 and sample.sensor == "gps":
            far = sample.latitude_deg + rng.normal(0, 1e-3)
            object.__setattr__(sample, "latitude_deg", far)
    kept = [s for s in samples if not (8 * S < s.stamp_ns - T0_NS < 11 * S and rng.random() < 0.9)]
    out = play(kept, frames(sensors))
    assert out.local
    assert out.global_
    for e in out.local[::7] + out.global_[::7]:
        for matrix in (e.pose_covariance, e.twist_covariance):
            assert np.isfinite(matrix).all()
            assert np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9)
            assert np.linalg.eigvalsh(matrix)[0] > -1e-9 * np.trace(matrix)
    assert min(np.trace(e.pose_covariance[:2, :2]) for e in out.global_) > (0.001) ** 2


def test_a_blackout_that_led_500_m_astray_ends_with_the_fixes() -> None:
    """GIVEN a blackout of 100 s in which the gyro went wrong, so that dead reckoning is more than
    500 m away WHEN consistent fixes come back THEN they are believed within 5 s, none of those
    after is refused, and 15 s later the estimate is with them, however wrong the gyro still is."""
    drive, samples, tree = gone_astray(0)
    out = play(samples, tree)
    rows = errors(drive, out.global_, BACK_S - 1.0)
    off = np.linalg.norm(rows[:, 1:3], axis=1)
    assert off[rows[:, 0] < BACK_S].max() > 500.0
    assert off[rows[:, 0] > BACK_S + 5.0].max() < 4.0
    late = [r for r in out.rejections if r.stamp_ns - T0_NS > int((BACK_S + 5.0) * S)]
    assert sum(r.sensor == "gps" for r in late) <= 1


def test_fixes_are_believed_where_the_filter_runs_off_faster_and_faster() -> None:
    """GIVEN a gate whose filter has a wrong speed, so that the fixes go off it by metres a second
    WHEN they go on doing so THEN they are believed after the time set, though none is near the one
    before."""
    gate = Reacceptance(configure().pose)
    gate.accepted(S)
    told = []
    for k in range(1, 8):
        offset = np.array((1.2 * k * k, 0.0, 0.0))
        told.append(gate.refused(S + k * S, np.array((8.0 * k, 0, 0)), offset, 0.1, 8.0))
    assert any(b is not None for b in told[:5])


# ------------------------------------------------------------------ the whole of the history


def a_way(
    bias: float,
    scale: float,
    sigma_m: float,
    outliers: bool,
    seed: int = 0,
    lives_s: float = 0.0,
):
    """A history of 200 s on a winding course at 8 m/s, and where and whither it truly went last;
    the fixes' errors are white, or those of a Gauss-Markov process that forgets in ``lives_s``.

    Written without the code under test: the truth is integrated, odometry is it with a bias.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(0.0, 200.0, 0.2)
    yaw = 0.7 + 0.8 * np.sin(t / 15.0)
    v = np.full_like(t, 8.0)
    true = np.cumsum(np.stack([v * np.cos(yaw), v * np.sin(yaw)], 1) * 0.2, axis=0)
    seen = yaw - 0.7 + bias * t
    odom = np.cumsum(np.stack([v * np.cos(seen), v * np.sin(seen)], 1) * 0.2 * (1 + scale), axis=0)
    wrong = rng.normal(0, sigma_m, true.shape)
    if lives_s:
        keep = np.exp(-0.2 / lives_s)
        for k in range(1, len(t)):
            wrong[k] = keep * wrong[k - 1] + np.sqrt(1 - keep**2) * wrong[k]
    fixes = true + wrong
    if outliers:
        fixes[300:400] += (60.0, -40.0)
    history = History(0.01)
    for k in range(len(t)):
        off = float(np.linalg.norm(fixes[k] - true[k]))
        piece = Piece(int(t[k] * S) + 1, fixes[k], odom[k], 0.0, 0.0, off, 3.0, seen[k])
        history.add(piece, moving=True)
    return history, true[-1], odom[-1], yaw[-1] - seen[-1]


def test_the_whole_finds_place_heading_bias_and_scale() -> None:
    """GIVEN odometry with a gyro bias of 2 mrad/s (0.4 rad in all) and a scale of 1 %, and fixes
    that claim 3 m, scatter by 15 m and are 70 m off for 20 s WHEN laid on as a whole
    THEN the place is within 4 m, and bias, scale and heading are found within three sigma."""
    history, place, odom, heading = a_way(0.002, 0.01, 15.0, outliers=True)
    found = history.whole(0.0, 0.01, white=25.0)
    assert history.leads
    assert np.linalg.norm(found.place(odom) - place) < 4.0
    sigma = np.sqrt(np.diag(found.covariance))
    assert abs(found.bias_radps - 0.002) < min(3 * sigma[3], 2e-4)
    assert abs(found.scale - 0.01) < min(3 * sigma[4], 0.01)
    assert abs(found.yaw_rad - heading) < min(3 * sigma[2], 0.03)


@pytest.mark.parametrize(("lives_s", "least", "most"), [(0.0, 0.3, 1.2), (20.0, 0.5, 2.5)])
def test_the_wholes_covariance_is_honest(lives_s, least, most) -> None:
    """GIVEN many such ways with errors that are white, or alike for some 20 s WHEN laid on THEN
    the squared error of the place over its variance is about one in the mean: white ones are
    overrated, since weights take their tails for something else."""
    values = []
    for seed in range(30):
        history, place, odom, _ = a_way(0.002, 0.005, 15.0, False, seed, lives_s)
        found = history.whole(0.0, 0.01, white=25.0)
        error = found.place(odom) - place
        values.append(error @ np.linalg.inv(found.covariance[:2, :2]) @ error / 2.0)
    assert least < np.mean(values) < most


def after_houses(good_s: float, seed: int = 3):
    """A way of 200 s on which the whole has led, then good fixes for ``good_s``."""
    history, place, odom, turn = a_way(0.0, 0.0, 15.0, False, seed, lives_s=8.0)
    assert history.whole(0.0, 0.001, white=1.0) is not None
    rng = np.random.default_rng(seed)
    c, s = np.cos(turn), np.sin(turn)
    for k in range(1, int(good_s * 5)):
        moved = np.array((1.6 * k, 0.0))
        here = place + 1.6 * k * np.array((c, s))
        stamp_ns = int((200.0 + 0.2 * k) * S)
        piece = Piece(stamp_ns, here + rng.normal(0, 3.0, 2), odom + moved, 0.0, 0.0, 0.0, 3.0)
        if history.add(piece, moving=True):
            history.whole(0.0, 0.001, white=1.0)
    return history


def test_the_whole_leads_until_fixes_are_good_for_long() -> None:
    """GIVEN bad fixes, and the whole of them leading WHEN they are as good as they claim for half
    a minute THEN it goes on leading; for three minutes, THEN the filter does again."""
    assert after_houses(30.0).leads
    assert not after_houses(180.0).leads


def test_good_fixes_are_left_to_the_filter() -> None:
    """GIVEN fixes that scatter as they claim WHEN asked THEN the whole does not lead, however far
    odometry drifts."""
    history, *_ = a_way(0.002, 0.01, 3.0, outliers=False)
    assert history.whole(0.0, 0.01, white=1.0) is None
    assert not history.leads
