"""The error-state Kalman filter: position, velocity, attitude, IMU biases, wheel scale, GPS bias.

Nominal state: ``position`` and ``velocity`` of the base origin in the filter's frame,
``rotation`` frame_from_base, ``gyro_bias`` and ``accel_bias`` in base axes, ``wheel_scale`` s
(wheels report (1 + s) times the true forward speed), ``gps_bias`` the slow part [2] of the fixes'
error, east and north. The error state has 18 elements in that order. The attitude error is a
small rotation in the filter's own axes, ``R_true = Exp(e_att) R``, so that heading error is its
third element whatever the attitude is. The velocity error is what
is left when the velocity is turned along with the attitude, ``v_true = Exp(e_att) v + e_vel``:
body velocity then depends on it alone, and velocities measured on the vehicle cannot pretend to
know its heading (with the plain difference they do, each by a little, until the filter is sure
of a wrong heading).

After J. Sola, "Quaternion kinematics for the error-state Kalman filter" (2017), chapter 7
(globally defined angular errors), with the velocity error of A. Barrau and S. Bonnabel, "The
invariant extended Kalman filter as a stable observer" (2017). Covariance updates are in Joseph
form.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dposv

from mm_fusion.geometry import RigidTransform, rotation_exp, skew
from mm_fusion.pose.clones import POSE, Clones

F64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

SIZE = 18
POS = slice(0, 3)
VEL = slice(3, 6)
ATT = slice(6, 9)
GYRO = slice(9, 12)
ACCEL = slice(12, 15)
SCALE = 15
BIAS = slice(16, 18)
_POSE_ROWS = [0, 1, 2, 6, 7, 8]
_POSE_FLAT = np.add.outer(np.array(_POSE_ROWS) * SIZE, _POSE_ROWS)

_DIAGONAL = slice(0, SIZE * SIZE, SIZE + 1)  # of a covariance, laid out flat
_FROM_GYRO_ON = slice(GYRO.start * (SIZE + 1), SIZE * SIZE, SIZE + 1)

_IDENTITY = np.eye(SIZE)
_I3 = np.eye(3)
_ALL = np.ones(SIZE * SIZE)


class ErrorStateFilter:
    """One filter in one frame. It knows no stamps and no sensors, only steps and measurements."""

    def __init__(self, gravity_mps2: float) -> None:
        self.position: F64 = np.zeros(3)
        self.velocity: F64 = np.zeros(3)
        self.rotation: F64 = np.eye(3)
        self.gyro_bias: F64 = np.zeros(3)
        self.accel_bias: F64 = np.zeros(3)
        self.wheel_scale = 0.0
        self.gps_bias: F64 = np.zeros(2)
        self.covariance: F64 = np.zeros((SIZE, SIZE))
        # What corrections have added so far: lets a past state be brought up to date.
        self.position_moved: F64 = np.zeros(3)
        self.velocity_moved: F64 = np.zeros(3)
        self.rotation_moved: F64 = np.eye(3)
        self.clones: Clones | None = None
        self._gravity = gravity_mps2
        self._by_imu: F64 = np.eye(SIZE)
        self._by_twist: F64 = np.eye(SIZE)
        self._by_twist[VEL, VEL] = 0.0
        self._weights: F64 = np.zeros(6)
        self._steps = 0

    # ------------------------------------------------------------------------ time passes

    def propagate_imu(self, gyro: F64, accel: F64, dt_s: float, noise: F64) -> None:
        """A step by inertial measurement: ``gyro`` rad/s and specific force ``accel`` [3] in base
        axes, taken as constant over ``dt_s``. ``noise`` [18] is added to the variances; velocity
        and attitude take that of their first axis for all three.
        """
        half_s = 0.5 * dt_s
        wx, wy, wz = (gyro - self.gyro_bias).tolist()
        half_turn = rotation_exp(wx * half_s, wy * half_s, wz * half_s)
        middle = self.rotation.dot(half_turn)
        ax, ay, az = middle.dot(accel - self.accel_bias).tolist()
        az -= self._gravity
        px, py, pz = self.position.tolist()
        vx, vy, vz = self.velocity.tolist()
        self.velocity = np.array((vx + ax * dt_s, vy + ay * dt_s, vz + az * dt_s))
        dx, dy, dz = (
            (vx + ax * half_s) * dt_s,
            (vy + ay * half_s) * dt_s,
            (vz + az * half_s) * dt_s,
        )
        self.position = np.array((px + dx, py + dy, pz + dz))
        self.rotation = middle.dot(half_turn)

        phi, tilt = self._by_imu, self._gravity * dt_s
        cross = np.array(((0.0, dz, -dy), (-dz, 0.0, dx), (dy, -dx, 0.0)))  # -[way]x
        turned = np.multiply(middle, -dt_s, phi[ATT, GYRO])
        phi[0, 3] = phi[1, 4] = phi[2, 5] = dt_s
        phi[3, 7], phi[4, 6] = tilt, -tilt
        phi[POS, ATT] = cross
        phi[VEL, GYRO] = cross.dot(middle)
        phi[VEL, ACCEL] = turned
        np.multiply(turned, half_s, phi[POS, ACCEL])
        # Noise drives the state where the biases do: a gyro's turns the velocity as well.
        weights = self._weights
        weights[:3], weights[3:] = math.sqrt(noise[6]) / dt_s, math.sqrt(noise[3]) / dt_s
        driven = phi[0:9, 9:15] * weights
        self._spread(phi)
        self.covariance[0:9, 0:9] += driven.dot(driven.T)
        self.covariance.reshape(-1)[_FROM_GYRO_ON] += noise[9:]

    def propagate_twist(
        self,
        linear: F64,
        linear_now: F64,
        angular: F64,
        dt_s: float,
        linear_var: F64,
        noise: F64,
    ) -> None:
        """A step by measured body velocity: ``linear`` m/s and ``angular`` rad/s [3], in base axes.

        ``linear`` is the mean over the step, ``linear_now`` the one at its end, which replaces the
        velocity; ``linear_var`` [3] are its variances. ``noise`` [18] is added to the variances.
        """
        body = linear / (1.0 + self.wheel_scale)
        wx, wy, wz = (0.5 * dt_s * (angular - self.gyro_bias)).tolist()
        half_turn = rotation_exp(wx, wy, wz)
        middle = self.rotation @ half_turn
        velocity = middle @ body
        self.position = self.position + velocity * dt_s
        self.rotation = middle @ half_turn
        self.velocity = self.rotation @ (linear_now / (1.0 + self.wheel_scale))

        phi = self._by_twist
        phi[POS, ATT] = skew(velocity) * -dt_s
        phi[ATT, GYRO] = middle * -dt_s
        slower = velocity / -(1.0 + self.wheel_scale)
        phi[VEL, SCALE] = self.velocity / -(1.0 + self.wheel_scale)
        phi[POS, SCALE] = slower * dt_s
        self._spread(phi)
        self.covariance.reshape(-1)[_DIAGONAL] += noise
        spread = (middle * linear_var) @ middle.T
        self.covariance[VEL, VEL] += spread
        self.covariance[POS, POS] += spread * (dt_s * dt_s)
        self.covariance[POS, VEL] += spread * dt_s
        self.covariance[VEL, POS] += spread * dt_s

    def coast(self, dt_s: float, accel_var: float, turn_var: float) -> None:
        """A step without measurement: the velocity is held, uncertain by accelerations of density
        ``accel_var`` (m/s^2)^2/Hz, and the heading by turns of density ``turn_var`` rad^2/s.
        """
        self.position = self.position + self.velocity * dt_s
        phi = _IDENTITY.copy()
        phi[POS, VEL] = _I3 * dt_s
        phi[POS, ATT] = skew(self.velocity) * -dt_s
        noise = np.zeros(SIZE)
        noise[POS] = accel_var * dt_s**3 / 3.0
        noise[VEL] = accel_var * dt_s
        noise[8] = turn_var * dt_s
        self._spread(phi)
        self.covariance.reshape(-1)[_DIAGONAL] += noise

    def stand(self, noise: F64) -> None:
        """A step at standstill: pose held, only ``noise`` [18] is added to the variances."""
        self.velocity = np.zeros(3)
        self.covariance.reshape(-1)[_DIAGONAL] += noise

    def relax_gps_bias(self, dt_s: float, variance: float, tau_s: float) -> None:
        """The fixes' slow error goes its own way: a Gauss-Markov process of stationary ``variance``
        m^2 that forgets in ``tau_s``.
        """
        keep = math.exp(-dt_s / tau_s)
        self.gps_bias = self.gps_bias * keep
        cov = self.covariance
        cov[BIAS, :] *= keep
        cov[:, BIAS] *= keep
        if self.clones is not None:
            self.clones.cross[BIAS] *= keep
        spread = variance * (1.0 - keep * keep)
        cov[16, 16] += spread
        cov[17, 17] += spread

    def doubt_fixes(self, past: float, present: float) -> None:
        """Their slow error turns out larger than thought, by variances in m^2: ``past`` of it went
        into the position unseen, which is then off by just as much the other way; ``present`` is
        new.
        """
        cov, clones = self.covariance, self.clones
        if clones is not None:
            shared = np.zeros(SIZE)
            shared[:2] = past
            clones.common_doubt(shared, self.position)
            for k in (0, 1):
                clones.cross[16 + k, k::POSE] -= past
        for k in (0, 1):
            cov[k, k] += past
            cov[16 + k, 16 + k] += past + present
            cov[k, 16 + k] -= past
            cov[16 + k, k] -= past

    def doubt(self, variance: F64) -> None:
        """Something unseen has gone wrong by ``variance`` [18]: where it is place or heading, the
        way to here has gone wrong along with it."""
        if self.clones is not None:
            self.clones.common_doubt(variance, self.position)
        self.covariance.reshape(-1)[_DIAGONAL] += variance

    def _spread(self, phi: F64) -> None:
        # ``dot`` costs a third of what ``@`` does for matrices as small as these.
        self.covariance = phi.dot(self.covariance).dot(phi.T)
        if self.clones is not None:
            self.clones.cross = phi @ self.clones.cross
        self._steps += 1
        if self._steps % 256 == 0:
            self._orthonormalize()

    def _orthonormalize(self) -> None:
        u, _, vt = np.linalg.svd(self.rotation)
        self.rotation = u @ vt
        self.covariance = 0.5 * (self.covariance + self.covariance.T)

    # ------------------------------------------------------------------------ measurements

    def innovation(self, jacobian: F64, residual: F64, variance: F64) -> tuple[float, F64]:
        """Squared Mahalanobis distance of ``residual`` [m] and its covariance [m,m]."""
        s = jacobian @ self.covariance @ jacobian.T + variance
        return float(residual @ np.linalg.solve(s, residual)), s

    def update(
        self, jacobian: F64, residual: F64, variance: F64, hold: Rows | list[int] | None = None
    ) -> None:
        """Fuse a measurement: ``residual`` [m] = measured - predicted, ``jacobian`` [m,18] of the
        prediction, ``variance`` [m,m]. The elements of the error state in ``hold`` take
        no correction (and the covariance knows: Joseph's form holds for any gain).
        """
        covariance = self.covariance
        carried = covariance.dot(jacobian.T)
        spread = jacobian.dot(carried) + variance
        gain = _solved(spread, carried)
        if hold is not None:
            gain[hold] = 0.0
        keep = _IDENTITY - gain.dot(jacobian)
        if self.clones is not None:
            self._teach_clones(jacobian, residual, variance, spread, carried, gain, keep, hold)
        self._inject(gain.dot(residual))
        cov = keep.dot(covariance).dot(keep.T)
        cov += gain.dot(variance).dot(gain.T)
        cov += cov.T
        cov *= 0.5
        self.covariance = cov

    def _teach_clones(
        self,
        jacobian: F64,
        residual: F64,
        variance: F64,
        spread: F64,
        carried: F64,
        gain: F64,
        keep: F64,
        hold: Rows | list[int] | None,
    ) -> None:
        clones = self.clones
        assert clones is not None
        theirs = clones.cross.T @ jacobian.T
        learned = _solved(spread, theirs)
        for n, row in enumerate(_POSE_ROWS):
            if hold is not None and row in hold:
                learned[n::POSE] = 0.0
        clones.correct(learned @ residual)
        told = learned @ theirs.T
        own = clones.own - told - told.T + learned @ spread @ learned.T
        clones.own = 0.5 * (own + own.T)
        clones.cross = keep @ (clones.cross - carried @ learned.T) + gain @ variance @ learned.T

    # ------------------------------------------------------------- motion between instants

    def remember_pose(self, key: int) -> None:
        """Keep a copy of the present pose under ``key``."""
        if self.clones is None:
            self.clones = Clones(SIZE)
        self.clones.add(key, self.position, self.rotation, self.covariance, _POSE_ROWS)

    def knows_poses(self, first: int, second: int) -> bool:
        """Whether both copies are there."""
        return self.clones is not None and {first, second} <= set(self.clones.keys)

    def motion_test(
        self, first: int, second: int, motion: RigidTransform, directions: F64, variance: F64
    ) -> tuple[F64, F64, float]:
        """A measured ``motion`` from one copy to another, of which ``directions`` [r,6] are known
        (translation in the first's axes, rotation in the second's) with ``variance`` [r,r].

        Answers the residual [r], the Jacobian [r,6n] and the squared Mahalanobis distance.
        """
        assert self.clones is not None
        predicted, jacobian = self.clones.relative(first, second)
        off = predicted.rotation.T @ motion.rotation
        turned = 0.5 * np.array(
            (off[2, 1] - off[1, 2], off[0, 2] - off[2, 0], off[1, 0] - off[0, 1])
        )
        moved = motion.translation - predicted.translation
        residual = directions @ np.concatenate([moved, turned])
        jacobian = directions @ jacobian
        spread = jacobian @ self.clones.own @ jacobian.T + variance
        return residual, jacobian, float(residual @ np.linalg.solve(spread, residual))

    def update_motion(self, jacobian: F64, residual: F64, variance: F64, hold: list[int]) -> None:
        """Fuse a motion between copies: ``jacobian`` [m,6n] is of their errors; ``hold`` as in
        ``update``."""
        clones = self.clones
        assert clones is not None
        # As one state with the copies, in Joseph's form: what rounding leaves of a difference
        # between a fresh copy and the pose it was made of would grow from sweep to sweep.
        joint = np.block([[self.covariance, clones.cross], [clones.cross.T, clones.own]])
        whole = np.hstack([np.zeros((len(jacobian), SIZE)), jacobian])
        carried = joint @ whole.T
        gain = carried @ np.linalg.inv(whole @ carried + variance)
        gain[hold] = 0.0
        keep = np.eye(len(joint)) - gain @ whole
        joint = keep @ joint @ keep.T + gain @ variance @ gain.T
        joint = 0.5 * (joint + joint.T)
        self.covariance = joint[:SIZE, :SIZE]
        clones.cross, clones.own = joint[:SIZE, SIZE:], joint[SIZE:, SIZE:]
        error = gain @ residual
        clones.correct(error[SIZE:])
        self._inject(error[:SIZE])

    def _inject(self, error: F64) -> None:
        x, y, z = error[ATT].tolist()
        turn = rotation_exp(x, y, z)
        moved, velocity = error[POS], turn.dot(self.velocity) + error[VEL]
        self.position = self.position + moved
        self.position_moved = self.position_moved + moved
        self.velocity_moved = self.velocity_moved + (velocity - self.velocity)
        self.velocity = velocity
        self.rotation = turn.dot(self.rotation)
        self.rotation_moved = turn.dot(self.rotation_moved)
        self.gyro_bias = self.gyro_bias + error[GYRO]
        self.accel_bias = self.accel_bias + error[ACCEL]
        self.wheel_scale += error.item(SCALE)
        self.gps_bias = self.gps_bias + error[BIAS]

    def turn(self, angle_rad: float) -> None:
        """Turn attitude and velocity about the vertical."""
        turn = rotation_exp(0.0, 0.0, angle_rad)
        if self.clones is not None:
            self.clones.turn(turn, self.position)
        velocity = turn @ self.velocity
        self.velocity_moved = self.velocity_moved + (velocity - self.velocity)
        self.velocity, self.rotation = velocity, turn @ self.rotation
        self.rotation_moved = turn @ self.rotation_moved

    # ------------------------------------------------------------------------ what it says

    def body_velocity(self) -> F64:
        """Velocity of the base origin in base axes, m/s [3]."""
        return self.velocity.dot(self.rotation)

    def body_velocity_jacobian(self) -> F64:
        """Jacobian [3,18] of the velocity in base axes."""
        jacobian = np.zeros((3, SIZE))
        jacobian[:, VEL] = self.rotation.T
        return jacobian

    def pose_covariance(self) -> F64:
        """[6,6] of (x y z, rotation about the frame's x y z)."""
        return self.covariance.take(_POSE_FLAT)

    def body_velocity_covariance(self) -> F64:
        """[3,3] of the velocity in base axes."""
        return self.rotation.T.dot(self.covariance[VEL, VEL]).dot(self.rotation)

    def is_finite(self) -> bool:
        """Whether place and covariance are numbers."""
        total = self.covariance.reshape(-1).dot(_ALL).item()
        return math.isfinite(total + sum(self.position.tolist()))

    def yaw_rad(self) -> float:
        """Heading of the base's x axis in the filter's frame."""
        return math.atan2(self.rotation[1, 0], self.rotation[0, 0])


def _solved(spread: F64, carried: F64) -> F64:
    """``carried`` [n,m] times the inverse of ``spread`` [m,m], symmetric and positive definite."""
    _, out, failed = dposv(spread, carried.T)
    if failed:  # by numbers that are none: they go on, and the filter's owner notices
        return np.asarray(carried @ np.linalg.inv(spread))
    return np.asarray(out.T)
