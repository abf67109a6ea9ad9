"""The threads of a model: whose frame is next, who joins and leaves, and when they end."""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from inference.worker.dummies import wait_for

from agent.inference.backends.in_flight import InFlightLimiter, Slot
from agent.inference.serving import model_threads
from agent.inference.serving.model_threads import ModelThreads, ThreadsOfModels


class CountedFeed:
    """A feed with as many frames as are offered, of which each is noted and inferred once it may be."""

    def __init__(self, name: str, served: list[str], may_infer: threading.Semaphore) -> None:
        self._name = name
        self._served = served
        self._may_infer = may_infer
        self._signal = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self.is_unsignalled = False

    def __del__(self) -> None:
        os.close(self._signal)

    def offer(self, count: int = 1) -> None:
        os.eventfd_write(self._signal, count)

    def fileno(self) -> int:
        return self._signal

    def is_waiting(self) -> bool:
        return self.is_unsignalled

    def serve(self, slot: Slot) -> None:
        if self.is_unsignalled:
            self.is_unsignalled = False
        else:
            os.eventfd_read(self._signal)
        self._served.append(self._name)
        with slot:
            self._may_infer.acquire()


class Scene:
    """A model, its threads, and what they served, in order."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.may_infer = threading.Semaphore(0)
        self.places = InFlightLimiter()
        self.threads = ModelThreads("model", self.places)

    def feed(self, name: str) -> CountedFeed:
        return CountedFeed(name, self.served, self.may_infer)

    def has_served(self, count: int) -> bool:
        return len(self.served) == count


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    made.threads.start()
    yield made
    made.threads.stop()
    made.may_infer.release(100)
    made.threads.close()


def _serve_one(scene: Scene) -> Callable[[], bool]:
    count = len(scene.served) + 1
    scene.may_infer.release()
    return lambda: scene.has_served(count)


def test_the_stream_served_longest_ago_comes_first_however_many_frames_another_has(scene: Scene) -> None:
    greedy, modest, late = (scene.feed(name) for name in ("greedy", "modest", "late"))
    for feed in (late, modest, greedy):
        scene.threads.add(feed)
    greedy.offer(50)
    wait_for(lambda: scene.has_served(2))
    modest.offer(2)
    late.offer(1)
    for _ in range(5):
        wait_for(_serve_one(scene))
    assert scene.served == ["greedy", "greedy", "modest", "late", "greedy", "modest", "greedy"]


def test_a_stream_that_joins_while_the_threads_wait_is_served_and_one_that_left_is_not(scene: Scene) -> None:
    stays, leaves, joins = (scene.feed(name) for name in ("stays", "leaves", "joins"))
    scene.may_infer.release(100)
    scene.threads.add(stays)
    scene.threads.add(leaves)
    leaves.offer()
    wait_for(lambda: scene.served == ["leaves"])
    assert not scene.threads.remove(leaves)
    leaves.offer()
    scene.threads.add(joins)
    joins.offer()
    wait_for(lambda: scene.served == ["leaves", "joins"])
    assert scene.threads.remove(joins) is False
    assert scene.threads.remove(stays) is True


def test_a_frame_that_was_offered_and_never_signalled_is_served(scene: Scene) -> None:
    feed = scene.feed("a")
    scene.threads.add(feed)
    scene.may_infer.release()
    feed.is_unsignalled = True
    wait_for(lambda: scene.served == ["a"])


def test_a_stream_whose_line_switches_to_the_model_that_it_has_is_served_on(scene: Scene) -> None:
    before = scene.feed("before")
    after = CountedFeed("after", scene.served, scene.may_infer)
    after.fileno = before.fileno  # type: ignore[method-assign] # the same stream's
    scene.threads.add(before)
    scene.threads.add(after)
    assert not scene.threads.remove(before)
    scene.may_infer.release()
    after.is_unsignalled = True
    wait_for(lambda: scene.served == ["after"])


def test_of_lines_that_switch_to_a_model_at_one_moment_one_alone_is_its_first(scene: Scene) -> None:
    threads = ThreadsOfModels()
    places = InFlightLimiter()
    feeds = [scene.feed(str(number)) for number in range(8)]
    barrier = threading.Barrier(len(feeds))
    firsts: list[bool] = []

    def switch(feed: CountedFeed) -> None:
        barrier.wait(60)
        firsts.append(threads.add_first("part:n@1", places, [feed]))

    switching = [threading.Thread(target=switch, args=(feed,)) for feed in feeds]
    for one in switching:
        one.start()
    for one in switching:
        one.join()
    assert sorted(firsts) == [False] * 7 + [True]
    assert not threads.add_first("part:n@1", places, [feeds[0]])
    scene.may_infer.release(8)
    first = next(feed for feed in feeds if places_has(threads, places, feed))
    threads.remove(places, [first])
    threads.join()
    assert threads.add_first("part:n@1", places, [feeds[0]])
    threads.remove(places, [feeds[0]])
    threads.join()


def places_has(threads: ThreadsOfModels, places: InFlightLimiter, feed: CountedFeed) -> bool:
    """Return True where a model's threads serve a feed."""
    return feed in threads._serving[places]._feeds.values()


def test_models_that_come_and_go_leave_no_descriptor() -> None:
    scene, threads = Scene(), ThreadsOfModels()
    feed = scene.feed("a")

    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = descriptors()
    gc.disable()
    try:
        for _ in range(8):
            threads.add("part:n@1", scene.places, [feed])
            threads.remove(scene.places, [feed])
        threads.join()
        assert descriptors() == before
    finally:
        gc.enable()


def test_threads_that_end_leave_the_turn_at_once_to_those_that_come_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_threads, "_LOOK_UP_S", 3600.0)
    scene, threads = Scene(), ThreadsOfModels()
    feed = scene.feed("a")
    scene.may_infer.release(100)
    for turn in range(3):
        threads.add("part:n@1", scene.places, [feed])
        feed.offer()
        wait_for(partial(scene.has_served, turn + 1))
        threads.remove(scene.places, [feed])
    threads.join()


def test_threads_start_with_a_models_first_stream_and_end_with_its_last_one() -> None:
    scene, threads = Scene(), ThreadsOfModels()
    first, second = scene.feed("first"), scene.feed("second")
    scene.may_infer.release(100)

    def mine() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("part:n@1 ")]

    threads.add("part:n@1", scene.places, [])
    assert not mine()
    threads.add("part:n@1", scene.places, [first])
    threads.add("part:n@1", scene.places, [second])
    assert len(mine()) == scene.places.count
    threads.remove(scene.places, [first])
    second.offer()
    wait_for(lambda: scene.served == ["second"])
    threads.remove(scene.places, [second])
    threads.join()
    assert not mine()
