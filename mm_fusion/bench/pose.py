"""How right the pose filter is on simulated drives, how honest, and what it costs.

Every number is over seeded runs whose constant errors are drawn from what the filter is told.
``bound_m`` is the least any online estimator could reach that knows no more at the start than the
filter does (Cramer-Rao); the bounds with heading, and with heading and wheel scale known, say what
other assumptions would make reachable.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mm_fusion.bench.drives import Drive, Sensors, drawn, merge
from mm_fusion.bench.pose_runs import (
    BACK_S,
    F64,
    Errors,
    Known,
    bound_m2,
    canyon,
    errors_of,
    gone_astray,
    rms,
    run_through,
)
from mm_fusion.samples import GnssFix, ImuSample, Sample

HELP = "how right and how honest the pose filter is, and what it costs"
_INSTANTS_S = (10.0, 20.0, 30.0, 39.0)
_OUTAGE_S = (20.0, 30.0)
_TOLD = ("pose.imu_orientation=map", "pose.wheel_scale_sigma=0.0")
_KNOWN = {
    "bound": Known(),
    "bound_heading_known": Known(heading=1e-4),
    "bound_heading_and_scale_known": Known(heading=1e-4, scale=1e-6),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--runs", type=int, default=20, help="seeded runs (default 20)")
    parser.add_argument(
        "--only", action="append", choices=list(_PARTS), help="only this part (may be repeated)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; the answer is JSON-ready."""
    runs = max(2, int(args.runs))
    return {"runs": runs, **{name: _PARTS[name](runs) for name in args.only or _PARTS}}


def _course(seed: int, duration_s: float = 40.0, slip: bool = False) -> Drive:
    rng = np.random.default_rng([seed, 9])
    return Drive(
        duration_s=duration_s,
        heading=rng.uniform(-3, 3),
        speed=rng.uniform(5, 12),
        turn=rng.uniform(0.3, 1.2),
        slip_seed=seed if slip else None,
    )


def _through(
    drive: Drive, sensors: Sensors, gps: list[Sample], assignments: tuple[str, ...] = ()
) -> Errors:
    samples = merge(sensors.imu(drive), sensors.wheels(drive), gps)
    return errors_of(drive, run_through(samples, sensors.frames(), *assignments).global_)


def scenario(
    runs: int, outage: tuple[float, float] | None, told: tuple[str, ...] = ()
) -> dict[str, Any]:
    """IMU 100 Hz, wheels 50 Hz, GPS 5 Hz with 1 m per axis, 40 s. With parameters ``told``, the
    heading is in the IMU's messages (1 degree, white) and the wheels have no scale error.
    """
    all_errors, bounds = [], []
    for seed in range(runs):
        drive, sensors = _course(seed), drawn(seed)
        if told:
            sensors = replace(sensors, wheel_scale=0.0, heading_sigma=0.017)
        gps = sensors.gps(drive)
        if outage is not None:
            gps = [f for f in gps if not outage[0] < _second(f) < outage[1]]
        all_errors.append(_through(drive, sensors, gps, told))
        bounds.append([bound_m2(drive, 1.0, k, outage) for k in _KNOWN.values()])
    late = [e.after(10.0) for e in all_errors]
    return {
        "rmse_m": _pooled(all_errors),
        "rmse_after_10_s_m": _pooled(late),
        **{name: _bound(bounds, k) for k, name in enumerate(_KNOWN)},
    }


def honest(runs: int) -> dict[str, Any]:
    """NEES in the drive of ``scenario``, where the base slips sideways as the filter is told."""
    out = []
    for seed in range(runs):
        drive, sensors = _course(seed, slip=True), drawn(seed)
        out.append(_through(drive, sensors, sensors.gps(drive)))
    return nees(out)


def _bound(bounds: list[list[tuple[F64, F64]]], kind: int) -> dict[str, float]:
    """The root of the mean square over runs and time: of all, and after 10 s."""
    times = bounds[0][kind][0]
    squares = np.mean([run[kind][1] for run in bounds], axis=0)
    return {
        "m": round(float(np.sqrt(squares[times > 0.5].mean())), 3),
        "after_10_s_m": round(float(np.sqrt(squares[times > 10.0].mean())), 3),
    }


def nees(all_errors: list[Errors]) -> dict[str, Any]:
    """Mean normalised squared errors per element at some instants, and their 95 % bands; the
    velocity is that over ground in base axes, forward and sideways.
    """
    from scipy.stats import chi2

    runs = len(all_errors)
    out: dict[str, Any] = {}
    for name, size in (("position", 2), ("heading", 1), ("velocity", 2)):
        band = [float(chi2.ppf(p, size * runs)) / (size * runs) for p in (0.025, 0.975)]
        means = {}
        for instant in _INSTANTS_S:
            values = [e.at(instant)[name] for e in all_errors]
            means[f"{instant:g}_s"] = round(float(np.mean(values)) / size, 3)
        inside = sum(band[0] <= m <= band[1] for m in means.values())
        out[name] = {"mean": means, "band": [round(b, 3) for b in band], "inside": inside}
    return out


