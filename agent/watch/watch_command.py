"""Entry of `changeover watch`, and the live view that the demo uses too."""

import io
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from agent.messages.errors import EXIT_FAILED, EXIT_OK
from agent.messages.topics import Topics
from agent.mqtt.endpoint.link_settings import for_client
from agent.settings import Settings
from agent.watch.board.board import Board
from agent.watch.feed import Feed, LinkNews
from agent.watch.screen.view import View

_REFRESH_S: Final = 0.25
_SNAPSHOT_S: Final = 3.0
_FONT_FACES: Final = re.compile(r"@font-face\s*\{[^}]*\}")


class LiveView:
    """Full-screen view of a board, drawn by `refresh`; draws nothing where stdout is no terminal.

    For the thread that updates the board. `stop` is idempotent.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console: Final = console or Console()
        self._live: Live | None = None
        self._board: Board | None = None

    def start(self, board: Board) -> None:
        """Switch the terminal to the full-screen view."""
        self._board = board
        if self._console.is_terminal:
            self._live = Live(console=self._console, screen=True, auto_refresh=False, get_renderable=self._draw)
            self._live.start(refresh=True)

    def refresh(self) -> None:
        """Draw the board's present state."""
        if self._live is not None:
            self._live.refresh()

    def stop(self) -> None:
        """Restore the terminal."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _draw(self) -> RenderableType:
        return Text() if self._board is None else View(self._board.snapshot(time.monotonic()))


def show(board: Board, console: Console, now_s: float | None = None) -> None:
    """Print a board once with all its rows, as of the monotonic time `now_s` (default now)."""
    console.print(View(board.snapshot(time.monotonic() if now_s is None else now_s)))


def screenshot(board: Board, path_svg: Path, now_s: float | None = None, width: int = 100) -> None:
    """Write a board as a self-contained SVG picture. Raises OSError where it cannot be written."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    show(board, console, now_s)
    drawn = _FONT_FACES.sub("", console.export_svg(title="changeover watch"))
    # because some viewers drop leading spaces without it
    drawn = drawn.replace("<svg ", '<svg xml:space="preserve" ', 1)
    path_svg.write_text(drawn.replace("Fira Code,", "Fira Code, DejaVu Sans Mono,"), "utf-8")


def run(settings: Settings) -> int:
    """Show the configured device until Ctrl-C; without a terminal, print its state once after 3 s.

    Returns the exit code: 1 only without both terminal and broker. Raises MistakeError where the password or a TLS file
    cannot be used.
    """
    topics = Topics(settings.mqtt.root, settings.device.id)
    feed = Feed(for_client(settings.mqtt), f"{topics.base}/#")
    board = Board(topics.base)
    board.broker_is(feed.address, time.monotonic(), is_up=False)
    console = Console()
    feed.start()
    try:
        return _follow(board, feed, console) if console.is_terminal else _print_once(board, feed, console)
    finally:
        feed.stop()


def _follow(board: Board, feed: Feed, console: Console) -> int:
    view = LiveView(console)
    with _interruptible():
        try:
            view.start(board)
            while True:
                _fold(board, feed, time.monotonic() + _REFRESH_S)
                view.refresh()
        except KeyboardInterrupt:
            return EXIT_OK
        finally:
            view.stop()


def _print_once(board: Board, feed: Feed, console: Console) -> int:
    _fold(board, feed, time.monotonic() + _SNAPSHOT_S)
    now_s = time.monotonic()
    show(board, console, now_s)
    return EXIT_OK if board.snapshot(now_s).broker.is_up else EXIT_FAILED


def _fold(board: Board, feed: Feed, until_s: float) -> None:
    for news in feed.drain(until_s):
        if isinstance(news, LinkNews):
            board.broker_is(feed.address, news.at_s, is_up=news.is_up, detail=news.detail)
        else:
            board.take(news.topic, news.payload, news.retained, news.at_s)
    board.missed = feed.dropped


@contextmanager
def _interruptible() -> Iterator[None]:
    """Run the block with Ctrl-C and SIGTERM raising KeyboardInterrupt, so that both restore the terminal.

    Ctrl-C works also where SIGINT was ignored at the start, as a shell does for background jobs.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
