"""A robot on a circle by formula: what its LIDAR measures, and what odometries say of its motion.

Nothing here uses the code that is measured beyond the types of samples, and the pose road where
its estimates are what is asked for. At 0 s the base is at the world's origin and looks along x;
it drives at ``SPEED_MPS`` and turns left at ``RATE_RADPS``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mm_fusion.config import load
from mm_fusion.geometry import FrameTree, RigidTransform
from mm_fusion.pose.pipeline import PosePipeline
from mm_fusion.samples import ImuSample, LidarSweep, PoseEstimate, WheelOdometry

F64 = npt.NDArray[np.float64]

T0_NS = 1_700_000_000_000_000_000
RATE_RADPS = np.pi / 2.0
SPEED_MPS = 5.0
SWEEP_S = 0.1
BEAMS = 64
G = 9.80665
POINT = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("t", "<u4"), ("ring", "<u2")]
)
# How the drive comes into its turn: it rests, gains speed, then begins to turn.
REST_S, SPEED_UP_S, STRAIGHT_S, BEND_S = 3.0, 3.0, 2.0, 0.5
TURN_FOR_S = 1.5
IMU_HZ, WHEELS_HZ = 100.0, 50.0


def base_at(seconds: F64) -> tuple[F64, F64]:
    """World from base on the circle: rotations [N,3,3] and places [N,3]."""
    yaw = RATE_RADPS * seconds
    radius = SPEED_MPS / RATE_RADPS
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    rotations = np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=-1).reshape(-1, 3, 3)
    return rotations, np.stack([radius * s, radius * (1.0 - c), zero], axis=-1)


def ring(count: int, rng: np.random.Generator, distance_m: float | None = 20.0) -> F64:
    """World points [N,3] all around the base at 0 s, at one distance, or at 3 to 60 m."""
    angle = np.linspace(np.pi, -np.pi, count, endpoint=False)
    distance = rng.uniform(3.0, 60.0, count) if distance_m is None else np.full(count, distance_m)
    height = rng.uniform(-0.1, 0.1, count) * distance
    flat = np.sqrt(distance**2 - height**2)
    return np.column_stack([flat * np.cos(angle), flat * np.sin(angle), height])


def sweep(world: F64, base_from_lidar: RigidTransform, sensor: str = "lidar") -> LidarSweep:
    """A sweep of world points that ends at 0 s, stamped at its start as most drivers do.

    The ``BEAMS`` points of a column share their instant.
    """
    count = len(world)
    columns = -(-count // BEAMS)
    instants_ns = np.arange(count) // BEAMS * round(SWEEP_S * 1e9 / max(columns - 1, 1))
    rotations, places = base_at(np.asarray(instants_ns * 1e-9 - SWEEP_S, np.float64))
    in_base = np.einsum("nji,nj->ni", rotations, world - places)
    in_lidar = (in_base - base_from_lidar.translation) @ base_from_lidar.rotation
    points = np.zeros(count, POINT)
    for n, axis in enumerate("xyz"):
        points[axis] = in_lidar[:, n]
    points["t"] = instants_ns
    points["ring"] = np.arange(count) % BEAMS
    points["intensity"] = np.arange(count) % 256
    return LidarSweep(
        sensor=sensor,
        stamp_ns=T0_NS - round(SWEEP_S * 1e9),
        frame_id=sensor,
        points=points,
        intensity_field="intensity",
        intensity_scale=1.0 / 255.0,
        time_field="t",
        time_unit_ns=1.0,
    )


def perfect_poses(rate_hz: float = 50.0, twist: bool = True) -> list[PoseEstimate]:
    """Poses without error, of the last second up to 0 s."""
    seconds = np.arange(-round(rate_hz), 1) / rate_hz
    rotations, places = base_at(seconds)
    linear = np.array([SPEED_MPS if twist else 0.0, 0.0, 0.0])
    angular = np.array([0.0, 0.0, RATE_RADPS if twist else 0.0])
    return [
        PoseEstimate(
            T0_NS + round(t * 1e9),
            "odom",
            "base_link",
            RigidTransform(rotation, place),
            linear,
            angular,
            np.eye(6),
            np.eye(6),
        )
        for t, rotation, place in zip(seconds.tolist(), rotations, places, strict=True)
    ]


def shaken_poses(rng: np.random.Generator) -> list[PoseEstimate]:
    """Perfect poses with the errors of a wheel odometry with a cheap gyroscope: 1 cm and 0.1
    degrees in the pose, 0.05 m/s and 0.3 degrees/s in the velocity, each sample anew."""
    out = []
    for pose in perfect_poses():
        where, yaw = pose.frame_from_base, rng.normal(0.0, np.radians(0.1))
        turned = RigidTransform.from_rpy(rng.normal(0.0, 0.01, 3), (0.0, 0.0, yaw))
        out.append(
            PoseEstimate(
                pose.stamp_ns,
                pose.frame_id,
                pose.child_frame_id,
                where @ turned,
                pose.linear + rng.normal(0.0, 0.05, 3),
                pose.angular + rng.normal(0.0, np.radians(0.3), 3),
                pose.pose_covariance,
                pose.twist_covariance,
            )
        )
    return out


def filtered_poses(rng: np.random.Generator) -> list[PoseEstimate]:
    """What the pose road makes of noisy IMU and wheels on a drive that leads into the circle.

    IMU: 0.005 rad/s and 0.05 m/s^2 of noise per sample, 0.003 rad/s and 0.03 m/s^2 of bias.
    Wheels: 0.05 m/s and 0.02 rad/s of noise.
    """
    config = load(assignments=["calibration.extrinsics=['imu 0 0 0 0 0 0']"])
    frames = FrameTree()
    frames.set(config.frames.base, "imu", RigidTransform.identity())
    road = PosePipeline(config, frames)
    answers = [a for sample in _inertial_drive(rng) for a in road.add(sample)]
    return [a for a in answers if isinstance(a, PoseEstimate) and a.frame_id == config.frames.odom]


def _inertial_drive(rng: np.random.Generator) -> Iterator[ImuSample | WheelOdometry]:
    start_s = -(REST_S + SPEED_UP_S + STRAIGHT_S + BEND_S + TURN_FOR_S)
    gyro_bias, force_bias = rng.normal(0.0, 0.003, 3), rng.normal(0.0, 0.03, 3)
    every = round(IMU_HZ / WHEELS_HZ)
    for step in range(round(-start_s * IMU_HZ) + 1):
        seconds = start_s + step / IMU_HZ
        stamp_ns = T0_NS + round(seconds * 1e9)
        since_s = seconds - start_s - REST_S
        speed = SPEED_MPS * float(np.clip(since_s / SPEED_UP_S, 0.0, 1.0))
        gaining = SPEED_MPS / SPEED_UP_S if 0.0 <= since_s < SPEED_UP_S else 0.0
        rate = RATE_RADPS * float(np.clip((since_s - SPEED_UP_S - STRAIGHT_S) / BEND_S, 0.0, 1.0))
        yield ImuSample(
            "imu",
            stamp_ns,
            "imu",
            np.array([0.0, 0.0, rate]) + gyro_bias + rng.normal(0.0, 0.005, 3),
            np.array([gaining, speed * rate, G]) + force_bias + rng.normal(0.0, 0.05, 3),
        )
        if step % every == 0:
            noise = rng.normal(0.0, 0.05), rng.normal(0.0, 0.02)
            still = speed == 0.0
            yield WheelOdometry(
                "wheels",
                stamp_ns + 1_000_000,
                "base_link",
                np.array([0.0 if still else speed + noise[0], 0.0, 0.0]),
                np.array([0.0, 0.0, 0.0 if still else rate + noise[1]]),
                np.diag([0.05**2, 0.01, 0.01, 0.01, 0.01, 0.02**2]),
            )
