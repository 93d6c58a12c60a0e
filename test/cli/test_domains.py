"""ROS domains are leased: processes that ask at the same time never share one."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mm_fusion.cli import domains
from mm_fusion.errors import StageError

ROOT = Path(__file__).resolve().parents[2]
ASK = """
import sys
from mm_fusion.cli.domains import free_domain
print(*(free_domain() for _ in range(20)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leases of this test's own, which hide nothing from others and see nothing of theirs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_processes_that_ask_at_once_get_different_domains() -> None:
    """GIVEN four processes WHEN each asks for twenty domains while the others hold theirs THEN
    none is given twice, and all lie where the ports are safe."""
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", ASK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(4)
    ]
    given: list[int] = []
    for process in asking:
        assert process.stdout is not None
        given += map(int, process.stdout.readline().split())
    for process in asking:
        process.communicate(timeout=60.0)
    assert len(given) == len(set(given)) == 80
    assert set(given) <= set(range(1, 102))


@pytest.mark.usefixtures("folder")
def test_a_lease_ends() -> None:
    """GIVEN one domain to choose from WHEN it is leased THEN nobody gets it until it is back."""
    with domains.leased_domain([7]) as domain:
        assert domain == 7
        with pytest.raises(StageError, match="no free ROS domain"), domains.leased_domain([7]):
            pass
    with domains.leased_domain([7]) as again:
        assert again == 7


@pytest.mark.usefixtures("folder")
def test_who_asked_nobody_is_noticed_by_the_port() -> None:
    """GIVEN a participant that knows of no leases WHEN its domain is next THEN it is left out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 7400 + 250 * 9 + 10))
        with domains.leased_domain([9, 11]) as domain:
            assert domain == 11
