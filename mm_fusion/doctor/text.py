"""The report for people: a table of the sensors, then the findings, worst first."""

from __future__ import annotations

import textwrap
from typing import Any

from mm_fusion.doctor.findings import NOTHING, Finding, Report, Severity

WIDTH = 100
COLUMNS = ("topic", "messages", "rate", "jitter", "latency", "size", "content")


def render(report: Report) -> str:
    """The whole report.

    The table's columns: messages received; rate and jitter of the stamps; latency as arrival minus
    stamp, median and jitter; size of a message; what is in it.
    """
    lines = [f"{report.source}: {report.duration_s:.1f} s" + (" live" if report.live else "")]
    if report.sensors:
        lines += ["", *_table([COLUMNS, *map(_cells, report.sensors)])]
    for finding in report.findings:
        lines += ["", *_paragraph(finding)]
    return "\n".join([*lines, "", _verdict(report)])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    latency = "-" if row["latency_ms"] is None else _milliseconds(row["latency_ms"])
    if row["latency_jitter_ms"] is not None:
        latency += f" ±{_milliseconds(row['latency_jitter_ms'])}"
    return (
        row["topic"],
        str(row["messages"]),
        f"{row['rate_hz']:.1f} Hz" if row["rate_hz"] else "-",
        _milliseconds(row["jitter_ms"]),
        latency,
        _size(row["bytes"]),
        row["content"],
    )


def _milliseconds(value: float) -> str:
    if abs(value) >= 10_000.0:
        return f"{value / 1e3:.1f} s"
    return f"{value:.1f} ms"


def _size(count: int) -> str:
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e3:.1f} kB" if count >= 1000 else f"{count} B"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(COLUMNS))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [row[n].rjust(widths[n]) for n in range(1, len(COLUMNS) - 1)]
        lines.append("  " + "  ".join([*cells, row[-1]]).rstrip())
    return lines


def _paragraph(finding: Finding) -> list[str]:
    mark = finding.severity.value.upper().ljust(5)
    head = f"{mark} {finding.subject} [{finding.code}]"
    body = [
        *textwrap.wrap(finding.seen, WIDTH - 6, break_long_words=False, break_on_hyphens=False),
        *(_arrow(finding.remedy) if finding.remedy != NOTHING else ()),
    ]
    return [head, *(f"      {line}" for line in body)]


def _arrow(remedy: str) -> list[str]:
    wrapped = textwrap.wrap(remedy, WIDTH - 9, break_long_words=False, break_on_hyphens=False)
    return [f"-> {wrapped[0]}", *(f"   {line}" for line in wrapped[1:])] if wrapped else []


def _verdict(report: Report) -> str:
    names = {Severity.ERROR: "error", Severity.WARN: "warning", Severity.INFO: "fact"}
    counts = [(report.count(severity), name) for severity, name in names.items()]
    said = ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for n, name in counts)
    return f"{'healthy' if report.healthy else 'not healthy'}: {said}"
