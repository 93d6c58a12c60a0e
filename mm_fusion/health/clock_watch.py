"""Which of several sensors' clocks disagrees, and what to say about it.

One receiver hears several sensors. The receiver's own clock is believed where the median of the
sensors' offsets agrees with it (of two sensors, one of them); then a sensor that does not agree is
the one that is off. Where they do not, that is said once and charged to none of them (a bag played
without ``use_sim_time``, a host whose clock is wrong), and the sensors are held against the median.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from mm_fusion.config import HealthConfig
from mm_fusion.health.clocks import NS_PER_MS, OTHER_RATE, Event, Offset, SensorClock
from mm_fusion.samples import NS_PER_S

# A drift is charged to a sensor only where it is this many sigmas from nothing.
CERTAIN_SIGMAS = 4.0
# Later than this no message comes, however long the queues: its stamp is of another time.
BACKLOG_S = 60.0
STEPS = 16  # arrivals from which the step of the receiver's clock is told
ALL = ""  # the sensor of a complaint about all of them


class Complaint(NamedTuple):
    """Something wrong with the clock of ``sensor``, or of all sensors where that is empty."""

    sensor: str
    text: str


class ClockWatch:
    """Follows the clocks of all sensors that one receiver hears.

    ``add`` every message in the order of arrival. For reports: ``estimates`` and ``complaints``.
    """

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._jump_ns = round(config.clock_jump_s * NS_PER_S)
        self._future_ns = round(config.stamp_future_s * NS_PER_S)
        self._clocks: dict[str, SensorClock] = {}
        self._events: dict[tuple[str, Event], tuple[int, int]] = {}  # arrival, jump in ns
        self._arrival_ns = 0
        self._steps: deque[int] = deque(maxlen=STEPS)
        self._repeated = False
        self.resolution_ns = 0  # the step of the receiver's clock, 0 where it runs smoothly
        self.receiver_jumps = 0

    def add(self, sensor: str, stamp_ns: int, arrival_ns: int) -> Event | None:
        """One message; the event that it completed. Nothing is learned from a stamp of zero."""
        if stamp_ns <= 0 or arrival_ns <= 0:
            return None
        clock = self._clocks.get(sensor)
        if clock is None:
            clock = self._clocks[sensor] = SensorClock(self._jump_ns, self._future_ns)
            clock.resolution_ns = self.resolution_ns
        step_ns = arrival_ns - self._arrival_ns
        self._arrival_ns = arrival_ns
        if step_ns > 0:
            self._steps.append(step_ns)
            if len(self._steps) == STEPS:
                self._learn_resolution()
        elif step_ns == 0:
            self._repeated = True
        elif step_ns < -self._jump_ns:
            return self._receiver_jumped(sensor, stamp_ns, arrival_ns)
        event = clock.add(stamp_ns, arrival_ns)
        if event is not None:
            self._events[sensor, event] = (arrival_ns, clock.last_jump_ns)
        return event

    def _receiver_jumped(self, sensor: str, stamp_ns: int, arrival_ns: int) -> Event:
        self.receiver_jumps += 1
        self._events.clear()
        for clock in self._clocks.values():
            clock.restart()
        self._clocks[sensor].add(stamp_ns, arrival_ns)
        return Event.RECEIVER

    def _learn_resolution(self) -> None:
        """Arrivals that repeat come from a clock that moves in steps (/clock)."""
        self.resolution_ns = round(statistics.median(self._steps)) if self._repeated else 0
        for clock in self._clocks.values():
            clock.resolution_ns = self.resolution_ns
        self._steps.clear()
        self._repeated = False

    # ------------------------------------------------------------------------------ reports

    def estimates(self) -> dict[str, Offset]:
        """The state of every sensor's clock, by name."""
        return {name: clock.estimate() for name, clock in sorted(self._clocks.items())}

    def complaints(
        self,
        states: Mapping[str, Offset] | None = None,
        speed: float = 1.0,
        now_ns: int = 0,
        whole: bool = False,
    ) -> list[Complaint]:
        """What is wrong.

        ``states`` are those of :meth:`estimates`, where they have just been asked for. ``speed`` is
        how fast the receiver's clock runs against real time (a simulated one may): delays of real
        time look that much longer. ``now_ns`` is the receiver's time, by default the last
        arrival's; what happened longer than ``clock_hold_s`` before it is left out, unless
        ``whole``.
        """
        speed = max(speed, 1.0)
        hold_ns = round(self._config.clock_hold_s * NS_PER_S * speed)
        since_ns = 1 if whole else max(now_ns, self._arrival_ns) - hold_ns
        if states is None:
            states = self.estimates()
        alive = {n: s for n, s in states.items() if self._clocks[n].last_arrival_ns >= since_ns}
        known = {n: s for n, s in alive.items() if self._clocks[n].known}
        out = [Complaint(n, "its stamp stands still") for n, s in alive.items() if s.frozen]
        out += self._jumped(since_ns, len(alive))
        rates, steady = self._rates(known, speed)
        out += rates + self._apart(steady, speed) + self._drifting(steady)
        return out + self._bursts(since_ns, known, speed)

    def _jumped(self, since_ns: int, heard: int) -> list[Complaint]:
        recent = {
            sensor: size_ns / NS_PER_S
            for (sensor, event), (at_ns, size_ns) in sorted(self._events.items(), key=str)
            if event is Event.JUMP and at_ns >= since_ns
        }
        if len(recent) == heard >= 2 and max(recent.values()) - min(recent.values()) < 1.0:
            step_s = statistics.median(recent.values())
            return [Complaint(ALL, f"the stamps of all sensors jumped by {step_s:+.3f} s")]
        return [
            Complaint(n, f"its clock jumped by {s:+.3f} s (jumps so far: {self._clocks[n].jumps})")
            for n, s in recent.items()
        ]

    def _rates(
        self, states: Mapping[str, Offset], speed: float
    ) -> tuple[list[Complaint], dict[str, Offset]]:
        """Stamps that do not run as the receiver's clock does, and the sensors whose stamps do.

        No clock is wrong by percents: a bag is played, or a backlog grows or is worked off.
        """
        rates = {n: s.rate for n, s in states.items() if s.rate is not None}
        steady = {n: states[n] for n, rate in rates.items() if abs(rate - 1.0) < OTHER_RATE}
        if not rates or len(steady) == len(rates):
            return [], steady
        far = min(abs(states[n].latest_ms) for n in rates) > 1e3 * BACKLOG_S
        if far and not steady:
            text = (
                f"all stamps run at {statistics.median(rates.values()):.2f} times this node's"
                " clock: a bag that is played needs use_sim_time"
            )
            return [Complaint(ALL, text)], {}
        late_ms, _ = self._limits_ms(speed)
        held_up = {n: states[n].latest_ms for n in rates if n not in steady}
        return [
            Complaint(n, f"messages come {ms / 1e3:.1f} s late: held up on the way or in this node")
            for n, ms in held_up.items()
            if ms > late_ms
        ], steady

    def _apart(self, states: dict[str, Offset], speed: float) -> list[Complaint]:
        if not states:
            return []
        late_ms, early_ms = self._limits_ms(speed)
        reference_ms = _reference([s.offset_ms for s in states.values()])
        out = []
        if -early_ms <= reference_ms <= late_ms:
            reference_ms = 0.0
        else:
            early_ms = late_ms
            cause = "all messages come late"
            if abs(reference_ms) > 1e3 * BACKLOG_S:
                cause = "a bag is played without use_sim_time"
            reason = f"the host's clock is off, or {cause}"
            text = f"all stamps lie {_distance(reference_ms)} this node's clock: {reason}"
            out.append(Complaint(ALL, text))
        for name, state in states.items():
            apart_ms = state.offset_ms - reference_ms
            if apart_ms > late_ms:
                end = "its clock is off, or its messages come late"
            elif apart_ms < -early_ms:
                end = "its clock is off"
            else:
                continue
            out.append(Complaint(name, f"stamps lie {_distance(apart_ms)} the others': {end}"))
        return out

    def _limits_ms(self, speed: float) -> tuple[float, float]:
        """How far stamps may lie behind and ahead of the receiver's clock."""
        config, resolution_ms = self._config, self.resolution_ns / NS_PER_MS
        return (
            1e3 * config.clock_off_s * speed + resolution_ms,
            1e3 * config.stamp_future_s * speed + resolution_ms,
        )

    def _drifting(self, states: dict[str, Offset]) -> list[Complaint]:
        drifts = {n: s for n, s in states.items() if s.drift_ppm is not None}
        if not drifts:
            return []
        ppm = {n: float(s.drift_ppm or 0.0) for n, s in drifts.items()}
        common = _reference(list(ppm.values()))
        out = []
        for name, state in drifts.items():
            apart = ppm[name] - common if len(ppm) > 1 else ppm[name]
            certain = CERTAIN_SIGMAS * float(state.drift_sigma_ppm or 0.0)
            # By more no clock drifts: a backlog grows, and is said where it is too late.
            if self._config.clock_drift_ppm + certain < abs(apart) < 0.5e6 * OTHER_RATE:
                word = "slow" if apart > 0 else "fast"
                text = f"its clock runs {abs(apart):.0f} ppm {word} against"
                against = "the other sensors" if len(ppm) > 1 else "this node's clock"
                out.append(Complaint(name, f"{text} {against}"))
        return out

    def _bursts(self, since_ns: int, states: dict[str, Offset], speed: float) -> list[Complaint]:
        late_ms, _ = self._limits_ms(speed)
        return [
            Complaint(n, f"messages are held up, by {s.longest_burst_ms:.0f} ms, and come at once")
            for n, s in states.items()
            if self._events.get((n, Event.BURST), (0, 0))[0] >= since_ns > 0
            and s.longest_burst_ms > late_ms
        ]


def _reference(values: list[float]) -> float:
    """What single values are held against: the median; of two, the one nearer to zero."""
    if len(values) <= 2:
        return min(values, key=abs)
    return statistics.median(values)


def _distance(ms: float) -> str:
    text = f"{abs(ms):.0f} ms" if abs(ms) < 10_000 else f"{abs(ms) / 1e3:.0f} s"
    return f"{text} {'behind' if ms > 0 else 'ahead of'}"
