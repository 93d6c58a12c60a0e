"""Arrays to serialized messages, without a conversion per element: for publishing, and for bags.

rclpy publishes serialized bytes as they are, and a bag takes them as they are. The payload is
copied exactly once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.samples import U8
from mm_fusion.wire.cdr import CdrWriter
from mm_fusion.wire.cloud import DATATYPES
from mm_fusion.wire.image import CHANNELS

_DATATYPE_OF = {name: number for number, name in DATATYPES.items()}


class PointFieldSpec(NamedTuple):
    """The members of a sensor_msgs/PointField (``elements`` is its ``count``)."""

    name: str
    offset: int
    datatype: int
    elements: int


def pointcloud2_fields(dtype: np.dtype[Any]) -> list[PointFieldSpec]:
    """The field table of a structured dtype, which must be little-endian throughout.

    Raises ValueError for a dtype that PointCloud2 cannot carry, naming the field.
    """
    if dtype.names is None:
        raise ValueError(f"points: must have a structured dtype, got {dtype}")
    table = []
    for name in dtype.names:
        field, offset = dtype.fields[name][:2]  # type: ignore[index]
        element = field.base
        datatype = _DATATYPE_OF.get(f"{element.kind}{element.itemsize}")
        if datatype is None or element != element.newbyteorder("<"):
            raise ValueError(f"points: field '{name}' of {field} has no PointField datatype")
        table.append(PointFieldSpec(name, offset, datatype, int(np.prod(field.shape, dtype=int))))
    return table


def _bytes_of(values: npt.NDArray[Any]) -> memoryview:
    """The array's bytes, in place where they lie together."""
    if not values.flags.c_contiguous:
        # Zeros first: numpy copies fields only, and what is between them goes out too.
        packed = np.zeros(values.shape, values.dtype)
        packed[...] = values
        values = packed
    return values.reshape(-1).view(np.uint8).data


def _image_size(pixels: U8, encoding: str) -> tuple[int, int, int]:
    channels = CHANNELS.get(encoding)
    if channels is None:
        raise ValueError(f"encoding: must be one of {', '.join(CHANNELS)}, got '{encoding}'")
    found = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or found != channels:
        raise ValueError(
            f"pixels: {encoding} must be uint8 [h, w, {channels}], got {pixels.dtype}"
            f" {list(pixels.shape)}"
        )
    height, width = pixels.shape[:2]
    return height, width, width * channels


def encode_pointcloud2(
    points: npt.NDArray[np.void], stamp_ns: int, frame_id: str, dense: bool = False
) -> bytes:
    """Structured points [n] as a serialized sensor_msgs/msg/PointCloud2 of one row; ``dense`` says
    that no number in it is NaN or infinite."""
    table = pointcloud2_fields(points.dtype)
    writer = CdrWriter()
    writer.header(stamp_ns, frame_id)
    writer.pack("III", 4, 1, points.size, len(table))
    for name, offset, datatype, count in table:
        writer.string(name)
        writer.pack("IB3xI", 4, offset, datatype, count)
    writer.pack("B3xII", 4, 0, points.dtype.itemsize, points.nbytes)
    writer.octets(_bytes_of(points))
    writer.pack("B", 1, int(dense))
    return writer.finish()


def encode_image(pixels: U8, encoding: str, stamp_ns: int, frame_id: str) -> bytes:
    """Pixels uint8 [h, w] or [h, w, channels] as a serialized sensor_msgs/msg/Image."""
    height, width, step = _image_size(pixels, encoding)
    writer = CdrWriter()
    writer.header(stamp_ns, frame_id)
    writer.pack("II", 4, height, width)
    writer.string(encoding)
    writer.pack("B", 1, 0)
    writer.pack("I", 4, step)
    writer.octets(_bytes_of(pixels))
    return writer.finish()
