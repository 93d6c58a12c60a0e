"""Topics, QoS, stamps and clocks of a bag: every fault is found, and none where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctor.conftest import check_fault, examine_bag, find
from rosbags.interfaces import QosTime
from support import bags, doctor_bags
from support.doctor_bags import (
    CAMERA,
    GPS,
    IMU,
    INFO,
    LIDAR,
    MS,
    TF_STATIC,
    WHEELS,
    Fault,
    Rows,
    S,
    at,
    profile,
    restamp,
    stamp_ns,
    without,
)

from mm_fusion import config
from mm_fusion.doctor.bag import observe_bag
from mm_fusion.doctor.findings import Report
from mm_fusion.doctor.skew import common_ms
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.topics import find_inputs


def renamed(topic: str, *names: str) -> Any:
    """The messages of a topic under other names."""
    return lambda rows: sorted(
        [(name, log, m) for t, log, m in rows for name in (names if t == topic else (t,))],
        key=lambda r: r[1],
    )


def delayed(seconds: float) -> Any:
    """Stamps that lie further back."""
    return lambda m, *_: restamp(m, stamp_ns(m) - round(seconds * S))


def reorder(message: Any, index: int, log_ns: int) -> Any:
    """Every tenth message comes after its follower."""
    return (log_ns + 25 * MS, message) if index % 10 == 4 else message


def imu_as_fix(rows: Rows) -> Rows:
    """Another type under the IMU's name."""
    return [(IMU if t == GPS else t, log, m) for t, log, m in without(rows, IMU)]


TOPICS = [
    Fault("no-inputs", "bag", "error", ("1 topics", "TFMessage"), lambda r: r[:1]),
    Fault("missing-topic", GPS, "info", ("not in the bag",), lambda r: without(r, GPS)),
    Fault(
        "missing-topic",
        "/gps/fixx",
        "error",
        ("topics of that type: /gps/fix", "--set topics.gps=/gps/fix?"),
        lambda r: r,
        ("topics.gps=gps/fixx",),
    ),
    Fault(
        "missing-topic",
        LIDAR,
        "error",
        ("/front/points, /rear/points", "--set 'topics.lidars=["),
        renamed(LIDAR, "/front/points", "/rear/points"),
    ),
    Fault("missing-topic", INFO, "error", ("camera cannot be used",), lambda r: without(r, INFO)),
    Fault("no-camera-no-lidar", "inputs", "info", (), lambda r: without(r, CAMERA, INFO, LIDAR)),
    Fault("topic-by-type", "/velodyne", "info", ("topics.lidars[0]",), renamed(LIDAR, "/velodyne")),
    Fault("wrong-type", IMU, "error", ("NavSatFix", "sensor_msgs/msg/Imu"), imu_as_fix),
    Fault(
        "qos-mismatch",
        TF_STATIC,
        "error",
        ("offers volatile, asked for transient local",),
        lambda r: r,
        (),
        {TF_STATIC: [profile()]},
    ),
    Fault(
        "several-publishers",
        IMU,
        "error",
        ("2 publishers",),
        lambda r: r,
        (),
        {IMU: [profile(), profile(False)]},
    ),
]

STAMPS = [
    Fault("zero-stamp", IMU, "error", ("150 of 150",), at(IMU, lambda m, *_: restamp(m, 0))),
    Fault(
        "clock-jump",
        LIDAR,
        "error",
        ("stepped 1 times: -0.90 s",),
        at(LIDAR, lambda m, i, _: restamp(m, stamp_ns(m) - S * (i >= 15))),
    ),
    Fault(
        "clock-jump",
        WHEELS,
        "error",
        ("+5.05 s",),
        at(WHEELS, lambda m, i, _: restamp(m, stamp_ns(m) + 5 * S * (i >= 30))),
    ),
    Fault(
        "duplicate-stamps",
        IMU,
        "warn",
        ("50 of 150",),
        at(IMU, lambda m, i, _: restamp(m, stamp_ns(m) - 20 * MS * (i % 3 == 2))),
    ),
    Fault("out-of-order", IMU, "warn", ("15 of 150",), at(IMU, reorder)),
    Fault(
        "lost-samples",
        LIDAR,
        "warn",
        ("about 4 of 30", "the longest 0.30 s", "100.0 ms"),
        at(LIDAR, lambda m, i, _: None if i in (5, 6, 12, 20) else m),
    ),
    Fault(
        "lost-samples",
        IMU,
        "error",
        ("about 49 of 149",),
        at(IMU, lambda m, i, _: None if i % 3 == 2 else m),
    ),
    Fault(
        "uneven-stamps",
        CAMERA,
        "warn",
        ("vary by",),
        at(CAMERA, lambda m, i, _: restamp(m, stamp_ns(m) + 60 * MS * (i % 2))),
    ),
    Fault(
        "stopped",
        CAMERA,
        "warn",
        ("1.5 s before the end",),
        at(CAMERA, lambda m, i, _: m if i < 16 else None),
    ),
]

