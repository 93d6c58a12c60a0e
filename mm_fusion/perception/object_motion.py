"""How tracked objects move, many at a time: turning vehicles, and everything else.

A row is one object. A vehicle has the state (x, y, heading, speed, yaw rate): it goes where it
heads, with constant turn rate and velocity (CTRV; Schubert, Richter and Wanielik, Comparison and
evaluation of advanced motion models for vehicle tracking, FUSION 2008). Anything else has (x, y,
vx, vy, heading) and a constant velocity, whatever it faces. Noise is white acceleration, constant
during a step (Bar-Shalom, Li and Kirubarajan, Estimation with Applications to Tracking and
Navigation, 2001, ch. 6).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.config_objects import TrackerConfig
from mm_fusion.geometry import wrap_angles_rad

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TWO_WHEELERS = frozenset(("motorcycle", "cyclist", "bicycle"))
VEHICLES = TWO_WHEELERS | {
    *("car", "van", "truck", "bus", "trailer", "vehicle", "tram", "train"),
    *("construction_vehicle", "emergency_vehicle"),
}
PEOPLE = frozenset(["pedestrian", "person", "animal", "dog", "horse"])
STATIC = frozenset(
    [
        *("barrier", "traffic_cone", "traffic cone", "cone", "bollard", "post", "pole", "tree"),
        *("traffic_sign", "traffic sign", "stop sign", "sign", "traffic_light", "traffic light"),
        *("fire hydrant", "parking meter", "bench", "bicycle_rack"),
    ]
)

# Columns of the two states.
X, Y = 0, 1
HEADING, SPEED, TURN = 2, 3, 4  # of a vehicle
VX, VY, FACING = 2, 3, 4  # of anything else
STATIC_MPS, STATIC_MPS2 = 0.05, 0.02  # of what is put down somewhere: pushed now and then
SIDESLIP_MPS = 0.3  # how a box's middle creeps aside as more of its vehicle is seen
FACING_SIGMA_RADPS = 0.5
TURN_RADIUS_M = 4.0  # vehicles turn no tighter
TURN_AT_REST_RADPS = 0.05
NEW_TURN_SIGMA_RADPS = 0.3
LAG_GAIN = 0.4
LAG_USUAL = 0.25  # standard deviations by which detections are ahead, or behind, for nothing
QUIET, PUSH, LAG_SLOPE = 0.5, 3.0, 3.0  # factors on the acceleration, and their rise


class Motion(NamedTuple):
    """``state`` [N,5] and its ``covariance`` [N,5,5]; ``vehicle`` [N] tells which state it is."""

    state: F64
    covariance: F64
    vehicle: Bools

    def only(self, rows: I64) -> Motion:
        """Copies of some rows."""
        return Motion(self.state[rows], self.covariance[rows], self.vehicle[rows])

    def put(self, rows: I64, other: Motion) -> None:
        """Overwrite some rows."""
        self.state[rows], self.covariance[rows] = other.state, other.covariance
        self.vehicle[rows] = other.vehicle


def begun(
    position: F64, yaw: F64, velocity: F64, noise: F64, config: TrackerConfig, vehicle: Bools
) -> Motion:
    """The motion of objects seen once: ``noise`` [N,3,3] of (x, y, yaw), ``velocity`` [N,2] the
    best guess of the one that sees them."""
    count = len(position)
    state, covariance = np.zeros((count, 5)), np.zeros((count, 5, 5))
    state[:, :2] = position
    along = velocity[:, 0] * np.cos(yaw) + velocity[:, 1] * np.sin(yaw)
    turning = np.column_stack([yaw, along, np.zeros(count)])
    state[:, 2:] = np.where(vehicle[:, None], turning, np.column_stack([velocity, yaw]))
    facing = np.where(vehicle, HEADING, FACING)
    rows = np.arange(count)
    covariance[:, :2, :2] = noise[:, :2, :2]
    variance = np.where(vehicle, config.vehicle_velocity_sigma_mps, config.velocity_sigma_mps) ** 2
    covariance[:, 3, 3] = variance
    covariance[rows, np.where(vehicle, TURN, VX), np.where(vehicle, TURN, VX)] = np.where(
        vehicle, NEW_TURN_SIGMA_RADPS**2, variance
    )
    covariance[rows, facing, facing] = noise[:, 2, 2]
    return Motion(state, covariance, vehicle)


def at_rest(motion: Motion, rows: I64) -> None:
    """Take some of what does not turn for things that stand, in place."""
    motion.state[rows, VX : VY + 1] = 0.0
    for axis in (VX, VY):
        motion.covariance[rows, axis, axis] = STATIC_MPS**2


def unknown_speed(motion: Motion, sigma_mps: float) -> None:
    """Believe the velocities of what does not turn to no more than ``sigma_mps``, in place."""
    for axis in (VX, VY):
        variance = motion.covariance[:, axis, axis]
        motion.covariance[:, axis, axis] = np.where(
            motion.vehicle, variance, np.maximum(variance, sigma_mps**2)
        )


def predicted(motion: Motion, dt: float, acceleration: F64, config: TrackerConfig) -> Motion:
    """The motion ``dt`` seconds on; ``acceleration`` [N] its deviation, m/s^2."""
    state, covariance, vehicle = motion
    f = np.broadcast_to(np.eye(5), covariance.shape).copy()
    q = np.zeros_like(covariance)
    after = state.copy()
    a, b = np.flatnonzero(vehicle), np.flatnonzero(~vehicle)
    if len(a):
        _turn(a, dt, state, after, f)
        _shake_vehicles(a, dt, after, acceleration, config, q)
    if len(b):
        after[b, :2] += state[b, VX : VY + 1] * dt
        f[b, X, VX] = f[b, Y, VY] = dt
        variance = acceleration[b] ** 2
        for place, speed in ((X, VX), (Y, VY)):
            q[b, place, place] = variance * dt**4 / 4.0
            q[b, place, speed] = q[b, speed, place] = variance * dt**3 / 2.0
            q[b, speed, speed] = variance * dt**2
        q[b, FACING, FACING] = FACING_SIGMA_RADPS**2 * dt
    return Motion(after, f @ covariance @ f.transpose(0, 2, 1) + q, vehicle)


def _turn(rows: I64, dt: float, state: F64, after: F64, f: F64) -> None:
    """Along an arc: a chord in the mean direction."""
    heading, speed, turn = state[rows, HEADING], state[rows, SPEED], state[rows, TURN]
    middle = heading + turn * dt / 2.0
    chord = dt * np.sinc(turn * dt / (2.0 * np.pi))
    c, s = np.cos(middle), np.sin(middle)
    after[rows, X] += speed * chord * c
    after[rows, Y] += speed * chord * s
    after[rows, HEADING] += turn * dt
    f[rows, X, HEADING], f[rows, Y, HEADING] = -speed * chord * s, speed * chord * c
    f[rows, X, SPEED], f[rows, Y, SPEED] = chord * c, chord * s
    f[rows, X, TURN] = -speed * chord * s * dt / 2.0
    f[rows, Y, TURN] = speed * chord * c * dt / 2.0
    f[rows, HEADING, TURN] = dt


def _shake_vehicles(
    rows: I64, dt: float, after: F64, acceleration: F64, config: TrackerConfig, q: F64
) -> None:
    heading = after[rows, HEADING]
    push = np.zeros((len(rows), 5))
    push[:, X], push[:, Y] = np.cos(heading) * dt * dt / 2.0, np.sin(heading) * dt * dt / 2.0
    push[:, SPEED] = dt
    push *= acceleration[rows, None]
    twist = np.zeros(5)
    twist[HEADING], twist[TURN] = dt * dt / 2.0, dt
    twist *= config.turn_acceleration_radps2
    q[rows] = push[:, :, None] * push[:, None, :] + twist[:, None] * twist
    q[rows, X, X] += (SIDESLIP_MPS**2) * dt * dt
    q[rows, Y, Y] += (SIDESLIP_MPS**2) * dt * dt


def ahead(motion: Motion, position: F64, noise: F64) -> F64:
    """How far along its heading each vehicle was seen from where it was expected [N], in standard
    deviations of that; 0 of what is no vehicle."""
    state, covariance, vehicle = motion
    along = _columns(np.cos(state[:, HEADING]), np.sin(state[:, HEADING]))
    off = np.einsum("ni,ni->n", along, position - state[:, :2])
    spread = covariance[:, :2, :2] + noise[:, :2, :2]
    return np.where(vehicle, off / np.sqrt(np.einsum("ni,nij,nj->n", along, spread, along)), 0.0)


def pushed(vehicle: Bools, lag: F64) -> F64:
    """Factors [N] on accelerations: vehicles keep their speed most of the time; one that is ever
    ahead of its track, or behind it, does not."""
    factor = np.clip(QUIET + (np.abs(lag) - LAG_USUAL) * LAG_SLOPE, QUIET, PUSH)
    return np.where(vehicle, factor, 1.0)


def corrected(motion: Motion, position: F64, yaw: F64, noise: F64) -> Motion:
    """The motion after a box at ``position`` [N,2] with ``yaw`` [N] was seen, ``noise`` [N,3,3].

    A detector sees a box's axis well and its sense badly: of both senses the nearer is meant.
    Kalman's equations in Joseph's form, which keeps covariances symmetric and positive.
    """
    state, covariance, vehicle = motion
    rows = np.arange(len(state))
    facing = np.where(vehicle, HEADING, FACING)
    h = np.zeros((len(state), 3, 5))
    h[:, 0, X] = h[:, 1, Y] = 1.0
    h[rows, 2, facing] = 1.0
    off = np.empty((len(state), 3))
    off[:, :2], off[:, 2] = position - state[:, :2], folded(yaw - state[rows, facing])
    cross = covariance @ h.transpose(0, 2, 1)
    gain = cross @ np.linalg.inv(h @ cross + noise)
    state = state + np.einsum("nij,nj->ni", gain, off)
    keep = np.eye(5) - gain @ h
    covariance = keep @ covariance @ keep.transpose(0, 2, 1)
    covariance += gain @ noise @ gain.transpose(0, 2, 1)
    return Motion(state, covariance, vehicle)


def steadied(motion: Motion) -> Motion:
    """Vehicles turn no tighter than they can, and not at all at rest: one more measurement of the
    yaw rate, of zero, as sure as the speed makes it."""
    state, covariance, vehicle = motion
    limit = TURN_AT_REST_RADPS + np.abs(state[:, SPEED]) / TURN_RADIUS_M
    column = covariance[:, :, TURN]
    gain = np.where(vehicle, 1.0, 0.0)[:, None] * column
    gain = gain / (column[:, TURN] + limit**2)[:, None]
    state = state - gain * state[:, TURN, None]
    covariance = covariance - gain[:, :, None] * column[:, None, :]
    return Motion(state, covariance, vehicle)


def turned_about(motion: Motion, rows: I64) -> None:
    """Those whose front was taken for their back, in place: the same motion, seen rightly."""
    state, covariance, vehicle = motion
    state[rows, np.where(vehicle, HEADING, FACING)[rows]] += np.pi
    vehicles = rows[vehicle[rows]]
    state[vehicles, SPEED] *= -1.0
    covariance[vehicles, SPEED, :] *= -1.0
    covariance[vehicles, :, SPEED] *= -1.0


def folded(angle: F64) -> F64:
    """Angles to within a quarter turn, front and back taken for the same."""
    return np.asarray((angle + np.pi / 2.0) % np.pi - np.pi / 2.0)


def headings(motion: Motion) -> F64:
    """Headings [N] rad, -pi..pi."""
    facing = np.where(motion.vehicle, HEADING, FACING)
    return wrap_angles_rad(motion.state[np.arange(len(facing)), facing])


def velocities(motion: Motion) -> F64:
    """Velocities [N,2] m/s in the tracks' frame."""
    state = motion.state
    heading, speed = state[:, HEADING], state[:, SPEED]
    along = _columns(speed * np.cos(heading), speed * np.sin(heading))
    return np.where(motion.vehicle[:, None], along, state[:, VX : VY + 1])


