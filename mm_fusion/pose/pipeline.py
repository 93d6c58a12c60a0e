"""THE SECOND ROAD: every sample of GPS, IMU and wheels goes in here, poses come out.

Two estimates (REP-105): the local one (odom) from IMU and wheels alone, continuous; the global
one (map, east-north-up about the datum) with GPS. A sample either carries both to its stamp
(IMU; wheels where no IMU is heard) or waits until they have passed its stamp and then corrects
them, as of its own instant.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mm_fusion.config import Config
from mm_fusion.errors import CalibrationError
from mm_fusion.geodesy import LocalTangentPlane, is_place
from mm_fusion.geometry import FrameTree, RigidTransform
from mm_fusion.pose.alignment import given_alignment
from mm_fusion.pose.estimator import Estimator
from mm_fusion.pose.filter import VEL
from mm_fusion.pose.gates import (
    SLIP_GATE,
    DatumFinder,
    GoodFix,
    StampGate,
    given_plane,
    screen_fix,
)
from mm_fusion.pose.globally import GlobalEstimate
from mm_fusion.pose.lidar_odometry import LidarOdometry, SweepJob, SweepMotion, library
from mm_fusion.pose.motion import (
    ImuMotion,
    WheelMotion,
    Wheels,
    check_imu,
    check_wheels,
    first_filter,
    forget_all_but_last,
    turn_to,
    wheels_in_base,
)
from mm_fusion.pose.mounting import Extrinsics, ImuMounting, compass
from mm_fusion.pose.standstill import RestMeasurement, Standstill
from mm_fusion.pose.sweeps import Sweeps
from mm_fusion.samples import (
    NS_PER_S,
    GnssFix,
    ImuSample,
    LidarSweep,
    PoseEstimate,
    Reason,
    Rejection,
    Sample,
    WheelOdometry,
)

F64 = npt.NDArray[np.float64]
Answers = list[PoseEstimate | Rejection]

_WHEELS_HEARD_S = 1.0
_SLIP_S = 1.0
_SIDEWAYS_EVERY_S = 0.1
_PENDING = 100
_START_MPS = 0.2


class PosePipeline:
    """``add`` samples in the order they come; answers are estimates (local, then global) at the
    sample's stamp, and typed rejections, also of samples that had waited.

    ``frames`` gives the sensors' poses in the base frame and may be filled while running. With
    ``pose.lidar_odometry`` sweeps are registered at once, unless ``hand_over`` takes them to be
    registered elsewhere: what comes of them is brought back by ``add_motion``.
    """

    def __init__(
        self,
        config: Config,
        frames: FrameTree,
        hand_over: Callable[[SweepJob], None] | None = None,
    ) -> None:
        self._config = config.pose
        self._odometry: LidarOdometry | None = None
        if config.pose.lidar_odometry:
            library()  # where it is missing, that is said at once
            self._odometry = None if hand_over else LidarOdometry(config.pose)
        self._hand_over = hand_over
        self._drives = 0
        self._frame_names = config.frames
        self._frames = frames
        self._stamps = StampGate(config.pose.time_jump_s)
        self._plane = given_plane(config.pose)
        self._said: dict[str, str] = {}
        self._restart()

    def _restart(self) -> None:
        """Begin anew; the datum stays, so that the map does not move."""
        config, names = self._config, self._frame_names
        self._mounting = ImuMounting(config, self._frames, names.base)
        self._extrinsics = Extrinsics(self._frames, names.base)
        self._datum_finder = DatumFinder(config)
        self._standstill = Standstill(config)
        self._drives += 1
        self._sweeps = Sweeps(config, self._drives)
        self._imu_motion = ImuMotion(config)
        self._wheel_motion = WheelMotion(config)
        self._rested = False
        self._local: Estimator | None = None
        self._global = GlobalEstimate(config, names.map, names.base)
        self._pending: deque[Wheels | GoodFix] = deque()
        self._first_wheels_ns = self._wheels_ns = self._imu_ns = 0
        self._slip_since_ns = self._sideways_ns = 0
        self._angular: F64 | None = None
        self._angular_variance = 0.0
        self.local: PoseEstimate | None = None
        self.global_: PoseEstimate | None = None

    # --------------------------------------------------------------------------- the road

    def add(self, sample: Sample) -> Answers:
        """Take one sample; the new estimates and rejections."""
        jumps = self._stamps.jumps
        refused = self._stamps.check(sample.sensor, sample.stamp_ns)
        if refused is not None:
            if self._stamps.jumps > jumps:
                self._restart()
            return [refused]
        if isinstance(sample, ImuSample):
            return self._add_imu(sample)
        if isinstance(sample, WheelOdometry):
            return self._add_wheels(sample)
        if isinstance(sample, GnssFix):
            return self._add_fix(sample)
        if isinstance(sample, LidarSweep) and self._config.lidar_odometry:
            refused = self._sweeps.take(sample, self._local)
            return ([refused] if refused else []) + self._drain()
        kind = type(sample).__name__
        return [Rejection(sample.sensor, sample.stamp_ns, Reason.UNKNOWN_SENSOR, kind)]

    def _add_imu(self, sample: ImuSample) -> Answers:
        refused = check_imu(sample)
        if refused is not None:
            return [refused]
        self._imu_ns = sample.stamp_ns
        mounting = self._mounting
        if not mounting.ready:
            return self._settle(sample)
        mounting.look_again(sample.frame_id)
        assert self._local is not None
        if sample.stamp_ns <= self._local.stamp_ns:
            detail = "the wheels have carried the pose past it"
            return [Rejection(sample.sensor, sample.stamp_ns, Reason.LATE, detail)]
        gyro = mounting.rotation.dot(sample.angular_velocity)
        accel = mounting.rotation.dot(sample.linear_acceleration)
        rest = self._watch(sample.stamp_ns, gyro, accel)
        self._notice_start()
        self._imu_motion.step(
            sample,
            gyro,
            accel,
            mounting.lever_arm_m,
            mounting.known,
            self._standstill.resting,
            self._estimators(),
        )
        self._angular = None if self._standstill.resting else gyro
        self._angular_variance = self._imu_motion.angular_variance
        self._use_rest(rest)
        self._use_orientation(sample)
        self._use_sideways(sample.stamp_ns)
        return self._drain() + self._answer()

    def _add_wheels(self, sample: WheelOdometry) -> Answers:
        refused = check_wheels(sample, self._config)
        if refused is not None:
            return [refused]
        linear, angular = self._extrinsics.body_velocity(sample)
        wheels = wheels_in_base(sample, linear, angular, self._config)
        self._wheels_ns = stamp_ns = sample.stamp_ns
        self._first_wheels_ns = self._first_wheels_ns or stamp_ns
        self._standstill.add_wheels(stamp_ns, float(linear[0]), float(angular[2]))
        if self._heard(self._imu_ns, stamp_ns, self._config.imu_timeout_s):
            self._wait(wheels)
            return self._drain()
        if stamp_ns - self._first_wheels_ns < self._config.imu_timeout_s * NS_PER_S:
            return []  # an IMU may still turn up
        if self._local is None:
            self._begin_local(stamp_ns, None, False, 0.0)
        elif stamp_ns <= self._local.stamp_ns:
            return [Rejection(sample.sensor, stamp_ns, Reason.LATE, "the IMU was faster")]
        rest = self._standstill.without_imu(stamp_ns)
        self._imu_motion.forget()
        self._wheel_motion.step(wheels, self._standstill.resting, self._estimators())
        self._angular, self._angular_variance = wheels.angular, wheels.yaw_variance
        self._use_rest(rest)
        return self._drain() + self._answer()

    def _add_fix(self, sample: GnssFix) -> Answers:
        fix = screen_fix(sample, self._config)
        if isinstance(fix, Rejection):
            return [fix]
        if fix.assumed:
            self._said[sample.sensor] = f"{sample.sensor}: {fix.assumed}"
        if self._plane is None:
            self._plane, _ = self._datum_finder.add(fix)
            if self._plane is None:
                return []
        if not self._anything_heard(fix.stamp_ns):
            self._global.coast(fix.stamp_ns, self._local)
            refused = self._apply_fix(fix)
            return ([refused] if refused else []) + self._answer()
        self._wait(fix)
        return self._drain()

    # ------------------------------------------------------------------- steps of the road

    def _settle(self, sample: ImuSample) -> Answers:
        """First IMU samples tell the mounting and the attitude; then the IMU takes over."""
        settled = self._mounting.settle(sample)
        if settled is None:
            return []
        force, bias, bias_variance = settled
        moving = self._heard(self._wheels_ns, sample.stamp_ns, _WHEELS_HEARD_S)
        still = self._mounting.still and not (moving and not self._standstill.wheels_rest())
        if self._local is None:
            yaw = compass(sample, self._mounting.rotation, self._config)
            yaw = yaw if self._config.imu_orientation == "local" else None
            self._begin_local(sample.stamp_ns, force, still, yaw or 0.0)
            forget_all_but_last(self._pending)
        for estimator in self._estimators():
            turn_to(estimator.core, force, still, estimator.core.yaw_rad(), self._config)
            if still:
                estimator.core.gyro_bias = bias.copy()
                estimator.fuse_turn_at_rest(bias, bias_variance)
        return []

    def _begin_local(self, stamp_ns: int, force: F64 | None, still: bool, yaw_rad: float) -> None:
        core = first_filter(self._config, force, still, yaw_rad)
        names = self._frame_names
        self._local = Estimator(
            self._config, names.odom, names.base, core, stamp_ns, continuous=True
        )

    def _watch(self, stamp_ns: int, gyro: F64, accel: F64) -> RestMeasurement | None:
        assert self._local is not None
        return self._standstill.add_imu(
            stamp_ns,
            gyro,
            accel,
            self._local.core.gyro_bias,
            wheels=self._heard(self._wheels_ns, stamp_ns, _WHEELS_HEARD_S),
            slow=self._global.slow(),
        )

    def _notice_start(self) -> None:
        """The start is noticed a little late: the speed is not zero any more."""
        rested, self._rested = self._rested, self._standstill.resting
        if not rested or self._standstill.resting:
            return
        for estimator in self._estimators():
            estimator.core.covariance[VEL, VEL] += np.eye(3) * _START_MPS**2

    def _use_rest(self, rest: RestMeasurement | None) -> None:
        if rest is not None:
            for estimator in self._estimators():
                estimator.fuse_rest(rest)

    def _use_orientation(self, sample: ImuSample) -> None:
        yaw = compass(sample, self._mounting.rotation, self._config)
        if yaw is None or self._local is None:
            return
        resting = self._standstill.resting
        if self._config.imu_orientation == "map":
            self._global.hear_heading(sample.stamp_ns, yaw, self._local.core, resting)
        elif not resting:
            self._local.fuse_heading(yaw, self._config.imu_orientation_sigma_rad)

    def _use_sideways(self, stamp_ns: int) -> None:
        """Without wheels, at least this much is known about a wheeled base."""
        if not self._config.nonholonomic or self._standstill.resting:
            return
        if self._heard(self._wheels_ns, stamp_ns, _WHEELS_HEARD_S) or not self._global.running():
            return
        if stamp_ns - self._sideways_ns >= _SIDEWAYS_EVERY_S * NS_PER_S:
            self._sideways_ns = stamp_ns
            for estimator in self._estimators():
                estimator.fuse_sideways()

    def _wait(self, measurement: Wheels | GoodFix) -> None:
        self._pending.append(measurement)
        if len(self._pending) > _PENDING:
            self._pending.popleft()

    def _drain(self) -> Answers:
        """Fuse what waited for the filters to pass its stamp."""
        if self._local is None:
            return []
        answers: Answers = []
        for _ in range(len(self._pending)):
            measurement = self._pending.popleft()
            if measurement.stamp_ns > self._local.stamp_ns:
                self._pending.append(measurement)
                continue
            if isinstance(measurement, Wheels):
                refused = self._apply_wheels(measurement)
            else:
                refused = self._apply_fix(measurement)
            if refused is not None:
                answers.append(refused)
        return answers + self._register()

    def _register(self) -> Answers:
        """Have the sweeps registered that the filters have passed."""
        if self._local is None:
            return []
        answers: Answers = []
        for job in self._sweeps.due(
            self._local, self._estimators(), self._extrinsics, self._standstill.resting
        ):
            if isinstance(job, Rejection):
                answers.append(job)
            elif self._hand_over is not None:
                self._hand_over(job)
            elif self._odometry is not None:
                answers += self.add_motion(self._odometry.register(job))
        return answers

    def add_motion(self, outcome: SweepMotion | Rejection) -> Answers:
        """Take what came of a registration; rejections, where nothing was made of it."""
        stamp_ns = self._local.stamp_ns if self._local is not None else 0
        heard = self._heard(self._wheels_ns, stamp_ns, _WHEELS_HEARD_S)
        refused = self._sweeps.fuse(
            outcome, self._local, self._estimators(), heard and not self._slip_since_ns
        )
        return [refused] if refused else []

    def give_up(self, job: SweepJob) -> Rejection:
        """A sweep that was handed over is not going to be registered."""
        return self._sweeps.give_up(job, self._estimators())

    def _apply_wheels(self, wheels: Wheels) -> Rejection | None:
        assert self._local is not None
        if self._standstill.resting:
            return None  # standing is already known better than wheels tell it
        slipping_s = (wheels.stamp_ns - (self._slip_since_ns or wheels.stamp_ns)) / NS_PER_S
        # A LIDAR that sees the way gone knows better than wheels that spin.
        told = self._heard(self._sweeps.forward_ns, wheels.stamp_ns, _SLIP_S)
        gate = SLIP_GATE if slipping_s < _SLIP_S or told else 0.0
        ratio = self._local.fuse_wheels(
            wheels.stamp_ns, wheels.linear, wheels.linear_variance, gate
        )
        if gate and ratio > gate:
            self._slip_since_ns = self._slip_since_ns or wheels.stamp_ns
            detail = f"wheel slip: {math.sqrt(ratio):.1f} sigma"
            return Rejection(wheels.sensor, wheels.stamp_ns, Reason.OUTLIER, detail)
        if self._slip_since_ns and ratio <= SLIP_GATE:
            self._slip_since_ns = 0
        running = self._global.estimator
        if running is not None:
            running.fuse_wheels(wheels.stamp_ns, wheels.linear, wheels.linear_variance, 0.0)
        return None

    def _apply_fix(self, fix: GoodFix) -> Rejection | None:
        assert self._plane is not None
        pose = self._extrinsics.base_from(
            fix.frame_id, f"{self._config.gps_lever_arm_sigma_m:g} m added to the fixes' error"
        )
        heard = self._heard(self._wheels_ns, fix.stamp_ns, _WHEELS_HEARD_S)
        refused = self._global.add_fix(
            fix, self._plane, None if pose is None else pose.translation, self._local, heard
        )
        running = self._global.estimator
        if refused is None and running is not None and self._local is not None and not heard:
            # Without wheels the local velocity leans on the global one; its position takes no
            # step from that.
            covariance = 4.0 * running.core.body_velocity_covariance() + 0.01 * np.eye(3)
            self._local.fuse_velocity(running.core.body_velocity(), covariance)
        return refused

    # ----------------------------------------------------------------------------- answers

    def _answer(self) -> Answers:
        local, running = self._local, self._global.estimator
        if not all(e.core.is_finite() for e in self._estimators()):
            self._said["divergence"] = "the filter diverged and was started anew"
            self._restart()
            return []
        answers: Answers = []
        if local is not None:
            self.local = local.estimate(self._angular, self._angular_variance)
            answers.append(self.local)
        if running is not None:
            self.global_ = running.estimate(self._angular, self._angular_variance)
            answers.append(self.global_)
        else:
            guess = self._global.position_only(self._local, self.local)
            if guess is not None:
                self.global_ = guess
                answers.append(guess)
        return answers

    @property
    def datum(self) -> tuple[float, float, float] | None:
        """Latitude, longitude (deg) and ellipsoidal height (m) of the map's origin."""
        return None if self._plane is None else self._plane.datum

    @property
    def map_from_odom(self) -> RigidTransform | None:
        """How odom lies in the map; None until the heading in the map is known."""
        running = self._global.estimator
        if running is None or self._local is None:
            return None
        return running.transform() @ self._local.transform().inverse()

    def to_geodetic(self, map_position: npt.ArrayLike) -> tuple[float, float, float] | None:
        """Latitude, longitude (deg), ellipsoidal height (m) of a position [3] in the map."""
        return None if self._plane is None else self._plane.to_geodetic(map_position)

    def from_geodetic(
        self, latitude_deg: float, longitude_deg: float, altitude_m: float
    ) -> F64 | str:
        """The position [3] in the map of a place on earth; a reason against it, "" where there is
        no datum yet."""
        if not is_place(latitude_deg, longitude_deg) or not math.isfinite(altitude_m):
            return f"no place on earth: {latitude_deg}, {longitude_deg}, {altitude_m}"
        return (
            ""
            if self._plane is None
            else self._plane.to_enu(latitude_deg, longitude_deg, altitude_m)
        )

    def set_datum(self, latitude_deg: float, longitude_deg: float, altitude_m: float) -> str:
        """Put the map's origin elsewhere; answers why not, "" where it is done. What is known of
        the global pose is taken along; odom does not move."""
        try:
            plane = LocalTangentPlane(latitude_deg, longitude_deg, altitude_m)
        except CalibrationError as error:
            return str(error)
        old, self._plane = self._plane, plane
        running = self._global.estimator
        self._global = GlobalEstimate(self._config, self._frame_names.map, self._frame_names.base)
        self.global_ = None
        if old is not None and running is not None:
            running.move_frame(plane.from_other(old))
            self._global.take_over(running)
        return ""

    def warnings(self) -> list[str]:
        """What had to be assumed, in words, and what contradicts what."""
        return [
            *self._mounting.warnings,
            *self._extrinsics.warnings(),
            *self._said.values(),
            *self._global.warnings(),
            *self._sweeps.warnings(),
        ]

    def sweep_counts(self) -> dict[str, int]:
        """What became of LIDAR sweeps; nothing without LIDAR odometry."""
        return self._sweeps.report() if self._config.lidar_odometry else {}

    def reset(self) -> None:
        """Begin both estimates anew; the datum stays."""
        self._restart()

    def set_pose(self, place: F64, yaw_rad: float, covariance: F64) -> str:
        """Take a pose in the map from outside: ``place`` [3] m, heading, ``covariance`` [6,6] of
        (x y z roll pitch yaw). Answers why it cannot be used, "" where it is; odom does not move.
        """
        sigmas = np.diagonal(np.asarray(covariance, dtype=np.float64))
        if not np.isfinite([*place, yaw_rad, *sigmas]).all() or (sigmas < 0).any():
            return "the pose or its variances are not finite and positive"
        if self._local is None:
            return "no local pose yet: neither IMU nor wheels have been heard"
        local = self._local.core
        given = given_alignment(local, place, yaw_rad, sigmas, self._config.gps_sigma_floor_m)
        self._global.place_at(self._local, given)
        return ""

    # ----------------------------------------------------------------------------- helpers

    def _estimators(self) -> list[Estimator]:
        both = (self._local, self._global.estimator)
        return [e for e in both if e is not None]

    def _heard(self, last_ns: int, now_ns: int, within_s: float) -> bool:
        return bool(last_ns) and now_ns - last_ns <= within_s * NS_PER_S

    def _anything_heard(self, now_ns: int) -> bool:
        return any(
            self._heard(last, now_ns, _WHEELS_HEARD_S) for last in (self._imu_ns, self._wheels_ns)
        )
