"""One healthy drive, and the doctor's report on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import doctor_bags
from support.doctor_bags import Fault, Rows

from mm_fusion import config
from mm_fusion.doctor.bag import observe_bag
from mm_fusion.doctor.diagnose import diagnose
from mm_fusion.doctor.findings import Finding, Report


def examine_bag(path: Path, *settings: str, seconds: float | None = None) -> Report:
    """The doctor's report on a bag, without the network."""
    given = config.load(assignments=settings)
    return diagnose(observe_bag(path, given, seconds), given)


def find(report: Report, code: str, subject: str = "") -> list[Finding]:
    """The findings of a kind, about a subject."""
    return [f for f in report.findings if f.code == code and subject in ("", f.subject)]


@pytest.fixture(scope="session")
def healthy_rows() -> Rows:
    return doctor_bags.healthy_rows()


@pytest.fixture(scope="session")
def healthy(healthy_rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = doctor_bags.write(tmp_path_factory.mktemp("healthy") / "bag", healthy_rows)
    return examine_bag(path)


def check_fault(fault: Fault, rows: Rows, healthy: Report, folder: Path) -> None:
    """GIVEN a bag with one fault, WHEN it is examined, THEN that is said, and only of that bag."""
    bag = doctor_bags.write(folder / "bag", fault.rows(rows), fault.offered)
    report = examine_bag(bag, *fault.settings)
    found = find(report, fault.code, fault.subject)
    said = "\n".join(str(f) for f in report.findings)
    assert found, f"nothing about {fault.code} of {fault.subject}, but:\n{said}"
    assert {f.severity.value for f in found} == {fault.severity}
    for word in fault.words:
        assert any(word in f"{f.seen} {f.remedy}" for f in found), f"no '{word}' in:\n{said}"
    assert all(f.remedy.endswith((".", "?")) for f in found)
    before = {(f.seen, f.severity) for f in find(healthy, fault.code, fault.subject)}
    assert not before & {(f.seen, f.severity) for f in found}
