"""Sensors whose clocks are known by construction: what is told of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mm_fusion.config import HealthConfig
from mm_fusion.health.clock_watch import ALL, ClockWatch
from mm_fusion.health.clocks import BINS, OFFSET_BINS, RECENT, Event, SensorClock

S = 10**9
MS = 10**6
T0 = 1_700_000_000 * S
CONFIG = HealthConfig()


@dataclasses.dataclass
class Sensor:
    """A sensor with a clock of its own. True time is the receiver's; seconds."""

    rate_hz: float = 10.0
    offset_s: float = 0.0  # what its clock is behind
    drift_ppm: float = 0.0  # how much slower it runs
    delay_s: float = 0.002  # the least
    tail_s: float = 0.001  # scale of a gamma-distributed delay on top
    jumps: tuple[tuple[float, float], ...] = ()  # (when, how far the clock steps ahead)
    stalls: tuple[tuple[float, float], ...] = ()  # (from, to): what comes in between is held up
    seed: int = 0

    def messages(self, duration_s: float) -> list[tuple[int, int]]:
        """(stamp_ns, arrival_ns) in the order of arrival."""
        rng = np.random.default_rng(self.seed)
        true_s = np.arange(0.01, duration_s, 1.0 / self.rate_hz)
        stamp_s = true_s * (1.0 - 1e-6 * self.drift_ppm) - self.offset_s
        for at_s, ahead_s in self.jumps:
            stamp_s = stamp_s + np.where(true_s >= at_s, ahead_s, 0.0)
        arrival_s = true_s + self.delay_s + rng.gamma(1.5, self.tail_s, len(true_s))
        for begin_s, end_s in self.stalls:
            held = (arrival_s >= begin_s) & (arrival_s < end_s)
            arrival_s[held] = end_s + 0.0002 * np.arange(held.sum())
        arrival_s = np.maximum.accumulate(arrival_s)
        return [
            (T0 + round(s * S), T0 + round(a * S)) for s, a in zip(stamp_s, arrival_s, strict=True)
        ]


def follow(sensor: Sensor, duration_s: float = 60.0) -> tuple[SensorClock, list[Event]]:
    clock = SensorClock(100 * MS, 50 * MS)
    events = [clock.add(s, a) for s, a in sensor.messages(duration_s)]
    return clock, [e for e in events if e is not None]


def watch(
    sensors: dict[str, Sensor], duration_s: float, config: HealthConfig = CONFIG, warp=None
) -> ClockWatch:
    """A receiver of several sensors. ``warp`` maps true arrivals (ns since T0) to its own clock."""
    out = ClockWatch(config)
    heard = [
        (a, s, name) for name, sensor in sensors.items() for s, a in sensor.messages(duration_s)
    ]
    for arrival_ns, stamp_ns, name in sorted(heard):
        own_ns = arrival_ns if warp is None else T0 + warp(arrival_ns - T0)
        out.add(name, stamp_ns, own_ns)
    return out


HEALTHY = {
    "camera": Sensor(30.0, delay_s=0.012, tail_s=0.004, seed=1),
    "lidar": Sensor(10.0, delay_s=0.008, tail_s=0.003, seed=2),
    "imu": Sensor(200.0, delay_s=0.0005, tail_s=0.0005, seed=3),
    "gps": Sensor(5.0, delay_s=0.08, tail_s=0.01, seed=4),
}


def said(found: ClockWatch, **options: float) -> dict[str, str]:
    return {c.sensor: c.text for c in found.complaints(**options)}


# ------------------------------------------------------------------------- one clock: its numbers


@pytest.mark.parametrize("offset_s", [0.0, 0.137, -2.5, 3600.0])
@pytest.mark.parametrize("rate_hz", [1.0, 10.0, 200.0])
def test_offset_is_the_clocks_difference_and_the_least_delay(offset_s, rate_hz):
    clock, events = follow(Sensor(rate_hz, offset_s=offset_s))
    # The least of the tail lies within a fraction of its scale.
    assert clock.estimate().offset_ms == pytest.approx(1e3 * offset_s + 2.0, abs=1.0)
    assert clock.estimate().offset_ms >= 1e3 * offset_s + 2.0 - 1e-3
    assert events == []


@pytest.mark.parametrize("drift_ppm", [0.0, 50.0, -120.0, 800.0])
@pytest.mark.parametrize("rate_hz", [5.0, 30.0, 200.0])
def test_drift_is_told_within_its_own_uncertainty(drift_ppm, rate_hz):
    clock, events = follow(Sensor(rate_hz, drift_ppm=drift_ppm, tail_s=0.003))
    found = clock.estimate()
    assert found.drift_ppm is not None
    assert found.drift_sigma_ppm is not None
    assert found.drift_sigma_ppm < 20.0
    assert abs(found.drift_ppm - drift_ppm) < 4.0 * found.drift_sigma_ppm + 1.0
    assert events == []


