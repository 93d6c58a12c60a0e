"""sensor_msgs/PointCloud2: a structured view on the points, whatever the sensor's field table."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.samples import LidarSweep, Reason
from mm_fusion.wire.cdr import U8, CdrReader, Header, WireError, malformed
from mm_fusion.wire.lidars import Lidars

# sensor_msgs/PointField: the number of a datatype and numpy's name for it.
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
INTENSITY_NAMES = ("intensity", "intensities", "i", "reflectivity", "reflectance")
TIME_NAMES = ("t", "time", "timestamp", "offset_time", "time_stamp")

# Far above any real sensor; they bound the work that a hostile field table can ask for.
MAX_FIELDS = 128
MAX_POINT_STEP = 1 << 16

Field = tuple[str, int, int, int]  # name, offset, datatype, count


class CloudShape(NamedTuple):
    """The numbers of a PointCloud2 that say how its bytes are laid out."""

    height: int
    width: int
    is_bigendian: bool
    point_step: int
    row_step: int


class PointLayout(NamedTuple):
    """What a field table means: the dtype of one point and which fields to look at."""

    dtype: np.dtype[np.void]
    intensity_field: str
    time_field: str


def read_point_cloud(
    reader: CdrReader, sensor: str, lidars: Lidars | None = None, arrival_ns: int = 0
) -> LidarSweep:
    """A sensor_msgs/msg/PointCloud2."""
    header = reader.header()
    height, width, count = reader.unpack("III", 4)
    _check_field_count(count)  # before, not after they are read
    fields = _read_fields(reader, count)
    big, point_step, row_step = reader.unpack("B3xII", 4)
    data = reader.octets()
    reader.unpack("B", 1)  # is_dense: many drivers get it wrong, so NaNs are looked for anyway
    shape = CloudShape(height, width, big != 0, point_step, row_step)
    return point_cloud(sensor, header, shape, fields, data, lidars, arrival_ns)


# The last field tables by their length and byte order, with the very bytes they were read from: a
# sensor's table never changes, and reading it costs as much as all else in a cloud.
_tables: dict[tuple[int, str], tuple[bytes, tuple[Field, ...]]] = {}


def _read_fields(reader: CdrReader, count: int) -> tuple[Field, ...]:
    """The field table; the one of the same bytes that was read before, where there was one."""
    known = _tables.get((count, reader.order))
    if known is not None and reader.passes(known[0]):
        return known[1]
    start = reader.position
    fields = tuple([(reader.string(), *reader.unpack("IB3xI", 4)) for _ in range(count)])
    _tables[count, reader.order] = (reader.since(start), fields)
    return fields


def point_cloud(
    sensor: str,
    header: Header,
    shape: CloudShape,
    fields: tuple[Field, ...],
    data: U8,
    lidars: Lidars | None = None,
    arrival_ns: int = 0,
) -> LidarSweep:
    """A sweep on the bytes ``data`` uint8 [n]; ``lidars`` remembers what its fields mean.

    Raises WireError: EMPTY_CLOUD, MISSING_FIELD (no x, y or z), or MALFORMED.
    """
    if shape.height == 0 or shape.width == 0:
        raise WireError(Reason.EMPTY_CLOUD, f"cloud of {shape.height} x {shape.width} points")
    layout = point_layout(fields, shape.is_bigendian, shape.point_step)
    points = _view(shape, layout.dtype, data)
    known = Lidars() if lidars is None else lidars
    found = known.fields(
        sensor, points, layout.intensity_field, layout.time_field, header.stamp_ns, arrival_ns
    )
    return LidarSweep(
        sensor=sensor,
        stamp_ns=header.stamp_ns,
        frame_id=header.frame_id,
        points=points,
        intensity_field=layout.intensity_field,
        intensity_scale=found.intensity_scale,
        time_field=found.time_field,
        time_unit_ns=found.time_unit_ns,
        time_offset_ns=found.time_offset_ns,
        remark=found.remark,
        arrival_ns=arrival_ns,
    )


@lru_cache(maxsize=64)
def point_layout(fields: tuple[Field, ...], is_bigendian: bool, point_step: int) -> PointLayout:
    """The meaning of a field table. A sensor's table never changes, so that it is kept."""
    _check_field_count(len(fields))
    if not 0 < point_step <= MAX_POINT_STEP:
        raise malformed(f"cloud: point_step must be 1 .. {MAX_POINT_STEP}, got {point_step}")
    order = ">" if is_bigendian else "<"
    formats: dict[str, tuple[str, int, int]] = {}
    for name, offset, datatype, given_count in fields:
        if datatype not in DATATYPES:
            raise malformed(f"field '{name}': datatype must be 1 .. 8, got {datatype}")
        kind = order + DATATYPES[datatype]
        count = max(given_count, 1)  # some drivers leave it zero for one
        if offset + count * int(kind[2]) > point_step:
            raise malformed(
                f"field '{name}': {count} of {kind} at {offset} exceed point_step {point_step}"
            )
        if name in formats:
            raise malformed(f"field '{name}' stands twice in the table")
        if name:  # fields without a name are padding
            formats[name] = (kind, offset, count)
    _check_coordinates(formats)
    dtype = np.dtype(
        {
            "names": list(formats),
            "formats": [k if n == 1 else (k, (n,)) for k, _, n in formats.values()],
            "offsets": [offset for _, offset, _ in formats.values()],
            "itemsize": point_step,
        }
    )
    single = {name for name, (_, _, n) in formats.items() if n == 1}
    return PointLayout(
        dtype,
        next((n for n in INTENSITY_NAMES if n in single), ""),
        next((n for n in TIME_NAMES if n in single), ""),
    )


def _check_field_count(count: int) -> None:
    if count > MAX_FIELDS:
        raise malformed(f"cloud: at most {MAX_FIELDS} fields are read, got {count}")


def _check_coordinates(formats: dict[str, tuple[str, int, int]]) -> None:
    for axis in "xyz":
        if axis not in formats:
            names = ", ".join(sorted(formats)[:16]) or "none"
            raise WireError(Reason.MISSING_FIELD, f"no field '{axis}' among: {names}")
        kind, _, count = formats[axis]
        if kind[1] != "f" or count != 1:
            raise malformed(f"field '{axis}': must be one float32 or float64, got {count} {kind}")


def _view(shape: CloudShape, dtype: np.dtype[np.void], data: U8) -> npt.NDArray[np.void]:
    """The points [height * width] as a view; a copy only where rows end in padding."""
    row = shape.width * shape.point_step
    packed = shape.height * row
    # row_step says nothing where there is one row, or where the data has no room for padding
    # (drivers leave it zero, or put the whole length there).
    if len(data) == packed or (shape.height == 1 and len(data) >= packed):
        return data[:packed].view(dtype)
    if shape.row_step < row:
        raise malformed(
            f"cloud: {shape.height} rows of {row} bytes do not fit row_step {shape.row_step}"
            f" and {len(data)} bytes of data"
        )
    needed = (shape.height - 1) * shape.row_step + row
    if len(data) < needed:
        raise malformed(f"cloud: data must have {needed} bytes, got {len(data)}")
    if shape.row_step == row:
        return data[:packed].view(dtype)
    rows: npt.NDArray[np.void] = np.ndarray(
        (shape.height, shape.width), dtype, data, 0, (shape.row_step, shape.point_step)
    )
    return rows.reshape(-1)
