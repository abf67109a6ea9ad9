"""An hour of reports without drift, on a loop that is late by chance."""

import random

from agent.health.interval_timer import IntervalTimer


def test_an_hour_has_720_reports_each_at_its_time() -> None:
    cadence, chance = IntervalTimer(5.0), random.Random(7)
    now_s, came = 12345.678, []
    while now_s < 12345.678 + 3600:
        if cadence.is_due(now_s):
            came.append(now_s)
        now_s += 0.1 + chance.expovariate(1 / 0.05)
    assert len(came) == 720
    late = [at_s - (came[0] + 5 * number) for number, at_s in enumerate(came)]
    assert min(late) >= 0
    assert max(late) < 1.5
    assert abs(sum(late[-100:]) - sum(late[:100])) / 100 < 0.1, "no drift"


def test_a_pause_is_not_made_up_for() -> None:
    cadence = IntervalTimer(5.0)
    assert cadence.is_due(100.0)
    assert cadence.is_due(161.0)
    assert not cadence.is_due(161.1)
    assert cadence.is_due(163.6)
    assert not cadence.is_due(168.0)
    assert cadence.is_due(168.7)
