"""CameraInfo and TFMessage: what says where the cameras look and where the sensors sit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import CameraModel, Reason, Rejection
from mm_fusion.wire.cdr import CdrReader, Header, WireError, malformed
from mm_fusion.wire.small import Numbers, finite, message_header, transform, xyz, xyzw

# sensor_msgs/distortion_models.hpp and OpenCV: how many coefficients each model may have.
COEFFICIENTS = {
    "": (0,),
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (0, 4, 5, 8, 12, 14),
    "equidistant": (0, 4),
}
ALIASES = {"fisheye": "equidistant"}  # OpenCV's name for it
MAX_COEFFICIENTS = 64
MAX_TRANSFORMS = 4096


class Window(NamedTuple):
    """Which part of the sensor the image shows: CameraInfo's binning and region of interest."""

    binning_x: int
    binning_y: int
    x_offset: int
    y_offset: int
    height: int
    width: int


def read_camera_info(reader: CdrReader, sensor: str) -> CameraModel:
    """A sensor_msgs/msg/CameraInfo. A zero stamp is no fault: calibration has no instant."""
    header = reader.header(allow_zero_stamp=True)
    height, width = reader.unpack("II", 4)
    model = reader.string()
    count = reader.uint32()
    if count > MAX_COEFFICIENTS:
        raise malformed(f"camera info: {count} distortion coefficients")
    d = reader.doubles(count)
    k = reader.doubles(9)
    reader.doubles(9 + 12)  # rectification and projection: we rectify from k and d ourselves
    window = Window(*reader.unpack("6I", 4))
    reader.unpack("B", 1)
    return camera_model(sensor, header, (height, width), model, d, k, window)


def camera_info_from_message(msg: Any, sensor: str) -> CameraModel:
    """A CameraInfo object."""
    roi = msg.roi
    offsets = (roi.x_offset, roi.y_offset, roi.height, roi.width)
    return camera_model(
        sensor,
        message_header(msg.header, allow_zero_stamp=True),
        (msg.height, msg.width),
        msg.distortion_model,
        msg.d,
        msg.k,
        Window(msg.binning_x, msg.binning_y, *offsets),
    )


def camera_model(
    sensor: str,
    header: Header,
    size: tuple[int, int],
    model: str,
    d: Numbers,
    k: Numbers,
    window: Window,
) -> CameraModel:
    """Intrinsics of the image that is published: binning and region of interest are applied.

    A binned pixel is the mean of its block, so that the principal point moves by half pixels.
    WireError with NO_INTRINSICS for an uncalibrated camera or a distortion that is not known.
    """
    model = ALIASES.get(model, model)
    matrix = finite("k", k).reshape(3, 3)
    if not (matrix[0, 0] > 0.0 and matrix[1, 1] > 0.0):
        focal = (matrix[0, 0], matrix[1, 1])
        raise WireError(Reason.NO_INTRINSICS, f"k: focal lengths must be positive, got {focal}")
    if model not in COEFFICIENTS or len(d) not in COEFFICIENTS[model]:
        raise WireError(
            Reason.NO_INTRINSICS, f"distortion model '{model}' with {len(d)} numbers is not known"
        )
    height, width = window.height or size[0], window.width or size[1]
    bin_x, bin_y = max(window.binning_x, 1), max(window.binning_y, 1)
    if height // bin_y == 0 or width // bin_x == 0:
        raise malformed(f"camera info: an image of {height} x {width} in bins {bin_y} x {bin_x}")
    for row, offset, bins in ((0, window.x_offset, bin_x), (1, window.y_offset, bin_y)):
        matrix[row, 2] = (matrix[row, 2] - offset + 0.5) / bins - 0.5
        matrix[row, :2] /= bins
    return CameraModel(
        sensor=sensor,
        frame_id=header.frame_id,
        height=int(height // bin_y),
        width=int(width // bin_x),
        k=matrix,
        distortion_model=model,
        d=finite("d", d),
    )


@dataclass(frozen=True, slots=True, eq=False)
class StampedTransform:
    """One geometry_msgs/TransformStamped. The stamp is 0 in most static transforms."""

    stamp_ns: int
    parent: str
    child: str
    parent_from_child: RigidTransform


@dataclass(frozen=True, slots=True, eq=False)
class FrameTransforms:
    """A tf2_msgs/TFMessage: what it says, and which of its entries say nothing usable."""

    transforms: tuple[StampedTransform, ...]
    rejections: tuple[Rejection, ...]


def read_tf(reader: CdrReader, sensor: str) -> FrameTransforms:
    """A tf2_msgs/msg/TFMessage."""
    count = reader.uint32()
    if count > MAX_TRANSFORMS:
        raise malformed(f"transforms: at most {MAX_TRANSFORMS} are read, got {count}")
    return frame_transforms(
        sensor,
        [
            (reader.header(allow_zero_stamp=True), reader.string(), *_split(reader.doubles(7)))
            for _ in range(count)
        ],
    )


def _split(values: tuple[float, ...]) -> tuple[Numbers, Numbers]:
    return values[:3], values[3:]


def tf_from_message(msg: Any, sensor: str) -> FrameTransforms:
    """A TFMessage object."""
    return frame_transforms(
        sensor,
        (
            (
                message_header(t.header, allow_zero_stamp=True),
                t.child_frame_id,
                xyz(t.transform.translation),
                xyzw(t.transform.rotation),
            )
            for t in msg.transforms
        ),
    )


def frame_transforms(
    sensor: str, entries: Iterable[tuple[Header, str, Numbers, Numbers]]
) -> FrameTransforms:
    """Every entry by itself: a bad one is rejected and the others stay good."""
    good: list[StampedTransform] = []
    bad: list[Rejection] = []
    for (stamp_ns, parent), child_frame, translation, rotation in entries:
        child = child_frame.lstrip("/")
        try:
            if not parent or not child or parent == child:
                raise malformed("frame names must differ and not be empty")
            good.append(StampedTransform(stamp_ns, parent, child, transform(translation, rotation)))
        except WireError as error:
            detail = f"transform '{parent}' -> '{child}': {error.detail}"
            bad.append(Rejection(sensor, stamp_ns, error.reason, detail))
    return FrameTransforms(tuple(good), tuple(bad))
