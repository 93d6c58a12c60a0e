"""Which senses take part, since when, and how often that changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from mm_fusion.samples import NS_PER_S, FusionResult, Mode


class ModeChange(NamedTuple):
    """The mode became ``now`` with the result of ``stamp_ns``; ``before`` is None at the start."""

    stamp_ns: int
    before: Mode | None
    now: Mode
    missing: tuple[str, ...]

    def __str__(self) -> str:
        lacking = f", missing {', '.join(self.missing)}" if self.missing else ""
        before = f" (before: {self.before.value})" if self.before else ""
        return f"mode {self.now.value}{before}{lacking}"


class Absence(NamedTuple):
    """A sensor takes no part, since the result of ``since_ns``, for ``for_s`` of stamps' time."""

    sensor: str
    since_ns: int
    for_s: float

    def __str__(self) -> str:
        seconds, rest = divmod(self.since_ns, NS_PER_S)
        return f"no {self.sensor} since {seconds}.{rest // 1_000_000:03d} ({self.for_s:.1f} s)"


class Ladder(NamedTuple):
    """Where fusion stands: the mode, since which stamp, for how long, and who is absent."""

    mode: Mode
    since_ns: int
    for_s: float
    absent: tuple[Absence, ...]

    def __str__(self) -> str:
        return "; ".join([f"mode {self.mode.value}", *map(str, self.absent)])

    @property
    def whole(self) -> bool:
        """Whether every sensor that is configured takes part."""
        return self.mode is not Mode.NONE and not self.absent

    def values(self) -> dict[str, str]:
        """As keys and values of a diagnostic status."""
        values = {"mode_since_ns": str(self.since_ns), "mode_for_s": f"{self.for_s:.3f}"}
        for absence in self.absent:
            values[f"{absence.sensor}.missing_since_ns"] = str(absence.since_ns)
            values[f"{absence.sensor}.missing_for_s"] = f"{absence.for_s:.3f}"
        return values


class ModeLog:
    """Follows the modes of results, in the time of their stamps."""

    def __init__(self) -> None:
        self._counts: Counter[Mode] = Counter()
        self._missing: Counter[str] = Counter()
        self._absent: dict[str, int] = {}  # the stamp of the first result without it
        self.changes = 0
        self.latest: ModeChange | None = None
        self._last_ns = 0  # of results
        self._time_ns = 0  # goes on where results do not

    def add(self, result: FusionResult) -> ModeChange | None:
        """Take one result; answer the change it brought, None where the mode stays."""
        self._counts[result.mode] += 1
        self._missing.update(result.missing)
        return self._now(result.stamp_ns, result.mode, result.missing)

    def silent(self, stamp_ns: int, sensors: Iterable[str]) -> ModeChange | None:
        """No result can come, because all these sensors are silent; it is ``stamp_ns`` now.

        The change to NONE counts from the last result on, and is answered once.
        """
        since_ns = self._last_ns or stamp_ns
        change = self._now(since_ns, Mode.NONE, tuple(sensors))
        self._time_ns = max(since_ns, stamp_ns)
        return change

    def _now(self, stamp_ns: int, mode: Mode, missing: tuple[str, ...]) -> ModeChange | None:
        if stamp_ns < self._last_ns:  # the stamps began anew: a bag that loops
            self._absent = dict.fromkeys(self._absent, stamp_ns)
            if self.latest is not None:
                self.latest = self.latest._replace(stamp_ns=stamp_ns)
        self._last_ns = self._time_ns = stamp_ns
        self._absent = {s: self._absent.get(s, stamp_ns) for s in missing}
        before = self.latest.now if self.latest else None
        if mode is before:
            return None
        self.changes += before is not None
        self.latest = ModeChange(stamp_ns, before, mode, missing)
        return self.latest

    @property
    def mode(self) -> Mode:
        """The present mode; NONE before the first result."""
        return self.latest.now if self.latest else Mode.NONE

    def lasting_s(self) -> float:
        """How long the present mode has lasted, in the time of the stamps."""
        if self.latest is None:
            return 0.0
        return max(self._time_ns - self.latest.stamp_ns, 0) / NS_PER_S

    def ladder(self) -> Ladder:
        """Where fusion stands."""
        absent = tuple(
            Absence(s, since_ns, (self._time_ns - since_ns) / NS_PER_S)
            for s, since_ns in sorted(self._absent.items())
        )
        since_ns = self.latest.stamp_ns if self.latest else 0
        return Ladder(self.mode, since_ns, self.lasting_s(), absent)

    def counts(self) -> dict[str, int]:
        """Results by mode, sorted by name."""
        return {m.value: n for m, n in sorted(self._counts.items(), key=lambda i: i[0].value)}

    def missing(self) -> dict[str, int]:
        """How many results each sensor had no part in, sorted by name."""
        return dict(sorted(self._missing.items()))
