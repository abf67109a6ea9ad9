"""Notices of link and outbox become alerts, once."""

import json

from support.plant_bench import Bench

from agent.control.actions import PublishEvent
from agent.messages.events import Noticed
from agent.messages.payloads import Alert


def test_trouble_is_an_alert_until_it_is_over() -> None:
    bench = Bench()
    trouble = Noticed("outbox_disk", on=True, detail="database or disk is full")
    said = [*bench.give(trouble), *bench.give(trouble), *bench.give(Noticed("outbox_disk", on=False))]
    events = [action.payload for action in said if isinstance(action, PublishEvent)]
    assert events == [Alert("outbox_disk", on=True, detail="database or disk is full"), Alert("outbox_disk", on=False)]
    assert json.loads(bench.retained["alerts"]) == []
