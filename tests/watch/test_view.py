"""Layout of the live view, row by row."""

import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text
from support.plant_told import BASE, line_state, resident, tell

from agent.watch.board.board import Board
from agent.watch.screen.view import View
from agent.watch.watch_command import LiveView, screenshot, show

SIZES = [(80, 24), (100, 30), (120, 40)]
COLOURS = {"color(1)": "red", "color(2)": "green", "color(3)": "yellow"}
each_size = pytest.mark.parametrize(("width", "height"), SIZES)


def drawn(board: Board, now_s: float, width: int, height: int | None, *, colours: bool = False) -> str:
    console = Console(
        width=width,
        height=height or 25,
        force_terminal=colours,
        color_system="standard" if colours else None,
    )
    with console.capture() as capture:
        console.print(View(board.snapshot(now_s)), height=height)
    return capture.get()


def style_of(board: Board, now_s: float, value: str) -> set[str]:
    """Return the colours in which a word is drawn."""
    seen = Text.from_ansi(drawn(board, now_s, 120, None, colours=True))
    return {
        COLOURS[str(span.style)]
        for span in seen.spans
        if seen.plain[span.start : span.end].strip() == value and str(span.style) in COLOURS
    }


@each_size
def test_an_empty_board_fits_and_says_so(width: int, height: int) -> None:
    lines = drawn(Board(BASE), 5, width, height).splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert "box-7" in lines[0]
    assert "NO ALERT" in "\n".join(lines)


@each_size
def test_a_normal_board_fits_and_says_what_runs(normal: Board, width: int, height: int) -> None:
    said = drawn(normal, 112, width, height)
    assert len(said.splitlines()) <= height
    assert all(len(line) <= width for line in said.splitlines())
    for word in ("box-7", "online", "9f3a51c2", "mqtt://127.0.0.1:1883 up", "NO ALERT"):
        assert word in said
    assert re.search(r"line-1 +bottle-500 +cap-check:n@3 +ready +bottle-500 +0\.4 s", said)
    assert re.search(r"cam-1 .*online +15\.0 +28 ms +34 ms +0 +good 2, no-cap 1", said)
    assert "328 of 450 MiB" in said
    assert re.search(r"can-check:n@1 +69 +resident +can-330 +cpu", said)
    assert "control 43, worker 236, cameras 149 MiB" in said
    assert re.search(r"line-1 +bottle-500 .*cap-check:n@3 +switched .*14 ms +0 +0", said)


@each_size
def test_a_board_with_faults_fits_and_says_them(fault: Board, width: int, height: int) -> None:
    said = drawn(fault, 118, width, height)
    assert len(said.splitlines()) <= height
    assert all(len(line) <= width for line in said.splitlines())
    assert re.search(r"unknown_product +line-1 +no product 'bottle-750'", said)
    assert re.search(r"camera +walk-1 +stalled", said)
    assert re.search(r"line-1 +bottle-750 +cap-check:n@3 +fault +0 +0\.5 s", said)
    assert re.search(r"line-2 .* degraded +walkway +6\.4 s old", said)
    assert re.search(r"walk-1 .*stalled +0\.0 +- +-", said)


@each_size
def test_refused_commands_are_shown_newest_first_and_fit(normal: Board, width: int, height: int) -> None:
    said = "no line 'line-9' on this device; known lines: line-1"
    refused = [
        {"at": f"2026-01-01T06:00:0{number}.000Z", "topic": "line/line-9/product/set", "reason": reason, "detail": said}
        for number, reason in enumerate(("not_understood", "unknown_line"))
    ]
    tell(normal, "refused", refused, 112, retained=True)
    drawn_ = drawn(normal, 112, width, height)
    assert len(drawn_.splitlines()) <= height
    assert re.search(r"unknown_line .*no line 'line-9'", drawn_)
    tell(normal, "refused", [], 113, retained=True)
    assert "REFUSED" not in drawn(normal, 113, width, height)


def test_everything_is_shown_where_the_width_allows(normal: Board) -> None:
    said = drawn(normal, 112, 120, 40)
    assert re.search(r"can-check:n@1 +cap-check:n@3 +switched +resident +14 ms", said)
    assert re.search(r"can-330 +cap-check:n@3 +can-check:n@1 +switched +cold +412 ms", said)
    assert "CAUSE" in said


