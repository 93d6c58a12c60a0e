"""Drives whose truth is known by formula, and the samples that sensors on them would give.

Nothing here uses the filter: speed and heading are formulas, the position is their integral on a
1 ms grid. Every constant error of a sensor is drawn from what the filter is told about it, or is
given; white noise is what the messages say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from mm_fusion.geometry import FrameTree, RigidTransform
from mm_fusion.samples import CovarianceType, GnssFix, ImuSample, Sample, WheelOdometry

F64 = npt.NDArray[np.float64]

T0_NS = 1_700_000_000_000_000_000
G = 9.80665
# Metres per degree at the datum, by the WGS84 radii of curvature (meridian M, prime vertical N).
LAT, LON, ALT = 48.0, 11.5, 500.0
_A, _E2 = 6378137.0, 6.69437999014e-3
_W2 = 1.0 - _E2 * np.sin(np.radians(LAT)) ** 2
M_PER_DEG_LAT = float(np.radians(_A * (1 - _E2) / _W2**1.5 + ALT))
M_PER_DEG_LON = float(np.radians((_A / np.sqrt(_W2) + ALT) * np.cos(np.radians(LAT))))
DATUM = f"pose.datum=[{LAT}, {LON}, {ALT}]"


@dataclass
class Drive:
    """Stand for ``rest_s``, then accelerate to ``speed`` on a winding course.

    ``speed`` m/s, ``heading`` rad at the start, ``turn`` rad: how far the course winds to either
    side, ``bend_m`` the length over which it does. ``pause`` s: from when to when it stands.
    With ``slip_seed`` it slips sideways (``lateral``, m/s) as much as the filter is told.
    """

    duration_s: float = 60.0
    rest_s: float = 2.0
    speed: float = 8.0
    heading: float = 2.0
    reverse: bool = False
    turn: float = 0.9
    bend_m: float = 25.0
    pause: tuple[float, float] = (1e9, 1e9)
    slip_seed: int | None = None
    t: F64 = field(init=False)

    def __post_init__(self) -> None:
        self.t = np.arange(0.0, self.duration_s + 1e-9, 1e-3)
        u = np.clip((self.t - self.rest_s) / 4.0, 0.0, 1.0)
        ramp, dramp = u * u * (3 - 2 * u), 6 * u * (1 - u) / 4.0
        if self.pause[0] < 1e8:
            down = np.clip((self.t - self.pause[0]) / 4.0, 0.0, 1.0)
            up = np.clip((self.t - self.pause[1]) / 4.0, 0.0, 1.0)
            ramp = ramp * (1 - down * down * (3 - 2 * down) + up * up * (3 - 2 * up))
            dramp = np.gradient(ramp, 1e-3)
        sign = -1.0 if self.reverse else 1.0
        self.v, self.dv = sign * self.speed * ramp, sign * self.speed * dramp
        # Heading turns with the way driven, as a car's does.
        way = np.concatenate([[0.0], np.cumsum(0.5 * (self.v[1:] + self.v[:-1]) * 1e-3)])
        k = 1.0 / self.bend_m
        self.yaw = self.heading + self.turn * np.sin(k * way)
        self.dyaw = self.turn * k * self.v * np.cos(k * way)
        self.lateral = np.zeros_like(self.v)
        if self.slip_seed is not None:
            self.lateral = _slip(self.v, self.slip_seed)
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        ve, vn = self.v * c - self.lateral * s, self.v * s + self.lateral * c
        self.east = np.concatenate([[0.0], np.cumsum(0.5 * (ve[1:] + ve[:-1]) * 1e-3)])
        self.north = np.concatenate([[0.0], np.cumsum(0.5 * (vn[1:] + vn[:-1]) * 1e-3)])

    def at(self, stamp_ns: int) -> tuple[float, float, float, float]:
        """East, north, yaw, speed."""
        s = (stamp_ns - T0_NS) / 1e9
        east, north, yaw, v = (
            float(np.interp(s, self.t, y)) for y in (self.east, self.north, self.yaw, self.v)
        )
        return east, north, yaw, v

    def length_m(self) -> float:
        """The way driven."""
        return float(np.abs(self.v).sum() * 1e-3)


def _slip(v: F64, seed: int) -> F64:
    """Sideways speed [N] on the 1 ms grid: white noise that two lags of a quarter of a second make
    smooth, of the same density at low frequencies as what the filter is told to expect of every
    message of the wheels (``pose.lateral_sigma_mps``, ``pose.lateral_slip``, 50 Hz).

    At 10 m/s that is 3 cm/s, or 3 mrad between heading and course.
    """
    from scipy.signal import lfilter

    keep = float(np.exp(-1e-3 / 0.25))
    white = np.random.default_rng([seed, 5]).normal(0.0, np.sqrt(0.02 / 1e-3), len(v))
    smooth = lfilter([(1 - keep) ** 2], [1.0, -2 * keep, keep**2], white)
    sigma = np.hypot(0.1, 0.02 * v) * np.clip(np.abs(v), 0.0, 1.0)
    return np.asarray(smooth * sigma, dtype=np.float64)


@dataclass
class Sensors:
    """Rates, white noise per sample, and constant errors."""

    seed: int = 1
    gyro_sigma: float = 0.002
    accel_sigma: float = 0.05
    gyro_bias: tuple[float, float, float] = (0.002, -0.003, 0.004)
    accel_bias: tuple[float, float, float] = (0.03, -0.04, 0.05)
    gyro_walk: float = 0.0  # random walk of the biases, per root second
    accel_walk: float = 0.0
    wheel_sigma: float = 0.05
    wheel_scale: float = 0.01
    gps_sigma: float = 1.0
    heading_sigma: float | None = (
        None  # of the IMU's own orientation, white, rad; None: it has none
    )
    base_from_imu: RigidTransform = field(default_factory=RigidTransform.identity)
    antenna: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def imu(self, drive: Drive, period_ms: int = 10) -> list[Sample]:
        """100 Hz by default; the vehicle neither rolls nor pitches."""
        rng = np.random.default_rng([self.seed, 1])
        out: list[Sample] = []
        rot, arm = self.base_from_imu.rotation, self.base_from_imu.translation
        ddyaw = np.gradient(drive.dyaw, 1e-3)
        sideways, dsideways = drive.lateral, np.gradient(drive.lateral, 1e-3)
        wander, compass = (np.random.default_rng([self.seed, k]) for k in (4, 6))
        walked, root_dt = np.zeros((2, 3)), np.sqrt(period_ms * 1e-3)
        walks = np.array([[self.gyro_walk], [self.accel_walk]]) * root_dt
        for i in range(0, len(drive.t), period_ms):
            w = np.array([0.0, 0.0, drive.dyaw[i]])
            along = drive.dv[i] - drive.dyaw[i] * sideways[i]
            f = np.array([along, drive.v[i] * drive.dyaw[i] + dsideways[i], G])
            f = f + np.cross([0, 0, ddyaw[i]], arm) + np.cross(w, np.cross(w, arm))
            walked += wander.normal(0, 1, (2, 3)) * walks
            w = w + self.gyro_bias + walked[0] + rng.normal(0, self.gyro_sigma, 3)
            f = f + self.accel_bias + walked[1] + rng.normal(0, self.accel_sigma, 3)
            out.append(
                ImuSample(
                    "imu",
                    T0_NS + i * 1_000_000,
                    "imu_link",
                    rot.T @ w,
                    rot.T @ f,
                    self._orientation(float(drive.yaw[i]), compass),
                    angular_velocity_covariance=np.eye(3) * self.gyro_sigma**2,
                    linear_acceleration_covariance=np.eye(3) * self.accel_sigma**2,
                )
            )
        return out

    def _orientation(self, yaw: float, rng: np.random.Generator) -> F64 | None:
        """Of the IMU's frame, from east, as a quaternion x y z w; a level vehicle."""
        if self.heading_sigma is None:
            return None
        half = 0.5 * (yaw + rng.normal(0.0, self.heading_sigma))
        turned = Rotation.from_quat((0.0, 0.0, np.sin(half), np.cos(half)))
        imu = turned * Rotation.from_matrix(self.base_from_imu.rotation)
        return np.asarray(imu.as_quat(), dtype=np.float64)

    def wheels(self, drive: Drive, period_ms: int = 20) -> list[Sample]:
        """50 Hz by default."""
        rng = np.random.default_rng([self.seed, 2])
        cov = np.diag([self.wheel_sigma**2, 0, 0, 0, 0, 0.02**2])
        out: list[Sample] = []
        for i in range(3, len(drive.t), period_ms):
            moving = drive.v[i] != 0.0
            v = drive.v[i] * (1 + self.wheel_scale) + moving * rng.normal(0, self.wheel_sigma)
            w = drive.dyaw[i] + moving * rng.normal(0, 0.02)
            linear, angular = np.array([v, 0.0, 0.0]), np.array([0.0, 0.0, w])
            stamp_ns = T0_NS + i * 1_000_000
            out.append(WheelOdometry("wheels", stamp_ns, "base_link", linear, angular, cov))
        return out

    def gps(
        self,
        drive: Drive,
        period_ms: int = 200,
        claimed: float | None = None,
        extra: Callable[[float], tuple[float, float]] | None = None,
    ) -> list[Sample]:
        """5 Hz by default. ``claimed``: the sigma the receiver says, else the true one; ``extra``:
        a further error (east, north) by the second.
        """
        rng = np.random.default_rng([self.seed, 3])
        out: list[Sample] = []
        for i in range(7, len(drive.t), period_ms):
            c, s = np.cos(drive.yaw[i]), np.sin(drive.yaw[i])
            a = self.antenna
            e = drive.east[i] + c * a[0] - s * a[1] + rng.normal(0, self.gps_sigma)
            n = drive.north[i] + s * a[0] + c * a[1] + rng.normal(0, self.gps_sigma)
            up = a[2] + rng.normal(0, 2.0)
            if extra is not None:
                more = extra(i / 1e3)
                e, n = e + more[0], n + more[1]
            sigma = self.gps_sigma if claimed is None else claimed
            out.append(fix(T0_NS + i * 1_000_000, e, n, sigma, up))
        return out

    def frames(self) -> FrameTree:
        """The sensors' true poses."""
        tree = FrameTree()
        tree.set("base_link", "imu_link", self.base_from_imu)
        tree.set("base_link", "gps_link", RigidTransform(np.eye(3), np.array(self.antenna)))
        return tree