CLOCKS = [
    Fault(
        "clock-skew",
        GPS,
        "warn",
        (
            "0.5",
            "s behind the other",
        ),
        at(GPS, delayed(0.5)),
    ),
    Fault("clock-skew", IMU, "error", ("5.0", "behind"), at(IMU, delayed(5.0))),
    Fault("clock-skew", GPS, "error", ("ahead of",), at(GPS, delayed(-400 * 86400.0))),
    Fault("future-stamps", WHEELS, "error", ("95.", "in the future"), at(WHEELS, delayed(-0.1))),
    Fault(
        "no-partners",
        CAMERA,
        "error",
        ("0% of the sweeps", "50.0 ms away"),
        at(CAMERA, delayed(0.05)),
        ("sync.max_dt_s=0.04",),
    ),
    Fault("no-partners", CAMERA, "error", ("s apart",), at(CAMERA, delayed(40.0))),
    Fault(
        "other-time",
        "clock",
        "info",
        ("1699999999.0 s", "agree"),
        lambda rows: [
            (t, log, restamp(m, stamp_ns(m) - doctor_bags.START_NS + S) if t != TF_STATIC else m)
            for t, log, m in rows
        ],
    ),
]


@pytest.mark.parametrize("fault", [*TOPICS, *STAMPS, *CLOCKS], ids=str)
def test_a_fault_of_topics_or_time_is_named(
    fault: Fault, healthy_rows: Rows, healthy: Report, tmp_path: Path
) -> None:
    check_fault(fault, healthy_rows, healthy, tmp_path)


def test_a_healthy_drive_has_neither_errors_nor_warnings(healthy: Report) -> None:
    assert healthy.healthy
    assert [f for f in healthy.findings if f.severity.value != "info"] == []
    assert {r["topic"] for r in healthy.sensors} == {CAMERA, LIDAR, GPS, IMU, WHEELS}


def test_the_table_tells_rate_latency_and_content(healthy: Report) -> None:
    rows = {r["topic"]: r for r in healthy.sensors}
    assert rows[IMU]["rate_hz"] == pytest.approx(50.0, abs=0.1)
    assert rows[LIDAR]["latency_ms"] == pytest.approx(103.0, abs=1.0)
    assert rows[CAMERA]["content"] == "128x96 rgb8"
    assert rows[GPS]["lost"] == 0
    assert rows[LIDAR]["frame"] == "lidar"


def test_a_deadline_that_is_not_offered_is_a_mismatch_only_where_one_is_asked_for(
    healthy_rows: Rows, tmp_path: Path
) -> None:
    """Nothing of ours asks for one: a publisher's own deadline hinders nobody."""
    offered = {IMU: [profile(deadline=QosTime(0, 10 * MS))]}
    report = examine_bag(doctor_bags.write(tmp_path / "bag", healthy_rows, offered))
    assert find(report, "qos-mismatch") == []


