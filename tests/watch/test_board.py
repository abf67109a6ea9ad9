"""The board that messages build up."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.plant_told import BASE, detections, fault_board, health, line_state, meta, normal_board, switch, tell

from agent.watch.board.board import Board
from agent.watch.screen.view import View

TOPICS = [
    "status",
    "meta",
    "cache",
    "health",
    "alert",
    "alerts",
    "ack",
    "refused",
    "ping",
    *(f"line/line-1/{name}" for name in ("ready", "live", "phase", "model/state", "state", "switch", "product/set")),
    *(f"stream/cam-1/{name}" for name in ("status", "detections", "replay", "summary")),
    "line/ /ready",
    "stream//status",
    "line/line-1",
    "",
]
SAMPLES: list[dict[str, Any]] = [
    detections("cam-1", 0, ["cap"]),
    switch(),
    line_state("line-1", "bottle-500", "cap-check:n@3", "ready", "product"),
    meta({"line-1": ["cam-1"]}),
    health(**{"cam-1": {"fps": 1.0, "latency_ms": {}, "offered": 1, "inferred": 1, "dropped": 0}}),
    {"seq": 1, "from": "2026-01-01T06:00:00.000Z", "to": "2026-01-01T06:00:01.000Z", "frames": 3, "counts": {"a": 1}},
    {"budget_bytes": 1, "used_bytes": 2, "models": [{"model": "m", "bytes": 1, "state": "s", "last_use": "now"}]},
    {"code": "camera", "on": True, "line": None, "stream": "cam-1", "detail": "stalled"},
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def nearly_right(draw: st.DrawFn) -> dict[str, Any]:
    sample = dict(draw(st.sampled_from(SAMPLES)))
    sample[draw(st.sampled_from(sorted(sample)))] = draw(json_values)
    return sample


@pytest.fixture
def board() -> Board:
    return Board(BASE)


def test_lines_say_what_they_make_and_why(normal: Board) -> None:
    first, second = normal.snapshot(112).lines
    assert (first.line, first.product, first.model, first.phase) == ("line-1", "bottle-500", "cap-check:n@3", "ready")
    assert (first.cause, first.ready, first.live) == ("product", "bottle-500", "bottle-500")
    assert first.live_age_s == pytest.approx(0.4)
    assert first.names_product
    assert second.model == "fall:s@1"


def test_ready_alone_is_not_enough_once_live_is_older_than_3_s(normal: Board) -> None:
    assert normal.snapshot(114.5).lines[0].names_product
    row = normal.snapshot(114.7).lines[0]
    assert row.is_stale
    assert not row.names_product
    assert row.ready == "bottle-500"


def test_a_live_that_names_another_product_lets_no_plc_run(normal: Board) -> None:
    tell(normal, "line/line-1/live", "0", 112)
    assert not normal.snapshot(112).lines[0].names_product


def test_a_retained_live_says_nothing_of_now(board: Board) -> None:
    tell(board, "line/line-1/ready", "bottle-500", 0, retained=True)
    tell(board, "line/line-1/live", "bottle-500", 10, retained=True)
    row = board.snapshot(10).lines[0]
    assert row.live is None
    assert row.is_stale


def test_a_line_that_never_said_live_goes_stale_from_the_first_look(board: Board) -> None:
    tell(board, "meta", meta({"line-1": []}), 0, retained=True)
    assert not board.snapshot(0).lines[0].is_stale
    assert board.snapshot(3.1).lines[0].is_stale


def test_fps_counts_the_frames_of_the_last_2_s(board: Board) -> None:
    for seq in range(100):
        tell(board, "stream/cam-1/detections", detections("cam-1", seq, ["cap"]), seq / 10)
    assert board.snapshot(9.95).streams[0].fps == pytest.approx(10, abs=0.5)
    assert board.snapshot(10.95).streams[0].fps == pytest.approx(5, abs=0.5)
    assert board.snapshot(12.0).streams[0].fps == 0


def test_latency_is_of_the_newest_frames(board: Board) -> None:
    for seq in range(400):
        payload = detections("cam-1", seq, [], latency_ms=500.0 if seq < 100 else float(seq % 100 + 1))
        tell(board, "stream/cam-1/detections", payload, seq / 10)
    row = board.snapshot(40).streams[0]
    assert row.p50_ms == pytest.approx(50, abs=15)
    assert row.p99_ms == pytest.approx(99, abs=2)


def test_objects_are_those_of_the_last_frame_by_label(board: Board) -> None:
    tell(board, "stream/cam-1/detections", detections("cam-1", 0, ["cap", "cap", "no-cap"]), 1)
    row = board.snapshot(1).streams[0]
    assert row.objects == ("cap 2", "no-cap 1")
    assert row.model == "cap-check:n@3"
    tell(board, "stream/cam-1/detections", detections("cam-1", 1, []), 1.1)
    assert board.snapshot(1.1).streams[0].objects == ()
    top = [{"label": "ok", "class": 0, "score": 0.9}, {"label": "scratch", "class": 1, "score": 0.1}]
    tell(board, "stream/cam-1/detections", detections("cam-1", 2, [], top=top), 1.2)
    assert board.snapshot(1.2).streams[0].objects == ("ok 0.90",)


def test_what_a_task_adds_to_objects_is_told_in_words(board: Board) -> None:
    square = [10.0, 10.0, 110.0, 10.0, 110.0, 110.0, 10.0, 110.0]
    points = [[1.0, 2.0, 0.9], [3.0, 4.0, 0.4], [5.0, 6.0, 0.5]]
    box = {"class": 0, "score": 0.9, "box": [0, 0, 10, 10]}
    objects = [
        {"label": "filling", "polygons": [square, square[:2]], **box},
        {"label": "hand", "keypoints": [], **box, "score": 0.3},
        {"label": "hand", "keypoints": points, **box},
        *({"label": "tube", "angle": angle, "corners": [[0, 0]] * 4, **box} for angle in (0.785, 0.0, 1.0, 1.1)),
    ]
    frame = detections("cam-1", 0, []) | {"width": 400, "height": 250, "objects": objects}
    tell(board, "stream/cam-1/detections", frame, 1)
    assert board.snapshot(1).streams[0].objects == (
        "filling 1 (10.0% of the picture)",
        "hand 2 (2 of 3 points)",
        "tube 4 (45°, 0°, 57°, ...)",
    )


def test_replayed_frames_are_counted_and_are_no_rate(board: Board) -> None:
    for seq in range(5):
        tell(board, "stream/cam-1/status", "online", 0)
        tell(board, "stream/cam-1/replay", detections("cam-1", seq, []), 1)
    row = board.snapshot(1).streams[0]
    assert (row.replayed, row.fps) == (5, 0)


def test_a_stream_that_publishes_changes_only_shows_the_devices_own_rate(board: Board) -> None:
    said = {"fps": 14.8, "latency_ms": {"p50": 20.0, "p99": 31.0}, "offered": 900, "inferred": 900, "dropped": 7}
    tell(board, "stream/cam-1/detections", detections("cam-1", 30, ["cap"]), 10)
    tell(board, "health", health(**{"cam-1": said}), 10)
    row = board.snapshot(10).streams[0]
    assert (row.fps, row.dropped) == (14.8, 7)


def test_a_summary_gives_rate_and_counts(board: Board) -> None:
    summary = {
        "v": 1,
        "seq": 3,
        "from": "2026-01-01T06:00:00.000Z",
        "to": "2026-01-01T06:00:01.500Z",
        "frames": 30,
        "counts": {"cap": 60},
    }
    tell(board, "stream/cam-1/summary", summary, 1)
    row = board.snapshot(1).streams[0]
    assert (row.fps, row.objects) == (20, ("cap 60",))


def test_the_last_8_changeovers_are_kept_newest_first(board: Board) -> None:
    for place in range(12):
        tell(board, "line/line-1/switch", switch(product=str(place), total_ms=place), place)
    kept = board.snapshot(12).changeovers
    assert [row.product for row in kept] == ["11", "10", "9", "8", "7", "6", "5", "4"]
    assert (kept[0].from_, kept[0].to, kept[0].total_ms) == ("label-check:n@2", "cap-check:n@3", 11)


def test_memory_and_processes_come_from_cache_and_health(normal: Board) -> None:
    now = normal.snapshot(112)
    assert now.memory is not None
    assert (now.memory.used_bytes, now.memory.budget_bytes) == (328 << 20, 450 << 20)
    assert now.memory.models[0].model == "cap-check:n@3"
    assert now.processes is not None
    assert dict(now.processes.memory_bytes)["worker"] == 236 << 20
    assert not {"available", "total"} & dict(now.processes.memory_bytes).keys(), "the device's own is no process"
    assert now.processes.available_bytes == 5210 << 20


def test_alerts_are_those_that_are_on(board: Board) -> None:
    tell(board, "alerts", [{"code": "camera", "on": True, "stream": "cam-1"}], 0, retained=True)
    tell(board, "alert", {"code": "unknown_product", "on": True, "line": "line-1"}, 1)
    tell(board, "alert", {"code": "unknown_product", "on": True, "line": "line-1", "detail": "again"}, 1)
    assert [alert.code for alert in board.snapshot(1).alerts] == ["camera", "unknown_product"]
    tell(board, "alert", {"code": "camera", "on": False, "stream": "cam-1"}, 2)
    assert [alert.detail for alert in board.snapshot(2).alerts] == ["again"]
    tell(board, "alerts", [], 3)
    assert board.snapshot(3).alerts == ()


def test_only_configured_lines_are_shown_and_cleared_ones_go(board: Board) -> None:
    tell(board, "line/old/ready", "x", 0, retained=True)
    tell(board, "stream/old-cam/status", "offline", 0, retained=True)
    assert [row.line for row in board.snapshot(0).lines] == ["old"]
    tell(board, "line/old/ready", "", 0)
    tell(board, "stream/old-cam/status", "", 0)
    assert board.snapshot(0).lines == ()
    assert board.snapshot(0).streams == ()
    tell(board, "line/old/ready", "x", 0, retained=True)
    tell(board, "meta", meta({"line-1": ["cam-1"]}), 0, retained=True)
    assert [row.line for row in board.snapshot(0).lines] == ["line-1"]
    assert [(row.stream, row.line) for row in board.snapshot(0).streams] == [("cam-1", "line-1")]


def test_rows_are_bounded_whoever_publishes(board: Board) -> None:
    for number in range(500):
        tell(board, f"line/l{number}/ready", "x", 0)
        tell(board, f"stream/s{number}/status", "online", 0)
    assert len(board.snapshot(0).lines) == 64
    assert len(board.snapshot(0).streams) == 64


def test_another_devices_topics_are_passed_over(board: Board) -> None:
    board.take("changeover/v1/box-8/status", b"online", True, 0)
    board.take("changeover/v1/box-77/status", b"online", True, 0)
    assert board.snapshot(0).device.status is None


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("status", b"\xff\xfe"),
        ("status", b"on fire"),
        ("meta", b"{"),
        ("meta", b"[" * 100_000),
        ("health", b'{"streams": ' + b"[" * 100_000),
        ("line/line-1/phase", b"running"),
        ("line/line-1/ready", b"x" * 10_000),
        ("line/line-1/switch", b"{}"),
        ("line/line-1/switch", b""),
        ("stream/cam-1/detections", b"null"),
        ("stream/cam-1/summary", b'{"seq":1,"from":"9999-99-99T00:00:00.000Z","to":"","frames":1,"counts":{}}'),
    ],
)
def test_broken_payloads_change_nothing_and_are_counted(normal: Board, topic: str, payload: bytes) -> None:
    before = normal.snapshot(112)
    normal.take(f"{BASE}/{topic}", payload, False, 112)
    after = normal.snapshot(112)
    assert after.broken == 1
    assert (after.device, after.lines, after.streams, after.changeovers) == (
        before.device,
        before.lines,
        before.streams,
        before.changeovers,
    )


@given(topic=st.sampled_from(TOPICS), payload=st.binary(max_size=300), retained=st.booleans())
def test_random_bytes_on_any_topic_never_raise(topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    board = Board(BASE)
    board.take(f"{BASE}/{topic}", payload, retained, 1)
    board.snapshot(2)


@pytest.mark.parametrize("make", [normal_board, fault_board])
def test_payloads_of_the_right_shape_with_one_wild_value_never_raise(make: Callable[[], Board]) -> None:
    board = make()
    console = Console(width=100, height=30, color_system=None, force_terminal=False)

    @given(topic=st.sampled_from(TOPICS), payload=nearly_right(), retained=st.booleans())
    def check(topic: str, payload: dict[str, Any], retained: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        tell(board, topic, payload, 118, retained=retained)
        with console.capture():
            console.print(View(board.snapshot(118)))

    check()


def test_an_order_is_shown_until_it_is_cleared() -> None:
    board = Board(BASE)
    state = {
        "id": "job-7",
        "rev": 42,
        "state": "downloading",
        "reason": None,
        "detail": None,
        "bytes": 50,
        "total": 100,
    }
    state |= {"kbps": 800.0, "eta_s": 1.0, "models": ["cap-check:n@4"], "since": "2026-01-01T06:00:00.000Z", "v": 1}
    tell(board, "job/job-7/state", state, 1000.0)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(View(board.snapshot(1000.0)))
    (row,) = (line for line in console.export_text().splitlines() if "job-7" in line)
    assert row.split()[:4] == ["job-7", "downloading", "50%", "cap-check:n@4"]
    board.take(f"{BASE}/job/job-7/state", b"", False, 1000.0)
    assert board.snapshot(1000.0).jobs == ()
