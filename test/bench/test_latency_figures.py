"""The accounting of the latency bench, on notes whose figures can be told by hand."""

from __future__ import annotations

from typing import Any

import pytest

from mm_fusion.bench.latency_figures import (
    CallbackNote,
    NetworkNote,
    Notes,
    PublishNote,
    SetNote,
    answered,
    callback_costs,
    cpu,
    latency,
    percentiles,
    spent,
    sweep_waits_ns,
)

MS = 1_000_000


def set_note(stamp: int, released_ms: int, started_ms: int, processed_ms: int) -> SetNote:
    """A set whose sweep came 12 ms before it was released; staging took 3 ms."""
    at = released_ms * MS
    return SetNote(
        stamp,
        sweep_ns=at - 12 * MS,
        last_ns=at,
        released_ns=at,
        started_ns=started_ms * MS,
        processed_ns=processed_ms * MS,
        process_cpu_ns=(processed_ms - started_ms - 20) * MS,
        stages_ns={"stage": 3 * MS},
    )


def made_notes() -> Notes:
    """Two sets: the second waited 5 ms for the first one's network, and 2 ms longer."""
    sets = [set_note(1, 100, 101, 146), set_note(2, 139, 146, 191)]
    networks = {
        1: NetworkNote(1, 104 * MS, 40 * MS, 7 * MS),
        2: NetworkNote(2, 149 * MS, 40 * MS, 9 * MS),
    }
    published = [
        PublishNote(1, "detections", 147 * MS, 1 * MS),
        PublishNote(1, "tracks", 149 * MS, 1 * MS),
        PublishNote(1, "fusion/status", 151 * MS, 1 * MS),
        PublishNote(2, "detections", 193 * MS, 1 * MS),
        PublishNote(2, "tracks", 194 * MS, 1 * MS),
        PublishNote(2, "fusion/status", 198 * MS, 1 * MS),
    ]
    callbacks = [CallbackNote("lidar", 100 * MS, 2 * MS), CallbackNote("imu", 110 * MS, 4 * MS)]
    threads = {"receiving": [1], "working": [2], "network": [3, 4]}
    return Notes(callbacks, sets, 0, networks, published, threads)


def test_latency_is_all_but_the_network() -> None:
    """GIVEN notes of two sets WHEN added up THEN ours is the way without the network's run."""
    found = latency(made_notes())
    # 149 - 100 - 40 = 9 and 194 - 139 - 40 = 15.
    assert found["ours"]["p50"] == pytest.approx(12.0)
    assert found["ours"]["max"] == pytest.approx(15.0)
    # 147 - 100 - 40 = 7 and 193 - 139 - 40 = 14.
    assert found["ours_to_detections"]["p50"] == pytest.approx(10.5)
    # 151 - 100 - 40 = 11 and 198 - 139 - 40 = 19.
    assert found["ours_to_last_message"]["max"] == pytest.approx(19.0)
    assert found["network"]["p50"] == pytest.approx(40.0)
    # The first one's network ended at 144, the second set was there at 139.
    assert found["behind_another_set"]["max"] == pytest.approx(5.0)


def test_parts_add_up_to_ours() -> None:
    """GIVEN one set WHEN taken apart THEN the parts are all of it."""
    notes = made_notes()
    notes.sets = notes.sets[:1]
    found = {name: values["p50"] for name, values in latency(notes).items()}
    parts = ("receive_and_hand_over", "stage", "boxes_and_tracks", "publish")
    assert [found[p] for p in parts] == pytest.approx([1.0, 3.0, 2.0, 3.0])
    assert sum(found[p] for p in parts) == pytest.approx(found["ours"])


def test_a_set_without_a_network_run_is_left_out() -> None:
    """GIVEN a set that never reached the network WHEN latency is told THEN it has no part."""
    notes = made_notes()
    del notes.networks[1]
    assert latency(notes)["ours"]["p50"] == pytest.approx(15.0)


