"""How good a run's pose is, as far as it can be told: against the truth, against its own fixes,
against itself.

With a truth: errors, relative errors by distance, how honest the covariance is. Without: how the
global track agrees with the fixes. Either way: what dead reckoning alone loses without GPS, and
whether odom takes steps.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.evaluation import records
from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.trajectory import at_truth, evaluate_trajectory, relative_errors
from mm_fusion.evaluation.trajectory import statistics as statistics_of
from mm_fusion.samples import NS_PER_S

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

DISTANCES_M = (10.0, 50.0, 100.0, 500.0)
OUTAGES_S = (10.0, 30.0, 60.0)
_SILENT_S = 5.0  # fixes further apart than this leave an outage
_EVERY_S = 1.0  # errors of neighbouring instants are alike: one a second counts
_MOST_STARTS = 200
_KNOWN_RAD = 0.3  # a heading less certain than this is none


@dataclass(frozen=True, slots=True, eq=False)
class Fixes:
    """The fixes of a run: ``stamps_ns`` [N], ``enu`` [N,3] m, claimed ``sigma`` [N,3] m, and why
    each was refused ("" where it was used; None where the run does not know).
    """

    stamps_ns: I64
    enu: F64
    sigma: F64
    refused: list[str] | None

    def used(self) -> npt.NDArray[np.bool_]:
        """Which of them were used; all where nobody knows."""
        if self.refused is None:
            return np.ones(len(self.stamps_ns), dtype=bool)
        return np.array([not why for why in self.refused], dtype=bool)


@dataclass(frozen=True, slots=True, eq=False)
class PoseRun:
    """The pose files of a run; ``truth`` in the run's own ENU, or None."""

    global_: Trajectory
    local: Trajectory
    stamps_ns: I64
    uncertainty: Mapping[str, F64]
    fixes: Fixes
    truth: Trajectory | None


def read_pose_run(directory: Path, truth: Trajectory | None) -> PoseRun:
    """Read a run's pose files. Raises RecordError where they are missing or have no pose."""
    summary = records.read_summary(directory)
    stamps_ns, columns = records.read_covariances(directory / records.COVARIANCE)
    run = PoseRun(
        records.read_tum(directory / records.POSE),
        records.read_tum(directory / records.POSE_LOCAL),
        stamps_ns,
        columns,
        _fixes(directory, live=summary.get("source", {}).get("kind") == "live"),
        truth,
    )
    if not len(run.global_) and not len(run.local):
        raise records.RecordError(f"{directory}: the run has no pose at all")
    return run


def score(run: PoseRun) -> dict[str, Any]:
    """Everything that can be said about the run, JSON-ready."""
    fixes = run.fixes
    out: dict[str, Any] = {
        "global": None,
        "local": None,
        "uncertainty": _claims(run),
        "fixes": {
            "count": len(fixes.stamps_ns),
            "refused": None
            if fixes.refused is None
            else dict(Counter(filter(None, fixes.refused))),
            "agreement_m": _agreement(run),
        },
        "outages": _outages(run),
        "dead_reckoning": dead_reckoning(run),
        "odom": _steps(run.local),
    }
    if run.truth is not None and len(run.truth):
        if len(run.global_):
            out["global"] = evaluate_trajectory(run.global_, run.truth)
            out["global"]["rpe_by_distance_m"] = relative_errors(
                run.global_, run.truth, DISTANCES_M
            )
            out["nees"] = nees(run)
        if len(run.local):
            scores = evaluate_trajectory(run.local, run.truth)
            out["local"] = {"ate_aligned_m": scores["ate_aligned_m"]}
            out["local"]["rpe_by_distance_m"] = relative_errors(run.local, run.truth, DISTANCES_M)
    return out


# --------------------------------------------------------------------------- with a truth


def errors(run: PoseRun) -> dict[str, F64] | None:
    """Columns over the global poses that have a truth and a covariance: ``seconds``, errors
    ``east``, ``north``, ``up`` m and ``yaw`` rad, and ``<name>_sigma``; ``east_north`` is the
    covariance. None without a truth.
    """
    if run.truth is None or not len(run.global_):
        return None
    found, true = at_truth(run.global_, run.truth)
    if not len(found):
        return None
    index = np.clip(np.searchsorted(run.stamps_ns, found.stamps_ns), 0, len(run.stamps_ns) - 1)
    off = found.positions - true.positions
    turned = yaw_of(found.xyzw) - yaw_of(true.xyzw)
    u = {name: column[index] for name, column in run.uncertainty.items()}
    return {
        "seconds": (found.stamps_ns - run.global_.stamps_ns[0]) / NS_PER_S,
        "east": off[:, 0],
        "north": off[:, 1],
        "up": off[:, 2],
        "yaw": np.arctan2(np.sin(turned), np.cos(turned)),
        "east_sigma": np.sqrt(u["east2"]),
        "north_sigma": np.sqrt(u["north2"]),
        "up_sigma": np.sqrt(u["up2"]),
        "yaw_sigma": np.sqrt(u["yaw2"]),
        "east_north": u["east_north"],
    }


