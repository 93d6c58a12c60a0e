"""Stories of the first road: what comes out when sensors are there, broken, late or withheld."""

from __future__ import annotations

import numpy as np
import pytest
import scenes

from mm_fusion.errors import ConfigError
from mm_fusion.geometry import RigidTransform
from mm_fusion.perception.calibration import Calibration
from mm_fusion.perception.fusion_detector import boxes_above
from mm_fusion.perception.network import FusionNetwork, NetworkOutputs
from mm_fusion.perception.pipeline import PerceptionPipeline
from mm_fusion.samples import FusionResult, Mode, Reason, Rejection, SyncedSet

T0 = scenes.T0
MS = 1_000_000
CLOUD = np.array([[10.0, 1.0, -1.0], [12.0, 3.0, -1.0]])  # mean in base: 11.5, 2, 0.8
GREY = np.full((96, 192, 3), 51, np.uint8)  # brightness 0.2, the yaw that the network answers


@pytest.fixture
def network(tmp_path):
    return FusionNetwork.open(scenes.write_network(tmp_path), "cpu", threads=1)


def road(network, calibrated=True, now_ns=None, **settings):
    config = scenes.config(tracker__confirm_hits=1, **settings)
    calibration = Calibration(config)
    if calibrated:
        calibration.set_camera(scenes.camera_model(192, 96))
    return PerceptionPipeline(config, network, calibration, now_ns)


def whole(ms=0, cloud=CLOUD, image=None):
    stamp_ns = T0 + ms * MS
    frame = scenes.frame(GREY, stamp_ns=stamp_ns) if image is None else image
    dt_ns = {"lidar": 0, "camera": frame.stamp_ns - stamp_ns}
    return SyncedSet(stamp_ns, (scenes.sweep(cloud, stamp_ns),), (frame,), (), dt_ns)


def test_a_set_goes_all_the_way(network):
    result = road(network).process(whole())
    assert result.mode is Mode.CAMERA_LIDAR
    assert result.missing == ()
    assert (result.stamp_ns, result.frame_id, result.track_frame_id) == (
        T0,
        "base_link",
        "base_link",
    )
    # THEN the boxes are those whose score reaches the contract's threshold of 0.25, best first
    assert [d.label for d in result.detections] == ["car", "pedestrian", "cyclist"]
    np.testing.assert_allclose([d.score for d in result.detections], [0.9, 0.7, 0.25], atol=1e-6)
    first = result.detections[0]
    np.testing.assert_allclose(first.center, [11.5, 2.0, 0.8], atol=1e-5)
    np.testing.assert_allclose(first.size, scenes.SIZE)
    assert first.yaw == pytest.approx(0.2, abs=1e-4)
    np.testing.assert_allclose(first.velocity, [1.0, -2.0])
    # AND the surest of them is tracked at once; of the others one set does not say enough
    assert [(t.track_id, t.label) for t in result.tracks] == [(1, "car")]
    assert result.stage_ns == {}


def test_the_threshold_is_a_parameter(network):
    result = road(network, network__score_threshold=0.8).process(whole())
    assert [d.label for d in result.detections] == ["car"]


@pytest.mark.parametrize(
    ("lost", "mode", "top_score"),
    [("lidar", Mode.CAMERA, 0.4), ("camera", Mode.LIDAR, 0.5)],
)
def test_a_missing_sense_costs_its_own_information_only(network, lost, mode, top_score):
    there = whole()
    synced = SyncedSet(
        T0,
        (None,) if lost == "lidar" else there.lidars,
        (None,) if lost == "camera" else there.cameras,
        (lost,),
        {name: dt for name, dt in there.dt_ns.items() if name != lost},
    )
    result = road(network).process(synced)
    assert result.mode is mode
    assert result.missing == (lost,)
    assert result.detections[0].score == pytest.approx(top_score)
    assert not result.rejections


@pytest.mark.parametrize(
    ("setting", "mode"), [("network__use_camera", Mode.LIDAR), ("network__use_lidar", Mode.CAMERA)]
)
def test_a_withheld_sense_is_not_missing_and_not_in_the_mode(network, setting, mode):
    result = road(network, **{setting: False}).process(whole())
    assert result.mode is mode
    assert result.missing == ()
    assert not result.rejections


