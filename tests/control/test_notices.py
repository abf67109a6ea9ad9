"""The link's notices become alerts; one whose detail changes is told again."""

import json

from support.plant_bench import Bench, alerts, states

from agent.messages.events import Noticed


def test_an_alert_is_told_again_where_its_detail_changes_and_not_where_it_does_not() -> None:
    bench = Bench()
    told = []
    for detail in ("a", "a", "a, b"):
        told += alerts(bench.give(Noticed("rights_missing", on=True, detail=detail)))
    assert [(one.on, one.detail) for one in told] == [(True, "a"), (True, "a, b")]
    actions = bench.give(Noticed("rights_missing", on=True, detail="c"))
    (listed,) = map(json.loads, states(actions, "alerts"))
    assert [(one["code"], one["detail"]) for one in listed] == [("rights_missing", "c")]
    over = bench.give(Noticed("rights_missing", on=False))
    assert [one.on for one in alerts(over)] == [False]
    assert states(over, "alerts") == ["[]"]
