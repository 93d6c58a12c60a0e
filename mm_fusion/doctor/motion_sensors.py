"""GPS, IMU and wheels: units, mounting, covariances, and whether they tell of one motion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config
from mm_fusion.doctor import covariance
from mm_fusion.doctor.findings import Finding, error, info, warn
from mm_fusion.doctor.frames import calibration
from mm_fusion.doctor.observations import Observations, Stream
from mm_fusion.geodesy import LocalTangentPlane
from mm_fusion.samples import CovarianceType, GnssFix

F64 = npt.NDArray[np.float64]

MIN_SAMPLES = 20
# Specific force at rest, in g: what a median outside of these bounds is.
IN_G = (0.8, 1.2)  # m/s^2: gravity of 1, so the unit is g
NO_GRAVITY = 2.0
GRAVITY = (0.85, 1.15)
GYRO_MAX_RADPS = 12.0  # no vehicle turns two times a second
TURNING_RADPS = 0.05  # rms from which yaw rates can be compared
AGREES = 0.9  # correlation of two yaw rates that measure the same
DEGREES = (30.0, 80.0)  # ratio of gyro and wheels about 57.3
FACTOR = (0.6, 1.6)
SLOW_IMU_HZ = 50.0
TINY_SIGMA_M, LARGE_SIGMA_M = 1e-3, 50.0


def check_motion_sensors(seen: Observations, config: Config) -> list[Finding]:
    """All three kinds."""
    findings: list[Finding] = []
    for stream in seen.of_role("gps"):
        findings += _check_gps(stream, config)
    for stream in seen.of_role("imu"):
        findings += _check_imu(stream, seen, config)
    for stream in seen.of_role("wheels"):
        findings += _check_wheels(stream, seen, config)
    return findings


# ---------------------------------------------------------------------------------- GPS


def describe_gps(stream: Stream) -> str:
    """Covariance's kind and the horizontal sigma, for the table."""
    if not stream.fixes:
        return ""
    kind = CovarianceType(stream.fixes[-1].covariance_type)
    text = f"covariance {kind.name.lower().replace('_', ' ')}"
    sigma_m = _sigma_m(stream.fixes)
    return f"{text}, sigma {sigma_m:.2f} m" if kind and sigma_m else text


def _sigma_m(fixes: Sequence[GnssFix]) -> float:
    """The usual horizontal error that fixes with a covariance claim; 0 where none does."""
    known = [f for f in fixes if f.covariance_type != CovarianceType.UNKNOWN]
    variances = [max(float(np.diag(f.covariance)[:2].mean()), 0.0) for f in known]
    return math.sqrt(float(np.median(variances))) if variances else 0.0


def _check_gps(stream: Stream, config: Config) -> list[Finding]:
    fixes, topic = stream.fixes, stream.topic
    none = sum(f.status < 0 for f in fixes) + stream.rejections["no_fix"]
    findings = []
    if none:
        share = none / max(stream.messages, 1)
        what = f"{none} of {stream.messages} messages have no fix (status -1)"
        remedy = "Look at the antenna and the sky; the pose runs on IMU and wheels meanwhile."
        make = error if share > 0.9 else warn
        findings.append(make("gps-no-fix", topic, what, remedy))
    good = [f for f in fixes if f.status >= 0]
    if not good:
        return findings
    findings += _check_positions(good, topic, config)
    unknown = sum(f.covariance_type == CovarianceType.UNKNOWN for f in good)
    if unknown:
        what = f"position_covariance_type is unknown (0) in {unknown} of {len(good)} fixes"
        remedy = (
            "Have the driver fill in the covariance, or set pose.gps_sigma_m (now"
            f" {config.pose.gps_sigma_m:g} m) to the receiver's error."
        )
        findings.append(warn("gps-covariance-unknown", topic, what, remedy))
    findings += check_covariances(stream)
    sigma_m = _sigma_m(good)
    if 0.0 < sigma_m < TINY_SIGMA_M or sigma_m > LARGE_SIGMA_M:
        what = f"claims an error of {sigma_m:.2g} m (one sigma, median)"
        remedy = "See that the covariance is in m^2, not in degrees, and not of another unit."
        findings.append(warn("gps-sigma", topic, what, remedy))
    return findings