def nees(run: PoseRun) -> dict[str, Any] | None:
    """Mean normalised squared error per element, and the share of errors within the 95 % region.

    One drive is one draw: its errors hang together, so that these say whether a covariance is
    badly off, not more. ``mm_fusion bench pose`` has the test over independent drives.
    """
    from scipy.stats import chi2

    e = errors(run)
    if e is None:
        return None
    keep = _spaced(e["seconds"], _EVERY_S)
    determinant = e["east_sigma"] ** 2 * e["north_sigma"] ** 2 - e["east_north"] ** 2
    position = (
        e["east"] ** 2 * e["north_sigma"] ** 2
        + e["north"] ** 2 * e["east_sigma"] ** 2
        - 2.0 * e["east"] * e["north"] * e["east_north"]
    ) / np.maximum(determinant, 1e-12)
    values = {
        "position": (position, 2),
        "height": ((e["up"] / e["up_sigma"]) ** 2, 1),
        "heading": ((e["yaw"] / e["yaw_sigma"]) ** 2, 1),
    }
    return {
        name: {
            "mean": round(float(value[keep].mean()) / size, 3),
            "within_95_percent": round(float((value[keep] < chi2.ppf(0.95, size)).mean()), 3),
            "instants": int(keep.sum()),
        }
        for name, (value, size) in values.items()
    }


# ------------------------------------------------------------------------ without a truth


def _refusals(fixes: Fixes) -> dict[str, int] | None:
    return None if fixes.refused is None else dict(Counter(filter(None, fixes.refused)))


def _agreement(run: PoseRun) -> dict[str, float] | None:
    """Horizontal distance of the global track from the fixes it used (the antenna's offset from
    the base is in it). A smoother follower is not a better one: read it as a check, not a score.
    """
    fixes, track = run.fixes, run.global_
    if not len(track):
        return None
    inside = (fixes.stamps_ns >= track.stamps_ns[0]) & (fixes.stamps_ns <= track.stamps_ns[-1])
    chosen = inside & fixes.used()
    if not chosen.any():
        return None
    place = _at(track, fixes.stamps_ns[chosen])
    return statistics_of(np.linalg.norm(place - fixes.enu[chosen, :2], axis=1))


def _claims(run: PoseRun) -> dict[str, float] | None:
    """What the run itself says about its errors: medians of its sigmas."""
    if not len(run.stamps_ns):
        return None
    u = run.uncertainty
    flat = np.sqrt(u["east2"] + u["north2"])
    return {
        "horizontal_sigma_median_m": round(float(np.median(flat)), 4),
        "horizontal_sigma_max_m": round(float(flat.max()), 4),
        "yaw_sigma_median_rad": round(float(np.median(np.sqrt(u["yaw2"]))), 5),
    }


def _outages(run: PoseRun) -> list[dict[str, Any]]:
    """Stretches without a fix that was used: when, how far was driven, the error at their end."""
    used = np.sort(run.fixes.stamps_ns[run.fixes.used()])
    out = []
    for before, after in itertools.pairwise(used):
        if after - before < _SILENT_S * NS_PER_S or not len(run.global_):
            continue
        row: dict[str, Any] = {
            "from_s": round(float(before - run.global_.stamps_ns[0]) / NS_PER_S, 3),
            "lasted_s": round(float(after - before) / NS_PER_S, 3),
            "distance_m": round(_way(run.local, before, after), 2),
            "error_m": None,
        }
        if run.truth is not None:
            row["error_m"] = _error_before(run, int(after))
        out.append(row)
    return out


def _error_before(run: PoseRun, stamp_ns: int) -> float | None:
    assert run.truth is not None
    last = int(np.searchsorted(run.global_.stamps_ns, stamp_ns)) - 1
    one = Trajectory(
        run.global_.stamps_ns[last : last + 1],
        run.global_.positions[last : last + 1],
        run.global_.xyzw[last : last + 1],
    )
    found, true = at_truth(one, run.truth)
    if not len(found):
        return None
    return round(float(np.linalg.norm((found.positions - true.positions)[0, :2])), 4)


