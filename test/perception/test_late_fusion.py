"""Camera boxes and LIDAR points in made scenes: which points are whose, and what is boxed where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scenes
from support.small_detectors import write_detector

from mm_fusion.geometry import RigidTransform, box_corners, project
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.camera2d.associate import Seen
from mm_fusion.perception.camera2d.bodies import Look
from mm_fusion.perception.camera2d.contract import CameraContract, PictureInput
from mm_fusion.perception.camera2d.locate import Unnamed, locate, prior_of
from mm_fusion.perception.camera2d.network import CameraNetwork, Eye, blob
from mm_fusion.perception.camera2d.riders import with_riders
from mm_fusion.perception.ground import Ground
from mm_fusion.perception.obstacles import obstacle_points
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.samples import CameraFrame, CameraModel, Detection, FusionResult, SyncedSet

WIDTH, HEIGHT, FOCAL = 1240, 376, 720.0
K = np.array([[FOCAL, 0.0, 619.5], [0.0, FOCAL, 187.5], [0.0, 0.0, 1.0]])
CAMERA = RigidTransform.from_rpy([0.0, 0.0, 1.65], [-np.pi / 2, 0.0, -np.pi / 2])
PIXEL_FROM_BASE = K @ CAMERA.inverse().matrix()[:3]
SENSOR = np.array([0.0, 0.0, 1.73])

Box = tuple[tuple[float, float, float], tuple[float, float, float], float]


def surface(box: Box, step_m: float = 0.08) -> np.ndarray:
    """Points [N,3] on the faces of an upright box that a LIDAR at SENSOR can see, top aside."""
    center, size, yaw = (np.array(v, dtype=float) for v in box)
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    eye = turn.T @ (SENSOR[:2] - center[:2])
    points = []
    for axis in (0, 1):
        if abs(eye[axis]) > size[axis] / 2:
            other = 1 - axis
            across = np.arange(-size[other] / 2, size[other] / 2 + 1e-9, step_m)
            up = np.arange(-size[2] / 2 + 0.25, size[2] / 2 + 1e-9, 0.2)
            a, z = (m.ravel() for m in np.meshgrid(across, up))
            plane = np.zeros((len(a), 2))
            plane[:, axis] = np.sign(eye[axis]) * size[axis] / 2
            plane[:, other] = a
            points.append(np.column_stack([plane @ turn.T + center[:2], z + center[2]]))
    return np.concatenate(points)


def outline(box: Box) -> np.ndarray:
    """The perfect camera box of a box in space."""
    pixels, _ = project(PIXEL_FROM_BASE, box_corners(*box))
    found = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
    return np.clip(found, -0.5, [WIDTH - 0.5, HEIGHT - 0.5] * 2)


def visible(box: Box) -> np.ndarray:
    """The camera box of the part of a box that is in the picture, of boxes that reach beside or
    behind the camera."""
    corners = box_corners(*box)
    steps = np.linspace(0.0, 1.0, 60)[:, None, None]
    lines = (corners * (1 - steps))[:, :, None] + (corners * steps)[:, None]
    pixels, front = project(PIXEL_FROM_BASE, lines.reshape(-1, 3))
    pixels = pixels[front]
    limit = np.array([WIDTH - 0.5, HEIGHT - 0.5])
    pixels = pixels[((pixels >= -0.5) & (pixels <= limit)).all(axis=1)]
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def seen(box: Box | np.ndarray, label: str = "car", kind: str = "", score: float = 0.9) -> Seen:
    edges = box if isinstance(box, np.ndarray) else outline(box)
    return Seen(edges, score, label, kind or label, prior_of(label, kind or label))


def located(
    boxes: list[Seen], points: list[np.ndarray], unnamed: Unnamed | None = None
) -> list[Detection]:
    xyz = np.concatenate([np.zeros((0, 3)), *points]).T.astype(np.float32)
    nothing = Ground(np.zeros(xyz.shape[1], np.bool_), xyz[2].copy())
    look = Look(boxes, PIXEL_FROM_BASE, (WIDTH, HEIGHT))
    return locate([look], xyz, nothing, 60.0, SENSOR[:2], unnamed)


def axis_error(found: float, true: float) -> float:
    """Between headings, front and back alike."""
    return abs((found - true + np.pi / 2) % np.pi - np.pi / 2)


# ------------------------------------------------------------------------- boxes in space


@pytest.mark.parametrize(
    ("place", "yaw"),
    [
        ((9.0, 0.4), 0.0),  # ahead, seen from behind: the rear face alone
        ((25.0, 0.0), 0.0),
        ((12.0, 3.5), 0.1),  # rear and side
        ((14.0, -6.0), 1.5),  # across the road
        ((20.0, 5.0), np.pi),  # oncoming
        ((18.0, 4.0), -0.7),
        ((35.0, -3.0), 0.05),
    ],
)
def test_a_car_is_boxed_whole_although_only_its_near_faces_are_seen(
    place: tuple[float, float], yaw: float
) -> None:
    """GIVEN points on the near faces of a car of 4.2 m and its camera box
    WHEN it is located
    THEN the centre is behind the faces, within half a metre, and the axis within ten degrees."""
    car: Box = ((*place, 0.75), (4.2, 1.75, 1.5), yaw)
    (found,) = located([seen(car)], [surface(car)])
    assert found.source == "camera2d"
    assert np.linalg.norm(found.center[:2] - place) < 0.5
    assert abs(found.center[2] - 0.75) < 0.2
    assert axis_error(found.yaw, yaw) < np.deg2rad(10)
    assert found.size == pytest.approx([4.2, 1.75, 1.5], abs=0.6)
    assert found.covariance is not None
    off = np.append(found.center[:2] - place, 0.0)[:2]
    assert off @ np.linalg.solve(found.covariance[:2, :2], off) < 9.0  # three sigmas


def test_length_is_less_sure_than_width_where_only_the_rear_is_seen() -> None:
    car: Box = ((15.0, 0.0, 0.75), (4.2, 1.75, 1.5), 0.0)
    (found,) = located([seen(car)], [surface(car)])
    assert found.covariance is not None
    assert found.covariance[0, 0] > 1.5 * found.covariance[1, 1]


def test_what_stands_before_and_behind_is_not_the_car() -> None:
    """GIVEN a car, a post before it and a wall behind it, all within the car's camera box
    WHEN the car is located
    THEN neither moves it."""
    car: Box = ((20.0, 1.0, 0.75), (4.2, 1.75, 1.5), 0.0)
    post: Box = ((12.0, 0.8, 0.6), (0.1, 0.1, 1.2), 0.0)
    wall: Box = ((30.0, 0.0, 1.5), (0.3, 30.0, 3.0), 0.0)
    points = [surface(car), surface(post, 0.03), surface(wall)]
    (found,) = located([seen(car)], points)
    assert np.linalg.norm(found.center[:2] - (20.0, 1.0)) < 0.6


def test_of_two_cars_in_a_row_each_gets_its_own_points() -> None:
    near: Box = ((12.0, -2.5, 0.75), (4.2, 1.75, 1.5), 0.0)
    far: Box = ((20.0, -3.0, 0.75), (4.2, 1.75, 1.5), 0.0)
    hidden = surface(far)
    hidden = hidden[hidden[:, 1] > -3.2]  # the near car hides a part of the far one
    found = located([seen(far, score=0.95), seen(near, score=0.6)], [surface(near), hidden])
    places = sorted(float(d.center[0]) for d in found)
    assert len(found) == 2
    assert places == pytest.approx([12.0, 20.0], abs=0.8)


def test_people_side_by_side_are_two_although_one_cluster() -> None:
    left: Box = ((10.0, 0.3, 0.85), (0.35, 0.45, 1.7), 0.0)
    right: Box = ((10.2, -0.25, 0.85), (0.35, 0.45, 1.7), 0.0)
    boxes = [seen(left, "pedestrian"), seen(right, "pedestrian", score=0.8)]
    found = located(boxes, [surface(left, 0.05), surface(right, 0.05)])
    assert [d.label for d in found] == ["pedestrian", "pedestrian"]
    assert np.linalg.norm(found[0].center[:2] - (10.0, 0.3)) < 0.4
    assert np.linalg.norm(found[1].center[:2] - (10.2, -0.25)) < 0.4


def test_what_the_detector_sees_twice_is_boxed_once() -> None:
    car: Box = ((12.0, 0.0, 0.75), (4.2, 1.75, 1.5), 0.0)
    shifted = outline(car) + np.array([8.0, 6.0, -5.0, 2.0])
    again = seen(shifted, score=0.55)
    (found,) = located([again, seen(car)], [surface(car)])
    assert found.score == 0.9


def test_what_two_cameras_see_is_boxed_once() -> None:
    """GIVEN two cars in a row and two cameras that both see both
    THEN there are two boxes, each with the better one of its scores."""
    cars: list[Box] = [((x, 0.5, 0.75), (4.2, 1.75, 1.5), 0.0) for x in (10.0, 16.0)]
    xyz = np.concatenate([surface(car) for car in cars]).T.astype(np.float32)
    nothing = Ground(np.zeros(xyz.shape[1], np.bool_), xyz[2].copy())
    looks = [
        Look([seen(car, score=score) for car in cars], PIXEL_FROM_BASE, (WIDTH, HEIGHT))
        for score in (0.7, 0.8)
    ]
    found = locate(looks, xyz, nothing, 60.0, SENSOR[:2], None)
    assert [d.score for d in found] == [0.8, 0.8]
    assert abs(found[0].center[0] - found[1].center[0]) > 4.0


def test_a_bus_is_larger_than_a_car() -> None:
    bus: Box = ((18.0, 6.0, 1.55), (10.5, 2.55, 3.1), 0.0)
    (found,) = located([seen(bus, "car", "bus")], [surface(bus)])
    assert found.label == "car"
    assert np.linalg.norm(found.center[:2] - (18.0, 6.0)) < 1.0
    assert found.size[0] > 7.5


@pytest.mark.parametrize(("place", "yaw"), [((4.2, 3.0), 0.0), ((3.2, -3.2), 0.1)])
def test_a_car_that_the_border_cuts_off_is_boxed_whole(
    place: tuple[float, float], yaw: float
) -> None:
    """GIVEN a car close by, the most of which is beyond the picture but not beyond the LIDAR
    WHEN it is located by the camera box of what can be seen of it
    THEN the centre is that of the whole car."""
    car: Box = ((*place, 0.75), (4.2, 1.75, 1.5), yaw)
    (found,) = located([seen(visible(car))], [surface(car)])
    assert np.linalg.norm(found.center[:2] - place) < 0.5
    assert axis_error(found.yaw, yaw) < np.deg2rad(10)


def test_a_wall_beside_a_car_is_no_part_of_it() -> None:
    """GIVEN a car parked a hand's breadth from a wall twice as high, half in the picture
    WHEN it is located
    THEN the wall does not turn or move it."""
    car: Box = ((4.2, 3.0, 0.75), (4.2, 1.75, 1.5), 0.0)
    wall: Box = ((4.2, 4.2, 1.4), (9.0, 0.2, 2.8), 0.0)
    (found,) = located([seen(visible(car))], [surface(car), surface(wall)])
    assert np.linalg.norm(found.center[:2] - (4.2, 3.0)) < 0.5
    assert axis_error(found.yaw, 0.0) < np.deg2rad(10)


def test_what_a_car_hides_part_of_is_not_farther_than_its_points() -> None:
    """GIVEN a walker whose legs are hidden, so that the camera box is half as tall as usual, and a
    fence behind
    WHEN the walker is located
    THEN it is where its own points are, although the box's height tells twice the range."""
    walker: Box = ((14.0, 1.0, 1.25), (0.35, 0.5, 0.9), 0.0)
    fence: Box = ((24.0, 0.0, 0.8), (0.1, 20.0, 1.6), 0.0)
    points = [surface(walker, 0.1), surface(fence, 0.2)]
    (found,) = located([seen(walker, "pedestrian")], points)
    assert np.linalg.norm(found.center[:2] - (14.0, 1.0)) < 0.5


