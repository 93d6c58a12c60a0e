"""The files a run leaves behind, written and read in one place.

``detections.jsonl`` and ``tracks.jsonl`` have a line per synced set, ``*.tum`` a line per pose:
``t x y z qx qy qz qw`` (seconds with nanosecond digits, metres, unit quaternion).
``pose_covariance.txt`` has a line per global pose: ``t`` and the variances and speed that
``UNCERTAINTY`` names; ``fixes.jsonl`` a line per fix with what became of it. Numbers are rounded to
fixed digits, so that equal runs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.errors import MmFusionError
from mm_fusion.samples import NS_PER_S, Detection, FusionResult, PoseEstimate, Track

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

DETECTIONS = "detections.jsonl"
TRACKS = "tracks.jsonl"
POSE = "pose.tum"
POSE_LOCAL = "pose_local.tum"
GPS = "gps.tum"
COVARIANCE = "pose_covariance.txt"
FIXES = "fixes.jsonl"
TIMING = "timing.jsonl"
SUMMARY = "summary.json"
EVALUATION = "evaluation.json"
POSE_EVALUATION = "pose_evaluation.json"
POSE_PICTURE = "pose.png"
# Written after the run; those of an earlier one must not survive it.
LATER = (GPS, FIXES, EVALUATION, SUMMARY, POSE_EVALUATION, POSE_PICTURE)
SINGLE = {"camera": "only_camera", "lidar": "only_lidar"}  # runs with the other input withheld


UNCERTAINTY = ("east2", "east_north", "north2", "up2", "yaw2", "speed", "speed2")


class RecordError(MmFusionError):
    """A file of a run is missing, or is not what this program writes."""


# --------------------------------------------------------------------------- detections


def _rounded(values: npt.ArrayLike, digits: int) -> list[float]:
    # + 0.0 turns a negative zero into a plain one.
    return [round(float(v), digits) + 0.0 for v in np.asarray(values, dtype=np.float64)]


def _box(item: Detection | Track) -> dict[str, Any]:
    return {
        "class": item.label,
        "score": round(float(item.score), 5),
        "center": _rounded(item.center, 4),
        "size": _rounded(item.size, 4),
        "yaw": round(float(item.yaw), 5) + 0.0,
        "velocity": _rounded(item.velocity, 4),
    }


def _line(result: FusionResult, frame_id: str, key: str, items: list[dict[str, Any]]) -> str:
    record = {
        "stamp_ns": int(result.stamp_ns),
        "frame_id": frame_id,
        "mode": result.mode.value,
        "missing": list(result.missing),
        key: items,
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


def detections_line(result: FusionResult) -> str:
    """The line of ``detections.jsonl``; boxes in the base frame at the stamp."""
    items = [{**_box(d), "source": d.source} for d in result.detections]
    return _line(result, result.frame_id, "detections", items)


def tracks_line(result: FusionResult) -> str:
    """The line of ``tracks.jsonl``; boxes in the tracks' own frame, each with its ``id``."""
    items = [{"id": t.track_id, **_box(t), "source": t.source} for t in result.tracks]
    return _line(result, result.track_frame_id, "tracks", items)


def timing_line(result: FusionResult) -> str:
    """The line of ``timing.jsonl``: what each station took, in ms. Differs from run to run."""
    spent_ms = {name: round(ns / 1e6, 4) for name, ns in result.stage_ns.items()}
    record = {"stamp_ns": int(result.stamp_ns), "mode": result.mode.value, "stage_ms": spent_ms}
    return json.dumps(record, separators=(",", ":")) + "\n"


def read_lines(path: Path, key: str = "detections") -> list[dict[str, Any]]:
    """The lines of a ``.jsonl`` file. Raises RecordError naming the file and the line."""
    if not path.is_file():
        raise RecordError(f"{path}: no such file; is {path.parent} the output of a replay?")
    out = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise RecordError(f"{path}:{number}: not JSON: {error.msg}") from error
        if not isinstance(record, dict) or "stamp_ns" not in record or key not in record:
            raise RecordError(f"{path}:{number}: must have stamp_ns and {key}")
        out.append(record)
    return out


# --------------------------------------------------------------------------------- poses


def tum_line(stamp_ns: int, position: npt.ArrayLike, xyzw: npt.ArrayLike) -> str:
    """One pose; the quaternion's sign is chosen so that equal rotations give equal text."""
    q = np.asarray(xyzw, dtype=np.float64)
    q = q / np.linalg.norm(q)
    leading = q[np.abs(q) > 1e-9]
    if q[3] < -1e-9 or (abs(q[3]) <= 1e-9 and leading[0] < 0):
        q = -q
    numbers = [*(f"{v:.6f}" for v in _rounded(position, 6)), *(f"{v:.9f}" for v in _rounded(q, 9))]
    return f"{stamp_ns // NS_PER_S}.{stamp_ns % NS_PER_S:09d} {' '.join(numbers)}\n"


