"""Which senses take part, since when, and how often that changed."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from mm_fusion.samples import FusionResult, Mode


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


class ModeLog:
    """Follows the modes of results, in the time of their stamps."""

    def __init__(self) -> None:
        self._counts: Counter[Mode] = Counter()
        self._missing: Counter[str] = Counter()
        self.changes = 0
        self.latest: ModeChange | None = None
        self._last_ns = 0

    def add(self, result: FusionResult) -> ModeChange | None:
        """Take one result; answer the change it brought, None where the mode stays."""
        self._counts[result.mode] += 1
        self._missing.update(result.missing)
        self._last_ns = result.stamp_ns
        before = self.latest.now if self.latest else None
        if result.mode is before:
            return None
        self.changes += before is not None
        self.latest = ModeChange(result.stamp_ns, before, result.mode, result.missing)
        return self.latest

    @property
    def mode(self) -> Mode:
        """The present mode; NONE before the first result."""
        return self.latest.now if self.latest else Mode.NONE

    def lasting_s(self) -> float:
        """How long the present mode has lasted, in the time of the stamps."""
        if self.latest is None:
            return 0.0
        return max(self._last_ns - self.latest.stamp_ns, 0) / 1e9

    def counts(self) -> dict[str, int]:
        """Results by mode, sorted by name."""
        return {m.value: n for m, n in sorted(self._counts.items(), key=lambda i: i[0].value)}

    def missing(self) -> dict[str, int]:
        """How many results each sensor had no part in, sorted by name."""
        return dict(sorted(self._missing.items()))