@pytest.mark.parametrize(
    ("height", "length", "kind"),
    [(1.5, 4.1, "car"), (2.2, 5.2, "car"), (2.2, 5.2, "truck"), (3.4, 9.0, "truck")],
)
def test_vehicles_seen_from_behind_are_as_long_as_others_of_their_height(
    height: float, length: float, kind: str
) -> None:
    """Detectors call vans cars and lorries."""
    rear: Box = ((12.0 + length / 2, 0.0, height / 2), (length, 1.9, height), 0.0)
    (found,) = located([seen(rear, "car", kind)], [surface(rear)])
    assert np.linalg.norm(found.center[:2] - rear[0][:2]) < 0.8


# --------------------------------------------------------------------------- one sense alone


def test_a_camera_box_without_points_is_a_bearing_with_an_unsure_range() -> None:
    """GIVEN the camera box of a car 30 m away and not one point
    WHEN it is located
    THEN the direction is right, the range is as the height tells, and unsure along the ray only."""
    car: Box = ((30.0, 6.0, 0.75), (4.2, 1.75, 1.5), 0.0)
    (found,) = located([seen(car)], [])
    assert found.source == "bearing"
    assert found.score < 0.9
    bearing = np.arctan2(found.center[1], found.center[0])
    assert bearing == pytest.approx(np.arctan2(6.0, 30.0), abs=0.02)
    assert found.covariance is not None
    ray = np.append(found.center[:2], 0.0) / np.linalg.norm(found.center[:2])
    along = np.sqrt(ray @ found.covariance[:3, :3] @ ray)
    across = np.array([-ray[1], ray[0], 0.0])
    assert along > 2.0
    assert np.sqrt(across @ found.covariance[:3, :3] @ across) < along / 3.0
    assert abs(np.linalg.norm(found.center[:2]) - np.hypot(30.0, 6.0)) < 2.0 * along


