"""The values that travel along the two roads: what sensors say, and what fusion answers.

Nothing here knows ROS. Time is an integer number of nanoseconds since the epoch of the stamps
(``*_ns``), lengths are metres, angles radians, unless a suffix says otherwise.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

NS_PER_S = 1_000_000_000


class Reason(enum.Enum):
    """Why an input was not used. The value is the name under which it is counted."""

    # wire: the bytes themselves
    MALFORMED = "malformed"
    UNKNOWN_ENCODING = "unknown_encoding"
    UNDECODABLE_IMAGE = "undecodable_image"
    MISSING_FIELD = "missing_field"
    EMPTY_CLOUD = "empty_cloud"
    NON_FINITE = "non_finite"
    # stamps
    ZERO_STAMP = "zero_stamp"
    TIME_JUMP = "time_jump"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    LATE = "late"
    STALE = "stale"
    BLANK = "blank"
    # synchronizer and queues
    UNMATCHED = "unmatched"
    SUPERSEDED = "superseded"
    REQUIRED_MISSING = "required_missing"
    OVERFLOW = "overflow"
    # calibration
    NO_EXTRINSICS = "no_extrinsics"
    NO_INTRINSICS = "no_intrinsics"
    SIZE_MISMATCH = "size_mismatch"
    # pose
    NO_FIX = "no_fix"
    OUTLIER = "outlier"
    OUT_OF_RANGE = "out_of_range"
    BAD_COVARIANCE = "bad_covariance"
    NOT_INITIALIZED = "not_initialized"
    UNKNOWN_SENSOR = "unknown_sensor"


@dataclass(frozen=True, slots=True)
class Rejection:
    """An input that was answered with a reason instead of being used."""

    sensor: str
    stamp_ns: int
    reason: Reason
    detail: str = ""


class Mode(enum.Enum):
    """Which senses took part in a result; the value is what diagnostics and files show."""

    CAMERA_LIDAR = "camera+lidar"
    LIDAR = "lidar"
    CAMERA = "camera"
    NONE = "none"


# ----------------------------------------------------------------------------- sensors


@dataclass(frozen=True, slots=True, eq=False)
class CameraFrame:
    """One image as it came: a view on the message's bytes, not yet converted.

    ``data`` is uint8 [height, step] for raw encodings (rgb8 bgr8 rgba8 bgra8 mono8), and the
    compressed bytes, uint8 [n], for ``jpeg`` and ``png`` (then height, width and step are 0).
    ``stamp_ns`` is the instant of exposure, ``frame_id`` the camera's optical frame (REP-103).
    ``arrival_ns`` is when the message came, on the clock of whoever received it; 0: not known.
    """

    sensor: str
    stamp_ns: int
    frame_id: str
    encoding: str
    height: int
    width: int
    step: int
    data: U8
    arrival_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class LidarSweep:
    """One sweep as it came: a structured numpy view on the message's bytes.

    ``points`` is a 1-D structured array whose fields carry the message's own names, offsets and
    datatypes; ``x y z`` are always there, in metres in ``frame_id``. ``intensity_field`` and
    ``time_field`` name the fields that hold them, "" where there are none. A point's instant is
    ``stamp_ns + time_offset_ns + points[time_field] * time_unit_ns`` (float64: absolute times need
    its digits). ``intensity_scale`` maps intensities onto 0..1; single points may exceed it.
    ``remark`` says what in the message could not be used, such as a time field that fits no unit.
    ``arrival_ns`` is when the message came, on the clock of whoever received it; 0: not known.
    """

    sensor: str
    stamp_ns: int
    frame_id: str
    points: npt.NDArray[np.void]
    intensity_field: str = ""
    intensity_scale: float = 1.0
    time_field: str = ""
    time_unit_ns: float = 1e9
    time_offset_ns: int = 0
    remark: str = ""
    arrival_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CameraModel:
    """Intrinsics of one camera as sensor_msgs/CameraInfo gives them.

    ``k`` float64 [3,3] in pixels of a ``height`` x ``width`` image. ``distortion_model`` is one of
    plumb_bob, rational_polynomial, equidistant or "" (none), with its coefficients ``d``.
    """

    sensor: str
    frame_id: str
    height: int
    width: int
    k: F64
    distortion_model: str = ""
    d: F64 = field(default_factory=lambda: np.zeros(0))


class CovarianceType(enum.IntEnum):
    """sensor_msgs/NavSatFix position_covariance_type."""

    UNKNOWN = 0
    APPROXIMATED = 1
    DIAGONAL_KNOWN = 2
    KNOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class GnssFix:
    """One satellite fix: geodetic WGS84 degrees, ellipsoidal height in metres.

    ``covariance`` float64 [3,3], m^2, east-north-up. ``status`` as in sensor_msgs/NavSatStatus:
    -1 no fix, 0 fix, 1 SBAS, 2 GBAS.
    """

    sensor: str
    stamp_ns: int
    frame_id: str
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    covariance: F64
    covariance_type: CovarianceType = CovarianceType.UNKNOWN
    status: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ImuSample:
    """One inertial sample in the IMU's own frame.

    ``angular_velocity`` rad/s [3]; ``linear_acceleration`` specific force m/s^2 [3] (+g on the up
    axis at rest). ``orientation_xyzw`` is None where the device gives none. Covariances are
    float64 [3,3]; all-zero means unknown (sensor_msgs/Imu).
    """

    sensor: str
    stamp_ns: int
    frame_id: str
    angular_velocity: F64
    linear_acceleration: F64
    orientation_xyzw: F64 | None = None
    angular_velocity_covariance: F64 = field(default_factory=lambda: np.zeros((3, 3)))
    linear_acceleration_covariance: F64 = field(default_factory=lambda: np.zeros((3, 3)))


@dataclass(frozen=True, slots=True, eq=False)
class WheelOdometry:
    """Body velocity measured at the wheels, in ``frame_id`` (normally the base frame).

    ``linear`` m/s [3], ``angular`` rad/s [3]; ``covariance`` float64 [6,6] of (linear, angular),
    all-zero means unknown.
    """

    sensor: str
    stamp_ns: int
    frame_id: str
    linear: F64
    angular: F64
    covariance: F64 = field(default_factory=lambda: np.zeros((6, 6)))


# ------------------------------------------------------------------- between the stations


@dataclass(frozen=True, slots=True, eq=False)
class SyncedSet:
    """What belongs to one instant: the LIDAR sweep and the best frame of each camera slot.

    ``stamp_ns`` is the reference sensor's stamp. ``lidars`` and ``cameras`` have one entry per
    configured sensor, None where nothing fitted. ``missing`` names the sensors without a partner.
    ``dt_ns`` gives, per sensor present, its stamp minus the set's.
    """

    stamp_ns: int
    lidars: tuple[LidarSweep | None, ...]
    cameras: tuple[CameraFrame | None, ...]
    missing: tuple[str, ...] = ()
    dt_ns: dict[str, int] = field(default_factory=dict)

    @property
    def sweeps(self) -> tuple[LidarSweep, ...]:
        """The sweeps that are there."""
        return tuple(s for s in self.lidars if s is not None)


# ------------------------------------------------------------------------------ answers


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One box: ``center`` [3] m, ``size`` (length, width, height) [3] m, ``yaw`` rad about z.

    ``velocity`` [2] m/s. All in the frame of the result that carries it. ``score`` 0..1.
    ``source`` says who saw it, several joined by ``+``: ``fusion`` (the fusion network), ``lidar``
    (a LIDAR network), ``camera2d`` (a camera detector with LIDAR points), ``bearing`` (a camera
    detector without points: the range is guessed), ``cluster`` (LIDAR points nobody has a name
    for). ``covariance`` [4,4] of (x, y, z, yaw) in m and rad, None where it is not known.
    """

    label: str
    score: float
    center: F64
    size: F64
    yaw: float
    velocity: F64
    source: str = "fusion"
    covariance: F64 | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A detection followed over time: the same geometry with a stable id and its age.

    ``covariance`` [4,4] of (x, y, vx, vy). ``yaw_rate`` rad/s is that of vehicles; of the rest it
    is 0 and ``yaw_rate_variance`` says, by its size, that nothing is known. ``existence`` is the
    probability that there is such an object, ``score`` its detections' mean, ``source`` that of
    its last detection.
    """

    track_id: int
    label: str
    score: float
    center: F64
    size: F64
    yaw: float
    velocity: F64
    covariance: F64
    hits: int
    time_since_update_s: float
    yaw_rate: float = 0.0
    yaw_variance: float = 1e3  # rad^2
    yaw_rate_variance: float = 1e3  # (rad/s)^2
    existence: float = 1.0
    source: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PoseEstimate:
    """Where the base is: pose in ``frame_id``, velocity in the base frame, honest covariance.

    ``frame_from_base`` maps base coordinates into ``frame_id`` (odom or map, REP-105).
    ``pose_covariance`` [6,6] of (x y z roll pitch yaw) in ``frame_id``'s axes,
    ``twist_covariance`` [6,6] of (linear, angular) in the base frame. ``extrapolated_ns`` is the
    time since the last sample that is in it, 0 where a sensor has told of the stamp itself.
    """

    stamp_ns: int
    frame_id: str
    child_frame_id: str
    frame_from_base: RigidTransform
    linear: F64
    angular: F64
    pose_covariance: F64
    twist_covariance: F64
    extrapolated_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FusionResult:
    """The answer to one synced set. Detections are in ``frame_id`` (the base frame) at the stamp.

    ``tracks`` are in ``track_frame_id``: the odometry frame where ego motion is known, else the
    base frame. ``stage_ns`` holds the time each station took, empty without a stopwatch.
    ``rejections`` says which parts of the set could not be used, and why; ``remarks`` what was
    used with less than could have been (a cloud thinned, or not deskewed). ``ground`` says of all
    points of the set's sweeps, in their order, which are ground, bool [N], and how high they are
    above it, float32 [N] m; None where the detector did not look for it.
    """

    stamp_ns: int
    frame_id: str
    mode: Mode
    missing: tuple[str, ...]
    detections: tuple[Detection, ...]
    tracks: tuple[Track, ...]
    track_frame_id: str
    ego_motion: bool
    rejections: tuple[Rejection, ...] = ()
    stage_ns: dict[str, int] = field(default_factory=dict)
    dt_ns: dict[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    ground: tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]] | None = None


Sample = CameraFrame | LidarSweep | GnssFix | ImuSample | WheelOdometry
