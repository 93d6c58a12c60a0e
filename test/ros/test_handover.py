"""The queue between the receiving and the working thread."""

from __future__ import annotations

import threading

from mm_fusion.nodes.handover import NewestWins


def test_oldest_work_is_given_up_for_the_newest() -> None:
    queue: NewestWins[str, int] = NewestWins(2)
    assert [queue.put(n) for n in (1, 2, 3, 4)] == [[], [], [1], [2]]
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


def test_leisure_comes_after_what_stirs_and_only_without_work() -> None:
    """GIVEN a small thing that stirs WHEN the worker has no work THEN it is handled at once, then
    there is leisure; with work waiting there is none before it is done."""
    queue: NewestWins[str, int] = NewestWins(2)
    seen: list[object] = []
    rested = threading.Event()

    def rest() -> None:
        seen.append("rest")
        rested.set()

    worker = threading.Thread(target=queue.run, args=(seen.append, seen.append, rest))
    queue.put(1)
    queue.put(2)
    queue.note("a", stir=True)
    worker.start()
    assert rested.wait(10.0)
    rested.clear()
    queue.note("b", stir=True)
    assert rested.wait(10.0)
    queue.close()
    worker.join(10.0)
    assert seen[:4] == ["a", 1, 2, "rest"]
    assert seen.index("b") > seen.index("rest")


def test_a_worker_that_is_too_slow_gets_the_newest_work_only() -> None:
    """GIVEN two pieces of work in the time that one takes WHEN the worker has not waited for any
    for longer than the patience THEN it gets the newest, and WHEN it has caught up THEN a burst
    waits again."""
    now_s = [100.0]
    queue: NewestWins[str, int] = NewestWins(4, patience_s=1.0, now_s=lambda: now_s[0])
    put: list[int] = []
    done: list[int] = []
    behind: list[int] = []
    given_up: list[int] = []
    rested: list[int] = []

    def hand_over() -> None:
        put.append(len(put))
        given_up.extend(queue.put(put[-1]))

    def work(piece: int) -> None:
        done.append(piece)
        behind.append(put[-1] - piece)
        for _ in range(2 if len(done) < 10 else 0):
            now_s[0] += 0.11
            hand_over()
        if rested:
            now_s[0] += 0.5
            queue.close()

    def rest() -> None:
        rested.append(len(done))
        if len(rested) == 1:
            for _ in range(4):
                hand_over()

    hand_over()
    queue.run(lambda _: None, work, rest)
    assert behind[:4] == [0, 1, 2, 3]
    assert behind[5:] == [0] * 5 + [3, 2, 1, 0]
    assert rested[0] == 10
    assert given_up == sorted(given_up)
    assert sorted(done + given_up) == put


def test_a_worker_that_is_nearly_too_slow_answers_everything() -> None:
    """GIVEN work every 0.1 s that takes 0.09 s, and one piece that took 0.3 s, WHEN the worker has
    hence not been without work for far longer than the patience THEN nothing is given up."""
    now_s = [100.0]
    queue: NewestWins[str, int] = NewestWins(4, patience_s=1.0, now_s=lambda: now_s[0])
    due_s = [100.0 + 0.1 * n for n in range(60)]
    put: list[int] = []
    done: list[int] = []
    given_up: list[int] = []
    busy: list[bool] = []

    def let_pass(seconds: float) -> None:
        end_s = now_s[0] + seconds
        while len(put) < len(due_s) and due_s[len(put)] <= end_s:
            now_s[0] = max(now_s[0], due_s[len(put)])
            put.append(len(put))
            given_up.extend(queue.put(put[-1]))
        now_s[0] = end_s

    def work(piece: int) -> None:
        let_pass(0.3 if piece == 30 else 0.09)
        done.append(piece)
        busy.append(len(put) > len(done))

    def rest() -> None:
        if len(put) == len(due_s):
            queue.close()
        else:
            let_pass(due_s[len(put)] - now_s[0])

    let_pass(0.0)
    queue.run(lambda _: None, work, rest)
    assert all(busy[30:48])  # nearly two seconds
    assert given_up == []
    assert done == list(range(60))
