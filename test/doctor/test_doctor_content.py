"""What messages hold: clouds, images, calibrations, fixes, inertial samples, wheels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctor.conftest import check_fault, examine_bag, find
from support import bags, doctor_bags
from support.doctor_bags import (
    CAMERA,
    FIELDS,
    GPS,
    IMU,
    INFO,
    LIDAR,
    TF_STATIC,
    WHEELS,
    Change,
    Fault,
    Rows,
    at,
    columns_of,
    of_columns,
    setting,
    stamp_ns,
)

from mm_fusion.doctor import covariance
from mm_fusion.doctor.findings import Report


def columns(how: Any, names: tuple[str, ...] = FIELDS) -> Change:
    """``how(columns, index)`` changes the float32 columns of a cloud or answers new ones."""

    def apply(message: Any, index: int, _: int) -> Any:
        given = columns_of(message)
        answer = how(given, index)
        changed = given if answer is None else answer
        return of_columns(stamp_ns(message), changed, message.header.frame_id, names)

    return apply


def put(part: Any, value: Any) -> Any:
    """Set a part of a cloud's columns."""

    def apply(given: Any, _: int) -> None:
        given[part] = value

    return apply


def empty(message: Any, index: int, _: int) -> Any:
    if index % 3 == 0:
        message.width, message.row_step, message.data = 0, 0, np.zeros(0, np.uint8)
    return message


