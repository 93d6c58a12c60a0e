"""Sensor messages made once, to be played many times: the source of the latency bench.

A tape is a folder: ``index.json`` and ``messages.bin``. The small sensors are simulated for the
whole time. Sweeps and pictures are a handful from the beginning of the same drive, shown forwards
and backwards in turn, for a picture takes longer to make than it is to be seen; so objects move on
as they should, and tracks live. While playing, only the stamps are written anew.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_fusion.errors import MmFusionError
from mm_fusion.samples import NS_PER_S

if TYPE_CHECKING:
    from mm_fusion.geometry import RigidTransform
    from mm_fusion.sim.world import World

INDEX, MESSAGES = "index.json", "messages.bin"
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOUD = "sensor_msgs/msg/PointCloud2"
SWEEP_S = 0.1
# A frame period that no multiple of makes 0.1 s: over 17 s every phase to the sweeps comes once.
CAMERA_S = 0.0332
# From the stamp to the driver's publishing: readout of a camera, the last packets of a LIDAR.
CAMERA_DELAY_S, LIDAR_DELAY_S, SMALL_DELAY_S = 0.010, 0.003, 0.001
WIDTH, HEIGHT = 1280, 720
INTRINSICS = np.array([[704.0, 0.0, 645.0], [0.0, 704.0, 355.0], [0.0, 0.0, 1.0]])
LENS = np.array([-0.14, 0.035, 0.0006, -0.0004, 0.0])
JPEG_QUALITY = 90
SCENES = 10
_LEAD_S = 0.5


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is on a tape: ``columns`` azimuth steps of 64 beams."""

    duration_s: float
    cameras: int = 1
    columns: int = 2048
    jpeg: bool = False
    seed: int = 3


@dataclass(slots=True)
class Stream:
    """Messages of one topic; ``items`` are (start, length) in the file, cycled where ``swings``.

    The k-th message has the stamp ``first_ns + k * period_ns`` after the start, and is sent
    ``delay_ns`` later. ``repeat`` consecutive messages show the same item. ``latched`` messages
    are sent once, without a stamp.
    """

    topic: str
    type_name: str
    period_ns: int
    delay_ns: int = 0
    first_ns: int = 0
    swings: bool = False
    repeat: int = 1
    latched: bool = False
    items: list[tuple[int, int]] = field(default_factory=list)

    def item(self, k: int) -> tuple[int, int] | None:
        """Place of the k-th message, None where the stream has ended."""
        k //= self.repeat
        if not self.swings:
            return self.items[k] if k < len(self.items) else None
        last = len(self.items) - 1
        k %= max(2 * last, 1)
        return self.items[min(k, 2 * last - k)]


def image_topic(slot: int, jpeg: bool) -> str:
    """Where a camera slot's pictures are published."""
    return f"camera_{slot}/image_raw" + ("/compressed" if jpeg else "")


class Tape:
    """An open tape: ``streams``, and their messages as views on the file."""

    def __init__(self, folder: Path) -> None:
        try:
            index = json.loads((folder / INDEX).read_text())
            with (folder / MESSAGES).open("rb") as data:
                self._data = mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise MmFusionError(f"{folder}: not a tape: {error}") from error
        self.recipe = Recipe(**index["recipe"])
        self.points: list[int] = index["points"]
        self.streams = [Stream(**entry) for entry in index["streams"]]

    def message(self, place: tuple[int, int]) -> memoryview:
        """The serialized message at a place."""
        start, length = place
        return memoryview(self._data)[start : start + length]


def stamped(message: memoryview | bytes, stamp_ns: int) -> bytes:
    """A serialized message that begins with a header, with another stamp."""
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    stamp = sec.to_bytes(4, "little") + nanosec.to_bytes(4, "little")
    return b"".join((message[:4], stamp, message[12:]))


def stamp_of(message: bytes | memoryview) -> int:
    """The stamp in nanoseconds of a little-endian message that begins with a header."""
    sec = int.from_bytes(message[4:8], "little")
    return sec * NS_PER_S + int.from_bytes(message[8:12], "little")


