"""Detections followed over time: constant velocity Kalman filters, optimal assignment.

Position noise is the same along x and y, so that one 2 x 2 covariance of (position, velocity)
serves both axes of a track exactly. Filter and white-noise acceleration model: Bar-Shalom, Li and
Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001, ch. 5 and 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from mm_fusion.config import TrackerConfig
from mm_fusion.geometry import RigidTransform, wrap_angles_rad
from mm_fusion.samples import NS_PER_S, Detection, Track

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

AVERAGED_HITS = 8  # over which size and score are averaged, and the least weight of a new one
HEIGHT_GAIN = 0.4
YAW_GAIN = 0.4
HEADING_SPEED_MPS = 1.5  # from here on the direction of travel tells front from back
FRAME_CHANGE_SIGMA_MPS = 5.0
NO_MATCH = 1e9


@dataclass(slots=True, eq=False)
class _Tracks:
    """All tracks, one row each, in the order of their ids."""

    ids: I64  # [N]
    label: I64  # [N] index into the classes seen so far
    position: F64  # [N,2]
    velocity: F64  # [N,2]
    covariance: F64  # [N,2,2] of position and velocity along either axis
    z: F64  # [N]
    size: F64  # [N,3]
    yaw: F64  # [N]
    score: F64  # [N]
    hits: I64  # [N]
    seen_ns: I64  # [N] stamp of the last detection

    @staticmethod
    def none() -> _Tracks:
        return _Tracks(
            ids=np.zeros(0, np.int64),
            label=np.zeros(0, np.int64),
            position=np.zeros((0, 2)),
            velocity=np.zeros((0, 2)),
            covariance=np.zeros((0, 2, 2)),
            z=np.zeros(0),
            size=np.zeros((0, 3)),
            yaw=np.zeros(0),
            score=np.zeros(0),
            hits=np.zeros(0, np.int64),
            seen_ns=np.zeros(0, np.int64),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, keep: npt.NDArray[np.bool_]) -> _Tracks:
        """Those marked; the very tracks where that is all of them."""
        if keep.all():
            return self
        return _Tracks(*(getattr(self, f.name)[keep] for f in fields(self)))

    def plus(self, other: _Tracks) -> _Tracks:
        if not len(other):
            return self
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return _Tracks(*(np.concatenate(p) for p in pairs))


class Tracker:
    """Tracks of one scene. ``update`` once per synced set, in the order of their stamps."""

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._labels: list[str] = []
        self._next_id = 1
        self._tracks = _Tracks.none()
        self._stamp_ns: int | None = None
        self._odom_from_base: RigidTransform | None = None
        self._in_odom = False

    def update(
        self,
        stamp_ns: int,
        detections: Sequence[Detection],
        odom_from_base: RigidTransform | None,
    ) -> tuple[Track, ...]:
        """The confirmed tracks after the detections of one instant, in the order of their ids.

        ``detections`` are in the base frame. Tracks live in the odometry frame where
        ``odom_from_base`` is known, else in the base frame. Time that goes back ends all tracks.
        """
        self._enter_frame(odom_from_base)
        self._predict(stamp_ns)
        found = self._measured(stamp_ns, detections, odom_from_base)
        rows, columns = self._assign(found)
        self._correct(rows, found, columns)
        unmatched = np.ones(len(found), np.bool_)
        unmatched[columns] = False
        self._bury(stamp_ns)
        self._start(found.only(unmatched))
        return self._confirmed(stamp_ns)

    # --------------------------------------------------------------------------- prediction

    def _enter_frame(self, odom_from_base: RigidTransform | None) -> None:
        """Move the tracks along where ego motion becomes known, or is lost."""
        in_odom = odom_from_base is not None
        if in_odom != self._in_odom and len(self._tracks):
            move = odom_from_base
            if move is None and self._odom_from_base is not None:
                move = self._odom_from_base.inverse()
            if move is not None:
                _move(self._tracks, move)
                # What was speed over ground is now speed relative to the robot, or the reverse.
                self._tracks.covariance[:, 1, 1] += FRAME_CHANGE_SIGMA_MPS**2
        self._in_odom = in_odom
        self._odom_from_base = odom_from_base or self._odom_from_base

    def _predict(self, stamp_ns: int) -> None:
        before_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        if before_ns is None:
            return
        if stamp_ns < before_ns:
            self._tracks = _Tracks.none()
            return
        dt = (stamp_ns - before_ns) / NS_PER_S
        tracks, sigma = self._tracks, self._config.acceleration_mps2
        tracks.position += tracks.velocity * dt
        step = np.array([[1.0, dt], [0.0, 1.0]])
        gain = np.array([dt * dt / 2.0, dt])
        tracks.covariance = step @ tracks.covariance @ step.T + sigma * sigma * gain[:, None] * gain

    # --------------------------------------------------------------------------- assignment

    def _measured(
        self, stamp_ns: int, detections: Sequence[Detection], move: RigidTransform | None
    ) -> _Tracks:
        """The detections as tracks that have just begun, in the tracks' frame."""
        for d in detections:
            if d.label not in self._labels:
                self._labels.append(d.label)
        count = len(detections)
        center = np.array([d.center for d in detections]).reshape(count, 3)
        config = self._config
        found = _Tracks(
            ids=np.zeros(count, np.int64),
            label=np.array([self._labels.index(d.label) for d in detections], dtype=np.int64),
            position=center[:, :2].copy(),
            velocity=np.array([d.velocity for d in detections], dtype=float).reshape(count, 2),
            covariance=np.tile(
                np.diag([config.position_sigma_m**2, config.velocity_sigma_mps**2]), (count, 1, 1)
            ),
            z=center[:, 2].copy(),
            size=np.array([d.size for d in detections], dtype=float).reshape(count, 3),
            yaw=np.array([d.yaw for d in detections], dtype=float),
            score=np.array([d.score for d in detections], dtype=float),
            hits=np.ones(count, np.int64),
            seen_ns=np.full(count, stamp_ns, np.int64),
        )
        if move is not None:
            _move(found, move)
        return found

    def _assign(self, found: _Tracks) -> tuple[I64, I64]:
        """Rows of tracks and of detections that belong together, class by class.

        The cost is that of the likelihood, -2 log N(residual; 0, S): a track that is sure of its
        place has the first claim on what is there.
        """
        tracks = self._tracks
        rows, columns = np.zeros(0, np.int64), np.zeros(0, np.int64)
        if not len(tracks) or not len(found):
            return rows, columns
        offset = found.position[None] - tracks.position[:, None]
        square = np.einsum("nmi,nmi->nm", offset, offset)
        variance = tracks.covariance[:, 0, 0] + self._config.position_sigma_m**2
        cost = square / variance[:, None] + 2.0 * np.log(variance)[:, None]
        apart = (tracks.label[:, None] != found.label) | (square > self._config.gate_m**2)
        cost[apart] = NO_MATCH
        for label in np.unique(found.label):
            r, c = np.flatnonzero(tracks.label == label), np.flatnonzero(found.label == label)
            if len(r):
                chosen_r, chosen_c = linear_sum_assignment(cost[np.ix_(r, c)])
                rows, columns = np.append(rows, r[chosen_r]), np.append(columns, c[chosen_c])
        fits = cost[rows, columns] < NO_MATCH
        return rows[fits], columns[fits]

    # --------------------------------------------------------------------------- correction

    def _correct(self, rows: I64, found: _Tracks, columns: I64) -> None:
        t = self._tracks
        residual = found.position[columns] - t.position[rows]
        p = t.covariance[rows]
        variance = p[:, 0, 0] + self._config.position_sigma_m**2
        gain = p[:, :, 0] / variance[:, None]
        t.position[rows] += gain[:, :1] * residual
        t.velocity[rows] += gain[:, 1:] * residual
        t.covariance[rows] = p - gain[:, :, None] * p[:, None, 0, :]
        t.hits[rows] += 1
        t.seen_ns[rows] = found.seen_ns[columns]
        weight = 1.0 / np.minimum(t.hits[rows], AVERAGED_HITS)
        t.score[rows] += weight * (found.score[columns] - t.score[rows])
        t.size[rows] += weight[:, None] * (found.size[columns] - t.size[rows])
        t.z[rows] += HEIGHT_GAIN * (found.z[columns] - t.z[rows])
        t.yaw[rows] = _turned(t.yaw[rows], found.yaw[columns], t.velocity[rows])

    def _bury(self, stamp_ns: int) -> None:
        """End the tracks that were not seen for too long; those not yet confirmed, sooner."""
        t, config = self._tracks, self._config
        longest_ns = np.where(t.hits >= config.confirm_hits, 1.0, 0.5) * config.max_coast_s * 1e9
        self._tracks = t.only(stamp_ns - t.seen_ns <= longest_ns)

    def _start(self, found: _Tracks) -> None:
        new = found.only(found.score >= self._config.min_score)
        new.ids = np.arange(self._next_id, self._next_id + len(new), dtype=np.int64)
        self._next_id += len(new)
        self._tracks = self._tracks.plus(new)

    def _confirmed(self, stamp_ns: int) -> tuple[Track, ...]:
        t = self._tracks
        rows = np.flatnonzero(t.hits >= self._config.confirm_hits)
        center = np.column_stack([t.position, t.z])[rows]
        size, velocity = t.size[rows], t.velocity[rows]
        # Order (x, y, vx, vy): the 2 x 2 covariance once for each axis.
        axes = np.zeros((len(rows), 2, 2, 2, 2))
        axes[:, :, 0, :, 0] = axes[:, :, 1, :, 1] = t.covariance[rows]
        covariance = axes.reshape(-1, 4, 4)
        numbers = (t.ids, t.label, t.score, t.yaw, t.hits, t.seen_ns)
        return tuple(
            Track(
                track_id=track_id,
                label=self._labels[label],
                score=score,
                center=center[n],
                size=size[n],
                yaw=yaw,
                velocity=velocity[n],
                covariance=covariance[n],
                hits=hits,
                time_since_update_s=float(stamp_ns - seen_ns) / NS_PER_S,
            )
            for n, (track_id, label, score, yaw, hits, seen_ns) in enumerate(
                zip(*(column[rows].tolist() for column in numbers), strict=True)
            )
        )


