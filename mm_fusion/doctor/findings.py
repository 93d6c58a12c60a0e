"""A finding: what is wrong, with what, what was seen, and what to do about it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class Severity(enum.Enum):
    """How bad a finding is; in the order in which findings are shown."""

    ERROR = "error"  # fusion fails, or answers wrongly, until it is mended
    WARN = "warn"  # fusion works with less than it could have
    INFO = "info"  # a fact worth knowing


_ORDER = list(Severity)
NOTHING = "Nothing needs to be done."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor has to say.

    ``code`` is a stable name of the kind of finding, for programs; ``subject`` the topic, frame,
    file or setting it is about; ``seen`` what was observed, with figures; ``remedy`` one sentence
    on what to do.
    """

    severity: Severity
    code: str
    subject: str
    seen: str
    remedy: str

    def values(self) -> dict[str, str]:
        """As plain strings, for JSON."""
        return {
            "severity": self.severity.value,
            "code": self.code,
            "subject": self.subject,
            "seen": self.seen,
            "remedy": self.remedy,
        }


def error(code: str, subject: str, seen: str, remedy: str) -> Finding:
    """A finding that must be mended."""
    return Finding(Severity.ERROR, code, subject, seen, remedy)


def warn(code: str, subject: str, seen: str, remedy: str) -> Finding:
    """A finding that costs quality."""
    return Finding(Severity.WARN, code, subject, seen, remedy)


def info(code: str, subject: str, seen: str, remedy: str = NOTHING) -> Finding:
    """A fact."""
    return Finding(Severity.INFO, code, subject, seen, remedy)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, warnings, facts; within one severity in the order in which they were found."""
    return sorted(findings, key=lambda f: _ORDER.index(f.severity))


@dataclass(frozen=True, slots=True)
class Report:
    """What the doctor says about one graph or bag.

    ``sensors`` has one row of plain values per input that was observed (see
    :func:`mm_fusion.doctor.text.render` for its columns), ``facts`` what was found out besides.
    """

    source: str
    live: bool
    duration_s: float
    findings: tuple[Finding, ...]
    sensors: tuple[dict[str, Any], ...]
    facts: dict[str, Any]

    def count(self, severity: Severity) -> int:
        """Findings of one severity."""
        return sum(f.severity is severity for f in self.findings)

    @property
    def healthy(self) -> bool:
        """No finding is an error."""
        return not self.count(Severity.ERROR)

    def values(self) -> dict[str, Any]:
        """The whole report as plain values, for JSON."""
        return {
            "source": self.source,
            "live": self.live,
            "duration_s": round(self.duration_s, 3),
            "healthy": self.healthy,
            **{f"{s.value}s": self.count(s) for s in (Severity.ERROR, Severity.WARN)},
            "findings": [f.values() for f in self.findings],
            "sensors": list(self.sensors),
            "facts": self.facts,
        }
