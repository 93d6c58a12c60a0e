"""What a picture says for and against boxes that another network found."""

from __future__ import annotations

import numpy as np
import pytest

from mm_fusion.geometry import box_corners, project
from mm_fusion.perception.camera2d.associate import Seen
from mm_fusion.perception.camera2d.bodies import Glance, Look
from mm_fusion.perception.camera2d.locate import prior_of
from mm_fusion.perception.witness import doubted, weighed
from mm_fusion.samples import Detection

# a camera at the base's origin, 1.5 m up, that looks along x: u grows with -y, v with -z
K = np.array([[700.0, 0.0, 620.0], [0.0, 700.0, 190.0], [0.0, 0.0, 1.0]])
CAMERA_FROM_BASE = np.array([[0.0, -1, 0, 0], [0, 0, -1, 1.5], [1, 0, 0, 0]])
PIXEL_FROM_BASE = K @ CAMERA_FROM_BASE
SIZE_PX = (1242, 375)
LABELS = {"car", "pedestrian", "cyclist"}


def car(x: float, y: float = 0.0, score: float = 0.6, label: str = "car") -> Detection:
    center, size = np.array([x, y, 0.8]), np.array([4.2, 1.8, 1.5])
    return Detection(label, score, center, size, 0.05, np.zeros(2), "fusion", None)


def seen(one: Detection, label: str = "car") -> Seen:
    """The box that a camera draws around it."""
    pixels, _ = project(PIXEL_FROM_BASE, box_corners(one.center, one.size, one.yaw))
    box = np.array([*pixels.min(axis=0), *pixels.max(axis=0)])
    return Seen(box, 0.7, label, label, prior_of(label, label))


def look(*boxes: Seen, faint: list[Seen] | None = None) -> list[Glance]:
    shown = list(boxes)
    return [Glance(Look(shown, PIXEL_FROM_BASE, SIZE_PX), shown if faint is None else faint)]


def scores(found: list[Detection], shown: list[Glance]) -> list:
    return [d.score for d in weighed(found, shown, LABELS)]


def test_who_is_boxed_is_surer_and_who_is_not_less() -> None:
    """GIVEN two boxes in plain view, and a picture in which one of them is boxed
    THEN its odds grow by 0.85 / 0.1, and those of the other shrink by 0.15 / 0.9."""
    left, right = car(15.0, 4.0), car(15.0, -4.0)
    got = scores([left, right], look(seen(left)))
    odds = [s / (1.0 - s) for s in got]
    assert odds[0] == pytest.approx(1.5 * 8.5)
    assert odds[1] == pytest.approx(1.5 / 6.0)


def test_who_could_not_be_seen_keeps_the_score() -> None:
    """GIVEN boxes behind the camera, beside the picture, too small in it, or behind a car that is
    seen, WHEN the picture shows none of them, THEN nothing is known of them."""
    front = car(10.0)
    hidden, away, small = car(18.0), car(-12.0), car(60.0, 8.0)
    edge = car(6.0, 6.0)
    got = scores([front, hidden, away, small, edge], look(seen(front)))
    assert got[1:] == [0.6] * 4
    assert got[0] > 0.9


def test_who_is_refuted_hides_nobody() -> None:
    """GIVEN a false box before another false one, THEN both are refuted."""
    got = scores([car(12.0), car(18.0)], look())
    assert got[0] == pytest.approx(0.2, abs=0.01)
    assert got[1] == pytest.approx(0.2, abs=0.01)


def test_what_is_seen_faintly_is_neither_for_nor_against() -> None:
    one = car(15.0)
    assert scores([one], look(faint=[seen(one)])) == [0.6]


def test_a_blind_witness_proves_nothing() -> None:
    """GIVEN a picture in the dark, in which not even certain cars are boxed
    THEN its silence about another box weighs less than that of one that sees them."""
    certain = [car(12.0, y, 0.99) for y in (-6.0, 2.5, 6.0)]
    other = car(20.0, -4.0)
    sharp = scores([*certain, other], look(*map(seen, certain)))[-1]
    dark = scores([*certain, other], look())
    assert sharp < 0.2
    assert dark[-1] > sharp + 0.15
    assert min(dark[:3]) > 0.9


def test_a_class_that_the_witness_does_not_know_is_not_judged() -> None:
    assert scores([car(15.0, label="tram")], look()) == [0.6]


def test_a_rider_may_be_seen_as_a_person() -> None:
    center, size = np.array([12.0, 0.0, 0.9]), np.array([1.8, 0.6, 1.7])
    rider = Detection("cyclist", 0.6, center, size, 0.0, np.zeros(2))
    assert scores([rider], look(seen(rider, "pedestrian")))[0] > 0.9


def test_nothing_to_judge_or_nobody_to_ask() -> None:
    assert weighed([], look(), LABELS) == ()
    one = car(15.0)
    assert weighed([one], [], LABELS) == (one,)


def test_a_camera_is_doubted_where_better_eyes_saw_nothing() -> None:
    assert doubted(car(15.0)).score == pytest.approx(0.2)
