"""TF of a bag: places that are missing, doubled, contradictory or impossible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctor.conftest import check_fault, examine_bag, find
from support import bags, doctor_bags
from support.doctor_bags import (
    CAMERA,
    GPS,
    IMU,
    LIDAR,
    TF,
    TF_STATIC,
    Change,
    Fault,
    Rows,
    at,
    setting,
    without,
)

from mm_fusion.doctor.findings import Report

UPRIGHT = (0, 0, 0, 1)
SHIFTED = (0.0, 0.0, 1.9)


def told(*links: tuple[str, str, Any, Any], topic: str = TF_STATIC) -> Any:
    """One more TFMessage at the end of the first second."""

    def apply(rows: Rows) -> Rows:
        at_ns = doctor_bags.START_NS + doctor_bags.S
        message = bags.transforms(at_ns, *links)
        return sorted([*rows, (topic, at_ns, message)], key=lambda r: r[1])

    return apply


def links(how: Any) -> Change:
    """Change or leave out (None) each link of /tf_static."""

    def apply(message: Any, *_: int) -> Any:
        message.transforms = [t for t in map(how, message.transforms) if t is not None]
        return message

    return apply


def drop(*children: str) -> Change:
    return links(lambda t: None if t.child_frame_id in children else t)


def under(parent: str) -> Change:
    """All links below another parent."""

    def rename(link: Any) -> Any:
        link.header.frame_id = parent
        return link

    return links(rename)


def stretch(link: Any) -> Any:
    if link.child_frame_id == "lidar":
        link.transform.rotation.w = 2.0
    return link


FAULTS = [
    Fault(
        "no-transform",
        "lidar",
        "error",
        ("not in TF", 'calibration.extrinsics=["lidar X Y Z ROLL PITCH YAW"]'),
        at(TF_STATIC, drop("lidar")),
    ),
    Fault(
        "no-transform",
        "lidar_top",
        "error",
        ("Did you mean lidar as frame_id?",),
        at(LIDAR, setting(header__frame_id="lidar_top")),
    ),
    Fault("no-transform", "imu", "warn", ("levels the IMU",), at(TF_STATIC, drop("imu"))),
    Fault("no-transform", "gps", "info", ("not in TF",), at(TF_STATIC, drop("gps"))),
    Fault(
        "no-transform",
        "camera",
        "error",
        ("no transform came at all",),
        lambda rows: without(rows, TF_STATIC),
    ),
    Fault(
        "no-base-frame",
        "base_link",
        "error",
        ("no frame base_link", "--set frames.base=base_footprint?"),
        at(TF_STATIC, under("base_footprint")),
    ),
    Fault(
        "no-base-frame",
        "base_link",
        "error",
        ("no frame base_link", "publish base_link -> mast"),
        at(TF_STATIC, under("mast")),
    ),
    Fault(
        "two-parents",
        "lidar",
        "error",
        ("base_link and mast",),
        told(("mast", "lidar", SHIFTED, UPRIGHT)),
    ),
    Fault(
        "static-differs",
        "base_link -> lidar",
        "error",
        ("told 2 ways, 0.100 m and 0.00 deg",),
        told(("base_link", "lidar", SHIFTED, UPRIGHT)),
    ),
    Fault(
        "static-and-moving",
        "base_link -> lidar",
        "error",
        ("/tf_static and on /tf",),
        told(("base_link", "lidar", SHIFTED, UPRIGHT), topic=TF),
    ),
    Fault(
        "bad-quaternion",
        "base_link -> lidar",
        "error",
        ("norm 2", "0 0 0 1"),
        at(TF_STATIC, links(stretch)),
    ),
    Fault(
        "bad-frame-name",
        "base_link -> base_link",
        "error",
        ("empty or equal",),
        told(("base_link", "base_link", (0, 0, 0), UPRIGHT)),
    ),
    Fault(
        "tf-cycle",
        "camera",
        "error",
        ("camera <- ", "break the circle"),
        told(("camera", "base_link", (0, 0, 0), UPRIGHT)),
    ),
    Fault("no-frame", CAMERA, "error", ("30 of 30",), at(CAMERA, setting(header__frame_id=""))),
    Fault(
        "several-frames",
        IMU,
        "warn",
        ("imu (100), imu2 (50)",),
        at(IMU, lambda m, i, n: setting(header__frame_id="imu2")(m, i, n) if i % 3 == 0 else m),
    ),
    Fault("world-frame", LIDAR, "error", ("odom",), at(LIDAR, setting(header__frame_id="odom"))),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_of_the_frames_is_named(
    fault: Fault, healthy_rows: Rows, healthy: Report, tmp_path: Path
) -> None:
    check_fault(fault, healthy_rows, healthy, tmp_path)


def test_the_remedy_of_a_missing_base_works(healthy_rows: Rows, tmp_path: Path) -> None:
    """GIVEN a tree without the base, WHEN the anchor's place is given as the remedy says,
    THEN what TF connects with it follows, and nothing is missing."""
    rows = doctor_bags.change(healthy_rows, TF_STATIC, under("mast"))
    path = doctor_bags.write(tmp_path / "bag", rows)
    (found,) = find(examine_bag(path), "no-base-frame")
    anchor = found.remedy.split('["')[1].split()[0]
    report = examine_bag(path, f'calibration.extrinsics=["{anchor} 0 0 1.8 0 0 0"]')
    assert find(report, "no-base-frame") == []
    assert find(report, "no-transform") == []


def test_a_joint_that_moves_on_tf_is_in_order(healthy_rows: Rows, tmp_path: Path) -> None:
    """A pan unit tells another place with every message: that is what /tf is for."""
    rows = doctor_bags.change(healthy_rows, TF_STATIC, drop("camera"))
    for k in range(20):
        half = 0.05 * k
        turn = (0.0, 0.0, float(np.sin(half)), float(np.cos(half)))
        ns = doctor_bags.START_NS + k * doctor_bags.S // 10
        rows = [*rows, (TF, ns, bags.transforms(ns, ("base_link", "camera", (1, 0, 1), turn)))]
    rows = sorted(rows, key=lambda r: r[1])
    report = examine_bag(doctor_bags.write(tmp_path / "bag", rows))
    assert [f for f in report.findings if f.severity.value != "info"] == []


def test_odometry_on_tf_gives_no_sensor_a_place(healthy_rows: Rows, tmp_path: Path) -> None:
    """GIVEN odom -> lidar on /tf: where the robot is, is not where the LIDAR sits on it."""
    rows = doctor_bags.change(healthy_rows, TF_STATIC, drop("lidar"))
    rows = told(("odom", "base_link", (0, 0, 0), UPRIGHT), topic=TF)(rows)
    rows = told(("odom", "lidar", (0, 0, 0), UPRIGHT), topic=TF)(rows)
    report = examine_bag(doctor_bags.write(tmp_path / "bag", rows))
    assert len(find(report, "no-transform", "lidar")) == 1
    assert find(report, "no-transform", "gps") == []
    assert GPS in {r["topic"] for r in report.sensors}
