"""Writing a drive as a rosbag2 (MCAP): messages out of plain values."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from mm_fusion.errors import BagError
from mm_fusion.evaluation.bags import typestore
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import NS_PER_S, U8, CameraModel
from mm_fusion.sim.models import CLASS_NAMES
from mm_fusion.sim.world import ObjectStates

F64 = npt.NDArray[np.float64]

# x y z, intensity 0-255, beam, seconds from the header's stamp (the end of the sweep)
POINT_DTYPE = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("intensity", "<f4"),
        ("ring", "<u2"),
        ("time", "<f4"),
    ]
)
_FIELD_TYPE = {"<f4": 7, "<u2": 4}  # sensor_msgs/PointField FLOAT32, UINT16


class BagWriter:
    """A bag being written: ``with BagWriter(path) as bag: bag.write(...)``.

    Raises BagError if ``path`` exists and is no bag. A bag that is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            if not (path / "metadata.yaml").is_file():
                raise BagError(f"out: {path} exists and is not a bag; it is not replaced")
            shutil.rmtree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._store = typestore()
        self._connections: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, topic: str, message: Any, log_ns: int, latched: bool = False) -> None:
        """Append a message of ``Messages`` as received at ``log_ns``."""
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=[_qos(latched)]
            )
            self.counts[topic] = 0
        raw = self._store.serialize_cdr(message, kind)
        self._writer.write(self._connections[topic], log_ns, raw)
        self.counts[topic] += 1


def _qos(latched: bool) -> Qos:
    forever = QosTime(2147483647, 4294967295)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )


