"""Fused, camera only and LIDAR only, on clean frames and under every fault: one table.

Camera only and LIDAR only should be networks of their own, trained for that sense alone. Where
there is none, the fused network with the other sense withheld stands in, and the table says so:
it has given up capacity for a sense that it then does not get.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.datasets.frame import VARIANTS_FOLDER
from mm_fusion.datasets.pool import run_all
from mm_fusion.errors import ConfigError
from mm_fusion.evaluation.ablation_runs import Answers, Plan, jobs
from mm_fusion.evaluation.ablation_scores import (
    RESAMPLES,
    Curves,
    Draws,
    interval,
    mean_relative,
    means,
    number,
    published,
    ratio,
)
from mm_fusion.evaluation.detection import THRESHOLDS_M
from mm_fusion.evaluation.frame_faults import CLEAN, FAULTS, Condition
from mm_fusion.evaluation.frame_sets import MIN_SCORE, SCOPES, Setting
from mm_fusion.perception.network import read_contract

FORMAT = "mm_fusion ablation 1"
SINGLES = ("camera", "lidar")
MISSING = tuple(c.fault for c in FAULTS if c.loses)
Show = Callable[[float, str], None]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Options:
    """What to evaluate. ``camera`` and ``lidar`` are networks of one sense, None where there is
    none; ``frames`` and ``fault_frames`` 0 for all. ``stand_ins``: they answer for the fused one
    where their sense is all there is, as in the node."""

    folder: Path
    out: Path
    fused: Path
    camera: Path | None = None
    lidar: Path | None = None
    faults: bool = False
    frames: int = 0
    fault_frames: int = 0
    workers: int = 1
    provider: str = "auto"
    resamples: int = RESAMPLES
    stand_ins: bool = False


def evaluate_ablation(options: Options, show: Show) -> dict[str, Any]:
    """Run what is missing, score everything, write ``ablation.json``; answers what is in it."""
    begun = time.monotonic()
    plan = make_plan(options)
    files = plan.files()
    share = partial(_share, files, show)
    for _ in run_all([job.run for job in jobs(plan)], options.workers, share):
        share()
    show(1.0, "frames")
    conditions = (plan.clean, *plan.conditions)
    calls = [partial(score_condition, plan, c, options.resamples) for c in conditions]
    scored: dict[str, dict[str, Any]] = {}
    for name, rows in run_all(calls, options.workers, lambda: None):
        scored[name] = rows
        show(min(len(scored) / len(conditions), 0.99), "scores")
    show(1.0, "scores")
    result = _result(options, plan, scored)
    result["seconds"] = round(time.monotonic() - begun, 1)
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, allow_nan=False)
    (options.out / "ablation.json").write_text(text + "\n", encoding="utf-8")
    return result


def make_plan(options: Options) -> Plan:
    """The runs of an evaluation. Raises ConfigError where there is nothing to evaluate."""
    paths = sorted(options.folder.glob("*.npz"))
    if not paths:
        raise ConfigError(f"{options.folder}: no labelled frames (*.npz)")
    if options.frames:
        paths = paths[: options.frames]
    fused = Setting(options.fused, provider=options.provider)
    modes = {"fused": fused}
    for mode, model in (("camera", options.camera), ("lidar", options.lidar)):
        alone = replace(fused, use_camera=mode == "camera", use_lidar=mode == "lidar")
        modes[mode] = replace(alone, model=model or fused.model)
    if options.stand_ins:
        modes["fused"] = replace(fused, lidar=options.lidar, camera=options.camera)
    for setting in modes.values():
        read_contract(setting.model)
    return Plan(
        tuple(paths),
        modes,
        CLEAN,
        FAULTS if options.faults else (),
        options.fault_frames or len(paths),
        options.out / "work",
    )


def _share(files: list[Path], show: Show) -> None:
    show(min(sum(f.exists() for f in files) / len(files), 0.99), "frames")


# -------------------------------------------------------------------------------- scoring


def score_condition(plan: Plan, condition: Condition, resamples: int) -> tuple[str, dict[str, Any]]:
    """A condition's name and its row of the table in every scope."""
    answers = {m: plan.answers(m, condition) for m in plan.modes if plan.runs(m, condition)}
    clean = {m: plan.answers(m, plan.clean) for m in plan.modes}
    draws = Draws(clean["fused"].drive, resamples)
    return condition.name, {
        scope: _row(plan, condition, answers, clean, draws, scope) for scope in SCOPES
    }


