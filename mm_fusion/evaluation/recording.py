"""What the live nodes published, recorded in a bag, as the same files that a replay leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.errors import BagError
from mm_fusion.evaluation import records
from mm_fusion.evaluation.bags import Bag, BagMessage
from mm_fusion.evaluation.files import Datum, Files
from mm_fusion.evaluation.summary import Tally, summarize
from mm_fusion.evaluation.topics import Inputs
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.detectors import open_network
from mm_fusion.samples import (
    NS_PER_S,
    Detection,
    FusionResult,
    Mode,
    PoseEstimate,
    Reason,
    Rejection,
    Track,
)

DETECTIONS, TRACKS, STATUS = "/detections", "/tracks", "/fusion/status"
LOCAL, GLOBAL, DIAGNOSTICS = "/odometry/local", "/odometry/global", "/diagnostics"
_DROPS = ".drops."
_STAGE = "_ms"
_DT = "dt_ms."


@dataclass(slots=True)
class _Recorded:
    """One result in its parts, by stamp."""

    detections: Any = None
    tracks: Any = None
    status: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Recording:
    """The outputs of a live run."""

    results: list[FusionResult] = field(default_factory=list)
    poses: list[PoseEstimate] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    provider: str | None = None
    datum: Datum | None = None
    warnings: list[str] = field(default_factory=list)


def read_recording(path: Path, config: Config) -> Recording:
    """Read the output bag of a live run. Raises BagError where it cannot be read."""
    out = Recording()
    parts: dict[int, _Recorded] = {}
    said: dict[str, dict[str, str]] = {}
    with Bag(path) as bag:
        for message in bag.messages([DETECTIONS, TRACKS, STATUS, LOCAL, GLOBAL, DIAGNOSTICS]):
            if message.topic in (LOCAL, GLOBAL):
                pose = wire.decode_pose(message.raw, message.topic)
                if isinstance(pose, PoseEstimate):
                    out.poses.append(pose)
                continue
            _sort_in(message, bag.decode(message), parts, said)
    for stamp_ns in sorted(parts):
        part = parts[stamp_ns]
        if part.detections is not None:
            out.results.append(_result(stamp_ns, part, config))
            out.provider = part.status.get("provider", out.provider)
    for values in said.values():
        out.rejections += _rejections(values)
        out.warnings += [w for w in values.get("warnings", "").split("; ") if w]
        if "datum" in values:
            lat, lon, alt = map(float, values["datum"].split())
            out.datum = (lat, lon, alt)
    return out


def _sort_in(
    message: BagMessage,
    decoded: Any,
    parts: dict[int, _Recorded],
    said: dict[str, dict[str, str]],
) -> None:
    if message.topic == DIAGNOSTICS:
        # Counts only grow, and what stands in the last message holds for the whole run.
        for status in decoded.status:
            said[status.name] = {v.key: v.value for v in status.values}
        return
    stamp = decoded.header.stamp
    part = parts.setdefault(int(stamp.sec) * NS_PER_S + int(stamp.nanosec), _Recorded())
    if message.topic == DETECTIONS:
        part.detections = decoded
    elif message.topic == TRACKS:
        part.tracks = decoded
    else:
        part.status = {v.key: v.value for s in decoded.status for v in s.values}


def _result(stamp_ns: int, part: _Recorded, config: Config) -> FusionResult:
    status = part.status
    base = part.detections.header.frame_id
    boxes = part.detections.detections
    tracks = part.tracks.detections if part.tracks is not None else []
    stages = [k for k in status if k.endswith(_STAGE)]
    dt_ns = {
        k.removeprefix(_DT): round(float(v) * 1e6) for k, v in status.items() if k.startswith(_DT)
    }
    return FusionResult(
        stamp_ns=stamp_ns,
        frame_id=base,
        mode=Mode(status.get("mode", Mode.NONE.value)),
        missing=tuple(status.get("missing", "").split()),
        detections=tuple(
            Detection(**_box(d, v), source=source)
            for (d, v), source in zip(
                _with_velocities(boxes, status.get("detection_velocities_mps", "")),
                _sources(len(boxes), status.get("detection_sources", "")),
                strict=True,
            )
        ),
        tracks=tuple(
            Track(
                track_id=int(t.id),
                covariance=np.zeros((4, 4)),
                hits=0,
                time_since_update_s=0.0,
                **_box(t, v),
                source=source,
            )
            for (t, v), source in zip(
                _with_velocities(tracks, status.get("track_velocities_mps", "")),
                _sources(len(tracks), status.get("track_sources", "")),
                strict=True,
            )
        ),
        track_frame_id=part.tracks.header.frame_id if part.tracks is not None else base,
        ego_motion=status.get("ego_motion") == "true",
        stage_ns={k.removesuffix(_STAGE): round(float(status[k]) * 1e6) for k in stages},
        dt_ns=dt_ns or {config.topics.lidars[0]: 0},
    )


def _with_velocities(boxes: Any, text: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Boxes with their velocities, which have no place in vision_msgs and stand in the status."""
    pairs = [np.array([float(n) for n in pair.split(",")]) for pair in text.split()]
    if not pairs:  # the status of this result is not in the bag
        pairs = [np.zeros(2)] * len(boxes)
    if len(pairs) != len(boxes):
        raise BagError(f"{STATUS}: {len(pairs)} velocities for {len(boxes)} boxes")
    yield from zip(boxes, pairs, strict=True)