def _check_positions(fixes: Sequence[GnssFix], topic: str, config: Config) -> list[Finding]:
    degrees = np.array([(f.latitude_deg, f.longitude_deg) for f in fixes])
    if (np.abs(degrees[:, 0]) > 90.0).any() or (np.abs(degrees[:, 1]) > 180.0).any():
        worst = degrees[np.abs(degrees).max(axis=1).argmax()]
        what = f"latitude {worst[0]:.6g}, longitude {worst[1]:.6g}: no place on Earth"
        return [error("gps-position", topic, what, "Publish degrees (sensor_msgs/NavSatFix).")]
    null = int((np.abs(degrees) < 1e-6).all(axis=1).sum())
    if null:
        what = f"{null} of {len(fixes)} fixes are at 0, 0 although status says that there is a fix"
        remedy = "Have the driver set status to -1 while the receiver has no fix."
        return [error("gps-position", topic, what, remedy)]
    return _check_speed(fixes, topic, config)


def _check_speed(fixes: Sequence[GnssFix], topic: str, config: Config) -> list[Finding]:
    """Fixes between which nothing can have driven, their claimed error allowed for."""
    frame = LocalTangentPlane(fixes[0].latitude_deg, fixes[0].longitude_deg, 0.0)
    places = np.array([frame.to_enu(f.latitude_deg, f.longitude_deg, 0.0)[:2] for f in fixes])
    seconds = np.diff([f.stamp_ns for f in fixes]) / 1e9
    moved_m = np.linalg.norm(np.diff(places, axis=0), axis=1)
    allowed_m = config.pose.max_speed_mps * seconds.clip(0.0) + 10.0 * config.pose.gps_sigma_m
    jumps = int(((moved_m > allowed_m) & (seconds > 0.0)).sum())
    if not jumps:
        return []
    what = f"{jumps} jumps, the farthest {moved_m.max():.0f} m from one fix to the next"
    remedy = "Multipath or a receiver that changes its solution: the pose road refuses such fixes."
    return [warn("gps-jumps", topic, what, remedy)]


# --------------------------------------------------------------------------- covariances


def check_covariances(stream: Stream) -> list[Finding]:
    """One finding for every fault of every covariance of a stream."""
    findings = []
    total: dict[str, int] = {}
    for (name, _), count in stream.covariances.items():
        total[name] = total.get(name, 0) + count
    for (name, fault), count in sorted(stream.covariances.items()):
        if fault == covariance.GOOD:
            continue
        what = f"{name} is {fault} in {count} of {total[name]} messages"
        findings.append(_covariance_finding(stream, fault, what))
    return findings


def _covariance_finding(stream: Stream, fault: str, what: str) -> Finding:
    code, topic = "covariance", stream.topic
    if fault == covariance.ZERO:
        if stream.role == "gps":
            remedy = "Fill it in, or set position_covariance_type to 0 (unknown) in the driver."
            return error(code, topic, f"{what}, which claims a perfect position", remedy)
        section = (
            "pose.gyro_noise, pose.accel_noise"
            if stream.role == "imu"
            else ("pose.wheel_sigma_mps, pose.wheel_yaw_sigma_radps")
        )
        return info(code, topic, what, f"Means unknown: {section} are used instead.")
    if fault == covariance.NOT_MEASURED:
        remedy = "Choose another IMU topic: one without this datum cannot carry the pose."
        return error(code, topic, what, remedy)
    if fault in (covariance.TINY, covariance.HUGE):
        return warn(code, topic, what, "Give the variances of the data sheet, in SI units squared.")
    return error(code, topic, what, "Mend the driver: this is no covariance.")


# ---------------------------------------------------------------------------------- IMU


def describe_imu(stream: Stream) -> str:
    """Gravity and its axis, for the table."""
    samples = stream.imu()
    if not len(samples):
        return ""
    force = np.median(samples[:, 4:], axis=0)
    return f"{np.linalg.norm(force):.2f} m/s^2, {_axis(force)} up"


def _axis(force: F64) -> str:
    at = int(np.abs(force).argmax())
    return f"{'-' if force[at] < 0 else '+'}{'xyz'[at]}"


