"""Entry of `changeover watch`, and what the demo shows its plant with."""

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
    """A board on the whole terminal, drawn when its owner says so. On anything but a terminal it draws nothing.

    For one thread, the one that folds into the board. `stop` gives the terminal back, also when called twice.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console: Final = console or Console()
        self._live: Live | None = None
        self._board: Board | None = None

    def start(self, board: Board) -> None:
        """Take the terminal."""
        self._board = board
        if self._console.is_terminal:
            self._live = Live(console=self._console, screen=True, auto_refresh=False, get_renderable=self._draw)
            self._live.start(refresh=True)

    def refresh(self) -> None:
        """Draw the board as it is now."""
        if self._live is not None:
            self._live.refresh()

    def stop(self) -> None:
        """Give the terminal back."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _draw(self) -> RenderableType:
        return Text() if self._board is None else View(self._board.snapshot(time.monotonic()))


def show(board: Board, console: Console, now_s: float | None = None) -> None:
    """Print a board once, with all its rows; `now_s` is monotonic, and now where it is left out."""
    console.print(View(board.snapshot(time.monotonic() if now_s is None else now_s)))


def screenshot(board: Board, path_svg: Path, now_s: float | None = None, width: int = 100) -> None:
    """Write a board as an SVG picture that loads nothing from elsewhere. Raises OSError."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    show(board, console, now_s)
    drawn = _FONT_FACES.sub("", console.export_svg(title="changeover watch"))
    # without it some viewers leave out the spaces at the start of a piece of text
    drawn = drawn.replace("<svg ", '<svg xml:space="preserve" ', 1)
    path_svg.write_text(drawn.replace("Fira Code,", "Fira Code, DejaVu Sans Mono,"), "utf-8")


def run(settings: Settings) -> int:
    """Show the configured device until Ctrl-C; where stdout is no terminal, print it once after 3 s.

    Returns the exit code: 1 only where there was no terminal and no broker. Raises MistakeError for the password file.
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
    with _terminated_as_interrupted():
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
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM give the terminal back as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