def turned(degrees: float) -> Change:
    """The IMU's data about its x axis: what lay on z comes to lie on y at 90 degrees."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def apply(message: Any, *_: int) -> Any:
        for v in (message.angular_velocity, message.linear_acceleration):
            v.y, v.z = c * v.y + s * v.z, c * v.z - s * v.y
        return message

    return apply


def scaled(member: str, factor: float) -> Change:
    def apply(message: Any, *_: int) -> Any:
        v = getattr(message, member)
        v.x, v.y, v.z = v.x * factor, v.y * factor, v.z * factor
        return message

    return apply


def resized(message: Any, index: int, _: int) -> Any:
    return bags.image(stamp_ns(message), height=48, width=64) if index % 2 else message


def without_mounting(rows: Rows, change: Change) -> Rows:
    """The IMU changed, and its link in TF left out."""

    def drop(message: Any, *_: int) -> Any:
        kept = [t for t in message.transforms if t.child_frame_id != "imu"]
        message.transforms = kept
        return message

    return doctor_bags.change(doctor_bags.change(rows, IMU, change), TF_STATIC, drop)


def fix_covariance(matrix: Any, kind: int = 3) -> Change:
    flat = np.asarray(matrix, np.float64).ravel()
    return setting(position_covariance=flat, position_covariance_type=kind)


def lopsided() -> Any:
    matrix = np.diag([1.0, 1.0, 4.0])
    matrix[0, 1] = 0.5
    return matrix


CLOUDS = [
    Fault("empty-clouds", LIDAR, "warn", ("10 of 30",), at(LIDAR, empty)),
    Fault(
        "point-count",
        LIDAR,
        "warn",
        ("3 of 30", "usual 600", "smallest 100"),
        at(LIDAR, columns(lambda c, i: c[:100] if i % 10 == 0 else c)),
    ),
    Fault(
        "fields-change",
        LIDAR,
        "warn",
        ("(x y z intensity t)", "(x y z i t)"),
        at(
            LIDAR,
            lambda m, i, n: (
                m if i % 2 else columns(lambda c, _: c, ("x", "y", "z", "i", "t"))(m, i, n)
            ),
        ),
    ),
    Fault("is-dense", LIDAR, "warn", ("16.7%",), at(LIDAR, columns(put(np.s_[:100, :3], np.nan)))),
    Fault("nan-share", LIDAR, "info", ("67%",), at(LIDAR, columns(put(np.s_[200:, 0], np.nan)))),
    Fault("no-points", LIDAR, "error", (), at(LIDAR, columns(put(np.s_[:, :3], np.nan)))),
    Fault("zero-points", LIDAR, "warn", ("50%",), at(LIDAR, columns(put(np.s_[:300, :3], 0)))),
    Fault(
        "units",
        LIDAR,
        "error",
        ("millimetres",),
        at(LIDAR, columns(lambda c, _: np.hstack([1000 * c[:, :3], c[:, 3:]]))),
    ),
    Fault(
        "no-time-field",
        LIDAR,
        "info",
        ("deskewed",),
        at(LIDAR, columns(lambda c, _: c[:, :4], FIELDS[:4])),
    ),
    Fault(
        "time-field", LIDAR, "warn", ("0 for every point",), at(LIDAR, columns(put(np.s_[:, 4], 0)))
    ),
    Fault(
        "time-field",
        LIDAR,
        "warn",
        ("lidar.time_unit",),
        at(LIDAR, columns(lambda c, _: np.hstack([c[:, :4], 1e15 + 1e12 * c[:, 4:]]))),
    ),
    Fault(
        "time-span",
        LIDAR,
        "warn",
        ("field 't'", "20.0 ms of a period of 100.0 ms"),
        at(LIDAR, columns(lambda c, _: np.hstack([c[:, :4], c[:, 4:] / 4.995]))),
        ("lidar.time_unit=[s]",),
    ),
    Fault(
        "stamp-outside",
        LIDAR,
        "warn",
        ("time_reference",),
        at(LIDAR, columns(lambda c, _: np.hstack([c[:, :4], c[:, 4:] + 0.3]))),
        ("lidar.time_unit=[s]",),
    ),
    Fault(
        "no-intensity",
        LIDAR,
        "warn",
        (),
        at(LIDAR, columns(lambda c, _: np.delete(c, 3, axis=1), ("x", "y", "z", "t"))),
    ),
    Fault("intensity", LIDAR, "warn", ("7 .. 7",), at(LIDAR, columns(put(np.s_[:, 3], 7)))),
    Fault("intensity", LIDAR, "warn", ("-3 ..",), at(LIDAR, columns(put(np.s_[:9, 3], -3)))),
    Fault(
        "intensity",
        LIDAR,
        "warn",
        ("16.7%", "not finite"),
        at(LIDAR, columns(put(np.s_[:100, 3], np.nan))),
    ),
    Fault(
        "intensity-scale",
        LIDAR,
        "warn",
        ("taken as 50",),
        at(LIDAR, columns(lambda c, _: c)),
        ("lidar.intensity_max=50",),
    ),
    Fault(
        "intensity-scale",
        LIDAR,
        "warn",
        ("255 and 4095", "lidar.intensity_max", "such as 4095"),
        at(LIDAR, columns(lambda c, i: put(np.s_[:, 3], c[:, 3] * (1 + 14 * (i > 5)))(c, i))),
    ),
    Fault(
        "missing-field",
        LIDAR,
        "error",
        ("no field 'z'",),
        at(LIDAR, columns(lambda c, _: c, ("x", "y", "up", "intensity", "t"))),
    ),
]

CAMERAS = [
    Fault(
        "camera-info-size",
        INFO,
        "error",
        ("64x48", "128x96"),
        at(INFO, setting(width=64, height=48)),
    ),
    Fault("no-intrinsics", INFO, "error", ("k: focal",), at(INFO, setting(k=np.zeros(9)))),
    Fault(
        "no-intrinsics",
        INFO,
        "error",
        ("'fisheye62'", "Calibrate"),
        at(INFO, setting(distortion_model="fisheye62")),
    ),
    Fault(
        "camera-info-frame",
        INFO,
        "warn",
        ("camera_link", "optical"),
        at(INFO, setting(header__frame_id="camera_link")),
    ),
    Fault(
        "camera-info-k",
        INFO,
        "warn",
        ("900, 48",),
        at(INFO, setting(k=np.array([100.0, 0, 900, 0, 100, 48, 0, 0, 1]))),
    ),
    Fault(
        "camera-info-k",
        INFO,
        "warn",
        ("100.0 and 500.0",),
        at(INFO, setting(k=np.array([100.0, 0, 64, 0, 500, 48, 0, 0, 1]))),
    ),
    Fault("camera-info-d", INFO, "warn", ("70",), at(INFO, setting(d=np.array([70.0, 0, 0, 0])))),
    Fault(
        "camera-info-changes",
        INFO,
        "warn",
        ("30 different",),
        at(INFO, lambda m, i, n: setting(d=np.array([0.01 * i, 0, 0, 0]))(m, i, n)),
    ),
    Fault("image-size", CAMERA, "warn", ("128x96 rgb8, 64x48 rgb8",), at(CAMERA, resized)),
    Fault(
        "unknown-encoding",
        CAMERA,
        "error",
        ("'yuv422'", "30 of 30"),
        at(CAMERA, lambda m, *_: bags.image(stamp_ns(m), "yuv422")),
    ),
    Fault("malformed", CAMERA, "error", ("step",), at(CAMERA, setting(step=5))),
]

GPSES = [
    Fault(
        "gps-covariance-unknown",
        GPS,
        "warn",
        ("15 of 15", "pose.gps_sigma_m"),
        at(GPS, setting(position_covariance_type=0)),
    ),
    Fault("covariance", GPS, "error", ("all zero", "perfect"), at(GPS, fix_covariance([0] * 9))),
    Fault("covariance", GPS, "error", ("not symmetric",), at(GPS, fix_covariance(lopsided()))),
    Fault(
        "covariance",
        GPS,
        "error",
        ("negative variance",),
        at(GPS, fix_covariance(np.diag([-1.0, 1, 1]))),
    ),
    Fault("gps-sigma", GPS, "warn", ("1e-05",), at(GPS, fix_covariance(np.eye(3) * 1e-10))),
    Fault(
        "gps-no-fix",
        GPS,
        "warn",
        ("5 of 15",),
        at(GPS, lambda m, i, n: setting(status__status=-1)(m, i, n) if i < 5 else m),
    ),
    Fault(
        "gps-position",
        GPS,
        "error",
        ("at 0, 0", "status"),
        at(GPS, setting(latitude=0.0, longitude=0.0)),
    ),
    Fault(
        "gps-jumps",
        GPS,
        "warn",
        ("2 jumps", "1112 m"),
        at(GPS, lambda m, i, n: setting(latitude=48.01)(m, i, n) if i == 7 else m),
    ),
    Fault("non-finite", GPS, "error", ("latitude",), at(GPS, setting(latitude=float("nan")))),
]

IMUS = [
    Fault(
        "imu-units",
        IMU,
        "error",
        ("not g", "1.00 in all"),
        at(IMU, scaled("linear_acceleration", 1 / 9.81)),
    ),
    Fault(
        "imu-gravity",
        IMU,
        "error",
        ("gravity compensation",),
        at(IMU, scaled("linear_acceleration", 0.01)),
    ),
    Fault(
        "imu-gravity", IMU, "error", ("unit and scale",), at(IMU, scaled("linear_acceleration", 2))
    ),
    Fault(
        "imu-mounting",
        IMU,
        "error",
        (" deg from up of the base",),
        at(IMU, turned(90.0)),
    ),
    Fault(
        "imu-mounting",
        IMU,
        "warn",
        ("on its side", "+y"),
        lambda rows: without_mounting(rows, turned(90.0)),
    ),
    Fault(
        "gyro-units",
        IMU,
        "error",
        ("deg/s",),
        at(IMU, scaled("angular_velocity", 57.29578)),
    ),
    Fault(
        "gyro-units",
        IMU,
        "error",
        ("57.", "times as fast as /wheel/odometry"),
        # Slow enough that no single rate is impossible: only the wheels tell.
        lambda rows: doctor_bags.change(
            doctor_bags.change(rows, IMU, scaled("angular_velocity", 57.29578 / 3)),
            WHEELS,
            lambda m, *_: _slower(m),
        ),
    ),
    Fault("yaw-sign", IMU, "error", ("-1.0",), at(IMU, scaled("angular_velocity", -1.0))),
    Fault("yaw-scale", IMU, "warn", ("2.0",), at(IMU, scaled("angular_velocity", 2.0))),
    Fault(
        "imu-constant",
        IMU,
        "warn",
        ("150 samples",),
        at(IMU, lambda m, *_: bags.imu(stamp_ns(m))),
    ),
    Fault(
        "imu-orientation",
        IMU,
        "error",
        ("pose.imu_orientation",),
        lambda r: r,
        ("pose.imu_orientation=local",),
    ),
    Fault(
        "covariance",
        IMU,
        "info",
        ("angular_velocity_covariance is all zero in 150 of 150", "pose.gyro_noise"),
        at(IMU, setting(angular_velocity_covariance=np.zeros(9))),
    ),
    Fault(
        "covariance",
        IMU,
        "error",
        ("linear_acceleration_covariance is -1",),
        at(IMU, setting(linear_acceleration_covariance=np.array([-1.0, *[0.0] * 8]))),
    ),
    Fault(
        "covariance",
        IMU,
        "warn",
        ("absurdly small",),
        at(IMU, setting(angular_velocity_covariance=(np.eye(3) * 1e-14).ravel())),
    ),
]


def _slower(message: Any) -> Any:
    message.twist.twist.angular.z /= 3.0
    return message


WHEEL = [
    Fault(
        "wheel-speed",
        WHEELS,
        "error",
        ("300.0 m/s", "km/h"),
        at(WHEELS, setting(twist__twist__linear__x=300.0)),
    ),
    Fault(
        "sideways",
        WHEELS,
        "warn",
        ("2.00 m/s", "pose.nonholonomic"),
        at(WHEELS, setting(twist__twist__linear__y=2.0)),
    ),
    Fault("wheel-frame", WHEELS, "info", ("axle",), at(WHEELS, setting(child_frame_id="axle"))),
    Fault(
        "covariance",
        WHEELS,
        "info",
        ("60 of 60", "pose.wheel_sigma_mps"),
        at(WHEELS, setting(twist__covariance=np.zeros(36))),
    ),
]


@pytest.mark.parametrize("fault", [*CLOUDS, *CAMERAS, *GPSES, *IMUS, *WHEEL], ids=str)
def test_a_fault_of_the_content_is_named(
    fault: Fault, healthy_rows: Rows, healthy: Report, tmp_path: Path
) -> None:
    check_fault(fault, healthy_rows, healthy, tmp_path)


def test_an_imu_on_its_side_with_the_mounting_in_tf_is_in_order(
    healthy_rows: Rows, tmp_path: Path
) -> None:
    """GIVEN data turned by 90 degrees and a link that says so, THEN nothing is said of it."""

    def mount(message: Any, *_: int) -> Any:
        for link in message.transforms:
            if link.child_frame_id == "imu":
                # base from imu: the data were turned by +90 about x, the sensor by as much.
                q = link.transform.rotation
                q.x, q.w = np.sqrt(0.5), np.sqrt(0.5)
        return message

    rows = doctor_bags.change(healthy_rows, IMU, turned(90.0))
    rows = doctor_bags.change(rows, TF_STATIC, mount)
    report = examine_bag(doctor_bags.write(tmp_path / "bag", rows))
    assert find(report, "imu-mounting") == []


@pytest.mark.parametrize(
    ("shift_s", "words"), [(0.0, "start"), (-0.05, "middle"), (-0.0999, "end")]
)
def test_what_was_recognized_of_the_times_is_said(
    healthy_rows: Rows, tmp_path: Path, shift_s: float, words: str
) -> None:
    rows = doctor_bags.change(
        healthy_rows, LIDAR, columns(lambda c, _: np.hstack([c[:, :4], c[:, 4:] + shift_s]))
    )
    report = examine_bag(doctor_bags.write(tmp_path / "bag", rows))
    (found,) = find(report, "point-times", LIDAR)
    assert f"the stamp is the {words} of the sweep" in found.seen
    assert "field 't', s" in found.seen


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.zeros((3, 3)), covariance.ZERO),
        (np.diag([-1.0, 0, 0]), covariance.NOT_MEASURED),
        (np.diag([1.0, -2.0, 1.0]), covariance.NEGATIVE),
        (np.diag([-1.0, 1.0, 1.0]), covariance.NEGATIVE),
        (lopsided(), covariance.NOT_SYMMETRIC),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), covariance.INDEFINITE),
        (np.eye(3) * 1e-15, covariance.TINY),
        (np.eye(3) * 1e9, covariance.HUGE),
        (np.diag([1.0, 0.0, 0.0]), covariance.GOOD),  # an axis that is not measured
        (np.diag([0.01, 1e9, 1e9]), covariance.GOOD),
        (np.eye(6) * 1e-4, covariance.GOOD),
    ],
)
def test_the_fault_of_a_covariance(matrix: Any, expected: str) -> None:
    assert covariance.fault(matrix, marked=expected == covariance.NOT_MEASURED) == expected
