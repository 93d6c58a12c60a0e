"""A drive through the town as a bag: every sensor, the truth beside them, faults by scenario."""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_fusion.errors import ConfigError
from mm_fusion.geodesy import LocalTangentPlane
from mm_fusion.geometry import RigidTransform
from mm_fusion.samples import NS_PER_S, CameraModel
from mm_fusion.sim import gnss, imu, wheels
from mm_fusion.sim.bag import POINT_DTYPE, BagWriter, Messages
from mm_fusion.sim.camera import CameraSpec, Picture, optical_mount, pixel_rays, render
from mm_fusion.sim.devices import beam_table
from mm_fusion.sim.faults import Effect, FaultPlan
from mm_fusion.sim.frames import in_range
from mm_fusion.sim.lidar import LidarSpec, Sweep, sweep
from mm_fusion.sim.shading import Light
from mm_fusion.sim.traffic import Demand
from mm_fusion.sim.world import World, build_world

F64 = npt.NDArray[np.float64]

EPOCH_NS = 1_700_000_000 * NS_PER_S
DATUM = (48.137, 11.575, 520.0)  # latitude, longitude in degrees, ellipsoidal height in metres
MIN_POINTS, MIN_PIXELS = 5, 40  # an object with fewer of both counts as hidden
_LEAD_S = 0.5  # the world runs this long before the bag's first instant, and after its last
_AHEAD = 8  # sweeps and pictures computed ahead of the writer


@dataclass(frozen=True, slots=True, eq=False)
class Platform:
    """The sensors of the demo vehicle and their mounting."""

    lidar: LidarSpec
    camera: CameraSpec
    imu: imu.ImuSpec
    gnss: gnss.GnssSpec
    wheels: wheels.WheelSpec = field(default_factory=wheels.WheelSpec)

    def camera_model(self) -> CameraModel:
        """The camera's intrinsics as its CameraInfo says them."""
        c = self.camera
        return CameraModel("camera", "camera_optical", c.height, c.width, c.k, "plumb_bob", c.d)

    def mounts(self) -> list[tuple[str, RigidTransform]]:
        """Frame and base_from_frame of every sensor."""
        return [
            ("lidar", self.lidar.base_from_lidar),
            ("camera_optical", self.camera.base_from_camera),
            ("imu", self.imu.base_from_imu),
            ("gps", self.gnss.base_from_gps),
        ]


def demo_platform() -> Platform:
    """A car with 32 beams and a wide camera on its roof; the lens bends straight lines."""
    k = np.array([[352.0, 0.0, 322.5], [0.0, 352.0, 197.0], [0.0, 0.0, 1.0]])
    return Platform(
        LidarSpec(
            beam_table("32u"),
            1024,
            RigidTransform.from_rpy((0.75, 0.0, 1.82), (0.004, 0.01, 0.003)),
        ),
        CameraSpec(
            640,
            400,
            k,
            optical_mount((1.05, 0.06, 1.58), (0.003, 0.012, -0.004)),
            d=np.array([-0.14, 0.035, 0.0006, -0.0004, 0.0]),
            noise=0.008,
        ),
        imu.ImuSpec(RigidTransform.from_rpy((0.12, 0.0, 0.45), (0.0, 0.0, 0.0))),
        gnss.GnssSpec(RigidTransform.from_rpy((0.35, 0.0, 1.65), (0.0, 0.0, 0.0))),
    )


@dataclass(order=True, slots=True)
class _Event:
    """Something to write at ``log_ns``: ``make`` gives (topic, message) pairs. A heavy event has
    ``work`` to be done before, whose answer ``make`` gets."""

    log_ns: int
    rank: int
    make: Callable[[Any], list[tuple[str, Any]]] = field(compare=False)
    work: Callable[[], Any] | None = field(compare=False, default=None)


def _checked(seed: int, duration_s: float, scenario: str) -> FaultPlan:
    """The faults of a drive whose arguments make sense."""
    if not 1.0 <= duration_s <= 600.0:
        raise ConfigError(f"duration: must be between 1 and 600 seconds, got {duration_s}")
    if seed < 0:
        raise ConfigError(f"seed: must not be negative, got {seed}")
    return FaultPlan(scenario, duration_s)


def stamp_ns(t: float) -> int:
    """The stamp of an instant, in seconds since the bag's start."""
    return EPOCH_NS + round(t * 1e9)


