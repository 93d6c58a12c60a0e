"""The answers of fusion_node as serialized messages: boxes and diagnostics, written directly.

A Detection3D holds 54 numbers in a row between two strings; as message objects, filled and
serialized field by field, fifty of them cost more than everything else the node does with boxes.
Here the numbers of all boxes are one float64 table, and each row of it is copied as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mm_fusion.samples import NS_PER_S, Detection, Track
from mm_fusion.wire.cdr import LITTLE_ENDIAN_HEADER

F64 = npt.NDArray[np.float64]

# The row of a box: score, pose (position, quaternion), covariance [36], pose again, size.
SCORE, POSE, COVARIANCE, CENTER, SIZE, COLUMNS = 0, 1, 8, 44, 51, 54
# A covariance whose first element is -1 is unknown (sensor_msgs).
UNKNOWN = -1.0
# The tracker estimates x and y; of the rest nothing is known, and a large number says so.
LARGE = 1e3
SPATIAL = np.array([0, 1, 2, 5])  # x, y, z and yaw among (x y z roll pitch yaw)
# Columns of a row: of all pairs of those, and of the variances of roll and pitch.
PAIRS = (COVARIANCE + 6 * SPATIAL[:, None] + SPATIAL).reshape(-1)
LEANING = slice(COVARIANCE + 3 * 7, COVARIANCE + 4 * 7 + 1, 7)
NOT_TRACKED = slice(COVARIANCE + 2 * 7, COVARIANCE + 36, 7)  # variances of all but x and y


def box_rows(boxes: Sequence[Detection | Track]) -> F64:
    """The numbers of boxes as float64 [N, COLUMNS], in the order of Detection3D's members."""
    count = len(boxes)
    rows = np.zeros((count, COLUMNS))
    if not boxes:
        return rows
    rows[:, SCORE] = [b.score for b in boxes]
    rows[:, POSE : POSE + 3] = _stacked([b.center for b in boxes], (count, 3))
    half_yaw = np.array([b.yaw for b in boxes]) / 2.0
    rows[:, POSE + 5], rows[:, POSE + 6] = np.sin(half_yaw), np.cos(half_yaw)
    rows[:, CENTER : CENTER + 7] = rows[:, POSE : POSE + 7]
    rows[:, SIZE : SIZE + 3] = _stacked([b.size for b in boxes], (count, 3))
    tracks = [b for b in boxes if isinstance(b, Track)]
    if len(tracks) == count:
        own = _stacked([t.covariance for t in tracks], (count, 4, 4))
        for axis in range(2):
            first = COVARIANCE + 6 * axis
            rows[:, first : first + 2] = own[:, axis, :2]
        rows[:, NOT_TRACKED] = LARGE
        return rows
    given = [b.covariance if isinstance(b, Detection) else None for b in boxes]
    known = [n for n, c in enumerate(given) if c is not None]
    rows[:, COVARIANCE] = UNKNOWN
    if known:
        own = _stacked([c for c in given if c is not None], (len(known), 16))
        if len(known) == count:
            rows[:, PAIRS], rows[:, LEANING] = own, LARGE
        else:
            rows[np.array(known)[:, None], PAIRS] = own
            rows[known, LEANING] = LARGE
    return rows


def _stacked(parts: Sequence[F64], shape: tuple[int, ...]) -> F64:
    """Arrays of one shape as one of ``shape``; faster than asking numpy what a list of them is."""
    return np.concatenate(parts).reshape(shape)


def encode_boxes(boxes: Sequence[Detection | Track], stamp_ns: int, frame_id: str) -> bytes:
    """A serialized vision_msgs/msg/Detection3DArray: one hypothesis per box.

    The boxes are in ``frame_id``. A Track has its number as id and the covariance of its place; a
    Detection has no id, and the covariance of its pose where it is known. Velocities have no place
    in the type.
    """
    header = _stamp(stamp_ns) + _string(frame_id)
    header += bytes(-len(header) % 4)
    one = (1).to_bytes(4, "little")
    heads = {label: _heads(header + one + _padded(label)) for label in {b.label for b in boxes}}
    data = box_rows(boxes).tobytes()
    parts = [LITTLE_ENDIAN_HEADER, header, len(boxes).to_bytes(4, "little")]
    length = len(header) + 4  # counted, as CDR does, without the encapsulation header
    step = 8 * COLUMNS
    name = ""
    for start, box in zip(range(0, step * len(boxes), step), boxes, strict=True):
        head = heads[box.label][length & 4]
        name = str(box.track_id) if isinstance(box, Track) else ""
        tail = _padded(name) if name else NAMELESS
        parts += (head, data[start : start + step], tail)
        length += len(head) + step + len(tail)
    if boxes:
        parts[-1] = _string(name)  # nothing follows the last string: it is not filled up
    return b"".join(parts)


def _heads(head: bytes) -> dict[int, bytes]:
    """What stands before a box's numbers (header, number of results, the class's name), filled up
    to where numbers may stand, by the place modulo 8 of its beginning, which is 0 or 4."""
    return {at: head + bytes(-(at + len(head)) % 8) for at in (0, 4)}


def encode_diagnostics(
    stamp_ns: int, frame_id: str, level: int, texts: Sequence[str], values: Mapping[str, str]
) -> bytes:
    """A serialized diagnostic_msgs/msg/DiagnosticArray of one status.

    ``texts`` are its name, message and hardware id; ``level`` 0 to 3 as in DiagnosticStatus.
    """
    header = _stamp(stamp_ns) + _string(frame_id)
    parts = [LITTLE_ENDIAN_HEADER, header, bytes(-len(header) % 4), (1).to_bytes(4, "little")]
    parts.append(bytes((level, 0, 0, 0)))
    parts += (_padded(text) for text in texts)
    parts.append(len(values).to_bytes(4, "little"))
    for key, value in values.items():
        parts += (_padded(key), _padded(value))
    if values:
        parts[-1] = _string(value)
    return b"".join(parts)


def _stamp(stamp_ns: int) -> bytes:
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    return sec.to_bytes(4, "little", signed=True) + nanosec.to_bytes(4, "little")


def _string(text: str) -> bytes:
    data = text.encode()
    return (len(data) + 1).to_bytes(4, "little") + data + b"\x00"


def _padded(text: str) -> bytes:
    """A string that begins on a multiple of four and is filled up to the next one.

    Only for strings that something aligned to four bytes follows, or the message's end.
    """
    data = _string(text)
    return data + bytes(-len(data) % 4)


NAMELESS = _padded("")
