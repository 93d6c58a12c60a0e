"""Between the thread that receives and the one that runs the network: bounded, the newest wins."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

# Without work, the small things are looked at this often, so that they do not pile up.
LONGEST_WAIT_S = 0.5
# Pieces of work by which it is told whether the worker keeps up.
REMEMBERED = 64

Small = TypeVar("Small")
Work = TypeVar("Work")


class NewestWins(Generic[Small, Work]):
    """Work for one worker thread.

    ``put`` work is bounded: when ``size`` pieces wait, the oldest is given up and returned to
    the caller, who counts it. A worker that has not been without work for ``patience_s``, and whose
    last pieces took longer than they were apart, is not behind because of a burst, but too slow;
    then only the newest piece waits, so that what is answered is new, until the worker has caught
    up. One that is nearly as slow stays busy for long, too, but loses nothing by its queue.
    ``note`` hands over small things (motion, calibration) that are never given up; all of them that
    were noted before a piece of work are handled before it.
    """

    def __init__(
        self,
        size: int,
        patience_s: float = math.inf,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size = size
        self._patience_s = patience_s
        self._now_s = now_s
        self._busy_since_s: float | None = None  # None: the worker waits for work
        self._came_s: deque[float] = deque(maxlen=REMEMBERED + 1)
        self._took_s: deque[float] = deque(maxlen=REMEMBERED)
        self._ready = threading.Condition()
        self._work: deque[Work] = deque()
        self._small: deque[Small] = deque()
        self._closed = False
        self._busy = False
        self._stirred = False

    @property
    def idle(self) -> bool:
        """Whether no work waits and none is under way."""
        with self._ready:
            return not self._work and not self._busy

    def note(self, item: Small, stir: bool = False) -> None:
        """Hand over a small thing; the worker looks at it when it next has work, or with ``stir``
        as soon as it has time."""
        self._small.append(item)
        if stir:
            with self._ready:
                self._stirred = True
                self._ready.notify()

    def put(self, work: Work) -> list[Work]:
        """Hand over work; answers the pieces that had to go for it, the oldest first."""
        with self._ready:
            self._came_s.append(self._now_s())
            self._work.append(work)
            keep = 1 if self._is_too_slow() else self._size
            given_up = [self._work.popleft() for _ in range(len(self._work) - keep)]
            self._ready.notify()
        return given_up

    def _is_too_slow(self) -> bool:
        since_s, came_s, took_s = self._busy_since_s, self._came_s, self._took_s
        if since_s is None or not took_s or came_s[-1] - since_s <= self._patience_s:
            return False
        apart_s = (came_s[-1] - came_s[0]) / max(len(came_s) - 1, 1)
        return sum(took_s) / len(took_s) > apart_s

    def close(self) -> None:
        """Let the worker finish what waits, then end."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def run(
        self,
        on_small: Callable[[Small], None],
        on_work: Callable[[Work], None],
        on_leisure: Callable[[], None] = lambda: None,
    ) -> None:
        """The worker's loop, until closed and empty. ``on_leisure`` is called after small things
        and after work, where no work waits."""
        while True:
            with self._ready:
                self._ready.wait_for(self._is_called, timeout=LONGEST_WAIT_S)
                self._stirred = False
                work = self._work.popleft() if self._work else None
                done = self._closed and not self._work
                self._busy = work is not None
                if work is not None and self._busy_since_s is None:
                    self._busy_since_s = self._now_s()
            begun_s = self._now_s()
            self._handle_small(on_small)
            if work is not None:
                on_work(work)
                # What came meanwhile is handled now: the next piece of work shall not wait for it.
                self._handle_small(on_small)
                with self._ready:
                    self._busy = False
                    self._took_s.append(self._now_s() - begun_s)
                    if not self._work:
                        self._busy_since_s = None
            if done:
                return
            if not self._work:
                on_leisure()

    def _is_called(self) -> bool:
        return bool(self._work) or self._closed or self._stirred

    def _handle_small(self, on_small: Callable[[Small], None]) -> None:
        for _ in range(len(self._small)):
            on_small(self._small.popleft())
