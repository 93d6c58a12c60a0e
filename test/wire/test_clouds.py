"""PointCloud2: any field table that makes sense, a reason for those that do not."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import wire_messages as w

from mm_fusion.config_lidar import LidarConfig
from mm_fusion.samples import LidarSweep, Reason, Rejection
from mm_fusion.wire import Lidars, decode, from_message

XYZ = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]


def points(extra: list[Any] = [], n: int = 50, seed: int = 0) -> npt.NDArray[Any]:  # noqa: B006
    rng = np.random.default_rng(seed)
    out = np.zeros(n, np.dtype(XYZ + extra))
    for name in out.dtype.names or ():
        out[name] = rng.uniform(0, 100, out[name].shape)
    return out


def sweep(answer: Any) -> LidarSweep:
    assert isinstance(answer, LidarSweep), answer
    return answer


def rejection(answer: Any) -> Rejection:
    assert isinstance(answer, Rejection), answer
    return answer


def read(message: Any, little_endian: bool = True, lidars: Any = None) -> LidarSweep:
    return sweep(decode(w.CLOUD, w.cdr(message, little_endian), "lidar", lidars))


# ------------------------------------------------------------------------------- the layout


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("bigendian", [True, False])
@pytest.mark.parametrize(
    "dtype",
    [
        XYZ,
        [("z", "f8"), ("ring", "u2"), ("y", "f8"), ("intensity", "u1"), ("x", "f8")],
        [("a", "i1"), ("x", "f4"), ("b", "u1"), ("y", "f8"), ("c", "i2"), ("z", "f4"), ("d", "i4")],
        {
            "names": ["x", "y", "z", "rgb"],
            "formats": ["f4", "f4", "f4", "u4"],
            "offsets": [0, 4, 8, 16],
            "itemsize": 48,
        },
        {"names": ["z", "y", "x"], "formats": ["f4"] * 3, "offsets": [19, 7, 1], "itemsize": 25},
        [("x", "f4"), ("normal", "f4", (3,)), ("y", "f4"), ("z", "f4")],
    ],
)
def test_fields_are_found_by_name(dtype: Any, bigendian: bool, little_endian: bool) -> None:
    # GIVEN fields in any order, place, type and byte order
    wanted = np.zeros(40, np.dtype(dtype).newbyteorder(">" if bigendian else "<"))
    for i, name in enumerate(wanted.dtype.names or ()):
        values = np.arange(wanted[name].size).reshape(wanted[name].shape)
        wanted[name] = values % 100 + i
    raw = w.cdr(w.cloud(wanted, bigendian=bigendian), little_endian)
    # WHEN decoded
    found = sweep(decode(w.CLOUD, raw, "lidar"))
    # THEN each field has its values, in the message's own memory
    for name in wanted.dtype.names or ():
        np.testing.assert_array_equal(found.points[name], wanted[name])
    assert np.shares_memory(found.points, np.frombuffer(raw, np.uint8))
    assert (found.sensor, found.frame_id, found.stamp_ns) == ("lidar", "lidar", w.STAMP_NS)


def test_a_message_object_gives_the_same_sweep() -> None:
    message = w.cloud(points([("intensity", "<f4"), ("t", "<u4")]))
    found, wanted = sweep(from_message(message, "lidar")), read(message)
    np.testing.assert_array_equal(found.points, wanted.points)
    assert found.points.dtype == wanted.points.dtype
    assert np.shares_memory(found.points, message.data)
    assert (found.intensity_scale, found.time_unit_ns) == (
        wanted.intensity_scale,
        wanted.time_unit_ns,
    )


def test_an_organised_cloud_is_flattened_row_by_row() -> None:
    wanted = points(n=60).reshape(4, 15)
    raw = w.cdr(w.cloud(wanted))
    found = sweep(decode(w.CLOUD, raw, "lidar"))
    np.testing.assert_array_equal(found.points, wanted.reshape(-1))
    assert np.shares_memory(found.points, np.frombuffer(raw, np.uint8))


@pytest.mark.parametrize("last_row_padded", [True, False])
def test_padding_at_the_end_of_rows_is_skipped(last_row_padded: bool) -> None:
    wanted = points(n=60).reshape(4, 15)
    rows = np.full((4, 15 * 12 + 20), 0xAB, np.uint8)
    rows[:, : 15 * 12] = np.frombuffer(wanted.tobytes(), np.uint8).reshape(4, -1)
    data = rows.tobytes() if last_row_padded else rows.tobytes()[:-20]
    found = read(w.cloud(wanted, row_step=200, data=data))
    np.testing.assert_array_equal(found.points, wanted.reshape(-1))


@pytest.mark.parametrize("row_step", [0, 7, 2**32 - 1])
def test_a_wrong_row_step_does_no_harm_where_rows_cannot_be_padded(row_step: int) -> None:
    wanted = points(n=60)
    for shape in (wanted, wanted.reshape(4, 15)):
        found = read(w.cloud(shape, row_step=row_step))
        np.testing.assert_array_equal(found.points, wanted)


def test_a_single_row_may_have_more_data_than_points() -> None:
    wanted = points()
    found = read(w.cloud(wanted, data=wanted.tobytes() + bytes(33)))
    np.testing.assert_array_equal(found.points, wanted)


def test_nan_points_are_kept_for_later() -> None:
    wanted = points()
    wanted["x"][::2] = np.nan
    np.testing.assert_array_equal(read(w.cloud(wanted)).points["x"], wanted["x"])


def test_fields_without_a_name_are_padding_and_a_count_of_zero_is_one() -> None:
    table = [("x", 0, 7, 0), ("y", 4, 7, 1), ("z", 8, 7, 1), ("", 12, 2, 4), ("", 16, 2, 4)]
    dtype = np.dtype({"names": ["x", "y", "z"], "formats": ["f4"] * 3, "itemsize": 20})
    found = read(w.cloud(np.ones(5, dtype), fields=table))
    assert found.points.dtype.names == ("x", "y", "z")
    assert found.points["x"].tolist() == [1.0] * 5


BASE = [("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1)]
MANY = [(f"f{i}", 0, 2, 1) for i in range(200)]
HUGE = 2**32 - 1


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (w.cloud(points(), width=0), Reason.EMPTY_CLOUD, "1 x 0"),
        (w.cloud(points(), height=0), Reason.EMPTY_CLOUD, "0 x 50"),
        (w.cloud(points(), fields=BASE[:2]), Reason.MISSING_FIELD, "'z'"),
        (w.cloud(points(), fields=[]), Reason.MISSING_FIELD, "'x'"),
        (w.cloud(points(), stamp_ns=0), Reason.ZERO_STAMP, "stamp"),
        (w.cloud(points(), width=51), Reason.MALFORMED, "row_step|data"),
        (w.cloud(points(), height=2), Reason.MALFORMED, "1200 bytes|data"),
        (w.cloud(points(), point_step=0), Reason.MALFORMED, "point_step"),
        (w.cloud(points(), point_step=HUGE), Reason.MALFORMED, "point_step"),
        (w.cloud(points(), width=HUGE, height=HUGE), Reason.MALFORMED, "row"),
        (w.cloud(points(), width=HUGE), Reason.MALFORMED, "data|row"),
        (w.cloud(points(), fields=[*BASE, ("x", 0, 7, 1)]), Reason.MALFORMED, "twice"),
        (w.cloud(points(), fields=[*BASE, ("i", 12, 7, 1)]), Reason.MALFORMED, "exceed"),
        (w.cloud(points(), fields=[*BASE, ("i", HUGE, 7, 1)]), Reason.MALFORMED, "exceed"),
        (w.cloud(points(), fields=[*BASE, ("i", 0, 7, HUGE)]), Reason.MALFORMED, "exceed"),
        (w.cloud(points(), fields=[*BASE, ("i", 0, 9, 1)]), Reason.MALFORMED, "datatype"),
        (w.cloud(points(), fields=[*BASE, ("i", 0, 0, 1)]), Reason.MALFORMED, "datatype"),
        (w.cloud(points(), fields=[*BASE[:2], ("z", 8, 5, 1)]), Reason.MALFORMED, "float"),
        (w.cloud(points(), fields=[*BASE[1:], ("x", 0, 7, 3)]), Reason.MALFORMED, "one float"),
        (w.cloud(points(), fields=MANY + BASE), Reason.MALFORMED, "fields"),
    ],
)
def test_a_bad_cloud_is_answered_with_its_reason(message: Any, reason: Reason, words: str) -> None:
    for answer in (decode(w.CLOUD, w.cdr(message), "lidar"), from_message(message, "lidar")):
        found = rejection(answer)
        assert found.reason is reason, found
        assert any(word in found.detail for word in words.split("|")), found.detail


def test_every_truncation_is_malformed() -> None:
    raw = w.cdr(w.cloud(points(n=8)))
    for length in range(len(raw)):
        assert rejection(decode(w.CLOUD, raw[:length], "lidar")).reason is Reason.MALFORMED


@pytest.mark.parametrize("count_at", [0, 4, 8])
def test_a_huge_count_allocates_nothing(count_at: int) -> None:
    # GIVEN a cloud whose height, width or number of fields is enormous
    raw = bytearray(w.cdr(w.cloud(points())))
    start = 4 + 8 + 4 + len("lidar\0") + 2
    assert raw[start + 8] == 3  # the number of fields: we are at the right place
    raw[start + count_at : start + count_at + 4] = b"\xff\xff\xff\x7f"
    decode(w.CLOUD, raw, "lidar")
    tracemalloc.start()
    try:
        answer = decode(w.CLOUD, raw, "lidar")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rejection(answer).reason is Reason.MALFORMED
    assert peak < 20_000


def test_a_large_cloud_is_read_without_copying_it() -> None:
    wanted = points([("intensity", "<f4"), ("time", "<f4")], n=120_000)
    raw = w.cdr(w.cloud(wanted))
    decode(w.CLOUD, raw, "lidar")
    tracemalloc.start()
    try:
        answer = decode(w.CLOUD, raw, "lidar")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sweep(answer).points.nbytes == 2_400_000
    assert peak < 50_000


# ---------------------------------------------------------------------------- the intensity


@pytest.mark.parametrize(
    ("name", "kind", "largest", "scale"),
    [
        ("intensity", "<f4", 0.99, 1.0),  # KITTI
        ("intensity", "<f4", 255.0, 1 / 255),  # Velodyne, Hesai, RoboSense
        ("intensity", "<f4", 1800.0, 1 / 4095),  # Ouster's signal
        ("intensity", "<f8", 60000.0, 1 / 65535),
        ("intensity", "<f4", 1e6, 1 / 65535),
        ("i", "u1", 3, 1 / 255),  # small numbers of a byte are still of 255
        ("reflectivity", "<u2", 255, 1 / 255),  # Ouster
        ("reflectivity", "<u2", 65535, 1 / 65535),
        ("intensities", "<u2", 3000, 1 / 4095),
        ("reflectance", "<f4", 100.0, 1 / 255),
    ],
)
def test_the_scale_of_intensity_is_told(name: str, kind: str, largest: float, scale: float) -> None:
    cloud = points([(name, kind)], n=3000)
    cloud[name] = np.linspace(0, largest, 3000)
    found = read(w.cloud(cloud))
    assert found.intensity_field == name
    assert found.intensity_scale == pytest.approx(scale, rel=1e-12)


def test_the_scale_of_intensity_can_be_given() -> None:
    cloud = points([("intensity", "<f4")])
    hundred = Lidars(LidarConfig(intensity_max=100.0))
    assert read(w.cloud(cloud), lidars=hundred).intensity_scale == pytest.approx(0.01)
    message = w.cloud(cloud)
    assert sweep(from_message(message, "l", hundred)).intensity_scale == pytest.approx(0.01)


def test_nan_intensities_do_not_disturb_the_scale() -> None:
    cloud = points([("intensity", "<f4")], n=5000)
    cloud["intensity"][::2] = np.nan
    assert read(w.cloud(cloud)).intensity_scale == pytest.approx(1 / 255)
    cloud["intensity"] = np.nan
    assert read(w.cloud(cloud)).intensity_scale == 1.0


def test_intensity_wins_over_reflectivity_and_none_is_none() -> None:
    cloud = points([("reflectivity", "<u2"), ("intensity", "<f4")])
    assert read(w.cloud(cloud)).intensity_field == "intensity"
    assert read(w.cloud(points())).intensity_field == ""
    assert read(w.cloud(points([("intensity", "<f4", (2,))]))).intensity_field == ""


# --------------------------------------------------------------------------------- the time


def instants(found: LidarSweep) -> npt.NDArray[np.float64]:
    """Seconds after the stamp, by the definition in LidarSweep."""
    values = found.points[found.time_field].astype(np.float64)
    return np.asarray((found.time_offset_ns + values * found.time_unit_ns) / 1e9)


STAMP_S = w.STAMP_NS / 1e9


@pytest.mark.parametrize(
    ("name", "kind", "values", "wanted"),
    [
        ("time", "<f4", (-0.1, 0.0), (-0.1, 0.0)),  # seconds before the end of the sweep
        ("time", "<f4", (0.0, 0.1), (0.0, 0.1)),  # Velodyne
        ("t", "<u4", (0, 99_900_000), (0.0, 0.0999)),  # Ouster: ns
        ("offset_time", "<u4", (0, 99_990_000), (0.0, 0.09999)),  # Livox: ns
        ("time_stamp", "<u4", (0, 100_000_000), (0.0, 0.1)),  # Autoware: ns
        ("t", "<i4", (-100_000_000, 0), (-0.1, 0.0)),
        ("t", "<u4", (0, 100_000), (0.0, 0.1)),  # us
        ("time", "<f4", (0.0, 100.0), (0.0, 0.1)),  # ms
        ("time", "<f8", (0.0, 1e5), (0.0, 0.1)),  # us
        ("time", "<f8", (0.0, 1e8), (0.0, 0.1)),  # ns
        ("timestamp", "<f8", (STAMP_S, STAMP_S + 0.1), (0.0, 0.1)),  # Hesai, RoboSense
        ("timestamp", "<f8", (STAMP_S - 0.1, STAMP_S), (-0.1, 0.0)),
        ("timestamp", "<f8", (w.STAMP_NS, w.STAMP_NS + 1e8), (0.0, 0.1)),  # Livox driver 2: ns
        ("timestamp", "<f8", (STAMP_S * 1e6, STAMP_S * 1e6 + 1e5), (0.0, 0.1)),  # us
    ],
)
def test_the_unit_of_time_is_told(
    name: str, kind: str, values: tuple[float, float], wanted: tuple[float, float]
) -> None:
    cloud = points([(name, kind)], n=2048)
    cloud[name] = np.linspace(*values, 2048)
    found = read(w.cloud(cloud))
    assert (found.time_field, found.remark) == (name, "")
    np.testing.assert_allclose(instants(found), np.linspace(*wanted, 2048), atol=2e-6)


def test_absolute_times_of_a_simulator_that_starts_at_zero() -> None:
    cloud = points([("timestamp", "<f8")], n=2048)
    cloud["timestamp"] = np.linspace(499.9, 500.0, 2048)
    found = read(w.cloud(cloud, stamp_ns=500_000_000_000))
    np.testing.assert_allclose(instants(found), np.linspace(-0.1, 0.0, 2048), atol=1e-9)


def test_time_by_column_of_an_organised_cloud() -> None:
    # GIVEN Ouster's order: 64 rows of 1024 columns, the time runs along each row
    cloud = points([("t", "<u4")], n=64 * 1024).reshape(64, 1024)
    cloud["t"] = np.arange(1024) * 97_656
    found = read(w.cloud(cloud))
    assert found.time_unit_ns == 1.0


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("<f8", (STAMP_S - 100.0, STAMP_S - 99.9)),  # another clock
        ("<u4", (3_000_000_000, 3_100_000_000)),  # ns since the sensor's start
        ("<f4", (2e9, 3e9)),
        ("<f4", (np.nan, np.nan)),
        ("<f8", (-np.inf, np.inf)),
        ("<f8", (-1e308, 1e308)),
    ],
)
def test_a_time_that_fits_nothing_is_said_and_not_used(kind: str, values: Any) -> None:
    cloud = points([("timestamp", kind)], n=2048)
    cloud["timestamp"] = np.where(np.arange(2048) % 2, *values)
    found = read(w.cloud(cloud))
    assert found.time_field == ""
    assert "timestamp" in found.remark


def test_a_few_points_in_nanoseconds_stay_in_nanoseconds() -> None:
    cloud = points([("t", "<u4")], n=10)
    cloud["t"] = np.arange(10) * 1000
    assert read(w.cloud(cloud)).time_unit_ns == 1.0


def test_no_time_field_is_no_time_field() -> None:
    found = read(w.cloud(points()))
    assert (found.time_field, found.remark) == ("", "")


def test_field_tables_of_one_length_are_not_taken_for_each_other() -> None:
    """GIVEN two LIDARs with as many fields each, in either byte order, WHEN their clouds come in
    turn THEN each is read by its own table."""
    one = points([("intensity", "f4")], seed=1)
    other = points([("reflectivity", "u2")], seed=2)
    for _ in range(2):
        for little_endian in (True, False):
            assert read(w.cloud(one), little_endian).intensity_field == "intensity"
            found = read(w.cloud(other), little_endian)
            assert found.intensity_field == "reflectivity"
            np.testing.assert_array_equal(found.points["reflectivity"], other["reflectivity"])