def cartesian(motion: Motion) -> F64:
    """Covariances [N,6,6] of (x, y, vx, vy, yaw, yaw rate). Of the yaw rate of what is no vehicle
    nothing is known, which ``UNKNOWN_TURN`` says."""
    state, covariance, vehicle = motion
    jacobian = np.zeros((len(state), 6, 5))
    jacobian[:, 0, X] = jacobian[:, 1, Y] = 1.0
    a, b = np.flatnonzero(vehicle), np.flatnonzero(~vehicle)
    c, s, speed = np.cos(state[a, HEADING]), np.sin(state[a, HEADING]), state[a, SPEED]
    jacobian[a, 2, HEADING], jacobian[a, 2, SPEED] = -speed * s, c
    jacobian[a, 3, HEADING], jacobian[a, 3, SPEED] = speed * c, s
    jacobian[a, 4, HEADING] = jacobian[a, 5, TURN] = 1.0
    jacobian[b, 2, VX] = jacobian[b, 3, VY] = jacobian[b, 4, FACING] = 1.0
    out = jacobian @ covariance @ jacobian.transpose(0, 2, 1)
    out[b, 5, 5] = UNKNOWN_TURN
    return np.asarray(out)


UNKNOWN_TURN = 1e3  # (rad/s)^2


def turns(motion: Motion) -> F64:
    """Yaw rates [N] rad/s; 0 of what is no vehicle."""
    return np.where(motion.vehicle, motion.state[:, TURN], 0.0)


