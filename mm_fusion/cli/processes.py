"""Node processes for a command: logs in files, their JSON lines read, their end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mm_fusion import resources, shared_memory
from mm_fusion.errors import StageError

STOP_S = 20.0


def environment(domain: int, logs: Path) -> dict[str, str]:
    """For nodes that only talk among themselves, about large messages."""
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(logs),
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(resources.share_path("config/fastdds.xml")),
    }


class Child:
    """One process: ``python -m mm_fusion.nodes.<module>``, its stderr in ``<logs>/<name>.log``.

    ``said`` is the last line of JSON it printed. ``may_end``: its ending with 0 is no error.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        logs: Path,
        name: str = "",
    ) -> None:
        self.name = name or module
        self.log = logs / f"{self.name}.log"
        self.said: dict[str, Any] = {}
        self.cpu_s = 0.0
        self.may_end = False
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"mm_fusion.nodes.{module}", *arguments],
                env=environ,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
                # Ctrl-C is for the command, which ends its children in order.
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                said = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(said, dict):
                self.said = said

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself or was ended."""
        return self._process.poll() is not None

    def check(self) -> None:
        """StageError, with the process's own words, where it has ended and should not have."""
        code = self._process.poll()
        if code or (code is not None and not self.may_end):
            raise StageError(f"{self.name} ended with {code}: {self.last_words()}")

    def last_words(self) -> str:
        """The last error in its log, else its last line."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line]
        errors = [line for line in lines if "[ERROR]" in line or "[FATAL]" in line]
        chosen = (errors or lines or ["it said nothing"])[-1]
        return f"{chosen.rpartition(']: ')[2]} (log: {self.log})"

    def stop(self) -> None:
        """Ask it to end and wait; StageError where it ends badly or not at all."""
        if not self.ended:
            self.cpu_s = cpu_s(self._process.pid)
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            raise StageError(
                f"{self.name} did not end in {STOP_S:.0f} s (log: {self.log})"
            ) from error
        self._reader.join(STOP_S)
        if code:
            raise StageError(f"{self.name} ended with {code}: {self.last_words()}")

    def kill(self) -> None:
        """End it at once; for the way out of a failure."""
        end_at_once(self._process)


def end_at_once(process: subprocess.Popen[Any]) -> None:
    """SIGKILL, and remove the shared memory that the process then cannot remove itself."""
    if process.poll() is None:
        segments = shared_memory.owned_by(process.pid)
        process.kill()
        process.wait()
        shared_memory.remove(segments)


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Family:
    """Children that end together. A context manager: whatever happens, none is left behind."""

    def __init__(self, environ: dict[str, str], logs: Path) -> None:
        self._environ = environ
        self._logs = logs
        self.children: list[Child] = []

    def start(
        self, module: str, *arguments: str, name: str = "", extra: Mapping[str, str] | None = None
    ) -> Child:
        """Start one more: under a name of its own, with ``extra`` variables."""
        environ = {**self._environ, **(extra or {})}
        child = Child(module, arguments, environ, self._logs, name)
        self.children.append(child)
        return child

    def wait(
        self, condition: Callable[[], bool], what: str, patience_s: float, pause_s: float = 0.05
    ) -> None:
        """Wait for a condition while all children live. StageError where it does not come."""
        deadline_s = time.monotonic() + patience_s
        while not condition():
            for child in self.children:
                child.check()
            if time.monotonic() > deadline_s:
                raise StageError(f"waited {patience_s:.0f} s in vain for {what}")
            time.sleep(pause_s)

    def __enter__(self) -> Family:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for child in self.children:
            child.kill()
