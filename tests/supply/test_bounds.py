"""The rate, the hours and the time of a job, with a clock of the test's own."""

import datetime as dt

import pytest

from agent.messages.short_lived.supply import FetchProgress
from agent.supply.bounds.job import Job
from agent.supply.bounds.token_bucket import TokenBucket
from agent.supply.bounds.window import Window
from agent.supply.errors import SourceError


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def utc(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(seconds=self.now_s)


@pytest.mark.parametrize("chunk_bytes", [100, 16 << 10, 1 << 20])
def test_a_bucket_keeps_its_rate_over_half_a_minute(chunk_bytes: int) -> None:
    clock = Clock()
    bucket = TokenBucket(500_000, clock, clock.sleep)
    taken = 0
    while clock.now_s < 1030:
        bucket.take(chunk_bytes)
        taken += chunk_bytes
    assert taken / (clock.now_s - 1000) == pytest.approx(500_000, rel=0.05)


def test_a_pause_is_no_credit() -> None:
    clock = Clock()
    bucket = TokenBucket(1000, clock, clock.sleep)
    clock.now_s += 3600
    bucket.take(2000)
    assert clock.now_s == pytest.approx(4600 + 1.75)


def test_without_a_rate_nothing_waits() -> None:
    clock = Clock()
    TokenBucket(0, clock, clock.sleep).take(1 << 40)
    assert clock.now_s == 1000.0


@pytest.mark.parametrize(
    ("text", "at", "opens_in_h"),
    [
        ("", "12:00", 0),
        ("22:00-05:00", "23:30", 0),
        ("22:00-05:00", "04:59", 0),
        ("22:00-05:00", "05:00", 17),
        ("22:00-05:00", "21:00", 1),
        ("08:00-10:00", "09:00", 0),
        ("08:00-10:00", "10:00", 22),
        ("08:00-10:00", "07:00", 1),
    ],
)
def test_hours(text: str, at: str, opens_in_h: float) -> None:
    now = dt.datetime.fromisoformat(f"2026-01-05T{at}:00+00:00")
    assert Window(text, "UTC", lambda: now).opens_in_s() == opens_in_h * 3600


def test_hours_are_those_of_the_devices_time_zone() -> None:
    now = dt.datetime.fromisoformat("2026-07-05T20:30:00+00:00")
    assert Window("22:00-05:00", "Europe/Berlin", lambda: now).opens_in_s() == 0
    assert Window("22:00-05:00", "UTC", lambda: now).opens_in_s() == 5400


def job(clock: Clock, told: list[FetchProgress], window: str = "", max_s: float = 60.0) -> Job:
    hours = Window(window, "UTC", clock.utc)
    bucket = TokenBucket(0, clock, clock.sleep)
    return Job("job-1", max_s, told.append, window=hours, bucket=bucket, clock=clock, sleep=clock.sleep)


def test_a_job_waits_for_its_hours_and_tells_that_it_lives() -> None:
    clock, told = Clock(), list[FetchProgress]()
    clock.now_s = 0.0
    job(clock, told, "00:10-05:00", max_s=3600).open()
    assert clock.now_s == pytest.approx(600, abs=1)
    assert len(told) > 100


def test_a_job_whose_hours_come_too_late_ends() -> None:
    clock = Clock()
    clock.now_s = 0.0
    with pytest.raises(SourceError) as refused:
        job(clock, [], "00:10-05:00", max_s=60).open()
    assert refused.value.reason == "timeout"


def test_progress_has_a_rate_and_a_time_left() -> None:
    clock, told = Clock(), list[FetchProgress]()
    running = job(clock, told)
    running.begin("downloading")
    running.expect(10_000_000)
    running.resume(4_000_000)
    for _ in range(40):
        clock.now_s += 0.1
        running.receive(100_000)
    assert told[-1].bytes == pytest.approx(8_000_000, abs=500_000)
    assert told[-1].kbps == pytest.approx(8000, rel=0.05)
    assert told[-1].eta_s == pytest.approx(2, abs=0.6)
    assert len(told) < 12
