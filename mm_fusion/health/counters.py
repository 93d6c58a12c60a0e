"""What came and what was dropped, by sensor and reason."""

from __future__ import annotations

from collections import Counter

from mm_fusion.samples import Reason, Rejection


class Counters:
    """Counts of rejections, with the last words of each kind."""

    def __init__(self) -> None:
        self._drops: Counter[tuple[str, Reason]] = Counter()
        self._details: dict[tuple[str, Reason], str] = {}

    def count(self, rejection: Rejection) -> None:
        """Take one rejection."""
        key = (rejection.sensor, rejection.reason)
        self._drops[key] += 1
        self._details[key] = rejection.detail

    def drops(self) -> dict[str, dict[str, int]]:
        """Counts by sensor and reason, both sorted by name."""
        out: dict[str, dict[str, int]] = {}
        for (sensor, reason), count in sorted(
            self._drops.items(), key=lambda item: (item[0][0], item[0][1].value)
        ):
            out.setdefault(sensor, {})[reason.value] = count
        return out

    def last_detail(self, sensor: str, reason: Reason) -> str:
        """What the last rejection of this kind said, "" where there was none."""
        return self._details.get((sensor, reason), "")

    def total(self, sensor: str | None = None) -> int:
        """All rejections, or those of one sensor."""
        return sum(n for (s, _), n in self._drops.items() if sensor is None or s == sensor)
