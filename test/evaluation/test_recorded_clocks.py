"""The clocks of a bag's sensors, from its receive times."""

from __future__ import annotations

import numpy as np

from mm_fusion.config import Config
from mm_fusion.evaluation.clocks import RecordedClocks
from mm_fusion.evaluation.order import Arrival
from mm_fusion.samples import GnssFix, ImuSample, Reason, Rejection

S, MS = 10**9, 10**6
T0 = 1_700_000_000 * S


def imu(stamp_ns: int, log_ns: int) -> Arrival:
    sample = ImuSample("imu", stamp_ns, "imu", np.zeros(3), np.zeros(3))
    return Arrival(stamp_ns, log_ns, "imu", sample, 100)


def fix(stamp_ns: int, log_ns: int) -> Arrival:
    sample = GnssFix("gps", stamp_ns, "gps", 49.0, 8.0, 100.0, np.eye(3))
    return Arrival(stamp_ns, log_ns, "gps", sample, 100)


def bag(gps_jump_s: float = 0.0, delay_ns: int = 3 * MS) -> list[Arrival]:
    """Half a minute of IMU at 100 Hz and GPS at 5 Hz, whose clock jumps in the middle."""
    out = []
    for k in range(3000):
        at_ns = T0 + k * 10 * MS
        out.append(imu(at_ns, at_ns + delay_ns))
        if k % 20 == 0:
            jumped_ns = round(gps_jump_s * S) * (k > 1500)
            out.append(fix(at_ns + jumped_ns, at_ns + 20 * delay_ns))
    return sorted(out, key=lambda a: a.log_ns)


def watched(arrivals: list[Arrival]) -> dict | None:
    clocks = RecordedClocks(Config())
    assert list(clocks.watch(arrivals)) == arrivals
    return clocks.summary()


def test_every_sensor_is_in_the_summary() -> None:
    found = watched(bag())
    assert found is not None
    assert found["warnings"] == []
    assert set(found["sensors"]) == {"imu", "gps"}
    assert found["sensors"]["imu"]["offset_ms"] == 3.0
    assert found["sensors"]["imu"]["drift_ppm"] == 0.0
    assert found["sensors"]["gps"]["offset_ms"] == 60.0
    assert found["sensors"]["gps"]["period_ms"] == 200.0


def test_what_happened_long_before_the_end_is_in_the_summary() -> None:
    found = watched(bag(gps_jump_s=-0.15))
    assert found is not None
    assert found["sensors"]["gps"]["jumps"] == 1
    assert found["warnings"][0].startswith("gps: its clock jumped by -0.150 s")


def test_a_bag_without_receive_times_says_nothing() -> None:
    assert watched([imu(T0 + k * MS, T0 + k * MS) for k in range(5000)]) is None


def test_what_could_not_be_read_has_no_clock() -> None:
    refused = Arrival(0, T0, "imu", Rejection("imu", 0, Reason.MALFORMED, "cut"), 3)
    assert watched([refused]) is None
