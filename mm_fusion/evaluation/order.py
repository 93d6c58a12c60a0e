"""A bag's inputs as samples in the order of their instants, whatever order they were recorded in.

Messages are recorded when they arrive, and that order changes from one recording of the same
drive to the next. The order of stamps does not. A sweep's place is that of its newest point, so
that the motion during the sweep comes before it, as it does on a robot.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mm_fusion import wire
from mm_fusion.config import Config
from mm_fusion.evaluation.bags import Bag
from mm_fusion.evaluation.topics import Inputs
from mm_fusion.perception.clouds import span_ns
from mm_fusion.samples import NS_PER_S, CameraFrame, CameraModel, LidarSweep
from mm_fusion.wire import FrameTransforms

WINDOW_S = 1.0
WINDOW_BYTES = 256 * 1024 * 1024
TF_LEAD_S = 2.0

# At one instant: calibration first, then motion, then what is to be corrected for motion.
_RANKS: dict[type, int] = {FrameTransforms: 0, CameraModel: 0, CameraFrame: 2, LidarSweep: 3}


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """One decoded message with its place: ``stamp_ns`` orders, ``log_ns`` is when it was recorded.

    ``sensor`` is the name under which it is counted, ``size`` its bytes.
    """

    stamp_ns: int
    log_ns: int
    sensor: str
    sample: wire.Decoded
    size: int

    @property
    def rank(self) -> int:
        """Who goes first at one instant."""
        return _RANKS.get(type(self.sample), 1)


def read_samples(bag: Bag, inputs: Inputs, lidars: wire.Lidars | None = None) -> Iterator[Arrival]:
    """The input messages of a bag, decoded, in the order they were recorded.

    ``lidars`` as in :func:`wire.decode`; samples arrived when they were recorded.
    """
    names = _sensors(inputs)
    last_ns = 0
    for message in bag.messages(names):
        sensor = names[message.topic]
        sample = wire.decode(message.msgtype, message.raw, sensor, lidars, message.log_ns)
        stamp_ns = _instant_ns(sample)
        if stamp_ns == 0:  # what has no time of its own stays where it was recorded
            stamp_ns = last_ns or message.log_ns
        last_ns = stamp_ns
        yield Arrival(stamp_ns, message.log_ns, sensor, sample, len(message.raw))


def calibration_first(bag: Bag, inputs: Inputs) -> list[Arrival]:
    """What is known before the first measurement: static transforms, the first CameraInfo of each
    camera, and what /tf says within its first two seconds."""
    names = _sensors(inputs)
    static = [t.name for t in inputs.transforms if t.name.endswith("tf_static")]
    moving = [t.name for t in inputs.transforms if t.name not in static]
    infos = [t.name for t in inputs.camera_infos if t is not None]
    found = []
    for topics, stop_ns in (
        (static, None),
        (moving, bag.start_ns + round(TF_LEAD_S * NS_PER_S)),
        (infos, None),
    ):
        seen = set()
        for message in bag.messages(topics, stop_ns):
            if topics is infos and message.topic in seen:
                continue
            seen.add(message.topic)
            sensor = names[message.topic]
            sample = wire.decode(message.msgtype, message.raw, sensor)
            found.append(Arrival(0, message.log_ns, sensor, sample, len(message.raw)))
            if topics is infos and len(seen) == len(infos):
                break
    return found


def _sensors(inputs: Inputs) -> dict[str, str]:
    """The name under which each input topic is counted: its own, without the leading slash.

    A camera's CameraInfo goes by the name of its images.
    """
    single = (*inputs.lidars, inputs.gps, inputs.imu, inputs.wheels)
    topics = (*inputs.transforms, *inputs.cameras, *single)
    names = {t.name: t.name.lstrip("/") for t in topics if t is not None}
    for info, camera in zip(inputs.camera_infos, inputs.cameras, strict=True):
        if info is not None and camera is not None:
            names[info.name] = camera.name.lstrip("/")
    return names


def _instant_ns(sample: wire.Decoded) -> int:
    if isinstance(sample, LidarSweep):
        return newest_point_ns(sample)
    if isinstance(sample, FrameTransforms):
        return max((t.stamp_ns for t in sample.transforms), default=0)
    if isinstance(sample, CameraModel):
        return 0
    return sample.stamp_ns


def newest_point_ns(sweep: LidarSweep) -> int:
    """The instant of a sweep's newest point, at least its stamp and at most a second after it."""
    return span_ns(sweep)[1]


def in_stamp_order(arrivals: Iterable[Arrival], config: Config) -> Iterator[Arrival]:
    """Put arrivals into the order of their instants.

    Each is held until everything recorded within WINDOW_S after it is known. Where the stamps of
    a sensor go back by more than ``sync.time_jump_s`` (a bag that loops, a clock that was set),
    what came before is let go first: the jump stays a jump.
    """
    jump_ns = round(config.sync.time_jump_s * NS_PER_S)
    window_ns = round(WINDOW_S * NS_PER_S)
    held: list[tuple[int, int, str, int, Arrival]] = []
    newest: dict[str, int] = {}
    held_bytes = 0
    for index, arrival in enumerate(arrivals):
        if arrival.stamp_ns < newest.get(arrival.sensor, arrival.stamp_ns) - jump_ns:
            while held:
                yield heapq.heappop(held)[-1]
            held_bytes = 0
            newest.clear()
        newest[arrival.sensor] = max(arrival.stamp_ns, newest.get(arrival.sensor, 0))
        key = (arrival.stamp_ns, arrival.rank, arrival.sensor, index)
        heapq.heappush(held, (*key, arrival))
        held_bytes += arrival.size
        while held and (
            held[0][-1].log_ns <= arrival.log_ns - window_ns or held_bytes > WINDOW_BYTES
        ):
            ready = heapq.heappop(held)[-1]
            held_bytes -= ready.size
            yield ready
    while held:
        yield heapq.heappop(held)[-1]