def blackout(runs: int) -> dict[str, Any]:
    """The last 60 s at 10 m/s without GPS, by wheels and an IMU whose biases walk: the final error
    over the way, what the filter claims it to be, and the least possible.
    """
    shares, claims, bounds = [], [], []
    for seed in range(runs):
        drive = Drive(duration_s=120.0, speed=10.0, heading=0.3 * seed, turn=0.6)
        sensors = drawn(seed)
        gps = [f for f in sensors.gps(drive) if _second(f) < 60.0]
        found = _through(drive, sensors, gps)
        shares.append(float(np.linalg.norm(found.place[-1])) / 600.0)
        claims.append(float(found.sigma[-1]) / 600.0)
        known = Known(gyro_walk=sensors.gyro_walk)
        bounds.append(bound_m2(drive, 1.0, known, (60.0, 120.0))[1][-1] / 600.0**2)
    return {
        "median_percent": round(100 * float(np.median(shares)), 3),
        "rms_percent": round(100 * float(np.sqrt(np.mean(np.square(shares)))), 3),
        "max_percent": round(100 * max(shares), 3),
        "within_1_percent": sum(s <= 0.01 for s in shares),
        "claimed_rms_percent": round(100 * float(np.sqrt(np.mean(np.square(claims)))), 3),
        "bound_rms_percent": round(100 * float(np.sqrt(np.mean(bounds))), 3),
    }


def multipath(runs: int) -> dict[str, Any]:
    """Fixes jump 10 m aside from 25 s to 45 s: how far that moves the track, against the same drive
    without these fixes, and against the same drive with good ones instead.
    """

    def jumped(second: float) -> bool:
        return 25.0 < second < 45.0

    def aside(second: float) -> tuple[float, float]:
        return (0.0, 10.0 if jumped(second) else 0.0)

    moved, off, largest = [], [], []
    for seed in range(runs):
        drive, sensors = _course(seed, 60.0), drawn(seed, gps_sigma=0.5)
        fixes = sensors.gps(drive)
        bad = _through(drive, sensors, sensors.gps(drive, extra=aside)).after(25.0)
        none = _through(drive, sensors, [f for f in fixes if not jumped(_second(f))]).after(25.0)
        good = _through(drive, sensors, fixes).after(25.0)
        moved.append(_farthest(bad, none))
        off.append(_farthest(bad, good))
        largest.append(float(np.linalg.norm(bad.place, axis=1).max()))
    return {
        "moved_median_m": round(float(np.median(moved)), 3),
        "moved_max_m": round(max(moved), 3),
        "from_good_fixes_median_m": round(float(np.median(off)), 3),
        "from_good_fixes_max_m": round(max(off), 3),
        "largest_error_median_m": round(float(np.median(largest)), 3),
    }


def _farthest(one: Errors, other: Errors) -> float:
    return float(np.linalg.norm(one.place - other.place, axis=1).max())


def lost(runs: int) -> dict[str, Any]:
    """A gyro that goes wrong in a blackout of 100 s leads dead reckoning more than 500 m away: how
    long fixes take to be believed, and to bring the error below 3 m.
    """
    drifts, believed, near = [], [], []
    for seed in range(runs):
        drive, samples, frames = gone_astray(seed)
        track = run_through(samples, frames)
        found = errors_of(drive, track.global_)
        off = np.linalg.norm(found.place, axis=1)
        back_s = BACK_S
        drifts.append(float(off[found.seconds < back_s][-1]))
        after = found.after(back_s)
        off = np.linalg.norm(after.place, axis=1)
        believed.append(float(after.seconds[np.argmax(off < 0.1 * drifts[-1])]) - back_s)
        near.append(float(after.seconds[np.nonzero(off > 3.0)[0][-1]]) - back_s)
    return {
        "drift_least_m": round(min(drifts), 1),
        "believed_after_s_max": round(max(believed), 2),
        "within_3_m_after_s_median": round(float(np.median(near)), 2),
        "within_3_m_after_s_max": round(max(near), 2),
    }


def liar(runs: int) -> dict[str, Any]:
    """Fixes claim 3 m per axis and err by 15 m, white: the error after 30 s."""
    out = []
    for seed in range(runs):
        drive, sensors = _course(seed, 60.0), drawn(seed, gps_sigma=15.0)
        out.append(_through(drive, sensors, sensors.gps(drive, claimed=3.0)).after(30.0))
    worst = max(rms(e.place) for e in out)
    return {"rmse_m": _pooled(out), "worst_rmse_m": round(worst, 3), "fixes_m": 21.2}


