"""One sensor as the synchronizer knows it: its queue, its rhythm, whether it lives."""

from __future__ import annotations

from typing import NamedTuple

from mm_fusion.sync.queues import PartnerQueue
from mm_fusion.sync.rhythm import FEW, Rhythm

# A leader that has missed so many periods is silent beyond doubt: nobody holds back for it.
SILENT_HALF_PERIODS = 5
# A partner that has missed so many is not waited for: nobody loses so many in a row.
DEAD_PERIODS = 8


class Hold(NamedTuple):
    """How long others wait for a sensor before they lead: after their stamp, and after the slot."""

    after_stamp_ns: int
    after_slot_ns: int


NO_HOLD = Hold(0, 0)


class Sensor:
    """A LIDAR or a camera. ``index`` counts the LIDARs first and then the cameras."""

    def __init__(
        self,
        name: str,
        index: int,
        *,
        is_lidar: bool,
        offset_ns: int,
        timeout_ns: int,
        partner_timeout_ns: int,
        queue: PartnerQueue,
    ) -> None:
        self.name = name
        self.index = index
        self.is_lidar = is_lidar
        self.offset_ns = offset_ns
        self.queue = queue
        self.rhythm = Rhythm()
        self.heard_ns: int | None = None  # sensor time at the last arrival
        # At the start others do not lead before this one had its time to say something.
        self.is_expected = is_lidar
        self._timeout_ns = timeout_ns
        self._partner_timeout_ns = partner_timeout_ns

    def heard(self, stamp_ns: int, now_ns: int) -> None:
        """A message came, stamped on the common clock."""
        self.heard_ns = now_ns
        self.rhythm.add(stamp_ns, now_ns)

    def is_dead(self, start_ns: int, now_ns: int) -> bool:
        """Whether sets should not wait for this partner."""
        if self.heard_ns is None:
            return now_ns - start_ns > self._partner_timeout_ns
        rhythm = self.rhythm
        quiet_ns = now_ns - self.heard_ns
        patience_ns = max(self._partner_timeout_ns, 2 * rhythm.period_ns)
        if rhythm.trusted:
            spread_ns = rhythm.late_high_ns - rhythm.late_low_ns
            patience_ns = min(patience_ns, DEAD_PERIODS * rhythm.period_ns + spread_ns)
        return quiet_ns > patience_ns

    def hold(self, start_ns: int, now_ns: int) -> Hold | None:
        """How long a message of another sensor must wait before it may lead.

        None: it may not at all, because this sensor is not silent. NO_HOLD: it is silent beyond
        doubt. In between this sensor's next message is overdue, or soon will be: it is not coming
        half a period after the slot in which it should have been stamped, and not before all that
        was stamped until then, and until the other's stamp, would have come.
        """
        if self.heard_ns is None:
            is_early = self.is_expected and now_ns - start_ns <= self._timeout_ns
            return None if is_early else NO_HOLD
        rhythm = self.rhythm
        if rhythm.count <= FEW or not rhythm.period_ns:
            patience_ns = max(self._timeout_ns, 5 * rhythm.shortest_gap_ns() // 2)
            return None if now_ns - self.heard_ns <= patience_ns else NO_HOLD
        half_ns = rhythm.period_ns // 2
        late_ns = rhythm.late_high_ns
        if not rhythm.trusted:
            late_ns = max(late_ns, 3 * rhythm.period_ns // 4)
        jitter_ns = rhythm.gap_high_ns - rhythm.period_ns
        silent_ns = rhythm.newest_ns + SILENT_HALF_PERIODS * half_ns + jitter_ns + late_ns
        patience_ns = max(self._timeout_ns, rhythm.gap_high_ns + half_ns)
        if now_ns > min(silent_ns, self.heard_ns + patience_ns):
            return NO_HOLD
        return Hold(late_ns, max(half_ns, jitter_ns + late_ns))