def _check_imu(stream: Stream, seen: Observations, config: Config) -> list[Finding]:
    findings = check_covariances(stream)
    samples, topic = stream.imu(), stream.topic
    if config.pose.imu_orientation != "off" and not stream.oriented and len(samples):
        what = f"pose.imu_orientation is {config.pose.imu_orientation}, the messages have none"
        remedy = "Set pose.imu_orientation to off, or have the driver give an orientation."
        findings.append(error("imu-orientation", topic, what, remedy))
    if len(samples) < MIN_SAMPLES:
        return findings
    if (samples[:, 1:] == samples[0, 1:]).all() and seen.duration_s > 1.0:
        what = f"all {len(samples)} samples are the same: {_three(samples[0, 4:])} m/s^2"
        remedy = "See whether the driver repeats one reading; a real sensor has noise."
        findings.append(warn("imu-constant", topic, what, remedy))
    period_s = float(np.median(np.diff(samples[:, 0])))
    if period_s > 1.0 / SLOW_IMU_HZ:
        what = f"{1.0 / period_s:.0f} Hz"
        remedy = (
            "Raise the driver's rate to 100 Hz or more if it can: turns are integrated from it."
        )
        findings.append(info("imu-rate", topic, what, remedy))
    force = np.median(samples[:, 4:], axis=0)
    findings += _check_gravity(topic, force, config)
    if GRAVITY[0] <= np.linalg.norm(force) / config.pose.gravity_mps2 <= GRAVITY[1]:
        findings += _check_mounting(stream, force, seen, config)
    return findings + _check_gyro(stream, samples, force, seen)


def _three(v: F64) -> str:
    return " ".join(f"{x:.3g}" for x in v)


def _check_gravity(topic: str, force: F64, config: Config) -> list[Finding]:
    size, gravity = float(np.linalg.norm(force)), config.pose.gravity_mps2
    what = f"specific force is {_three(force)} m/s^2 (median), {size:.2f} in all"
    if IN_G[0] <= size <= IN_G[1]:
        remedy = "Publish m/s^2, not g (REP-103): multiply by 9.80665 in the driver."
        return [error("imu-units", topic, what, remedy)]
    if size < NO_GRAVITY:
        remedy = "Switch gravity compensation off in the driver: +9.81 on the up axis at rest."
        return [error("imu-gravity", topic, what, remedy)]
    if not GRAVITY[0] <= size / gravity <= GRAVITY[1]:
        remedy = f"Check unit and scale: {gravity:g} is expected on a robot that does not fall."
        return [error("imu-gravity", topic, what, remedy)]
    return []


def _check_mounting(
    stream: Stream, force: F64, seen: Observations, config: Config
) -> list[Finding]:
    known = calibration(seen, config).base_from(stream.frame)
    limit_rad = config.pose.mounting_tolerance_rad
    up = force if known is None else known.rotation @ force
    tilt_rad = math.acos(float(np.clip(up[2] / np.linalg.norm(up), -1.0, 1.0)))
    if tilt_rad <= limit_rad:
        return []
    tilt = f"{math.degrees(tilt_rad):.0f} deg from up"
    if known is not None:
        what = f"with the mounting of {stream.frame}, gravity points {tilt} of the base"
        remedy = (
            f"Correct the rotation base -> {stream.frame} in TF, or override it with"
            " calibration.extrinsics."
        )
        return [error("imu-mounting", stream.topic, what, remedy)]
    what = f"lies on its side: gravity is on {_axis(force)}, {tilt}, and TF does not say so"
    remedy = (
        "Publish its mounting, or give it with --set"
        f" 'calibration.extrinsics=[\"{stream.frame} X Y Z ROLL PITCH YAW\"]'; till then the pose"
        " node levels it by gravity."
    )
    return [warn("imu-mounting", stream.topic, what, remedy)]


def _check_gyro(stream: Stream, samples: F64, force: F64, seen: Observations) -> list[Finding]:
    rates = np.linalg.norm(samples[:, 1:4], axis=1)
    high = float(np.percentile(rates, 99))
    if high > GYRO_MAX_RADPS:
        what = f"turns at up to {high:.1f} rad/s (99th percentile), {math.degrees(high):.0f} deg/s"
        remedy = "Publish rad/s, not deg/s (REP-103): multiply by pi / 180 in the driver."
        return [error("gyro-units", stream.topic, what, remedy)]
    wheels = seen.stream("wheels")
    if wheels is None or len(wheels.velocities()) < MIN_SAMPLES or not np.linalg.norm(force):
        return []
    up = force / np.linalg.norm(force)
    return _compare_yaw(stream, samples[:, 0], samples[:, 1:4] @ up, wheels)


