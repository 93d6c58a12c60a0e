"""A point cloud looked at closely: what its header claims and what its points are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mm_fusion.doctor.observations import CloudHead, CloudLook
from mm_fusion.samples import LidarSweep
from mm_fusion.wire.cdr import CdrReader, Raw, malformed
from mm_fusion.wire.cloud import MAX_FIELDS

F64 = npt.NDArray[np.float64]


def read_head(raw: Raw) -> CloudHead:
    """The head of a serialized PointCloud2. Raises WireError where the bytes end too early."""
    reader = CdrReader(raw)
    reader.header(allow_zero_stamp=True)
    height, width, count = reader.unpack("III", 4)
    if count > MAX_FIELDS:
        raise malformed(f"cloud: at most {MAX_FIELDS} fields are read, got {count}")
    fields = []
    for _ in range(count):
        fields.append(reader.string())
        reader.unpack("IB3xI", 4)
    reader.unpack("B3xII", 4)
    reader.octets()
    return CloudHead(height, width, bool(reader.unpack("B", 1)[0]), tuple(fields))


def look_at(sweep: LidarSweep) -> CloudLook:
    """What the points of one sweep say."""
    points = sweep.points
    xyz = np.stack([points[axis].astype(np.float64) for axis in "xyz"], axis=1)
    finite = np.asarray(np.isfinite(xyz).all(axis=1))
    distance_m = np.linalg.norm(xyz[finite], axis=1)
    measured = distance_m[distance_m > 0.0]
    intensity = _column(sweep, sweep.intensity_field)
    good = intensity[np.isfinite(intensity)]
    return CloudLook(
        points=len(points),
        nan_share=1.0 - float(finite.mean()),
        zero_share=float((distance_m == 0.0).mean()) if len(distance_m) else 0.0,
        range_m=float(np.median(measured)) if len(measured) else 0.0,
        span_ns=_span_ns(sweep, finite),
        remark=sweep.remark,
        intensity_field=sweep.intensity_field,
        intensity_min=float(good.min()) if len(good) else 0.0,
        intensity_max=float(good.max()) if len(good) else 0.0,
        intensity_nan_share=1.0 - len(good) / len(intensity) if len(intensity) else 0.0,
        intensity_scale=sweep.intensity_scale,
    )


def _column(sweep: LidarSweep, name: str) -> F64:
    return sweep.points[name].astype(np.float64) if name else np.zeros(0)


def _span_ns(sweep: LidarSweep, finite: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """First and last instant of the points that are there, against the stamp."""
    values = _column(sweep, sweep.time_field)[finite] if sweep.time_field else np.zeros(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    offset_ns, unit_ns = sweep.time_offset_ns, sweep.time_unit_ns
    return low * unit_ns + offset_ns, high * unit_ns + offset_ns
