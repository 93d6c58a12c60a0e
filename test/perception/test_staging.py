"""What a set holds stands in the network's buffers, or is refused with its reason."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scenes
import yaml
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.contract import parse_contract
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.staging import Staging
from mm_fusion.perception.thinning import GOLDEN, thinned
from mm_fusion.samples import Reason, SyncedSet

T0 = scenes.T0


class Stage:
    """A staging area with its calibration and motion."""

    def __init__(self, **settings):
        self.config = scenes.config(**settings)
        self.calibration = Calibration(self.config)
        self.motion = MotionBuffer(self.config.deskew)
        text = yaml.safe_dump(scenes.contract_values())
        self.staging = Staging(parse_contract(text, "net.yaml"), self.calibration)
        self.inputs = self.staging.inputs

    def fill(self, sweep=None, frame=None, **options):
        dt_ns = {} if frame is None else {"camera": frame.stamp_ns - T0}
        synced = SyncedSet(T0, (sweep,), (frame,), dt_ns=dt_ns)
        return self.staging.fill(synced, self.motion, deskew=True, **options)

    def points(self):
        return self.inputs.feeds()["points"]


def in_base(points):
    """LIDAR coordinates to base coordinates, by scipy."""
    x, y, z, roll, pitch, yaw = scenes.LIDAR_AT
    turned = Rotation.from_euler("xyz", [roll, pitch, yaw]).apply(points)
    return np.add(turned, [x, y, z])


SOME = np.array([[1.0, 2.0, -1.0], [10.0, -5.0, 0.5], [-7.0, 3.0, 0.0]])


@pytest.mark.parametrize(("order", "kind"), [("<", "f4"), (">", "f4"), ("<", "f8"), (">", "f8")])
def test_points_stand_in_the_base_frame_in_their_order(order, kind):
    stage = Stage()
    staged = stage.fill(scenes.sweep(SOME, order=order, kind=kind))
    np.testing.assert_allclose(stage.points()[:, :3], in_base(SOME), atol=1e-6)
    assert staged.points_used == 3
    assert staged.has_points
    assert stage.inputs.has_points.tolist() == [1.0]
    assert stage.points().dtype == np.float32
    assert stage.points().flags.c_contiguous


def test_intensity_is_scaled_and_kept_within_bounds():
    stage = Stage()
    xyz = np.repeat(SOME[:1], 5, axis=0)
    stage.fill(scenes.sweep(xyz, intensity=[0, 51, 300, -5, np.nan]))
    np.testing.assert_allclose(stage.points()[:, 3], [0, 0.2, 1, 0, 0], atol=1e-6)


def test_age_is_seconds_before_the_stamp_never_negative():
    stage = Stage()
    stage.fill(scenes.sweep(SOME, seconds=[-0.1, 0.0, 0.05]))
    np.testing.assert_allclose(stage.points()[:, 4], [0.1, 0.0, 0.0], atol=1e-7)


def test_points_that_are_nowhere_or_outside_are_left_out():
    stage = Stage()
    bad = [[np.nan, 0, 0], [np.inf, 0, 0], [100, 0, 0], [0, 0, 9], [0, 0, -9], [0, -21, 0]]
    staged = stage.fill(scenes.sweep([*bad, *SOME]))
    np.testing.assert_allclose(stage.points()[:, :3], in_base(SOME), atol=1e-6)
    assert staged.points_used == 3
    assert not staged.rejections


@pytest.mark.parametrize(
    ("xyz", "reason"),
    [
        ([[np.nan, 0, 0]] * 3, Reason.NON_FINITE),
        (np.zeros((0, 3)), Reason.EMPTY_CLOUD),
        ([[500.0, 0, 0]] * 3, Reason.OUT_OF_RANGE),
    ],
)
def test_a_sweep_without_a_usable_point_is_refused(xyz, reason):
    stage = Stage()
    staged = stage.fill(scenes.sweep(xyz))
    assert [r.reason for r in staged.rejections] == [reason]
    assert staged.rejections[0].sensor == "lidar"
    assert not staged.has_points
    assert stage.inputs.has_points.tolist() == [0.0]
    assert stage.points().tolist() == [[0.0] * 5]


def test_too_many_points_are_thinned_and_said():
    """GIVEN points from 5 to 35 m, WHEN two of three fit, THEN the far ones all stay."""
    stage = Stage()
    x = np.linspace(5.0, 35.0, 3 * scenes.BUDGET // 2)
    staged = stage.fill(scenes.sweep(np.column_stack([x, 0 * x, 0 * x])))
    assert staged.points_used == len(stage.points())
    assert 0.97 * scenes.BUDGET <= staged.points_used <= scenes.BUDGET
    assert f"cloud thinned to {scenes.BUDGET} points" in staged.remarks
    kept = stage.points()[:, 0]
    assert (np.diff(kept) > 0).all()  # still in order
    all_of_them = x + 0.5  # the LIDAR sits there
    assert np.count_nonzero(kept > 30.0) == np.count_nonzero(all_of_them > 30.0)
    assert np.count_nonzero(kept < 10.0) < 0.4 * np.count_nonzero(all_of_them < 10.0)
    first = kept.copy()
    stage.fill(scenes.sweep(np.column_stack([x, 0 * x, 0 * x])))
    assert stage.points()[:, 0].tobytes() == first.tobytes()


@pytest.mark.parametrize("rings", [2, 16, 32, 64, 128])
def test_thinning_follows_no_ring_pattern(rings):
    # Points of a spinning LIDAR come ring by ring: every ring must keep its share.
    kept = thinned(np.full(64_000, 100.0, np.float32), 32_000)
    share = np.bincount(kept % rings) / (64_000 / rings)
    assert np.abs(share - 0.5).max() < 0.05
    assert abs(GOLDEN - (np.sqrt(5) - 1) / 2) < 1e-12


def test_thinning_levels_what_distance_makes_dense():
    """GIVEN surfaces with points by the inverse square, THEN near ones keep as many as others."""
    distances = np.array([4.0, 8.0, 12.0, 30.0, 60.0])
    counts = (64_000 * (4.0 / distances) ** 2).astype(int)
    cloud = np.repeat(distances, counts).astype(np.float32)
    kept = thinned(cloud * cloud, 12_000)
    assert 11_600 <= len(kept) <= 12_000
    left = [np.count_nonzero(cloud[kept] == d) for d in distances.astype(np.float32)]
    assert left[3:] == list(counts[3:])
    assert np.ptp(left[:2]) < 0.02 * left[0]


@pytest.mark.parametrize("cloud", [np.zeros(5000), np.full(5000, 1e-9), np.r_[np.zeros(4999), 1e6]])
def test_thinning_keeps_the_budget_whatever_the_cloud(cloud):
    kept = thinned(cloud.astype(np.float32), 1000)
    assert len(kept) <= 1000
    assert (np.diff(kept) > 0).all()
    assert len(thinned(cloud.astype(np.float32), 5000)) == 5000


def test_a_lidar_without_a_place_is_refused_and_the_camera_goes_on():
    stage = Stage()
    stage.calibration.set_camera(scenes.camera_model(200, 100))
    image = np.full((100, 200, 3), 80, np.uint8)
    staged = stage.fill(scenes.sweep(SOME, frame_id="unknown"), scenes.frame(image))
    assert [(r.sensor, r.reason) for r in staged.rejections] == [("lidar", Reason.NO_EXTRINSICS)]
    assert "'unknown'" in staged.rejections[0].detail
    assert (staged.has_points, staged.has_image) == (False, (True,))
    assert (stage.inputs.images == 80).all()


def test_a_camera_without_intrinsics_is_refused_and_the_lidar_goes_on():
    stage = Stage()
    staged = stage.fill(scenes.sweep(SOME), scenes.frame(np.zeros((100, 200, 3), np.uint8)))
    assert [(r.sensor, r.reason) for r in staged.rejections] == [("camera", Reason.NO_INTRINSICS)]
    assert (staged.has_points, staged.has_image) == (True, (False,))


def test_a_camera_without_a_place_is_refused():
    stage = Stage(calibration__extrinsics=["lidar 0 0 1 0 0 0"])
    stage.calibration.set_camera(scenes.camera_model(200, 100))
    staged = stage.fill(frame=scenes.frame(np.zeros((100, 200, 3), np.uint8)))
    assert [r.reason for r in staged.rejections] == [Reason.NO_EXTRINSICS]


def test_a_broken_jpeg_is_refused_and_its_slot_is_black():
    # GIVEN a good image, then a broken one
    stage = Stage()
    stage.calibration.set_camera(scenes.camera_model(200, 100))
    stage.fill(frame=scenes.frame(np.full((100, 200, 3), 200, np.uint8)))
    assert (stage.inputs.images == 200).all()
    staged = stage.fill(scenes.sweep(SOME), scenes.compressed(b"\xff\xd8\xff\x00\x00"))
    # THEN nothing of the good one is left
    assert [r.reason for r in staged.rejections] == [Reason.UNDECODABLE_IMAGE]
    assert staged.has_points
    assert stage.inputs.has_image.tolist() == [0.0]
    assert not stage.inputs.images.any()
    assert not stage.inputs.pixel_from_base.any()


def test_withheld_senses_leave_no_trace():
    stage = Stage()
    stage.calibration.set_camera(scenes.camera_model(200, 100))
    image = scenes.frame(np.full((100, 200, 3), 200, np.uint8))
    staged = stage.fill(scenes.sweep(SOME), image, use_camera=False)
    assert (staged.has_points, staged.has_image) == (True, (False,))
    assert not stage.inputs.images.any()
    staged = stage.fill(scenes.sweep(SOME), image, use_lidar=False)
    assert (staged.has_points, staged.has_image) == (False, (True,))
    assert stage.points().tolist() == [[0.0] * 5]
    assert not staged.rejections


def network_pixels(stage, points):
    """Where the staged matrix puts points given in base axes at the stamp."""
    uvw = (
        stage.inputs.pixel_from_base[0].astype(float)
        @ np.column_stack([points, np.ones(len(points))]).T
    )
    return (uvw[:2] / uvw[2]).T


def opencv_pixels(model, camera_from_points, points):
    """The same by OpenCV in the camera's own pixels, then resized by its convention."""
    rotation = cv2.Rodrigues(camera_from_points[:3, :3])[0]
    at = cv2.projectPoints(points, rotation, camera_from_points[:3, 3], model.k, None)[0][:, 0]
    scale = np.array([scenes.W / model.width, scenes.H / model.height])
    return (at + 0.5) * scale - 0.5