def lively_world(seed: int, duration_s: float) -> World:
    """A town and a drive through it that is worth watching: the ego vehicle gets along, takes a
    turn, and meets traffic. Of up to four drawn, the first such, else the best."""
    best: tuple[float, World] | None = None
    for attempt in range(4):
        rng = np.random.default_rng([seed, 1000, attempt])
        speed = float(rng.uniform(6.5, 8.5))
        busy = 1.0 + duration_s / 60.0
        demand = Demand(int(22 * busy), int(20 * busy), int(26 * busy), speed)
        extent = float(np.clip(0.55 * speed * duration_s, 115.0, 220.0))
        world = build_world(rng, extent, duration_s, demand, turns=1000)
        score = _liveliness(world, speed, duration_s)
        if best is None or score > best[0]:
            best = (score, world)
        if score >= 1.0:
            break
    assert best is not None
    return best[1]


def _liveliness(world: World, speed_ms: float, duration_s: float) -> float:
    """1 or more for a drive at 62 % of the wanted speed with a turn and four movers around."""
    times = np.arange(0.0, duration_s, 0.5)
    if duration_s <= 15.0:
        return 1.0  # too short to ask for much
    velocity = world.ego.velocity(times)
    progress = float(np.linalg.norm(velocity, axis=1).mean()) / (0.62 * speed_ms)
    heading = np.unwrap(np.arctan2(velocity[:, 1], velocity[:, 0]))
    turned = float(np.ptp(heading)) / 1.2
    first = len(world.town.standing)
    around = []
    for t in times[::4]:
        states = world.objects_in_base(float(t))
        around.append(int((in_range(states.center) & (states.ids >= first)).sum()))
    return min(progress, turned, float(np.mean(around)) / 4.0)