def _row(
    plan: Plan,
    condition: Condition,
    answers: Mapping[str, Answers],
    clean: Mapping[str, Answers],
    draws: Draws,
    scope: str,
) -> dict[str, Any]:
    took = answers["fused"].took
    row: dict[str, Any] = {
        "condition": condition.name,
        "fault": condition.fault,
        "severity": condition.severity,
        "frames": int(took.sum()),
        "fused": None,
        "camera": None,
        "lidar": None,
        "best_single": None,
        "ratio": {"value": None, "ci95": None},
    }
    if not took.any():
        row["left_out"] = _why_not(plan, condition)
        return row
    values = {}
    for mode in plan.modes:
        if condition.loses != mode:
            before = Curves(clean[mode], scope)
            here = Curves(answers[mode], scope) if mode in answers else before
            values[mode] = means(here, draws, took)
            reference = values[mode] if here is before else means(before, draws, took)
            row[mode] = _cell(plan, mode, here, values[mode], reference, took)
    singles = [m for m in SINGLES if m in values]
    best = max(singles, key=lambda m: values[m][0])
    row["best_single"] = best
    row["ratio"] = ratio(values["fused"], values[best])
    return row


def _cell(
    plan: Plan, mode: str, here: Curves, values: F64, reference: F64, took: Bools
) -> dict[str, Any]:
    times = np.zeros(len(here.took))
    times[: len(took)] = took
    threshold = read_contract(plan.modes[mode].model).score_threshold
    return {
        "map": number(float(values[0])),
        "map_ci95": interval(values),
        "relative": ratio(values, reference),
        "ap": here.by_class(times),
        "published": published(here, times, threshold),
    }


def _why_not(plan: Plan, condition: Condition) -> str:
    if (
        condition.variant
        and not (plan.paths[0].parent / VARIANTS_FOLDER / condition.variant).is_dir()
    ):
        return (
            f"no {VARIANTS_FOLDER}/{condition.variant} in {plan.paths[0].parent}:"
            " mm_fusion dataset --variants makes it of a simulated set"
        )
    return "no frame that it could change"


# -------------------------------------------------------------------------------- summary


def _result(
    options: Options, plan: Plan, scored: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    networks = {}
    for mode, setting in plan.modes.items():
        contract = read_contract(setting.model)
        networks[mode] = {
            "model": str(setting.model),
            "sha256": contract.sha256,
            "score_threshold": contract.score_threshold,
            "own": mode == "fused" or setting.model != options.fused,
        }
    order = [c.name for c in (plan.clean, *plan.conditions)]
    scopes = {}
    for scope in SCOPES:
        rows = [scored[name][scope] for name in order]
        scopes[scope] = {"summary": summary(rows), "conditions": rows}
    return {
        "format": FORMAT,
        "frames_folder": str(options.folder),
        "frames": len(plan.paths),
        "fault_frames": min(plan.fault_frames, len(plan.paths)),
        "metric": f"nuScenes AP, mean of {', '.join(f'{t:g}' for t in THRESHOLDS_M)} m",
        "min_score": MIN_SCORE,
        "resamples": options.resamples,
        "networks": networks,
        "stand_ins": options.stand_ins,
        "scopes": scopes,
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The headline of one scope: clean figures, the worst ratio, mean relative robustness."""
    clean, faults = rows[0], [r for r in rows[1:] if r["ratio"]["value"] is not None]
    worst = min(faults, key=lambda r: r["ratio"]["value"], default=None)
    return {
        "clean_map": {m: (clean[m] or {}).get("map") for m in ("fused", *SINGLES)},
        "clean_ratio": {"best_single": clean["best_single"], **clean["ratio"]},
        "clean_ece": clean["fused"]["published"]["ece"] if clean["fused"] else None,
        "worst_ratio": worst and {"condition": worst["condition"], **worst["ratio"]},
        "mean_relative": mean_relative(faults),
        "mean_relative_both_senses": mean_relative(faults, MISSING),
    }