def test_colours_mean_what_they_should(normal: Board, fault: Board) -> None:
    assert style_of(normal, 112, "ready") == {"green"}
    assert style_of(normal, 112, "bottle-500") >= {"green"}
    assert style_of(normal, 112, "switched") == {"green"}
    assert style_of(fault, 118, "fault") == {"red"}
    assert style_of(fault, 118, "stalled") >= {"red"}
    assert style_of(fault, 118, "degraded") == {"yellow"}
    assert style_of(fault, 118, "walkway") >= {"red"}


def test_what_does_not_fit_is_counted() -> None:
    board = Board(BASE)
    for number in range(30):
        tell(board, f"line/line-{number}/ready", "0", 0, retained=True)
        tell(board, f"stream/cam-{number}/status", "online", 0, retained=True)
    said = drawn(board, 1, 80, 24).splitlines()
    assert len(said) <= 24
    assert sum("more" in line for line in said) == 2


def test_a_broker_that_is_away_is_said_with_its_reason(normal: Board) -> None:
    normal.broker_is("mqtt://127.0.0.1:1883", 112, is_up=False, detail="connection refused")
    said = drawn(normal, 120, 100, 30)
    assert "away 8.0 s" in said
    assert "broker away: connection refused; trying again" in said


def test_memory_over_budget_is_red() -> None:
    board = Board(BASE)
    models = [resident("fall:x@1", 500, "active")]
    tell(board, "cache", {"v": 1, "budget_bytes": 450 << 20, "used_bytes": 500 << 20, "models": models}, 0)
    assert style_of(board, 1, "500 of 450 MiB") == {"red"}


def test_nothing_that_is_published_reaches_the_terminal_as_a_command() -> None:
    board = Board(BASE)
    wild = line_state("line-1", "\x1b[2J\x07[bold]x\u202e\n\r", "m", "ready", "product")
    tell(board, "line/line-1/state", wild, 0)
    tell(board, "line/line-1/ready", "\x1b]0;title\x07", 0)
    said = drawn(board, 1, 120, 40)
    assert not set("\x1b\x07\r\u202e") & set(said)
    assert "[bold]x" in said


def test_show_prints_every_row(fault: Board) -> None:
    console = Console(width=100, height=5, color_system=None)
    with console.capture() as capture:
        show(fault, console, 118)
    assert capture.get().count("switched") == 5


def test_the_screenshot_is_a_picture_of_the_board_that_loads_nothing(normal: Board, tmp_path: Path) -> None:
    screenshot(normal, tmp_path / "watch.svg", 112)
    said = (tmp_path / "watch.svg").read_text("utf-8")
    assert said.startswith("<svg")
    assert "bottle-500" in said
    assert "url(http" not in said


def test_a_live_view_draws_on_a_terminal_and_gives_it_back(normal: Board) -> None:
    console = Console(width=100, height=30, force_terminal=True, color_system=None, legacy_windows=False, _environ={})
    view = LiveView(console)
    with console.capture() as capture:
        view.start(normal)
        tell(normal, "line/line-1/phase", "switching", 113)
        view.refresh()
        view.stop()
        view.stop()
    said = capture.get()
    assert "switching" in said
    assert said.index("\x1b[?1049h") < said.index("cap-check:n@3") < said.rindex("\x1b[?1049l")


def test_a_live_view_on_anything_else_draws_nothing(normal: Board) -> None:
    console = Console(width=100, force_terminal=False)
    view = LiveView(console)
    with console.capture() as capture:
        view.start(normal)
        view.refresh()
        view.stop()
    assert capture.get() == ""


def test_it_says_what_an_operator_overrides_and_what_the_schedule_will_do(normal: Board) -> None:
    assert "NEXT" not in drawn(normal, 112, 120, None)
    state = line_state("line-1", "bottle-500", "cap-check:n@3", "ready", "operator")
    state["cause"]["overrode"] = {"rule": "product", "model": "cap-check:m@3"}
    state["next"] = {"at": "2026-01-01T22:00:00.000Z", "model": "cap-check:x@3"}
    tell(normal, "line/line-1/state", state, 112)
    said = drawn(normal, 112, 120, None)
    assert re.search(r"line-1 .*operator, not product +\d\d:00 cap-check:x@3", said)
    assert re.search(r"line-1 .*operator", drawn(normal, 112, 80, None))


def test_a_narrow_terminal_keeps_what_a_conveyor_goes_by(fault: Board) -> None:
    said = drawn(fault, 118, 52, 20)
    assert all(len(line) <= 52 for line in said.splitlines())
    assert re.search(r"line-1 +bottle-750 +fault +0 +0\.5 s", said)
    assert re.search(r"line-2 +walkway +degraded +walkway +6\.4 s old", said)
    assert re.search(r"walk-1 +stalled", said)
