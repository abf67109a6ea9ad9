"""The rules and the dashboard that ship: right in themselves, and about metrics that the exporter really has."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families as parse
from support.facts import FACTS
from support.monitoring import DASHBOARD, RULES, dashboard_queries

from agent.health.metrics.exposition import Metrics

METRIC = re.compile(r"changeover(?:_[a-z]+)+")
HERE = Path(__file__).parent
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")


def exported() -> set[str]:
    metrics = Metrics()
    metrics.expect(["line-1"], ["cam-1"])
    return {sample.name for family in parse(metrics.render(FACTS).decode()) for sample in family.samples}


def rules() -> dict[str, dict[str, str]]:
    found = yaml.safe_load(RULES.read_text())
    return {rule["alert"]: rule for group in found["groups"] for rule in group["rules"]}


def promtool(*arguments: str) -> str:
    command = ["promtool", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = answer.stdout + answer.stderr
    assert answer.returncode == 0, said
    return said


@needs_promtool
def test_the_rules_and_the_example_are_valid() -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", str(RULES))
    promtool("check", "config", str(RULES.with_name("prometheus.yml")))


@needs_promtool
def test_each_alert_comes_when_it_should() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(HERE / "rules.test.yml"))


def test_each_alert_is_tested_and_says_what_to_do() -> None:
    tests = yaml.safe_load((HERE / "rules.test.yml").read_text())["tests"]
    tested = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert tested == rules().keys()
    assert all(rule["annotations"].keys() == {"summary", "do"} for rule in rules().values())  # type: ignore[attr-defined]


def test_rules_and_dashboard_ask_only_for_what_is_exported() -> None:
    known = exported()
    for query in [*(rule["expr"] for rule in rules().values()), *dashboard_queries()]:
        names = set(METRIC.findall(query))
        assert names <= known, query
        assert names or query.startswith("up{")


def test_the_dashboard_is_whole() -> None:
    board = json.loads(DASHBOARD.read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(p["gridPos"]["x"], p["gridPos"]["y"], p["gridPos"]["w"], p["gridPos"]["h"]) for p in panels]
    cells = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(set(cells)) == len(cells), "two panels on one place"
    assert all(x + w <= 24 for x, _, w, _ in places)
    shown = {name for query in dashboard_queries() for name in METRIC.findall(query)}
    assert {"changeover_line_ready", "changeover_swaps_total", "changeover_outbox_messages"} <= shown
