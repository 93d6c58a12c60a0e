"""What a LIDAR's times and intensities mean is remembered, said, and can be overruled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import wire_messages as w

from mm_fusion.config import from_values
from mm_fusion.config_lidar import LidarConfig
from mm_fusion.errors import ConfigError
from mm_fusion.samples import CameraFrame, LidarSweep
from mm_fusion.wire import Lidars, decode, from_message

MS = 1_000_000
PERIOD_NS = 100 * MS
N = 2048


def cloud(
    field: str, kind: str, values: npt.ArrayLike, more: Iterable[Any] = ()
) -> npt.NDArray[np.void]:
    values = np.asarray(values)
    dtype = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), (field, kind), *more])
    points = np.zeros(len(values), dtype)
    points[field] = values
    return points


class Driver:
    """One LIDAR that sends a sweep every 100 ms, each arriving ``delay_ms`` after its stamp."""

    def __init__(self, sensor: str = "lidar", topics: Any = (), **config: Any) -> None:
        self.lidars = Lidars(LidarConfig(**config), topics)
        self.sensor = sensor
        self.stamp_ns = w.STAMP_NS
        self.rng = np.random.default_rng(4)
        self.said: list[str] = []

    def send(self, points: npt.NDArray[np.void], delay_ms: float | None = None) -> LidarSweep:
        arrival_ns = 0
        if delay_ms is not None:
            arrival_ns = self.stamp_ns + round((delay_ms + self.rng.uniform(0.0, 3.0)) * MS)
        message = w.cloud(points, stamp_ns=self.stamp_ns)
        found = decode(w.CLOUD, w.cdr(message), self.sensor, self.lidars, arrival_ns)
        assert isinstance(found, LidarSweep)
        assert found.arrival_ns == arrival_ns
        self.stamp_ns += PERIOD_NS
        self.said += self.lidars.news()
        return found

    def send_many(self, count: int, points: Any, delay_ms: float | None = None) -> LidarSweep:
        for _ in range(count):
            found = self.send(points() if callable(points) else points, delay_ms)
        return found


def seconds_of(found: LidarSweep) -> npt.NDArray[np.float64]:
    """Each point's instant against the stamp, by the definition in LidarSweep."""
    values = found.points[found.time_field].astype(np.float64)
    return np.asarray((found.time_offset_ns + values * found.time_unit_ns) / 1e9)


def ends_ms(found: LidarSweep) -> list[float]:
    seconds = seconds_of(found)
    return [round(float(s) * 1e3, 1) for s in (seconds[0], seconds[-1])]


OUSTER = cloud("t", "u4", np.linspace(0, 99_900_000, N).astype(np.uint32))
STAMP_S = w.STAMP_NS / 1e9


# ------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize(
    ("field", "kind", "values", "text"),
    [
        ("t", "u4", (0, 99_900_000), "'t', ns, relative; the stamp is the start of"),
        ("time", "f4", (-0.1, 0.0), "'time', s, relative; the stamp is the end of"),
        ("time", "f4", (0.0, 0.1), "'time', s, relative; the stamp is the start of"),
        ("time", "f4", (-0.05, 0.05), "'time', s, relative; the stamp is the middle of"),
        ("timestamp", "f8", (STAMP_S, STAMP_S + 0.1), "s, absolute; the stamp is the start of"),
        ("timestamp", "f8", (STAMP_S - 0.1, STAMP_S), "s, absolute; the stamp is the end of"),
        ("timestamp", "f8", (STAMP_S - 0.13, STAMP_S - 0.03), "absolute; the stamp is after the"),
        ("timestamp", "f8", (STAMP_S + 0.03, STAMP_S + 0.13), "absolute; the stamp is before the"),
        ("timestamp", "f8", (w.STAMP_NS, w.STAMP_NS + 1e8), "ns, absolute; the stamp is the start"),
        ("offset_time", "u4", (0, 99_990_000), "'offset_time', ns, relative; the stamp is the st"),
        ("time_stamp", "u4", (0, 100_000), "'time_stamp', us, relative; the stamp is the start"),
        ("time_stamp", "f4", (-100.0, 0.0), "'time_stamp', ms, relative; the stamp is the end"),
    ],
)
def test_what_was_recognized_is_said_once(
    field: str, kind: str, values: tuple[float, float], text: str
) -> None:
    # GIVEN a driver whose sweeps are all alike
    driver = Driver("front/points")
    points = cloud(field, kind, np.linspace(*values, N))
    absolute = "absolute" in text
    for n in range(6):
        shifted = points.copy()
        if absolute:
            shifted[field] += n * 0.1 if values[0] < 2 * STAMP_S else n * 1e8
        found = driver.send(shifted)
        assert found.time_field == field
    # THEN field, unit, absolute or relative, and the stamp's place are said once, and stay known
    assert len(driver.said) == 1
    assert driver.said[0].startswith("front/points: times from field")
    assert text in driver.said[0]
    assert text in driver.lidars.report()["front/points"]