def test_cpu_is_divided_among_ours_network_and_transport() -> None:
    """GIVEN threads' times WHEN divided THEN every thread is somebody's, and none is twice."""
    threads = {
        1: ("python", 10 * MS),  # receiving: callbacks 6, the rest is taking messages
        2: ("python", 30 * MS),  # working: 16 of it in the network, 6 publishing
        3: ("python", 50 * MS),
        4: ("python", 14 * MS),
        5: ("dds.shm.7412", 8 * MS),
        6: ("python", 2 * MS),  # of OpenCV, say
    }
    found = cpu(made_notes(), threads, idle_ns=20 * MS)
    assert found["callbacks"] == pytest.approx(3.0)
    assert found["network"] == pytest.approx((50 + 14 + 16) / 2)
    assert found["ours"] == pytest.approx((6 + 30 - 16 + 2) / 2)
    assert found["taking_messages"] == pytest.approx(2.0)
    assert found["dds_threads"] == pytest.approx(4.0)
    whole = found["ours"] + found["network"] + found["taking_messages"] + found["dds_threads"]
    assert whole == pytest.approx(found["process"]) == pytest.approx(57.0)
    assert found["ours_by_difference"] == pytest.approx((114 - 80 - 20) / 2)
    parts = ("callbacks", "stage_and_track", "messages_and_rest", "publishing", "helper_threads")
    assert sum(found[p] for p in parts) == pytest.approx(found["ours"])


def test_spent_is_between_two_looks() -> None:
    """GIVEN a thread that began meanwhile WHEN subtracted THEN all of its time counts."""
    before = {1: ("a", 5), 2: ("gone", 9)}
    assert spent(before, {1: ("a", 8), 3: ("b", 4)}) == {1: ("a", 3), 3: ("b", 4)}


def test_sweeps_wait_from_their_own_arrival() -> None:
    """GIVEN a set without a sweep beside others WHEN waits are told THEN only sweeps waited."""
    notes = made_notes()
    notes.sets[1].sweep_ns = 0
    assert sweep_waits_ns(notes) == [12 * MS]


def test_unanswered_sweeps_are_counted_within_the_window() -> None:
    """GIVEN five sweeps sent, three in the window WHEN one answer lacks THEN one is unanswered."""
    sent = [[n * 100 * MS, (n * 100 + 3) * MS] for n in range(5)]
    came = [[100 * MS, 160 * MS], [300 * MS, 380 * MS], [0, 50 * MS]]
    found = answered(sent, came, 100 * MS, 310 * MS)
    assert (found["sent"], found["answered"], found["unanswered"]) == (3, 2, 1)
    assert found["from_stamp_ms"]["max"] == pytest.approx(80.0)
    assert found["from_sending_ms"]["max"] == pytest.approx(77.0)


def test_percentiles_of_a_hundred_and_of_none() -> None:
    """GIVEN 0..100 ms WHEN percentiles are taken THEN they are those numbers; of none, zeros."""
    found = percentiles(n * MS for n in range(101))
    assert found == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
    assert percentiles([]) == {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}


def test_callbacks_by_topic() -> None:
    """GIVEN callbacks WHEN told by topic THEN number and median."""
    notes = made_notes()
    notes.callbacks.append(CallbackNote("imu", 120 * MS, 2 * MS))
    assert callback_costs(notes)["imu"] == {"messages": 2, "cpu_ms": 3.0}


def written(**changes: Any) -> dict[str, Any]:
    """What the node writes: clocks 1000 ms apart."""
    notes = made_notes()
    late = set_note(3, 139, 0, 0)
    values: dict[str, Any] = {
        "perf_from_wall_ns": -1000 * MS,
        "threads": notes.threads,
        "callbacks": [list(c) for c in notes.callbacks],
        "sets": [s.as_row() for s in (*notes.sets, late)],
        "networks": [list(n) for n in notes.networks.values()],
        "published": [list(p) for p in notes.published],
    }
    return {**values, **changes}


def test_notes_are_read_within_the_window() -> None:
    """GIVEN a file of notes WHEN read for a window on the system's clock THEN that is all."""
    whole = Notes.read(written(), 1050 * MS, 1250 * MS)
    assert [s.stamp_ns for s in whole.sets] == [1, 2]
    assert whole.sets == made_notes().sets
    assert whole.given_up == 1
    assert len(whole.published) == 6
    # From 105 ms on: the first set was released before.
    part = Notes.read(written(), 1105 * MS, 1250 * MS)
    assert [s.stamp_ns for s in part.sets] == [2]
    assert [c.topic for c in part.callbacks] == ["imu"]
    assert list(part.networks) == [2]
