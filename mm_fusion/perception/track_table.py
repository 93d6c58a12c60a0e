"""The tracks as a table, a row each, and the detections of one instant in the tracks' frame."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.config_objects import TrackerConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception import object_motion
from mm_fusion.perception.object_motion import PEOPLE, STATIC, TWO_WHEELERS, VEHICLES, Motion
from mm_fusion.samples import Detection

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]

NAME = "U48"  # room for all detectors that may have seen one thing
UNKNOWN = "unknown"  # the label of what was seen and has no name
UNKNOWN_YAW_SIGMA_RAD = 100.0
PLANE = np.array([0, 1, 3])  # x, y and yaw among (x, y, z, yaw)
LENGTH_SIGMA = 0.03  # metres of doubt about the centre of a box, per metre of its length


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """All tracks in the order of their ids. A table is not changed once it is in use; who wants
    another makes a new one, so that a past one can be gone back to."""

    ids: I64  # [N]
    group: I64  # [N] classes that may be taken for each other
    votes: F64  # [N,L] scores of the labels seen so far
    motion: Motion
    turning: Bools  # [N] of a class that turns as vehicles do
    acceleration: F64  # [N] m/s^2
    lag: F64  # [N] how far detections have lately been ahead of a vehicle, in standard deviations
    z: F64  # [N]
    size: F64  # [N,3]
    score: F64  # [N]
    odds: F64  # [N] logarithm of the odds that it exists
    confirmed: Bools  # [N]
    sense: F64  # [N] evidence that front is front
    hits: I64  # [N]
    seen_ns: I64  # [N] stamp of the last detection
    source: Names  # [N] who made it

    @staticmethod
    def none() -> Table:
        """A table without rows."""
        number, whole, mark = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.bool_)
        return Table(
            ids=whole,
            group=whole,
            votes=np.zeros((0, 0)),
            motion=Motion(np.zeros((0, 5)), np.zeros((0, 5, 5)), mark),
            turning=mark,
            acceleration=number,
            lag=number,
            z=number,
            size=np.zeros((0, 3)),
            score=number,
            odds=number,
            confirmed=mark,
            sense=number,
            hits=whole,
            seen_ns=whole,
            source=np.zeros(0, NAME),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def with_(self, **changes: Any) -> Table:
        """The same table with some columns in place of its own."""
        return Table(**(self._columns() | changes))

    def _columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in COLUMNS}

    def _mapped(self, change: Any) -> Table:
        changed: dict[str, Any] = {
            name: Motion(*map(change, c)) if isinstance(c, Motion) else change(c)
            for name, c in self._columns().items()
        }
        return Table(**changed)

    def copied(self, motion: Motion) -> Table:
        """A copy whose columns may be written to, with a motion that may be, too."""
        columns = self._columns()
        del columns["motion"]
        return Table(motion=motion, **{name: column.copy() for name, column in columns.items()})

    def only(self, keep: Bools | I64) -> Table:
        """Those marked; the very table where that is all of them."""
        if keep.dtype == np.bool_ and keep.all():
            return self
        return self._mapped(lambda column: column[keep])

    def plus(self, other: Table) -> Table:
        """This table with the rows of another after its own."""
        more = other._columns()
        joined: dict[str, Any] = {
            name: Motion(*map(np.concatenate, zip(c, more[name], strict=True)))
            if isinstance(c, Motion)
            else np.concatenate([c, more[name]])
            for name, c in self._columns().items()
        }
        return Table(**joined)

    def in_order(self) -> Table:
        """By their ids."""
        return self if (np.diff(self.ids) > 0).all() else self.only(np.argsort(self.ids))

    def wide(self, labels: int) -> Table:
        """With a vote for every label."""
        more = labels - self.votes.shape[1]
        return self if not more else self.with_(votes=np.pad(self.votes, ((0, 0), (0, more))))

    def moved(self, move: RigidTransform) -> Table:
        """The tracks in another frame. Boxes stay upright, turned by the heading between them."""
        center = move.apply(np.column_stack([self.motion.state[:, :2], self.z]))
        motion = object_motion.moved(self.motion, move.yaw_rad())
        motion.state[:, :2] = center[:, :2]
        return self.with_(motion=motion, z=center[:, 2].copy())


COLUMNS = tuple(f.name for f in dataclasses.fields(Table))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The detections of one instant in the tracks' frame, a row each."""

    position: F64  # [M,2]
    z: F64
    yaw: F64
    has_yaw: Bools
    velocity: F64  # [M,2]
    noise: F64  # [M,3,3] covariance of (x, y, yaw)
    size: F64
    score: F64
    belief: F64  # [M] the score within 0.01 .. 0.99, also of a detector whose scores are logits
    group: I64
    votes: F64  # [M,L]
    unknown: Bools
    turning: Bools
    static: Bools
    acceleration: F64
    source: Names

    def __len__(self) -> int:
        return len(self.score)

    def begun(
        self,
        columns: I64,
        ids: I64,
        odds: F64,
        stamp_ns: int,
        vehicle: Bools,
        config: TrackerConfig,
    ) -> Table:
        """Tracks that have just begun, one for each of the chosen detections."""
        c, count = columns, len(columns)
        motion = object_motion.begun(
            *(self.position[c], self.yaw[c], self.velocity[c], self.noise[c]), config, vehicle
        )
        object_motion.at_rest(motion, np.flatnonzero(self.static[c]))
        return Table(
            ids=ids,
            group=self.group[c],
            votes=self.votes[c],
            motion=motion,
            turning=self.turning[c],
            acceleration=self.acceleration[c],
            lag=np.zeros(count),
            z=self.z[c],
            size=self.size[c],
            score=self.score[c],
            odds=odds,
            confirmed=np.zeros(count, np.bool_),
            sense=self.belief[c].copy(),
            hits=np.ones(count, np.int64),
            seen_ns=np.full(count, stamp_ns, np.int64),
            source=self.source[c],
        )