def test_a_cut_off_box_without_points_says_nothing() -> None:
    cut = np.array([500.0, 100.0, 700.0, HEIGHT - 0.5])
    assert located([seen(cut)], []) == []


def test_clusters_without_a_name_are_unknown_obstacles() -> None:
    """GIVEN a bin beside the road, a wall, and a named car
    WHEN unknown obstacles are asked for
    THEN the bin is one; the wall is too large, and the car is no obstacle twice."""
    car: Box = ((12.0, 0.0, 0.75), (4.2, 1.75, 1.5), 0.0)
    bin_: Box = ((10.0, -5.0, 0.5), (0.6, 0.6, 1.0), 0.0)
    wall: Box = ((20.0, 10.0, 1.5), (25.0, 0.3, 3.0), 0.0)
    points = [surface(car), surface(bin_), surface(wall)]
    found = located([seen(car)], points, Unnamed())
    assert [(d.label, d.source) for d in found] == [("car", "camera2d"), ("unknown", "cluster")]
    assert np.linalg.norm(found[1].center[:2] - (10.0, -5.0)) < 0.4
    assert found[1].covariance is not None


def test_no_points_and_no_boxes_is_nothing() -> None:
    assert located([], []) == []
    assert located([], [np.zeros((0, 3))], Unnamed()) == []


