"""fusion_node as a robot sees it: a process, its topics, its modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image, Imu, NavSatFix, PointCloud2
from support import live_drive as drive
from support.live import Bench, NodeProcess, wait_for
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from mm_fusion.nodes.messages import stamp_ns

SENSORS = ("camera/image_raw", "camera/camera_info", "lidar/points")
POSE_SENSORS = ("imu/data", "wheel/odometry", "gps/fix")
HEARD = ("detections", "tracks", "obstacles", "markers", "debug/camera_0", "odometry/local")
START: dict[str, Any] = {"nodes.autostart": "true", "nodes.diagnostics_period_s": "0.2"}


def advertise(bench: Bench) -> None:
    bench.advertise(Image, "camera/image_raw")
    bench.advertise(CameraInfo, "camera/camera_info")
    bench.advertise(PointCloud2, "lidar/points")
    bench.advertise(Imu, "imu/data")
    bench.advertise(Odometry, "wheel/odometry")
    bench.advertise(NavSatFix, "gps/fix")
    bench.advertise(TFMessage, "/tf_static", latched=True).publish(drive.static_transforms())


def statuses(bench: Bench, name: str = "fusion_node: fusion") -> list[dict[str, str]]:
    """Keys and values of the node's diagnostics so far, with level and message."""
    return [
        {
            **{v.key: v.value for v in s.values},
            "level": str(int.from_bytes(s.level, "little")),
            "message": s.message,
        }
        for m in bench.received["/diagnostics"]
        for s in m.status
        if s.name == name
    ]


def modes(bench: Bench, since_ns: int = 0) -> list[str]:
    """The modes of the results so far, from a stamp on."""
    found = [m for m in bench.received["fusion/status"] if stamp_ns(m.header.stamp) >= since_ns]
    values = [s.values for m in found for s in m.status]
    return [v.value for keys in values for v in keys if v.key == "mode"]