def test_with_both_withheld_the_network_is_not_asked(network):
    result = road(network, network__use_camera=False, network__use_lidar=False).process(whole())
    assert (result.mode, result.detections, result.tracks) == (Mode.NONE, (), ())


def test_a_broken_image_leaves_a_lidar_result(network):
    broken = scenes.compressed(b"\xff\xd8\xff broken")
    result = road(network).process(whole(image=broken))
    assert result.mode is Mode.LIDAR
    assert result.missing == ("camera",)
    assert [(r.sensor, r.reason) for r in result.rejections] == [
        ("camera", Reason.UNDECODABLE_IMAGE)
    ]
    assert result.detections[0].score == pytest.approx(0.5)


def test_an_image_before_its_camera_info_leaves_a_lidar_result(network):
    result = road(network, calibrated=False).process(whole())
    assert result.mode is Mode.LIDAR
    assert [r.reason for r in result.rejections] == [Reason.NO_INTRINSICS]


def test_with_nothing_usable_an_empty_result_still_comes(network):
    result = road(network, calibrated=False).process(whole(cloud=[[np.nan] * 3]))
    assert result.mode is Mode.NONE
    assert result.detections == ()
    assert result.missing == ("lidar", "camera")
    assert [r.reason for r in result.rejections] == [Reason.NON_FINITE, Reason.NO_INTRINSICS]


def test_one_sets_trouble_does_not_follow_into_the_next(network):
    here = road(network)
    good = here.process(whole(0))
    here.process(whole(100, cloud=[[np.nan] * 3], image=scenes.compressed(b"\xff\xd8\xff")))
    again = here.process(whole(200))
    assert again.mode is Mode.CAMERA_LIDAR
    for a, b in zip(good.detections, again.detections, strict=True):
        np.testing.assert_array_equal(a.center, b.center)
        assert a.score == b.score


def test_ego_motion_puts_tracks_into_odom_and_is_said(network):
    here = road(network)
    where = RigidTransform.from_rpy((100.0, 50.0, 0.0), (0, 0, np.pi / 2))
    assert here.add_motion(scenes.pose(T0, where)) == []
    result = here.process(whole())
    assert (result.ego_motion, result.track_frame_id) == (True, "odom")
    np.testing.assert_allclose(result.detections[0].center, [11.5, 2.0, 0.8], atol=1e-5)
    np.testing.assert_allclose(result.tracks[0].center, [98.0, 61.5, 0.8], atol=1e-5)
    # half a second later the motion is too old, and not pretended
    late = here.process(whole(501))
    assert (late.ego_motion, late.track_frame_id) == (False, "base_link")


def test_samples_are_matched_and_answered_on_the_way(network):
    here = road(network)
    answers = []
    for ms in range(0, 500, 100):
        stamp_ns = T0 + ms * MS
        answers += here.add(scenes.sweep(CLOUD, stamp_ns))
        answers += here.add(scenes.frame(GREY, stamp_ns=stamp_ns + 10 * MS))
    answers += here.flush()
    results = [a for a in answers if isinstance(a, FusionResult)]
    assert [r.stamp_ns for r in results] == [T0 + ms * MS for ms in range(0, 500, 100)]
    assert {r.mode for r in results} == {Mode.CAMERA_LIDAR}
    assert results[0].dt_ns == {"lidar": 0, "camera": 10 * MS}
    # The third box has a score of 0.25, which speaks against a track however often it comes.
    assert [len(r.detections) for r in results] == [3] * 5
    assert [t.track_id for t in results[-1].tracks] == [1, 2]


def test_motion_moves_time_on_so_that_a_dead_camera_delays_nothing_forever(network):
    here = road(network, sync__deadline_s=0.05)
    here.add(scenes.frame(GREY, stamp_ns=T0 - 100 * MS))
    assert not any(isinstance(a, FusionResult) for a in here.add(scenes.sweep(CLOUD, T0)))
    early = here.add_motion(scenes.pose(T0 + 40 * MS, RigidTransform.identity()))
    due = here.add_motion(scenes.pose(T0 + 50 * MS, RigidTransform.identity()))
    assert not any(isinstance(a, FusionResult) for a in early)
    assert [a.mode for a in due if isinstance(a, FusionResult)] == [Mode.LIDAR]


