"""A plant told in messages: what a board takes, at times that the test gives."""

from typing import Any

import msgspec

from agent.watch.board.board import Board

BASE = "changeover/v1/box-7"


def tell(board: Board, topic: str, payload: object, now_s: float, *, retained: bool = False) -> None:
    """Fold in text as it is, anything else as JSON."""
    raw = payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)
    board.take(f"{BASE}/{topic}", raw, retained, now_s)


def detections(stream: str, seq: int, labels: list[str], **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the payload
    objects = [{"label": label, "class": 0, "score": 0.9, "box": [1, 2, 3, 4]} for label in labels]
    usual = {
        "v": 1,
        "device": "box-7",
        "line": "line-1",
        "stream": stream,
        "product": "bottle-500",
        "ready": True,
        "model": "cap-check:n@3",
        "boot": "9f3a51c2",
        "seq": seq,
        "frame": seq,
        "captured_at": "2026-01-01T06:00:00.000Z",
        "latency_ms": 23.4,
        "width": 768,
        "height": 576,
        "objects": objects,
    }
    return usual | changes


def switch(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the payload
    usual = {
        "v": 1,
        "line": "line-1",
        "product": "bottle-500",
        "from": "label-check:n@2",
        "to": "cap-check:n@3",
        "cause": {"rule": "product", "topic": "t", "value": "bottle-500"},
        "result": "switched",
        "reason": None,
        "residency": "resident",
        "order": "make-before-break",
        "requested_at": "2026-01-01T06:00:00.000Z",
        "ready_at": "2026-01-01T06:00:00.014Z",
        "load_ms": 0,
        "warmup_ms": 0,
        "total_ms": 14.2,
        "blind_ms": 0,
        "frames_lost": 0,
    }
    return usual | changes


def line_state(line: str, product: str | None, model: str, phase: str, rule: str) -> dict[str, Any]:
    return {
        "v": 1,
        "line": line,
        "product": product,
        "model": model,
        "phase": phase,
        "wanted": model,
        "cause": {"rule": rule, "topic": None, "value": None},
        "since": "2026-01-01T06:00:00.000Z",
        "boot": "9f3a51c2",
    }


def meta(lines: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "v": 1,
        "versions": {"changeover": "0.1.0", "openvino": "2026.4.1"},
        "device": "box-7",
        "backend": "openvino",
        "lines": list(lines),
        "streams": [{"id": stream, "line": line} for line, streams in lines.items() for stream in streams],
        "models": ["cap-check:n@3"],
        "configuration_hash": "0" * 64,
        "boot": "9f3a51c2",
        "clock_synced": True,
    }


def health(**streams: dict[str, Any]) -> dict[str, Any]:
    return {
        "v": 1,
        "at": "2026-01-01T06:00:00.000Z",
        "streams": streams,
        "memory": {
            "control_bytes": 43 << 20,
            "worker_bytes": 236 << 20,
            "camera_cam-1_bytes": 74 << 20,
            "camera_walk-1_bytes": 75 << 20,
            "available_bytes": 5210 << 20,
            "total_bytes": 7620 << 20,
        },
        "load": [1.42, 1.2, 1.0],
        "temperatures_c": {"cpu": 51.5},
        "power_w": None,
        "outbox": {"events": 0, "detections": 0, "bytes": 0, "events_dropped": 0, "detections_dropped": 0},
        "outbox_age_s": 0.0,
        "round_trip_ms": 0.9,
    }


def resident(model: str, mib: int, state: str, reserved_for: str | None = None) -> dict[str, Any]:
    return {
        "model": model,
        "bytes": mib << 20,
        "state": state,
        "last_use": "2026-01-01T06:00:00.000Z",
        "reserved_for": reserved_for,
        "processor": "cpu",
    }


MODELS = {"bottle-500": "cap-check:n@3", "can-330": "can-check:n@1", "tray-6": "tray-check:n@2"}


def normal_board() -> Board:
    """Return two lines that run, as seen for 12 s until the time 112."""
    board = Board(BASE)
    board.broker_is("mqtt://127.0.0.1:1883", 100, is_up=True)
    tell(board, "meta", meta({"line-1": ["cam-1"], "line-2": ["walk-1"]}), 100, retained=True)
    tell(board, "status", "online", 100, retained=True)
    tell(board, "alerts", [], 100, retained=True)
    for line, product, model in (("line-1", "bottle-500", "cap-check:n@3"), ("line-2", "walkway", "fall:s@1")):
        tell(board, f"line/{line}/ready", product, 100, retained=True)
        tell(board, f"line/{line}/phase", "ready", 100, retained=True)
        tell(board, f"line/{line}/model/state", model, 100, retained=True)
        tell(board, f"line/{line}/state", line_state(line, product, model, "ready", "product"), 100, retained=True)
        tell(board, f"line/{line}/live", product, 111.6)
    _stream(board, "cam-1", 15, ["good", "good", "no-cap"], line="line-1", model="cap-check:n@3")
    _stream(board, "walk-1", 5, ["person"] * 4, line="line-2", model="fall:s@1", latency_ms=61.0)
    _memory(board)
    _changeovers(board)
    return board


def fault_board() -> Board:
    """Return the same plant a little later: an unknown product on line-1, a stalled camera on line-2."""
    board = normal_board()
    alerts = [
        {"code": "unknown_product", "on": True, "line": "line-1", "stream": None, "detail": "no product 'bottle-750'"},
        {"code": "camera", "on": True, "line": None, "stream": "walk-1", "detail": "stalled"},
    ]
    tell(board, "alerts", alerts, 113, retained=True)
    tell(board, "line/line-1/ready", "0", 113, retained=True)
    tell(board, "line/line-1/live", "0", 117.5)
    tell(board, "line/line-1/phase", "fault", 113, retained=True)
    state = line_state("line-1", "bottle-750", "cap-check:n@3", "fault", "product")
    tell(board, "line/line-1/state", state, 113, retained=True)
    unknown = switch(
        product="bottle-750",
        **{"from": "cap-check:n@3"},
        to=None,
        result="rejected",
        reason="unknown_product",
        residency=None,
        order=None,
        requested_at="2026-01-01T06:05:00.000Z",
        ready_at=None,
        total_ms=0,
    )
    tell(board, "line/line-1/switch", unknown, 113)
    tell(board, "line/line-2/phase", "degraded", 113, retained=True)
    tell(board, "stream/walk-1/status", "stalled", 113, retained=True)
    for seq in range(90):
        tell(board, "stream/cam-1/detections", detections("cam-1", 180 + seq, ["good"]), 112 + seq / 15)
    return board


def _stream(board: Board, stream: str, fps: int, labels: list[str], **changes: Any) -> None:  # noqa: ANN401 - fields of the payload
    tell(board, f"stream/{stream}/status", "online", 100, retained=True)
    usual_ms = changes.pop("latency_ms", 22.0)
    for seq in range(12 * fps):
        payload = detections(stream, seq, labels, latency_ms=usual_ms + seq * 7 % 13, **changes)
        tell(board, f"stream/{stream}/detections", payload, 100 + (seq + 1) / fps)


def _memory(board: Board) -> None:
    models = [
        resident("cap-check:n@3", 71, "active"),
        resident("fall:s@1", 118, "active"),
        resident("can-check:n@1", 69, "resident", "can-330"),
        resident("tray-check:n@2", 70, "resident"),
    ]
    tell(board, "cache", {"v": 1, "budget_bytes": 450 << 20, "used_bytes": 328 << 20, "models": models}, 110)
    one = {"fps": 15.0, "latency_ms": {"p50": 25.0}, "offered": 900, "inferred": 900, "dropped": 0}
    other = {"fps": 5.0, "latency_ms": {"p50": 66.0}, "offered": 300, "inferred": 297, "dropped": 3}
    tell(board, "health", health(**{"cam-1": one | {"inferred": 180}, "walk-1": other | {"inferred": 60}}), 110)


def _changeovers(board: Board) -> None:
    products = ["can-330", "tray-6", "bottle-500", "can-330", "bottle-500"]
    before = "cap-check:n@3"
    for place, product in enumerate(products):
        cold = place < 2
        said = switch(
            product=product,
            to=MODELS[product],
            residency="cold" if cold else "resident",
            total_ms=412.0 if cold else 14.2,
            ready_at=f"2026-01-01T06:0{place}:00.014Z",
            **{"from": before},
        )
        before = MODELS[product]
        tell(board, "line/line-1/switch", said, 101 + place)
