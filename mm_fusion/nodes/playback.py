"""A bag in real time: when which message is due."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from mm_fusion.errors import MmFusionError
from mm_fusion.evaluation.bags import Bag, BagMessage
from mm_fusion.samples import NS_PER_S

READ_AHEAD = 64


class Playback:
    """Calls ``on_message`` for every message of the named topics when it is due.

    ``on_clock`` gets the bag's time ``clock_hz`` times a second. Reading goes on ahead in a
    thread of its own, so that a slow disk does not show in the times.
    """

    def __init__(
        self,
        path: Path,
        names: Collection[str],
        on_message: Callable[[BagMessage], None],
        on_clock: Callable[[int], None],
        rate: float = 1.0,
        clock_hz: float = 0.0,
    ) -> None:
        self._path = path
        self._names = set(names)
        self._on_message = on_message
        self._on_clock = on_clock
        self._rate = rate
        self._step_ns = round(NS_PER_S / clock_hz) if clock_hz > 0 else 0
        self._stopped = threading.Event()
        self._read: queue.Queue[BagMessage | MmFusionError | None] = queue.Queue(READ_AHEAD)
        self.start_ns = 0
        self.end_ns = 0
        self.now_ns = 0
        self.worst_delay_s = 0.0

    def stop(self) -> None:
        """Let :meth:`run` return soon."""
        self._stopped.set()

    def run(self) -> None:
        """Play once. Raises BagError for what cannot be read."""
        reader = threading.Thread(target=self._read_ahead, name="reader", daemon=True)
        with Bag(self._path) as bag:
            self.start_ns, self.end_ns = bag.start_ns, bag.end_ns
        self.now_ns = self.start_ns
        reader.start()
        message = self._next()
        begun_ns = time.monotonic_ns()
        tick_ns = self.start_ns
        while message is not None and not self._stopped.is_set():
            if self._step_ns and tick_ns <= message.log_ns:
                self._wait_until(tick_ns, begun_ns)
                self._on_clock(tick_ns)
                tick_ns += self._step_ns
                continue
            late_s = self._wait_until(message.log_ns, begun_ns)
            self.worst_delay_s = max(self.worst_delay_s, late_s)
            self._on_message(message)
            self.now_ns = message.log_ns
            message = self._next()

    def _wait_until(self, bag_ns: int, begun_ns: int) -> float:
        """Sleep until bag time ``bag_ns`` is due; how late that was, in seconds."""
        due_ns = begun_ns + (bag_ns - self.start_ns) / self._rate
        while not self._stopped.is_set():
            ahead_s = (due_ns - time.monotonic_ns()) / NS_PER_S
            if ahead_s <= 0:
                return -ahead_s
            self._stopped.wait(ahead_s)
        return 0.0

    def _next(self) -> BagMessage | None:
        item = self._read.get()
        if isinstance(item, MmFusionError):
            raise item
        return item

    def _read_ahead(self) -> None:
        try:
            with Bag(self._path) as bag:
                for message in bag.messages(self._names):
                    self._put(message)
                    if self._stopped.is_set():
                        break
            self._put(None)
        except MmFusionError as error:
            self._put(error)

    def _put(self, item: BagMessage | MmFusionError | None) -> None:
        while not self._stopped.is_set():
            try:
                self._read.put(item, timeout=0.2)
                return
            except queue.Full:
                continue
