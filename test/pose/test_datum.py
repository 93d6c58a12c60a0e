"""The map about its datum: across a zone's border, beside the pole, before and after it is set."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod
from support.pose_drives import ALT, LAT, LON, Drive, Run, Sensors, configure, frames, merge

from mm_fusion.config import load
from mm_fusion.geometry import FrameTree
from mm_fusion.pose.pipeline import PosePipeline

EARTH = Geod(ellps="WGS84")


def road(*datum: float) -> PosePipeline:
    given = [] if not datum else [f"pose.datum=[{', '.join(map(str, datum))}]"]
    return PosePipeline(load(assignments=given), FrameTree())


def test_a_zone_s_border_is_no_border() -> None:
    """GIVEN a datum 4 km west of the border between two UTM zones (12 deg east) WHEN places are
    taken a metre at a time across it THEN each is a metre on in the map, where UTM's eastings jump
    by half a thousand kilometres, and distances are the ellipsoid's."""
    datum = (48.0, 11.946, 0.0)
    map_ = road(*datum)
    longitude, east = [], []
    for metres in np.arange(4000.0, 4060.0):
        lon, lat, _ = EARTH.fwd(datum[1], datum[0], 90.0, metres)
        place = map_.from_geodetic(lat, lon, 0.0)
        assert not isinstance(place, str)
        longitude.append(lon)
        east.append(place)
        assert np.linalg.norm(place) == pytest.approx(metres, abs=0.002)
        back = map_.to_geodetic(place)
        assert back == pytest.approx((lat, lon, 0.0), abs=1e-8)
    assert min(longitude) < 12.0 < max(longitude)
    steps = np.linalg.norm(np.diff(east, axis=0), axis=1)
    assert steps == pytest.approx(np.ones(len(steps)), abs=1e-5)


def test_beside_the_pole_nothing_special_happens() -> None:
    """GIVEN a datum 200 m from the north pole WHEN one drives on over it THEN the map goes on
    straight, though longitude turns by half a circle."""
    datum = (89.9982, 30.0, 0.0)
    map_ = road(*datum)
    for metres in (0.0, 150.0, 190.0, 210.0, 300.0, 1000.0):
        lon, lat, _ = EARTH.fwd(datum[1], datum[0], 0.0, metres)
        place = map_.from_geodetic(lat, lon, 0.0)
        assert not isinstance(place, str)
        assert place[:2] == pytest.approx((0.0, metres), abs=0.002)
        back = map_.to_geodetic((0.0, metres, 0.0))
        assert back is not None
        assert EARTH.inv(lon, lat, back[1], back[0])[2] == pytest.approx(0.0, abs=0.002)


def test_what_is_no_place_and_what_is_not_known_yet() -> None:
    """GIVEN no datum THEN neither way has an answer; a latitude of 91 degrees is named."""
    unknown = road()
    assert unknown.to_geodetic((1.0, 2.0, 3.0)) is None
    assert unknown.from_geodetic(48.0, 11.0, 500.0) == ""
    for latitude, longitude, altitude in ((91.0, 0.0, 0.0), (48.0, 11.0, float("nan"))):
        answer = unknown.from_geodetic(latitude, longitude, altitude)
        assert isinstance(answer, str)
        assert str(latitude) in answer
        assert str(latitude) in unknown.set_datum(latitude, longitude, altitude)
    assert unknown.datum is None
    assert unknown.set_datum(48.0, 11.0, 500.0) == ""
    assert unknown.datum == (48.0, 11.0, 500.0)


def test_setting_the_datum_moves_the_map_and_not_the_robot() -> None:
    """GIVEN a robot that knows where it is WHEN the datum is put 3 km away THEN it is at the same
    place on earth with the same heading there, goes on from it, and odom is what it would have
    been."""
    drive, sensors = Drive(duration_s=24.0, heading=0.7), Sensors(seed=2)
    samples = merge(sensors.imu(drive), sensors.wheels(drive), sensors.gps(drive))
    half = len(samples) // 2
    moved, stayed = (Run(PosePipeline(configure(), frames(sensors))) for _ in range(2))
    for run in (moved, stayed):
        run.feed(samples[:half])
    before = moved.global_[-1]
    there = moved.pipeline.to_geodetic(before.frame_from_base.translation)
    lon, lat, _ = EARTH.fwd(LON, LAT, 200.0, 3000.0)
    assert moved.pipeline.set_datum(lat, lon, ALT) == ""
    for run in (moved, stayed):
        run.feed(samples[half:])
    first = moved.global_[len([e for e in stayed.global_ if e.stamp_ns <= before.stamp_ns])]
    here = moved.pipeline.to_geodetic(first.frame_from_base.translation)
    assert there is not None
    assert here is not None
    assert EARTH.inv(there[1], there[0], here[1], here[0])[2] < 0.3  # a step of 10 ms, and a fix
    assert np.linalg.norm(first.frame_from_base.translation[:2]) == pytest.approx(3000.0, rel=0.1)
    a, b = (
        run.pipeline.to_geodetic(run.global_[-1].frame_from_base.translation)
        for run in (moved, stayed)
    )
    assert a is not None
    assert b is not None
    assert EARTH.inv(a[1], a[0], b[1], b[0])[2] < 1.0
    for one, other in zip(moved.local, stayed.local, strict=True):
        assert np.array_equal(one.frame_from_base.matrix(), other.frame_from_base.matrix())