@pytest.mark.parametrize(
    ("stamp_s", "kind", "unit"),
    [(500.0, "f4", 1.0), (500.0, "u4", 1e6), (500.0, "u4", 1e3), (5000.0, "f8", 1e9)],
)
def test_absolute_times_of_a_young_clock(stamp_s: float, kind: str, unit: float) -> None:
    values = (np.linspace(stamp_s, stamp_s + 0.1, N) * unit).astype(kind)
    message = w.cloud(cloud("timestamp", kind, values), stamp_ns=round(stamp_s * 1e9))
    found = decode(w.CLOUD, w.cdr(message), "lidar")
    assert isinstance(found, LidarSweep)
    tolerance = {"u4": 1.0 / unit, "f4": 1e-4, "f8": 1e-6}[kind]
    np.testing.assert_allclose(seconds_of(found), np.linspace(0.0, 0.1, N), atol=tolerance)


def test_a_float32_cannot_hold_the_seconds_of_an_epoch() -> None:
    # Its neighbours are 128 s apart; all points would fall on one instant.
    found = Driver().send(cloud("timestamp", "f4", np.full(N, STAMP_S, np.float32)))
    assert found.time_field == ""
    assert "timestamp" in found.remark


def test_times_that_say_nothing_are_refused_and_that_is_said_once() -> None:
    driver = Driver()
    for _ in range(4):
        found = driver.send(cloud("t", "u4", np.zeros(N)))
        assert (found.time_field, found.remark) == ("", "time field 't' is 0 for every point")
    assert driver.said == [
        "lidar: time field 't' is 0 for every point: points are not corrected for their times"
    ]


def test_a_clock_of_its_own_is_refused_with_the_way_out() -> None:
    driver = Driver()
    found = driver.send(cloud("timestamp", "f8", 8000.0 + np.linspace(0.0, 0.1, N)))
    assert found.time_field == ""
    assert "lidar.time_reference" in found.remark


# -------------------------------------------------------------------------------- the memory


def test_one_odd_sweep_does_not_change_the_unit() -> None:
    # GIVEN a driver that counts microseconds
    driver = Driver()
    full = cloud("t", "u4", np.linspace(0, 99_900, N).astype(np.uint32))
    assert ends_ms(driver.send_many(5, full)) == [0.0, 99.9]
    # WHEN one sweep has a few points, that would be nanoseconds by themselves
    few = cloud("t", "u4", np.linspace(0, 50_000, 20).astype(np.uint32))
    by_itself = decode(w.CLOUD, w.cdr(w.cloud(few)), "lidar")
    assert isinstance(by_itself, LidarSweep)
    assert by_itself.time_unit_ns == 1.0
    # THEN it is read as all before
    assert ends_ms(driver.send(few)) == [0.0, 50.0]
    assert ends_ms(driver.send(full)) == [0.0, 99.9]
    assert len(driver.said) == 1


