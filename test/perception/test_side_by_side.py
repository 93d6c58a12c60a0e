"""Pictures of several cameras, decoded and resized side by side: the same, only sooner."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import scenes
import yaml

from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.contract import parse_contract
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.staging import Staged, Staging
from mm_fusion.samples import CameraFrame, SyncedSet

SLOTS = 5
SIZE = (100, 200)
NAMES = [f"camera_{n}" for n in range(SLOTS)]


def staging(each: Any) -> Staging:
    """Five cameras in one place, the fourth without intrinsics."""
    extrinsics = [f"{name} 1 0 1.5 -1.57 0 -1.57" for name in NAMES]
    calibration = Calibration(scenes.config(calibration__extrinsics=extrinsics))
    for name in (*NAMES[:3], NAMES[4]):
        model = scenes.camera_model(SIZE[1], SIZE[0], "plumb_bob", (-0.1, 0.02, 0.0, 0.0, 0.0))
        calibration.set_camera(dataclasses.replace(model, sensor=name, frame_id=name))
    values = scenes.contract_values(camera_slots=SLOTS)
    for tensor, shape in (("images", [SLOTS, 64, 128, 3]), ("pixel_from_base", [SLOTS, 3, 4])):
        next(i for i in values["inputs"] if i["name"] == tensor)["shape"] = shape
    next(i for i in values["inputs"] if i["name"] == "has_image")["shape"] = [SLOTS]
    return Staging(parse_contract(yaml.safe_dump(values), "net.yaml"), calibration, each)


def frames() -> tuple[CameraFrame | None, ...]:
    """A JPEG, a raw picture, a broken JPEG, one without intrinsics, one as bgr8."""
    rng = np.random.default_rng(3)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (*SIZE, 3), np.uint8), (0, 0), 4)
    coded = cv2.imencode(".jpg", picture)[1].tobytes()
    made = [
        scenes.compressed(coded),
        scenes.frame(picture),
        scenes.compressed(coded[: len(coded) // 2]),
        scenes.frame(picture),
        scenes.frame(picture, "bgr8"),
    ]
    return tuple(
        dataclasses.replace(frame, sensor=name, frame_id=name)
        for frame, name in zip(made, NAMES, strict=True)
    )


def fill(stage: Staging) -> Staged:
    """Stage the five."""
    synced = SyncedSet(scenes.T0, (), frames(), dt_ns=dict.fromkeys(NAMES, 5_000_000))
    return stage.fill(synced, MotionBuffer(scenes.config().deskew), deskew=True)


def told(staged: Staged) -> list[Any]:
    """What a staging says besides the buffers."""
    refused = [(r.sensor, r.reason, r.detail) for r in staged.rejections]
    return [staged.has_image, refused, staged.remarks]


def test_threads_change_nothing_in_the_result() -> None:
    # GIVEN the same set, staged by one thread and by three
    alone = staging(map)
    with ThreadPoolExecutor(3) as pool:
        together = staging(pool.map)
        for _ in range(5):
            wanted, found = fill(alone), fill(together)
            # THEN buffers, refusals and remarks are the same, and in the same order
            assert told(found) == told(wanted)
            for name, buffer in alone.inputs.feeds().items():
                np.testing.assert_array_equal(together.inputs.feeds()[name], buffer)
    assert wanted.has_image == (True, True, False, False, True)
    assert [r.sensor for r in wanted.rejections] == ["camera_2", "camera_3"]
    assert len(wanted.remarks) == 3


def test_several_pictures_are_worked_on_at_once() -> None:
    # GIVEN an ``each`` that lets none go on before all four usable pictures are under way
    meeting = threading.Barrier(4)

    def each(call: Callable[[int], Any], items: Iterable[int]) -> Iterable[Any]:
        def met(item: int) -> Any:
            meeting.wait(timeout=10.0)
            return call(item)

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(met, items))

    # THEN they are staged all the same, which no loop over them could
    assert fill(staging(each)).has_image == (True, True, False, False, True)


def test_one_picture_is_left_to_the_thread_that_has_it() -> None:
    def each(call: Callable[[int], Any], items: Iterable[int]) -> Iterable[Any]:
        raise AssertionError(f"called for one picture: {call}, {items}")

    stage = staging(each)
    synced = SyncedSet(scenes.T0, (), frames()[:1])
    staged = stage.fill(synced, MotionBuffer(scenes.config().deskew), deskew=True)
    assert staged.has_image[0]
