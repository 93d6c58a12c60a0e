"""Reading and writing plain CDR (XCDR1), the serialization of ROS 2 messages.

Written from the OMG DDS-XTypes specification, section 7.4: a message is a four-byte encapsulation
header, whose second byte tells the byte order, and then the members one after the other, each
primitive aligned to its own size counted from the end of that header. Strings carry their length
with the closing NUL; sequences carry their element count.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mm_fusion.samples import NS_PER_S, Reason

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]
Raw = bytes | bytearray | memoryview | U8

ENCAPSULATION_BYTES = 4
# Names of frames, fields, encodings. A long one would be copied, kept and printed.
MAX_STRING_BYTES = 1024
LITTLE_ENDIAN_HEADER = b"\x00\x01\x00\x00"


class WireError(Exception):
    """Bytes that cannot become a sample; the decoders turn it into a Rejection."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def malformed(detail: str) -> WireError:
    """The error for bytes that are not what their message type says."""
    return WireError(Reason.MALFORMED, detail)


class Header(NamedTuple):
    """std_msgs/Header: the stamp as integer nanoseconds, the frame without a leading slash."""

    stamp_ns: int
    frame_id: str


def stamp_to_ns(sec: int, nanosec: int) -> int:
    """builtin_interfaces/Time as nanoseconds. WireError for what is no time."""
    if sec < 0 or not 0 <= nanosec < NS_PER_S:
        raise malformed(f"stamp: sec must be >= 0 and nanosec below 1e9, got {sec}, {nanosec}")
    return sec * NS_PER_S + nanosec


class CdrReader:
    """A cursor over one serialized message. Every read is checked against the message's end.

    Nothing is copied but strings and numbers; :meth:`octets` answers a view on the message.
    Raises WireError (MALFORMED) for whatever does not fit the bytes.
    """

    __slots__ = ("_end", "_order", "_pos", "_raw", "stamp_ns")

    def __init__(self, raw: Raw) -> None:
        data: bytes | memoryview = (
            raw if isinstance(raw, bytes) else memoryview(raw).cast("B")  # type: ignore[arg-type]
        )
        if len(data) < ENCAPSULATION_BYTES:
            raise malformed(f"{len(data)} bytes are too few for an encapsulation header")
        if data[0] != 0 or data[1] > 1:
            raise malformed(f"encapsulation 0x{data[0]:02x}{data[1]:02x} is not plain CDR")
        self._raw = data
        self._order = "<" if data[1] else ">"
        self._pos = ENCAPSULATION_BYTES
        self._end = len(data)
        self.stamp_ns = 0

    def unpack(self, layout: str, align: int) -> tuple[Any, ...]:
        """Members as a struct format without byte order, padding inside given as ``x``."""
        # CDR aligns to the end of the four-byte header, so that only eight-byte members differ
        # from alignment to the start of the buffer.
        start = ((self._pos - 4 + align - 1) & -align) + 4
        try:
            values = struct.unpack_from(self._order + layout, self._raw, start)
        except struct.error as error:
            raise malformed(f"the message ends at byte {self._end}, inside a member") from error
        self._pos = start + struct.calcsize(self._order + layout)
        return values

    @property
    def order(self) -> str:
        """The byte order, as struct and numpy write it."""
        return self._order

    @property
    def position(self) -> int:
        """How many bytes are read."""
        return self._pos

    def since(self, position: int) -> bytes:
        """A copy of what was read since an earlier position."""
        return bytes(self._raw[position : self._pos])

    def passes(self, expected: bytes) -> bool:
        """Whether the next bytes are these; then they count as read."""
        stop = self._pos + len(expected)
        if self._raw[self._pos : stop] != expected:
            return False
        self._pos = stop
        return True

    def uint32(self) -> int:
        """One unsigned 32-bit integer."""
        value: int = self.unpack("I", 4)[0]
        return value

    def doubles(self, count: int) -> tuple[float, ...]:
        """``count`` float64 numbers that follow each other (an empty run takes no alignment)."""
        if count == 0:
            return ()
        if count * 8 > self._end - self._pos:
            raise malformed(f"{count} numbers do not fit into {self._end - self._pos} bytes")
        return self.unpack(f"{count}d", 8)

    def float64s(self, count: int) -> F64:
        """The same as an array float64 [count] of its own."""
        if count * 8 > self._end - self._pos:
            raise malformed(f"{count} numbers do not fit into {self._end - self._pos} bytes")
        start = ((self._pos - 4 + 7) & -8) + 4
        if start + count * 8 > self._end:
            raise malformed(f"the message ends at byte {self._end}, inside a member")
        self._pos = start + count * 8
        return np.frombuffer(self._raw, self._order + "f8", count, start).astype(np.float64)

    def string(self) -> str:
        """A string of at most MAX_STRING_BYTES, without the closing NUL."""
        length = self.uint32()
        start, stop = self._pos, self._pos + length
        if stop > self._end:
            raise malformed(f"a string of {length} bytes does not fit into the message")
        if length > MAX_STRING_BYTES:
            raise malformed(f"a string of {length} bytes: at most {MAX_STRING_BYTES} are read")
        self._pos = stop
        if length and self._raw[stop - 1] == 0:
            stop -= 1
        try:
            return str(self._raw[start:stop], "utf-8")
        except UnicodeDecodeError as error:
            raise malformed("a string is not UTF-8") from error

    def octets(self) -> U8:
        """A sequence of bytes as a view on the message: uint8 [n], never a copy."""
        length = self.uint32()
        start = self._pos
        if start + length > self._end:
            raise malformed(
                f"{length} bytes of data announced, {self._end - start} are in the message"
            )
        self._pos = start + length
        return np.frombuffer(self._raw, np.uint8, length, start)

    def header(self, allow_zero_stamp: bool = False) -> Header:
        """std_msgs/Header. WireError with ZERO_STAMP for a stamp nobody filled in."""
        sec, nanosec = self.unpack("iI", 4)
        self.stamp_ns = stamp_to_ns(sec, nanosec)
        if self.stamp_ns == 0 and not allow_zero_stamp:
            raise WireError(Reason.ZERO_STAMP, "header.stamp is zero")
        return Header(self.stamp_ns, self.string().lstrip("/"))


class CdrWriter:
    """Builds one little-endian message; the counterpart of :class:`CdrReader`.

    Large payloads are kept as they are until :meth:`finish`, which copies each of them once.
    """

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = [LITTLE_ENDIAN_HEADER]
        self._length = 0

    def pack(self, layout: str, align: int, *values: float) -> None:
        """Members as a struct format without byte order, padding inside given as ``x``."""
        padding = -self._length % align
        packed = struct.pack(f"<{padding}x{layout}", *values)
        self._parts.append(packed)
        self._length += len(packed)

    def string(self, text: str) -> None:
        """A string with its length and closing NUL."""
        data = text.encode() + b"\x00"
        self.pack("I", 4, len(data))
        self._parts.append(data)
        self._length += len(data)

    def octets(self, data: memoryview) -> None:
        """A sequence of bytes; ``data`` must be contiguous."""
        view = data.cast("B")
        self.pack("I", 4, view.nbytes)
        self._parts.append(view)
        self._length += view.nbytes

    def header(self, stamp_ns: int, frame_id: str) -> None:
        """std_msgs/Header."""
        self.pack("iI", 4, stamp_ns // NS_PER_S, stamp_ns % NS_PER_S)
        self.string(frame_id)

    def finish(self) -> bytes:
        """The whole message."""
        return b"".join(self._parts)
