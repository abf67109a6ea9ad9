import random

from agent.processes.backoff import Backoff


class Greatest(random.Random):
    """Always draws the upper bound, so that the bounds show."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0
        return b


def test_bounds_double_up_to_the_cap_and_start_again_after_a_reset() -> None:
    backoff = Backoff(first_s=0.2, cap_s=5.0, chance=Greatest())
    assert [backoff.next_s() for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_s() == 0.2


def test_a_mistake_waits_at_the_cap() -> None:
    backoff = Backoff(first_s=0.2, cap_s=5.0, chance=Greatest())
    assert backoff.next_at_cap_s() == 5.0
    assert backoff.next_s() == 5.0


def test_jitter_is_full() -> None:
    backoff = Backoff(chance=random.Random(1))
    delays_s = [backoff.next_at_cap_s() for _ in range(2000)]
    assert min(delays_s) < 0.1
    assert 4.9 < max(delays_s) <= 5.0
    assert 2.3 < sum(delays_s) / len(delays_s) < 2.7
