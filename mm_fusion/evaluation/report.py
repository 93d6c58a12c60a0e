"""``report.html``: one file that shows what a run saw, where it was, and how well and how fast."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mm_fusion import config as configuration
from mm_fusion.evaluation import figures, page, records
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.evaluate import evaluate_run, in_truth_frame
from mm_fusion.evaluation.pictures import camera_picture
from mm_fusion.evaluation.records import Trajectory
from mm_fusion.evaluation.scenes import Scene, load_scenes
from mm_fusion.evaluation.trajectory import at_truth, laid_onto
from mm_fusion.evaluation.truth import Truth, known_truth, read_truth

REPORT = "report.html"


@dataclass(slots=True)
class _Run:
    """All that a run's directory and its bag hold."""

    directory: Path
    summary: dict[str, Any]
    lines: list[dict[str, Any]]
    timing: list[dict[str, Any]]
    scores: dict[str, Any]
    truth: Truth = field(default_factory=Truth)
    scenes: list[Scene] = field(default_factory=list)


def write_report(
    directory: Path, truth: Path | None = None, bag: Path | None = None, scenes: int = 2
) -> Path:
    """Write ``report.html`` into a run's directory and answer its path.

    ``bag`` gives points and images (default: the bag that the summary names, where it is still
    there), ``truth`` what is true (default: that same bag, where it knows). Raises RecordError
    where the directory is no run's, BagError where a bag that was named cannot be used.
    """
    summary = records.read_summary(directory)
    source = bag or _bag_of(summary)
    truth_bag = truth or (source if source and _knows(source) else None)
    if truth_bag is not None:
        evaluate_run(directory, truth_bag)
        summary = records.read_summary(directory)
    run = _Run(
        directory,
        summary,
        _lines(directory / records.DETECTIONS, "detections"),
        _lines(directory / records.TIMING, "stage_ms"),
        _scores(directory) if truth_bag else {},
    )
    if truth_bag is not None:
        with Bag(truth_bag) as opened:
            run.truth = read_truth(opened)
    if source is not None and run.lines:
        shown = [sure(line, summary) for line in run.lines]
        run.scenes = load_run_scenes(directory, source, choose(shown, scenes), run.truth)
    body = "".join(
        part(run)
        for part in (_cards, _scenes, _scores_part, _trajectory, _times, _modes, _drops, _setup)
    )
    path = directory / REPORT
    subtitle = f"mm_fusion {summary.get('mm_fusion', '')} · {_origin(summary)}"
    path.write_text(page.page("Camera, LIDAR and GPS fusion", subtitle, body), encoding="utf-8")
    return path


def load_run_scenes(
    directory: Path, bag: Path, lines: Sequence[Mapping[str, Any]], truth: Truth
) -> list[Scene]:
    """The scenes of some lines of a run, by the run's own parameters."""
    summary = records.read_summary(directory)
    config = configuration.from_values(summary.get("parameters") or {})
    local = directory / records.POSE_LOCAL
    motion = records.read_tum(local) if local.is_file() else None
    with Bag(bag) as opened:
        return load_scenes(opened, config, lines, motion, truth)


