"""Entry of `changeover demo`: runs a whole plant in one process tree and judges it."""

import json
import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import isolated
from agent.app.embedded_broker import embedded_broker
from agent.demo import assets, plant_files, prepared
from agent.demo.console import DemoConsole
from agent.demo.conveyor.camera import ConveyorCamera
from agent.demo.observations import Observations
from agent.demo.plc import Belt, Plc
from agent.messages.errors import EXIT_FAILED, EXIT_OK, TransientError
from agent.models.catalog import Catalog
from agent.mqtt.blocking_client import BlockingClient, BlockingClientError, connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.processes.parent_death import ending_with_us
from agent.watch.board.board import Board
from agent.watch.watch_command import LiveView

_log: Final = logging.getLogger(__name__)
_ROOT: Final = "changeover/v1"
_BASE: Final = f"{_ROOT}/{plant_files.DEVICE}"
_STOP_S: Final = 10.0
_LONGER_S: Final = 180.0
_STARTS_WITHIN_S: Final = 60.0
_TICK_S: Final = 0.05
_DRAW_S: Final = 0.25
_FALL_LABELS: Final = frozenset({"Normal", "Fall"})


@dataclass(frozen=True)
class Options:
    """The command's arguments."""

    seconds: float | None
    """None: until Ctrl-C."""
    as_json: bool = False
    view: bool = False
    """Show the plant in the terminal."""
    web: bool = False
    """Serve the console."""


def run(options: Options) -> int:
    """Run the plant; return 0 only where the verdict finds no fault. SIGTERM stops the plant as Ctrl-C does."""
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too, because a starter may ignore it
        signal.signal(number, signal.default_int_handler)
    shows = options.view and sys.stdout.isatty() and not options.as_json
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING if shows else logging.INFO, format="%(message)s")
    _log.info("event=demo_assets detail='fetching real pictures and a model, once'")
    files = assets.fetch()
    with tempfile.TemporaryDirectory(prefix="changeover-demo-") as name:
        console = DemoConsole.prepare(Path(name)) if options.web else None
        if console is not None:
            sys.stderr.write(console.words)
        bind = console.bind if console is not None else ""
        observations, _, _ = run_plant(Path(name), files, options.seconds, shows=shows, web_bind=bind)
    verdict = observations.verdict()
    if options.as_json:
        sys.stdout.write(json.dumps(observations.report()) + "\n")
    for complaint in verdict:
        sys.stderr.write(f"not right: {complaint}\n")
    return EXIT_FAILED if verdict else EXIT_OK


def run_plant(
    folder: Path, files: assets.Assets, seconds: float | None, *, shows: bool, web_bind: str = ""
) -> tuple[Observations, Board, float]:
    """Run the plant in `folder`; return the PLC's observations, the live view's board, and its end (monotonic, s)."""
    with ExitStack() as undo:
        port = undo.enter_context(embedded_broker(0)).port
        camera = undo.enter_context(ConveyorCamera(fps=plant_files.BELT_FPS))
        written = plant_files.write(folder, files, port, camera.url, web_bind)
        prepared.prepare(written.models, written.cache)
        observations = Observations(_classes(Catalog.load(written.models)))
        peer = undo.enter_context(connected(LinkSettings("127.0.0.1", port, "demo-plc", protocol="3.1.1")))
        peer.subscribe([f"{_BASE}/#"])
        process = undo.enter_context(_agent(written.config, folder / "agent.log" if shows else None))
        board = Board(_BASE)
        board.broker_is(f"mqtt://127.0.0.1:{port}", time.monotonic(), is_up=True)
        screen = LiveView() if shows else None
        if screen is not None:
            screen.start(board)
            undo.callback(screen.stop)
        belt = Belt(lambda product: camera.set_product(plant_files.FINER.get(product, product) if product else None))
        plc = Plc(
            _BASE,
            lambda topic, product: _order(peer, topic, product),
            belt,
            observations.complaints.append,
            lambda: _refuse(observations),
        )
        _Run(peer, process, observations, board, plc, screen).until(seconds)
        return observations, board, time.monotonic()


class _Run:
    def __init__(  # noqa: PLR0913, PLR0917 - what one run brings together
        self,
        peer: BlockingClient,
        process: "subprocess.Popen[bytes]",
        observations: Observations,
        board: Board,
        plc: Plc,
        screen: LiveView | None,
    ) -> None:
        self._peer, self._process, self._observations = peer, process, observations
        self._board, self._plc, self._screen = board, plc, screen
        self._drawn_s = 0.0

    def until(self, seconds: float | None) -> None:
        """Run the plant for `seconds` after the agent is online.

        It goes on for up to 180 s more while the verdict lacks observations, because a busy machine is slow.
        """
        try:
            self._wait_online()
            begun_s, enough_s = time.monotonic(), float("inf") if seconds is None else seconds
            while (ran_s := time.monotonic() - begun_s) < enough_s or (
                ran_s < enough_s + _LONGER_S and not self._observations.has_seen_all()
            ):
                self._turn()
                self._plc.tick(time.monotonic())
        except KeyboardInterrupt:
            _log.info("event=demo_stopped detail='by the user'")

    def _wait_online(self) -> None:
        deadline_s = time.monotonic() + _STARTS_WITHIN_S
        while self._observations.ready.keys() != {plant_files.BELT, plant_files.WALKWAY}:
            self._turn()
            if time.monotonic() > deadline_s:
                raise TransientError(f"the agent did not come online within {_STARTS_WITHIN_S:g} s")

    def _turn(self) -> None:
        if self._process.poll() is not None:
            raise TransientError(f"the agent ended with exit code {self._process.returncode}")
        arrival = self._peer.receive(_TICK_S)
        while arrival is not None:
            self._observations.take(arrival.topic, arrival.payload)
            self._plc.take(arrival.topic, arrival.payload, arrival.at_s, retained=arrival.retained)
            self._board.take(arrival.topic, arrival.payload, arrival.retained, arrival.at_s)
            arrival = self._peer.receive(0)
        if self._screen is not None and time.monotonic() - self._drawn_s > _DRAW_S:
            self._drawn_s = time.monotonic()
            self._screen.refresh()


def _order(peer: BlockingClient, topic: str, product: str) -> None:
    """Publish the PLC's order; a failure is only logged, because the PLC repeats the order."""
    try:
        peer.publish(topic, product)
    except BlockingClientError as error:
        _log.warning("event=plc_order_unanswered detail=%r", str(error))


def _refuse(observations: Observations) -> None:
    observations.refused += 1


def _classes(catalog: Catalog) -> dict[str, frozenset[str]]:
    return {one.name: frozenset(one.classes) or _FALL_LABELS for one in catalog.versions}


@contextmanager
def _agent(config: Path, log: Path | None) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the agent; stop it on exit as systemd does. The kernel ends it where this process is killed."""
    with ExitStack() as undo:
        stderr = undo.enter_context(log.open("wb")) if log is not None else None
        command = isolated.command("agent", "run", "--config", config.absolute())
        process = undo.enter_context(
            subprocess.Popen(
                ending_with_us(command, "TERM"), stderr=stderr, stdin=subprocess.DEVNULL, cwd=isolated.FOLDER
            )
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
