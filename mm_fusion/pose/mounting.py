"""From the sensors' own frames into the base frame. An unknown mounting is announced, always."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from mm_fusion.config import PoseConfig
from mm_fusion.geometry import FrameTree, RigidTransform, wrap_angle_rad
from mm_fusion.samples import NS_PER_S, ImuSample, WheelOdometry

F64 = npt.NDArray[np.float64]

_UP = np.array((0.0, 0.0, 1.0))
_RETRY_SAMPLES = 50


def levelling(mean_force: F64) -> F64:
    """The smallest rotation [3,3] that turns a specific force at rest [3] onto +z."""
    force = mean_force / np.linalg.norm(mean_force)
    axis = np.cross(force, _UP)
    sine, cosine = float(np.linalg.norm(axis)), float(force[2])
    if sine < 1e-9:
        return np.eye(3) if cosine > 0 else np.diag((1.0, -1.0, -1.0))
    return np.asarray(
        Rotation.from_rotvec(axis / sine * math.atan2(sine, cosine)).as_matrix(), dtype=np.float64
    )


class ImuMounting:
    """How the IMU sits on the base: known (TF or parameter), or roll and pitch from gravity.

    The first samples decide: half a second at rest, or ``imu_settle_s`` in motion (the mean of
    accelerations is then small beside gravity).
    """

    def __init__(self, config: PoseConfig, frames: FrameTree, base: str) -> None:
        self._config = config
        self._frames = frames
        self._base = base
        self.ready = False
        self.known = False
        self.rotation: F64 = np.eye(3)  # base_from_imu
        self.lever_arm_m: F64 = np.zeros(3)
        self.warnings: list[str] = []
        self.still = False
        self._first: list[ImuSample] = []
        self._since_lookup = 0

    def settle(self, sample: ImuSample) -> tuple[F64, F64, F64] | None:
        """Collect first samples; once settled, mean specific force, mean turn rate and the
        variance of this mean [3] in base axes.
        """
        self._first.append(sample)
        span_s = (sample.stamp_ns - self._first[0].stamp_ns) / NS_PER_S
        if span_s < 0.5 or len(self._first) < 10:
            return None
        force = np.array([s.linear_acceleration for s in self._first])
        gyro = np.array([s.angular_velocity for s in self._first])
        self.still = _quiet(force, gyro)
        pose = self._frames.lookup(self._base, sample.frame_id)
        if pose is None and not self.still and span_s < self._config.imu_settle_s:
            return None
        mean = force.mean(axis=0)
        if pose is None:
            self._level(mean, sample.frame_id)
        else:
            self._adopt(pose, mean, sample.frame_id)
        self.ready = True
        self._first.clear()
        scatter = np.full(3, float(gyro.var(axis=0).max()) / len(gyro))
        return self.rotation @ mean, self.rotation @ gyro.mean(axis=0), scatter

    def look_again(self, frame_id: str) -> bool:
        """Whether extrinsics that were missing have arrived meanwhile; they are then used."""
        self._since_lookup += 1
        if self.known or self._since_lookup < _RETRY_SAMPLES:
            return False
        self._since_lookup = 0
        pose = self._frames.lookup(self._base, frame_id)
        if pose is None:
            return False
        self.rotation, self.lever_arm_m, self.known = pose.rotation, pose.translation, True
        self.warnings = [f"imu: the pose of '{frame_id}' arrived late and is used from now on"]
        return True

    def _level(self, mean: F64, frame_id: str) -> None:
        self.rotation = levelling(mean)
        roll, pitch, _ = np.degrees(Rotation.from_matrix(self.rotation).as_euler("xyz"))
        self.warnings.append(
            f"imu: no pose of '{frame_id}' in '{self._base}': roll {roll:.1f} and pitch"
            f" {pitch:.1f} deg taken from gravity, yaw and position taken as zero,"
            " accelerations trusted little; give it in TF or calibration.extrinsics"
        )

    def _adopt(self, pose: RigidTransform, mean: F64, frame_id: str) -> None:
        self.rotation, self.lever_arm_m, self.known = pose.rotation, pose.translation, True
        force = pose.rotation @ mean
        angle = math.acos(max(-1.0, min(1.0, float(force[2] / np.linalg.norm(force)))))
        if angle <= self._config.mounting_tolerance_rad:
            return
        text = (
            f"imu: gravity is {math.degrees(angle):.1f} deg away from up under the mounting given"
            f" for '{frame_id}'"
        )
        if self.still:
            self.rotation = levelling(force) @ pose.rotation
            self.known = False
            text += "; levelled by gravity instead; correct TF or calibration.extrinsics"
            self._since_lookup = -(10**12)  # the tree would only give the same again
        self.warnings.append(text)


def _quiet(force: F64, gyro: F64) -> bool:
    """Whether an IMU at rest could have measured this: little scatter, no turning."""
    scatter = float(np.sqrt(force.var(axis=0).sum()))
    turning = float(np.abs(gyro.mean(axis=0)).max())
    return scatter < 0.6 and turning < 0.05 and float(gyro.std(axis=0).max()) < 0.05


def compass(sample: ImuSample, base_from_imu: F64, config: PoseConfig) -> float | None:
    """Heading of the base by the IMU's own orientation, None where it is not to be used."""
    xyzw = sample.orientation_xyzw
    if config.imu_orientation == "off" or xyzw is None:
        return None
    norm = float(np.linalg.norm(xyzw))
    if not abs(norm - 1.0) < 0.05:
        return None
    base = Rotation.from_quat(xyzw).as_matrix() @ base_from_imu.T
    yaw_rad = math.atan2(base[1, 0], base[0, 0]) + config.imu_orientation_offset_rad
    return wrap_angle_rad(yaw_rad)


class Extrinsics:
    """Poses of wheels and antenna in the base frame, with an announcement where they miss."""

    def __init__(self, frames: FrameTree, base: str) -> None:
        self._frames = frames
        self._base = base
        self._announced: dict[str, str] = {}
        self._known: dict[str, RigidTransform] = {}

    def warnings(self) -> list[str]:
        """What is missing at present."""
        return list(self._announced.values())

    def base_from(self, frame_id: str, consequence: str) -> RigidTransform | None:
        """The pose, or None; then ``consequence`` is announced."""
        found = self._known.get(frame_id)
        if found is not None:
            return found
        found = self._frames.lookup(self._base, frame_id) if frame_id else None
        if found is None:
            self._announced[frame_id] = f"no pose of '{frame_id}' in '{self._base}': {consequence}"
            return None
        self._announced.pop(frame_id, None)
        self._known[frame_id] = found
        return found

    def body_velocity(self, sample: WheelOdometry) -> tuple[F64, F64]:
        """Linear and angular velocity [3] of the base origin in base axes."""
        linear = np.asarray(sample.linear, dtype=np.float64)
        angular = np.asarray(sample.angular, dtype=np.float64)
        if sample.frame_id.lstrip("/") == self._base:
            return linear, angular
        pose = self.base_from(sample.frame_id, "wheel velocities taken as the base's own")
        if pose is None:
            return linear, angular
        turn = pose.rotation @ angular
        return pose.rotation @ linear + np.cross(pose.translation, turn), turn
