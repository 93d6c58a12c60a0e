"""LIDAR sweeps on the pose road: when they are due, what becomes of their motion, and counts."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from mm_fusion.config import DeskewConfig, PoseConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.clouds import span_ns
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.pose.estimator import Estimator
from mm_fusion.pose.filter import ATT, GYRO, SCALE, SIZE, VEL
from mm_fusion.pose.lidar_odometry import AXES, SweepJob, SweepMotion
from mm_fusion.pose.mounting import Extrinsics
from mm_fusion.samples import NS_PER_S, LidarSweep, PoseEstimate, Reason, Rejection

F64 = npt.NDArray[np.float64]

_WAITING = 5
_OUTVOTED = 10  # refused sweeps in a row
_NODES = 12  # poses that tell the motion during a sweep
_STILL = np.zeros(3)
_UNKNOWN = np.eye(6)
# A chi-square variable of 1 .. 6 degrees of freedom exceeds these once in ten thousand times.
GATES = (0.0, 15.14, 18.42, 21.11, 23.51, 25.74, 27.86)


class Sweeps:
    """Sweeps wait here for the filters to pass their newest point; then their pose is remembered
    and they are due to be registered. What comes of that is fused, whenever it comes."""

    def __init__(self, config: PoseConfig, drive: int) -> None:
        self._drive = drive
        self._scale_sigma = config.wheel_scale_sigma
        self._max_delay_ns = round(config.gps_max_delay_s * NS_PER_S)
        self._reckoning = _Reckoning()
        self._waiting: deque[tuple[int, int, LidarSweep]] = deque()
        self.counts = {"registered": 0, "refused": 0, "at_rest": 0, "degenerate": 0}
        self.untold: dict[str, int] = {}
        self.last: SweepMotion | None = None
        self._against = 0
        self._said: dict[str, str] = {}
        self.forward_ns = 0  # when forward motion was last told and fused

    def take(self, sweep: LidarSweep, local: Estimator | None) -> Rejection | None:
        """Let a sweep wait, or say why not."""

        def refuse(reason: Reason, detail: str) -> Rejection:
            return Rejection(sweep.sensor, sweep.stamp_ns, reason, detail)

        if local is None:
            return refuse(Reason.NOT_INITIALIZED, "no local pose yet to deskew it with")
        oldest_ns, newest_ns = span_ns(sweep)
        late_ns = local.stamp_ns - newest_ns
        if late_ns > self._max_delay_ns:
            return refuse(Reason.LATE, f"{late_ns / NS_PER_S:.2f} s late")
        if not local.knows(oldest_ns):
            return refuse(Reason.NOT_INITIALIZED, "began before the first local pose")
        self._waiting.append((oldest_ns, newest_ns, sweep))
        if len(self._waiting) > _WAITING:
            gone = self._waiting.popleft()[2]
            detail = "neither IMU nor wheels have come since"
            return Rejection(gone.sensor, gone.stamp_ns, Reason.OVERFLOW, detail)
        return None

    def due(
        self,
        local: Estimator,
        others: list[Estimator],
        extrinsics: Extrinsics,
        resting: bool,
    ) -> list[SweepJob | Rejection]:
        """The sweeps that all motion is known for; the estimators remember where they are now."""
        out: list[SweepJob | Rejection] = []
        while self._waiting and self._waiting[0][1] <= local.stamp_ns:
            oldest_ns, newest_ns, sweep = self._waiting.popleft()
            base_from_lidar = extrinsics.base_from(sweep.frame_id, "its sweeps are not used")
            if base_from_lidar is None:
                detail = f"nothing connects frame '{sweep.frame_id}' with the base frame"
                out.append(Rejection(sweep.sensor, sweep.stamp_ns, Reason.NO_EXTRINSICS, detail))
            elif resting:
                self.counts["at_rest"] += 1  # standing still is known better than sweeps tell it
            else:
                for estimator in others:
                    estimator.core.remember_pose(local.stamp_ns)
                out.append(self._job(sweep, (oldest_ns, newest_ns), base_from_lidar, local))
        return out

    def _job(
        self,
        sweep: LidarSweep,
        span_ns: tuple[int, int],
        base_from_lidar: RigidTransform,
        local: Estimator,
    ) -> SweepJob:
        core = local.core
        motion, here = self._reckoning.until_now(local, span_ns[0])
        linear = np.diagonal(core.body_velocity_covariance())
        turn = np.diagonal(core.covariance[GYRO, GYRO])
        return SweepJob(
            self._drive,
            sweep,
            local.stamp_ns,
            base_from_lidar,
            motion,
            here,
            (span_ns[1] - span_ns[0]) / NS_PER_S,
            np.concatenate([linear, turn]),
        )

    def give_up(self, job: SweepJob, others: list[Estimator]) -> Rejection:
        """A sweep will not be registered; the pose remembered for it is forgotten."""
        self.counts["refused"] += 1
        for estimator in others:
            if estimator.core.clones is not None:
                estimator.core.clones.drop(job.stamp_ns)
        detail = "a newer sweep took its place: registering is slower than the LIDAR"
        return Rejection(job.sweep.sensor, job.stamp_ns, Reason.SUPERSEDED, detail)

    def fuse(
        self,
        outcome: SweepMotion | Rejection,
        local: Estimator | None,
        others: list[Estimator],
        wheels_agree: bool,
    ) -> Rejection | None:
        """Take what came of a registration; the rejection where nothing was fused.

        Refused sweeps are wrong where the wheels agree with the estimate; where these are refused
        too, or not heard, it is the estimate that is wrong.
        """
        at_ns = outcome.stamp_ns if isinstance(outcome, Rejection) else outcome.to_ns
        refused = outcome if isinstance(outcome, Rejection) else None
        if isinstance(outcome, SweepMotion):
            self._count(outcome)
            if outcome.from_ns and local is not None:
                refused = self._fuse(outcome, local, others)
                self._against = self._against + 1 if refused and not wheels_agree else 0
                if self._against >= _OUTVOTED:
                    self._doubt(others)
        self.counts["refused"] += refused is not None
        for estimator in others:
            if estimator.core.clones is not None:
                estimator.core.clones.drop_before(at_ns)
        return refused

    def _fuse(
        self, outcome: SweepMotion, local: Estimator, others: list[Estimator]
    ) -> Rejection | None:
        told = len(outcome.directions)
        keys = (outcome.from_ns, outcome.to_ns)
        if not told:
            return None
        gate = GATES[told]
        # The local estimate decides: what disagrees with IMU and wheels is used by neither.
        for estimator in sorted(others, key=lambda e: e is not local):
            if not estimator.core.knows_poses(*keys):
                continue
            ratio = estimator.fuse_motion(
                keys, outcome.motion, outcome.directions, outcome.variance, gate, outcome.untold
            )
            if gate and ratio > gate:
                detail = f"{ratio**0.5:.1f} sigma off what IMU and wheels say"
                return Rejection(outcome.sensor, outcome.to_ns, Reason.OUTLIER, detail)
            gate = 0.0
        if AXES[0] not in outcome.untold:
            self.forward_ns = outcome.to_ns
        return None

    def _doubt(self, others: list[Estimator]) -> None:
        self._against = 0
        variance = np.zeros(SIZE)
        variance[VEL], variance[ATT] = 1.0, (4e-4, 4e-4, 0.0)
        variance[SCALE] = self._scale_sigma**2
        for estimator in others:
            estimator.core.doubt(variance)
        self._said["doubt"] = (
            "lidar: sweeps that agreed among themselves contradicted the estimate, and no wheels"
            " spoke for it: its velocity was given up"
        )

    def _count(self, outcome: SweepMotion) -> None:
        self.last = outcome
        self.counts["registered"] += 1
        self.counts["degenerate"] += bool(outcome.untold)
        for axis in outcome.untold:
            self.untold[axis] = self.untold.get(axis, 0) + 1

    def warnings(self) -> list[str]:
        """What the surroundings do not tell at present."""
        said = list(self._said.values())
        if self.last is None or not self.last.untold:
            return said
        axes = ", ".join(self.last.untold)
        return [
            *said,
            f"{self.last.sensor}: the surroundings do not tell motion {axes}: no weight there",
        ]

    def report(self) -> dict[str, int]:
        """Counts of sweeps, and of those that did not tell an axis."""
        return {**self.counts, **{f"untold.{axis}": n for axis, n in self.untold.items()}}


class _Reckoning:
    """The way of the base as dead reckoning alone has it, from sweep to sweep."""

    def __init__(self) -> None:
        self._last_ns = 0
        self._at = RigidTransform.identity()  # on the way
        self._core = RigidTransform.identity()  # by the filter, at the same instant

    def until_now(self, local: Estimator, oldest_ns: int) -> tuple[MotionBuffer, RigidTransform]:
        """The base's motion since an instant, and where on the way it is now."""
        since_ns = min(oldest_ns, self._last_ns or oldest_ns)
        reached = local.knows(since_ns)
        past = local.path(since_ns if reached else oldest_ns)
        core = RigidTransform.trusted(local.core.rotation, local.core.position)
        if reached and self._last_ns:
            then = min(past, key=lambda p: abs(p[0] - self._last_ns))[1]
            self._at = self._at @ then.inverse() @ past[-1][1]
        else:
            self._at = self._at @ self._core.inverse() @ core
        self._last_ns, self._core = local.stamp_ns, core
        return _motion_of([p for p in past if p[0] >= oldest_ns] or past, past, oldest_ns), self._at


def _motion_of(
    within: list[tuple[int, RigidTransform]], past: list[tuple[int, RigidTransform]], oldest_ns: int
) -> MotionBuffer:
    """Some poses of the way, one before ``oldest_ns`` among them."""
    before = [p for p in past if p[0] < oldest_ns][-1:]
    step = max(1, len(within) // _NODES)
    # The whole of it is asked for, and nothing beyond.
    motion = MotionBuffer(DeskewConfig(max_motion_age_s=1.0))
    for stamp_ns, pose in [*before, *within[:-1:step], within[-1]]:
        motion.add(PoseEstimate(stamp_ns, "", "", pose, _STILL, _STILL, _UNKNOWN, _UNKNOWN))
    return motion