def prepared(folder: Path, recipe: Recipe, progress: Callable[[float], None]) -> Tape:
    """The tape of a recipe: the one in the folder where it is that, else made there."""
    try:
        tape = Tape(folder)
        if tape.recipe == recipe:
            return tape
    except MmFusionError:
        folder.mkdir(parents=True, exist_ok=True)
    _Maker(folder, recipe).make(progress)
    return Tape(folder)


class _Maker:
    """Writes one tape."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        from mm_fusion.evaluation.bags import typestore
        from mm_fusion.sim.bag import Messages
        from mm_fusion.sim.drive import lively_world

        self._folder, self._recipe = folder, recipe
        self._store, self._messages = typestore(), Messages()
        self._world: World = lively_world(recipe.seed, recipe.duration_s + 2 * _LEAD_S)
        self._streams: list[Stream] = []
        self._points: list[int] = []

    def _rng(self, stream: int, index: int = 0) -> np.random.Generator:
        return np.random.default_rng([self._recipe.seed, stream, index])

    def make(self, progress: Callable[[float], None]) -> None:
        with (self._folder / MESSAGES).open("wb") as out:
            self._out = out
            self._latched()
            self._small()
            self._sweeps()
            progress(0.3)
            self._cameras(lambda share: progress(0.3 + 0.7 * share))
        index = {
            "recipe": asdict(self._recipe),
            "points": self._points,
            "streams": [asdict(s) for s in self._streams],
        }
        (self._folder / INDEX).write_text(json.dumps(index))

    def _put(self, stream: Stream, message: Any) -> None:
        raw = bytes(self._store.serialize_cdr(message, message.__msgtype__))
        stream.items.append((self._out.tell(), len(raw)))
        self._out.write(raw)

    def _stream(self, topic: str, messages: Sequence[Any], period_s: float, **more: Any) -> Stream:
        kind = messages[0].__msgtype__
        stream = Stream(topic, kind, round(period_s * NS_PER_S), **more)
        for message in messages:
            self._put(stream, message)
        self._streams.append(stream)
        return stream

    def _camera_mount(self, slot: int) -> RigidTransform:
        from mm_fusion.sim.camera import optical_mount

        turn = 2.0 * np.pi * slot / self._recipe.cameras
        place = (0.4 + 0.65 * np.cos(turn), 0.65 * np.sin(turn), 1.58)
        return optical_mount(place, (0.003, 0.012, turn))

    def _latched(self) -> None:
        from mm_fusion.sim.drive import demo_platform

        mounts = [m for m in demo_platform().mounts() if m[0] != "camera_optical"]
        for slot in range(self._recipe.cameras):
            mounts.append((f"camera_{slot}_optical", self._camera_mount(slot)))
        frames = self._messages.transforms("base_link", mounts, NS_PER_S)
        self._stream("/tf_static", [frames], 1.0, latched=True)

    def _small(self) -> None:
        from mm_fusion.geodesy import LocalTangentPlane
        from mm_fusion.geometry import RigidTransform
        from mm_fusion.sim import gnss, imu, wheels
        from mm_fusion.sim.drive import DATUM, demo_platform

        platform, ego, make = demo_platform(), self._world.ego, self._messages
        delay_ns = round(SMALL_DELAY_S * NS_PER_S)

        def times(period_s: float) -> Any:
            return np.arange(0.0, self._recipe.duration_s, period_s) + _LEAD_S

        felt = imu.measure(ego, platform.imu, times(0.005), self._rng(1))
        variances = (platform.imu.gyro_sigma**2, platform.imu.accel_sigma**2)
        pairs = zip(felt.angular_velocity, felt.linear_acceleration, strict=True)
        samples = [make.imu(w, f, variances, NS_PER_S, "imu") for w, f in pairs]
        self._stream("imu/data", samples, 0.005, delay_ns=delay_ns)
        speed, turn = wheels.measure(ego, platform.wheels, times(0.02), self._rng(2))
        covariances = (np.eye(6) * 1e6, platform.wheels.covariance())
        rolled = [
            make.odometry(
                RigidTransform.identity(),
                (v, 0.0, 0.0),
                (0.0, 0.0, w),
                covariances,
                NS_PER_S,
                ("odom", "base_link"),
            )
            for v, w in zip(speed, turn, strict=True)
        ]
        self._stream("wheel/odometry", rolled, 0.02, delay_ns=delay_ns)
        plane, covariance = LocalTangentPlane(*DATUM), platform.gnss.covariance()
        places = gnss.measure(ego, platform.gnss, times(0.2), self._rng(3))
        fixes = [make.fix(plane.to_geodetic(p), covariance, 0, NS_PER_S, "gps") for p in places]
        self._stream("gps/fix", fixes, 0.2, delay_ns=50 * delay_ns)

    def _sweeps(self) -> None:
        from mm_fusion.sim.drive import cloud_of, demo_platform
        from mm_fusion.sim.lidar import LidarSpec, beam_table, sweep

        mount = demo_platform().lidar.base_from_lidar
        spec = LidarSpec(beam_table("64"), self._recipe.columns, mount)
        clouds = []
        for k in range(SCENES):
            found = sweep(self._world, spec, _LEAD_S + SWEEP_S * (k + 1), self._rng(4, k))
            self._points.append(len(found.points))
            clouds.append(self._messages.cloud(cloud_of(found), NS_PER_S, "lidar"))
        delay_ns = round(LIDAR_DELAY_S * NS_PER_S)
        sweep_ns = round(SWEEP_S * NS_PER_S)
        self._stream(
            "lidar/points", clouds, SWEEP_S, delay_ns=delay_ns, first_ns=sweep_ns, swings=True
        )

    def _cameras(self, progress: Callable[[float], None]) -> None:
        """Every camera shows the same pictures, each at times of its own."""
        from mm_fusion.samples import CameraModel

        pictures = self._pictures(progress)
        for slot in range(self._recipe.cameras):
            frame = f"camera_{slot}_optical"
            # Free-running cameras: each with a phase and a period of its own.
            period_s = CAMERA_S + 2e-5 * slot
            timing: dict[str, Any] = {
                "delay_ns": round(CAMERA_DELAY_S * NS_PER_S),
                "first_ns": round((0.004 + 0.0057 * slot) * NS_PER_S),
                "swings": True,
            }
            model = CameraModel("camera", frame, HEIGHT, WIDTH, INTRINSICS, "plumb_bob", LENS)
            info = self._messages.camera_info(model, NS_PER_S)
            self._stream(f"camera_{slot}/camera_info", [info], period_s, **timing)
            topic = image_topic(slot, self._recipe.jpeg)
            shown = [self._message(p, frame) for p in pictures]
            self._stream(topic, shown, period_s, repeat=3, **timing)

    def _pictures(self, progress: Callable[[float], None]) -> list[Any]:
        from mm_fusion.sim.camera import CameraSpec, pixel_rays, render
        from mm_fusion.sim.shading import Light

        spec = CameraSpec(WIDTH, HEIGHT, INTRINSICS, self._camera_mount(0), d=LENS, noise=0.008)
        rays, light, made = pixel_rays(spec), Light.clear(self._rng(0)), []
        for n in range(SCENES):
            at_s = _LEAD_S + SWEEP_S * n + 0.05
            made.append(render(self._world, spec, at_s, light, self._rng(5, n), rays).image)
            progress((n + 1) / SCENES)
        return made

    def _message(self, pixels: Any, frame: str) -> Any:
        if not self._recipe.jpeg:
            return self._messages.image(pixels, NS_PER_S, frame)
        import cv2

        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        coded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1]
        kind = self._store.types[COMPRESSED]
        header = self._messages.header(NS_PER_S, frame)
        return kind(header=header, format="jpeg", data=np.asarray(coded).reshape(-1))
