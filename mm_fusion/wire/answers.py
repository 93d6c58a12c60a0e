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


def box_rows(boxes: Sequence[Detection | Track]) -> F64:
    """The numbers of boxes as float64 [N, COLUMNS], in the order of Detection3D's members."""
    rows = np.zeros((len(boxes), COLUMNS))
    if not boxes:
        return rows
    rows[:, SCORE] = [b.score for b in boxes]
    rows[:, POSE : POSE + 3] = [b.center for b in boxes]
    half_yaw = np.array([b.yaw for b in boxes]) / 2.0
    rows[:, POSE + 5], rows[:, POSE + 6] = np.sin(half_yaw), np.cos(half_yaw)
    rows[:, CENTER : CENTER + 7] = rows[:, POSE : POSE + 7]
    rows[:, SIZE : SIZE + 3] = [b.size for b in boxes]
    tracks = [b for b in boxes if isinstance(b, Track)]
    covariance = rows[:, COVARIANCE : COVARIANCE + 36].reshape(-1, 6, 6)  # a copy
    if len(tracks) == len(boxes):
        covariance[:, :2, :2] = np.array([t.covariance for t in tracks])[:, :2, :2]
        covariance[:, range(2, 6), range(2, 6)] = LARGE
    else:
        covariance[:, 0, 0] = UNKNOWN
        own = [b.covariance if isinstance(b, Detection) else None for b in boxes]
        known = np.array([n for n, c in enumerate(own) if c is not None], np.intp)
        if len(known):
            _put_covariances(covariance, known, np.array([c for c in own if c is not None]))
    rows[:, COVARIANCE : COVARIANCE + 36] = covariance.reshape(-1, 36)
    return rows


def _put_covariances(matrices: F64, rows: npt.NDArray[np.intp], known: F64) -> None:
    """Those of (x, y, z, yaw) [M,4,4] into some rows of those of (x y z roll pitch yaw) [N,6,6]."""
    matrices[np.ix_(rows, SPATIAL, SPATIAL)] = known
    matrices[rows, 3, 3] = matrices[rows, 4, 4] = LARGE


def encode_boxes(boxes: Sequence[Detection | Track], stamp_ns: int, frame_id: str) -> bytes:
    """A serialized vision_msgs/msg/Detection3DArray: one hypothesis per box.

    The boxes are in ``frame_id``. A Track has its number as id and the covariance of its place; a
    Detection has no id, and the covariance of its pose where it is known. Velocities have no place
    in the type.
    """
    header = _stamp(stamp_ns) + _string(frame_id)
    header += bytes(-len(header) % 4)
    # Header and the number of results; the class's name follows. All end on a multiple of four.
    heads = {
        label: b"".join((header, (1).to_bytes(4, "little"), _padded(label)))
        for label in {b.label for b in boxes}
    }
    data = box_rows(boxes).tobytes()
    parts = [LITTLE_ENDIAN_HEADER, header, len(boxes).to_bytes(4, "little")]
    length = len(header) + 4  # counted, as CDR does, without the encapsulation header
    step = 8 * COLUMNS
    for n, box in enumerate(boxes):
        head = heads[box.label]
        gap = -(length + len(head)) % 8
        name = str(box.track_id) if isinstance(box, Track) else ""
        # Nothing follows the last string: it is not filled up.
        tail = _padded(name) if n + 1 < len(boxes) else _string(name)
        parts += (head, bytes(gap), data[n * step : (n + 1) * step], tail)
        length += len(head) + gap + step + len(tail)
    return b"".join(parts)


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
