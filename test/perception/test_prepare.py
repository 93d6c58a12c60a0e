"""What is done for a set before it is whole changes nothing of its answer, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scenes

from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.perception.network import FusionNetwork
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.perception.staging import Coming, Staging
from mm_fusion.samples import FusionResult, Rejection, SyncedSet

T0 = scenes.T0
MS = 1_000_000
RNG = np.random.default_rng(3)
CLOUD = RNG.uniform((-30, -30, -2), (60, 30, 3), (3000, 3))
SECONDS = np.linspace(-0.1, 0.0, len(CLOUD))
PICTURES = [RNG.integers(0, 255, (96, 192, 3), np.uint8) for _ in range(4)]


def sweep(ms: float, shift_s: float = 0.0) -> Any:
    cloud = np.roll(CLOUD, round(ms), axis=0)
    return scenes.sweep(cloud, T0 + round(ms * MS), SECONDS + shift_s, np.full(len(CLOUD), 80.0))


def picture(ms: float) -> Any:
    image = np.roll(PICTURES[round(ms) % 4], round(ms), axis=1)  # no picture comes twice
    return scenes.frame(image, stamp_ns=T0 + round(ms * MS))


def pose(ms: float) -> Any:
    """On a curve that tightens."""
    t_s = ms / 1e3
    yaw = 0.8 * t_s + 0.3 * t_s**2
    turn = RigidTransform.from_rpy((9.0 * t_s, 0.4 * t_s, 0.0), (0.0, 0.0, yaw))
    return scenes.pose(T0 + round(ms * MS), turn, (9.0, 0.0, 0.0), (0.0, 0.0, 0.8 + 0.6 * t_s))


def known(*ms: float) -> MotionBuffer:
    motion = MotionBuffer(scenes.config().deskew)
    for at in ms:
        motion.add(pose(at))
    return motion


@pytest.fixture
def network(tmp_path):
    return FusionNetwork.open(scenes.write_network(tmp_path), "cpu", threads=1)


@pytest.fixture
def calibration():
    made = Calibration(scenes.config())
    made.set_camera(scenes.camera_model(192, 96))
    return made


def whole(lidar: Any, camera: Any) -> SyncedSet:
    dt_ns = {"lidar": 0, **({"camera": camera.stamp_ns - lidar.stamp_ns} if camera else {})}
    missing = () if camera else ("camera",)
    return SyncedSet(lidar.stamp_ns, (lidar,), (camera,), missing, dt_ns)


class Both:
    """One staging that gets ready ahead, and one that never does."""

    def __init__(self, network, calibration):
        self.ahead = Staging(network.contract, calibration)
        self.plain = Staging(network.contract, calibration)
        self.placed = 0
        place = self.ahead._placer.place

        def counted(*args):
            self.placed += 1
            return place(*args)

        self.ahead._placer.place = counted

    def same(self, synced: SyncedSet, motion: MotionBuffer) -> int:
        """Stage with both; that it is the same, and how often points were placed in doing so."""
        before = self.placed
        found = self.ahead.fill(synced, motion, deskew=True)
        expected = self.plain.fill(synced, motion, deskew=True)
        assert found.points_used == expected.points_used > 0
        for name, array in self.plain.inputs.feeds().items():
            assert self.ahead.inputs.feeds()[name].tobytes() == array.tobytes(), name
        for name in ("has_points", "has_image", "remarks", "rejections"):
            assert getattr(found, name) == getattr(expected, name)
        return self.placed - before


@pytest.fixture
def both(network, calibration):
    return Both(network, calibration)


def test_a_prepared_sweep_is_not_placed_again(both):
    # GIVEN motion that is known to the end of the sweep WHEN it is prepared, and a further pose
    # comes before the set is whole THEN the set takes what is there
    motion, lidar = known(-120, -80, -40, 0), sweep(0)
    assert both.ahead.prepare(Coming(lidar, lidar.stamp_ns), motion)
    motion.add(pose(40))
    assert both.same(whole(lidar, picture(5)), motion) == 0
    # AND the next set, of the same sweep's stamp, starts anew
    assert both.same(whole(sweep(0), picture(5)), motion) == 1


def test_a_sweep_waits_for_the_pose_after_its_end(both):
    # GIVEN the newest pose before the sweep's last point, THEN it is not prepared, for the next
    # pose changes where that point belongs
    motion, lidar = known(-120, -80, -40, -10), sweep(0)
    assert not both.ahead.prepare(Coming(lidar, lidar.stamp_ns), motion)
    # AND nothing of it is in the way of the set
    assert both.same(whole(lidar, picture(5)), motion) == 1
    # AND a sweep stamped at its start waits for its last point, not for its stamp
    early = sweep(100, shift_s=0.1)
    motion.add(pose(150))
    assert not both.ahead.prepare(Coming(early, early.stamp_ns), motion)
    motion.add(pose(201))
    assert both.ahead.prepare(Coming(early, early.stamp_ns), motion)
    assert both.same(whole(early, picture(105)), motion) == 0


def test_motion_that_begins_anew_makes_it_void(both):
    motion, lidar = known(-120, -80, -40, 0), sweep(0)
    assert both.ahead.prepare(Coming(lidar, lidar.stamp_ns), motion)
    # WHEN the poses go back in time by far, and then come again, other ones
    motion.add(pose(-2000))
    for at in (-100, -50, 0):
        motion.add(pose(at))
    assert both.same(whole(lidar, picture(5)), motion) == 1


def test_a_place_that_changes_makes_it_void(both):
    motion, lidar = known(-120, -80, -40, 0), sweep(0)
    both.ahead._calibration = both.plain._calibration = moving = Calibration(
        scenes.config(
            calibration__extrinsics=["camera " + " ".join(str(v) for v in scenes.CAMERA_AT)]
        )
    )
    moving.set_camera(scenes.camera_model(192, 96))
    moving.set_transform("base_link", "lidar", RigidTransform.from_rpy((0, 0, 1), (0, 0, 0)))
    assert both.ahead.prepare(Coming(lidar, lidar.stamp_ns), motion)
    moving.set_transform("base_link", "lidar", RigidTransform.from_rpy((0, 0, 2), (0, 0, 0)))
    assert both.same(whole(lidar, picture(5)), motion) == 1


def test_another_set_in_between_makes_it_void(both):
    motion, late, next_one = known(-220, -160, -100, 0), sweep(-100), sweep(0)
    assert both.ahead.prepare(Coming(next_one, next_one.stamp_ns), motion)
    both.same(whole(late, picture(-95)), motion)
    assert both.same(whole(next_one, picture(5)), motion) == 1


def test_a_prepared_picture_is_not_resized_again(both, monkeypatch):
    motion, camera = known(-120, -80, -40, 0), picture(-3)
    assert both.ahead.prepare(Coming(camera, T0), motion)
    monkeypatch.setattr(both.ahead._images[0], "put", lambda *_: pytest.fail("put again"))
    both.same(whole(sweep(0), camera), motion)


def test_a_prepared_picture_that_is_not_used_leaves_nothing(both):
    motion, camera = known(-120, -80, -40, 0), picture(-3)
    # WHEN the set comes with another picture, or with none, THEN that is what the network gets
    for other in (picture(2), None):
        assert both.ahead.prepare(Coming(camera, T0), motion)
        both.same(whole(sweep(0), other), motion)
    # AND afterwards the picture has to be put anew
    both.same(whole(sweep(0), camera), motion)


def test_a_picture_that_cannot_be_used_is_refused_by_its_set(both):
    motion, odd = known(-120, -80, -40, 0), scenes.frame(PICTURES[0][:90], stamp_ns=T0)
    assert both.ahead.prepare(Coming(odd, T0), motion)
    found = both.ahead.fill(whole(sweep(0), odd), motion, deskew=True)
    assert [r.sensor for r in found.rejections] == ["camera"]
    assert found.has_image == (False,)


def answers_of(road: PerceptionPipeline, leisure: Any) -> list[FusionResult | Rejection]:
    """A drive of three seconds through a road that may prepare whenever ``leisure`` says so."""
    messages = [(ms + 4.0, sweep(ms)) for ms in range(0, 3000, 100)]
    # In the first half pictures come before their sweep, in the second after it.
    pictures = np.arange(5.0, 3000.0, 33.2)
    messages += [(ms + (2.0 if ms < 1500.0 else 25.0), picture(ms)) for ms in pictures]
    messages += [(ms + 1.0, pose(ms)) for ms in np.arange(-200.0, 3000.0, 17.0)]
    answers: list[FusionResult | Rejection] = []
    for _, message in sorted(messages, key=lambda m: m[0]):
        if hasattr(message, "frame_from_base"):
            answers += road.add_motion(message)
        else:
            coming = road.coming(message)
            if coming is not None:
                road.expect(coming)
            answers += road.add(message)
        if leisure():
            road.prepare()
    return answers


def text(answers: list[FusionResult | Rejection]) -> str:
    return "\n".join(
        repr((a.stamp_ns, a.mode, a.missing, a.remarks, a.rejections))
        + "".join(repr((d.label, d.score, d.center.tolist(), d.yaw)) for d in a.detections)
        + "".join(repr((t.track_id, t.center.tolist(), t.velocity.tolist())) for t in a.tracks)
        if isinstance(a, FusionResult)
        else repr(a)
        for a in answers
    )


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_the_answers_do_not_depend_on_leisure(network, calibration, seed):
    # GIVEN a road that never has time, WHEN another has it always, or now and then
    rng = np.random.default_rng(seed)
    config = scenes.config()
    plain = PerceptionPipeline(config, network, calibration)
    ready = PerceptionPipeline(config, network, calibration)
    used: list[int] = []
    fill = ready._detector._staging.fill

    def counted(*args, **kwargs):
        staging = ready._detector._staging
        used.append((staging._ahead is not None) + 2 * bool(staging._pictures))
        return fill(*args, **kwargs)

    ready._detector._staging.fill = counted
    expected = answers_of(plain, lambda: False)
    found = answers_of(ready, (lambda: True) if seed is None else lambda: rng.random() < 0.5)
    # THEN both say the same, and there was something to it
    assert text(found) == text(expected)
    assert sum(isinstance(a, FusionResult) and len(a.detections) > 0 for a in found) > 20
    assert sum(u & 1 for u in used) > 3
    assert sum(u & 2 for u in used) > 3
