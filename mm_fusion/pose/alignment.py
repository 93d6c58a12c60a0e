"""How the odometry frame lies in the map: found from fixes and motion, before the global filter.

With wheels the track of the antenna in the odometry frame is laid on the fixes (a rigid motion in
the plane, weighted least squares): wheel speeds carry their sign, so driving backwards is no
trap. Without wheels the course over ground is taken as the heading, which assumes driving
forwards.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mm_fusion.config import PoseConfig
from mm_fusion.geometry import wrap_angle_rad
from mm_fusion.pose.filter import ACCEL, ATT, GYRO, POS, SCALE, SIZE, VEL, ErrorStateFilter
from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]

_WINDOW = 300
_MERGE_M = 0.2
_AT_REST_MPS = 0.1
_JUMP_SIGMAS = 6.0
_JUMP_SCATTERS = 5.0  # as many times what fixes usually jump
_ACCELERATION_DENSITY = 1.0  # (m/s^2)^2/Hz: starts, stops and turns of a vehicle in town


@dataclass(slots=True, eq=False)
class Pair:
    """A fix and where odometry had the antenna then: ``enu`` and ``odom`` [3] m."""

    stamp_ns: int
    enu: F64
    odom: F64
    odom_yaw_rad: float
    variance_m2: float
    variance_z_m2: float
    odometry: bool
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """``map = Rz(yaw) (odom - odom_centre) + map_centre`` with standard deviations.

    ``course_speed_mps`` is None where odometry knows the velocity itself.
    """

    yaw_rad: float
    yaw_sigma_rad: float
    odom_centre: F64
    map_centre: F64
    sigma_m: float
    sigma_z_m: float
    course_speed_mps: float | None = None
    course_speed_sigma_mps: float = 0.0

    def rotation(self) -> F64:
        """map_from_odom's rotation [3,3]."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return np.array(((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)))


