"""Detections followed over time: who is there, where it goes, and how sure that is.

Tracks live in the odometry frame, so that the robot's own motion is no motion of theirs. Vehicles
turn as vehicles do, the rest goes straight on (``object_motion``); without ego motion everything
does, in the base frame. Each track carries the probability that it exists, which detections raise
and their absence lowers, less so where another object stands before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.config_objects import TrackerConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception import association, object_motion
from mm_fusion.perception.object_motion import Motion
from mm_fusion.perception.track_table import Found, Kinds, Table, measured
from mm_fusion.samples import NS_PER_S, Detection, Track

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HEIGHT_GAIN = 0.4
AVERAGED_HITS = 8  # over which size and score are averaged, and the least weight of a new one
# What goes backwards faster than this, with a doubtful front, shows its back; at twice the speed,
# without a doubt.
FRONT_MPS = 1.5  # a vehicle
WALKING_MPS = 0.5  # anything else
SURE_SENSE = 1.5
SENSE_LIMIT = 4.0
# As seen from a robot that moves nobody knows how: acceleration of all things, speed of new ones.
RELATIVE_MPS2 = 8.0
RELATIVE_MPS = 12.0
LOST_MPS = 5.0  # doubt about velocities when ego motion comes or goes

# Evidence for a track, as logarithms of odds.
BORN = 0.7  # a detection that starts a track is believed this share of its score
REPEAT = 2.0  # times as likely as by its score alone is a detection where a track expects it;
LEAST_REPEAT = 0.5  # one of a low score speaks against the track, no more than this much
SURE = 7.0  # no evidence counts beyond
HIDDEN_DETECTION = 0.1  # how often what is hidden is detected all the same
BURIED = float(np.log(0.02 / 0.98))


@dataclass(slots=True)
class _Step:
    """What came in at one stamp, the table before it, and the ids it gave: by detection."""

    stamp_ns: int
    detections: Sequence[Detection]
    odom_from_base: RigidTransform | None
    complete: bool
    before: tuple[Table, int | None, RigidTransform | None, bool]
    born: dict[int, int] = field(default_factory=dict)


class _Rest(NamedTuple):
    """What is left to do of a step once it is answered: which tracks live on, and which detections
    are free to begin others."""

    alive: Bools
    found: Found
    free: Bools
    step: _Step


class _Foreseen(NamedTuple):
    """The tracks ``after`` a prediction, of which tables and for which stamp."""

    before: Table
    stamp_ns: int
    after: Table


class Tracker:
    """Tracks of one scene. ``update`` once per set of detections of one instant."""

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        least = config.min_existence
        self._shown = float(_odds(least)) if least > 0.0 else -np.inf
        self._kinds = Kinds(config)
        self._next_id = 1
        self._begin()

    def _begin(self) -> None:
        self._tracks = Table.none()
        self._stamp_ns: int | None = None
        self._odom_from_base: RigidTransform | None = None  # the last known
        self._in_odom = False
        self._steps: list[_Step] = []
        self._foreseen: _Foreseen | None = None
        self._rest: _Rest | None = None

    def foresee(self, stamp_ns: int) -> None:
        """Predict the tracks to the stamp of the next detections before they are there. What
        :meth:`update` finds done it does not do again; no answer changes by it."""
        self.settle()
        if self._stamp_ns is not None and stamp_ns > self._stamp_ns and len(self._tracks):
            after = self._predicted((stamp_ns - self._stamp_ns) / NS_PER_S)
            self._foreseen = _Foreseen(self._tracks, stamp_ns, after)

    def update(
        self,
        stamp_ns: int,
        detections: Sequence[Detection],
        odom_from_base: RigidTransform | None,
        complete: bool = True,
    ) -> tuple[Track, ...]:
        """The confirmed tracks after the detections of one instant, in the order of their ids.

        ``detections`` are in the base frame; a yaw or a velocity that is NaN is not known. Tracks
        are in the odometry frame where ``odom_from_base`` is known, else in the base frame. With
        ``complete`` False the source does not look everywhere: what it does not see may be there.

        Sources may come late: what is older than the newest by up to ``max_late_s`` is put in where
        it belongs, and the answer is that for the newest stamp. Time that goes back further ends
        all tracks. Raises ValueError for a detection whose centre, size or score is no number.

        Scores need not be probabilities: what is above 0.99 (logits, say) counts as 0.99, and
        a track's score is the mean of what was given. For a sweep over recalls, ``min_score`` below
        all scores and ``min_existence`` 0 publish every track with ``confirm_hits`` detections.
        """
        self.settle()
        late_ns = 0 if self._stamp_ns is None else self._stamp_ns - stamp_ns
        if late_ns > self._config.max_late_s * NS_PER_S:
            self._begin()
        again = self._undo(stamp_ns) if late_ns > 0 else []
        state = (self._tracks, self._stamp_ns, self._odom_from_base, self._in_odom)
        self._take(_Step(stamp_ns, detections, odom_from_base, complete, state))
        for step in again:
            self.settle()
            step.before = (self._tracks, self._stamp_ns, self._odom_from_base, self._in_odom)
            self._take(step)
        return self._confirmed()

    def _undo(self, stamp_ns: int) -> list[_Step]:
        """Take back the steps after a stamp; they are to be taken again."""
        keep = [s for s in self._steps if s.stamp_ns <= stamp_ns]
        again = self._steps[len(keep) :]
        self._steps = keep
        if again:
            before = again[0].before
            self._tracks, self._stamp_ns, self._odom_from_base, self._in_odom = before
        return again

    def _take(self, step: _Step) -> None:
        self._enter_frame(step.odom_from_base)
        self._predict(step.stamp_ns)
        found = measured(step.detections, step.odom_from_base, self._kinds, self._config)
        self._tracks = self._tracks.wide(len(self._kinds.labels))
        matched = self._match(found, step.stamp_ns)
        self._rest = _Rest(self._miss(step), found, ~matched, step)
        if self._config.confirm_hits <= 1:
            self.settle()  # a new track is in the answer
        oldest_ns = step.stamp_ns - round(self._config.max_late_s * NS_PER_S)
        self._steps = [s for s in self._steps if s.stamp_ns >= oldest_ns]
        self._steps.append(step)

    def settle(self) -> None:
        """Do what the last answer did not depend on: end tracks and begin others. Who calls it
        between two updates has the next one find it done; no answer changes by it."""
        rest, self._rest = self._rest, None
        if rest is not None:
            self._tracks = self._tracks.only(rest.alive)
            self._start(rest.found, rest.free, rest.step)

    # --------------------------------------------------------------------------- prediction

    def _enter_frame(self, odom_from_base: RigidTransform | None) -> None:
        """Move the tracks along where ego motion becomes known, or is lost."""
        in_odom = odom_from_base is not None
        if in_odom != self._in_odom and len(self._tracks):
            move = odom_from_base
            if move is None and self._odom_from_base is not None:
                move = self._odom_from_base.inverse()
            if move is not None:
                self._tracks = self._tracks.moved(move)
            # What was speed over ground is now speed relative to the robot, or the reverse.
            vehicle = self._tracks.turning if in_odom else np.zeros(len(self._tracks), np.bool_)
            motion = object_motion.reconsidered(self._tracks.motion, vehicle, LOST_MPS)
            self._tracks = self._tracks.with_(motion=motion)
        self._in_odom = in_odom
        self._odom_from_base = odom_from_base or self._odom_from_base

    def _predict(self, stamp_ns: int) -> None:
        before_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        if before_ns is None or not len(self._tracks):
            return
        foreseen, self._foreseen = self._foreseen, None
        if foreseen is not None and foreseen[:2] == (self._tracks, stamp_ns):
            self._tracks = foreseen.after
        else:
            self._tracks = self._predicted((stamp_ns - before_ns) / NS_PER_S)

    def _predicted(self, dt: float) -> Table:
        acceleration = self._tracks.acceleration
        acceleration = acceleration * object_motion.pushed(
            self._tracks.motion.vehicle, self._tracks.lag
        )
        if not self._in_odom:
            acceleration = np.maximum(acceleration, RELATIVE_MPS2)
        motion = object_motion.predicted(self._tracks.motion, dt, acceleration, self._config)
        return self._tracks.copied(motion)

    # --------------------------------------------------------------------------- evidence

    def _match(self, found: Found, stamp_ns: int) -> Bools:
        """Give detections to tracks, the sure ones first; which of them were given away."""
        matched = np.zeros(len(found), np.bool_)
        strong = (found.score >= self._config.min_score) & ~found.unknown
        for chosen in (strong, ~strong):
            free = np.flatnonzero(self._tracks.seen_ns < stamp_ns)
            columns = np.flatnonzero(chosen)
            if not len(free) or not len(columns):
                continue
            offset = found.position[columns] - self._tracks.motion.state[free, None, :2]
            spread = self._tracks.motion.covariance[free, None, :2, :2]
            allowed = np.einsum("nmi,nmi->nm", offset, offset) < self._config.gate_m**2
            allowed &= (self._tracks.group[free, None] == found.group[columns]) | (
                found.unknown[columns]
            )
            innovation = spread + found.noise[columns, :2, :2]
            rows, picked = association.assigned(offset, innovation, allowed)
            self._correct(free[rows], found, columns[picked], stamp_ns)
            matched[columns[picked]] = True
        return matched

    def _correct(self, rows: I64, found: Found, columns: I64, stamp_ns: int) -> None:
        """Move tracks to their detections, in place: the table is that of this step alone."""
        if not len(rows):
            return
        t = self._tracks
        before = t.motion.only(rows)
        position, noise, yaw = found.position[columns], found.noise[columns], found.yaw[columns]
        lag = t.lag[rows]
        lag += object_motion.LAG_GAIN * (object_motion.ahead(before, position, noise) - lag)
        t.lag[rows] = lag
        motion = object_motion.corrected(before, position, yaw, noise)
        motion = object_motion.steadied(motion)
        heading, belief = object_motion.headings(motion), found.belief[columns]
        told = np.where(found.has_yaw[columns], np.cos(yaw - heading) * belief, 0.0)
        t.sense[rows] = _turn_about(motion, heading, _within(t.sense[rows] + told, SENSE_LIMIT))
        t.motion.put(rows, motion)
        hits = t.hits[rows] + 1
        t.hits[rows], t.seen_ns[rows], t.source[rows] = hits, stamp_ns, found.source[columns]
        evidence = np.maximum(np.log(REPEAT * belief / (1.0 - belief)), np.log(LEAST_REPEAT))
        t.odds[rows] = np.minimum(np.maximum(t.odds[rows] + evidence, BURIED), SURE)
        # Of what has no name only the place is believed.
        named = ~found.unknown[columns]
        weight = np.where(named, 1.0 / np.minimum(hits, AVERAGED_HITS), 0.0)
        score, size, z = t.score[rows], t.size[rows], t.z[rows]
        t.score[rows] = score + weight * (found.score[columns] - score)
        t.size[rows] = size + weight[:, None] * (found.size[columns] - size)
        t.z[rows] = z + np.where(named, HEIGHT_GAIN, 0.0) * (found.z[columns] - z)
        t.votes[rows] += np.where(named[:, None], found.votes[columns], 0.0)

    def _miss(self, step: _Step) -> Bools:
        """Doubt what was not seen; which tracks live on: nobody believes in the others, or they
        have not been seen for long."""
        t = self._tracks
        seen = t.seen_ns == step.stamp_ns
        if not len(t):
            return seen
        place = t.motion.state[:, :2]
        if step.odom_from_base is not None:
            place = place - step.odom_from_base.translation[:2]
        hidden = ~seen & association.hidden(place, t.size, seen)
        odds, config = t.odds, self._config
        if step.complete:
            detection = np.where(hidden, HIDDEN_DETECTION, config.detection_probability)
            odds = np.where(seen, odds, odds + np.log1p(-detection))
        unseen_s = (step.stamp_ns - t.seen_ns) / NS_PER_S
        longest_s = np.where(hidden, config.occluded_coast_s, config.max_coast_s)
        confirmed = t.confirmed | ((odds >= self._shown) & (t.hits >= config.confirm_hits))
        self._tracks = t.with_(odds=odds, confirmed=confirmed)
        # What is seen again and again at low scores is kept, that it has one number.
        return np.asarray(seen | ((odds > BURIED) & (unseen_s <= longest_s)))

    def _start(self, found: Found, free: Bools, step: _Step) -> None:
        """A track for each detection that is sure enough and belongs to none."""
        columns = np.flatnonzero(free & (found.score >= self._config.min_score))
        if not len(columns):
            return
        for column in columns.tolist():
            if column not in step.born:
                step.born[column] = self._next_id
                self._next_id += 1
        ids = np.array([step.born[c] for c in columns.tolist()], np.int64)
        odds = _odds(BORN * found.belief[columns])
        turning = found.turning[columns] & self._in_odom
        new = found.begun(columns, ids, odds, step.stamp_ns, turning, self._config)
        if not self._in_odom:
            object_motion.unknown_speed(new.motion, RELATIVE_MPS)
        confirmed = (odds >= self._shown) & (self._config.confirm_hits <= 1)
        self._tracks = self._tracks.plus(new.with_(confirmed=confirmed)).in_order()

    # --------------------------------------------------------------------------- the answer

    def _confirmed(self) -> tuple[Track, ...]:
        t = self._tracks
        # What is hidden for long is kept in mind, so that it has its number when it comes out.
        unseen_s = ((self._stamp_ns or 0) - t.seen_ns) / NS_PER_S
        shown = t.confirmed & (t.odds >= self._shown) & (unseen_s <= self._config.shown_coast_s)
        if self._rest is not None:
            shown &= self._rest.alive
        rows = np.flatnonzero(shown)
        motion = t.motion.only(rows)
        center = np.empty((len(rows), 3))
        center[:, :2], center[:, 2] = motion.state[:, :2], t.z[rows]
        velocity, covariance = object_motion.velocities(motion), object_motion.cartesian(motion)
        yaw, turn = object_motion.headings(motion), object_motion.turns(motion)
        existence = 1.0 / (1.0 + np.exp(-t.odds[rows]))
        label = t.votes[rows].argmax(axis=1) if len(rows) else rows
        same = (c[rows] for c in (t.ids, t.score, t.hits, unseen_s, t.source))
        doubts = (covariance[:, 4, 4], covariance[:, 5, 5])
        columns = (c.tolist() for c in (*same, label, yaw, turn, *doubts, existence))
        size, of_place, labels = t.size[rows], covariance[:, :4, :4], self._kinds.labels
        tracks = []
        for n, row in enumerate(zip(*columns, strict=True)):
            track_id, score, hits, age, source, name, heading, rate, *rest = row
            yaw_variance, rate_variance, probability = rest
            tracks.append(
                Track(
                    track_id=track_id,
                    label=labels[name],
                    score=score,
                    center=center[n],
                    size=size[n],
                    yaw=heading,
                    velocity=velocity[n],
                    covariance=of_place[n],
                    hits=hits,
                    time_since_update_s=age,
                    yaw_rate=rate,
                    yaw_variance=yaw_variance,
                    yaw_rate_variance=rate_variance,
                    existence=probability,
                    source=source,
                )
            )
        return tuple(tracks)


def _odds(probability: F64 | float) -> F64:
    return np.asarray(np.log(probability / (1.0 - np.asarray(probability))))


def _within(values: F64, limit: float) -> F64:
    return np.minimum(np.maximum(values, -limit), limit)


def _turn_about(motion: Motion, heading: F64, sense: F64) -> F64:
    """Set right those whose front was taken for their back, in place; ``heading`` is theirs. The
    new ``sense``: how far the detector's word for front and back agrees with the track's."""
    velocity = object_motion.velocities(motion)
    ahead = velocity[:, 0] * np.cos(heading) + velocity[:, 1] * np.sin(heading)
    front_mps = np.where(motion.vehicle, FRONT_MPS, WALKING_MPS)
    back = (ahead < -2.0 * front_mps) | ((ahead < -front_mps) & (sense < 0.0))
    back |= (np.abs(ahead) < front_mps) & (sense < -SURE_SENSE)
    if not back.any():
        return sense
    object_motion.turned_about(motion, np.flatnonzero(back))
    return np.where(back, -sense, sense)
