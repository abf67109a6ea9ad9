"""The exporter's text: what Prometheus' own parser and promtool think of it, and that numbers are where they belong."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from support.facts import FACTS

from agent.health.metrics.exposition import Metrics
from agent.health.sensors.reading import Reading
from agent.messages.children import Swapped, SwapReport
from agent.messages.payloads import Cause, Switch


def filled() -> Metrics:
    """Return metrics in which something of every kind was counted."""
    metrics = Metrics()
    metrics.swapped(Swapped("line-1", 1, "cap-check:n@3", SwapReport("cold", "make-before-break", 120.0, 30.0, 0.0, 0)))
    metrics.swapped(Swapped("line-1", 2, "cap-check:n@3", SwapReport("resident", "make-before-break", 0, 0, 0, 0)))
    metrics.switched(switch("switched", "resident"))
    metrics.switched(switch("failed", None))
    metrics.inferred("cam-1", 21.0, 34.0)
    return metrics


def switch(result: str, residency: str | None) -> Switch:
    return Switch(
        line="line-1",
        product="17",
        from_="a:n@1",
        to="b:n@1",
        cause=Cause("product"),
        result=result,  # type: ignore[arg-type] # one of its words
        reason=None,
        residency=residency,  # type: ignore[arg-type] # one of its words
        order=None,
        requested_at="",
        ready_at=None,
        load_ms=0,
        warmup_ms=0,
        total_ms=14.2,
        blind_ms=0,
        frames_lost=0,
    )


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


TEXT = filled().render(FACTS).decode()
FOUND = samples(TEXT)


def value(name: str, **labels: str) -> float:
    return FOUND[f"changeover_{name}", tuple(sorted(labels.items()))]


def test_counts_and_seconds() -> None:
    assert value("cache_hits_total") == 1
    assert value("cache_misses_total") == 1
    assert value("model_load_seconds_sum") == pytest.approx(0.15)
    assert value("model_load_seconds_bucket", le="0.1") == 0
    assert value("model_load_seconds_bucket", le="0.25") == 1
    assert value("swaps_total", line="line-1", result="switched", residency="resident") == 1
    assert value("swaps_total", line="line-1", result="failed", residency="none") == 1
    assert value("swap_seconds_sum", residency="resident") == pytest.approx(0.0142)
    assert value("evictions_total", reason="room") == 1
    assert value("refusals_total", reason="too_large") == 1
    assert value("inference_seconds_sum", stream="cam-1") == pytest.approx(0.021)
    assert value("latency_seconds_count", stream="cam-1") == 1


def test_the_facts_of_the_moment() -> None:
    assert value("worker_up") == 1
    assert value("line_ready", line="line-1") == 1
    assert value("line_phase", line="line-1", phase="ready") == 1
    assert value("line_phase", line="line-1", phase="fault") == 0
    assert value("line_model", line="line-1", model="cap-check:n@3") == 1
    assert value("stream_status", stream="cam-1", line="line-1", status="online") == 1
    assert value("frames_captured_total", stream="cam-1", line="line-1") == 100
    assert value("frames_inferred_total", stream="cam-1", line="line-1") == 97
    assert value("frames_dropped_total", stream="cam-1", line="line-1") == 2
    assert value("detections_total", stream="cam-1", line="line-1") == 96
    assert value("objects_total", stream="cam-1", label="cap") == 41
    assert value("resident_models") == 3
    assert value("resident_model_bytes", model="cap-check:n@3", state="active") == 70e6
    assert value("memory_budget_bytes") == 400e6
    assert value("memory_used_bytes") == 130e6
    assert value("pool_budget_bytes", pool="host") == 300e6
    assert value("pool_used_bytes", pool="device") == 130e6
    assert value("resident_model_pool_bytes", model="cap-check:n@3", state="active", pool="device") == 70e6
    assert value("outbox_messages", kind="detections") == 7
    assert value("outbox_dropped_total", kind="detections") == 3
    assert value("outbox_oldest_age_seconds") == 12.5
    assert value("broker_round_trip_seconds") == pytest.approx(0.0009)
    assert value("temperature_celsius", zone="cpu") == 51.5
    assert value("temperature_limit_celsius", zone="cpu") == 99
    assert value("power_watts") == 7.8
    assert value("rail_power_watts", rail="VDD_SOC") == 2.4
    assert value("process_memory_bytes", process="worker") == 190e6
    assert value("memory_stalled_ratio", kind="some") == 0.02
    assert value("alert", code="camera", line="", stream="cam-2") == 1
    assert value("cap", rule="temperature", max_variant="s") == 1
    info = next(key for key in FOUND if key[0] == "changeover_info")
    assert ("board", "Orin NX") in info[1]


def test_what_nobody_knows_has_no_sample() -> None:
    bare = replace(FACTS, reading=Reading(""), memory=None, link=replace(FACTS.link, round_trip_ms=None))
    names = {name for name, _ in samples(Metrics().render(bare).decode())}
    assert "changeover_power_watts" not in names
    assert "changeover_temperature_celsius" not in names
    assert "changeover_broker_round_trip_seconds" not in names
    assert "changeover_worker_up" in names


def test_odd_words_in_labels_are_escaped() -> None:
    odd = 'a "quoted\\ label\nof two lines'
    stream = replace(FACTS.streams["cam-1"], objects={odd: 1})
    text = Metrics().render(replace(FACTS, streams={"cam-1": stream})).decode()
    assert samples(text)["changeover_objects_total", (("label", odd), ("stream", "cam-1"))] == 1


def test_every_name_is_ours_and_has_a_help_text() -> None:
    families = list(parse(TEXT))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert re.fullmatch(r"changeover(_[a-z]+)*", family.name), family.name
        assert family.documentation.endswith("."), family.name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")
def test_promtool_has_no_complaint() -> None:
    answer = subprocess.run(
        ["promtool", "check", "metrics"], input=TEXT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")