def test_uncertainty_of_the_drift_is_honest():
    """Over many drives the error is about one sigma: neither boast nor excuse."""
    errors = []
    for seed in range(60):
        clock, _ = follow(Sensor(20.0, drift_ppm=30.0, tail_s=0.003, seed=seed), 40.0)
        found = clock.estimate()
        errors.append((found.drift_ppm - 30.0) / found.drift_sigma_ppm)
    assert 0.5 < float(np.std(errors)) < 2.0
    assert abs(float(np.mean(errors))) < 0.6


@pytest.mark.parametrize("tail_s", [0.0002, 0.004, 0.02])
@pytest.mark.parametrize("drift_ppm", [0.0, 500.0])
def test_jitter_is_the_spread_of_the_delays_without_the_drift(tail_s, drift_ppm):
    sensor = Sensor(5.0, tail_s=tail_s, drift_ppm=drift_ppm)
    clock, _ = follow(sensor, 80.0)
    drawn = np.random.default_rng(9).gamma(1.5, tail_s, 200_000)
    low, high = np.percentile(1e3 * drawn, (15.87, 84.13))
    assert clock.estimate().jitter_ms == pytest.approx((high - low) / 2, rel=0.15)


def test_nothing_is_told_too_early():
    clock, _ = follow(Sensor(10.0), 0.5)
    assert not clock.known
    clock, _ = follow(Sensor(10.0), 5.0)
    assert clock.known
    assert clock.estimate().drift_ppm is None


# --------------------------------------------------------------------------- jumps, and what is not


@pytest.mark.parametrize("ahead_s", [0.15, -0.15, 1.0, -1.0, 3600.0, -1e6])
@pytest.mark.parametrize("rate_hz", [5.0, 30.0, 200.0])
def test_a_jump_is_counted_once_with_its_size(ahead_s, rate_hz):
    clock, events = follow(Sensor(rate_hz, jumps=((30.0, ahead_s),)))
    assert events == [Event.JUMP]
    found = clock.estimate()
    assert found.jumps == 1
    assert found.last_jump_ms == pytest.approx(1e3 * ahead_s, abs=5.0)
    assert found.offset_ms == pytest.approx(2.0 - 1e3 * ahead_s, abs=2.0)


def test_a_jump_is_told_within_three_messages_ahead_and_half_a_second_back():
    for ahead_s, within_s in ((1.0, 0.3), (-1.0, 1.0)):
        clock = SensorClock(100 * MS, 50 * MS)
        told = [
            a for s, a in Sensor(10.0, jumps=((30.0, ahead_s),)).messages(60.0) if clock.add(s, a)
        ]
        assert len(told) == 1
        assert 0.0 < (told[0] - T0) / S - 30.0 <= within_s


def test_every_one_of_several_jumps_is_counted():
    jumps = ((10.0, 0.5), (20.0, -0.8), (40.0, 0.3))
    clock, events = follow(Sensor(20.0, jumps=jumps))
    assert events == [Event.JUMP] * 3
    assert clock.jumps == 3


def test_a_delay_that_grows_is_no_jump():
    """GIVEN regular stamps WHEN messages suddenly need 400 ms longer THEN that is said instead."""
    before = Sensor(10.0).messages(30.0)
    after = [(s + 30 * S, a + 30 * S + 400 * MS) for s, a in Sensor(10.0, seed=1).messages(30.0)]
    clock = SensorClock(100 * MS, 50 * MS)
    events = [e for e in (clock.add(s, a) for s, a in before + after) if e]
    assert events == [Event.DELAY]
    found = clock.estimate()
    assert (found.jumps, found.delay_steps) == (0, 1)
    assert found.offset_ms == pytest.approx(402.0, abs=1.0)


@pytest.mark.parametrize("rate_hz", [10.0, 100.0])
def test_a_stall_and_its_burst_are_no_jump(rate_hz):
    """GIVEN a stall of 600 ms WHEN all comes at once THEN one burst with its longest delay."""
    clock, events = follow(Sensor(rate_hz, stalls=((20.0, 20.6),)))
    assert Event.BURST in events
    assert set(events) == {Event.BURST}
    found = clock.estimate()
    assert (found.bursts, found.jumps, found.delay_steps) == (1, 0, 0)
    # The first of the burst may have been stamped up to a period after the stall began; a
    # burst shows with its second message.
    assert 600.0 - 2e3 / rate_hz - 5.0 < found.longest_burst_ms < 602.0


