"""Between pose_node and the process that registers its sweeps: the newest sweep wins."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable

from mm_fusion.config import PoseConfig
from mm_fusion.nodes.handover import NewestWins
from mm_fusion.pose.lidar_odometry import SweepJob, SweepMotion
from mm_fusion.samples import Reason, Rejection

PATIENCE_S = 5.0


class SweepWorker:
    """One sweep is registered, one may wait; ``say`` is told when the process had to be renewed."""

    def __init__(self, config: PoseConfig, say: Callable[[str], None]) -> None:
        self._config, self._say = config, say
        self._queue: NewestWins[None, SweepJob] = NewestWins(1)
        self._outcomes: deque[SweepMotion | Rejection] = deque()
        self._process = self._begin()
        self._thread = threading.Thread(target=self._work, name="sweeps")
        self._thread.start()

    def put(self, job: SweepJob) -> SweepJob | None:
        """Hand over a sweep; answers the one that had to go for it."""
        return next(iter(self._queue.put(job)), None)

    def outcomes(self) -> list[SweepMotion | Rejection]:
        """What has come of sweeps since the last call."""
        return [self._outcomes.popleft() for _ in range(len(self._outcomes))]

    def close(self) -> None:
        """Finish what waits, end the process."""
        self._queue.close()
        self._thread.join()
        self._end(self._process)

    def _begin(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mm_fusion.nodes.sweep_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._send(process, self._config)
        return process

    @staticmethod
    def _send(process: subprocess.Popen[bytes], what: object) -> None:
        assert process.stdin is not None
        pickle.dump(what, process.stdin, pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            process.kill()  # dead already; what was not sent yet goes nowhere
        process.stdout.close()
        try:
            return process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _work(self) -> None:
        self._queue.run(lambda _: None, self._register)

    def _register(self, job: SweepJob) -> None:
        process = self._process
        assert process.stdout is not None
        try:
            self._send(process, job)
            self._outcomes.append(pickle.load(process.stdout))
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self._end(process)
            detail = f"the process that registers sweeps ended with {code}; it is begun anew"
            self._say(detail)
            lost = Rejection(job.sweep.sensor, job.stamp_ns, Reason.NOT_INITIALIZED, detail)
            self._outcomes.append(lost)
            self._process = self._begin()
