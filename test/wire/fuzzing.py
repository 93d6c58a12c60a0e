"""Messages that were tampered with, and what has to hold of the answer to each.

Every message follows from a type, a seed and a number alone. The answer must be a typed rejection
or a correct parse: one that the rosbags library, which shares no code with our reader, finds in
the same bytes, too. To decode a message of n bytes may take 2 * max(n, SMALL_BYTES) of memory, over
which numpy's arrays are counted as well, and no longer than SLOW_S.
"""

from __future__ import annotations

import dataclasses
import math
import random
import struct
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import wire_messages as w
from rosbags.serde import SerdeError

from mm_fusion import wire
from mm_fusion.samples import (
    CameraFrame,
    CameraModel,
    GnssFix,
    ImuSample,
    LidarSweep,
    PoseEstimate,
    Rejection,
    WheelOdometry,
)

POSE = f"{w.ODOMETRY} as a pose"
SAMPLES: dict[str, type] = {
    w.IMAGE: CameraFrame,
    w.COMPRESSED: CameraFrame,
    w.CLOUD: LidarSweep,
    w.FIX: GnssFix,
    w.IMU: ImuSample,
    w.ODOMETRY: WheelOdometry,
    POSE: PoseEstimate,
    w.TWIST: WheelOdometry,
    w.TWIST_COVARIANCE: WheelOdometry,
    w.INFO: CameraModel,
    w.TF: wire.FrameTransforms,
}
# What a message may always take: the objects of a sample, a dtype, an error's text.
SMALL_BYTES = 1 << 16
SLOW_S = 1.0
AGAIN = 3  # a stalled machine charges whoever is at work; a slow decoder is slow again

EXTREMES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 127, 128, 255, 1 << 16, 1 << 20, 0x7FFFFFFF, 0x80000000)
WORDS = (*EXTREMES, 0xFFFFFFFE, 0xFFFFFFFF)
DOUBLES = tuple(
    struct.pack("<d", v)
    for v in (float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324, 0.0, -1.0)
)
NAMES = (*("x", "y", "z", "t", "time", "timestamp", "intensity", "i", "ring", "", "é", "x\0y"),)
POINT = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("i", "u1"), ("timestamp", "f8")])


# ------------------------------------------------------------------------------ whole messages


def _points(count: int) -> Any:
    points = np.zeros(count, POINT)
    points["x"] = np.arange(count)
    points["timestamp"] = np.linspace(0.0, 0.1, count)
    return points


def _transforms(count: int) -> Any:
    return w.tf(*((f"a{n}", f"b{n}", (1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0)) for n in range(count)))


def _wholes() -> dict[str, list[Any]]:
    """Good messages of every type, small ones first; the last of the large types are large."""
    return {
        w.IMAGE: [
            w.image(),
            w.image(3, 5, "mono8", 8),
            w.image(720, 1280, "rgb8", 3840, bytes(720 * 3840)),
        ],
        w.COMPRESSED: [
            w.compressed("rgb8; jpeg compressed bgr8"),
            w.compressed("png", w.PNG),
            w.compressed("", w.JPEG),
            w.compressed("jpeg", w.JPEG + bytes(300_000)),
        ],
        w.CLOUD: [
            w.cloud(_points(64).reshape(4, 16)),
            w.cloud(_points(7)),
            w.cloud(_points(12).reshape(3, 4), row_step=100, data=bytes(300)),
            w.cloud(_points(60_000)),
        ],
        w.FIX: [w.nav_sat_fix(), w.nav_sat_fix(status=-1, kind=0)],
        w.IMU: [w.imu()],
        w.ODOMETRY: [w.odometry()],
        POSE: [w.odometry()],
        w.TWIST: [w.twist_stamped()],
        w.TWIST_COVARIANCE: [w.twist_with_covariance()],
        w.INFO: [w.camera_info(), w.camera_info((), ""), w.camera_info((0.1,) * 4, "equidistant")],
        w.TF: [_transforms(1), _transforms(0), _transforms(30)],
    }


SEEDS = {
    kind: [w.cdr(message, little) for message in messages for little in (True, False)]
    for kind, messages in _wholes().items()
}
LARGE_BYTES = 10_000
LARGE_SHARE = 0.02  # of the messages; they cost as much as all others