def test_single_corrupt_stamps_are_no_jump():
    clock = SensorClock(100 * MS, 50 * MS)
    events = []
    for n, (s, a) in enumerate(Sensor(10.0).messages(60.0)):
        wrong = n % 20 == 7
        events.append(clock.add(s + (n - 300) * S * wrong, a))
    assert set(events) == {None}
    assert clock.estimate().offset_ms == pytest.approx(2.0, abs=1.0)
    assert clock.estimate().future > 0


def test_odd_messages_at_the_start_leave_no_trace():
    """GIVEN a start under load and with leftovers WHEN it goes on THEN no jump is charged."""
    messages = Sensor(10.0).messages(60.0)
    messages[0] = (messages[0][0] - 500 * S, messages[0][1])
    messages[1] = (messages[1][0] + 30 * S, messages[1][1])
    messages[2] = (messages[2][0], messages[2][1] + 90 * MS)
    clock = SensorClock(100 * MS, 50 * MS)
    assert {clock.add(s, a) for s, a in messages} == {None}
    assert clock.estimate().offset_ms == pytest.approx(2.0, abs=1.0)


def test_a_sensor_that_dies_and_returns_has_not_jumped():
    alive = [m for m in Sensor(10.0).messages(60.0) if not 20 * S < m[1] - T0 < 40 * S]
    clock = SensorClock(100 * MS, 50 * MS)
    assert {clock.add(s, a) for s, a in alive} == {None}


def test_a_frozen_stamp_is_told_until_it_moves():
    clock = SensorClock(100 * MS, 50 * MS)
    events, states = [], []
    for s, a in Sensor(10.0).messages(20.0):
        frozen = 5 * S < a - T0 < 9 * S
        events.append(clock.add(T0 + 5 * S if frozen else s, a))
        states.append(clock.estimate().frozen)
    assert events.count(Event.FROZEN) == 1
    assert any(states)
    assert not states[-1]
    assert clock.estimate().jumps == 0


def test_memory_is_bounded():
    clock = SensorClock(100 * MS, 50 * MS)
    sizes = []
    for n in range(200_000):
        off = 300 * MS if n % 1000 > 600 else 0
        clock.add(T0 + n * MS, T0 + n * MS + off + n % 7)
        if n in (20_000, 199_999):
            parts = (clock._recent, clock._minima, clock._floors, clock._held)
            sizes.append(sum(map(len, parts)))
    assert max(sizes) <= 2 * RECENT + BINS + OFFSET_BINS


# ------------------------------------------------------------------------------- several clocks


def test_healthy_sensors_get_no_complaint():
    assert said(watch(HEALTHY, 60.0)) == {}


@pytest.mark.parametrize("name", list(HEALTHY))
@pytest.mark.parametrize("offset_s", [0.5, -0.5, 40.0])
def test_the_sensor_that_disagrees_is_named(name, offset_s):
    sensors = {**HEALTHY, name: dataclasses.replace(HEALTHY[name], offset_s=offset_s)}
    found = said(watch(sensors, 30.0))
    assert set(found) == {name}
    assert ("behind" if offset_s > 0 else "ahead of") in found[name]
    assert ("40 s" if offset_s > 10 else "ms") in found[name]


def test_of_two_the_one_away_from_the_receiver_is_named():
    sensors = {"camera": HEALTHY["camera"], "lidar": Sensor(10.0, offset_s=0.7)}
    assert set(said(watch(sensors, 30.0))) == {"lidar"}


def test_a_difference_that_all_share_is_charged_to_none():
    """GIVEN a bag of last year without use_sim_time THEN that is said; GIVEN one sensor off in
    it THEN that one is named as well."""
    sensors = {n: dataclasses.replace(s, offset_s=3e7) for n, s in HEALTHY.items()}
    found = said(watch(sensors, 30.0))
    assert set(found) == {ALL}
    assert "use_sim_time" in found[ALL]
    sensors["lidar"] = dataclasses.replace(sensors["lidar"], offset_s=3e7 + 0.9)
    found = said(watch(sensors, 30.0))
    assert set(found) == {ALL, "lidar"}


def test_a_sensor_that_drifts_is_named():
    sensors = {**HEALTHY, "lidar": dataclasses.replace(HEALTHY["lidar"], drift_ppm=-900.0)}
    found = said(watch(sensors, 60.0))
    assert set(found) == {"lidar"}
    assert "ppm fast" in found["lidar"]


def test_a_host_that_drifts_is_not_charged_to_the_sensors():
    sensors = {n: dataclasses.replace(s, drift_ppm=500.0) for n, s in HEALTHY.items()}
    assert said(watch(sensors, 60.0)) == {}


def test_a_jump_is_said_for_a_while_with_its_sensor():
    sensors = {**HEALTHY, "camera": dataclasses.replace(HEALTHY["camera"], jumps=((30.0, -0.15),))}
    found = watch(sensors, 33.0)
    assert "clock jumped by -0.15" in said(found)["camera"]
    assert said(found, now_ns=T0 + 50 * S) == {}
    assert set(said(watch(sensors, 60.0))) == set()


