"""docs/schemas is up to date, and what contract.md shows is valid by it."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.messages.schema_writer import PAYLOADS, main, schema, text_of

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
AT = "2026-01-01T06:00:00.000Z"
CAUSE = {"rule": "product", "topic": "changeover/v1/box-7/line/line-1/product/set", "value": "bottle-500"}
ALERT = {"code": "unknown_product", "on": True, "line": "line-1", "detail": "..."}
EXAMPLES: dict[str, Any] = {
    "ack": {"id": "a1", "topic": "...", "result": "done", "reason": None, "detail": None},
    "alert": ALERT,
    "alerts": [ALERT],
    "cache": {
        "v": 1,
        "budget_bytes": 900_000_000,
        "used_bytes": 100_000_000,
        "models": [{"model": "cap-check:n@3", "bytes": 1, "state": "active", "last_use": AT, "reserved_for": None}],
    },
    "detections": {
        "v": 1,
        "device": "box-7",
        "line": "line-1",
        "stream": "cam-1",
        "product": "bottle-500",
        "ready": True,
        "model": "cap-check:n@3",
        "boot": "9f3a51c2",
        "seq": 1234,
        "frame": 5678,
        "captured_at": AT,
        "latency_ms": 23.4,
        "width": 768,
        "height": 576,
        "objects": [{"label": "cap", "class": 0, "score": 0.91, "box": [1, 2, 3, 4]}],
    },
    "health": {
        "v": 1,
        "at": AT,
        "streams": {
            "cam-1": {"fps": 15.0, "latency_ms": {"p50": 20.0}, "offered": 10, "inferred": 9, "dropped": 1},
        },
        "memory": {"control_bytes": 1},
        "load": [0.1, 0.2, 0.3],
        "temperatures_c": {},
        "power_w": None,
        "outbox": {"events": 0},
        "outbox_age_s": 0.0,
        "round_trip_ms": 0.8,
    },
    "job-state": {
        "v": 1,
        "id": "job-7",
        "rev": 42,
        "state": "downloading",
        "reason": None,
        "detail": None,
        "bytes": 5_000_000,
        "total": 10_000_000,
        "kbps": 20_000.0,
        "eta_s": 2.0,
        "models": ["cap-check:n@4"],
        "since": AT,
    },
    "canary": {
        "v": 1,
        "line": "line-1",
        "candidate": "cap-check:n@4",
        "stable": "cap-check:n@3",
        "mode": "shadow",
        "share": 0.1,
        "stage": "running",
        "frames": 812,
        "wanted_frames": 2000,
        "agree": 0.981,
        "agree_interval": [0.964, 0.991],
        "missing": 9,
        "extra": 6,
        "score_delta": -0.004,
        "latency_ms": {"stable": {"p50": 21.1, "p99": 28.4}, "candidate": {"p50": None, "p99": None}},
        "answered": 0,
        "seen": 8123,
        "skipped": 3,
        "late": 0,
        "unsteady": {"stable": 0.0654, "candidate": None},
        "classes": {
            "cap": {"stable": 700, "candidate": 697, "agree": 691, "missing": 9, "extra": 6, "score_delta": -0.004}
        },
        "result": "running",
        "reason": None,
        "detail": None,
        "promote": "ask",
        "since": AT,
        "ended_at": None,
        "boot": "9f3a51c2",
        "id": "c1",
    },
    "line-state": {
        "v": 1,
        "line": "line-1",
        "product": "bottle-500",
        "model": "cap-check:n@3",
        "phase": "ready",
        "wanted": "cap-check:n@3",
        "cause": CAUSE,
        "since": AT,
        "boot": "9f3a51c2",
    },
    "meta": {
        "v": 1,
        "versions": {"changeover": "0.1.0"},
        "device": "box-7",
        "backend": "openvino",
        "lines": ["line-1"],
        "streams": [{"id": "cam-1", "line": "line-1"}],
        "models": ["cap-check:n@3"],
        "configuration_hash": "abc",
        "boot": "9f3a51c2",
        "clock_synced": True,
    },
    "refused": [{"at": AT, "topic": "line/line-9/product/set", "reason": "unknown_line", "detail": "...", "more": 3}],
    "summary": {"v": 1, "seq": 1, "from": AT, "to": AT, "frames": 15, "counts": {"cap": 30}},
    "switch": {
        "v": 1,
        "line": "line-1",
        "product": "bottle-500",
        "from": "cap-check:n@3",
        "to": "cap-check:m@3",
        "cause": CAUSE,
        "result": "switched",
        "reason": None,
        "residency": "resident",
        "order": "make-before-break",
        "requested_at": AT,
        "ready_at": AT,
        "load_ms": 0,
        "warmup_ms": 0,
        "total_ms": 14.2,
        "blind_ms": 0,
        "frames_lost": 0,
    },
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_file_is_up_to_date(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text_of(name), "run scripts/make_schemas"


def test_there_is_no_other_file(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    assert {file.name for file in FOLDER.glob("*.json")} == {file.name for file in tmp_path.iterdir()}


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_example_is_valid_and_a_broken_one_is_not(name: str) -> None:
    validator = jsonschema.Draft202012Validator(schema(name))
    validator.check_schema(schema(name))
    example = json.loads(json.dumps(EXAMPLES[name]))
    validator.validate(example)
    broken = [{}] if isinstance(example, list) else {key: value for key, value in example.items() if key == "v"}
    assert not validator.is_valid(broken)
