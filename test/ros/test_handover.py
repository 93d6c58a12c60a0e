"""The queue between the receiving and the working thread."""

from __future__ import annotations

import threading

from mm_fusion.nodes.handover import NewestWins


def test_oldest_work_is_given_up_for_the_newest() -> None:
    queue: NewestWins[str, int] = NewestWins(2)
    assert [queue.put(n) for n in (1, 2, 3, 4)] == [None, None, 1, 2]
    queue.close()
    done: list[int] = []
    queue.run(lambda _: None, done.append)
    assert done == [3, 4]


def test_small_things_come_before_the_work_that_followed_them() -> None:
    queue: NewestWins[str, int] = NewestWins(2)
    queue.note("a")
    queue.put(1)
    queue.note("b")
    queue.close()
    seen: list[object] = []
    queue.run(seen.append, seen.append)
    assert seen.index("a") < seen.index(1)
    assert set(seen) == {"a", "b", 1}


def test_small_things_are_handled_although_no_work_comes() -> None:
    queue: NewestWins[str, int] = NewestWins(1)
    handled = threading.Event()
    worker = threading.Thread(target=queue.run, args=(lambda _: handled.set(), lambda _: None))
    worker.start()
    queue.note("calibration")
    assert handled.wait(10.0)
    queue.close()
    worker.join(10.0)
    assert not worker.is_alive()


def test_worker_finishes_what_waits_before_it_ends() -> None:
    queue: NewestWins[str, int] = NewestWins(3)
    for n in (1, 2, 3):
        queue.put(n)
    done: list[int] = []
    worker = threading.Thread(target=queue.run, args=(lambda _: None, done.append))
    queue.close()
    worker.start()
    worker.join(10.0)
    assert done == [1, 2, 3]