# --------------------------------------------------------------------------------- riders


def test_a_person_on_a_bicycle_is_one_cyclist() -> None:
    bicycle = seen(np.array([100.0, 150.0, 160.0, 210.0]), "cyclist", "bicycle")
    rider = seen(np.array([110.0, 100.0, 150.0, 195.0]), "pedestrian", "person")
    walker = seen(np.array([300.0, 100.0, 330.0, 210.0]), "pedestrian", "person")
    found = with_riders([walker, rider, bicycle])
    assert [s.label for s in found] == ["pedestrian", "cyclist"]
    assert found[1].box.tolist() == [100.0, 100.0, 160.0, 210.0]


def test_somebody_standing_before_a_bicycle_does_not_ride_it() -> None:
    bicycle = seen(np.array([100.0, 150.0, 160.0, 210.0]), "cyclist", "bicycle")
    before = seen(np.array([110.0, 60.0, 150.0, 240.0]), "pedestrian", "person")
    assert len(with_riders([before, bicycle])) == 2


# ------------------------------------------------------------------------------- pictures


def contract(fit: str, **picture: object) -> CameraContract:
    values = {"name": "images", "width_px": 640, "height_px": 640, "fit": fit, **picture}
    return CameraContract(
        "made", "net.onnx", "", "yolov8", PictureInput(**values), ("o",), ("car",), {"car": "car"}
    )


