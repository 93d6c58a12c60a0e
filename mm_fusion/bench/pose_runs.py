"""Runs of the pose road for its bench: errors against the truth, the bound, a drive in a canyon."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mm_fusion.bench.drives import DATUM, T0_NS, Drive, drawn, fix, merge
from mm_fusion.config import load
from mm_fusion.geometry import FrameTree, RigidTransform
from mm_fusion.pose.pipeline import PosePipeline
from mm_fusion.samples import ImuSample, PoseEstimate, Sample, WheelOdometry

F64 = npt.NDArray[np.float64]


@dataclass
class Track:
    """What came out."""

    pipeline: PosePipeline
    global_: list[PoseEstimate] = field(default_factory=list)


def run_through(samples: list[Sample], frames: FrameTree, *assignments: str) -> Track:
    """All samples through a new pipeline with these parameters."""
    out = Track(PosePipeline(load(assignments=[DATUM, *assignments]), frames))
    for sample in samples:
        for answer in out.pipeline.add(sample):
            if isinstance(answer, PoseEstimate) and answer.frame_id == "map":
                out.global_.append(answer)
    return out


@dataclass
class Errors:
    """Rows over time: seconds, ``place`` [N,2] m, and squared errors over their variances."""

    seconds: F64
    place: F64
    sigma: F64
    position: F64
    heading: F64
    velocity: F64

    def after(self, second: float) -> Errors:
        """The rows from then on."""
        late = self.seconds >= second
        return Errors(
            self.seconds[late],
            self.place[late],
            self.sigma[late],
            self.position[late],
            self.heading[late],
            self.velocity[late],
        )

    def at(self, second: float) -> dict[str, float]:
        """The normalised squared errors of one instant."""
        i = min(int(np.searchsorted(self.seconds, second)), len(self.seconds) - 1)
        return {
            "position": float(self.position[i]),
            "heading": float(self.heading[i]),
            "velocity": float(self.velocity[i]),
        }


@dataclass
class Truth:
    """A drive as columns over ``t`` seconds."""

    t: F64
    east: F64
    north: F64
    yaw: F64
    v: F64
    lateral: F64


def errors_of(drive: Drive | Truth, estimates: list[PoseEstimate]) -> Errors:
    """Errors of the estimates, at their own stamps."""
    t = np.array([(e.stamp_ns - T0_NS) / 1e9 for e in estimates])
    truth = (drive.east, drive.north, np.unwrap(drive.yaw), drive.v, drive.lateral)
    east, north, yaw, v, lateral = (np.interp(t, drive.t, y) for y in truth)
    found = np.array([e.frame_from_base.translation for e in estimates])
    place = np.stack([found[:, 0] - east, found[:, 1] - north], axis=1)
    heading = np.array([e.frame_from_base.yaw_rad() for e in estimates]) - yaw
    heading = np.arctan2(np.sin(heading), np.cos(heading))
    velocity = np.array([e.linear[:2] for e in estimates]) - np.stack([v, lateral], axis=1)
    pose = np.array([e.pose_covariance for e in estimates])
    twist = np.array([e.twist_covariance[:2, :2] for e in estimates])
    return Errors(
        t,
        place,
        np.sqrt(pose[:, 0, 0] + pose[:, 1, 1]),
        _normalised(place, pose[:, :2, :2]),
        heading**2 / pose[:, 5, 5],
        _normalised(velocity, twist),
    )


def _normalised(off: F64, covariance: F64) -> F64:
    """Squared errors [N] of ``off`` [N,2] over their ``covariance`` [N,2,2]."""
    return np.asarray(np.einsum("ni,nij,nj->n", off, np.linalg.inv(covariance), off))


def rms(place: F64) -> float:
    """Of horizontal errors [N,2]."""
    return float(np.sqrt((place**2).sum(axis=1).mean()))


@dataclass(frozen=True)
class Known:
    """What an estimator is told at the start, as sigmas: heading rad, wheel scale, gyro bias rad/s
    (two seconds at rest tell it); and how the bias walks, rad/s/sqrt(s).
    """

    heading: float = 10.0
    scale: float = 0.01
    gyro_bias: float = 1.4e-4
    gyro_walk: float = 0.0


def bound_m2(
    drive: Drive, sigma_m: float, known: Known, outage: tuple[float, float] | None
) -> tuple[F64, F64]:
    """Seconds and the least mean squared error (m^2) online (Cramer-Rao), by propagating the
    covariance of place, heading, wheel scale and gyro bias along the truth, with the sensors' white
    noise; fixes at 5 Hz of ``sigma_m`` per axis.
    """
    cov = np.diag([1e4, 1e4, known.heading**2, known.scale**2, known.gyro_bias**2])
    gyro, wheels = 0.002**2 * 0.01, 0.05**2 * 0.02
    step, dt_s = 100, 0.1
    see = np.eye(2, 5)
    seconds, squares = [], []
    for k, i in enumerate(range(0, len(drive.t) - step, step)):
        if k % 2 == 0 and (outage is None or not outage[0] < drive.t[i] < outage[1]):
            gain = cov @ see.T @ np.linalg.inv(cov[:2, :2] + np.eye(2) * sigma_m**2)
            cov = (np.eye(5) - gain @ see) @ cov
        de, dn = drive.east[i + step] - drive.east[i], drive.north[i + step] - drive.north[i]
        move = np.eye(5)
        move[:2, 2], move[:2, 3] = (-dn, de), (-de, -dn)
        move[:2, 4], move[2, 4] = (dn * dt_s / 2, -de * dt_s / 2), -dt_s
        cov = move @ cov @ move.T
        cov[2, 2] += gyro * dt_s
        cov[4, 4] += known.gyro_walk**2 * dt_s
        if drive.v[i]:
            along = np.array([np.cos(drive.yaw[i]), np.sin(drive.yaw[i])])
            cov[:2, :2] += np.outer(along, along) * wheels * dt_s
        seconds.append(float(drive.t[i]))
        squares.append(float(cov[0, 0] + cov[1, 1]))
    return np.array(seconds), np.array(squares)


BACK_S = 130.0


def gone_astray(seed: int) -> tuple[Drive, list[Sample], FrameTree]:
    """GPS for 30 s, a blackout up to ``BACK_S`` in which the gyro's bias jumps by 0.02 rad/s, then
    GPS again: a drive at 10 m/s.
    """
    drive = Drive(duration_s=BACK_S + 20.0, speed=10.0, heading=0.3 * seed, turn=0.6)
    sensors = drawn(seed)
    begin_ns, back_ns = T0_NS + 30 * 10**9, T0_NS + int(BACK_S * 1e9)
    gps = [f for f in sensors.gps(drive) if not begin_ns < f.stamp_ns < back_ns]
    imu = sensors.imu(drive)
    for sample in imu:
        if isinstance(sample, ImuSample) and sample.stamp_ns > begin_ns:
            sample.angular_velocity[2] += 0.02
    return drive, merge(imu, sensors.wheels(drive), gps), sensors.frames()


def _town(rng: np.random.Generator) -> Truth:
    """Five minutes of legs with stops and corners, 50 rows a second."""
    t = np.arange(0.0, 300.0, 0.02)
    v, turn = np.zeros_like(t), np.zeros_like(t)
    start = 0.0
    while start < t[-1]:
        leg, fast = rng.uniform(12, 30), rng.uniform(5, 12)
        stop = rng.uniform(0, 12) if rng.random() < 0.6 else 0.0
        here = (t >= start) & (t < start + leg)
        u = (t[here] - start) / leg
        v[here] = fast * np.clip(np.minimum(u, 1 - u) * leg / 4, 0, 1)
        if rng.random() < 0.7:
            corner = (t >= start + leg - 4) & (t < start + leg - 1)
            turn[corner] = rng.choice([-1, 1]) * rng.uniform(1.1, 1.7) / 3.0
            v[corner] = np.maximum(v[corner], 3.0)
        start += leg + stop
    turn = np.where(v > 0, turn + 0.01 * np.sin(t / 7) * (v > 1), 0.0)
    yaw = rng.uniform(-3, 3) + np.cumsum(turn) * 0.02
    east, north = np.cumsum(v * np.cos(yaw)) * 0.02, np.cumsum(v * np.sin(yaw)) * 0.02
    return Truth(t, east, north, yaw, v, np.zeros_like(v))


def _wandering(rng: np.random.Generator, count: int) -> F64:
    """Errors [N,2] m at 5 Hz: 15 m per axis that forget in 20 s, bursts of 45 m for some seconds,
    and heavy-tailed scatter."""
    keep, wander = float(np.exp(-0.2 / 20.0)), rng.normal(0, 15.0, 2)
    burst, left, errors = np.zeros(2), 0.0, np.zeros((count, 2))
    for k in range(count):
        wander = wander * keep + rng.normal(0, 15.0 * np.sqrt(1 - keep**2), 2)
        if left <= 0 and rng.random() < 0.0075:
            left, burst = rng.exponential(6.0), rng.normal(0, 45, 2)
        left -= 0.2
        errors[k] = wander + (burst if left > 0 else 0.0) + 5.0 * rng.standard_t(3, 2)
    return errors


def _smooth(rng: np.random.Generator, count: int) -> F64:
    """Errors [N,2] m at 5 Hz of a receiver that filters: 12 m per axis that forget in 25 s, bursts
    of 50 m that come and go over 3 s, and next to no scatter."""
    keep, wander = float(np.exp(-0.2 / 25.0)), rng.normal(0, 12.0, 2)
    burst, seen, left, errors = np.zeros(2), np.zeros(2), 0.0, np.zeros((count, 2))
    for k in range(count):
        wander = wander * keep + rng.normal(0, 12.0 * np.sqrt(1 - keep**2), 2)
        if left <= 0 and rng.random() < 0.006:
            left, burst = rng.exponential(10.0), rng.normal(0, 50, 2)
        left -= 0.2
        seen = seen + 0.2 / 3.0 * ((burst if left > 0 else 0.0) - seen)
        errors[k] = wander + seen + rng.normal(0, 0.5, 2)
    return errors


def canyon(seed: int, smooth: bool = False) -> tuple[Truth, list[Sample], F64, FrameTree]:
    """Truth, samples, the fixes' errors [N,2] and frames of a drive between high houses.

    The receiver claims 5 m; its errors wander, jump and scatter, or are ``smooth``, and then wheels
    and yaw rate are worse as well. Wheel speed 1 % off, yaw rate with a bias; ``smooth``: 2 % off,
    and a yaw rate that is 2 % off and whose bias walks.
    """
    rng = np.random.default_rng([seed, 77, 2] if smooth else [seed, 77])
    truth = _town(rng)
    bias, scale, turns, walk = rng.normal(0, 0.003), rng.normal(0, 0.01), 0.0, 0.0
    if smooth:
        scale, turns, walk = 2.0 * scale, rng.normal(0, 0.02), 1e-4 * float(np.sqrt(0.2))
    turn = np.gradient(truth.yaw, 0.02) * (1 + turns)
    samples: list[Sample] = []
    for i in range(3, len(truth.t), 10):
        v = truth.v[i] * (1 + scale) + (truth.v[i] > 0) * rng.normal(0, 0.05)
        w = turn[i] + bias + rng.normal(0, 0.003)
        bias += rng.normal(0, walk) if walk else 0.0
        stamp = T0_NS + int(truth.t[i] * 1e9)
        linear, angular = np.array([v, 0.0, 0.0]), np.array([0.0, 0.0, w])
        samples.append(WheelOdometry("wheels", stamp, "base_link", linear, angular))
    fixed = np.arange(7, len(truth.t), 10)
    errors = (_smooth if smooth else _wandering)(rng, len(fixed))
    places = np.stack([truth.east, truth.north], axis=1)[fixed] + errors
    for t, (east, north) in zip(truth.t[fixed], places, strict=True):
        samples.append(fix(T0_NS + int(t * 1e9), float(east), float(north), 5.0))
    frames = FrameTree()
    frames.set("base_link", "gps_link", RigidTransform.identity())
    samples.sort(key=lambda s: s.stamp_ns)
    return truth, samples, errors, frames
