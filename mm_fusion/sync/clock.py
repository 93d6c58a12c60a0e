"""Sensor time: how late it is, as the sensors themselves say, without a clock."""

from __future__ import annotations

from collections.abc import Sequence

BUCKET = 64
# A base that has not come for this long says nothing about clocks any more: where a bag is played
# faster than it was recorded, delays fall all the time.
STALE_NS = 1_000_000_000


class _Source:
    """One who tells the time."""

    __slots__ = (
        *("_count", "_low_ns", "_old_low_ns", "delay_ns", "first_ns", "heard_ns", "newest_ns"),
        *(
            "lead_ns",
            "told_ns",
        ),
    )

    def __init__(self) -> None:
        self.newest_ns: int | None = None
        self.first_ns = 0
        self.lead_ns = 0  # how far it began ahead of the others, where arrivals do not tell
        self.told_ns = 0
        # The shortest way from stamp to arrival lately, clock error included; None: not known.
        self.delay_ns: int | None = None
        self.heard_ns = 0  # the last arrival
        self._low_ns = self._old_low_ns = self._count = 0

    def arrived(self, delay_ns: int) -> bool:
        """Remember how long a message took; whether the shortest delay has changed."""
        if self._count % BUCKET == 0:
            self._old_low_ns = self._low_ns if self._count else delay_ns
            self._low_ns = delay_ns
        elif delay_ns < self._low_ns:
            self._low_ns = delay_ns
        self._count += 1
        low_ns = min(self._low_ns, self._old_low_ns)
        changed = low_ns != self.delay_ns
        self.delay_ns = low_ns
        return changed


class SensorTime:
    """The newest stamp told, each source's stamps put on the clock of the first that is known.

    A source whose stamps take less time to arrive, at best, than those of the first one in
    ``ranks`` that gave arrivals within STALE_NS, is ahead of it by the
    difference, be that its clock or a shorter way: so much is taken off what it tells. Where
    arrivals are not known (0) stamps are believed; only of a source that begins more than
    ``limit_ns`` ahead of the others so much is taken off as it stays ahead.
    """

    def __init__(self, sources: int, ranks: Sequence[int], limit_ns: int) -> None:
        self._limit_ns = limit_ns
        self._sources = [_Source() for _ in range(sources)]
        self._ranks = [self._sources[r] for r in ranks]
        self._base: _Source | None = None

    def tell(self, source: int, stamp_ns: int, arrival_ns: int) -> int:
        """A source says a stamp, never smaller than its last but to set it back; time is now."""
        said = self._sources[source]
        if arrival_ns <= 0 and (said.newest_ns is None or said.lead_ns):
            said.lead_ns = self._lead_ns(said, stamp_ns)
        if said.newest_ns is None:
            said.first_ns = stamp_ns
        said.newest_ns = stamp_ns
        changed = False
        if arrival_ns > 0:
            said.heard_ns = arrival_ns
            changed = said.arrived(arrival_ns - stamp_ns)
            oldest_ns = arrival_ns - STALE_NS
            if changed or self._base is None or self._base.heard_ns < oldest_ns:
                fresh = (s for s in self._ranks if s.heard_ns >= oldest_ns and s.heard_ns)
                base = next(fresh, None)
                changed |= base is not self._base
                self._base = base
        for corrected in self._sources if changed else (said,):
            self._correct(corrected)
        return max(s.told_ns for s in self._sources)

    def _lead_ns(self, said: _Source, stamp_ns: int) -> int:
        others_ns = max((s.told_ns for s in self._sources if s is not said), default=0)
        if said is self._ranks[0] or not others_ns:
            return 0
        ahead_ns = max(stamp_ns - others_ns, 0)
        if said.newest_ns is None:
            return ahead_ns if ahead_ns > self._limit_ns else 0
        return min(said.lead_ns, ahead_ns) if stamp_ns >= said.newest_ns else 0

    def elapsed_ns(self) -> int:
        """How long ago the first source began, by its own stamps."""
        return max(s.newest_ns - s.first_ns for s in self._sources if s.newest_ns is not None)

    def _correct(self, source: _Source) -> None:
        if source.newest_ns is None:
            return
        source.told_ns = source.newest_ns - source.lead_ns
        base_ns = None if self._base is None else self._base.delay_ns
        if base_ns is not None and source.delay_ns is not None:
            source.told_ns -= max(0, base_ns - source.delay_ns)