def test_a_few_points_are_understood_once_the_period_is_known() -> None:
    # GIVEN a small device: 200 points a sweep, in microseconds
    driver = Driver()
    small = cloud("t", "u4", np.linspace(0, 99_000, 200).astype(np.uint32))
    assert driver.send(small).time_unit_ns == 1.0  # what anybody would think of one sweep
    # WHEN sweeps keep coming every 100 ms
    found = driver.send_many(6, small)
    # THEN they last about as long
    assert ends_ms(found) == [0.0, 99.0]
    assert len(driver.said) == 2
    assert "(before: field 't', ns" in driver.said[1]


def test_three_sweeps_in_a_row_change_the_meaning_and_it_is_said() -> None:
    driver = Driver()
    driver.send_many(5, cloud("time", "f4", np.linspace(0.0, 0.1, N)))
    # WHEN the driver is reconfigured to milliseconds
    changed = cloud("time", "f4", np.linspace(0.0, 100.0, N))
    for _ in range(2):
        found = driver.send(changed)
        assert found.time_field == ""  # a hundred seconds are refused
        assert "is not what it was" in found.remark
    assert ends_ms(driver.send(changed)) == [0.0, 100.0]
    assert "times from field 'time', ms" in driver.said[-1]
    assert "(before: field 'time', s" in driver.said[-1]


def test_broken_sweeps_between_good_ones_cost_only_themselves() -> None:
    driver = Driver()
    driver.send_many(3, OUSTER)
    broken = cloud("t", "u4", np.full(N, 4_000_000_000, np.uint32))
    for _ in range(10):
        assert driver.send(broken).time_field == ""
        assert ends_ms(driver.send(OUSTER)) == [0.0, 99.9]


def test_another_type_of_the_field_begins_anew_at_once() -> None:
    driver = Driver()
    driver.send_many(5, OUSTER)
    found = driver.send(cloud("t", "f4", np.linspace(-0.1, 0.0, N)))
    assert ends_ms(found) == [-100.0, 0.0]


def test_the_same_sweeps_give_the_same_answers() -> None:
    def run() -> list[Any]:
        driver = Driver()
        found = [driver.send(OUSTER, delay_ms=20.0) for _ in range(15)]
        return [(f.time_unit_ns, f.time_offset_ns) for f in found] + driver.said

    assert run() == run()


# ----------------------------------------------------------------- the stamp's place by arrival


@pytest.mark.parametrize(
    ("delay_ms", "expected", "word"),
    [
        (104.0, [0.0, 99.9], "start"),
        (140.0, [0.0, 99.9], "start"),
        (55.0, [-50.0, 50.0], "middle"),
        (62.0, [-50.0, 50.0], "middle"),
        (4.0, [-99.9, 0.0], "end"),
        (25.0, [-99.9, 0.0], "end"),
    ],
)
def test_no_sweep_arrives_before_it_was_measured(
    delay_ms: float, expected: list[float], word: str
) -> None:
    # GIVEN offsets from the start of the sweep, whatever the stamp is
    driver = Driver()
    driver.send(OUSTER, delay_ms)
    # WHEN sweeps have kept arriving that long after their stamp
    found = driver.send_many(14, OUSTER, delay_ms)
    # THEN the stamp is the latest part of the sweep that had been measured by then
    np.testing.assert_allclose(ends_ms(found), expected, atol=0.11)
    assert word in driver.lidars.report()["lidar"]
    if word != "start":
        assert "sooner than it lasts" in driver.said[-1]


def test_a_single_quick_arrival_changes_nothing() -> None:
    driver = Driver()
    for n in range(30):
        found = driver.send(OUSTER, 105.0)
        assert found.time_offset_ns == 0, n
    assert driver.send(OUSTER, 90.0).time_offset_ns == 0
    assert driver.send_many(30, OUSTER, 105.0).time_offset_ns == 0
    assert len(driver.said) == 1