def sure(line: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """A line with only the detections that the network's contract calls confident."""
    threshold = (summary.get("network") or {}).get("score_threshold", 0.0)
    found = [d for d in line["detections"] if d["score"] >= threshold]
    return {**line, "detections": found}


def choose(lines: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The liveliest sets of a run: full modes first, most classes and detections, far apart."""

    def liveliness(line: Mapping[str, Any]) -> tuple[float, ...]:
        found = line["detections"]
        kinds = len({d["class"] for d in found})
        return line["mode"] == "camera+lidar", kinds, sum(d["score"] for d in found)

    chosen: list[Mapping[str, Any]] = []
    apart_ns = 3_000_000_000
    for line in sorted(lines, key=liveliness, reverse=True):
        if all(abs(line["stamp_ns"] - c["stamp_ns"]) >= apart_ns for c in chosen):
            chosen.append(line)
        if len(chosen) == count:
            break
    return chosen


def _bag_of(summary: Mapping[str, Any]) -> Path | None:
    name = (summary.get("source") or {}).get("bag")
    return Path(name) if name and Path(name).exists() else None


def _knows(bag: Path) -> bool:
    with Bag(bag) as opened:
        known = known_truth(opened)
    return known.objects or known.trajectory


def _lines(path: Path, key: str) -> list[dict[str, Any]]:
    return records.read_lines(path, key) if path.is_file() else []


def _scores(directory: Path) -> dict[str, Any]:
    path = directory / records.EVALUATION
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _origin(summary: Mapping[str, Any]) -> str:
    source = summary.get("source") or {}
    kinds = {"replay": "replay of", "live": "live run on"}
    return f"{kinds.get(source.get('kind', ''), '')} {source.get('bag', '')}".strip()


# ------------------------------------------------------------------------------- sections


def _cards(run: _Run) -> str:
    s = run.summary
    entries: list[tuple[str, str, str]] = []
    if s.get("sweeps"):
        share = 100.0 * s["answered"] / s["sweeps"]
        entries.append((f"{share:.1f} %", "sweeps answered", f"{s['answered']} of {s['sweeps']}"))
    found = s.get("map") or {}
    if found.get("fused") is not None:
        others = [f"{k} {found[k]:.3f}" for k in records.SINGLE if found.get(k) is not None]
        entries.append((f"{found['fused']:.3f}", "mAP, fused", "alone: " + ", ".join(others)))
    if s.get("pose_rmse_m") is not None:
        raw = s.get("gps_rmse_m")
        remark = f"raw GPS {raw:.2f} m" if raw is not None else ""
        entries.append((f"{s['pose_rmse_m']:.2f} m", "global pose RMSE", remark))
    total = (s.get("latency_ms") or {}).get("end_to_end") or (s.get("latency_ms") or {}).get(
        "total"
    )
    if total:
        entries.append(
            (f"{total['p50']:.0f} ms", "time per set, median", f"p99 {total['p99']:.0f} ms")
        )
    if s.get("provider"):
        entries.append((s["provider"].replace("ExecutionProvider", ""), "network runs on", ""))
    factor = (s.get("timing") or {}).get("realtime_factor")
    if factor:
        entries.append((f"{factor:.1f} x", "real time", "replayed"))
    warnings = "".join(page.warning(w) for w in s.get("warnings") or [])
    return page.cards(entries) + warnings


def _scenes(run: _Run) -> str:
    if not run.scenes:
        return ""
    region = _region(run.summary)
    start_ns = run.lines[0]["stamp_ns"]
    parts = []
    for scene in run.scenes:
        at = f"t = {(scene.stamp_ns - start_ns) / 1e9:.1f} s, mode {scene.mode}"
        parts.append(
            page.picture(
                figures.png(figures.birds_eye(scene, region)),
                f"From above, {at}. Points are darker the higher they are; arrows show a second of"
                " motion, numbers the scores.",
                "bird's-eye view with boxes",
            )
        )
        if scene.image is not None:
            parts.append(
                page.picture(
                    encoded(camera_picture(scene)),
                    f"Camera, {at}. Boxes and LIDAR points are projected into the rectified image;"
                    " points run from yellow (near) to violet (50 m).",
                    "camera image with projected boxes",
                )
            )
    return page.section("What it saw", *parts)


def encoded(image: Any) -> bytes:
    """An RGB uint8 picture as PNG."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _region(summary: Mapping[str, Any]) -> tuple[float, float, float, float]:
    range_m = (summary.get("network") or {}).get("range_m")
    return (*range_m["x"], *range_m["y"]) if range_m else figures.REGION_M


def _scores_part(run: _Run) -> str:
    detection = run.scores.get("detection")
    if not detection:
        return ""
    fused = detection["fused"]
    rows = [_score_row(name, scores) for name, scores in detection.items()]
    head = ("run", "mAP", "95 % interval", *fused["classes"], "ATE (m)", "AOE (rad)", "AVE (m/s)")
    thresholds = [
        (name, *(page.number(v) for v in c["ap"].values()), c["objects"], c["detections"])
        for name, c in fused["classes"].items()
    ]
    missing = fused["unanswered_frames"]
    return page.section(
        "Detection",
        page.note(
            "Average precision as nuScenes defines it: centres matched in the ground plane at 0.5,"
            f" 1, 2 and 4 m, on the {fused['frames']} sets that every run answered. camera and"
            " lidar are the same network with the other input withheld. Objects that no sensor"
            " could see, and those outside the network's range, do not count."
            + (f" {missing} sets of the truth were not answered." if missing else "")
        ),
        page.picture(
            figures.png(figures.scores(detection)),
            "Average precision by class; the line on the mean is its 95 % interval.",
            "bars of average precision",
        ),
        page.table(head, rows, range(1, len(head))),
        page.folded(
            "AP of the fused run by distance",
            page.table(
                ("class", *(f"{t:g} m" for t in fused["thresholds_m"]), "objects", "detections"),
                thresholds,
                range(1, 7),
            ),
        ),
    )


def _score_row(name: str, scores: Mapping[str, Any]) -> tuple[str | None, ...]:
    low_high = scores.get("mean_ap_ci95")
    interval = f"{low_high[0]:.3f} – {low_high[1]:.3f}" if low_high else None
    by_class = [page.number(c["mean_ap"]) for c in scores["classes"].values()]
    errors = [page.number(scores[e], 2) for e in ("ate_m", "aoe_rad", "ave_mps")]
    return (name, page.number(scores["mean_ap"]), interval, *by_class, *errors)


def _trajectory(run: _Run) -> str:
    pose = _tum(run, records.POSE) or Trajectory.of([])
    path = run.directory / records.POSE_LOCAL
    local = records.read_tum(path) if path.is_file() else Trajectory.of([])
    gps = _tum(run, records.GPS)
    if not len(pose) and not len(local):
        return ""
    reference = run.truth.trajectory or pose
    picture = page.picture(
        figures.png(
            figures.trajectory(pose, run.truth.trajectory, gps, laid_onto(local, reference))
        ),
        "East and north of the datum. The local estimate has a frame of its own and is laid onto"
        f" the {'truth' if run.truth.trajectory else 'global estimate'} as a whole.",
        "trajectory from above",
    )
    return page.section("Where it was", picture, _errors(run, pose, gps), _pose_table(run))


def _tum(run: _Run, name: str) -> Trajectory | None:
    return in_truth_frame(run.directory, run.truth, run.summary, name)


def _errors(run: _Run, pose: Trajectory, gps: Trajectory | None) -> str:
    if run.truth.trajectory is None or not len(pose):
        return ""
    curves = []
    for name, estimate in (("global estimate", pose), ("raw GPS", gps)):
        if estimate is None or not len(estimate):
            continue
        found, true = at_truth(estimate, run.truth.trajectory)
        if not len(found):
            continue
        error = np.linalg.norm((found.positions - true.positions)[:, :2], axis=1)
        seconds = figures.seconds_since(found.stamps_ns, int(run.truth.trajectory.stamps_ns[0]))
        curves.append((name, seconds, error))
    if not curves:
        return ""
    return page.picture(
        figures.png(figures.position_error(curves)),
        "Horizontal distance from the truth. Raw GPS is drawn where the base would be if the"
        " antenna sat on it.",
        "position error over time",
    )


def _pose_table(run: _Run) -> str:
    pose, gps = run.scores.get("pose") or {}, run.scores.get("gps")
    named = (
        ("global estimate", pose.get("global")),
        ("raw GPS", gps),
        ("local estimate", pose.get("local")),
    )
    rows = [_pose_row(name, scores) for name, scores in named if scores]
    head = ("error in m", "RMSE", "median", "max", "horizontal", "aligned", "RPE per 10 m")
    return page.table(head, rows, range(1, 7))


def _pose_row(name: str, scores: Mapping[str, Any]) -> tuple[str, ...]:
    """Statistics of one estimate; a dash where they mean nothing for it."""

    def cell(kind: str, value: str = "rmse") -> str:
        return page.number((scores.get(kind) or {}).get(value))

    return (
        name,
        cell("ate_m"),
        cell("ate_m", "median"),
        cell("ate_m", "max"),
        cell("ate_horizontal_m"),
        cell("ate_aligned_m"),
        cell("rpe_m"),
    )


def _times(run: _Run) -> str:
    latency_ms = run.summary.get("latency_ms") or {}
    if not latency_ms or not run.timing:
        return ""
    key = "end_to_end" if "end_to_end" in latency_ms else "total"
    label = {"end_to_end": "arrival of the sweep to published result", "total": "time per set"}[key]
    values = np.array([t["stage_ms"][key] for t in run.timing if key in t["stage_ms"]])
    if not len(values):
        return ""
    rows = [
        (name, *(page.number(p.get(k), 2) for k in ("p50", "p90", "p99", "max")))
        for name, p in latency_ms.items()
    ]
    return page.section(
        "How long it took",
        page.beside(
            page.picture(
                figures.png(figures.latency(values, latency_ms[key], label)),
                f"{len(values)} sets.",
                "latency histogram",
            ),
            page.picture(figures.png(figures.stages(latency_ms)), "By station.", "station times"),
        ),
        page.table(("station (ms)", "p50", "p90", "p99", "max"), rows, range(1, 5)),
    )


def _modes(run: _Run) -> str:
    if not run.lines:
        return ""
    seconds = figures.seconds_since(
        [line["stamp_ns"] for line in run.lines], run.lines[0]["stamp_ns"]
    )
    names = [line["mode"] for line in run.lines]
    return page.section(
        "Which senses took part",
        page.picture(figures.png(figures.modes(seconds, names)), "", "modes over time"),
        page.table(("mode", "sets"), sorted((run.summary.get("modes") or {}).items()), (1,)),
    )


def _drops(run: _Run) -> str:
    drops = run.summary.get("drops") or {}
    details = run.summary.get("drop_details") or {}
    rows = [
        (sensor, reason, details.get(sensor, {}).get(reason), count)
        for sensor, reasons in sorted(drops.items())
        for reason, count in sorted(reasons.items())
    ]
    table = page.table(("input", "reason", "for example", "count"), rows, (3,))
    return page.section("What was not used, and why", table or page.note("Nothing was dropped."))


def _setup(run: _Run) -> str:
    s = run.summary
    topics = (s.get("source") or {}).get("topics") or {}
    network = {k: json.dumps(v) for k, v in (s.get("network") or {}).items()}
    parameters = {k: json.dumps(v) for k, v in (s.get("parameters") or {}).items()}
    return page.section(
        "How it was set up",
        page.table(("input", "taken from"), topics.items()),
        page.folded("Network", page.values(network)) if network else "",
        page.folded("Parameters that differ from their defaults", page.values(parameters))
        if parameters
        else page.note("All parameters are at their defaults."),
    )
