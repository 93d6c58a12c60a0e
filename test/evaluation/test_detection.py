"""Detection scores against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.evaluation.detection import (
    average_precision,
    common_stamps,
    evaluate_detections,
    match_frame,
    true_positive_error,
)
from mm_fusion.evaluation.truth import TruthBox

SIZE = [4.0, 2.0, 1.5]


def truth_box(x: float, y: float, label: str = "car", counted: bool = True, **more) -> TruthBox:
    return TruthBox(
        object_id=more.get("object_id", f"{label}{x}{y}"),
        label=label,
        center=np.array([x, y, 0.75]),
        size=np.array(SIZE),
        yaw=more.get("yaw", 0.0),
        velocity=more.get("velocity"),
        counted=counted,
    )


def detection(x: float, y: float, score: float, label: str = "car", **more) -> dict:
    return {
        "class": label,
        "score": score,
        "center": [x, y, 0.75],
        "size": more.get("size", SIZE),
        "yaw": more.get("yaw", 0.0),
        "velocity": more.get("velocity", [0.0, 0.0]),
    }


def line(stamp_ns: int, *detections: dict) -> dict:
    return {"stamp_ns": stamp_ns, "detections": list(detections)}


def test_everything_found_without_false_alarms_is_one() -> None:
    assert average_precision([0.9, 0.8], [True, True], 2) == pytest.approx(1.0)


def test_half_the_objects_found() -> None:
    # Precision 1 up to recall 0.5: of the 90 recalls from 0.11 to 1.00, 40 count (0.11 .. 0.50).
    assert average_precision([0.9], [True], 2) == pytest.approx(40 / 90)


def test_a_more_confident_false_alarm() -> None:
    # Points (recall 0, precision 0) and (1, 0.5): precision is r / 2. Above 0.1 from r = 0.21 on:
    # sum over k = 21 .. 100 of (0.005 k - 0.1) = 16.2, by 90 recalls and by 0.9.
    assert average_precision([0.9, 0.8], [False, True], 1) == pytest.approx(16.2 / 90 / 0.9)


def test_a_false_alarm_after_all_are_found_costs_only_the_end_of_the_curve() -> None:
    # Recall is 1 at both; at recall 1.00 itself the last precision, 0.5, is read, below it 1.
    assert average_precision([0.9, 0.8], [True, False], 1) == pytest.approx(
        (89 * 0.9 + 0.4) / 90 / 0.9
    )


def test_precision_below_a_tenth_is_worth_nothing() -> None:
    # Twenty false alarms before the only hit: precision never exceeds 1/21.
    scores = np.linspace(1.0, 0.5, 21)
    hits = np.zeros(21, bool)
    hits[-1] = True
    assert average_precision(scores, hits, 1) == 0.0


def test_nothing_to_find_has_no_score_and_nothing_found_scores_zero() -> None:
    assert np.isnan(average_precision([0.9], [False], 0))
    assert average_precision([], [], 3) == 0.0


def test_the_order_of_the_input_does_not_matter() -> None:
    scores, hits = [0.3, 0.9, 0.6, 0.5], [True, True, False, True]
    shuffled = [2, 0, 3, 1]
    assert average_precision(scores, hits, 4) == average_precision(
        [scores[i] for i in shuffled], [hits[i] for i in shuffled], 4
    )


def test_match_takes_the_nearest_within_the_threshold_once() -> None:
    # Two detections near one object: the confident one has it, though the other is nearer.
    match = match_frame([detection(10.3, 0, 0.5), detection(11.5, 0, 0.9)], [truth_box(10, 0)])
    assert match.scores.tolist() == [0.9, 0.5]
    # At 0.5 and 1 m only the nearer (second) fits; at 2 and 4 m the more confident takes it.
    assert match.hits.tolist() == [[False, True], [False, True], [True, False], [True, False]]
    assert match.positives == 1


def test_height_does_not_count() -> None:
    high = {**detection(10, 0, 0.9), "center": [10.0, 0.0, 9.0]}
    assert match_frame([high], [truth_box(10, 0)]).hits.all()


def test_an_ignored_object_hides_what_is_near_it_and_is_not_missed() -> None:
    truth = {0: [truth_box(10, 0), truth_box(30, 0, counted=False)]}
    lines = [line(0, detection(10, 0, 0.5), detection(30.2, 0, 0.9))]
    car = evaluate_detections(lines, truth)["classes"]["car"]
    assert car["objects"] == 1
    assert car["detections"] == 1
    assert car["ap"] == {"0.5": 1.0, "1": 1.0, "2": 1.0, "4": 1.0}


def test_a_visible_object_is_preferred_to_an_ignored_one() -> None:
    truth = [truth_box(10, 0), truth_box(10.5, 0, counted=False)]
    match = match_frame([detection(10.4, 0, 0.9)], truth)
    assert match.hits.all()
    assert not match.ignored.any()


def test_classes_do_not_match_each_other() -> None:
    truth = {0: [truth_box(10, 0, "pedestrian")]}
    scores = evaluate_detections([line(0, detection(10, 0, 0.9, "car"))], truth)
    assert scores["classes"]["pedestrian"]["mean_ap"] == 0.0
    assert scores["classes"]["car"]["mean_ap"] is None  # no car to be found
    assert scores["mean_ap"] == 0.0


def test_thresholds_are_averaged() -> None:
    # 1.5 m off: missed at 0.5 and 1 m, found at 2 and 4 m.
    scores = evaluate_detections([line(0, detection(11.5, 0, 0.9))], {0: [truth_box(10, 0)]})
    assert scores["classes"]["car"]["ap"] == {"0.5": 0.0, "1": 0.0, "2": 1.0, "4": 1.0}
    assert scores["mean_ap"] == 0.5
    assert scores["ate_m"] == pytest.approx(1.5)


def test_the_mean_is_over_classes() -> None:
    truth = {0: [truth_box(10, 0), truth_box(5, 5, "pedestrian"), truth_box(7, -5, "cyclist")]}
    lines = [line(0, detection(10, 0, 0.9), detection(5, 5, 0.8, "pedestrian"))]
    assert evaluate_detections(lines, truth)["mean_ap"] == pytest.approx(2 / 3, abs=1e-5)


def test_region() -> None:
    truth = {0: [truth_box(10, 0), truth_box(60, 0)]}
    lines = [line(0, detection(10, 0, 0.5), detection(70, 0, 0.9))]
    inside = evaluate_detections(lines, truth, region=(-20, 50, -25, 25))
    assert inside["mean_ap"] == 1.0
    assert evaluate_detections(lines, truth)["mean_ap"] < 0.5


def test_unanswered_sets_are_told_apart_and_counted_as_misses() -> None:
    truth = {0: [truth_box(10, 0)], 100_000_000: [truth_box(12, 0)]}
    scores = evaluate_detections([line(0, detection(10, 0, 0.9))], truth)
    assert scores["unanswered_frames"] == 1
    assert scores["mean_ap"] == 1.0
    assert scores["mean_ap_with_unanswered"] == pytest.approx(40 / 90, abs=1e-5)


def test_lines_without_truth_are_counted() -> None:
    scores = evaluate_detections([line(0), line(50_000_000)], {0: [truth_box(10, 0)]})
    assert (scores["frames"], scores["unscored_lines"]) == (1, 1)


def test_common_stamps() -> None:
    truth = {s: [truth_box(10, 0)] for s in (0, 100_000_000, 200_000_000)}
    runs = [[line(0), line(100_000_000)], [line(100_000_000), line(200_000_000)]]
    assert common_stamps(runs, truth) == [100_000_000]


def test_errors_of_the_matched() -> None:
    truth = {0: [truth_box(10, 0, yaw=3.1, velocity=np.array([3.0, 4.0]))]}
    found = detection(10.6, 0.8, 0.9, yaw=-3.1, velocity=[0.0, 0.0], size=[4.0, 2.0, 0.75])
    scores = evaluate_detections([line(0, found)], truth)
    assert scores["ate_m"] == pytest.approx(1.0)
    assert scores["ase"] == pytest.approx(0.5)  # half the height: intersection 6 of union 12
    assert scores["aoe_rad"] == pytest.approx(2 * np.pi - 6.2, abs=1e-5)
    assert scores["ave_mps"] == pytest.approx(5.0)


def test_unknown_velocity_is_said_to_be_unknown() -> None:
    scores = evaluate_detections([line(0, detection(10, 0, 0.9))], {0: [truth_box(10, 0)]})
    assert scores["ave_mps"] is None


def test_error_is_averaged_over_recall() -> None:
    # Ten objects; the first hit (recall 0.1) has error 0, all later ones 1 m. The running mean at
    # the n-th hit is (n - 1) / n, taken at recalls 0.11 .. 1.00 by linear interpolation between
    # recalls 0.1 n; on this grid and with equally spaced scores that is exactly:
    scores = np.linspace(1.0, 0.1, 10)
    errors = np.array([0.0] + [1.0] * 9)
    running = np.array([(n - 1) / n for n in range(1, 11)])
    wanted = np.mean(np.interp(np.arange(11, 101) / 100, np.arange(1, 11) / 10, running))
    got = true_positive_error(scores, np.ones(10, bool), errors, 10)
    assert got == pytest.approx(wanted, abs=1e-9)


def test_error_needs_ten_percent_recall() -> None:
    assert np.isnan(true_positive_error([0.9], [True], [0.3], 20))


def test_interval_holds_the_score_and_is_repeatable() -> None:
    random = np.random.default_rng(3)
    truth, lines = {}, []
    for i in range(200):
        stamp = i * 100_000_000
        truth[stamp] = [truth_box(10, 0), truth_box(20, 5)]
        found = [detection(10 + random.normal(0, 0.5), 0, random.uniform(0.5, 1))]
        if random.uniform() < 0.5:
            found.append(detection(20, 15, random.uniform(0, 0.8)))
        lines.append(line(stamp, *found))
    one, two = evaluate_detections(lines, truth), evaluate_detections(lines, truth)
    low, high = one["mean_ap_ci95"]
    assert one == two
    assert low < one["mean_ap"] < high
    assert high - low < 0.2