def base_from_camera():
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", scenes.CAMERA_AT[3:]).as_matrix()
    matrix[:3, 3] = scenes.CAMERA_AT[:3]
    return matrix


AHEAD = np.array([[8.0, 1.0, 0.5], [20.0, -4.0, 2.0], [30.0, 6.0, 0.0]])


def test_the_projection_agrees_with_opencv():
    stage = Stage()
    model = scenes.camera_model(640, 384)
    stage.calibration.set_camera(model)
    stage.fill(frame=scenes.frame(np.zeros((384, 640, 3), np.uint8)))
    expected = opencv_pixels(model, np.linalg.inv(base_from_camera()), AHEAD)
    np.testing.assert_allclose(network_pixels(stage, AHEAD), expected, atol=1e-3)


def test_the_projection_accounts_for_what_the_robot_moved_since_the_exposure():
    # GIVEN a robot that drives and turns, and an image taken 40 ms before the sweep's stamp
    stage = Stage()
    model = scenes.camera_model(640, 384)
    stage.calibration.set_camera(model)
    twist = np.array([[0, -0.8, 0, 9.0], [0.8, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    for ms in range(-200, 1, 10):
        at = expm(twist * ms / 1e3)
        where = RigidTransform(at[:3, :3], at[:3, 3])
        stage.motion.add(scenes.pose(T0 + ms * 1_000_000, where, (9, 0, 0), (0, 0, 0.8)))
    early = T0 - 40_000_000
    stage.fill(frame=scenes.frame(np.zeros((384, 640, 3), np.uint8), stamp_ns=early))
    # THEN standing points are seen from where the camera was 40 ms ago
    base_then_from_now = np.linalg.inv(expm(twist * -0.040))
    expected = opencv_pixels(model, np.linalg.inv(base_from_camera()) @ base_then_from_now, AHEAD)
    np.testing.assert_allclose(network_pixels(stage, AHEAD), expected, atol=1e-3)
    still = opencv_pixels(model, np.linalg.inv(base_from_camera()), AHEAD)
    assert np.abs(still - expected).max() > 1.0


def test_unknown_motion_between_exposure_and_stamp_is_said():
    stage = Stage()
    stage.calibration.set_camera(scenes.camera_model(640, 384))
    image = np.zeros((384, 640, 3), np.uint8)
    staged = stage.fill(frame=scenes.frame(image, stamp_ns=T0 - 40_000_000))
    assert staged.has_image == (True,)
    assert staged.remarks == ["camera: no ego motion between exposure and set"]
    assert stage.fill(frame=scenes.frame(image)).remarks == []


def test_a_cloud_that_could_not_be_deskewed_says_why():
    stage = Stage()
    staged = stage.fill(scenes.sweep(SOME, seconds=[-0.1, -0.05, 0.0]))
    assert staged.remarks == ["lidar: not deskewed: no ego motion"]
    assert stage.fill(scenes.sweep(SOME)).remarks == ["lidar: not deskewed: no time per point"]


def test_garbage_in_the_bytes_never_reaches_the_network():
    # GIVEN clouds of random bytes, as a broken sensor sends them
    stage = Stage()
    rng = np.random.default_rng(8)
    for _ in range(50):
        sweep = scenes.sweep(np.zeros((200, 3)), seconds=np.zeros(200), intensity=np.zeros(200))
        raw = rng.integers(0, 256, sweep.points.nbytes, dtype=np.uint8)
        sweep.points[:] = raw.view(sweep.points.dtype)
        staged = stage.fill(sweep)
        assert staged.has_points != bool(staged.rejections)
        assert np.isfinite(stage.points()).all()
        assert (stage.points()[:, 3] <= 1).all()