def reconsidered(motion: Motion, vehicle: Bools, doubt_mps: float) -> Motion:
    """The same motion with other rows taken for vehicles, and its velocities doubted."""
    found = cartesian(motion)
    found[:, (2, 3), (2, 3)] += doubt_mps**2
    velocity, yaw = velocities(motion), headings(motion)
    state = np.column_stack([motion.state[:, :2], velocity, yaw])
    covariance = found[:, :5, :5].copy()
    a = np.flatnonzero(vehicle)
    if len(a):
        c, s = np.cos(yaw[a]), np.sin(yaw[a])
        jacobian = np.zeros((len(a), 5, 6))
        jacobian[:, X, 0] = jacobian[:, Y, 1] = jacobian[:, HEADING, 4] = 1.0
        jacobian[:, SPEED, 2], jacobian[:, SPEED, 3] = c, s
        was = motion.vehicle[a]
        jacobian[was, TURN, 5] = 1.0
        state[a, 2:] = np.column_stack(
            [yaw[a], velocity[a, 0] * c + velocity[a, 1] * s, turns(motion)[a]]
        )
        covariance[a] = jacobian @ found[a] @ jacobian.transpose(0, 2, 1)
        covariance[a[~was], TURN, TURN] = NEW_TURN_SIGMA_RADPS**2
    return Motion(state, covariance, vehicle.copy())


def moved(motion: Motion, yaw: float) -> Motion:
    """The motion in axes turned by ``yaw``; places are moved by the caller."""
    state, covariance, vehicle = motion
    rotation = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    turn = np.broadcast_to(np.eye(5), covariance.shape).copy()
    turn[:, :2, :2] = rotation
    other = np.flatnonzero(~vehicle)
    turn[other, VX : VY + 1, VX : VY + 1] = rotation
    state = state.copy()
    state[other, VX : VY + 1] = state[other, VX : VY + 1] @ rotation.T
    state[np.arange(len(state)), np.where(vehicle, HEADING, FACING)] += yaw
    return Motion(state, turn @ covariance @ turn.transpose(0, 2, 1), vehicle)


def _columns(first: F64, second: F64) -> F64:
    out = np.empty((len(first), 2))
    out[:, 0], out[:, 1] = first, second
    return out
