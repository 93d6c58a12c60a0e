"""pose_node's services about places on earth, and the process that registers its sweeps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from support.live import Bench, NodeProcess, wait_for

from mm_fusion.config import DeskewConfig, PoseConfig
from mm_fusion.geometry import RigidTransform
from mm_fusion.nodes.sweep_worker import SweepWorker
from mm_fusion.perception.deskew import MotionBuffer
from mm_fusion.pose.lidar_odometry import SweepJob, SweepMotion
from mm_fusion.samples import LidarSweep, Reason, Rejection


def test_places_on_earth_are_answered_once_the_datum_is_known(
    bench: Bench, domain: int, tmp_path: Path
) -> None:
    """GIVEN no datum WHEN a place is asked for THEN every field is NaN and the log says why; WHEN
    the datum is set THEN there and back are the same place."""
    srv = pytest.importorskip("robot_localization.srv", reason="its service types are not built")
    with NodeProcess("pose_node", domain, tmp_path, **{"nodes.autostart": "true"}) as node:
        ask = srv.FromLL.Request()
        ask.ll_point.latitude, ask.ll_point.longitude, ask.ll_point.altitude = 48.001, 12.0, 500.0
        nowhere = bench.call(srv.FromLL, "from_ll", ask).map_point
        assert all(map(math.isnan, (nowhere.x, nowhere.y, nowhere.z)))
        assert math.isnan(bench.call(srv.ToLL, "to_ll", srv.ToLL.Request()).ll_point.latitude)
        wait_for(lambda: "the datum is not known yet" in node.log(), "the reason")
        datum = srv.SetDatum.Request()
        datum.geo_pose.position.latitude = 48.0
        datum.geo_pose.position.longitude = 12.0
        datum.geo_pose.position.altitude = 500.0
        bench.call(srv.SetDatum, "set_datum", datum)
        found = bench.call(srv.FromLL, "from_ll", ask).map_point
        # A thousandth of a degree of latitude there, by the meridian's radius of curvature.
        assert (found.x, found.y) == pytest.approx((0.0, 111.2), abs=0.05)
        back = srv.ToLL.Request()
        back.map_point = found
        place = bench.call(srv.ToLL, "to_ll", back).ll_point
        assert (place.latitude, place.longitude) == pytest.approx((48.001, 12.0), abs=1e-9)
        ask.ll_point.latitude = 91.0
        assert math.isnan(bench.call(srv.FromLL, "from_ll", ask).map_point.x)
        wait_for(lambda: "no place on earth" in node.log(), "the reason")
        assert node.stop() == 0


def job(seed: int, stamp_ns: int) -> SweepJob:
    """A sweep of a room whose walls are 5 to 9 m off."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1.0, 1.0, (30000, 3)) * (9.0, 5.0, 3.0)
    wall = np.arange(len(places)) % 3
    for axis, size in enumerate((9.0, 5.0, 3.0)):
        places[wall == axis, axis] = size * rng.choice([-1.0, 1.0], int((wall == axis).sum()))
    points = np.zeros(len(places), [("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    points["x"], points["y"], points["z"] = places.T
    sweep = LidarSweep("lidar", stamp_ns, "lidar", points)
    still = RigidTransform.identity()
    return SweepJob(
        1, sweep, stamp_ns, still, MotionBuffer(DeskewConfig()), still, 0.1, np.zeros(6)
    )


def test_sweeps_are_registered_in_a_process_that_is_renewed_when_it_dies() -> None:
    """GIVEN a worker WHEN sweeps are handed over THEN their motion comes back; WHEN its process is
    killed THEN that sweep is answered with a reason, and the next ones are registered again."""
    pytest.importorskip("small_gicp", reason="the registration library is not installed")
    said: list[str] = []
    worker = SweepWorker(PoseConfig(), said.append)
    try:
        outcomes: list[SweepMotion | Rejection] = []

        def register(n: int) -> SweepMotion | Rejection:
            assert worker.put(job(n, n)) is None
            wait_for(lambda: outcomes.extend(worker.outcomes()) or len(outcomes) == n, f"sweep {n}")
            return outcomes[-1]

        first, second = register(1), register(2)
        assert isinstance(first, SweepMotion)
        assert first.from_ns == 0
        assert isinstance(second, SweepMotion)
        assert (second.from_ns, second.to_ns) == (1, 2)
        assert second.motion.translation == pytest.approx(np.zeros(3), abs=0.02)
        worker._process.kill()
        lost = register(3)
        assert isinstance(lost, Rejection)
        assert lost.reason is Reason.NOT_INITIALIZED
        assert len(said) == 1
        again = register(4)
        assert isinstance(again, SweepMotion)
        assert again.from_ns == 0
    finally:
        worker.close()