def dead_reckoning(run: PoseRun) -> dict[str, Any] | None:
    """What would be off after 10, 30 and 60 s without GPS: the local estimate, laid on the
    reference's place and heading at many instants, against the reference so much later.

    The reference is the truth, or the run's own global track where there is none.
    """
    reference = run.truth if run.truth is not None and len(run.truth) else _with_heading(run)
    if len(reference) < 2 or len(run.local) < 2:
        return None
    found, true = at_truth(run.local, reference)
    if len(found) < 2:
        return None
    seconds = (found.stamps_ns - found.stamps_ns[0]) / NS_PER_S
    turn = yaw_of(true.xyzw) - yaw_of(found.xyzw)
    table = {}
    for span_s in OUTAGES_S:
        starts = np.flatnonzero(_spaced(seconds, _EVERY_S) & (seconds + span_s <= seconds[-1]))
        starts = starts[:: max(1, len(starts) // _MOST_STARTS)]
        ends = np.searchsorted(seconds, seconds[starts] + span_s).clip(max=len(seconds) - 1)
        whole = np.abs(seconds[ends] - seconds[starts] - span_s) < 0.5
        starts, ends = starts[whole], ends[whole]
        if not len(starts):
            continue
        c, s = np.cos(turn[starts]), np.sin(turn[starts])
        x, y = (found.positions[ends] - found.positions[starts])[:, :2].T
        moved = np.stack([c * x - s * y, s * x + c * y], axis=1)
        off = moved - (true.positions[ends] - true.positions[starts])[:, :2]
        way = np.concatenate([[0.0], np.cumsum(_lengths(true.positions))])
        driven = way[ends] - way[starts]
        moving = driven > 0.5 * span_s  # standing loses nothing
        share = 100.0 * np.linalg.norm(off, axis=1)[moving] / driven[moving]
        table[f"{span_s:g}_s"] = {
            "starts": len(starts),
            "error_m": statistics_of(np.linalg.norm(off, axis=1)),
            "median_percent_of_distance": round(float(np.median(share)), 3) if len(share) else None,
        }
    return {"reference": "truth" if reference is run.truth else "global", "after": table}


def _with_heading(run: PoseRun) -> Trajectory:
    """The global track from where on its heading was known."""
    known = run.stamps_ns[run.uncertainty["yaw2"] < _KNOWN_RAD**2]
    keep = run.global_.stamps_ns >= (known[0] if len(known) else np.iinfo(np.int64).max)
    track = run.global_
    return Trajectory(track.stamps_ns[keep], track.positions[keep], track.xyzw[keep])


def _steps(local: Trajectory) -> dict[str, float] | None:
    """The largest step of odom -> base, and what is left of it when the steps beside it are taken
    off: motion has neighbours of its size, a correction has not.
    """
    if len(local) < 4:
        return None
    lengths = _lengths(local.positions)
    beside = np.maximum(lengths[:-2], lengths[2:])
    spans = np.diff(local.stamps_ns) / NS_PER_S
    wide = np.maximum(1.0, spans[1:-1] / np.maximum(np.minimum(spans[:-2], spans[2:]), 1e-6))
    return {
        "largest_step_m": round(float(lengths.max()), 4),
        "largest_unexplained_step_m": round(float((lengths[1:-1] - beside * wide).max()), 4),
    }


# ------------------------------------------------------------------------------- helpers


def yaw_of(xyzw: F64) -> F64:
    """Heading of each quaternion [N,4], rad."""
    x, y, z, w = xyzw.T
    return np.asarray(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def _fixes(directory: Path, live: bool) -> Fixes:
    path = directory / records.FIXES
    lines = records.read_lines(path, "enu") if path.is_file() else []
    return Fixes(
        np.array([r["stamp_ns"] for r in lines], dtype=np.int64),
        np.array([r["enu"] for r in lines], dtype=np.float64).reshape(-1, 3),
        np.array([r["sigma_m"] for r in lines], dtype=np.float64).reshape(-1, 3),
        None if live else [str(r["refused"]) for r in lines],
    )


def _at(track: Trajectory, stamps_ns: I64) -> F64:
    """Places [N,2] of a track at instants within it."""
    t = (track.stamps_ns - track.stamps_ns[0]).astype(np.float64)
    at = (stamps_ns - track.stamps_ns[0]).astype(np.float64)
    return np.stack([np.interp(at, t, track.positions[:, k]) for k in (0, 1)], axis=1)


def _lengths(positions: F64) -> F64:
    return np.asarray(np.linalg.norm(np.diff(positions[:, :2], axis=0), axis=1))


def _way(track: Trajectory, from_ns: int, to_ns: int) -> float:
    inside = (track.stamps_ns >= from_ns) & (track.stamps_ns <= to_ns)
    return float(_lengths(track.positions[inside]).sum()) if inside.sum() > 1 else 0.0


def _spaced(seconds: F64, every_s: float) -> npt.NDArray[np.bool_]:
    """The first of every ``every_s``."""
    slot = np.floor(seconds / every_s + 1e-9)
    return np.concatenate([[True], slot[1:] != slot[:-1]])
