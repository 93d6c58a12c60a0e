"""The local tangent frame against closed formulas written here, not against itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_fusion.errors import CalibrationError
from mm_fusion.geodesy import LocalTangentPlane, is_place

A, F = 6378137.0, 1.0 / 298.257223563
E2 = F * (2.0 - F)


def ecef(lat: float, lon: float, h: float) -> np.ndarray:
    """Geodetic to earth-centred by the textbook formula."""
    la, lo = math.radians(lat), math.radians(lon)
    n = A / math.sqrt(1.0 - E2 * math.sin(la) ** 2)
    return np.array(
        [
            (n + h) * math.cos(la) * math.cos(lo),
            (n + h) * math.cos(la) * math.sin(lo),
            (n * (1.0 - E2) + h) * math.sin(la),
        ]
    )


def enu(datum: tuple[float, float, float], point: tuple[float, float, float]) -> np.ndarray:
    """East, north, up by the rotation of the earth-centred difference."""
    la, lo = math.radians(datum[0]), math.radians(datum[1])
    d = ecef(*point) - ecef(*datum)
    east = np.array([-math.sin(lo), math.cos(lo), 0.0])
    up = np.array([math.cos(la) * math.cos(lo), math.cos(la) * math.sin(lo), math.sin(la)])
    return np.array([east @ d, np.cross(up, east) @ d, up @ d])


@pytest.mark.parametrize(
    ("datum", "point"),
    [
        ((48.0, 11.5, 500.0), (48.001, 11.502, 510.0)),
        ((48.0, 11.5, 500.0), (48.3, 11.1, 400.0)),
        ((-33.9, 151.2, 20.0), (-33.91, 151.19, 25.0)),
        ((0.0, 179.9999, 0.0), (0.0005, -179.9999, 3.0)),
        ((89.9, 10.0, 100.0), (89.9001, 40.0, 100.0)),
    ],
)
def test_enu_is_the_textbook_one(datum, point) -> None:
    assert LocalTangentPlane(*datum).to_enu(*point) == pytest.approx(enu(datum, point), abs=1e-6)


def test_there_and_back() -> None:
    plane = LocalTangentPlane(48.0, 11.5, 500.0)
    back = plane.to_geodetic(plane.to_enu(48.02, 11.47, 512.5))
    assert back[:2] == pytest.approx((48.02, 11.47), abs=1e-10)
    assert back[2] == pytest.approx(512.5, abs=1e-6)


def test_no_step_at_a_utm_zone_border() -> None:
    """GIVEN a drive eastward across 12 degrees east, where UTM zones 32 and 33 meet
    WHEN equal steps of longitude are taken THEN they are equal steps in metres, to the mm."""
    plane = LocalTangentPlane(48.0, 12.0, 0.0)
    points = np.array([plane.to_enu(48.0, 12.0 + k * 1e-4, 0.0) for k in range(-5, 6)])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert np.ptp(steps) < 1e-3
    parallel = (
        A / math.sqrt(1.0 - E2 * math.sin(math.radians(48.0)) ** 2) * math.cos(math.radians(48.0))
    )
    assert steps[0] == pytest.approx(parallel * math.radians(1e-4), abs=1e-3)


@pytest.mark.parametrize("bad", [(91.0, 0.0, 0.0), (0.0, 400.0, 0.0), (math.nan, 0.0, 0.0)])
def test_an_impossible_datum_is_refused_by_name(bad) -> None:
    with pytest.raises(CalibrationError, match="datum: latitude must be within"):
        LocalTangentPlane(*bad)
    assert not is_place(bad[0], bad[1])