def _move(tracks: _Tracks, move: RigidTransform) -> None:
    """Take tracks into another frame. Boxes stay upright, turned by the heading between them."""
    center = move.apply(np.column_stack([tracks.position, tracks.z]))
    tracks.position, tracks.z = center[:, :2].copy(), center[:, 2].copy()
    yaw = move.yaw_rad()
    c, s = np.cos(yaw), np.sin(yaw)
    tracks.velocity = tracks.velocity @ np.array([[c, s], [-s, c]])
    tracks.yaw = wrap_angles_rad(tracks.yaw + yaw)


def _turned(old: F64, new: F64, velocity: F64) -> F64:
    """Headings between the old and the new ones; front and back are told by the way they go."""
    # A network sees a box's axis well and its sense badly: of both senses the nearer is meant.
    delta = (new - old + np.pi / 2.0) % np.pi - np.pi / 2.0
    yaw = old + YAW_GAIN * delta
    ahead = velocity[:, 0] * np.cos(yaw) + velocity[:, 1] * np.sin(yaw)
    fast = np.hypot(velocity[:, 0], velocity[:, 1]) > HEADING_SPEED_MPS
    yaw = np.where(fast & (ahead < 0.0), yaw + np.pi, yaw)
    return np.arctan2(np.sin(yaw), np.cos(yaw))