def _hostile_cloud(rng: random.Random) -> bytes:
    """A cloud whose field table nobody means well with, and whose sizes may fit all the same."""
    step = rng.choice((1, 4, 12, 16, 24, 100, 65535, 65536, 65537, 0xFFFFFFFF))
    count = rng.choice((0, 1, 3, 4, 5, 8, 40, 127, 128, 129, 400))
    names = [f"f{n}" for n in range(count)] if rng.random() < 0.5 else NAMES
    fields = []
    for n in range(count):
        name = "xyz"[n] if n < 3 and rng.random() < 0.9 else rng.choice(names)
        offset = rng.choice((4 * n, 0, 1, step - 1 & 0xFFFFFFFF, rng.choice(WORDS)))
        datatype = rng.choice((1, 2, 4, 6, 7, 8, rng.randrange(256)))
        elements = rng.choice((1, 1, 1, 0, 2, rng.choice(WORDS)))
        fields.append((name, offset, datatype, elements))
    height, width = rng.choice((0, 1, 2, rng.choice(WORDS))), rng.choice((0, 1, 5, 64))
    if rng.random() < 0.7:
        height = 1
    size = height * width * step
    if size > 1 << 20:
        size = rng.choice((0, 64, 4096))
    row = rng.choice((width * step & 0xFFFFFFFF, rng.choice(WORDS)))
    message = w.cloud(
        np.zeros(0, POINT),
        fields=fields,
        bigendian=rng.random() < 0.3,
        **{"height": height, "width": width, "point_step": step, "row_step": row},
        data=bytes(size),
    )
    return w.cdr(message, rng.random() < 0.7)


# ------------------------------------------------------------------------------ the tampering


def _bit(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] = rng.randrange(256)


def _word(data: bytearray, at: int, rng: random.Random) -> None:
    at &= ~3
    order = "<" if rng.random() < 0.7 else ">"
    data[at : at + 4] = struct.pack(order + "I", rng.choice(WORDS))[: len(data) - at]


def _length(data: bytearray, at: int, rng: random.Random) -> None:
    """A length that is nearly right: the word is made a little larger or smaller."""
    at &= ~3
    if at + 4 <= len(data):
        value = struct.unpack_from("<I", data, at)[0] + rng.choice((-8, -4, -1, 1, 4, 8))
        struct.pack_into("<I", data, at, value & 0xFFFFFFFF)


def _double(data: bytearray, at: int, rng: random.Random) -> None:
    at = (at & ~7) + 4  # doubles are aligned to the end of the four-byte header
    data[at : at + 8] = rng.choice(DOUBLES)[: max(len(data) - at, 0)]


def _cut(data: bytearray, at: int, _rng: random.Random) -> None:
    del data[at:]


def _remove(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.randrange(1, 9)]


def _insert(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = rng.randbytes(rng.randrange(1, 9))


def _extend(data: bytearray, _at: int, rng: random.Random) -> None:
    data.extend(bytes(rng.choice((1, 4, 100))))


def _order(data: bytearray, _at: int, _rng: random.Random) -> None:
    data[1] ^= 1  # the bytes are now said to be in the wrong order


def _encapsulation(data: bytearray, _at: int, rng: random.Random) -> None:
    data[:4] = bytes(rng.choice((0, 1, 2, 3, 7, 255)) for _ in range(4))


TAMPERINGS: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    *(_bit, _byte, _word, _word, _length, _double, _cut, _remove, _insert, _extend, _order),
    _encapsulation,
)


def message(kind: str, seed: int, number: int) -> bytes:
    """The tampered message of that number."""
    rng = random.Random(f"{kind}/{seed}/{number}")
    small = [s for s in SEEDS[kind] if len(s) < LARGE_BYTES]
    large = [s for s in SEEDS[kind] if len(s) >= LARGE_BYTES]
    if kind == w.CLOUD and rng.random() < 0.4:
        raw = _hostile_cloud(rng)
        if rng.random() < 0.5:
            return raw
    else:
        raw = rng.choice(large if large and rng.random() < LARGE_SHARE else small)
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if len(data) < 4:
            break
        # Most of what decides stands near the start.
        end = len(data) if rng.random() < 0.4 else min(len(data), 160)
        rng.choice(TAMPERINGS)(data, rng.randrange(end), rng)
    return bytes(data)


