"""Calls in several processes, one thread each: so they share the cores better than threads do."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from mm_fusion.errors import ConfigError

T = TypeVar("T")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_all(
    calls: Sequence[Callable[[], T]], workers: int, tick: Callable[[], None]
) -> Iterator[T]:
    """What the calls answer, in the order in which they end; ``tick`` is called every second.

    One worker is this process itself, where ``tick`` is called after every call.
    The first error of a call is raised here, and the calls that have not begun are given up.
    """
    if workers < 1:
        raise ConfigError(f"workers: must be 1 or more, got {workers}")
    if workers == 1:
        for call in calls:
            yield call()
            tick()
        return
    with _one_thread_each():
        # an interrupt is the parent's to answer: workers finish what they are at
        pool = ProcessPoolExecutor(
            workers,
            multiprocessing.get_context("spawn"),
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_IGN),
        )
        try:
            waiting: set[Future[T]] = {pool.submit(call) for call in calls}
            while waiting:
                done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                tick()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers that start within have one thread for linear algebra."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