def fix(stamp_ns: int, east: float, north: float, sigma: float, up: float = 0.0) -> GnssFix:
    """A fix ``east``, ``north`` of the datum, on the osculating ellipsoid."""
    return GnssFix(
        "gps",
        stamp_ns,
        "gps_link",
        LAT + north / M_PER_DEG_LAT,
        LON + east / M_PER_DEG_LON,
        ALT + up,
        np.diag([sigma**2, sigma**2, 4.0]),
        CovarianceType.DIAGONAL_KNOWN,
    )


def merge(*streams: Sequence[Sample], delay_s: float = 0.0) -> list[Sample]:
    """In the order of arrival; fixes arrive ``delay_s`` after their stamp."""

    def arrival(sample: Sample) -> int:
        late = int(delay_s * 1e9) if isinstance(sample, GnssFix) else 0
        return sample.stamp_ns + late

    return sorted((s for stream in streams for s in stream), key=arrival)


def drawn(seed: int, *, gps_sigma: float = 1.0) -> Sensors:
    """Sensors whose constant errors, and the walks of their biases, are drawn from the filter's own
    defaults.
    """
    rng = np.random.default_rng([seed, 0])
    gyro, accel = rng.normal(0.0, 0.01, 3).tolist(), rng.normal(0.0, 0.1, 3).tolist()
    return Sensors(
        seed=seed,
        gyro_bias=(gyro[0], gyro[1], gyro[2]),
        accel_bias=(accel[0], accel[1], accel[2]),
        gyro_walk=2e-5,
        accel_walk=5e-4,
        wheel_scale=float(rng.normal(0.0, 0.01)),
        gps_sigma=gps_sigma,
    )
