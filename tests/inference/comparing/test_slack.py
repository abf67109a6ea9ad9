"""Time at which an inference for which nobody waits may begin."""

from dataclasses import dataclass

from agent.inference.comparing.slack import Slack

MS = 1_000_000


@dataclass
class Stream:
    taken_ns: int = 0
    period_ns: int = 100 * MS
    is_busy: bool = False


def fits(now_ms: int, duration_ms: int, *streams: Stream) -> bool:
    return Slack(streams, lambda: now_ms * MS).fits(duration_ms / 1000)


def test_it_must_end_before_the_next_frame_of_any_stream_is_due() -> None:
    assert fits(40, 60, Stream())
    assert not fits(41, 60, Stream())
    assert not fits(40, 60, Stream(), Stream(taken_ns=-10 * MS))


def test_nothing_begins_while_a_frame_is_in_work() -> None:
    assert not fits(40, 1, Stream(is_busy=True))
    assert not Slack([Stream(), Stream(is_busy=True)]).is_idle()


def test_a_frame_that_is_late_may_come_at_any_moment_and_a_quiet_stream_says_nothing() -> None:
    assert not fits(150, 1, Stream())
    assert fits(250, 1000, Stream())
    assert fits(5, 1000, Stream(period_ns=0))
