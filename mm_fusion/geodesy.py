"""WGS84 and the local east-north-up frame about a datum.

The tangent frame is exact on the ellipsoid (PROJ's cartesian and topocentric operations): no
projection, no zones, no scale factor, and heights count as heights above the ellipsoid.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyproj

from mm_fusion.errors import CalibrationError
from mm_fusion.geometry import RigidTransform

F64 = npt.NDArray[np.float64]

_ARM_M = 1000.0  # long enough for directions to be told to 1e-12


class LocalTangentPlane:
    """East-north-up about a datum.

    ``latitude_deg``, ``longitude_deg`` in degrees (WGS84), ``altitude_m`` above the ellipsoid.
    Raises CalibrationError for a datum that is no place on earth.
    """

    def __init__(self, latitude_deg: float, longitude_deg: float, altitude_m: float) -> None:
        if not is_place(latitude_deg, longitude_deg) or not math.isfinite(altitude_m):
            raise CalibrationError(
                "datum: latitude must be within -90 .. 90, longitude within -180 .. 360 degrees"
                f" and the height finite, got {latitude_deg}, {longitude_deg}, {altitude_m}"
            )
        self.latitude_deg = float(latitude_deg)
        self.longitude_deg = float(longitude_deg)
        self.altitude_m = float(altitude_m)
        # PROJ's cart step takes radians; unitconvert lets degrees in and out.
        self._transformer = pyproj.Transformer.from_pipeline(
            "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad"
            " +step +proj=cart +ellps=WGS84"
            f" +step +proj=topocentric +ellps=WGS84 +lat_0={self.latitude_deg!r}"
            f" +lon_0={self.longitude_deg!r} +h_0={self.altitude_m!r}"
        )

    @property
    def datum(self) -> tuple[float, float, float]:
        """Latitude and longitude in degrees, ellipsoidal height in metres."""
        return self.latitude_deg, self.longitude_deg, self.altitude_m

    def to_enu(self, latitude_deg: float, longitude_deg: float, altitude_m: float) -> F64:
        """East, north, up [3] in metres of a geodetic position."""
        return np.array(
            self._transformer.transform(longitude_deg, latitude_deg, altitude_m), dtype=np.float64
        )

    def to_geodetic(self, enu: npt.ArrayLike) -> tuple[float, float, float]:
        """Latitude, longitude (degrees) and ellipsoidal height (m) of east-north-up [3]."""
        east, north, up = np.asarray(enu, dtype=np.float64)
        longitude, latitude, altitude = self._transformer.transform(
            east, north, up, direction=pyproj.enums.TransformDirection.INVERSE
        )
        return float(latitude), float(longitude), float(altitude)

    def from_other(self, other: LocalTangentPlane) -> RigidTransform:
        """This plane's coordinates from another's: exact, both are axes of one space."""
        ends = [self.to_enu(*other.to_geodetic(p)) for p in (np.zeros(3), *(np.eye(3) * _ARM_M))]
        axes = np.stack([(end - ends[0]) / _ARM_M for end in ends[1:]], axis=1)
        u, _, vt = np.linalg.svd(axes)
        return RigidTransform.trusted(u @ vt, ends[0])


def is_place(latitude_deg: float, longitude_deg: float) -> bool:
    """Whether the two are finite and a latitude and a longitude at all."""
    return (
        math.isfinite(latitude_deg)
        and math.isfinite(longitude_deg)
        and abs(latitude_deg) <= 90.0
        and -180.0 <= longitude_deg <= 360.0
    )