def test_the_shortest_of_several_delays_decides() -> None:
    # GIVEN end stamps, and a machine that is slow while it starts
    driver = Driver()
    driver.send_many(4, OUSTER, 60.0)
    driver.send_many(10, OUSTER, 5.0)
    # THEN the slow ones are not taken for stamps of the middle
    assert len(driver.said) == 2
    assert "the end of the sweep" in driver.said[1]


@pytest.mark.parametrize("delay_ms", [-37_000.0, -30.0, 450.0, 1e9])
def test_clocks_that_differ_say_nothing_about_the_stamp(delay_ms: float) -> None:
    driver = Driver()
    assert driver.send_many(20, OUSTER, delay_ms).time_offset_ns == 0
    assert len(driver.said) == 1


def test_arrivals_that_were_made_up_say_nothing_about_the_stamp() -> None:
    # A converted bag gives every message its stamp, or its stamp and a constant, as arrival.
    for delay_ns in (0, 10 * MS):
        driver = Driver()
        for _ in range(20):
            raw = w.cdr(w.cloud(OUSTER, stamp_ns=driver.stamp_ns))
            arrival_ns = driver.stamp_ns + delay_ns
            found = decode(w.CLOUD, raw, "lidar", driver.lidars, arrival_ns)
            driver.stamp_ns += PERIOD_NS
        assert isinstance(found, LidarSweep)
        assert found.time_offset_ns == 0


def test_times_with_a_sign_and_absolute_ones_need_no_arrivals() -> None:
    for values in (np.linspace(-0.1, 0.0, N), np.linspace(-0.05, 0.05, N)):
        driver = Driver()
        found = driver.send_many(20, cloud("time", "f4", values), 5.0)
        assert found.time_offset_ns == 0


# ------------------------------------------------------------------------------- overruling


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("start", [0.0, 99.9]), ("middle", [-50.0, 50.0]), ("end", [-99.9, 0.0])],
)
@pytest.mark.parametrize("first_ns", [0, -99_900_000, 1_234_567_000_000])
def test_the_reference_can_be_given(reference: str, expected: list[float], first_ns: int) -> None:
    # GIVEN times from the start, to the end, or on a clock of the LIDAR's own
    points = cloud("t", "f8", first_ns + np.linspace(0, 99_900_000, N))
    driver = Driver(time_reference=(reference,))
    found = driver.send(points, delay_ms=20.0)
    # THEN the stamp is where the parameter says
    np.testing.assert_allclose(ends_ms(found), expected, atol=0.11)
    assert "as lidar.time_reference says" in driver.said[0]


def test_a_given_start_is_where_the_times_begin_not_the_first_return() -> None:
    driver = Driver(time_reference=("start",))
    found = driver.send(cloud("t", "u4", np.linspace(7_000_000, 99_900_000, N).astype(np.uint32)))
    assert ends_ms(found) == [7.0, 99.9]


def test_a_single_wild_value_does_not_move_the_sweep() -> None:
    points = OUSTER.copy()
    points["t"][7] = 4_000_000_000
    found = Driver(time_reference=("end",)).send(points)
    assert abs(seconds_of(found)[-1]) < 0.001


def test_absolute_is_absolute_or_nothing() -> None:
    driver = Driver(time_reference=("absolute",))
    found = driver.send(OUSTER)
    assert found.time_field == ""
    assert "is not on the stamp's clock" in found.remark
    absolute = cloud("t", "f8", driver.stamp_ns / 1e9 + np.linspace(-0.1, 0.0, N))
    assert ends_ms(driver.send(absolute)) == [-100.0, 0.0]


def test_field_and_unit_can_be_given() -> None:
    more = [("dt", "u4")]
    points = cloud("t", "u4", np.linspace(0, 99_900_000, N).astype(np.uint32), more)
    points["dt"] = np.linspace(0, 50_000, N)
    driver = Driver(time_field=("dt",), time_unit=("us",))
    found = driver.send(points)
    assert (found.time_field, found.time_unit_ns) == ("dt", 1e3)
    assert Driver(time_field=("none",)).send(points).time_field == ""
    missing = Driver(time_field=("stamp_of_point",)).send(points)
    assert missing.time_field == ""
    assert "'stamp_of_point', as lidar.time_field says, is not there" in missing.remark


