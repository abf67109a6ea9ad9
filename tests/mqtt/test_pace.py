"""How fast what was kept is sent again."""

from agent.mqtt.publishing.replay_rate import RATE_PER_S, ReplayRateLimiter


def carry(pace: ReplayRateLimiter, seconds: float, per_s: float, base_s: float = 0.001) -> tuple[int, float]:
    """Use a way that carries `per_s` messages a second, in order; return how many went, and the longest wait."""
    now_s, free_s, sent, longest_s = 0.0, 0.0, 0, 0.0
    wire: list[tuple[float, float]] = []
    while now_s < seconds:
        while wire and wire[0][1] <= now_s:
            sent_s, _ = wire.pop(0)
            pace.arrived(now_s - sent_s, now_s)
        while pace.may_send(len(wire), 32, now_s):
            pace.sent()
            free_s = max(free_s, now_s) + 1 / per_s
            wire.append((now_s, free_s + base_s))
            longest_s = max(longest_s, free_s + base_s - now_s)
            sent += 1
        now_s += 0.001
    return sent, longest_s


def test_a_fast_way_is_used_up_to_the_rate_and_no_further() -> None:
    pace = ReplayRateLimiter()
    sent, _ = carry(pace, 10, per_s=20_000)
    assert 0.8 * RATE_PER_S * 10 < sent <= RATE_PER_S * 10 + 100
    assert pace.take_rated()
    assert not pace.take_rated()


def test_a_slow_way_is_used_but_not_filled() -> None:
    pace = ReplayRateLimiter()
    sent, longest_s = carry(pace, 60, per_s=15)
    assert sent > 0.8 * 15 * 60
    assert longest_s < 0.5, "the first ones, before it is known how slow it is; a window of 32 would be 2 s"
    assert not pace.take_rated()


def test_a_long_way_is_no_slow_one() -> None:
    sent, _ = carry(ReplayRateLimiter(), 30, per_s=20_000, base_s=0.15)
    assert sent > 0.8 * 32 / 0.15 * 30, "as much as half of the window carries"


def test_half_of_the_window_is_never_passed() -> None:
    pace = ReplayRateLimiter()
    for count in range(200):
        pace.arrived(0.001, count / 100)
    assert pace.may_send(7, 8, 10)
    assert not pace.may_send(8, 8, 10)