def pose_line(estimate: PoseEstimate) -> str:
    """The line of an estimate in ``pose.tum`` or ``pose_local.tum``."""
    pose = estimate.frame_from_base
    return tum_line(estimate.stamp_ns, pose.translation, pose.quaternion_xyzw())


def covariance_line(estimate: PoseEstimate) -> str:
    """The line of a global estimate in ``pose_covariance.txt``: m^2, rad^2, m/s, (m/s)^2."""
    c = estimate.pose_covariance
    values = (c[0, 0], c[0, 1], c[1, 1], c[2, 2], c[5, 5], estimate.linear[0])
    numbers = [f"{v:.7g}" for v in (*values, estimate.twist_covariance[0, 0])]
    stamp_ns = estimate.stamp_ns
    return f"{stamp_ns // NS_PER_S}.{stamp_ns % NS_PER_S:09d} {' '.join(numbers)}\n"


def read_covariances(path: Path) -> tuple[I64, dict[str, F64]]:
    """Stamps [N] and the columns of ``UNCERTAINTY`` [N] of a ``pose_covariance.txt``.

    Raises RecordError naming the file and the line.
    """
    if not path.is_file():
        raise RecordError(f"{path}: no such file; replay the bag with this version")
    stamps, rows = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if len(words) != 1 + len(UNCERTAINTY):
            raise RecordError(f"{path}:{number}: must be 't {' '.join(UNCERTAINTY)}'")
        try:
            stamps.append(_stamp_ns(words[0]))
            rows.append([float(w) for w in words[1:]])
        except ValueError as error:
            raise RecordError(f"{path}:{number}: not numbers: {error}") from error
    table = np.array(rows, dtype=np.float64).reshape(-1, len(UNCERTAINTY))
    return np.array(stamps, dtype=np.int64), dict(zip(UNCERTAINTY, table.T, strict=True))


def fix_line(stamp_ns: int, enu: npt.ArrayLike, sigma_m: npt.ArrayLike, refused: str) -> str:
    """The line of a fix in ``fixes.jsonl``: place [3] and claimed sigma [3] about the datum, and
    why it was refused ("" where it was used).
    """
    record = {
        "stamp_ns": int(stamp_ns),
        "enu": _rounded(enu, 4),
        "sigma_m": _rounded(sigma_m, 4),
        "refused": refused,
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


def _stamp_ns(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return int(seconds) * NS_PER_S + int(fraction.ljust(9, "0")[:9])


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Poses over time: ``stamps_ns`` int64 [N], ``positions`` [N,3] m, ``xyzw`` [N,4]."""

    stamps_ns: I64
    positions: F64
    xyzw: F64

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @staticmethod
    def of(rows: Sequence[tuple[int, npt.ArrayLike, npt.ArrayLike]]) -> Trajectory:
        """From (stamp_ns, position, quaternion) rows, put into the order of their stamps."""
        ordered = sorted(rows, key=lambda r: r[0])
        return Trajectory(
            np.array([r[0] for r in ordered], dtype=np.int64),
            np.array([r[1] for r in ordered], dtype=np.float64).reshape(-1, 3),
            np.array([r[2] for r in ordered], dtype=np.float64).reshape(-1, 4),
        )


def read_tum(path: Path) -> Trajectory:
    """A ``.tum`` file, its stamps exact. Raises RecordError naming the file and the line."""
    if not path.is_file():
        raise RecordError(f"{path}: no such file; is {path.parent} the output of a replay?")
    rows: list[tuple[int, npt.ArrayLike, npt.ArrayLike]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            stamp_ns = _stamp_ns(words[0])
            values = [float(w) for w in words[1:]]
        except ValueError as error:
            raise RecordError(f"{path}:{number}: not a pose: {error}") from error
        if len(values) != 7:
            raise RecordError(f"{path}:{number}: must be 't x y z qx qy qz qw'")
        rows.append((stamp_ns, values[:3], values[3:]))
    return Trajectory.of(rows)


# ------------------------------------------------------------------------------- summary


def write_summary(directory: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``summary.json``, with the checksums of the files beside it; answers what it holds.

    Everything but ``latency_ms`` and ``timing`` is the same in every run over the same input.
    """
    names = (DETECTIONS, TRACKS, POSE, POSE_LOCAL, COVARIANCE, GPS, FIXES)
    files = [directory / n for n in names if (directory / n).is_file()]
    sums = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    complete = {**summary, "sha256": sums}
    text = json.dumps(complete, indent=2, allow_nan=False)
    (directory / SUMMARY).write_text(text + "\n", encoding="utf-8")
    return complete


def read_summary(directory: Path) -> dict[str, Any]:
    """``summary.json`` of a run's directory. Raises RecordError where there is none."""
    path = directory / SUMMARY
    if not path.is_file():
        raise RecordError(f"{directory}: no {SUMMARY}: not the output of a replay or a demo")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}: not JSON: {error.msg}") from error
    if not isinstance(summary, dict):
        raise RecordError(f"{path}: must hold one object")
    return summary