class Drive:
    """One drive: the world, the vehicle's sensors, and the messages they give.

    Times are seconds since the bag's start; the same arguments give the same messages. ``world``
    takes the place of the one the seed would draw; it must last a second longer than the drive.
    """

    def __init__(
        self, seed: int, duration_s: float, scenario: str, world: World | None = None
    ) -> None:
        self.faults = _checked(seed, duration_s, scenario)
        self.seed, self.duration_s = seed, duration_s
        self.platform = demo_platform()
        self.world = lively_world(seed, duration_s + 2 * _LEAD_S) if world is None else world
        self.light = Light.clear(self._rng(0))
        self._rays = pixel_rays(self.platform.camera)
        self._messages = Messages()
        self._plane = LocalTangentPlane(*DATUM)
        self._pixels: dict[int, int] = {}

    def _rng(self, stream: int, index: int = 0) -> np.random.Generator:
        """Every sensor, and every sweep and picture, has randomness of its own."""
        return np.random.default_rng([self.seed, stream, index])

    def events(self) -> list[_Event]:
        """Everything the bag will hold, in the order of its receiving."""
        streams = [
            self._fixed_events(),
            self._imu_events(),
            self._wheel_events(),
            self._gps_events(),
            self._truth_events(),
            self._camera_events(),
            self._lidar_events(),
        ]
        return list(heapq.merge(*(sorted(s) for s in streams)))

    # ------------------------------------------------------------------ small sensors

    def _fixed_events(self) -> list[_Event]:
        start = stamp_ns(0.0)
        frames = self._messages.transforms("base_link", self.platform.mounts(), start)
        datum = self._messages.fix(DATUM, np.zeros((3, 3)), 0, start, "map")
        pairs = [("/tf_static", frames), ("/truth/datum", datum)]
        return [_Event(start, 0, lambda _: pairs)]

    def _imu_events(self) -> list[_Event]:
        times = np.arange(0.0, self.duration_s, 0.01)
        spec = self.platform.imu
        samples = imu.measure(self.world.ego, spec, times + _LEAD_S, self._rng(1))
        variances = (spec.gyro_sigma**2, spec.accel_sigma**2)
        late = self._rng(1, 1).uniform(0.0005, 0.003, len(times))
        events = []
        for k, t in enumerate(times):
            if self.faults.silent("imu", t):
                continue

            def make(_: Any, k: int = k, t: float = float(t)) -> list[tuple[str, Any]]:
                omega, force = samples.angular_velocity[k], samples.linear_acceleration[k]
                message = self._messages.imu(omega, force, variances, stamp_ns(t), "imu")
                return [("/imu/data", message)]

            events.append(_Event(stamp_ns(t + late[k]), 1, make))
        return events

    def _wheel_events(self) -> list[_Event]:
        times = np.arange(0.003, self.duration_s, 0.02)
        spec = self.platform.wheels
        speed, turn = wheels.measure(self.world.ego, spec, times + _LEAD_S, self._rng(2))
        covariance, unknown = spec.covariance(), np.eye(6) * 1e6
        late = self._rng(2, 1).uniform(0.001, 0.006, len(times))
        events = []
        for k, t in enumerate(times):
            if self.faults.silent("wheels", t):
                continue

            def make(_: Any, k: int = k, t: float = float(t)) -> list[tuple[str, Any]]:
                message = self._messages.odometry(
                    RigidTransform.identity(),
                    (speed[k], 0.0, 0.0),
                    (0.0, 0.0, turn[k]),
                    (unknown, covariance),
                    stamp_ns(t),
                    ("odom", "base_link"),
                )
                return [("/wheel/odometry", message)]

            events.append(_Event(stamp_ns(t + late[k]), 2, make))
        return events

    def _gps_events(self) -> list[_Event]:
        times = np.arange(0.047, self.duration_s, 0.2)
        spec = self.platform.gnss
        places = gnss.measure(self.world.ego, spec, times + _LEAD_S, self._rng(3))
        late = self._rng(3, 1).uniform(0.05, 0.11, len(times))
        events = []
        for k, t in enumerate(times):
            if self.faults.silent("gps", t):
                continue

            def make(_: Any, k: int = k, t: float = float(t)) -> list[tuple[str, Any]]:
                return [("/gps/fix", self._fix(places[k], t))]

            events.append(_Event(stamp_ns(t + late[k]), 3, make))
        return events

    def _fix(self, place: F64, t: float) -> Any:
        fault = self.faults.active("gps", t)
        if fault is not None and fault.effect is Effect.NO_FIX:
            nowhere = (float("nan"), float("nan"), float("nan"))
            return self._messages.fix(nowhere, None, -1, stamp_ns(t), "gps")
        if fault is not None and fault.effect is Effect.OFFSET:
            place = place + fault.offset_m
        where = self._plane.to_geodetic(place)
        covariance = self.platform.gnss.covariance()
        return self._messages.fix(where, covariance, 0, stamp_ns(t), "gps")

    def _truth_events(self) -> list[_Event]:
        times = np.arange(0.0, self.duration_s, 0.02)
        linear, angular = wheels.body_velocity(self.world.ego, times + _LEAD_S)
        nothing = np.zeros((6, 6))
        events = []
        for k, t in enumerate(times):

            def make(_: Any, k: int = k, t: float = float(t)) -> list[tuple[str, Any]]:
                pose = self.world.pose(t + _LEAD_S)
                message = self._messages.odometry(
                    pose,
                    linear[k],
                    angular[k],
                    (nothing, nothing),
                    stamp_ns(t),
                    ("map", "base_link"),
                )
                return [("/truth/odometry", message)]

            events.append(_Event(stamp_ns(t), 4, make))
        return events

    # ------------------------------------------------------------------ camera and LIDAR

    def _camera_events(self) -> list[_Event]:
        times = np.arange(0.038, self.duration_s, 0.1)
        times = times + self._rng(4).uniform(-0.001, 0.001, len(times))
        late = self._rng(4, 1).uniform(0.016, 0.026, len(times))
        model = self.platform.camera_model()
        events = []
        for k, t in enumerate(times):

            def work(k: int = k, t: float = float(t)) -> Picture:
                return render(
                    self.world,
                    self.platform.camera,
                    t + _LEAD_S,
                    self.light,
                    self._rng(5, k),
                    self._rays,
                )

            def make(picture: Picture, t: float = float(t)) -> list[tuple[str, Any]]:
                ids, counts = np.unique(picture.object_id, return_counts=True)
                self._pixels = dict(zip(ids.tolist(), counts.tolist(), strict=True))
                stamp = stamp_ns(t)
                image = self._messages.image(picture.image, stamp, model.frame_id)
                info = self._messages.camera_info(model, stamp)
                return [("/camera/camera_info", info), ("/camera/image_raw", image)]

            if not self.faults.silent("camera", t):
                events.append(_Event(stamp_ns(t + late[k]), 5, make, work))
        return events

    def _lidar_events(self) -> list[_Event]:
        times = np.arange(1, int(self.duration_s * 10 + 1e-6) + 1) * 0.1
        late = self._rng(6).uniform(0.004, 0.007, len(times))
        events = []
        for k, t in enumerate(times):
            silent = self.faults.silent("lidar", t)

            def work(k: int = k, t: float = float(t)) -> Sweep:
                return sweep(self.world, self.platform.lidar, t + _LEAD_S, self._rng(7, k))

            def make(found: Sweep | None, t: float = float(t)) -> list[tuple[str, Any]]:
                pairs = [("/truth/objects", self._objects(found, t))]
                if found is not None:
                    cloud = self._messages.cloud(cloud_of(found), stamp_ns(t), "lidar")
                    pairs.append(("/lidar/points", cloud))
                return pairs

            events.append(_Event(stamp_ns(t + late[k]), 6, make, None if silent else work))
        return events

    def _objects(self, found: Sweep | None, t: float) -> Any:
        """The true objects over the network's ground area, and who of them can be seen."""
        everyone = self.world.objects_in_base(t + _LEAD_S)
        states = everyone.select(in_range(everyone.center))
        points = np.zeros(int(everyone.ids.max(initial=0)) + 1, np.int64)
        if found is not None:
            seen = found.object_id[found.object_id >= 0]
            points = np.bincount(seen, minlength=len(points))
        blind = self.faults.silent("camera", t)
        pixels = np.array([0 if blind else self._pixels.get(int(i), 0) for i in states.ids])
        visible = (points[states.ids] >= MIN_POINTS) | (pixels >= MIN_PIXELS)
        return self._messages.objects(states, visible, stamp_ns(t), "base_link")


