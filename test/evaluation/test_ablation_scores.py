"""The ablation's figures against cases worked out by hand, and against the detection scorer."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.evaluation.ablation import summary
from mm_fusion.evaluation.ablation_runs import Answers
from mm_fusion.evaluation.ablation_scores import (
    Curves,
    Draws,
    calibration_error,
    interval,
    mean_relative,
    means,
    published,
    ratio,
)
from mm_fusion.evaluation.detection import CLASSES, evaluate_detections, match_frame
from mm_fusion.evaluation.truth import TruthBox

SIZE = np.array([4.0, 2.0, 1.5])


def random_set(frames: int, seed: int) -> tuple[dict, dict]:
    """Objects and detections near some of them, by stamp."""
    rng = np.random.default_rng(seed)
    truth, lines = {}, {}
    for n in range(frames):
        objects, found = [], []
        for k in range(int(rng.integers(1, 7))):
            label = str(rng.choice(CLASSES))
            center = np.array([*rng.uniform(-20, 20, 2), 0.8])
            objects.append(TruthBox(str(k), label, center, SIZE, 0.0, None, rng.random() < 0.9))
            if rng.random() < 0.7:
                found.append(detection(label, center[:2] + rng.normal(scale=0.8, size=2), rng))
        found += [detection("car", rng.uniform(-20, 20, 2), rng) for _ in range(2)]
        truth[n * 10**8], lines[n * 10**8] = objects, found
    return truth, lines


def detection(label: str, at: np.ndarray, rng: np.random.Generator) -> dict:
    return {
        "class": label,
        "score": float(rng.uniform(0.05, 1.0)),
        "center": [*at, 0.8],
        "size": SIZE,
        "yaw": 0.0,
        "velocity": [0.0, 0.0],
    }


def answers(truth: dict, lines: dict, drive: np.ndarray, took: np.ndarray | None = None) -> Answers:
    found = []
    for n, stamp in enumerate(truth):
        by_kind = {
            (scope, name): match_frame(
                [d for d in lines[stamp] if d["class"] == name],
                [t for t in truth[stamp] if t.label == name],
            )
            for scope in ("grid", "view")
            for name in CLASSES
        }
        found.append(by_kind if took is None or took[n] else None)
    return Answers.of(found, drive)


def test_the_mean_is_that_of_the_detection_scorer() -> None:
    truth, lines = random_set(40, 1)
    mine = Curves(answers(truth, lines, np.arange(40) // 4), "grid")
    theirs = evaluate_detections(
        [{"stamp_ns": s, "detections": d} for s, d in lines.items()], truth, None, None, 0
    )
    assert mine.mean(np.ones(40)) == pytest.approx(theirs["mean_ap"], abs=1e-5)
    precise = mine.average_precision(np.ones(40))
    for row, name in zip(precise, CLASSES, strict=True):
        assert list(theirs["classes"][name]["ap"].values()) == pytest.approx(list(row), abs=1e-5)


def test_frames_that_a_fault_does_not_fit_take_no_part() -> None:
    truth, lines = random_set(30, 2)
    took = np.arange(30) % 3 > 0
    some = Curves(answers(truth, lines, np.arange(30), took), "grid")
    clean = Curves(answers(truth, lines, np.arange(30)), "grid")
    draws = Draws(np.arange(30), 20)
    # the same frames, the same answers: the ratio is one in every draw
    same = ratio(means(some, draws, took), means(clean, draws, took))
    assert same == {"value": 1.0, "ci95": [1.0, 1.0]}
    left = {s: v for n, (s, v) in enumerate(truth.items()) if took[n]}
    alone = Curves(answers(left, lines, np.arange(20)), "grid")
    assert means(clean, draws, took)[0] == pytest.approx(alone.mean(np.ones(20)))


def test_joined_chunks_are_one_set() -> None:
    truth, lines = random_set(32, 3)
    whole = answers(truth, lines, np.arange(32))
    stamps = list(truth)
    parts = [
        answers({s: truth[s] for s in stamps[a:b]}, lines, np.arange(a, b))
        for a, b in ((0, 16), (16, 32))
    ]
    joined = Answers.joined(parts)
    assert Curves(joined, "view").mean(np.ones(32)) == Curves(whole, "view").mean(np.ones(32))
    np.testing.assert_array_equal(joined.frame, whole.frame)


def test_whole_drives_are_drawn() -> None:
    draws = Draws(np.repeat([7, 8, 9, 11], 5), 50)
    assert draws.groups == 4
    assert draws.times.shape == (51, 20)
    by_drive = draws.times.reshape(51, 4, 5)
    assert (by_drive == by_drive[:, :, :1]).all()
    assert (draws.times.sum(axis=1) == 20).all()
    assert Draws(np.full(20, -1)).groups == 20  # no drives: frame by frame
    assert Draws(np.zeros(20, np.int64)).groups == 20  # one drive says nothing of others


def test_calibration_error_by_hand() -> None:
    # 15 bins: 0.9 and 0.91 share one (gap 0.905 - 0.5), 0.1 has its own (gap 0.1 - 0).
    score, hit = np.array([0.9, 0.91, 0.1]), np.array([True, False, False])
    assert calibration_error(score, hit) == pytest.approx((2 * 0.405 + 0.1) / 3)
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_what_is_published_by_hand() -> None:
    # GIVEN three cars, two of them found, one false alarm above the threshold and one below
    truth = {
        0: [TruthBox(str(k), "car", np.array([10.0 * k, 0, 0.8]), SIZE, 0.0) for k in range(3)]
    }
    rng = np.random.default_rng(0)
    rows = [(0.0, 0.9), (10.0, 0.4), (50.0, 0.5), (60.0, 0.1)]
    lines = {0: [{**detection("car", np.array([x, 0.0]), rng), "score": s} for x, s in rows]}
    curves = Curves(answers(truth, lines, np.zeros(1, np.int64)), "grid")
    out = published(curves, np.ones(1), 0.3)
    assert (out["precision"], out["recall"]) == (pytest.approx(2 / 3, abs=1e-4),) * 2
    assert out["f1"] == pytest.approx(2 / 3, abs=1e-4)
    assert out["objects"] == 3
    assert out["classes"]["cyclist"]["recall"] is None


def test_robustness_is_a_mean_over_faults_not_rows() -> None:
    def row(fault: str, relative: float, value: float) -> dict:
        cell = {"relative": {"value": relative}, "map": 0.5, "published": {"ece": 0.01}}
        both = {"value": value, "ci95": None}
        return {"fault": fault, "condition": fault, "fused": cell, "ratio": both, "best_single": ""}

    rows = [row("fog", 0.9, 1.1), row("fog", 0.7, 0.97), row("dark", 1.0, 1.2)]
    rows.append(row("LIDAR missing", 0.3, 1.0))
    assert mean_relative(rows) == pytest.approx((0.8 + 1.0 + 0.3) / 3, abs=1e-4)
    clean = {**row("clean", 1.0, 1.3), "camera": None, "lidar": None}
    out = summary([clean, *rows])
    assert out["mean_relative_both_senses"] == pytest.approx(0.9)
    assert out["worst_ratio"] == {"condition": "fog", "value": 0.97, "ci95": None}


def test_the_interval_is_of_the_resamples() -> None:
    values = np.array([5.0, *np.linspace(0.0, 1.0, 201)])
    assert interval(values) == [0.025, 0.975]
    assert interval(np.array([np.nan, 1.0])) is None
