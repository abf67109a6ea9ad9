"""A source that hangs, fails or is absent holds up nobody."""

import os
import threading
import time

import pytest
from support.waiting import DEADLINE_S, until

from agent.health.probes import ProbeAbsentError
from agent.health.probes.dummy import DummyProbe
from agent.health.sensors.host import Host
from agent.health.sensors.probe_threads import Device
from agent.health.sensors.reading import Reading, Zone
from agent.health.sensors.sampler import Sampler


def is_alive(name: str) -> bool:
    return any(thread.name == f"sampler {name}" for thread in threading.enumerate())


def test_the_newest_value_wins_and_grows_old() -> None:
    numbers = iter(range(10**6))
    sampler = Sampler("numbers", lambda: next(numbers), 0.001)
    sampler.start()
    until(lambda: (sampler.newest(time.monotonic(), 10.0) or 0) > 5)
    sampler.stop()
    last = sampler.newest(time.monotonic(), 1e9)
    assert last is not None
    assert sampler.newest(time.monotonic() + 1e6, 20.0) is None
    assert (sampler.age_s(time.monotonic()) or 0) >= 0


def test_a_hung_read_neither_blocks_the_reader_nor_the_stop() -> None:
    hanging, let_go = threading.Event(), threading.Event()

    def read() -> int:
        hanging.set()
        let_go.wait(DEADLINE_S)
        return 1

    sampler = Sampler("hung", read, 0.001)
    sampler.start()
    assert hanging.wait(DEADLINE_S)
    assert sampler.newest(time.monotonic(), 1e9) is None
    sampler.stop()
    let_go.set()


def test_a_failing_source_is_asked_again_and_closed_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Exception | int] = [OSError("i2c timed out"), 7]
    closed: list[threading.Thread] = []

    def read() -> int:
        answer = answers.pop(0) if answers else 8
        if isinstance(answer, Exception):
            raise answer
        return answer

    sampler = Sampler("flaky", read, 0.001, lambda: closed.append(threading.current_thread()))
    sampler.start()
    until(lambda: sampler.newest(time.monotonic(), 1e9))
    sampler.stop()
    until(lambda: closed)
    assert closed[0].name == "sampler flaky", "a library is closed on the thread that used it"
    assert "event=source_failed source=flaky detail='OSError: i2c timed out'" in caplog.text


def test_what_was_never_started_can_be_stopped() -> None:
    asked: list[int] = []
    sampler = Sampler("idle", lambda: asked.append(1), 1.0, lambda: asked.append(2))
    sampler.stop()
    assert sampler.newest(time.monotonic(), 1e9) is None
    assert asked == [], "nothing was opened, so nothing is closed"


def test_an_absent_source_ends_its_thread() -> None:
    asked: list[int] = []

    def read() -> int:
        asked.append(1)
        raise ProbeAbsentError("not here")

    sampler = Sampler("absent", read, 0.001)
    sampler.start()
    until(lambda: asked)
    until(lambda: not is_alive("absent"))
    assert len(asked) == 1


def test_a_device_goes_on_with_the_sources_that_answer() -> None:
    let_go = threading.Event()

    class Hung(DummyProbe):
        def read(self) -> Reading:
            let_go.wait(DEADLINE_S)
            return super().read()

    good = DummyProbe(Reading("dummy", zones={"cpu": Zone(40.0)}))
    device = Device([Hung(), good], Host(), interval_s=0.001)
    device.start()
    until(lambda: device.reading(time.monotonic()).zones and device.memory(time.monotonic()))
    memory = device.memory(time.monotonic())
    assert memory is not None
    assert 0 < memory.free_bytes <= memory.total_bytes
    assert "dummy" in device.ages_s(time.monotonic())
    good.error = OSError("gone")
    assert device.reading(time.monotonic() + 1e6).zones == {}, "nobody has confirmed it for long"
    let_go.set()
    device.stop()
    until(lambda: good.closed)


def test_processes_are_measured_by_name() -> None:
    device = Device([], Host(), interval_s=0.001)
    device.watch({"control": os.getpid(), "gone": 2**22 - 1})
    device.start()
    until(lambda: device.memory(time.monotonic()))
    memory = device.memory(time.monotonic())
    device.stop()
    assert memory is not None
    assert memory.processes["control"] > 2**20
    assert memory.processes["gone"] == 0


def test_a_reading_that_is_wanted_now_does_not_wait_for_its_time() -> None:
    numbers = iter(range(10**6))
    sampler = Sampler("numbers", lambda: next(numbers), 3600.0)
    sampler.start()
    until(lambda: sampler.newest(time.monotonic(), 1e9) == 0)
    sampler.hurry()
    until(lambda: sampler.newest(time.monotonic(), 1e9) == 1)
    sampler.stop()
    assert not sampler._thread.is_alive()
