"""The global estimate: datum, position alone, heading found, then the filter with its gates."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mm_fusion.config import PoseConfig
from mm_fusion.geodesy import LocalTangentPlane
from mm_fusion.geometry import RigidTransform, wrap_angle_rad
from mm_fusion.pose.alignment import (
    Alignment,
    HeadingAlignment,
    Pair,
    PositionOnly,
    global_from_local,
)
from mm_fusion.pose.compass import Compass
from mm_fusion.pose.estimator import Estimator
from mm_fusion.pose.filter import POS, SIZE, ErrorStateFilter
from mm_fusion.pose.gates import CHI2_999, GoodFix, Reacceptance
from mm_fusion.pose.history import History
from mm_fusion.pose.motion import first_filter
from mm_fusion.pose.posterior import HeadingPosterior
from mm_fusion.pose.receiver import Receiver
from mm_fusion.pose.whole import Piece, Whole
from mm_fusion.samples import NS_PER_S, PoseEstimate, Reason, Rejection

F64 = npt.NDArray[np.float64]

_ANY_HEADING_VARIANCE = math.pi**2 / 3.0  # of an angle that could be any
_UNKNOWN_SPEED_MPS = 5.0
_SLOW_MPS = 0.5
_AT_REST_MPS = 0.15  # what the wheels say, and the 0.1 that is added to it
_HEIGHTS_REFUSED = 10
_SURPRISE_S = 5.0
_DOUBT_RAD2 = 5e-4
_DOUBT_FROM = 2.0
_LEADING = 12.0  # so many times longer dead reckoning is believed between bad fixes
_FAR = 4.0  # a fix farther off than so many times their scatter counts for next to nothing
_FLAT = [i for i in range(SIZE) if i not in (2, 5)]


class GlobalEstimate:
    """``estimator`` is None until the heading in the map is known."""

    def __init__(self, config: PoseConfig, frame_id: str, base: str) -> None:
        self._config = config
        self._frame_id = frame_id
        self._base = base
        self._alignment = HeadingAlignment(config)
        self._gate = Reacceptance(config)
        self._alone: PositionOnly | None = None
        self._posterior = HeadingPosterior()
        self._odometry = True
        self._arm_m2 = self._off_m = 0.0
        self._last_fix_ns = 0
        self._heights_refused = 0
        self._receiver = Receiver(config.gps_correlation_s)
        self._surprise = 1.0
        self._history = History(config.wheel_scale_sigma)
        self._residual_m = 0.0
        self._said: dict[str, str] = {}
        self._compass = Compass(config.imu_orientation_sigma_rad)
        self.estimator: Estimator | None = None

    def running(self) -> bool:
        """Whether the heading is known and the filter at work."""
        return self.estimator is not None

    def slow(self) -> bool:
        """Nothing known here says that the vehicle moves."""
        if self.estimator is None:
            return True
        return math.hypot(*self.estimator.core.velocity.tolist()) < _SLOW_MPS

    def warnings(self) -> list[str]:
        """What was assumed."""
        return list(self._said.values())

    def hear_heading(
        self, stamp_ns: int, yaw_rad: float, local: ErrorStateFilter, resting: bool
    ) -> None:
        """The base's heading in the map, measured by two antennas or a compass, beside that in
        odom. At rest its errors are alike and teach nothing new.
        """
        self._compass.add(stamp_ns, wrap_angle_rad(yaw_rad - local.yaw_rad()), resting)
        if self.estimator is None or resting:
            return
        look = self._compass.next()
        if look is not None:
            self.estimator.fuse_heading(look.yaw_rad + local.yaw_rad(), look.sigma_rad)

    def _heard(self, pair: Pair, local: Estimator) -> bool:
        """Begin with the heading that was heard, if one was of late; whether it was."""
        look = self._compass.first(pair.stamp_ns)
        if look is None:
            return False
        centre = self._posterior.centre() if self._odometry else (pair.odom, pair.enu)
        # Errors of a receiver at rest are alike from fix to fix.
        least = 1.0 / 9.0 if self._odometry else 1.0
        weight, weight_z = self._posterior.weights()
        self.place_at(
            local,
            Alignment(
                yaw_rad=look.yaw_rad,
                yaw_sigma_rad=look.sigma_rad,
                odom_centre=centre[0],
                map_centre=centre[1],
                sigma_m=math.sqrt(max(1.0 / weight, least * pair.variance_m2)),
                sigma_z_m=math.sqrt(max(1.0 / weight_z, least * pair.variance_z_m2)),
            ),
        )
        return True

    def coast(self, stamp_ns: int, local: Estimator | None) -> None:
        """Nothing but GPS is heard: hold the velocity up to the fix."""
        for estimator in (self.estimator, local):
            if estimator is None or estimator.stamp_ns >= stamp_ns:
                continue
            dt_s = (stamp_ns - estimator.stamp_ns) / NS_PER_S
            estimator.core.coast(dt_s, 4.0, 0.1)
            estimator.step(stamp_ns)
            if self._config.nonholonomic and abs(estimator.core.body_velocity()[0]) > 1.0:
                estimator.fuse_sideways()

    def add_fix(
        self,
        fix: GoodFix,
        plane: LocalTangentPlane,
        lever_arm: F64 | None,
        local: Estimator | None,
        odometry: bool,
    ) -> Rejection | None:
        """Take a fix whose stamp the filters have passed. ``lever_arm`` [3] base to antenna."""
        enu = plane.to_enu(fix.latitude_deg, fix.longitude_deg, fix.altitude_m)
        if math.hypot(enu[0], enu[1]) > self._config.gps_max_distance_m:
            detail = f"{math.hypot(enu[0], enu[1]) / 1e3:.0f} km from the datum"
            return Rejection(fix.sensor, fix.stamp_ns, Reason.OUT_OF_RANGE, detail)
        clock = self.estimator or local
        if clock is not None and not clock.knows(fix.stamp_ns):
            late_s = (clock.stamp_ns - fix.stamp_ns) / NS_PER_S
            if late_s > self._config.gps_max_delay_s:
                return Rejection(fix.sensor, fix.stamp_ns, Reason.LATE, f"{late_s:.2f} s late")
        covariance = fix.covariance
        if lever_arm is None:
            lever_arm = np.zeros(3)
            covariance = covariance + np.eye(3) * self._config.gps_lever_arm_sigma_m**2
        if self.estimator is None:
            self._seek_heading(fix, enu, covariance, lever_arm, local, odometry)
            return None
        if self._history.leads and not (local is not None and odometry):
            self._history.clear()
        refused = self._fuse(fix, enu, covariance, lever_arm, odometry)
        if local is not None and odometry:
            self._look_back(fix, enu, covariance, lever_arm, local)
        return refused

    def _look_back(
        self, fix: GoodFix, enu: F64, covariance: F64, lever_arm: F64, local: Estimator
    ) -> None:
        """Ask the last minutes as a whole, once a second: lead, or start the filter anew."""
        assert self.estimator is not None
        position, velocity, rotation = local.at(fix.stamp_ns)
        antenna = (position + rotation @ lever_arm)[:2]
        claimed_m = math.sqrt(0.5 * float(covariance[0, 0] + covariance[1, 1]))
        bias = float(local.core.gyro_bias[2])
        yaw = math.atan2(rotation[1, 0], rotation[0, 0])
        piece = Piece(fix.stamp_ns, enu[:2], antenna, bias, 0.0, self._off_m, claimed_m, yaw)
        history = self._history
        if not history.add(piece, float(np.linalg.norm(velocity)) > _AT_REST_MPS):
            return
        bias_sigma = math.sqrt(float(local.core.covariance[11, 11]))
        led = history.leads
        found = history.whole(bias, bias_sigma, self._receiver.white)
        if found is None and led:
            self._receiver.restart(self._residual_m**2)
        if found is None:
            found = self._diverged(local, bias, bias_sigma)
        if found is None:
            return
        self._residual_m = found.residual_m
        if history.leads and not led:
            self._said["whole"] = (
                "gps: fixes are far worse than they claim; the last minutes are laid on them as a"
                " whole"
            )
        if not history.leads:
            self._receiver.restart(found.residual_m**2)
        self._restart(found, local, lever_arm)
        self._gate.accepted(fix.stamp_ns)

    def _diverged(self, local: Estimator, bias: float, bias_sigma: float) -> Whole | None:
        assert self.estimator is not None
        joint = self.estimator.transform() @ local.transform().inverse()
        # The local estimate does not know the wheels' scale, the global one does.
        shift = self.estimator.core.position[:2] - joint.rotation[:2, :2] @ local.core.position[:2]
        found = self._history.diverged(joint.yaw_rad(), shift, bias, bias_sigma)
        if found is not None:
            self._said["diverged"] = (
                "gps: the estimate had left the fixes of the last minute, taken together;"
                " it was started anew from them"
            )
        return found

    def _restart(self, found: Whole, local: Estimator, lever_arm: F64) -> None:
        """Put the filter where the whole has the antenna now, less the lever arm."""
        assert self.estimator is not None
        arm = local.core.rotation @ lever_arm
        antenna = found.place((local.core.position + arm)[:2])
        turn = wrap_angle_rad(found.yaw_rad + local.core.yaw_rad() - self.estimator.core.yaw_rad())
        c, s = math.cos(found.yaw_rad), math.sin(found.yaw_rad)
        base = antenna - np.array((c * arm[0] - s * arm[1], s * arm[0] + c * arm[1]))
        self.estimator.restart_at(base, turn, found)

    # --------------------------------------------------------------- before the heading

    def _seek_heading(
        self,
        fix: GoodFix,
        enu: F64,
        covariance: F64,
        lever_arm: F64,
        local: Estimator | None,
        odometry: bool,
    ) -> None:
        speed = _UNKNOWN_SPEED_MPS
        if local is not None and odometry:
            speed = float(np.linalg.norm(local.core.velocity)) + 0.1
        # Without a heading nobody knows on which side of the antenna the base is.
        self._arm_m2 = float(lever_arm @ lever_arm)
        around = covariance + np.eye(3) * self._arm_m2
        if self._alone is None:
            self._alone = PositionOnly(enu, around, fix.stamp_ns, speed)
        else:
            self._alone.fuse(enu, around, fix.stamp_ns, at_rest=speed < _AT_REST_MPS)
        odom, yaw = np.zeros(3), 0.0
        if local is not None:
            position, _, rotation = local.at(fix.stamp_ns)
            odom = position + rotation @ lever_arm
            yaw = math.atan2(rotation[1, 0], rotation[0, 0])
        variance = 0.5 * float(covariance[0, 0] + covariance[1, 1])
        pair = Pair(fix.stamp_ns, enu, odom, yaw, variance, float(covariance[2, 2]), odometry)
        self._odometry = odometry and self._odometry
        self._posterior.add(enu, odom, variance, float(covariance[2, 2]))
        if local is not None and self._heard(pair, local):
            return
        found = self._alignment.add(pair)
        if found is None:
            return
        core = local.core if local is not None else first_filter(self._config, None, False, 0.0)
        stamp_ns = local.stamp_ns if local is not None else fix.stamp_ns
        if found.course_speed_mps is not None:
            self._said["course"] = (
                "gps: heading taken from the course over ground, driving forwards assumed"
                " (no wheel odometry)"
            )
        started = global_from_local(core, found, self._config.gravity_mps2)
        self.estimator = Estimator(
            self._config, self._frame_id, self._base, started, stamp_ns, continuous=False
        )
        self._last_fix_ns = fix.stamp_ns
        self._gate.accepted(fix.stamp_ns)

    def position_only(
        self, local: Estimator | None, answer: PoseEstimate | None
    ) -> PoseEstimate | None:
        """Before the heading is known: the position, and a heading that says it is none."""
        if self._alone is None:
            return None
        stamp_ns = self._alone.stamp_ns
        rotation, twist = np.eye(3), np.diag([100.0, 100.0, 100.0, 1.0, 1.0, 1.0])
        linear, angular = np.zeros(3), np.zeros(3)
        if local is not None and answer is not None:
            stamp_ns = max(stamp_ns, answer.stamp_ns)
            rotation, twist = answer.frame_from_base.rotation, answer.twist_covariance
            linear, angular = answer.linear, answer.angular
        covariance = np.zeros((6, 6))
        if local is not None and answer is not None and self._odometry:
            position, covariance[:3, :3] = self._posterior.at(local.core.position)
            covariance[:3, :3] += np.eye(3) * self._arm_m2
        else:
            position, covariance[:3, :3] = self._alone.at(stamp_ns)
        covariance[3, 3] = covariance[4, 4] = 0.01
        covariance[5, 5] = _ANY_HEADING_VARIANCE
        return PoseEstimate(
            stamp_ns=stamp_ns,
            frame_id=self._frame_id,
            child_frame_id=self._base,
            frame_from_base=RigidTransform(rotation, position),
            linear=linear,
            angular=angular,
            pose_covariance=covariance,
            twist_covariance=twist,
        )

    def take_over(self, running: Estimator) -> None:
        """Go on with an estimate that is at work."""
        self.estimator = running
        self._last_fix_ns = running.stamp_ns
        self._gate.accepted(running.stamp_ns)

    def place_at(self, local: Estimator, given: Alignment) -> None:
        """Begin from a pose that somebody gave; fixes then correct it as they do any other."""
        started = global_from_local(local.core, given, self._config.gravity_mps2)
        self.estimator = Estimator(
            self._config, self._frame_id, self._base, started, local.stamp_ns, continuous=False
        )
        self._last_fix_ns = local.stamp_ns
        self._receiver.forget_level()
        self._history.clear()
        self._gate.accepted(local.stamp_ns)

    # ---------------------------------------------------------------- with the heading

    def _fuse(
        self, fix: GoodFix, enu: F64, covariance: F64, lever_arm: F64, odometry: bool
    ) -> Rejection | None:
        assert self.estimator is not None
        core = self.estimator.core
        passed_s = max(0.0, (fix.stamp_ns - self._last_fix_ns) / NS_PER_S)
        if passed_s > self._config.gps_blackout_s * (_LEADING if self._history.leads else 1.0):
            self._history.clear()  # dead reckoning across a blackout is not to judge by
        self._last_fix_ns = fix.stamp_ns
        walked = np.zeros(SIZE)
        walked[POS] = self._config.position_walk**2 * passed_s
        core.doubt(walked)
        claimed = 0.5 * float(covariance[0, 0] + covariance[1, 1])
        receiver = self._receiver
        core.relax_gps_bias(passed_s, receiver.slow_m2, receiver.tau_s)
        covariance = covariance * receiver.white
        residual, jacobian, flat, height = self.estimator.position_test(
            fix.stamp_ns, enu, covariance, lever_arm
        )
        whole = residual[:2] + core.gps_bias
        self._off_m = math.hypot(whole[0], whole[1])
        receiver.seen(fix.stamp_ns, whole + core.position_moved[:2], claimed, not odometry)
        if self._history.leads:
            return self._led(fix, residual, jacobian, covariance, height)
        if flat > CHI2_999[2]:
            sigma = math.sqrt(claimed * receiver.white + receiver.slow_m2)
            speed = float(np.linalg.norm(core.velocity))
            adrift = not (odometry or self._config.nonholonomic)
            believed = self._gate.refused(fix.stamp_ns, enu, residual, sigma, speed, adrift)
            off = math.hypot(residual[0], residual[1])
            if believed is None:
                detail = f"{off:.1f} m off, {math.sqrt(flat):.1f} sigma"
                return Rejection(fix.sensor, fix.stamp_ns, Reason.OUTLIER, detail)
            self._said["reaccepted"] = (
                f"gps: fixes that agreed among themselves {off:.0f} m away from the estimate were"
                " believed"
            )
            self.estimator.believe(believed, sigma)
            residual[:2] = whole
            receiver.forget_level()
        else:
            self._learn(core, flat, passed_s)
            known = 0.5 * float(core.covariance[0, 0] + core.covariance[1, 1])
            past, now = receiver.fused(fix.stamp_ns, whole, claimed, known, passed_s)
            if past + now > 0.0:
                core.doubt_fixes(past, now)
        rows = 3 if self._height_counts(fix, residual, height) else 2
        core.update(jacobian[:rows], residual[:rows], covariance[:rows, :rows])
        self._gate.accepted(fix.stamp_ns)
        return None

    def _led(
        self, fix: GoodFix, residual: F64, jacobian: F64, covariance: F64, height: float
    ) -> Rejection | None:
        """The whole takes the place from the fix; only its height goes into the filter."""
        if self._height_counts(fix, residual, height):
            assert self.estimator is not None
            self.estimator.core.update(jacobian[2:], residual[2:], covariance[2:, 2:], _FLAT)
        # Pieces of a second are means; a single fix scatters more.
        scatter_m = math.hypot(
            self._residual_m, math.sqrt(0.5 * float(np.trace(covariance[:2, :2])))
        )
        if self._off_m > _FAR * scatter_m:
            detail = f"{self._off_m:.1f} m off where fixes scatter by {scatter_m:.1f} m"
            return Rejection(fix.sensor, fix.stamp_ns, Reason.OUTLIER, detail)
        return None

    def _learn(self, core: ErrorStateFilter, flat: float, passed_s: float) -> None:
        """Residuals larger than everything known explains: then the heading is doubted."""
        share = min(1.0, passed_s / _SURPRISE_S)
        self._surprise += share * (0.5 * flat - self._surprise)
        doubt = min(max(self._surprise - _DOUBT_FROM, 0.0), 10.0)
        turned = np.zeros(SIZE)
        turned[8] = _DOUBT_RAD2 * passed_s * doubt
        core.doubt(turned)

    def _height_counts(self, fix: GoodFix, residual: F64, height: float) -> bool:
        """Heights jump more than positions do; a bad one does not cost the fix."""
        if not (fix.has_height and self._config.gps_use_altitude):
            return False
        if height <= CHI2_999[1]:
            self._heights_refused = 0
            return True
        self._heights_refused += 1
        if self._heights_refused >= _HEIGHTS_REFUSED and self.estimator is not None:
            self._heights_refused = 0
            risen = np.zeros(SIZE)
            risen[2] = float(residual[2]) ** 2
            self.estimator.core.doubt(risen)
            return True
        return False