def _compare_yaw(stream: Stream, at_s: F64, yaw: F64, wheels: Stream) -> list[Finding]:
    """The gyro's turn about the vertical against the wheels': one motion, two instruments."""
    compared = yaw_ratio(at_s, yaw, wheels.velocities())
    if compared is None:
        return []
    ratio, agreement = compared
    what = f"turns {ratio:.2f} times as fast as {wheels.topic} (correlation {agreement:.2f})"
    if DEGREES[0] <= abs(ratio) <= DEGREES[1]:
        remedy = "Publish rad/s, not deg/s (REP-103): multiply by pi / 180 in the driver."
        return [error("gyro-units", stream.topic, what, remedy)]
    if ratio < 0.0:
        remedy = "One of the two turns the wrong way round: left is positive about the up axis."
        return [error("yaw-sign", stream.topic, what, remedy)]
    if not FACTOR[0] <= ratio <= FACTOR[1]:
        remedy = "Check the wheels' track width and the gyro's scale."
        return [warn("yaw-scale", stream.topic, what, remedy)]
    return []


def yaw_ratio(at_s: F64, yaw: F64, motion: F64) -> tuple[float, float] | None:
    """How many times as fast the gyro turns as the wheels, and the correlation of the two.

    ``at_s`` [n] and ``yaw`` [n] rad/s of the gyro, ``motion`` [m,4] as Stream.velocities. None
    where the robot hardly turned, or the two do not tell of one motion.
    """
    order, others = np.argsort(at_s), motion[np.argsort(motion[:, 0])]
    inside = (others[:, 0] >= at_s[order[0]]) & (others[:, 0] <= at_s[order[-1]])
    others = others[inside]
    wheel = others[:, 3]
    if len(others) < MIN_SAMPLES or np.sqrt(np.mean(wheel**2)) < TURNING_RADPS:
        return None
    gyro = np.interp(others[:, 0], at_s[order], yaw[order])
    if not gyro.std() or not wheel.std():
        return None
    agreement = float(np.corrcoef(gyro, wheel)[0, 1])
    if abs(agreement) < AGREES:
        return None
    return float(gyro @ wheel / (wheel @ wheel)), agreement


# -------------------------------------------------------------------------------- wheels


def describe_wheels(stream: Stream) -> str:
    """The fastest and the type, for the table."""
    motion = stream.velocities()
    if not len(motion):
        return ""
    return f"up to {np.abs(motion[:, 1]).max():.1f} m/s, {stream.msgtype.rpartition('/')[2]}"


def _check_wheels(stream: Stream, seen: Observations, config: Config) -> list[Finding]:
    findings = check_covariances(stream)
    motion, topic = stream.velocities(), stream.topic
    if not len(motion):
        return findings
    fastest = float(np.abs(motion[:, 1]).max())
    if fastest > config.pose.max_speed_mps:
        what = f"up to {fastest:.1f} m/s, pose.max_speed_mps is {config.pose.max_speed_mps:g}"
        remedy = "Publish m/s, not km/h or ticks, or raise pose.max_speed_mps."
        findings.append(error("wheel-speed", topic, what, remedy))
    if config.pose.nonholonomic and len(motion) >= MIN_SAMPLES:
        findings += _check_sideways(motion, topic)
    frame = stream.child_frames.most_common(1)[0][0]
    if frame != config.frames.base.lstrip("/") and frame:
        known = calibration(seen, config).base_from(frame)
        if known is None:
            what = f"the twist is in {frame}, whose place on the robot is not known"
            remedy = f"Set child_frame_id to {config.frames.base}, or publish the link in TF."
            findings.append(info("wheel-frame", topic, what, remedy))
    return findings


def _check_sideways(motion: F64, topic: str) -> list[Finding]:
    forward, lateral = np.sqrt(np.mean(motion[:, 1:3] ** 2, axis=0))
    if lateral <= max(0.2 * forward, 0.05):
        return []
    what = f"moves sideways by {lateral:.2f} m/s (rms), forward by {forward:.2f} m/s"
    remedy = "Set pose.nonholonomic to false for a base that can, else correct the axes."
    return [warn("sideways", topic, what, remedy)]