def test_what_the_synchronizer_refuses_comes_through(network):
    answers = road(network).add(scenes.sweep(CLOUD, 0))
    assert [(a.sensor, a.reason) for a in answers] == [("lidar", Reason.ZERO_STAMP)]
    assert isinstance(answers[0], Rejection)


def test_stations_are_timed_with_the_clock_that_is_handed_in(network):
    ticks = iter([0, 7, 27, 30])
    result = road(network, now_ns=lambda: next(ticks)).process(whole())
    assert result.stage_ns == {"stage": 7, "network": 20, "track": 3, "total": 30}


def test_more_cameras_than_the_network_has_slots_are_refused(network):
    config = scenes.config(topics__cameras=["a", "b"])
    with pytest.raises(
        ConfigError, match=r"topics\.cameras: the network has 1 camera slots, got 2"
    ):
        PerceptionPipeline(config, network, Calibration(config))


class TestANetworkThatNeedsItsPoints:
    """A contract may say that an input must not be absent."""

    @pytest.fixture
    def network(self, tmp_path):
        return FusionNetwork.open(
            scenes.write_network(tmp_path, may_be_absent=["images"]), "cpu", threads=1
        )

    def test_is_not_asked_without_them(self, network):
        result = road(network).process(whole(cloud=[[np.nan] * 3]))
        assert (result.mode, result.detections) == (Mode.NONE, ())
        assert "the network cannot do without points" in result.remarks

    def test_does_without_an_image(self, network):
        assert road(network, calibrated=False).process(whole()).mode is Mode.LIDAR

    def test_cannot_have_them_withheld(self, network):
        with pytest.raises(ConfigError, match=r"network\.use_lidar: must be true"):
            road(network, network__use_lidar=False)


def test_impossible_boxes_are_counted_and_never_published(tmp_path):
    network = FusionNetwork.open(
        scenes.write_network(tmp_path, scenes.graph(size=(4.0, -1.0, 1.0))), "cpu", threads=1
    )
    result = road(network).process(whole())
    assert result.detections == ()
    assert [(r.sensor, r.reason) for r in result.rejections] == [("network", Reason.NON_FINITE)]
    assert "3 boxes" in result.rejections[0].detail
    assert result.mode is Mode.CAMERA_LIDAR


def test_boxes_above_sorts_out_what_is_no_box():
    boxes = np.tile(np.array([1, 2, 0.5, 4, 2, 1.5, 0.1, 0, 0], np.float32), (6, 1))
    boxes[1, 0] = np.nan
    boxes[2, 4] = 0.0
    scores = np.array([0.9, 0.8, 0.7, 0.6, np.nan, 0.1], np.float32)
    labels = np.array([0, 0, 0, 3, 0, 0])
    detections, impossible = boxes_above(NetworkOutputs(boxes, scores, labels), ("car",), 0.3)
    assert [d.score for d in detections] == [pytest.approx(0.9)]
    assert impossible == 4


def test_expected_errors_become_covariances():
    """GIVEN mean absolute errors of Laplace kind, THEN variances are twice their square."""
    boxes = np.tile(np.array([1, 2, 0.5, 4, 2, 1.5, 0.1, 0, 0], np.float32), (3, 1))
    spreads = np.array([[0.2, 0.1, 1, 0.05, 1], [0.2, 0.1, 1, 9, 1], [np.nan] * 5], np.float32)
    outputs = NetworkOutputs(boxes, np.full(3, 0.9, np.float32), np.zeros(3, int), spreads)
    (known, lost, unknown), _ = boxes_above(outputs, ("car",), 0.3)
    np.testing.assert_allclose(np.diag(known.covariance), [0.08, 0.08, 0.02, 0.005], rtol=1e-5)
    assert lost.covariance[3, 3] == pytest.approx(np.pi**2 / 3)  # any heading
    assert unknown.covariance is None
