"""What is let in: stamps, fixes as such, and fixes against the filter. Refusals are typed."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mm_fusion.config import PoseConfig
from mm_fusion.geodesy import LocalTangentPlane, is_place
from mm_fusion.samples import NS_PER_S, CovarianceType, GnssFix, Reason, Rejection

F64 = npt.NDArray[np.float64]

# A chi-square variable of 1, 2, 3 degrees of freedom exceeds these once in a thousand times.
CHI2_999 = {1: 10.828, 2: 13.816, 3: 16.266}
# Five sigma: wheels are the backbone, only gross slip is refused.
SLIP_GATE = 25.0

_MAX_VARIANCE_M2 = 1e6  # a fix worse than a kilometre says nothing
# Of an error nobody states, by sensor_msgs/NavSatStatus: corrections from satellites (SBAS) leave
# about half of it, those of a station near by (GBAS) about a quarter.
_BY_STATUS = {1: 0.5, 2: 0.25}
_CONFIRMATIONS = 3
_ACCELERATION_MPS2 = 3.0
LONG_ALONE_S = 30.0


class StampGate:
    """Refuses stamps that cannot be: zero, seen already, out of order, or jumped.

    A jump in time (a looped bag, a clock step) is believed when three stamps in a row agree on
    it; until then, and for the odd corrupt stamp, the sample is refused. A sensor that goes on from
    its own last stamp has not jumped when the others are far ahead of it: its messages are late.
    """

    def __init__(self, time_jump_s: float) -> None:
        self._jump_ns = int(time_jump_s * NS_PER_S)
        # Sensors may well be silent for some seconds; forward, only much more is a jump.
        self._leap_ns = max(10 * self._jump_ns, 10 * NS_PER_S)
        self._latest_ns = 0
        self._by_sensor: dict[str, int] = {}
        self._jumped: list[int] = []
        self.jumps = 0

    def check(self, sensor: str, stamp_ns: int) -> Rejection | None:
        """The reason against this stamp, or None. ``jumps`` counts jumps that were believed."""
        if stamp_ns <= 0:
            return Rejection(sensor, stamp_ns, Reason.ZERO_STAMP, "the stamp is not set")
        ahead = stamp_ns - self._latest_ns
        previous = self._by_sensor.get(sensor, 0)
        if self._latest_ns and not -self._jump_ns <= ahead <= self._leap_ns:
            if 0 < previous < stamp_ns and ahead < 0:
                self._by_sensor[sensor] = stamp_ns
                behind = f"{-ahead / NS_PER_S:.3f} s behind the latest stamp: held up on the way"
                return Rejection(sensor, stamp_ns, Reason.LATE, behind)
            return self._suspect(sensor, stamp_ns, ahead)
        self._jumped.clear()
        if stamp_ns == previous:
            return Rejection(sensor, stamp_ns, Reason.DUPLICATE, "same stamp as the one before")
        if stamp_ns < previous:
            late_s = (previous - stamp_ns) / NS_PER_S
            return Rejection(
                sensor, stamp_ns, Reason.OUT_OF_ORDER, f"{late_s:.3f} s before its predecessor"
            )
        self._by_sensor[sensor] = stamp_ns
        self._latest_ns = max(self._latest_ns, stamp_ns)
        return None

    def _suspect(self, sensor: str, stamp_ns: int, ahead: int) -> Rejection:
        detail = f"{ahead / NS_PER_S:+.3f} s from the latest stamp"
        if self._jumped and abs(stamp_ns - self._jumped[-1]) > self._jump_ns:
            self._jumped.clear()
        self._jumped.append(stamp_ns)
        if len(self._jumped) >= _CONFIRMATIONS:
            self.jumps += 1
            self._jumped.clear()
            # A leap ahead leaves the others' own stamps behind it as they were.
            self._by_sensor = {s: n for s, n in self._by_sensor.items() if n <= stamp_ns}
            self._latest_ns = stamp_ns
            detail += "; believed, everything starts anew"
        return Rejection(sensor, stamp_ns, Reason.TIME_JUMP, detail)


@dataclass(frozen=True, slots=True, eq=False)
class GoodFix:
    """A fix that makes sense in itself. ``covariance`` [3,3] m^2 east-north-up.

    ``has_height`` is False where the receiver gave none; ``altitude_m`` is then 0.
    """

    sensor: str
    stamp_ns: int
    frame_id: str
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    covariance: F64
    has_height: bool
    assumed: str = ""  # what had to be assumed about it, in words


def screen_fix(fix: GnssFix, config: PoseConfig) -> GoodFix | Rejection:
    """The fix with a usable covariance, or the reason against it."""

    def refuse(reason: Reason, detail: str) -> Rejection:
        return Rejection(fix.sensor, fix.stamp_ns, reason, detail)

    if fix.status < 0:
        return refuse(Reason.NO_FIX, f"receiver status {fix.status}")
    latitude, longitude = float(fix.latitude_deg), float(fix.longitude_deg)
    if not is_place(latitude, longitude):
        return refuse(Reason.OUT_OF_RANGE, f"no place on earth: {latitude}, {longitude}")
    if latitude == 0.0 and longitude == 0.0:
        return refuse(Reason.OUT_OF_RANGE, "latitude and longitude are exactly zero")
    altitude = float(fix.altitude_m)
    has_height = math.isfinite(altitude) and -1e4 < altitude < 1e5
    covariance, assumed, bad = _fix_covariance(fix, config)
    if bad:
        return refuse(Reason.BAD_COVARIANCE, bad)
    return GoodFix(
        fix.sensor,
        fix.stamp_ns,
        fix.frame_id,
        latitude,
        longitude,
        altitude if has_height else 0.0,
        covariance,
        has_height,
        assumed,
    )


def _fix_covariance(fix: GnssFix, config: PoseConfig) -> tuple[F64, str, str]:
    """Covariance, what was assumed, and what is wrong (then the covariance means nothing)."""
    sigma_m = config.gps_sigma_m * _BY_STATUS.get(fix.status, 1.0)
    default: F64 = np.diag((np.array((1.0, 1.0, 2.0)) * sigma_m) ** 2)
    given = np.asarray(fix.covariance, dtype=np.float64)
    if fix.covariance_type == CovarianceType.UNKNOWN:
        return default, f"covariance unknown, {sigma_m:g} m per axis assumed", ""
    if not np.isfinite(given).all():
        return default, "", "covariance is not finite"
    diagonal = np.diagonal(given)
    if (diagonal < 0).any() or diagonal.max() > _MAX_VARIANCE_M2:
        return default, "", f"variances {diagonal.tolist()} m^2 are impossible"
    if (diagonal[:2] == 0).any():
        return default, f"covariance of zeros, {sigma_m:g} m per axis assumed", ""
    if fix.covariance_type != CovarianceType.KNOWN:
        given = np.diag(diagonal)
    out = 0.5 * (given + given.T)
    if out[2, 2] == 0:
        out[2, 2] = default[2, 2]
    if np.linalg.eigvalsh(out)[0] < -1e-9 * out.max():
        return default, "", "covariance is not positive semidefinite"
    return out + np.eye(3) * config.gps_sigma_floor_m**2, "", ""


def given_plane(config: PoseConfig) -> LocalTangentPlane | None:
    """The plane about the datum that the parameters give, None where they give none."""
    latitude, longitude, altitude = config.datum
    if (latitude, longitude, altitude) == (0.0, 0.0, 0.0):
        return None
    return LocalTangentPlane(latitude, longitude, altitude)


class DatumFinder:
    """Waits for three fixes in a row that could have been made by one vehicle.

    A receiver that starts with a remembered or invented position would put the datum, and with
    it the robot, tens of kilometres away.
    """

    def __init__(self, config: PoseConfig) -> None:
        self._config = config
        self._run: list[GoodFix] = []

    def add(self, fix: GoodFix) -> tuple[LocalTangentPlane | None, list[GoodFix]]:
        """The plane about the first of three consistent fixes and these fixes; else None, []."""
        if self._run and not self._plausible(self._run[-1], fix):
            self._run.clear()
        self._run.append(fix)
        if len(self._run) < _CONFIRMATIONS:
            return None, []
        first = self._run[0]
        plane = LocalTangentPlane(first.latitude_deg, first.longitude_deg, first.altitude_m)
        return plane, self._run

    def _plausible(self, earlier: GoodFix, later: GoodFix) -> bool:
        plane = LocalTangentPlane(earlier.latitude_deg, earlier.longitude_deg, earlier.altitude_m)
        enu = plane.to_enu(later.latitude_deg, later.longitude_deg, later.altitude_m)
        dt_s = (later.stamp_ns - earlier.stamp_ns) / NS_PER_S
        variance = np.trace(earlier.covariance[:2, :2]) + np.trace(later.covariance[:2, :2])
        reach = self._config.max_speed_mps * dt_s + 4.0 * math.sqrt(float(variance))
        return math.hypot(enu[0], enu[1]) <= reach


@dataclass(frozen=True, slots=True, eq=False)
class Believed:
    """Refused fixes that are to be believed: ``offset`` [3] m from the prediction, the way [2]
    they say was driven in ``span_s`` and the way the filter thought it had driven; ``alone_s``
    since the last fix that was fused.
    """

    offset: F64
    way: F64
    way_predicted: F64
    span_s: float
    alone_s: float
    adrift: bool = False


class Reacceptance:
    """Keeps a gate from locking GPS out for good.

    It remembers how refused fixes lay off the prediction. When they agree among themselves for
    long enough, they are believed rather than the filter. How long depends on who is to be
    suspected: the filter, after a blackout in which it had only itself, or when the fixes went
    off it gradually, as they do from a wrong heading (``gps_recover_s``); the fixes, when they
    jumped (multipath passes, and must not take the robot along: ``gps_persist_s``).
    """

    def __init__(self, config: PoseConfig) -> None:
        self._config = config
        self._refused: deque[tuple[int, F64, F64]] = deque(maxlen=500)
        self._trail: deque[tuple[int, F64]] = deque(maxlen=2)  # the last offsets, refused or not
        self._last_good_ns = 0
        self._jumped = False

    def accepted(self, stamp_ns: int) -> None:
        """A fix passed the gate and was fused."""
        self._trail.append((stamp_ns, np.zeros(3)))
        self._last_good_ns = stamp_ns
        self._refused.clear()

    def refused(
        self,
        stamp_ns: int,
        enu: F64,
        offset: F64,
        sigma_m: float,
        speed_mps: float,
        adrift: bool = False,
    ) -> Believed | None:
        """Note a refused fix at ``enu`` [3], ``offset`` [3] from its prediction. ``adrift``: the
        filter has nothing but an accelerometer for its speed, and is the suspect always.

        Answers what to believe when the refused fixes have persisted, else None.
        """
        if adrift:
            steady = self._one_vehicle(stamp_ns, enu, sigma_m)
        else:
            steady = self._steady(stamp_ns, offset, sigma_m, speed_mps)
        if not self._refused:
            self._jumped = not steady
        elif not steady:
            self._refused.clear()
        self._trail.append((stamp_ns, offset))
        self._refused.append((stamp_ns, enu, offset))
        first_ns = self._refused[0][0]
        blackout = (first_ns - self._last_good_ns) / NS_PER_S >= self._config.gps_blackout_s
        soon = blackout or not self._jumped
        wait_s = self._config.gps_recover_s if soon else self._config.gps_persist_s
        long_enough = (stamp_ns - first_ns) / NS_PER_S >= wait_s
        if len(self._refused) < _CONFIRMATIONS or not long_enough:
            return None
        _, enu_first, offset_first = self._refused[0]
        way = (enu - enu_first)[:2]
        span_s, alone_s = ((stamp_ns - n) / NS_PER_S for n in (first_ns, self._last_good_ns))
        predicted = way - (offset - offset_first)[:2]
        return Believed(offset, way, predicted, span_s, alone_s, adrift)

    def _one_vehicle(self, stamp_ns: int, enu: F64, sigma_m: float) -> bool:
        """Whether one vehicle could have made this and the two refused fixes before it."""
        if len(self._refused) < 2:
            return True
        trail = deque(((n, place) for n, place, _ in list(self._refused)[-2:]), maxlen=2)
        dt_s = (stamp_ns - trail[-1][0]) / NS_PER_S
        reach = 4.0 * math.sqrt(6.0) * sigma_m + _ACCELERATION_MPS2 * dt_s * dt_s
        return _bend(trail, stamp_ns, enu) <= reach

    def _steady(self, stamp_ns: int, offset: F64, sigma_m: float, speed_mps: float) -> bool:
        """Whether noise and a heading wrong by up to a third explain the change of the offset."""
        if not self._trail:
            return True
        last_ns, last = self._trail[-1]
        dt_s = (stamp_ns - last_ns) / NS_PER_S
        change = offset - last
        reach = 4.0 * math.sqrt(2.0) * sigma_m + 0.3 * speed_mps * dt_s
        if math.hypot(change[0], change[1]) <= reach or len(self._trail) < 2:
            return math.hypot(change[0], change[1]) <= reach
        # A filter whose speed is wrong as well runs off steadily: by more than fixes scatter, or
        # after so long alone that its heading may be any.
        bend = _bend(self._trail, stamp_ns, offset)
        reach = 4.0 * math.sqrt(6.0) * sigma_m + _ACCELERATION_MPS2 * dt_s * dt_s
        long_alone = stamp_ns - self._last_good_ns > LONG_ALONE_S * NS_PER_S
        steadily = long_alone or bend <= 0.5 * math.hypot(change[0], change[1])
        return steadily and bend <= reach


def _bend(trail: deque[tuple[int, F64]], stamp_ns: int, place: F64) -> float:
    """How far ``place`` [3] is, in the plane, from where the two before it were heading."""
    (before_ns, before), (last_ns, last) = trail
    dt_s = (stamp_ns - last_ns) / NS_PER_S
    rate = (last - before) / max((last_ns - before_ns) / NS_PER_S, 1e-3)
    bend = place - last - rate * dt_s
    return math.hypot(bend[0], bend[1])