def _sources(count: int, text: str) -> list[str]:
    """Who saw each box; the fusion network, where the status of this result is not in the bag."""
    sources = text.split()
    if sources and len(sources) != count:
        raise BagError(f"{STATUS}: {len(sources)} sources for {count} boxes")
    return sources or ["fusion"] * count


def _box(detection: Any, velocity: np.ndarray) -> dict[str, Any]:
    p, q = detection.bbox.center.position, detection.bbox.center.orientation
    size, hypothesis = detection.bbox.size, detection.results[0].hypothesis
    pose = RigidTransform.from_quaternion([p.x, p.y, p.z], [q.x, q.y, q.z, q.w])
    return {
        "label": hypothesis.class_id,
        "score": hypothesis.score,
        "center": pose.translation,
        "size": np.array([size.x, size.y, size.z]),
        "yaw": pose.yaw_rad(),
        "velocity": velocity,
    }


def _rejections(values: dict[str, str]) -> Iterator[Rejection]:
    for key, value in values.items():
        sensor, found, reason = key.rpartition(_DROPS)
        if found and not reason.endswith(".last"):
            detail = values.get(f"{key}.last", "")
            yield from [Rejection(sensor, 0, Reason(reason), detail)] * int(value)


def write_run(
    directory: Path,
    recorded: Path,
    source: Bag,
    inputs: Inputs,
    config: Config,
    timing: dict[str, float],
) -> dict[str, Any]:
    """Turn a recorded live run into the files of a run; answers the summary.

    ``source`` is the bag that was played, ``config`` names its topics.
    """
    recording = read_recording(recorded, config)
    tally = Tally(config)
    _count_inputs(tally, source, inputs)
    for rejection in recording.rejections:
        tally.rejected(rejection)
    with Files(directory) as files:
        for result in recording.results:
            tally.answered(result)
            files.result(result)
        for pose in recording.poses:
            files.pose(pose, is_global=pose.frame_id == config.frames.map)
        files.gps(tally.fixes, recording.datum, tally.refused)
    network = open_network(config).facts() if inputs.perception() else None
    summary = summarize(
        tally,
        source={"kind": "live", "bag": str(source.path), "topics": inputs.notes},
        config=config,
        provider=recording.provider,
        network=network,
        datum=recording.datum,
        warnings=list(dict.fromkeys(recording.warnings)),
        timing=timing,
    )
    return records.write_summary(directory, summary)


def _count_inputs(tally: Tally, source: Bag, inputs: Inputs) -> None:
    names = {t.name: t for t in (*inputs.lidars, inputs.gps) if t is not None}
    for message in source.messages(names):
        sample = wire.decode(message.msgtype, message.raw, message.topic.lstrip("/"))
        tally.arrived(sample)
