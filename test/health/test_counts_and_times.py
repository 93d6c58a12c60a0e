"""Counts, percentiles, rates and modes: what diagnostics are made of."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.health.counters import Counters
from mm_fusion.health.modes import ModeLog
from mm_fusion.health.status import result_values
from mm_fusion.health.timing import Percentiles, Stopwatch
from mm_fusion.samples import FusionResult, Mode, Reason, Rejection

S = 10**9


def result(stamp_ns, mode=Mode.CAMERA_LIDAR, missing=(), **more):
    return FusionResult(stamp_ns, "base_link", mode, missing, (), (), "odom", True, **more)


class TestCounters:
    def test_drops_are_counted_by_sensor_and_reason_in_order(self):
        counters = Counters()
        for sensor, reason in [
            ("lidar", Reason.LATE),
            ("camera", Reason.UNMATCHED),
            ("lidar", Reason.LATE),
            ("lidar", Reason.EMPTY_CLOUD),
        ]:
            counters.count(Rejection(sensor, 1, reason, f"{sensor} {reason.name}"))
        assert counters.drops() == {
            "camera": {"unmatched": 1},
            "lidar": {"empty_cloud": 1, "late": 2},
        }
        assert list(counters.drops()) == ["camera", "lidar"]
        assert counters.total() == 4
        assert counters.total("lidar") == 3
        assert counters.last_detail("lidar", Reason.LATE) == "lidar LATE"
        assert counters.last_detail("camera", Reason.LATE) == ""


class TestPercentiles:
    def test_they_agree_with_numpy(self):
        rng = np.random.default_rng(0)
        durations = rng.integers(0, 10**8, 5000)
        kept = Percentiles()
        for d in durations:
            kept.add(int(d))
        found = kept.summary()
        expected = np.percentile(durations / 1e6, [50, 90, 99, 100])
        np.testing.assert_allclose(list(found.values()), expected, atol=1e-4)
        assert list(found) == ["p50", "p90", "p99", "max"]

    def test_memory_is_bounded_and_the_maximum_is_kept(self):
        kept = Percentiles(capacity=100)
        for d in [10**9, *range(0, 100 * 10**6, 10**6)]:
            kept.add(d)
        assert kept.count == 101
        assert kept.summary() == {"p50": 49.5, "p90": 89.1, "p99": 98.01, "max": 1000.0}
        assert len(kept._samples) == 100

    def test_without_a_sample_all_is_zero(self):
        assert Percentiles().summary() == {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}

    def test_a_capacity_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="capacity: must be at least 1"):
            Percentiles(0)


class TestStopwatch:
    def test_laps_of_one_name_add_up(self):
        ticks = iter([100, 110, 130, 135])
        watch = Stopwatch(lambda: next(ticks))
        for name in ("a", "b", "a"):
            watch.lap(name)
        assert watch.laps("total") == {"a": 15, "b": 20, "total": 35}

    def test_without_a_clock_it_measures_nothing(self):
        watch = Stopwatch(None)
        watch.lap("a")
        assert watch.laps("total") == {}


class TestModeLog:
    def test_changes_are_told_with_when_and_what_is_missing(self):
        log = ModeLog()
        assert log.mode is Mode.NONE
        first = log.add(result(10**9))
        assert (first.before, first.now) == (None, Mode.CAMERA_LIDAR)
        assert log.add(result(2 * 10**9)) is None
        lost = log.add(result(3 * 10**9, Mode.LIDAR, ("camera",)))
        assert lost.stamp_ns == 3 * 10**9
        assert str(lost) == "mode lidar (before: camera+lidar), missing camera"
        log.add(result(5 * 10**9, Mode.LIDAR, ("camera",)))
        assert log.mode is Mode.LIDAR
        assert log.lasting_s() == 2.0
        assert log.changes == 1
        assert log.counts() == {"camera+lidar": 2, "lidar": 2}
        assert log.missing() == {"camera": 2}

    def test_every_absent_sensor_has_its_own_since(self):
        """GIVEN two cameras WHEN one after the other is lost THEN each counts from its own loss."""
        log = ModeLog()
        log.add(result(1 * S))
        assert log.ladder().whole
        log.add(result(2 * S, missing=("left",)))
        log.add(result(3 * S, Mode.LIDAR, missing=("left", "right")))
        log.add(result(5 * S, Mode.LIDAR, missing=("left", "right")))
        ladder = log.ladder()
        assert not ladder.whole
        assert [(a.sensor, a.since_ns, a.for_s) for a in ladder.absent] == [
            ("left", 2 * S, 3.0),
            ("right", 3 * S, 2.0),
        ]
        assert ladder.values() == {
            "mode_since_ns": str(3 * S),
            "mode_for_s": "2.000",
            "left.missing_since_ns": str(2 * S),
            "left.missing_for_s": "3.000",
            "right.missing_since_ns": str(3 * S),
            "right.missing_for_s": "2.000",
        }
        assert (
            str(ladder) == "mode lidar; no left since 2.000 (3.0 s); no right since 3.000 (2.0 s)"
        )
        log.add(result(6 * S, missing=("right",)))
        log.add(result(7 * S, missing=("left", "right")))
        assert [(a.sensor, a.since_ns) for a in log.ladder().absent] == [
            ("left", 7 * S),
            ("right", 3 * S),
        ]

    def test_silence_is_mode_none_since_the_last_result(self):
        log = ModeLog()
        log.add(result(3 * S, missing=("left",)))
        change = log.silent(4 * S, ("left", "lidar"))
        assert (change.before, change.now, change.stamp_ns) == (Mode.CAMERA_LIDAR, Mode.NONE, 3 * S)
        assert log.silent(9 * S, ("left", "lidar")) is None
        ladder = log.ladder()
        assert (ladder.mode, ladder.for_s) == (Mode.NONE, 6.0)
        assert [(a.sensor, a.for_s) for a in ladder.absent] == [("left", 6.0), ("lidar", 6.0)]
        # Results that return count on from their own stamps, be they before the assumed time.
        assert log.add(result(8 * S)).before is Mode.NONE
        assert log.ladder().whole
        assert log.counts() == {"camera+lidar": 2}

    def test_a_bag_that_loops_gives_no_negative_time(self):
        log = ModeLog()
        log.add(result(50 * S, Mode.LIDAR, missing=("left",)))
        log.add(result(1 * S, Mode.LIDAR, missing=("left",)))
        log.add(result(3 * S, Mode.LIDAR, missing=("left",)))
        ladder = log.ladder()
        assert (ladder.for_s, ladder.absent[0].since_ns, ladder.absent[0].for_s) == (2.0, S, 2.0)


def test_one_result_as_keys_and_values():
    values = result_values(
        result(
            5,
            Mode.LIDAR,
            ("camera",),
            stage_ns={"network": 2_500_000},
            dt_ns={"lidar": 0, "camera": -12_000_000},
            remarks=("cloud thinned to 500 points",),
        ),
        "cpu",
    )
    assert values == {
        "mode": "lidar",
        "missing": "camera",
        "provider": "cpu",
        "ego_motion": "true",
        "detections": "0",
        "tracks": "0",
        "remarks": "cloud thinned to 500 points",
        "network_ms": "2.500",
        "dt_ms.lidar": "0.000",
        "dt_ms.camera": "-12.000",
    }