@pytest.mark.parametrize(
    ("fit", "on_canvas"),
    [
        # 1240 x 376 at 640/1240 is 640 x 194; (640 - 194) // 2 = 223 rows above
        ("letterbox", (0.0, 223.0, 640.0, 417.0)),
        ("letterbox_top_left", (0.0, 0.0, 640.0, 194.0)),
        ("stretch", (0.0, 0.0, 640.0, 640.0)),
    ],
)
def test_boxes_find_back_from_the_canvas_into_the_camera(
    fit: str, on_canvas: tuple[float, float, float, float]
) -> None:
    """The area that a white picture covers is the whole picture: from edge to edge."""
    model = CameraModel("camera", "camera", HEIGHT, WIDTH, K)
    eye = Eye(contract(fit, pad=0), model)
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    eye.put(scenes.frame(white))
    rows, columns = np.nonzero(eye.canvas[..., 0] == 255)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == on_canvas
    whole = eye.in_camera(np.array([on_canvas]))
    assert whole[0] == pytest.approx([-0.5, -0.5, WIDTH - 0.5, HEIGHT - 0.5])


def test_the_picture_goes_in_as_the_contract_says() -> None:
    canvas = np.zeros((4, 6, 3), np.uint8)
    canvas[...] = (10, 20, 30)  # red, green, blue
    picture = PictureInput("x", 6, 4, colour_order="BGR", mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    fed = blob(canvas, picture)
    assert (fed.shape, fed.dtype) == ((1, 3, 4, 6), np.float32)
    assert fed[0, :, 0, 0] == pytest.approx([(30 - 1) / 2, (20 - 2) / 4, (10 - 3) / 8])


# --------------------------------------------------------------------------- the whole road


def road(tmp_path: Path, rows: np.ndarray, **more: object) -> tuple[PerceptionPipeline, object]:
    """A pipeline with a detector that answers ``rows`` [N,84], and its calibration."""
    out = np.zeros((8400, 84))
    out[: len(rows)] = rows
    path = write_detector(tmp_path / "net.onnx", {"output0": out.T[None]})
    config = scenes.config(detector="camera2d", model=str(path), network__provider="cpu", **more)
    calibration = Calibration(config)
    network = CameraNetwork.from_config(config)
    return PerceptionPipeline(config, network, calibration), calibration


def test_the_pipeline_boxes_a_car_from_a_picture_and_a_sweep(tmp_path: Path) -> None:
    """GIVEN a detector that sees a car in the picture's middle, and a car's rear 12 m ahead
    WHEN the set is processed
    THEN there is one car, boxed behind its rear, and the mode says that both senses took part."""
    row = np.zeros((1, 84))
    # the camera's box on the canvas of 640 x 640, for a picture of 320 x 320
    box_px = camera_box((13.0, 0.0, 0.75), 320)
    scale = 640.0 / 320.0
    left, top, right, bottom = ((box_px + 0.5) * scale).tolist()
    row[0, :4] = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    row[0, 4 + 2] = 0.8
    pipeline, calibration = road(tmp_path, row)
    result = pipeline.process(a_set(calibration))
    assert isinstance(result, FusionResult)
    assert result.mode.value == "camera+lidar"
    cars = [d for d in result.detections if d.label == "car"]
    assert len(cars) == 1
    assert np.linalg.norm(cars[0].center[:2] - (13.0, 0.0)) < 0.6
    assert result.rejections == ()


def test_the_ground_is_found_once_for_boxes_and_obstacles(tmp_path: Path) -> None:
    """GIVEN a result of late fusion, which needs the ground
    WHEN the obstacles of its set are made with the ground that it found, and anew
    THEN they are the same, point by point, and of what stands on it there are some."""
    pipeline, calibration = road(tmp_path, np.zeros((0, 84)))
    assert isinstance(calibration, Calibration)
    synced = a_set(calibration)
    result = pipeline.process(synced)
    assert result.ground is not None
    config = scenes.config()
    anew = obstacle_points(synced, calibration, config, pipeline.motion)
    shared = obstacle_points(synced, calibration, config, pipeline.motion, ground=result.ground)
    assert anew is not None
    assert shared is not None
    assert len(anew) > 20
    np.testing.assert_array_equal(shared, anew)


def test_the_ground_of_a_cloud_with_broken_points_is_not_handed_on(tmp_path: Path) -> None:
    pipeline, calibration = road(tmp_path, np.zeros((0, 84)))
    synced = a_set(calibration)
    sweep = synced.lidars[0]
    assert sweep is not None
    sweep.points["x"][5] = np.nan
    assert pipeline.process(synced).ground is None


def test_a_camera_without_calibration_costs_the_names_only(tmp_path: Path) -> None:
    """GIVEN no CameraInfo
    WHEN the set is processed
    THEN the picture is refused with its reason, and the car is an unknown obstacle."""
    pipeline, calibration = road(tmp_path, np.zeros((0, 84)))
    result = pipeline.process(a_set(calibration, intrinsics=False))
    assert result.mode.value == "lidar"
    assert [r.reason.value for r in result.rejections] == ["no_intrinsics"]
    assert {d.label for d in result.detections} == {"unknown"}


def camera_box(center: tuple[float, float, float], side_px: int) -> np.ndarray:
    model = scenes.camera_model(side_px, side_px)
    base_from_camera = RigidTransform.from_rpy(scenes.CAMERA_AT[:3], scenes.CAMERA_AT[3:])
    matrix = model.k @ base_from_camera.inverse().matrix()[:3]
    pixels, _ = project(matrix, box_corners(center, (4.2, 1.75, 1.5), 0.0))
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def a_set(calibration: object, intrinsics: bool = True) -> SyncedSet:
    """A picture, and a sweep of flat ground with a car on it, 13 m ahead."""
    assert isinstance(calibration, Calibration)
    if intrinsics:
        calibration.set_camera(scenes.camera_model(320, 320))
    car: Box = ((13.0, 0.0, 0.75), (4.2, 1.75, 1.5), 0.0)
    x, y = (m.ravel() for m in np.meshgrid(np.arange(3.0, 30, 0.3), np.arange(-12.0, 12, 0.3)))
    ground = np.column_stack([x, y, np.zeros_like(x)])
    under = (np.abs(ground[:, 0] - 13.0) < 2.1) & (np.abs(ground[:, 1]) < 0.9)
    points = np.concatenate([surface(car), ground[~under]]) - scenes.LIDAR_AT[:3]
    frame: CameraFrame = scenes.frame(np.full((320, 320, 3), 128, np.uint8))
    return SyncedSet(scenes.T0, (scenes.sweep(points),), (frame,), dt_ns={"lidar": 0, "camera": 0})


def test_what_the_border_cuts_off_may_be_nearer_but_not_farther() -> None:
    """GIVEN a cyclist close by, of whom the picture shows the upper part, and a hedge far behind
    that fills the box better
    WHEN he is located
    THEN he is where he is: what shows so much of a height cannot be that far away."""
    near: Box = ((5.0, 0.5, 0.9), (0.3, 0.5, 1.7), 0.0)
    hedge: Box = ((22.0, 2.2, 0.75), (0.5, 2.0, 3.3), 0.0)
    cut = outline(near)
    cut[3] = HEIGHT - 0.5
    points = surface(near, 0.1)
    points = points[points[:, 2] > 1.2]
    (found,) = located([seen(cut, "cyclist")], [points, surface(hedge, 0.05)])
    assert np.linalg.norm(found.center[:2] - (5.0, 0.5)) < 0.6
