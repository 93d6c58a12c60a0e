"""When every camera and every LIDAR is silent: no message comes that would say so."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mm_fusion.config import SyncConfig
from mm_fusion.nodes.intake import Intake
from mm_fusion.samples import NS_PER_S

LOOK_EVERY_S = 0.05
# A thread that was held up finds a silence that its queue of messages then ends: a look that comes
# late decides nothing, nor does the first one after it.
LATE_LOOK_S = 3 * LOOK_EVERY_S
LOOKS = 2
SAY_EVERY_S = 0.5


class Silence:
    """``look`` every LOOK_EVERY_S. Then, until the next look:

    ``due``: sets that still wait shall go out, for sensor time would have reached ``deadline_ns``;
    ``to_say``: fusion has no input, it is ``now_ns`` in the sensors' time, and it is time to say so
    (again). ``is_total`` as long as nothing comes.
    """

    def __init__(self, intake: Intake, sensors: Sequence[str], config: SyncConfig) -> None:
        self.sensors = tuple(sensors)
        self._intake = intake
        self._deadline_ns = round(config.deadline_s * NS_PER_S)
        self._jump_ns = round(config.time_jump_s * NS_PER_S)
        self._newest_ns = 0
        self._count = 0
        self._looks = 0
        self._looked_s = 0.0
        self._told = False
        self._said_s = 0.0
        self._silent_s = 0.0
        self.due = self.to_say = self.is_total = False

    def heard(self, stamp_ns: int) -> None:
        """A camera or a LIDAR said this stamp."""
        if stamp_ns > self._newest_ns or stamp_ns < self._newest_ns - self._jump_ns:
            self._newest_ns = stamp_ns

    @property
    def deadline_ns(self) -> int:
        """When, in the sensors' time, nothing that has come is worth waiting for any more."""
        return self._newest_ns + self._deadline_ns

    @property
    def now_ns(self) -> int:
        """The sensors' time, if it went on as the host's does."""
        return self._newest_ns + round(self._silent_s * NS_PER_S)

    def look(self, idle: bool) -> None:
        """Look once; ``idle``: no set is on its way through the network."""
        count = self._intake.count(self.sensors)
        now_s = time.monotonic()
        late = now_s - self._looked_s > LATE_LOOK_S
        self._looks = 0 if late or count != self._count else self._looks + 1
        self._count, self._looked_s = count, now_s
        self.due = self.to_say = False
        if self._looks < LOOKS:
            self._told = self.is_total = False
            return
        self._silent_s = self._intake.silence_s(self.sensors)
        if count and not self._told and self._silent_s * NS_PER_S > self._deadline_ns:
            self.due = self._told = True
            return
        if idle and self._silent_s > self._intake.lost_after_s(self.sensors):
            self.to_say = not self.is_total or now_s - self._said_s >= SAY_EVERY_S
            self.is_total = True
            if self.to_say:
                self._said_s = now_s
