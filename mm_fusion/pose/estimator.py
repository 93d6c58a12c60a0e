"""One of the two estimates: a filter with its clock, its recent past and its measurements."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mm_fusion.config import PoseConfig
from mm_fusion.geometry import RigidTransform, rotation_exp, wrap_angle_rad
from mm_fusion.pose.filter import ACCEL, ATT, BIAS, GYRO, POS, SCALE, SIZE, VEL, ErrorStateFilter
from mm_fusion.pose.gates import LONG_ALONE_S, Believed
from mm_fusion.pose.standstill import RestMeasurement
from mm_fusion.pose.whole import Whole
from mm_fusion.samples import NS_PER_S, PoseEstimate

F64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

# Wheel scale and the gyro's bias about the vertical would be learned from the accelerometer when
# wheels are fused: a milliradian of tilt or some vibration then turns the heading for minutes.
# Fixes and standing still tell them.
_NOT_BY_WHEELS = [11, SCALE]
_OPEN_BIAS_RADPS = 2e-3
_NO_TURN = np.zeros(3)
_REST_TURN_RADPS = 1e-4  # biases of small gyros wander by as much within minutes
_TILT_RAD = 0.05
_SETTLE_NS = 100_000_000  # what a LIDAR corrects in odom is paid in over this time


class Estimator:
    """A filter in the frame ``frame_id`` (odom or map).

    With ``continuous``, position and heading are never corrected, only moved: measurements teach
    the filter velocity, tilt and biases, and the covariance accounts for what is not corrected.
    That is what REP-105 asks of odom. The one exception is motion measured by a LIDAR, which is
    what odom is made of: what that corrects is said little by little, never in a step.
    """

    def __init__(
        self,
        config: PoseConfig,
        frame_id: str,
        base: str,
        core: ErrorStateFilter,
        stamp_ns: int,
        *,
        continuous: bool,
    ) -> None:
        hold = [0, 1, 2, 8] if continuous else []
        self._hold = _rows(hold)
        self._hold_at_wheels = _rows([*hold, *_NOT_BY_WHEELS])
        self._hold_open = _rows([*hold, *_NOT_BY_WHEELS, 8])
        self.core = core
        self.frame_id = frame_id
        self.stamp_ns = stamp_ns
        self._config = config
        self._base = base
        self._past: deque[tuple[int, F64, F64, F64, F64, F64, F64]] = deque()
        self._keep_ns = int((config.gps_max_delay_s + 0.2) * NS_PER_S)
        self._owed: tuple[F64, float, int] | None = None  # place, heading, until when
        self._continuous = continuous
        self._remember()

    # ------------------------------------------------------------------------ time passes

    def step(self, stamp_ns: int) -> None:
        """The filter has been propagated to ``stamp_ns``."""
        if self._owed is not None:
            place, turn, until_ns = self._owed
            left = (until_ns - stamp_ns) / max(until_ns - self.stamp_ns, 1)
            self._owed = (place * left, turn * left, until_ns) if left > 0.0 else None
        self.stamp_ns = stamp_ns
        self._remember()

    def _remember(self) -> None:
        core, past = self.core, self._past
        past.append(
            (
                self.stamp_ns,
                core.position,
                core.velocity,
                core.rotation,
                core.position_moved,
                core.velocity_moved,
                core.rotation_moved,
            )
        )
        while past[0][0] < self.stamp_ns - self._keep_ns:
            past.popleft()

    def knows(self, stamp_ns: int) -> bool:
        """Whether the past reaches back to an instant."""
        return self._past[0][0] <= stamp_ns

    def at(self, stamp_ns: int) -> tuple[F64, F64, F64]:
        """Position, velocity [3] and rotation [3,3] at an instant of the recent past.

        Corrections made since then are applied to it, so that a late measurement is compared
        with what the filter now believes about that instant.
        """
        after = self._past[-1]
        before = after
        for entry in reversed(self._past):
            before = entry
            if entry[0] <= stamp_ns:
                break
            after = entry
        span = after[0] - before[0]
        share = (stamp_ns - before[0]) / span if span > 0 else 0.0
        share = min(1.0, max(0.0, share))
        core = self.core
        place = _between(before[1], before[4], after[1], after[4], core.position_moved, share)
        speed = _between(before[2], before[5], after[2], after[5], core.velocity_moved, share)
        return place, speed, after[3] if share > 0.5 else before[3]

    def path(self, from_ns: int) -> list[tuple[int, RigidTransform]]:
        """The way since an instant as it was reckoned, step by step, without what corrections of
        the filter added meanwhile: stamps, and poses relative to the first, which is the last one
        not after ``from_ns``."""
        steps = []
        for entry in reversed(self._past):
            steps.append(entry)
            if entry[0] <= from_ns:
                break
        steps.reverse()
        here = RigidTransform.identity()
        out = [(steps[0][0], here)]
        for before, after in pairwise(steps):
            start = before[1] + (after[4] - before[4])
            turned = after[6] @ before[6].T @ before[3]
            step = RigidTransform.trusted(turned.T @ after[3], turned.T @ (after[1] - start))
            here = here @ step
            out.append((after[0], here))
        return out

    # ------------------------------------------------------------------------ measurements

    def fuse_motion(
        self,
        keys: tuple[int, int],
        motion: RigidTransform,
        directions: F64,
        variance: F64,
        gate: float,
        untold: tuple[str, ...] = (),
    ) -> float:
        """How the base moved between two remembered poses, in the ``directions`` [r,6] in which
        that is known. Answers the squared Mahalanobis distance; above ``gate`` (0: no gate)
        nothing is fused. What ``untold`` axes would tell is not learned from the others."""
        core = self.core
        residual, jacobian, ratio = core.motion_test(*keys, motion, directions, variance)
        if gate and ratio > gate:
            return ratio
        place, yaw = core.position, core.yaw_rad()
        hold = [row for axis, row in (("forward", SCALE), ("yaw", 11)) if axis in untold]
        core.update_motion(jacobian, residual, variance, hold)
        if self._continuous:
            moved, turned = core.position - place, wrap_angle_rad(core.yaw_rad() - yaw)
            before = self._owed or (np.zeros(3), 0.0, 0)
            until_ns = self.stamp_ns + _SETTLE_NS
            self._owed = (before[0] + moved, before[1] + turned, until_ns)
        return ratio

    def fuse_wheels(self, stamp_ns: int, linear: F64, variance: F64, gate: float) -> float:
        """Body velocity [3] measured at the wheels, variances [3], at its own instant.

        Answers the squared normalised innovation of the forward speed; above ``gate`` (0: no
        gate) nothing is fused.
        """
        core = self.core
        _, velocity, rotation = self.at(stamp_ns)
        body = velocity.dot(rotation)
        forward = body.item(0)
        jacobian = core.body_velocity_jacobian()
        along = jacobian[0]
        along *= 1.0 + core.wheel_scale
        along[SCALE] = forward
        residual = linear - body
        residual[0] -= core.wheel_scale * forward
        spread = core.covariance.dot(along).dot(along).item() + variance.item(0)
        ratio = residual.item(0) ** 2 / spread
        if gate and ratio > gate:
            return ratio
        core.update(jacobian, residual, np.diag(variance), self._not_by_wheels())
        return ratio

    def _not_by_wheels(self) -> Rows | None:
        """Where the gyro's bias is open, the heading would follow the accelerometer as well."""
        open_bias = self.core.covariance.item(11, 11) > _OPEN_BIAS_RADPS**2
        return self._hold_open if open_bias else self._hold_at_wheels

    def fuse_velocity(self, body: F64, covariance: F64) -> None:
        """Body velocity [3] from elsewhere."""
        residual = body - self.core.body_velocity()
        self.core.update(self.core.body_velocity_jacobian(), residual, covariance, self._hold)

    def fuse_sideways(self) -> None:
        """No sideways and no vertical motion of the base (nonholonomic constraint)."""
        body = self.core.body_velocity()
        variance = lateral_variance(self._config, float(body[0]))
        self.core.update(
            self.core.body_velocity_jacobian()[1:],
            -body[1:],
            np.diag((variance, variance)),
            self._not_by_wheels(),
        )

    def position_test(
        self, stamp_ns: int, enu: F64, variance: F64, lever_arm: F64
    ) -> tuple[F64, F64, float, float]:
        """A fix [3] of the antenna against the filter, at the fix's own instant.

        Answers residual [3], Jacobian [3,18], and the squared Mahalanobis distance horizontally
        and of the height.
        """
        position, velocity, rotation = self.at(stamp_ns)
        arm = rotation @ lever_arm
        age_s = (self.stamp_ns - stamp_ns) / NS_PER_S
        # The arm turns with the attitude; so does the way driven since the fix.
        x, y, z = (arm - velocity * age_s).tolist()
        jacobian = np.zeros((3, SIZE))
        jacobian[:, POS] = np.eye(3)
        jacobian[:, VEL] = np.eye(3) * -age_s
        jacobian[:, ATT] = ((0.0, z, -y), (-z, 0.0, x), (y, -x, 0.0))
        jacobian[0, 16] = jacobian[1, 17] = 1.0
        residual = enu - (position + arm)
        residual[:2] -= self.core.gps_bias
        flat, _ = self.core.innovation(jacobian[:2], residual[:2], variance[:2, :2])
        height, _ = self.core.innovation(jacobian[2:], residual[2:], variance[2:, 2:])
        return residual, jacobian, flat, height

    def believe(self, fixes: Believed, sigma_m: float) -> None:
        """Open the covariance for fixes that turned out to be right against the filter.

        Where they tell a way as well as a place, the heading is turned by what the filter's way
        differs from theirs; else it is opened too. What led away may lead on: the tilt, by which
        an accelerometer does, is opened, and the gyro's bias after a long time alone.
        """
        core = self.core
        spread = np.zeros(SIZE)
        spread[:2] = fixes.offset[0] ** 2 + fixes.offset[1] ** 2 + sigma_m**2
        spread[2] = float(fixes.offset[2]) ** 2
        missed = float(np.linalg.norm(fixes.way - fixes.way_predicted)) / max(fixes.span_s, 0.1)
        spread[3:5] = missed**2
        spread[6:8] = _TILT_RAD**2
        length = min(float(np.linalg.norm(w)) for w in (fixes.way, fixes.way_predicted))
        if fixes.adrift:
            # Its accelerations went wrong, and its heading may be the reason.
            velocity = np.array((*fixes.way / fixes.span_s, core.velocity.item(2)))
            core.velocity_moved = core.velocity_moved + (velocity - core.velocity)
            core.velocity = velocity
            core.covariance[VEL, :] = core.covariance[:, VEL] = 0.0
            spread[3:5] = (2.0 * sigma_m / fixes.span_s) ** 2 + (0.5 * fixes.span_s) ** 2
            spread[5] = 0.25
            spread[8] = 0.25
        elif length > max(self._config.heading_distance_m, 6.0 * sigma_m):
            (e, n), (x, y) = fixes.way, fixes.way_predicted
            angle = math.atan2(x * n - y * e, x * e + y * n)
            core.turn(angle)
            if fixes.alone_s > LONG_ALONE_S:
                # A heading that went wrong little by little was led by a gyro that goes on so.
                rate = angle / fixes.alone_s
                core.gyro_bias = core.gyro_bias - np.array((0.0, 0.0, rate))
                spread[11] = (0.3 * rate) ** 2
            spread[8] = (1.5 * sigma_m / length) ** 2 + 0.03**2
        else:
            spread[8] = 0.25
        core.gps_bias = np.zeros(2)
        core.covariance[BIAS, :] = core.covariance[:, BIAS] = 0.0
        if core.clones is not None:
            core.clones.cross[BIAS] = 0.0
        core.doubt(spread)

    def restart_at(self, place: F64, turn_rad: float, found: Whole) -> None:
        """Put the filter at ``place`` [2] and turn it, as the last minutes of fixes say."""
        core = self.core
        shift = np.array((place[0], place[1], core.position[2])) - core.position
        core.position = core.position + shift
        core.position_moved = core.position_moved + shift
        core.turn(turn_rad)
        core.gyro_bias = np.array((core.gyro_bias[0], core.gyro_bias[1], found.bias_radps))
        velocity = core.velocity * ((1.0 + core.wheel_scale) / (1.0 + found.scale))
        core.velocity_moved = core.velocity_moved + (velocity - core.velocity)
        core.velocity, core.wheel_scale = velocity, found.scale
        core.gps_bias = np.zeros(2)
        core.clones = None
        known = [0, 1, 8, 11, SCALE]
        for index in (*known, 16, 17):
            core.covariance[index, :] = 0.0
            core.covariance[:, index] = 0.0
        core.covariance[np.ix_(known, known)] = found.covariance

    def move_frame(self, new_from_old: RigidTransform) -> None:
        """Go on in another frame."""
        core, turn = self.core, new_from_old.rotation
        core.position = new_from_old.apply(core.position)
        core.velocity, core.rotation = turn @ core.velocity, turn @ core.rotation
        core.gps_bias = turn[:2, :2] @ core.gps_bias
        whole = np.eye(SIZE)
        for block in (POS, VEL, ATT):
            whole[block, block] = turn
        whole[BIAS, BIAS] = turn[:2, :2]
        core.covariance = whole @ core.covariance @ whole.T
        core.clones = None
        self._past.clear()
        self._remember()

    def fuse_heading(self, yaw_rad: float, sigma_rad: float) -> None:
        """Heading of the base in the filter's frame; odom's position takes no step from it."""
        jacobian = np.zeros((1, SIZE))
        jacobian[0, 8] = 1.0
        residual = np.array((wrap_angle_rad(yaw_rad - self.core.yaw_rad()),))
        hold = [0, 1, 2] if self._continuous else None
        self.core.update(jacobian, residual, np.array(((sigma_rad**2,),)), hold)

    def fuse_rest(self, rest: RestMeasurement) -> None:
        """At standstill: no velocity, and what an IMU measures then is bias and gravity."""
        core, config = self.core, self._config
        jacobian = np.zeros((3, SIZE))
        jacobian[:, VEL] = np.eye(3)
        core.update(jacobian, -core.velocity, np.eye(3) * 1e-4, self._hold)
        if rest.gyro is None:
            return
        self.fuse_turn_at_rest(rest.gyro, rest.gyro_variance)
        if rest.accel is None:
            return
        jacobian = np.zeros((3, SIZE))
        up = core.rotation[2] * config.gravity_mps2  # specific force at rest
        g = config.gravity_mps2
        jacobian[:, ATT] = core.rotation.T @ np.array(
            ((0.0, -g, 0.0), (g, 0.0, 0.0), (0.0, 0.0, 0.0))
        )
        jacobian[:, ACCEL] = np.eye(3)
        variance = config.accel_noise**2 / rest.span_s + 4e-4
        core.update(jacobian, rest.accel - core.accel_bias - up, np.eye(3) * variance, self._hold)

    def fuse_turn_at_rest(self, gyro: F64, variance: F64 | None) -> None:
        """What a gyro measures at rest is its bias: mean [3] and the mean's own variance [3]."""
        jacobian = np.zeros((3, SIZE))
        jacobian[:, GYRO] = np.eye(3)
        if variance is None:
            variance = np.full(3, self._config.gyro_noise**2)
        own = np.diag(variance + _REST_TURN_RADPS**2)
        self.core.update(jacobian, gyro - self.core.gyro_bias, own, self._hold)

    # ------------------------------------------------------------------------ what it says

    def transform(self) -> RigidTransform:
        """frame_from_base."""
        core = self.core
        if self._owed is None:
            return RigidTransform.trusted(core.rotation, core.position)
        place, turn, _ = self._owed
        rotation = rotation_exp(0.0, 0.0, -turn) @ core.rotation
        return RigidTransform.trusted(rotation, core.position - place)

    def estimate(self, angular: F64 | None, angular_variance: float) -> PoseEstimate:
        """The answer at the filter's stamp. ``angular`` [3] rad/s in base axes as measured."""
        core = self.core
        twist = np.zeros((6, 6))
        twist[:3, :3] = core.body_velocity_covariance()
        twist[3:, 3:] = core.covariance[GYRO, GYRO]
        for k in (3, 4, 5):
            twist[k, k] += angular_variance
        return PoseEstimate(
            stamp_ns=self.stamp_ns,
            frame_id=self.frame_id,
            child_frame_id=self._base,
            frame_from_base=self.transform(),
            linear=core.body_velocity(),
            angular=_NO_TURN if angular is None else angular - core.gyro_bias,
            pose_covariance=core.pose_covariance(),
            twist_covariance=twist,
        )


def _rows(rows: list[int]) -> Rows | None:
    """As an index array, which is twice as fast as a list."""
    return np.array(rows, dtype=np.intp) if rows else None


def _between(
    before: F64, moved_before: F64, after: F64, moved_after: F64, moved: F64, share: float
) -> F64:
    """Between two remembered values [3], each brought up to date by what corrections added."""
    if moved_before is not moved:
        before = before + (moved - moved_before)
    if moved_after is not moved:
        after = after + (moved - moved_after)
    return before + (after - before) * share


def lateral_variance(config: PoseConfig, speed_mps: float) -> float:
    """Variance of sideways and vertical speed of a base that should have none."""
    return config.lateral_sigma_mps**2 + (config.lateral_slip * speed_mps) ** 2
