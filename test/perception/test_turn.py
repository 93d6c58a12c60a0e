"""A turn of 90 degrees a second: every sweep at the set's stamp, every camera at its exposure."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import scenes
import turning
import yaml

from mm_fusion.config import DeskewConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.clouds import CloudPlacer, Mounted
from mm_fusion.perception.contract import parse_contract
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.staging import Staging
from mm_fusion.samples import CameraFrame, Reason, SyncedSet

T0 = scenes.T0
LIDAR = (0.4, 0.1, 1.8, 0.01, -0.02, 0.5)
AHEAD_OF_US = turning.ring_of_points(400)
CAMERAS = {  # optical frames: looking ahead, and half to the left
    "ahead": (1.6, 0.0, 1.4, -np.pi / 2, 0.0, -np.pi / 2),
    "left": (1.2, 0.5, 1.4, -np.pi / 2, 0.0, -np.pi / 2 + 0.8),
}
EXPOSED_S = {"ahead": -0.040, "left": 0.015}
WIDTH, HEIGHT = 640, 384


def placed(sweep, motion, stamp_ns=T0):
    rotation, at = turning.mounting(LIDAR)
    lidar = Mounted(sweep, RigidTransform(rotation, at), sweep.stamp_ns)
    return CloudPlacer().place([lidar], stamp_ns, motion)[0]


def worst_m(sweep, motion):
    """Largest distance of a placed point from where it stands in the base frame at 0 s."""
    return np.linalg.norm(placed(sweep, motion).xyz.T - AHEAD_OF_US, axis=1).max()


def buffer_of(poses, base_from=None, **options):
    motion = MotionBuffer(DeskewConfig(**options), base_from)
    for pose in poses:
        assert motion.add(pose) is None
    return motion


SWEEPS = {  # begin, end, stamp
    "end": (-0.1, 0.0, 0.0),
    "middle": (-0.05, 0.05, 0.0),
    "start": (0.0, 0.1, 0.0),
}


@pytest.mark.parametrize("stamped", SWEEPS)
@pytest.mark.parametrize(
    ("rate_hz", "twist", "frame_id"),
    [
        (200, True, "odom"),
        (50, True, "odom"),
        (50, False, "odom"),
        (10, True, "wheel_odom"),
        (10, False, "camera_init"),
    ],
)
def test_a_sweep_is_right_to_two_centimetres_at_twenty_metres(rate_hz, twist, frame_id, stamped):
    # GIVEN an odometry of any rate and frame, with or without velocities, up to the sweep's end
    begin_s, end_s, stamp_s = SWEEPS[stamped]
    instants = np.arange(-0.6, end_s + 1e-9, 1.0 / rate_hz)
    motion = buffer_of(turning.poses(instants, twist, frame_id))
    sweep = turning.sweep_of(AHEAD_OF_US, LIDAR, begin_s, end_s, stamp_s)
    # THEN 2 cm at 20 m, where the raw sweep is metres off
    assert worst_m(sweep, motion) < 0.02
    assert worst_m(sweep, None) > 1.5
    assert placed(sweep, motion).deskewed


@pytest.mark.parametrize("twist", [True, False])
def test_an_odometry_that_is_behind_is_carried_on(twist):
    # GIVEN poses of 10 Hz whose newest is 90 ms older than the sweep's end
    motion = buffer_of(turning.poses(np.arange(-0.69, -0.085, 0.1), twist))
    sweep = turning.sweep_of(AHEAD_OF_US, LIDAR, -0.1, 0.0, 0.0)
    assert worst_m(sweep, motion) < 0.02


def test_jitter_of_a_filter_stays_within_two_centimetres():
    # GIVEN poses of 50 Hz, whose place jumps by centimetres and whose velocities are noisy
    rng = np.random.default_rng(6)
    poses = []
    for pose in turning.poses(np.arange(-0.6, 1e-9, 0.02)):
        where = pose.frame_from_base
        shaken = RigidTransform(
            where.rotation @ turning.turn(rng.normal(0.0, 0.002)),
            where.translation + rng.normal(0.0, 0.02, 3),
        )
        poses.append(
            dataclasses.replace(
                pose,
                frame_from_base=shaken,
                linear=pose.linear + rng.normal(0.0, 0.05, 3),
                angular=pose.angular + rng.normal(0.0, 0.005, 3),
            )
        )
    sweep = turning.sweep_of(AHEAD_OF_US, LIDAR, -0.1, 0.0, 0.0)
    assert worst_m(sweep, buffer_of(poses)) < 0.02


# ------------------------------------------------------------------------- whose motion it is


def body_poses(place, instants, twist):
    """The odometry of a body that sits on the base, its twist by differences of its own poses."""
    rotation, at = turning.mounting(place)
    out = []
    for pose in turning.poses(instants, twist, "lidar_odom"):
        base = pose.frame_from_base
        where = RigidTransform(base.rotation @ rotation, base.apply(at))
        spin = rotation.T @ pose.angular
        linear = rotation.T @ (pose.linear + np.cross(pose.angular, at))
        out.append(
            dataclasses.replace(
                pose, child_frame_id="body", frame_from_base=where, linear=linear, angular=spin
            )
        )
    return out


@pytest.mark.parametrize("twist", [True, False])
def test_an_odometry_of_another_body_moves_the_base(twist):
    # GIVEN the odometry of a LIDAR that sits ahead of the base, turned and tilted
    place = (1.5, 0.5, 1.0, 0.1, 0.2, 2.0)
    known = RigidTransform(*turning.mounting(place))
    poses = body_poses(place, np.arange(-0.6, 1e-9, 0.05), twist)
    sweep = turning.sweep_of(AHEAD_OF_US, LIDAR, -0.1, 0.0, 0.0)
    assert worst_m(sweep, buffer_of(poses, {"body": known}.get)) < 0.02
    # Taken for the base's own, it leads astray.
    assert worst_m(sweep, buffer_of(poses)) > 0.1


def test_an_odometry_of_an_unknown_body_is_refused():
    motion = MotionBuffer(DeskewConfig(), {}.get)
    answer = motion.add(turning.poses([0.0])[0])
    assert answer.reason is Reason.NO_EXTRINSICS
    assert "'base_link'" in answer.detail
    assert motion.odom_from_base(T0) is None
    # One that names no body is about the base.
    nameless = dataclasses.replace(turning.poses([0.0])[0], child_frame_id="")
    assert motion.add(nameless) is None


# ------------------------------------------------------------------------------- the cameras


class Stage:
    """Two cameras and a LIDAR on the turning robot."""

    def __init__(self, motion=True):
        places = {"lidar": LIDAR, **CAMERAS}
        self.config = scenes.config(
            topics__cameras=list(CAMERAS),
            calibration__extrinsics=[f"{n} " + " ".join(map(str, p)) for n, p in places.items()],
        )
        self.calibration = Calibration(self.config)
        self.models = {}
        for n, name in enumerate(CAMERAS):
            model = scenes.camera_model(WIDTH, HEIGHT, focal=0.7 + 0.1 * n)
            self.models[name] = dataclasses.replace(model, sensor=name, frame_id=name)
            self.calibration.set_camera(self.models[name])
        self.motion = MotionBuffer(self.config.deskew)
        for pose in turning.poses(np.arange(-0.4, 0.05, 0.02)) if motion else ():
            self.motion.add(pose)
        inputs = scenes.contract_values()["inputs"]
        inputs[1]["shape"], inputs[2]["shape"] = [2, HEIGHT, WIDTH, 3], [2, 3, 4]
        inputs[4]["shape"] = [2]
        values = scenes.contract_values(
            camera_slots=2,
            image_height_px=HEIGHT,
            image_width_px=WIDTH,
            inputs=inputs,
            range_m={"x": [-30.0, 30.0], "y": [-30.0, 30.0], "z": [-5.0, 9.0]},
        )
        self.staging = Staging(parse_contract(yaml.safe_dump(values), "net"), self.calibration)

    def fill(self):
        black = np.zeros((HEIGHT, WIDTH * 3), np.uint8)
        stamps = {n: T0 + round(s * 1e9) for n, s in EXPOSED_S.items()}
        frames = tuple(
            CameraFrame(n, stamp_ns, n, "rgb8", HEIGHT, WIDTH, WIDTH * 3, black)
            for n, stamp_ns in stamps.items()
        )
        sweep = turning.sweep_of(AHEAD_OF_US, LIDAR, -0.1, 0.0, 0.0)
        dt_ns = {"lidar": 0, **{n: s - T0 for n, s in stamps.items()}}
        synced = SyncedSet(T0, (sweep,), frames, dt_ns=dt_ns)
        return self.staging.fill(synced, self.motion, deskew=True)


def seen_at_exposure(name, model):
    """Pixels of the world's points in one camera when it exposed, by OpenCV's projection, and
    which of them it saw."""
    in_camera = np.array(
        [turning.seen_from(CAMERAS[name], EXPOSED_S[name], p) for p in AHEAD_OF_US]
    )
    seen = in_camera[:, 2] > 1.0
    pixels = cv2.projectPoints(in_camera, np.zeros(3), np.zeros(3), model.k, None)[0][:, 0]
    seen &= ((pixels > 0) & (pixels < [WIDTH, HEIGHT])).all(axis=1)
    return pixels, seen


def projected(stage, slot, points):
    matrix = stage.staging.inputs.pixel_from_base[slot].astype(float)
    uvw = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return uvw[:, :2] / uvw[:, 2:]


@pytest.mark.parametrize(("slot", "name"), list(enumerate(CAMERAS)))
def test_points_land_where_each_camera_saw_them_when_it_exposed(slot, name):
    # GIVEN a sweep of 100 ms, a camera that exposed within it and one that exposed after it
    stage = Stage()
    staged = stage.fill()
    assert staged.remarks == []
    pixels, seen = seen_at_exposure(name, stage.models[name])
    assert seen.sum() > 50
    # THEN the deskewed points, through the staged matrix, are where it saw them: half a pixel,
    # which is 2 cm at 20 m
    points = stage.staging.inputs.feeds()["points"][:, :3]
    error = np.linalg.norm(projected(stage, slot, points) - pixels, axis=1)[seen]
    assert error.max() < 0.5
    # AND neither the sweep nor the exposure may be taken as it is
    still = Stage(motion=False)
    assert len(still.fill().remarks) == 3  # the sweep and both cameras say so
    raw = still.staging.inputs.feeds()["points"][:, :3]
    assert np.median(np.linalg.norm(projected(stage, slot, raw) - pixels, axis=1)[seen]) > 5.0
    error = np.linalg.norm(projected(still, slot, points) - pixels, axis=1)[seen]
    assert error.max() > 5.0