def test_a_drifting_clock_is_named_with_its_drift(tmp_path: Path) -> None:
    """GIVEN 20 s of an IMU whose clock is 1000 ppm slow and of wheels whose clock is right."""
    random = np.random.default_rng(2)
    rows: Rows = []
    for t in range(0, 20 * S, S // 50):
        log = doctor_bags.START_NS + t + round(random.exponential(MS))
        rows.append((IMU, log, bags.imu(doctor_bags.START_NS + t - t // 1000)))
        wheels = bags.odometry(doctor_bags.START_NS + t, (1.0, 0.0, 0.0))
        rows.append((WHEELS, log + MS, wheels))
    report = examine_bag(doctor_bags.write(tmp_path / "bag", rows))
    (found,) = find(report, "clock-drift", IMU)
    drift_ppm = float(found.seen.split(" by ")[1].split()[0])
    assert drift_ppm == pytest.approx(1000.0, abs=60.0)
    assert find(report, "clock-drift", WHEELS) == []


def test_a_small_step_of_a_clock_is_named(healthy_rows: Rows, tmp_path: Path) -> None:
    """200 ms are below what makes the synchronizer begin anew, and no delay of the way either."""
    rows = doctor_bags.change(
        healthy_rows, IMU, lambda m, i, _: restamp(m, stamp_ns(m) + 200 * MS * (i >= 75))
    )
    report = examine_bag(doctor_bags.write(tmp_path / "bag", rows))
    (found,) = find(report, "clock-step", IMU)
    assert "1 times, last by +2" in found.seen
    assert find(report, "clock-step", WHEELS) == []


def test_only_the_first_seconds_are_read_where_so_asked(healthy_rows: Rows, tmp_path: Path) -> None:
    report = examine_bag(doctor_bags.write(tmp_path / "bag", healthy_rows), seconds=1.0)
    assert report.duration_s == pytest.approx(1.0)
    assert next(r for r in report.sensors if r["topic"] == IMU)["messages"] in (49, 50, 51)


@pytest.mark.parametrize(
    ("topic", "name"),
    [(GPS, GPS), (GPS, "/fix"), (IMU, "/robot/imu/data"), (CAMERA, "/robot/camera/image_raw")],
)
def test_the_doctor_looks_at_the_topics_that_a_replay_takes(
    healthy_rows: Rows, tmp_path: Path, topic: str, name: str
) -> None:
    path = doctor_bags.write(tmp_path / "bag", renamed(topic, name)(healthy_rows))
    given = config.Config()
    with Bag(path) as bag:
        taken = find_inputs(bag.topics, given, "bag")
    looked_at = observe_bag(path, given, None)
    assert looked_at.stream("gps").topic == taken.gps.name
    assert looked_at.stream("imu").topic == taken.imu.name
    assert looked_at.stream("camera").topic == taken.cameras[0].name
    assert looked_at.stream("wheels").topic == taken.wheels.name
    infos = looked_at.stream("camera_info")
    assert (infos and infos.topic) == (taken.camera_infos[0] and taken.camera_infos[0].name)


@pytest.mark.parametrize("storage", ["sqlite3", "ros1"])
def test_other_kinds_of_bags_are_examined_alike(tmp_path: Path, storage: str) -> None:
    """GIVEN a drive of the test suite in other containers, THEN every sensor is seen."""
    path = tmp_path / ("bag.bag" if storage == "ros1" else "bag")
    rows = bags.drive_rows(2.0)
    if storage == "ros1":  # whose types have no TFMessage in rosbags
        rows = without(rows, TF_STATIC)
    report = examine_bag(bags.write_bag(path, rows, storage))
    rates = {r["topic"]: r["rate_hz"] for r in report.sensors}
    assert rates == pytest.approx({IMU: 100.0, WHEELS: 50.0, GPS: 5.0, CAMERA: 10.0, LIDAR: 10.0})
    placed = {f.code for f in report.findings if f.severity.value == "error"}
    assert placed == ({"no-transform"} if storage == "ros1" else set())


@pytest.mark.parametrize("kept", [(IMU, WHEELS), (IMU, WHEELS, GPS), (IMU, WHEELS, GPS, LIDAR)])
def test_of_few_sensors_only_the_one_whose_clock_is_off_is_blamed(
    healthy_rows: Rows, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    rows = [r for r in healthy_rows if r[0] in (*kept, TF_STATIC)]
    rows = doctor_bags.change(rows, IMU, delayed(3.0))
    report = examine_bag(doctor_bags.write(tmp_path / "bag", rows))
    assert [f.subject for f in find(report, "clock-skew")] == [IMU]


@pytest.mark.parametrize(
    ("offsets_ms", "expected"),
    [([], 0), ([5], 5), ([5, 3000], 5), ([5, 60, 3000], 60), ([-9000, 5, 60, 3000], 5)],
)
def test_the_offset_that_sensors_have_in_common(offsets_ms: list[int], expected: int) -> None:
    assert common_ms(offsets_ms) == expected
