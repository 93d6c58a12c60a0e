"""message_filters' Python ApproximateTimeSynchronizer, fed without DDS, as the bench's peer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from std_msgs.msg import Header

NS_PER_S = 1_000_000_000


class _Message:
    """Anything with a header."""

    def __init__(self, stamp_ns: int) -> None:
        self.header = Header()
        self.header.stamp.sec, self.header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)


class Peer:
    """Its sets come to ``sets`` as the stamps of their messages, in the order of ``names``."""

    def __init__(self, names: Sequence[str], queue_size: int, slop_s: float) -> None:
        import message_filters

        self._filters = {name: message_filters.SimpleFilter() for name in names}
        self._sync = message_filters.ApproximateTimeSynchronizer(
            list(self._filters.values()), queue_size, slop_s
        )
        self._sync.registerCallback(self._on_set)
        self.sets: list[tuple[int, ...]] = []

    def message(self, stamp_ns: int) -> Any:
        """What a subscriber would hand over."""
        return _Message(stamp_ns)

    def add(self, name: str, message: Any) -> None:
        """One message came."""
        self._filters[name].signalMessage(message)

    def _on_set(self, *messages: Any) -> None:
        stamps = (m.header.stamp for m in messages)
        self.sets.append(tuple(s.sec * NS_PER_S + s.nanosec for s in stamps))


def available() -> bool:
    """Whether message_filters can be imported here."""
    try:
        import message_filters  # noqa: F401
    except ImportError:
        return False
    return True