class Kinds:
    """What the labels say that were seen so far: ``labels`` in the order of their votes, what each
    may be taken for, how it moves."""

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._vote: dict[str, int] = {}
        self.labels: list[str] = []
        self.group = np.zeros(0, np.int64)
        self.unknown, self.turning, self.static = np.zeros((3, 0), np.bool_)
        self.acceleration_mps2 = np.zeros(0)

    def votes(self, detections: Sequence[Detection]) -> I64:
        """The place of each detection's label [M]; labels that are new are learned."""
        vote, names = self._vote, [d.label for d in detections]
        for label in names:
            if label not in vote:
                self._learn(label)
        return np.array([vote[label] for label in names], np.int64)

    def _learn(self, label: str) -> None:
        vote, name = len(self.labels), label.lower()
        self._vote[label] = vote
        self.labels.append(label)
        groups = (n for n, names in enumerate((TWO_WHEELERS, VEHICLES, PEOPLE)) if name in names)
        found = next(groups, None)
        self.group = np.append(self.group, vote if found is None else -1 - found)
        self.unknown = np.append(self.unknown, name == UNKNOWN)
        self.turning = np.append(self.turning, name in VEHICLES)
        self.static = np.append(self.static, name in STATIC)
        acceleration_mps2 = _acceleration(name, self._config)
        self.acceleration_mps2 = np.append(self.acceleration_mps2, acceleration_mps2)


def measured(
    detections: Sequence[Detection],
    move: RigidTransform | None,
    kinds: Kinds,
    config: TrackerConfig,
) -> Found:
    """Detections, moved by ``move``; labels that are new are added to ``kinds``.

    Raises ValueError for a centre, a size or a score that is no number.
    """
    vote, count = kinds.votes(detections), len(detections)
    center = _stacked([d.center for d in detections], 3)
    size = _stacked([d.size for d in detections], 3)
    score = np.array([d.score for d in detections], float)
    if not math.isfinite(float(center.sum() + size.sum() + score.sum())):
        _check_finite(center, size, score)
    yaw = np.array([d.yaw for d in detections], float)
    has_yaw = np.isfinite(yaw)
    velocity = _stacked([d.velocity for d in detections], 2)
    noise = _noise(detections, size, config)
    noise[~has_yaw, 2, 2] = UNKNOWN_YAW_SIGMA_RAD**2
    yaw, velocity = np.where(has_yaw, yaw, 0.0), np.where(np.isfinite(velocity), velocity, 0.0)
    if move is not None:
        center = move.apply(center)
        turned = move.yaw_rad()
        c, s = math.cos(turned), math.sin(turned)
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        velocity, noise, yaw = velocity @ turn[:2, :2].T, turn @ noise @ turn.T, yaw + turned
    belief = np.minimum(np.maximum(score, 0.01), 0.99)
    votes = np.zeros((count, len(kinds.labels)))
    votes[np.arange(count), vote] = belief
    return Found(
        position=center[:, :2],
        z=center[:, 2],
        yaw=yaw,
        has_yaw=has_yaw,
        velocity=velocity,
        noise=noise,
        size=size,
        score=score,
        belief=belief,
        group=kinds.group[vote],
        votes=votes,
        unknown=kinds.unknown[vote],
        turning=kinds.turning[vote] & has_yaw,
        static=kinds.static[vote],
        acceleration=kinds.acceleration_mps2[vote],
        source=np.array([d.source for d in detections], NAME),
    )


def _stacked(parts: Sequence[F64], width: int) -> F64:
    """Rows of this width as one table; faster than asking numpy what a list of arrays is."""
    rows = np.concatenate(parts) if parts else np.zeros(0)
    return rows.astype(float, copy=False).reshape(len(parts), width)


def _check_finite(center: F64, size: F64, score: F64) -> None:
    whole = np.isfinite(center).all(axis=1) & np.isfinite(size).all(axis=1) & np.isfinite(score)
    if not whole.all():
        at = int(np.flatnonzero(~whole)[0])
        raise ValueError(f"detections[{at}]: centre, size and score must be finite numbers")


def _noise(detections: Sequence[Detection], size: F64, config: TrackerConfig) -> F64:
    """Covariances [M,3,3] of (x, y, yaw): the detector's own, or the usual."""
    given = [n for n, d in enumerate(detections) if d.covariance is not None]
    if given:
        own = np.concatenate([detections[n].covariance for n in given]).reshape(-1, 4, 4)
        own = own[:, PLANE[:, None], PLANE]
        if len(given) == len(detections):
            return own
    noise = np.zeros((len(detections), 3, 3))
    noise[:, 0, 0] = noise[:, 1, 1] = (
        config.position_sigma_m**2 + (LENGTH_SIGMA * size[:, :2].max(axis=1, initial=0.0)) ** 2
    )
    noise[:, 2, 2] = config.yaw_sigma_rad**2
    if given:
        noise[given] = own
    return noise


def _acceleration(name: str, config: TrackerConfig) -> float:
    if name in VEHICLES:
        return config.acceleration_mps2
    if name in STATIC:
        return object_motion.STATIC_MPS2
    return config.person_acceleration_mps2 if name in PEOPLE else config.other_acceleration_mps2