def cloud_of(found: Sweep) -> npt.NDArray[np.void]:
    """A sweep as the structured points of its message."""
    cloud = np.empty(len(found.points), POINT_DTYPE)
    cloud["x"], cloud["y"], cloud["z"] = found.points.T
    cloud["intensity"] = found.intensity * 255.0
    cloud["ring"], cloud["time"] = found.ring, found.seconds
    return cloud


def _answered(events: list[_Event], pool: ThreadPoolExecutor) -> Iterator[tuple[_Event, Any]]:
    """The events in order, each with its work's answer; heavy work is begun ahead of its turn."""
    heavy = iter([e for e in events if e.work is not None])
    waiting: deque[Future[Any]] = deque()

    def fill() -> None:
        while len(waiting) < _AHEAD:
            event = next(heavy, None)
            if event is None or event.work is None:
                return
            waiting.append(pool.submit(event.work))

    fill()
    for event in events:
        answer = None
        if event.work is not None:
            answer = waiting.popleft().result()
            fill()
        yield event, answer


def simulate(
    seed: int,
    duration_s: float,
    scenario: str,
    out: Path,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Write a drive to the bag ``out`` (a rosbag2 folder; one that is there is replaced).

    ``progress`` is called with the share done, 0..1. The answer says what was written. Raises
    ConfigError for arguments out of range, BagError where ``out`` is something else than a bag.
    """
    _checked(seed, duration_s, scenario)
    writer = BagWriter(out)
    drive = Drive(seed, duration_s, scenario)
    events = drive.events()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, writer as bag:
        for k, (event, answer) in enumerate(_answered(events, pool)):
            for topic, message in event.make(answer):
                latched = topic in ("/tf_static", "/truth/datum")
                bag.write(topic, message, event.log_ns, latched)
            if progress is not None and (event.work is not None or k + 1 == len(events)):
                progress((k + 1) / len(events))
    way = np.diff(drive.world.ego.position(np.arange(0, duration_s, 0.1) + _LEAD_S), axis=0)
    return {
        "bag": str(out),
        "seed": seed,
        "scenario": scenario,
        "duration_s": duration_s,
        "way_m": round(float(np.linalg.norm(way, axis=1).sum()), 1),
        "datum": {"lat": DATUM[0], "lon": DATUM[1], "alt": DATUM[2]},
        "objects": len(drive.world.town.standing) + len(drive.world.movers),
        "messages": dict(sorted(bag.counts.items())),
    }
