"""Payloads are viewed, never copied, from the message's bytes to the network's input buffers."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
import scenes
import yaml

from mm_fusion import wire
from mm_fusion.nodes.handover import NewestWins
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.contract import parse_contract
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.staging import Staging
from mm_fusion.samples import CameraFrame, LidarSweep, SyncedSet
from mm_fusion.sync import Synchronizer
from mm_fusion.wire import encode

IMAGE, CLOUD = "sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2"
POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("t", "<u4")])
HEIGHT, WIDTH, POINTS = 1080, 1920, 120_000


def span(data: Any) -> tuple[int, int]:
    """First address and the one behind the last."""
    return np.lib.array_utils.byte_bounds(np.asarray(data))


def inside(view: Any, raw: bytearray) -> bool:
    """Whether an array lies in the memory of a message."""
    (low, high), (first, behind) = span(view), span(np.frombuffer(raw, np.uint8))
    return first <= low < high <= behind


@pytest.fixture
def image() -> bytearray:
    """A serialized 1080p image, all dark."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return bytearray(encode.encode_image(pixels, "rgb8", scenes.T0, "camera"))


@pytest.fixture
def cloud() -> bytearray:
    """A serialized sweep of 120 000 points in one place."""
    points = np.zeros(POINTS, POINT)
    points["x"], points["z"] = 5.0, -1.0
    points["t"] = np.linspace(0, 99_000_000, POINTS)
    return bytearray(encode.encode_pointcloud2(points, scenes.T0, "lidar"))


@pytest.fixture
def synced(image: bytearray, cloud: bytearray) -> SyncedSet:
    """What the worker gets of the two, by the way that they take in the node."""
    config = scenes.config()
    synchronizer = Synchronizer(config.sync, ["lidar"], ["camera"])
    queue: NewestWins[Any, SyncedSet] = NewestWins(1)
    for kind, raw, sensor in ((IMAGE, image, "camera"), (CLOUD, cloud, "lidar")):
        sample = wire.decode(kind, raw, sensor, wire.Lidars(), scenes.T0)
        assert isinstance(sample, CameraFrame | LidarSweep)
        for answer in synchronizer.add(sample):
            assert isinstance(answer, SyncedSet)
            queue.put(answer)
    for answer in synchronizer.flush():
        assert isinstance(answer, SyncedSet)
        queue.put(answer)
    got: list[SyncedSet] = []
    queue.close()
    queue.run(lambda _: None, got.append)
    assert len(got) == 1
    return got[0]


def staging() -> Staging:
    """Input buffers of 64 x 128 pixels and 500 points."""
    calibration = Calibration(scenes.config())
    calibration.set_camera(scenes.camera_model(WIDTH, HEIGHT))
    contract = parse_contract(yaml.safe_dump(scenes.contract_values()), "net.yaml")
    return Staging(contract, calibration)


def test_what_reaches_the_staging_lies_in_the_messages(
    synced: SyncedSet, image: bytearray, cloud: bytearray
) -> None:
    frame, sweep = synced.cameras[0], synced.lidars[0]
    assert frame is not None
    assert sweep is not None
    assert frame.data.nbytes == HEIGHT * WIDTH * 3
    assert sweep.points.nbytes == POINTS * POINT.itemsize
    assert inside(frame.data, image)
    assert inside(sweep.points, cloud)


def test_the_staging_itself_reads_the_messages(
    synced: SyncedSet, image: bytearray, cloud: bytearray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN ears at what reads pixels and coordinates
    sources: list[Any] = []
    for module, name, position in ((cv2, "resize", 0), (np, "copyto", 1)):
        honest = getattr(module, name)

        def listening(*args: Any, f: Any = honest, n: int = position, **options: Any) -> Any:
            sources.append(args[n])
            return f(*args, **options)

        monkeypatch.setattr(module, name, listening)
    staged = staging().fill(synced, MotionBuffer(scenes.config().deskew), deskew=False)
    monkeypatch.undo()
    # THEN the first thing to look at all pixels, and at each coordinate of all points, looks there
    assert staged.has_points
    assert staged.has_image == (True,)
    pixels = [s for s in sources if inside(s, image)]
    assert sum(s.nbytes for s in pixels) == HEIGHT * WIDTH * 3
    numbers = [s for s in sources if inside(s, cloud)]
    assert sum(s.size for s in numbers) == 3 * POINTS


def test_what_changes_in_the_message_changes_in_the_set(
    synced: SyncedSet, image: bytearray, cloud: bytearray
) -> None:
    # GIVEN a set whose messages are overwritten when it is already on its way
    frame, sweep = synced.cameras[0], synced.lidars[0]
    assert frame is not None
    assert sweep is not None
    start = span(frame.data)[0] - span(np.frombuffer(image, np.uint8))[0]
    image[start : start + frame.data.nbytes] = b"\xff" * frame.data.nbytes
    start = span(sweep.points)[0] - span(np.frombuffer(cloud, np.uint8))[0]
    moved = sweep.points.copy()
    moved["x"] = 7.0
    cloud[start : start + moved.nbytes] = moved.tobytes()
    # WHEN it is staged, THEN what the messages hold now is what the network gets
    stage = staging()
    stage.fill(synced, MotionBuffer(scenes.config().deskew), deskew=False)
    assert (stage.inputs.images[0] == 255).all()
    lidar_x = scenes.LIDAR_AT[0]
    np.testing.assert_allclose(stage.inputs.points[: stage.inputs.point_count, 0], 7.0 + lidar_x)


def test_viewing_takes_no_memory(image: bytearray, cloud: bytearray) -> None:
    lidars = wire.Lidars()
    for kind, raw in ((IMAGE, image), (CLOUD, cloud)):
        wire.decode(kind, raw, "s", lidars)
        tracemalloc.start()
        sample = wire.decode(kind, raw, "s", lidars)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert dataclasses.is_dataclass(sample)
        assert taken < 40_000