def test_a_bag_that_loops_without_sim_time_is_one_complaint():
    sensors = {
        n: dataclasses.replace(s, jumps=((30.0, -20.0),)) for n, s in HEALTHY.items() if n != "gps"
    }
    found = watch(sensors, 33.0)
    assert {e.jumps for e in found.estimates().values()} == {1}
    assert any("all sensors jumped by -20.0" in c.text for c in found.complaints())


def test_bursts_beyond_the_limit_are_said():
    sensors = {**HEALTHY, "lidar": dataclasses.replace(HEALTHY["lidar"], stalls=((20.0, 20.7),))}
    found = said(watch(sensors, 25.0))
    assert set(found) == {"lidar"}
    assert "come at once" in found["lidar"]


# ----------------------------------------------------------------- simulated time, other rates


@pytest.mark.parametrize("speed", [0.5, 1.0, 8.0])
def test_simulated_time_in_steps_gives_no_false_alarm(speed):
    """GIVEN /clock at 20 Hz of bag time WHEN a bag is played at any rate THEN nothing is said:
    delays look ``speed`` times as long, and a stamp lies up to a step ahead of the clock."""
    sensors = {
        n: dataclasses.replace(s, delay_s=s.delay_s * speed, tail_s=s.tail_s * speed)
        for n, s in HEALTHY.items()
        if n != "gps" or speed <= 1.0  # 80 ms of a receiver's own delay are in the bag
    }
    found = watch(sensors, 60.0, warp=lambda ns: ns // (50 * MS) * (50 * MS))
    assert found.resolution_ns == 50 * MS
    assert said(found, speed=speed) == {}
    assert {e.jumps for e in found.estimates().values()} == {0}


def test_simulated_time_still_shows_a_clock_that_is_off():
    sensors = {**HEALTHY, "lidar": dataclasses.replace(HEALTHY["lidar"], offset_s=0.6)}
    found = watch(sensors, 60.0, warp=lambda ns: ns // (50 * MS) * (50 * MS))
    assert set(said(found)) == {"lidar"}


@pytest.mark.parametrize("rate", [0.5, 2.0, 8.0])
def test_a_bag_played_at_another_rate_without_sim_time_is_one_complaint(rate):
    """No sensor's clock is blamed, and no jump counted."""
    old = {n: dataclasses.replace(s, offset_s=3e7) for n, s in HEALTHY.items()}
    found = watch(old, 60.0, warp=lambda ns: round(ns / rate))
    complaints = said(found)
    assert set(complaints) == {ALL}
    assert f"{rate:.2f} times this node's clock" in complaints[ALL]
    assert {e.jumps for e in found.estimates().values()} == {0}


@pytest.mark.parametrize("grows", [0.1, 1.0])
def test_a_backlog_is_called_what_it_is(grows):
    """GIVEN a receiver that falls behind WHEN messages come later and later, up to 15 s, THEN that
    is said, and no clock is blamed."""
    begin_ns, most_ns = 20 * S, 15 * S

    def behind(ns: int) -> int:
        return ns + min(max(round((ns - begin_ns) * grows), 0), most_ns)

    sensors = {n: s for n, s in HEALTHY.items() if n != "gps"}
    for end_s in (26.0, 35.0, 60.0) if grows == 1.0 else (40.0, 60.0):
        found = watch(sensors, end_s, warp=behind)
        texts = [c.text for c in found.complaints()]
        assert texts
        assert all("late" in text or "held up" in text for text in texts)
        assert not any("use_sim_time" in text or "ppm" in text for text in texts)
        assert {e.jumps for e in found.estimates().values()} == {0}


def test_simulated_time_that_goes_back_starts_anew():
    """GIVEN a bag that loops with use_sim_time WHEN some of it overtakes /clock THEN no jump."""
    found = ClockWatch(CONFIG)
    heard = sorted((a, s, n) for n, x in HEALTHY.items() for s, a in x.messages(30.0))
    for a, s, n in heard:
        found.add(n, s, a)
    late_ns = heard[-1][0]
    for _, s, n in heard[:3]:
        found.add(n, s, late_ns)
    events = [found.add(n, s, a) for a, s, n in heard[3:]]
    assert events[0] is Event.RECEIVER
    assert found.receiver_jumps == 1
    assert {e.jumps for e in found.estimates().values()} == {0}
    assert said(found) == {}


def test_unknown_arrivals_and_stamps_of_zero_teach_nothing():
    found = ClockWatch(CONFIG)
    assert found.add("camera", T0, 0) is None
    assert found.add("camera", 0, T0) is None
    assert found.estimates() == {}
    assert found.complaints() == []
