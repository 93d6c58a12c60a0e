"""The messages of one partner that a coming set may still want."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from mm_fusion.samples import CameraFrame, LidarSweep, Reason, Rejection

Exteroceptive = LidarSweep | CameraFrame


@dataclass(slots=True, eq=False)
class Queued:
    """A message that waits, with its stamp on the common clock and its fate so far."""

    stamp_ns: int
    sample: Exteroceptive
    used: bool = False
    late: bool = False


class PartnerQueue:
    """Messages of one sensor, sorted by stamp."""

    def __init__(self, size: int, max_dt_ns: int) -> None:
        self._size = size
        self._max_dt_ns = max_dt_ns
        self._stamps: list[int] = []
        self._queued: list[Queued] = []
        # The last set that went out: its stamp, and how far away this sensor's partner was.
        self._answered_ns: int | None = None
        self._answered_dt_ns: int | None = None

    def __len__(self) -> int:
        return len(self._stamps)

    def put(self, queued: Queued) -> Rejection | None:
        """Sort a message in. The answer says which one had to go for it, or why it stays out."""
        stamp_ns = queued.stamp_ns
        at = bisect_left(self._stamps, stamp_ns)
        if at < len(self._stamps) and self._stamps[at] == stamp_ns:
            return reject(queued.sample, Reason.DUPLICATE, "a message of this stamp is waiting")
        answered_ns = self._answered_ns
        if answered_ns is not None:
            if self._is_outdated(stamp_ns, at):
                return _late(queued)
            dt_ns, best_ns = abs(stamp_ns - answered_ns), self._answered_dt_ns
            queued.late = dt_ns <= self._max_dt_ns and (best_ns is None or dt_ns < best_ns)
        self._stamps.insert(at, stamp_ns)
        self._queued.insert(at, queued)
        if len(self._stamps) <= self._size:
            return None
        del self._stamps[0]
        oldest = self._queued.pop(0)
        if oldest.used:
            return None
        detail = f"more than {self._size} messages waiting"
        return reject(oldest.sample, Reason.OVERFLOW, detail)

    def nearest(self, stamp_ns: int) -> Queued | None:
        """What is nearest to a stamp and within reach of it; of two equally near the earlier."""
        at = bisect_left(self._stamps, stamp_ns)
        if at == len(self._stamps) or (
            at > 0 and stamp_ns - self._stamps[at - 1] <= self._stamps[at] - stamp_ns
        ):
            at -= 1
        if at < 0 or abs(self._stamps[at] - stamp_ns) > self._max_dt_ns:
            return None
        return self._queued[at]

    def first_from(self, stamp_ns: int) -> Queued | None:
        """The first that is not older than a stamp."""
        at = bisect_left(self._stamps, stamp_ns)
        return self._queued[at] if at < len(self._stamps) else None

    def remove(self, queued: Queued) -> None:
        """Let go of a message that has been answered."""
        at = bisect_left(self._stamps, queued.stamp_ns)
        if at < len(self._stamps) and self._queued[at] is queued:
            del self._stamps[at], self._queued[at]

    def answered(self, stamp_ns: int, partner: Queued | None) -> list[Rejection]:
        """A set went out: let go what no later one could prefer, and say what was never used."""
        self._answered_ns = stamp_ns
        self._answered_dt_ns = None if partner is None else abs(partner.stamp_ns - stamp_ns)
        gone = 0
        while gone < len(self._stamps) and self._is_outdated(self._stamps[gone], gone + 1):
            gone += 1
        if not gone:
            return []
        fallen = _unused(self._queued[:gone])
        del self._stamps[:gone], self._queued[:gone]
        return fallen

    def _is_outdated(self, stamp_ns: int, following: int) -> bool:
        """Whether no set after the last one could prefer a message to the one that follows it."""
        answered_ns = self._answered_ns
        if answered_ns is None:
            return False
        if stamp_ns <= answered_ns - self._max_dt_ns:
            return True
        # Later sets lie behind the middle between the two.
        return (
            following < len(self._stamps) and stamp_ns + self._stamps[following] <= 2 * answered_ns
        )

    def drain(self) -> list[Rejection]:
        """Let go of everything."""
        return _unused(self._queued)


def reject(sample: Exteroceptive, reason: Reason, detail: str) -> Rejection:
    """The answer to a sample that is not used."""
    return Rejection(sample.sensor, sample.stamp_ns, reason, detail)


def _unused(queued: Sequence[Queued]) -> list[Rejection]:
    return [
        _late(q) if q.late else reject(q.sample, Reason.UNMATCHED, "no set wanted this message")
        for q in queued
        if not q.used
    ]


def _late(queued: Queued) -> Rejection:
    detail = "came after the set it belonged to; see sync.deadline_s"
    return reject(queued.sample, Reason.LATE, detail)