# ------------------------------------------------------------------------------ the verdict


def decoded(kind: str, raw: bytes) -> Any:
    """Our answer."""
    return wire.decode_pose(raw, "s") if kind == POSE else wire.decode(kind, raw, "s")


def _told_by_rosbags(kind: str, raw: bytes) -> Any:
    """The sample from what rosbags finds; None where it finds no message."""
    known = w.STORE.get_msgdef(w.ODOMETRY if kind == POSE else kind)
    read = known.deserialize_cdr_le if raw[1] else known.deserialize_cdr_be
    try:
        found, _ = read(raw[4:], 0, known.cls, w.STORE)
    except (SerdeError, struct.error, ValueError):
        return None  # it wants strings with their NUL, for one, and we do without
    return wire.pose_from_message(found, "s") if kind == POSE else wire.from_message(found, "s")


def equal(a: Any, b: Any) -> bool:
    """Whether two samples are the same to the last bit, NaN and all."""
    if isinstance(a, np.ndarray) and a.dtype.names:
        # Field by field: what lies between the fields means nothing.
        return bool(a.dtype == b.dtype) and all(equal(a[n], b[n]) for n in a.dtype.names)
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if dataclasses.is_dataclass(a):
        fields = [f.name for f in dataclasses.fields(a)]
        return type(a) is type(b) and all(equal(getattr(a, n), getattr(b, n)) for n in fields)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)


@dataclasses.dataclass
class Verdict:
    """What came of many messages."""

    messages: int = 0
    samples: int = 0
    judged: int = 0  # samples that rosbags read, too, and all of them to the same result
    rejections: Counter[str] = dataclasses.field(default_factory=Counter)
    largest_bytes: int = 0
    largest_share: float = 0.0  # of what the message may take
    slowest_s: float = 0.0


@contextmanager
def traced() -> Iterator[None]:
    """Memory is counted inside."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def check(kind: str, raw: bytes, verdict: Verdict) -> None:
    """Decode one message and hold the answer against the rules. Call it inside :func:`traced`.

    Raises AssertionError where one is broken; whatever else it raises breaks one, too.
    """
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    start_s = time.thread_time()
    answer = decoded(kind, raw)
    spent_s = time.thread_time() - start_s
    taken = tracemalloc.get_traced_memory()[1] - before
    allowed = 2 * max(len(raw), SMALL_BYTES)
    assert taken <= allowed, f"{taken} bytes of memory for a message of {len(raw)}"
    for _ in range(AGAIN if spent_s >= SLOW_S else 0):
        start_s = time.thread_time()
        decoded(kind, raw)
        spent_s = min(spent_s, time.thread_time() - start_s)
    assert spent_s < SLOW_S, f"{spent_s:.3f} s"
    verdict.messages += 1
    verdict.largest_bytes = max(verdict.largest_bytes, taken)
    verdict.largest_share = max(verdict.largest_share, taken / allowed)
    verdict.slowest_s = max(verdict.slowest_s, spent_s)
    if isinstance(answer, Rejection):
        assert answer.detail
        verdict.rejections[answer.reason.value] += 1
        return
    assert isinstance(answer, SAMPLES[kind]), type(answer)
    verdict.samples += 1
    wanted = _told_by_rosbags(kind, raw)
    if wanted is not None:
        assert equal(answer, wanted), f"{answer} is not {wanted}"
        verdict.judged += 1


def run(kind: str, seed: int, numbers: range) -> Verdict:
    """Check the messages of those numbers; the error of a broken rule names its message."""
    verdict = Verdict()
    for raw in SEEDS[kind]:
        decoded(kind, raw)  # what is made once and kept is nobody's share
    with traced():
        for number in numbers:
            raw = message(kind, seed, number)
            try:
                check(kind, raw, verdict)
            except Exception as error:
                text = f"{kind}, seed {seed}, number {number}, {raw[:400].hex()}: {error!r}"
                raise AssertionError(text) from error
    return verdict