def test_drive_with_both_nodes(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN both nodes active WHEN a robot drives THEN every sweep gets its answer, in frame."""
    bench.listen(Detection3DArray, "detections", "tracks")
    bench.listen(PointCloud2, "obstacles")
    bench.listen(MarkerArray, "markers")
    bench.listen(Image, "debug/camera_0")
    bench.listen(DiagnosticArray, "/diagnostics", "fusion/status")
    bench.listen(Odometry, "odometry/local")
    advertise(bench)
    with (
        NodeProcess("pose_node", domain, tmp_path, **START),
        # A queue that holds the whole drive: how fast the machine is must not matter here.
        NodeProcess(
            *("fusion_node", domain, tmp_path),
            **START,
            **{"network.queue_size": 100, "network.patience_s": 1000.0},
        ) as fusion,
    ):
        bench.wait_matched(*SENSORS, *POSE_SENSORS)
        bench.wait_published(*HEARD)
        begin_ns = bench.play_until(
            lambda: (
                all(bench.received[topic] for topic in HEARD) and "camera+lidar" in modes(bench)
            ),
            "answer of both nodes to a robot that stands",
            drive.standing(),
            rate=0.5,
        )
        coming = drive.events(4.0, begin_ns)
        bench.play(coming, rate=0.5, ready=lambda event: _keeps_up(bench, event, begin_ns))
        last_ns = begin_ns + 3_900_000_000
        wait_for(
            lambda: last_ns in [stamp_ns(m.header.stamp) for m in bench.received["detections"]],
            "the answer to the last sweep",
        )
        _check_answers(bench, begin_ns)
        _check_heavy(bench)
        status = wait_for(lambda: statuses(bench), "diagnostics")[-1]
        assert status["provider"] in ("cpu", "cuda")
        assert float(status["latency_ms.end_to_end.p50"]) > 0.0
        assert fusion.stop() == 0
        assert "Traceback" not in fusion.log()


def _keeps_up(bench: Bench, event: drive.Event, begin_ns: int) -> bool:
    """Whether all sweeps but the last ones are answered, and the pose is as new once the robot
    drives: an IMU that is heard later than the wheels is levelled first."""
    if event.topic != "lidar/points":
        return True
    oldest_ns = event.stamp_ns - 200_000_000

    def has_come(topic: str) -> bool:
        return any(stamp_ns(m.header.stamp) >= oldest_ns for m in bench.received[topic][-5:])

    stands = event.stamp_ns < begin_ns + 2_000_000_000
    return has_come("detections") and (stands or has_come("odometry/local"))


def _check_answers(bench: Bench, begin_ns: int) -> None:
    """Forty sweeps of 10 Hz went in, behind those of a robot that stood."""
    sweeps = {begin_ns + n * 100_000_000 for n in range(40)}
    stamps = {stamp_ns(m.header.stamp) for m in bench.received["detections"]}
    answered = {s for s in stamps if s >= begin_ns}
    assert answered <= sweeps
    assert len(answered) >= 0.9 * len(sweeps)
    assert {m.header.frame_id for m in bench.received["detections"]} == {"base_link"}
    assert bench.received["tracks"][-1].header.frame_id == "odom"
    assert modes(bench, begin_ns).count("camera+lidar") >= 0.9 * len(answered)


def _check_heavy(bench: Bench) -> None:
    obstacles = bench.received["obstacles"][-1]
    assert obstacles.header.frame_id == "base_link"
    # The wall's upper part and nothing of the ground: see drive.cloud.
    assert 0 < obstacles.width < 1000
    picture = bench.received["debug/camera_0"][-1]
    assert (picture.width, picture.height) == (drive.WIDTH, drive.HEIGHT)
    assert bench.received["markers"]


def test_silent_lidar_is_announced(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN camera and LIDAR WHEN the LIDAR dies THEN camera answers go on, and it is said."""
    bench.listen(Detection3DArray, "detections")
    bench.listen(DiagnosticArray, "/diagnostics", "fusion/status")
    advertise(bench)
    with NodeProcess("fusion_node", domain, tmp_path, **START) as node:
        bench.wait_matched(*SENSORS)
        bench.wait_published("fusion/status", "detections")
        begin_ns = bench.play_until(
            lambda: "camera+lidar" in modes(bench), "mode camera+lidar", drive.standing(*SENSORS)
        )
        sensors = [e for e in drive.events(5.0, begin_ns) if e.topic in SENSORS]
        dies_ns = begin_ns + 2_000_000_000
        bench.play(e for e in sensors if e.topic != "lidar/points" or e.stamp_ns < dies_ns)
        wait_for(lambda: "camera" in modes(bench), "mode camera")
        words = "mode camera (before: camera+lidar), missing lidar/points"
        wait_for(lambda: words in node.log(), "the change of mode in the log")
        last = wait_for(
            lambda: [s for s in statuses(bench) if "no lidar/points" in s["message"]],
            "the warning in the diagnostics",
        )[-1]
        assert last["level"] == "1"


def test_malformed_bytes_are_counted(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN an active node WHEN clouds and images are broken THEN they are counted by reason."""
    bench.listen(DiagnosticArray, "/diagnostics")
    advertise(bench)
    with NodeProcess("fusion_node", domain, tmp_path, **START) as node:
        bench.wait_matched(*SENSORS)
        stamps = iter(range(drive.START_NS, 2 * drive.START_NS, 100_000_000))

        def counted() -> bool:
            cut = drive.cloud(next(stamps))[:2000]
            bench.publishers["lidar/points"].publish(cut)
            strange = drive.image(next(stamps)).replace(b"rgb8", b"zzz9")
            bench.publishers["camera/image_raw"].publish(strange)
            last = (statuses(bench) or [{}])[-1]
            return (
                int(last.get("lidar/points.drops.malformed", 0)) > 0
                and int(last.get("camera/image_raw.drops.unknown_encoding", 0)) > 0
            )

        wait_for(counted, "both rejections in the diagnostics")
        assert "lidar/points: malformed: " in node.log()
        assert node.process.poll() is None


def test_missing_extrinsics_are_named(bench: Bench, domain: int, tmp_path: Path) -> None:
    """GIVEN no /tf_static WHEN sensors speak THEN the missing transform is named, and no guess."""
    bench.listen(DiagnosticArray, "/diagnostics", "fusion/status")
    bench.advertise(PointCloud2, "lidar/points")
    with NodeProcess("fusion_node", domain, tmp_path, **START):
        bench.wait_matched("lidar/points")
        stamps = iter(range(drive.START_NS, 2 * drive.START_NS, 100_000_000))

        def announced() -> bool:
            bench.publishers["lidar/points"].publish(drive.cloud(next(stamps)))
            last = (statuses(bench) or [{}])[-1]
            return (
                "no transform from base_link to lidar" in last.get("message", "")
                and int(last.get("lidar/points.drops.no_extrinsics", 0)) > 0
                and modes(bench)
            )

        wait_for(announced, "the missing transform in the diagnostics")
        assert set(modes(bench)) == {"none"}


def test_mistakes_refuse_to_configure_until_they_are_put_right(
    bench: Bench, domain: int, tmp_path: Path
) -> None:
    """GIVEN mistakes WHEN the node configures THEN one clear line each; put right, it goes on."""
    with NodeProcess("fusion_node", domain, tmp_path, **{"sync.deadline_s": "soon"}) as node:
        assert not bench.configure("fusion_node")
        assert bench.state("fusion_node") == "unconfigured"
        assert "cannot configure: sync.deadline_s: must be float, got 'soon'" in node.log()
        assert bench.set_parameter("fusion_node", "sync.deadline_s", 0.05) == ""
        assert bench.set_parameter("fusion_node", "network.provider", "tpu") == (
            "network.provider: must be one of auto, tensorrt, cuda, cpu, got 'tpu'"
        )
        assert bench.set_parameter("fusion_node", "network.model", "/nowhere/fusion.onnx") == ""
        assert not bench.configure("fusion_node")
        assert "cannot configure: /nowhere/fusion.onnx: no such network file" in node.log()
        assert bench.set_parameter("fusion_node", "network.model", "") == ""
        assert bench.configure("fusion_node")
        assert bench.state("fusion_node") == "inactive"
        assert "Traceback" not in node.log()
        assert node.stop() == 0


def test_autostart_without_a_network_ends_with_an_error(domain: int, tmp_path: Path) -> None:
    """GIVEN autostart and no network WHEN it starts THEN the process ends with 1."""
    settings = {**START, "network.model": "/nowhere/fusion.onnx"}
    with NodeProcess("fusion_node", domain, tmp_path, **settings) as node:
        wait_for(lambda: node.process.poll() is not None, "the end of the process")
        assert node.process.returncode == 1
        assert "no such network file" in node.log()