def test_a_given_unit_that_makes_no_sense_is_refused() -> None:
    driver = Driver(time_unit=("ms",))
    assert driver.send(OUSTER).time_field == ""
    assert len(driver.said) == 1


def test_one_entry_for_all_or_one_for_each_lidar() -> None:
    topics = ("front", "rear")
    each = Driver("/rear", topics, time_reference=("auto", "end"))
    np.testing.assert_allclose(ends_ms(each.send(OUSTER)), [-99.9, 0.0], atol=0.1)
    each.sensor = "front"
    assert ends_ms(each.send(OUSTER)) == [0.0, 99.9]
    every = Driver("rear", topics, time_reference=("end",))
    np.testing.assert_allclose(ends_ms(every.send(OUSTER)), [-99.9, 0.0], atol=0.1)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lidar.time_unit", ["minutes"], "lidar.time_unit: must be one of auto, s, ms, us, ns"),
        ("lidar.time_reference", ["begin"], "must be one of auto, start, middle, end, absolute"),
        ("lidar.time_field", ["t", "time"], r"one entry, or one per LIDAR \(1\), got 2"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_values({name: value})


# --------------------------------------------------------------------------- the intensity


def lit(largest: float) -> npt.NDArray[np.void]:
    points = cloud("intensity", "f4", np.linspace(0.0, largest, N))
    points["intensity"][-1] = largest
    return points


def test_a_dark_scene_does_not_change_the_scale() -> None:
    # GIVEN a LIDAR of 12 bits that then sees little light
    driver = Driver()
    driver.send_many(12, lit(3000.0))
    for largest in (100.0, 0.9, 200.0) * 50:
        assert driver.send(lit(largest)).intensity_scale == pytest.approx(1 / 4095)
    assert not driver.said


def test_a_brighter_scene_changes_the_scale_once_and_it_is_said() -> None:
    driver = Driver()
    driver.send_many(20, lit(200.0))
    scales = [driver.send(lit(v)).intensity_scale for v in (200.0, 1800.0) * 10]
    # THEN one sweep is not enough, and the scale moves once
    assert scales[1] == pytest.approx(1 / 255)
    assert [round(1 / s) for s in sorted(set(scales))] == [4095, 255]
    assert (np.diff(scales) <= 0).all()
    assert driver.said == ["lidar: intensity of 0 .. 4095, not 255"]
    assert driver.lidars.report()["lidar"].endswith("intensity of 0 .. 4095")


def test_a_first_sweep_of_garbage_is_soon_forgotten() -> None:
    driver = Driver()
    driver.send(lit(1e9))
    assert driver.send_many(4, lit(0.8)).intensity_scale == 1.0


# ---------------------------------------------------------------------------------- arrivals


def test_images_carry_their_arrival_too() -> None:
    for kind, message in ((w.IMAGE, w.image()), (w.COMPRESSED, w.compressed())):
        found = decode(kind, w.cdr(message), "camera", arrival_ns=123)
        assert isinstance(found, CameraFrame)
        assert found.arrival_ns == 123
        native = from_message(message, "camera", arrival_ns=7)
        assert isinstance(native, CameraFrame)
        assert native.arrival_ns == 7


def test_sweeps_that_begin_and_end_alike_but_come_at_another_rate_are_told_anew() -> None:
    """GIVEN times of 0 to 0.99 that are a slow LIDAR's seconds WHEN the same come a thousand
    times as often THEN they are told to be milliseconds."""
    driver = Driver()
    points = cloud("t", "f4", np.linspace(0.0, 0.99, N))
    for _ in range(5):
        found = driver.send(points)
        driver.stamp_ns += 1000 * MS - PERIOD_NS
    assert found.time_unit_ns == 1e9
    for _ in range(20):
        found = driver.send(points)
        driver.stamp_ns += MS - PERIOD_NS
    assert found.time_unit_ns == 1e6
