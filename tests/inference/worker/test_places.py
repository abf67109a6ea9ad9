"""A model's places: as many frames as it infers, and the next one when it is almost time; whose turn is next."""

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


def taken(places: InFlightLimiter) -> Slot:
    place = places.take(0)
    assert place is not None
    return place


def infer(places: InFlightLimiter, clock: Clock) -> None:
    """Let the model learn how long it usually takes."""
    place = taken(places)
    with place:
        clock.pass_ms(RUN_MS)
    place.give_back()


def test_the_next_frame_is_let_in_when_an_inference_is_about_to_end() -> None:
    clock = Clock()
    places = InFlightLimiter(clock_ns=clock)
    infer(places, clock)
    first = taken(places)
    assert places.take(0) is None, "the first is drawn, and goes before"
    with first:
        assert places.take(0) is None, "it would only grow old"
        clock.pass_ms(RUN_MS - 5)
        second = taken(places)
        assert places.take(0) is None, "there are two places"
        second.give_back()


def test_an_idle_model_takes_a_frame_at_once() -> None:
    clock = Clock()
    places = InFlightLimiter(clock_ns=clock)
    infer(places, clock)
    first = taken(places)
    with first:
        clock.pass_ms(RUN_MS)
    second = taken(places)
    assert second is not None, "the first is only being decoded"


def test_a_frame_that_waited_for_the_model_is_not_charged_for_it() -> None:
    clock = Clock()
    places = InFlightLimiter(clock_ns=clock)
    infer(places, clock)
    first = taken(places)
    first.__enter__()
    clock.pass_ms(RUN_MS - 5)
    second = taken(places)
    second.__enter__()
    clock.pass_ms(5)
    first.__exit__(None, None, None)
    clock.pass_ms(RUN_MS)
    second.__exit__(None, None, None)
    assert [one.ended_ns - one.began_ns for one in (first, second)] == [RUN_MS * MS] * 2


def test_several_are_inferred_together_where_the_runtime_gains_by_it() -> None:
    clock = Clock()
    places = InFlightLimiter(at_once=2, clock_ns=clock)
    infer(places, clock)
    first, second = taken(places), taken(places)
    with first, second:
        assert places.take(0) is None
        clock.pass_ms(RUN_MS)
        assert places.take(0) is not None


def test_who_waits_longest_is_next() -> None:
    places, order = InFlightLimiter(), list[int]()
    held = [taken(places)]
    with held[0]:
        held.append(taken(places))

        def wait(number: int) -> None:
            place = places.take(60)
            assert place is not None
            order.append(number)
            place.give_back()

        threads = []
        for number in range(3):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            wait_for(lambda count=number + 1: len(places._waiting) == count)  # type: ignore[misc] # of this turn
    for place in held:
        place.give_back()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]


def test_a_stream_that_was_served_stands_behind_one_that_was_not_however_often_that_asks() -> None:
    places, served = InFlightLimiter(), list[str]()
    held = places.take(60, who="cam-1")
    assert held is not None

    def wait(who: str) -> None:
        place = places.take(60, who=who)
        assert place is not None
        served.append(who)
        place.give_back()

    threads = []
    for number, who in enumerate(["cam-1", "cam-2"], 1):
        assert places.take(0, who="cam-2") is None, "it asked, in vain, and asks again"
        threads.append(threading.Thread(target=wait, args=(who,)))
        threads[-1].start()
        wait_for(lambda number=number: len(places._waiting) == number)  # type: ignore[misc] # of this turn
    held.give_back()
    for thread in threads:
        thread.join()
    assert served == ["cam-2", "cam-1"]


def test_who_waits_is_told_that_it_is_over() -> None:
    places, over = InFlightLimiter(), threading.Event()
    held = [taken(places)]
    answers: list[Slot | None] = []
    with held[0]:
        held.append(taken(places))
        thread = threading.Thread(target=lambda: answers.append(places.take(600, over.is_set)))
        thread.start()
        wait_for(lambda: len(places._waiting) == 1)
        over.set()
        places.wake()
        thread.join(60)
    assert answers == [None]
