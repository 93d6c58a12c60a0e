"""A camera whose driver repeats its buffer, on a vehicle that moves or stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scenes

from mm_fusion.config import DeskewConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.network import FusionNetwork
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.perception.stills import StillPictures
from mm_fusion.samples import Mode, Reason, SyncedSet

MS = 1_000_000
T0 = scenes.T0
CLOUD = np.array([[10.0, 1.0, -1.0], [12.0, 3.0, -1.0]])


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (96, 192, 3), np.uint8)


def a_set(ms: int, seed: int) -> SyncedSet:
    """A sweep and a picture of the same instant; another seed is another picture."""
    stamp_ns = T0 + ms * MS
    frame = scenes.frame(picture(seed), stamp_ns=stamp_ns)
    sweep = scenes.sweep(CLOUD, stamp_ns)
    return SyncedSet(stamp_ns, (sweep,), (frame,), (), {"lidar": 0, "camera": 0})


def driven(speed_mps: float = 0.0, turn_radps: float = 0.0, until_ms: int = 6000) -> MotionBuffer:
    """Poses of a vehicle that goes straight on, or turns on the spot, every 50 ms."""
    motion = MotionBuffer(DeskewConfig())
    for ms in range(0, until_ms + 1, 50):
        add_pose(motion, ms, speed_mps, turn_radps)
    return motion


def add_pose(motion: MotionBuffer, ms: int, speed_mps: float, turn_radps: float) -> None:
    angle = turn_radps * ms / 1e3
    c, s = np.cos(angle), np.sin(angle)
    place = RigidTransform(
        np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]),
        np.array([speed_mps * ms / 1e3, 0.0, 0.0]),
    )
    motion.add(scenes.pose(T0 + ms * MS, place, (speed_mps, 0, 0), (0, 0, turn_radps)))


def withheld(sets: list[SyncedSet], speed_mps: float = 0.0, turn_radps: float = 0.0) -> list[bool]:
    """Whether each set lost its picture, with poses that come as time goes on."""
    stills, motion, out, ms = StillPictures(), MotionBuffer(DeskewConfig()), [], 0
    for synced in sets:
        while T0 + ms * MS <= synced.stamp_ns:
            add_pose(motion, ms, speed_mps, turn_radps)
            ms += 50
        left, refused = stills.withdrawn(synced, motion)
        assert [r.reason for r in refused] == [Reason.STALE] * (left.cameras[0] is None)
        assert left.lidars is synced.lidars
        out.append(left.cameras[0] is None)
    return out


def test_a_still_picture_is_used_until_the_vehicle_has_moved():
    """GIVEN 1 m/s WHEN one picture comes again and again THEN it is gone after 0.2 m."""
    sets = [a_set(100 * k, seed=0) for k in range(6)]
    assert withheld(sets, speed_mps=1.0) == [False, False, False, True, True, True]


def test_a_turn_on_the_spot_is_a_movement():
    sets = [a_set(100 * k, seed=0) for k in range(3)]
    assert withheld(sets, turn_radps=0.5) == [False, True, True]


def test_where_nothing_moves_a_still_picture_is_as_good_as_new():
    """GIVEN a simulated camera without noise WHEN the vehicle stands THEN its picture stays."""
    assert not any(withheld([a_set(100 * k, seed=0) for k in range(50)]))


def test_having_moved_is_not_forgotten():
    """GIVEN a picture that stands still WHEN the vehicle comes back to where it was taken, or goes
    on for longer than poses are kept, THEN it stays withheld."""
    sets = [a_set(100 * k, seed=0) for k in range(45)]
    assert withheld(sets, speed_mps=2.0)[2:] == [True] * 43


def test_new_pictures_are_used_however_fast_the_vehicle_is():
    assert not any(withheld([a_set(100 * k, seed=k) for k in range(20)], speed_mps=30.0))


def test_the_first_new_picture_ends_it():
    sets = [a_set(100 * k, seed=0 if k < 5 else k) for k in range(8)]
    assert withheld(sets, speed_mps=5.0) == [False, *[True] * 4, False, False, False]


def test_nobody_knows_whether_it_moved():
    """GIVEN no ego motion THEN a repeated picture is trusted for 1 s and no longer."""
    stills, motion = StillPictures(), MotionBuffer(DeskewConfig())
    lost = []
    for k in range(5):
        left, refused = stills.withdrawn(a_set(400 * k, seed=0), motion)
        lost.append(left.cameras[0] is None)
    assert lost == [False, False, False, True, True]
    assert "no ego motion known" in refused[0].detail


def test_two_sets_may_share_one_picture():
    """GIVEN a camera slower than the LIDAR WHEN the next set has the same message THEN it stays."""
    stills, motion = StillPictures(), driven(speed_mps=10.0)
    first = a_set(0, seed=0)
    second = replace(first, stamp_ns=T0 + 100 * MS, dt_ns={"lidar": 0, "camera": -100 * MS})
    for synced in (first, second):
        assert stills.withdrawn(synced, motion)[0] is synced


def test_a_bag_that_begins_anew_begins_anew():
    stills, motion = StillPictures(), driven(speed_mps=10.0)
    stills.withdrawn(a_set(3000, seed=0), motion)
    assert stills.withdrawn(a_set(0, seed=0), motion)[1] == []


@pytest.mark.parametrize(("repeats", "mode"), [(True, Mode.LIDAR), (False, Mode.CAMERA_LIDAR)])
def test_the_road_goes_on_without_it(tmp_path, repeats, mode):
    """WHEN the picture stands still THEN the LIDAR's result comes, and says what is missing."""
    config = scenes.config()
    calibration = Calibration(config)
    calibration.set_camera(scenes.camera_model(192, 96))
    network = FusionNetwork.open(scenes.write_network(tmp_path), "cpu", threads=1)
    road = PerceptionPipeline(config, network, calibration)
    for ms in range(0, 1000, 50):
        add_pose(road.motion, ms, 10.0, 0.0)
    road.process(a_set(0, seed=0))
    result = road.process(a_set(500, seed=0 if repeats else 1))
    assert result.mode is mode
    assert result.missing == (("camera",) if repeats else ())
    assert [r.reason for r in result.rejections] == [Reason.STALE] * repeats


@pytest.mark.parametrize(
    ("brightest", "withheld_as"), [(0, Reason.BLANK), (2, Reason.BLANK), (3, None)]
)
def test_a_black_picture_says_nothing(brightest: int, withheld_as: Reason | None) -> None:
    """GIVEN a camera that is covered WHEN its picture comes THEN it is withheld, at once and on a
    vehicle that stands, too; a night with any light in it is not."""
    noise = np.random.default_rng(0).integers(0, brightest + 1, (96, 192, 3), np.uint8)
    synced = a_set(0, seed=0)
    synced = replace(synced, cameras=(scenes.frame(noise, stamp_ns=T0),))
    left, refused = StillPictures().withdrawn(synced, MotionBuffer(DeskewConfig()))
    assert (left.cameras[0] is None) == (withheld_as is not None)
    assert [r.reason for r in refused] == ([withheld_as] if withheld_as else [])


def test_a_compressed_picture_is_not_looked_into() -> None:
    """GIVEN bytes of a JPEG, which are no pixels, THEN they are not held to be black."""
    synced = a_set(0, seed=0)
    frame = replace(
        scenes.frame(picture(0), stamp_ns=T0), encoding="jpeg", data=np.zeros(9000, np.uint8)
    )
    left, refused = StillPictures().withdrawn(replace(synced, cameras=(frame,)), driven())
    assert left.cameras[0] is frame
    assert refused == []