class HeadingAlignment:
    """Collects pairs until they tell the heading."""

    def __init__(self, config: PoseConfig) -> None:
        self._config = config
        self._pairs: deque[Pair] = deque(maxlen=_WINDOW)

    def add(self, pair: Pair) -> Alignment | None:
        """The alignment once the vehicle has moved enough for it, else None."""
        if self._pairs and pair.odometry and self._merge(pair):
            return None
        self._pairs.append(pair)
        if all(p.odometry for p in self._pairs):
            return self._fit()
        return self._course()

    def _merge(self, pair: Pair) -> bool:
        """At the same place, fixes are averaged: standing long is no baseline."""
        last = self._pairs[-1]
        if not last.odometry or np.linalg.norm(pair.odom - last.odom) > _MERGE_M:
            return False
        last.count += 1
        last.enu = last.enu + (pair.enu - last.enu) / last.count
        # Errors of a receiver at rest are alike from fix to fix: not below a third of one fix's.
        single = pair.variance_m2
        last.variance_m2 = max(single / last.count, single / 9.0)
        last.variance_z_m2 = max(pair.variance_z_m2 / last.count, pair.variance_z_m2 / 9.0)
        return True

    def _fit(self) -> Alignment | None:
        if len(self._pairs) < 4:
            return None
        odom = np.array([p.odom for p in self._pairs])
        enu = np.array([p.enu for p in self._pairs])
        variance = np.array([p.variance_m2 for p in self._pairs])
        run = _longest_run(odom[:, :2], enu[:, :2], variance)
        odom, enu, variance = odom[run], enu[run], variance[run]
        if len(variance) < 4:
            return None
        extent = float(np.linalg.norm(np.ptp(odom[:, :2], axis=0)))
        # A baseline within the fixes' own error tells no heading, however many they are: their
        # errors are alike.
        if extent < max(self._config.heading_distance_m, 4.0 * math.sqrt(float(variance.min()))):
            return None
        weight = 1.0 / variance
        for _ in range(1 + len(variance) // 5):
            yaw, residual2 = lay(odom[:, :2], enu[:, :2], weight)
            worst = int(np.argmax(residual2 * (weight > 0) / variance))
            if residual2[worst] <= 16.0 * variance[worst]:
                break
            weight[worst] = 0.0
        used = weight > 0
        misfit = max(1.0, float((residual2 * weight).sum()) / max(2.0 * used.sum() - 3.0, 1.0))
        total = float(weight.sum())
        centre = weight @ odom / total
        spread = float((weight * ((odom - centre)[:, :2] ** 2).sum(axis=1)).sum())
        sigma = math.sqrt(misfit / spread) if spread > 0 else math.inf
        if sigma > self._config.heading_sigma_rad:
            return None
        variance_z = np.array([p.variance_z_m2 for p in self._pairs])[run]
        return Alignment(
            yaw_rad=yaw,
            yaw_sigma_rad=sigma,
            odom_centre=centre,
            map_centre=weight @ enu / total,
            sigma_m=math.sqrt(misfit / total),
            sigma_z_m=math.sqrt(float(variance_z[used].mean()) / float(used.sum())),
        )

    def _course(self) -> Alignment | None:
        now = self._pairs[-1]
        for index in range(len(self._pairs) - 2, -1, -1):
            then = self._pairs[index]
            way = now.enu - then.enu
            distance = math.hypot(way[0], way[1])
            sigma_m = math.sqrt(now.variance_m2 + then.variance_m2)
            dt_s = (now.stamp_ns - then.stamp_ns) / NS_PER_S
            if distance < max(self._config.heading_distance_m, 6.0 * sigma_m) or dt_s <= 0:
                continue
            yaws = [p.odom_yaw_rad for p in list(self._pairs)[index:]]
            turned = [wrap_angle_rad(y - yaws[0]) for y in yaws]
            course = math.atan2(way[1], way[0])
            # The course is the mean heading on the way; the gyro says how it was distributed.
            heading = course + turned[-1] - float(np.mean((turned[0], *turned)))
            bend = max(turned) - min(turned)
            return Alignment(
                yaw_rad=wrap_angle_rad(heading - now.odom_yaw_rad),
                yaw_sigma_rad=math.hypot(sigma_m / distance, 0.03 + 0.3 * bend),
                odom_centre=now.odom,
                map_centre=now.enu,
                sigma_m=math.sqrt(now.variance_m2),
                sigma_z_m=math.sqrt(now.variance_z_m2),
                course_speed_mps=distance / dt_s,
                course_speed_sigma_mps=sigma_m / dt_s + 0.2 * distance / dt_s + 0.5,
            )
        return None


def _longest_run(odom: F64, enu: F64, variance: F64) -> slice:
    """The longest run of pairs, places [N,2], in which fixes do not jump: across a jump, which no
    motion explains, they would tell a heading that is none."""
    further = np.linalg.norm(np.diff(enu, axis=0), axis=1)
    further = further - np.linalg.norm(np.diff(odom, axis=0), axis=1)
    sigma = np.sqrt(variance[1:] + variance[:-1])
    reach = np.maximum(_JUMP_SIGMAS * sigma, _JUMP_SCATTERS * float(np.median(np.abs(further))))
    ends = [0, *(np.nonzero(further > reach)[0] + 1).tolist(), len(enu)]
    longest = max(pairwise(ends), key=lambda ends: (ends[1] - ends[0], ends[1]))
    return slice(*longest)


def lay(odom: F64, enu: F64, weight: F64) -> tuple[float, F64]:
    """Yaw that lays ``odom`` [N,2] on ``enu`` [N,2], and squared residuals [N]."""
    total = weight.sum()
    o = odom - weight @ odom / total
    e = enu - weight @ enu / total
    cross = float((weight * (o[:, 0] * e[:, 1] - o[:, 1] * e[:, 0])).sum())
    dot = float((weight * (o * e).sum(axis=1)).sum())
    yaw = math.atan2(cross, dot)
    c, s = math.cos(yaw), math.sin(yaw)
    turned = o @ np.array(((c, s), (-s, c)))
    return yaw, ((e - turned) ** 2).sum(axis=1)


def global_from_local(
    local: ErrorStateFilter, found: Alignment, gravity: float
) -> ErrorStateFilter:
    """The global filter as the alignment and the local filter together say it, with covariance."""
    out = ErrorStateFilter(gravity)
    turn = found.rotation()
    arm = turn @ (local.position - found.odom_centre)
    out.position = found.map_centre + arm
    out.rotation = turn @ local.rotation
    out.gyro_bias = local.gyro_bias.copy()
    out.accel_bias = local.accel_bias.copy()
    out.wheel_scale = local.wheel_scale
    body = local.body_velocity()
    body_cov = local.body_velocity_covariance()
    if found.course_speed_mps is not None:
        body = np.array((found.course_speed_mps, 0.0, 0.0))
        body_cov = np.diag((found.course_speed_sigma_mps**2, 0.25, 0.25))
    out.velocity = out.rotation @ body
    # Errors in independent pieces: centre [3], heading, tilt [2], body velocity [3], scale; the
    # biases keep what the local filter knows about them.
    jacobian = np.zeros((SIZE, 10))
    jacobian[SCALE, 9] = 1.0
    jacobian[POS, 9] = -arm
    jacobian[POS, 0:3] = np.eye(3)
    jacobian[POS, 3] = (-arm[1], arm[0], 0.0)
    jacobian[8, 3] = 1.0
    jacobian[6, 4] = jacobian[7, 5] = 1.0
    jacobian[VEL, 6:9] = out.rotation
    pieces = np.zeros((10, 10))
    pieces[9, 9] = local.covariance[SCALE, SCALE]
    # A wrong scale makes the speed wrong as well, as the local filter knows.
    if found.course_speed_mps is None and pieces[9, 9] > 0:
        slope = local.rotation.T @ local.covariance[VEL, SCALE] / pieces[9, 9]
        jacobian[VEL, 9] = out.rotation @ slope
        body_cov = body_cov - np.outer(slope, slope) * pieces[9, 9]
    pieces[:3, :3] = np.diag((found.sigma_m**2, found.sigma_m**2, found.sigma_z_m**2))
    pieces[3, 3] = found.yaw_sigma_rad**2
    tilt = (turn @ local.covariance[ATT, ATT] @ turn.T)[:2, :2]
    pieces[4:6, 4:6] = tilt
    pieces[6:9, 6:9] = body_cov
    out.covariance = jacobian @ pieces @ jacobian.T
    for block in (GYRO, ACCEL):
        out.covariance[block, block] = local.covariance[block, block]
    return out


class PositionOnly:
    """Where the antenna is as long as nobody knows the heading: fixes, joined by their velocity.

    A Kalman filter on position and velocity [6] (east, north, up; m, m/s) with white acceleration.
    Position alone would lag behind a vehicle that already drives when it starts.
    """

    def __init__(self, enu: F64, covariance: F64, stamp_ns: int, speed_mps: float) -> None:
        self.stamp_ns = stamp_ns
        self._state = np.concatenate([enu, np.zeros(3)])
        self._covariance = np.zeros((6, 6))
        self._covariance[:3, :3] = covariance
        self._covariance[3:, 3:] = np.eye(3) * speed_mps**2

    def at(self, stamp_ns: int) -> tuple[F64, F64]:
        """Position [3] and its covariance [3,3] at this or a later instant."""
        state, covariance = self._predicted(stamp_ns)
        return state[:3], covariance[:3, :3]

    def fuse(self, enu: F64, covariance: F64, stamp_ns: int, at_rest: bool) -> None:
        """Take a fix. ``at_rest``: the wheels say that the vehicle does not move."""
        state, predicted = self._predicted(stamp_ns)
        if at_rest:
            state[3:] = 0.0
            predicted[3:, :] = predicted[:, 3:] = 0.0
            predicted[3:, 3:] = np.eye(3) * _AT_REST_MPS**2
        gain = predicted[:, :3] @ np.linalg.inv(predicted[:3, :3] + covariance)
        self._state = state + gain @ (enu - state[:3])
        keep = np.eye(6)
        keep[:, :3] -= gain
        self._covariance = keep @ predicted @ keep.T + gain @ covariance @ gain.T
        self.stamp_ns = max(stamp_ns, self.stamp_ns)

    def _predicted(self, stamp_ns: int) -> tuple[F64, F64]:
        dt_s = max(0.0, (stamp_ns - self.stamp_ns) / NS_PER_S)
        move = np.eye(6)
        move[:3, 3:] = np.eye(3) * dt_s
        spread = np.array([[dt_s**3 / 3.0, dt_s**2 / 2.0], [dt_s**2 / 2.0, dt_s]])
        noise = np.kron(spread, np.eye(3)) * _ACCELERATION_DENSITY
        return move @ self._state, move @ self._covariance @ move.T + noise


def given_alignment(
    local: ErrorStateFilter, place: F64, yaw_rad: float, variances: F64, floor_m: float
) -> Alignment:
    """What a pose from outside says: ``place`` [3] m, heading, ``variances`` [6] of
    (x y z roll pitch yaw)."""
    floor = floor_m**2
    return Alignment(
        yaw_rad=wrap_angle_rad(yaw_rad - local.yaw_rad()),
        yaw_sigma_rad=max(math.sqrt(float(variances[5])), 1e-3),
        odom_centre=local.position,
        map_centre=np.array(place, dtype=np.float64),
        sigma_m=math.sqrt(0.5 * float(variances[0] + variances[1]) + floor),
        sigma_z_m=math.sqrt(float(variances[2]) + floor),
    )
