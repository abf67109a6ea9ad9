"""Streams beside each other: what is in flight, in which order it is answered, and who waits for whom."""

from collections import Counter
from collections.abc import Callable

from inference.worker.dummies import DummyRuntime, PlantOfDummies
from inference.worker.plant import Feeder, offer

from agent.messages.children import Detections

NewDummies = Callable[..., PlantOfDummies]
Feed = Callable[..., Feeder]
FRAMES = 60


def test_the_next_frame_is_drawn_while_one_is_inferred_and_no_third_is_taken(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies()
    plant.switch(runtime.make("a"))
    slow, writer = runtime.behaviours["a"], plant.writers["cam-1"]
    slow.answer_may_end.clear()
    for _ in range(2):
        offer(writer)
        assert writer.wait_taken(60)
    offer(writer)
    newest = offer(writer)
    assert not writer.wait_taken(0.3), "a frame was taken without a place for it"
    slow.answer_may_end.set()
    plant.wait_until(lambda: len(plant.of(Detections)) == 3)
    assert [one.frame for one in plant.of(Detections)] == [0, 1, newest]


def test_a_slow_model_does_not_hold_up_another_lines(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines={"cam-1": "line-1", "cam-2": "line-2"})
    plant.switch(runtime.make("slow"), "line-1")
    plant.switch(runtime.make("fast"), "line-2")
    slow = runtime.behaviours["slow"]
    slow.answer_may_end.clear()
    offer(plant.writers["cam-1"])
    assert slow.answers_begun.acquire(timeout=60)
    for _ in range(FRAMES):
        assert plant.detect("cam-2").model == "fast:n@1"
    assert not [one for one in plant.of(Detections) if one.stream == "cam-1"]
    slow.answer_may_end.set()
    plant.wait_until(lambda: any(one.stream == "cam-1" for one in plant.of(Detections)))


def test_greedy_streams_get_the_same(new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed) -> None:
    lines = {f"cam-{number}": "line-1" for number in range(4)}
    plant = new_dummies(lines=lines)
    plant.switch(runtime.make("a"))
    feeders = [feed(writer) for writer in plant.writers.values()]
    plant.wait_until(lambda: len(plant.of(Detections)) >= 400)
    for feeder in feeders:
        feeder.stop()
    counts = Counter(one.stream for one in plant.of(Detections))
    assert min(counts.values()) > max(counts.values()) / 3, counts
    for stream in lines:
        frames = [one.frame for one in plant.of(Detections) if one.stream == stream]
        assert frames == sorted(frames), "answers came out of their order"