def motorway(runs: int) -> dict[str, Any]:
    """A minute at 30 m/s; the receiver claims 1.5 m, errs by a constant 1.5 m and 0.28 m about it.

    ``about_the_bias_m`` is what is left when each run's mean error is taken away,
    ``from_the_bias_m`` the distance from the true place plus the receiver's error.
    """
    about, off, sigma = [], [], []
    for seed in range(runs):
        drive = Drive(duration_s=60.0, rest_s=-5.0, speed=30.0, turn=0.15, bend_m=250.0)
        sensors = drawn(seed, gps_sigma=0.2)
        angle = 0.7 * seed
        bias = (1.5 * float(np.cos(angle)), 1.5 * float(np.sin(angle)))
        gps = sensors.gps(drive, claimed=1.5, extra=_constant(bias))
        found = _through(drive, sensors, gps).after(10.0)
        about.append(rms(found.place - found.place.mean(axis=0)))
        off.append(rms(found.place - np.array(bias)))
        sigma.append(float(found.sigma.mean()))
    return {
        "about_the_bias_m": round(float(np.sqrt(np.mean(np.square(about)))), 3),
        "from_the_bias_m": round(float(np.sqrt(np.mean(np.square(off)))), 3),
        "fixes_about_the_bias_m": 0.283,
        "claimed_sigma_m": round(float(np.mean(sigma)), 3),
    }


def in_canyon(runs: int, smooth: bool = False) -> dict[str, Any]:
    """Five minutes of town; fixes claim 5 m, wander, jump and scatter; wheels and yaw rate at 5 Hz
    without IMU. ``smooth``: errors change slowly, as of a receiver that filters.
    """
    ours, raw, honest = [], [], []
    for seed in range(runs):
        drive, samples, fix_errors, frames = canyon(seed, smooth)
        found = errors_of(drive, run_through(samples, frames).global_)
        ours.append(found)
        raw.append(rms(fix_errors))
        honest.append(float(np.median(found.position)) / 2.0)
    return {
        "rmse_m": _pooled(ours),
        "rmse_after_60_s_m": _pooled([e.after(60.0) for e in ours]),
        "fixes_m": round(float(np.sqrt(np.mean(np.square(raw)))), 2),
        "median_nees_per_element": round(float(np.median(honest)), 2),
    }


def cost(_: int) -> dict[str, float]:
    """CPU per IMU sample with both estimates at work: the median over chunks of 200; and of all
    samples of the drive together, wheels at 50 Hz and fixes at 5 Hz among them, per IMU sample.
    """
    sensors, drive = drawn(1), _course(1)
    samples = merge(sensors.imu(drive), sensors.wheels(drive), sensors.gps(drive))
    cut = len(samples) // 2
    out = run_through(samples[:cut], sensors.frames())
    imu = [s for s in samples[cut:] if isinstance(s, ImuSample)]
    start = time.process_time()
    run_through(samples, sensors.frames())
    whole_s = time.process_time() - start
    chunks = []
    for first in range(0, len(imu) - 200, 200):
        start = time.process_time()
        for sample in imu[first : first + 200]:
            out.pipeline.add(sample)
        chunks.append((time.process_time() - start) / 200 * 1e6)
    return {
        "imu_sample_us_median": round(float(np.median(chunks)), 1),
        "imu_sample_us_least": round(min(chunks), 1),
        "all_samples_us_per_imu_sample": round(whole_s / (2 * len(imu)) * 1e6, 1),
    }


def _constant(value: tuple[float, float]) -> Callable[[float], tuple[float, float]]:
    return lambda _: value


def _second(sample: Sample) -> float:
    from mm_fusion.bench.drives import T0_NS

    assert isinstance(sample, GnssFix)
    return (sample.stamp_ns - T0_NS) / 1e9


def _pooled(found: list[Errors]) -> float:
    squares: F64 = np.array([rms(e.place) ** 2 for e in found])
    return round(float(np.sqrt(squares.mean())), 3)


_PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "nees": honest,
    "scenario": lambda runs: scenario(runs, None),
    "scenario_with_outage": lambda runs: scenario(runs, _OUTAGE_S),
    "scenario_heading_and_scale_told": lambda runs: scenario(runs, None, _TOLD),
    "scenario_told_with_outage": lambda runs: scenario(runs, _OUTAGE_S, _TOLD),
    "blackout_60_s": blackout,
    "multipath_10_m_20_s": multipath,
    "500_m_astray": lost,
    "claims_3_m_errs_15_m": liar,
    "motorway": motorway,
    "canyon": in_canyon,
    "canyon_smooth": lambda runs: in_canyon(runs, smooth=True),
    "cost": cost,
}
