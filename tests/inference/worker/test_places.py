"""A model's places: when its next frame is taken, and who may take it."""

import threading

from inference.worker.dummies import wait_for

from agent.inference.backends.in_flight import InFlightLimiter, Slot

MS = 1_000_000
RUN_MS = 100


class Clock:
    """Nanoseconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def pass_ms(self, milliseconds: int) -> None:
        self.now_ns += milliseconds * MS


def begun(places: InFlightLimiter) -> Slot:
    """Return a frame whose inference has begun."""
    with places.turn() as slot:
        slot.__enter__()
    return slot


def end(slot: Slot) -> None:
    slot.__exit__(None, None, None)


def infer(places: InFlightLimiter, clock: Clock) -> None:
    """Let the model learn how long it usually takes."""
    slot = begun(places)
    clock.pass_ms(RUN_MS)
    end(slot)


def test_the_next_frame_is_taken_when_an_inference_is_about_to_end() -> None:
    clock = Clock()
    places = InFlightLimiter(clock_ns=clock)
    infer(places, clock)
    begun(places)
    assert not places.wait_due(0), "it would only grow old"
    clock.pass_ms(RUN_MS - 5)
    assert places.wait_due(0)


def test_an_idle_model_takes_a_frame_at_once() -> None:
    clock = Clock()
    places = InFlightLimiter(clock_ns=clock)
    infer(places, clock)
    assert places.wait_due(0)


def test_a_frame_that_waited_for_the_model_is_not_charged_for_it() -> None:
    clock = Clock()
    places = InFlightLimiter(clock_ns=clock)
    infer(places, clock)
    first = begun(places)
    clock.pass_ms(RUN_MS - 5)
    second = begun(places)
    clock.pass_ms(5)
    end(first)
    clock.pass_ms(RUN_MS)
    end(second)
    assert [one.ended_ns - one.began_ns for one in (first, second)] == [RUN_MS * MS] * 2


def test_several_are_inferred_together_where_the_runtime_gains_by_it() -> None:
    clock = Clock()
    places = InFlightLimiter(at_once=2, clock_ns=clock)
    infer(places, clock)
    begun(places)
    assert places.wait_due(0)
    begun(places)
    assert not places.wait_due(0)
    clock.pass_ms(RUN_MS)
    assert places.wait_due(0)


def test_an_inference_that_ends_early_lets_the_next_frame_in_at_once() -> None:
    places = InFlightLimiter()
    slow = begun(places)
    slow.began_ns -= 3600 * 1000 * MS
    end(slow)
    quick = begun(places)
    assert not places.wait_due(0)
    due: list[bool] = []
    thread = threading.Thread(target=lambda: due.append(places.wait_due(600)))
    thread.start()
    end(quick)
    thread.join(60)
    assert due == [True]


def test_a_turn_ends_as_the_inference_begins_or_where_none_does() -> None:
    places, order = InFlightLimiter(), list[str]()

    def take(name: str) -> None:
        with places.turn():
            order.append(name)

    with places.turn() as slot:
        thread = threading.Thread(target=take, args=("second",))
        thread.start()
        order.append("first")
        with slot:
            wait_for(lambda: len(order) == 2)
    thread.join(60)
    take("third")
    assert order == ["first", "second", "third"]
