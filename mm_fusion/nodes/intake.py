"""What arrives at a node: rates, silences, clocks and rejections, counted for the diagnostics."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from mm_fusion.config import Config
from mm_fusion.health.clock_watch import ClockWatch
from mm_fusion.health.clocks import Offset
from mm_fusion.health.counters import Counters
from mm_fusion.health.pictures import PictureWatch
from mm_fusion.nodes.diagnostics import Report
from mm_fusion.samples import CameraFrame, Rejection

GAPS = 9  # arrivals whose median distance is a sensor's usual one
LOST_GAPS = 2.0  # silent for more than so many of them: lost
SPEED_MARKS = 10  # reports over which the speed of ROS time is measured


class Intake:
    """Counts what each input brings. May be used from the receiving and the working thread.

    ``ros_now_ns`` is the node's clock, which may be a simulated one; clocks are judged by it.
    Rates and silences are told by the host's steady clock.
    """

    def __init__(
        self, inputs: Iterable[str], config: Config, ros_now_ns: Callable[[], int]
    ) -> None:
        self._lock = threading.Lock()
        self._timeout_s = config.nodes.input_timeout_s
        self._ros_now_ns = ros_now_ns
        self._received = dict.fromkeys(inputs, 0)
        self._last_s: dict[str, float] = {}
        self._gaps_s: dict[str, deque[float]] = {s: deque(maxlen=GAPS) for s in self._received}
        self._marked = dict(self._received)
        self._marked_s = time.monotonic()
        self._speed_marks: deque[tuple[float, int]] = deque(maxlen=SPEED_MARKS)
        self._counters = Counters()
        self._examples: dict[tuple[str, str], str] = {}
        self._clocks = ClockWatch(config.health)
        self._pictures: dict[str, PictureWatch] = {}

    def arrived(self, sensor: str) -> int:
        """One message came; the answer is when, on the node's clock."""
        now_s = time.monotonic()
        with self._lock:
            self._received[sensor] += 1
            last_s = self._last_s.get(sensor)
            if last_s is not None:
                self._gaps_s[sensor].append(now_s - last_s)
            self._last_s[sensor] = now_s
        return self._ros_now_ns()

    def stamped(self, sensor: str, stamp_ns: int, arrival_ns: int) -> None:
        """That message was readable, and this is its stamp."""
        with self._lock:
            self._clocks.add(sensor, stamp_ns, arrival_ns)

    def pictured(self, frame: CameraFrame) -> None:
        """That message was a picture."""
        with self._lock:
            self._pictures.setdefault(frame.sensor, PictureWatch()).add(frame)

    def reject(self, rejection: Rejection) -> bool:
        """Count a rejection; True where it is the first of its sensor and reason."""
        key = (rejection.sensor, rejection.reason.value)
        with self._lock:
            self._counters.count(rejection)
            first = key not in self._examples
            self._examples[key] = rejection.detail
        return first

    def drops(self) -> dict[str, dict[str, int]]:
        """Rejections so far by sensor and reason."""
        with self._lock:
            return self._counters.drops()

    # ----------------------------------------------------------------------------- silences

    def silent(self) -> list[str]:
        """Inputs of which nothing came for the timeout, or ever."""
        now_s = time.monotonic()
        with self._lock:
            return [
                s for s in self._received if now_s - self._last_s.get(s, -1e9) > self._timeout_s
            ]

    def count(self, sensors: Sequence[str]) -> int:
        """Messages of these inputs so far."""
        with self._lock:
            return sum(self._received[s] for s in sensors)

    def silence_s(self, sensors: Sequence[str]) -> float:
        """How long none of these inputs has said anything; 0 where none ever has."""
        now_s = time.monotonic()
        with self._lock:
            heard = [self._last_s[s] for s in sensors if s in self._last_s]
        return now_s - max(heard) if heard else 0.0

    def lost_after_s(self, sensors: Sequence[str]) -> float:
        """A silence of all these inputs that is longer means that they are lost: two of the
        longest of their usual distances."""
        with self._lock:
            usual = [
                statistics.median(self._gaps_s[s])
                for s in sensors
                if s in self._last_s and len(self._gaps_s[s]) == GAPS
            ]
        return min(LOST_GAPS * max(usual), self._timeout_s) if usual else self._timeout_s

    # ------------------------------------------------------------------------------ reports

    def speed(self) -> float:
        """How fast the node's clock runs against real time: 1, or the rate of a playback."""
        now = (time.monotonic(), self._ros_now_ns())
        marks = self._speed_marks
        if marks and now[1] < marks[-1][1]:
            marks.clear()  # simulated time began anew
        marks.append(now)
        spent_s = now[0] - marks[0][0]
        rate = (now[1] - marks[0][1]) / 1e9 / spent_s if spent_s > 0.0 else 1.0
        return rate if rate > 1.1 else 1.0

    def report_to(self, report: Report) -> None:
        """Put counts, rates since the last call, clocks and drops; warn of clocks and pictures."""
        now_s, speed = time.monotonic(), self.speed()
        with self._lock:
            elapsed_s = max(now_s - self._marked_s, 1e-3)
            for sensor, count in self._received.items():
                rate_hz = (count - self._marked.get(sensor, 0)) / elapsed_s
                report.put(f"{sensor}.received", count)
                report.put(f"{sensor}.rate_hz", rate_hz)
            self._marked, self._marked_s = dict(self._received), now_s
            for sensor, reasons in self._counters.drops().items():
                for reason, count in reasons.items():
                    report.put(f"{sensor}.drops.{reason}", count)
                    detail = self._examples.get((sensor, reason), "")
                    if detail:
                        report.put(f"{sensor}.drops.{reason}.last", detail)
            states = self._clocks.estimates()
            complaints = self._clocks.complaints(states, speed, self._ros_now_ns())
            looks = {s: (p.frozen, p.blank, p.complaint()) for s, p in self._pictures.items()}
        for sensor, state in states.items():
            _put_clock(report, sensor, state)
        for complaint in complaints:
            report.warn(f"{complaint.sensor}: {complaint.text}".removeprefix(": "))
        for sensor, (frozen, blank, complaint) in looks.items():
            report.put(f"{sensor}.pictures_repeated", frozen)
            report.put(f"{sensor}.pictures_blank", blank)
            if complaint:
                report.warn(f"{sensor}: {complaint}")


def _put_clock(report: Report, sensor: str, state: Offset) -> None:
    report.put(f"{sensor}.offset_ms", f"{state.offset_ms:.3f}")
    report.put(f"{sensor}.jitter_ms", state.jitter_ms)
    if state.drift_ppm is not None and state.drift_sigma_ppm is not None:
        report.put(f"{sensor}.drift_ppm", f"{state.drift_ppm:.1f}")
        report.put(f"{sensor}.drift_sigma_ppm", f"{state.drift_sigma_ppm:.1f}")
    report.put(f"{sensor}.period_ms", state.period_ms)
    report.put(f"{sensor}.jumps", state.jumps)
    if state.jumps:
        report.put(f"{sensor}.last_jump_ms", f"{state.last_jump_ms:.1f}")
    report.put(f"{sensor}.delay_steps", state.delay_steps)
    report.put(f"{sensor}.bursts", state.bursts)
    report.put(f"{sensor}.stamps_ahead", state.future)
