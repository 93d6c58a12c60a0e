"""What a sensor's messages have taught about it: its period, its jitter, how late it comes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

# Gaps between stamps that are remembered, and how many must be known before they tell anything.
WINDOW = 64
FEW = 4
SOME = 8
# Lateness is remembered for the last BUCKET to 2 * BUCKET messages; before TRUSTED messages it
# decides nothing about what may still come.
BUCKET = 512
TRUSTED = 400
# Finer than this nobody's latency is known.
SLACK_NS = 2_000_000


class Lateness:
    """The lowest and the highest of the last BUCKET to 2 * BUCKET values, in constant work."""

    __slots__ = ("_count", "_high", "_low", "_old_high", "_old_low", "high", "low")

    def __init__(self) -> None:
        self._count = 0
        self._low = self._high = self._old_low = self._old_high = 0
        self.low = self.high = 0

    def add(self, value: int) -> None:
        """Remember one value; the oldest are forgotten."""
        if self._count % BUCKET == 0:
            if self._count:
                self._old_low, self._old_high = self._low, self._high
            else:
                self._old_low = self._old_high = value
            self._low = self._high = value
            self.low, self.high = min(self._old_low, value), max(self._old_high, value)
        elif value < self._low:
            self._low = value
            self.low = min(self.low, value)
        elif value > self._high:
            self._high = value
            self.high = max(self.high, value)
        self._count += 1


class Rhythm:
    """Period, jitter, lateness and order of one sensor, learned from stamps and sensor time.

    A message's lateness is sensor time at its arrival minus its stamp. All results are bounds
    with a margin over what was observed, so that a little more than ever before is still right.
    Work per message is logarithmic in WINDOW. All times are integer nanoseconds.
    """

    __slots__ = (
        *("_gaps", "_late", "_stamps", "count", "gap_high_ns", "gap_low_ns"),
        *("late_high_ns", "late_low_ns", "newest_ns", "period_ns"),
    )

    def __init__(self) -> None:
        self.count = 0
        self.newest_ns = 0  # meaningless while count is 0
        self.period_ns = 0  # the median gap; 0 until FEW gaps are known
        self.gap_low_ns = 0  # no two neighbours are nearer to each other
        self.gap_high_ns = 0  # nor farther from each other, where nothing was lost between them
        self.late_low_ns = 0
        self.late_high_ns = 0
        self._stamps: list[int] = []  # sorted
        self._gaps: list[int] = []  # sorted
        self._late = Lateness()

    # ---------------------------------------------------------------------------- learning

    def add(self, stamp_ns: int, now_ns: int) -> None:
        """One message came when sensor time was ``now_ns``."""
        self.count += 1
        if self.count == 1 or stamp_ns > self.newest_ns:
            self.newest_ns = stamp_ns
        self._late.add(now_ns - stamp_ns)
        low, high = self._late.low, self._late.high
        spread = high - low
        self.late_low_ns, self.late_high_ns = low - spread, high + spread + SLACK_NS
        self._remember(stamp_ns)
        self._summarize()

    def _remember(self, stamp_ns: int) -> None:
        stamps, gaps = self._stamps, self._gaps
        at = bisect_left(stamps, stamp_ns)
        if at < len(stamps) and stamps[at] == stamp_ns:
            return
        if at == 0 and len(stamps) > WINDOW:
            return
        if at and at < len(stamps):
            del gaps[bisect_left(gaps, stamps[at] - stamps[at - 1])]
        if at:
            insort(gaps, stamp_ns - stamps[at - 1])
        if at < len(stamps):
            insort(gaps, stamps[at] - stamp_ns)
        stamps.insert(at, stamp_ns)
        if len(stamps) > WINDOW + 1:
            del gaps[bisect_left(gaps, stamps[1] - stamps[0])]
            del stamps[0]

    def _summarize(self) -> None:
        gaps = self._gaps
        known = len(gaps)
        if known < FEW:
            return
        self.period_ns = period_ns = gaps[known // 2]
        low = gaps[0]
        high = gaps[bisect_right(gaps, period_ns * 9 // 5) - 1]
        # The range of a few samples says little about that of all: the margin falls with them.
        margin = (high - low) * (known + 16) // (2 * known)
        self.gap_low_ns = max(low - margin, 1)
        self.gap_high_ns = high + margin

    # ---------------------------------------------------------------------------- answering

    @property
    def trusted(self) -> bool:
        """Whether enough was seen to say what will not come any more."""
        return self.count >= TRUSTED

    def shortest_gap_ns(self) -> int:
        """The shortest gap seen lately; 0 where none is known."""
        return self._gaps[0] if self._gaps else 0

    def next_ns(self, now_ns: int) -> int:
        """No message that is still to come and follows the newest has a smaller stamp than this.

        What should have come by now and has not was lost; the one after it is then the next.
        """
        newest_ns = self.newest_ns
        if len(self._gaps) < SOME:
            return newest_ns + 1
        if self.count < TRUSTED:
            return newest_ns + self.gap_low_ns
        since_ns = now_ns - self.late_high_ns
        if since_ns <= newest_ns + self.gap_high_ns:
            return max(newest_ns + self.gap_low_ns, since_ns)
        lost = (since_ns - newest_ns - 1) // self.gap_high_ns
        return max(newest_ns + (lost + 1) * self.gap_low_ns, since_ns)

    def hides(self, stamp_ns: int, reach_ns: int, now_ns: int) -> bool:
        """Whether a message out of order may still come, less than ``reach_ns`` from a stamp.

        There must be room for it: a gap of more than one and a half periods about the stamp. It
        is waited for as long as this sensor's messages take, delayed ones included, and to the
        end where that is not known yet.
        """
        stamps = self._stamps
        at = bisect_right(stamps, stamp_ns)
        if at == 0 or at == len(stamps):
            return False
        before_ns, after_ns = stamps[at - 1], stamps[at]
        low_ns = self._room_ns(after_ns - before_ns)
        if not low_ns:
            return False
        first_ns = max(before_ns + low_ns, stamp_ns - reach_ns)
        last_ns = min(after_ns - low_ns, stamp_ns + reach_ns)
        return first_ns <= last_ns and self._may_come(last_ns, now_ns)

    def hides_before(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether an older message may still come out of order, next before a stamp that came."""
        stamps = self._stamps
        at = bisect_left(stamps, stamp_ns)
        low_ns = self._room_ns(stamp_ns - stamps[at - 1]) if at else 0
        return low_ns > 0 and self._may_come(stamp_ns - low_ns, now_ns)

    def _room_ns(self, gap_ns: int) -> int:
        """How near to either end of a gap a missing message may be; 0: there is no room for one."""
        gaps = self._gaps
        if len(gaps) >= SOME:
            return self.gap_low_ns if 2 * gap_ns > 3 * self.period_ns else 0
        # With so few gaps the shortest says most: the others may be holes.
        return gaps[0] // 2 if gaps and 2 * gap_ns > 3 * gaps[0] else 0

    def _may_come(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether a message that others have overtaken may still come."""
        return self.count < TRUSTED or now_ns < stamp_ns + self.late_high_ns