class Messages:
    """Makes message objects of the bag's types. Stamps are integer nanoseconds."""

    def __init__(self) -> None:
        self._types = typestore().types

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._types[kind](**fields)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """std_msgs/Header."""
        stamp = self._make(
            "builtin_interfaces/msg/Time", sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S
        )
        return self._make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def _vector(self, xyz: npt.ArrayLike) -> Any:
        x, y, z = (float(v) for v in np.asarray(xyz))
        return self._make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def _pose(self, pose: RigidTransform) -> Any:
        x, y, z = (float(v) for v in pose.translation)
        return self._make(
            "geometry_msgs/msg/Pose",
            position=self._make("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=self._quaternion(pose),
        )

    def _quaternion(self, pose: RigidTransform) -> Any:
        x, y, z, w = (float(v) for v in pose.quaternion_xyzw())
        return self._make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)

    def image(self, pixels: U8, stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/Image, rgb8, of pixels [H,W,3]."""
        height, width, _ = pixels.shape
        return self._make(
            "sensor_msgs/msg/Image",
            header=self.header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding="rgb8",
            is_bigendian=0,
            step=3 * width,
            data=pixels.reshape(-1),
        )

    def camera_info(self, model: CameraModel, stamp_ns: int) -> Any:
        """sensor_msgs/CameraInfo."""
        roi = self._make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        )
        projection = np.zeros((3, 4))
        projection[:, :3] = model.k
        return self._make(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(stamp_ns, model.frame_id),
            height=model.height,
            width=model.width,
            distortion_model=model.distortion_model,
            d=np.asarray(model.d, np.float64),
            k=np.asarray(model.k, np.float64).reshape(-1),
            r=np.eye(3).reshape(-1),
            p=projection.reshape(-1),
            binning_x=0,
            binning_y=0,
            roi=roi,
        )

    def cloud(self, points: npt.NDArray[np.void], stamp_ns: int, frame_id: str) -> Any:
        """sensor_msgs/PointCloud2 of structured points [N] (POINT_DTYPE)."""
        members = [(name, *POINT_DTYPE.fields[name][:2]) for name in POINT_DTYPE.names or ()]  # type: ignore[index]
        fields = [
            self._make(
                "sensor_msgs/msg/PointField",
                name=name,
                offset=offset,
                datatype=_FIELD_TYPE[kind.str],
                count=1,
            )
            for name, kind, offset in members
        ]
        return self._make(
            "sensor_msgs/msg/PointCloud2",
            header=self.header(stamp_ns, frame_id),
            height=1,
            width=len(points),
            fields=fields,
            is_bigendian=False,
            point_step=POINT_DTYPE.itemsize,
            row_step=points.nbytes,
            data=np.frombuffer(points.tobytes(), np.uint8),
            is_dense=True,
        )

    def imu(
        self, omega: F64, force: F64, variances: tuple[float, float], stamp_ns: int, frame: str
    ) -> Any:
        """sensor_msgs/Imu without orientation; ``variances`` of gyroscope and accelerometer."""
        unknown = np.zeros(9)
        unknown[0] = -1.0  # the message's way to say: no orientation
        return self._make(
            "sensor_msgs/msg/Imu",
            header=self.header(stamp_ns, frame),
            orientation=self._quaternion(RigidTransform.identity()),
            orientation_covariance=unknown,
            angular_velocity=self._vector(omega),
            angular_velocity_covariance=np.eye(3).reshape(-1) * variances[0],
            linear_acceleration=self._vector(force),
            linear_acceleration_covariance=np.eye(3).reshape(-1) * variances[1],
        )

    def fix(
        self,
        place: tuple[float, float, float],
        covariance: F64 | None,
        status: int,
        stamp_ns: int,
        frame_id: str,
    ) -> Any:
        """sensor_msgs/NavSatFix at (latitude, longitude in degrees, height in metres)."""
        known = covariance is not None
        return self._make(
            "sensor_msgs/msg/NavSatFix",
            header=self.header(stamp_ns, frame_id),
            status=self._make("sensor_msgs/msg/NavSatStatus", status=status, service=1),
            latitude=place[0],
            longitude=place[1],
            altitude=place[2],
            position_covariance=covariance.reshape(-1) if covariance is not None else np.zeros(9),
            position_covariance_type=2 if known else 0,
        )

    def odometry(
        self,
        pose: RigidTransform,
        linear: npt.ArrayLike,
        angular: npt.ArrayLike,
        covariances: tuple[F64, F64],
        stamp_ns: int,
        frames: tuple[str, str],
    ) -> Any:
        """nav_msgs/Odometry; ``covariances`` [6,6] of pose and twist, ``frames`` parent, child."""
        make = self._make
        twist = make(
            "geometry_msgs/msg/Twist", linear=self._vector(linear), angular=self._vector(angular)
        )
        return make(
            "nav_msgs/msg/Odometry",
            header=self.header(stamp_ns, frames[0]),
            child_frame_id=frames[1],
            pose=make(
                "geometry_msgs/msg/PoseWithCovariance",
                pose=self._pose(pose),
                covariance=covariances[0].reshape(-1),
            ),
            twist=make(
                "geometry_msgs/msg/TwistWithCovariance",
                twist=twist,
                covariance=covariances[1].reshape(-1),
            ),
        )

    def transforms(
        self, parent: str, children: Sequence[tuple[str, RigidTransform]], stamp_ns: int
    ) -> Any:
        """tf2_msgs/TFMessage with parent_from_child for every child."""
        stamped = [
            self._make(
                "geometry_msgs/msg/TransformStamped",
                header=self.header(stamp_ns, parent),
                child_frame_id=child,
                transform=self._make(
                    "geometry_msgs/msg/Transform",
                    translation=self._vector(pose.translation),
                    rotation=self._quaternion(pose),
                ),
            )
            for child, pose in children
        ]
        return self._make("tf2_msgs/msg/TFMessage", transforms=stamped)

    def objects(
        self, states: ObjectStates, visible: npt.NDArray[np.bool_], stamp_ns: int, frame_id: str
    ) -> Any:
        """vision_msgs/Detection3DArray: score 1 for visible objects, 0 for the others."""
        make = self._make
        detections = []
        for k in range(len(states.ids)):
            pose = RigidTransform.from_rpy(states.center[k], (0.0, 0.0, states.yaw[k]))
            hypothesis = make(
                "vision_msgs/msg/ObjectHypothesis",
                class_id=CLASS_NAMES[int(states.labels[k])],
                score=float(visible[k]),
            )
            result = make(
                "vision_msgs/msg/ObjectHypothesisWithPose",
                hypothesis=hypothesis,
                pose=make(
                    "geometry_msgs/msg/PoseWithCovariance",
                    pose=self._pose(pose),
                    covariance=np.zeros(36),
                ),
            )
            detections.append(
                make(
                    "vision_msgs/msg/Detection3D",
                    header=self.header(stamp_ns, frame_id),
                    results=[result],
                    bbox=make(
                        "vision_msgs/msg/BoundingBox3D",
                        center=self._pose(pose),
                        size=self._vector(states.size[k]),
                    ),
                    id=str(int(states.ids[k])),
                )
            )
        return make(
            "vision_msgs/msg/Detection3DArray",
            header=self.header(stamp_ns, frame_id),
            detections=detections,
        )
