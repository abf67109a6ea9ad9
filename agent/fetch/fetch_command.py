"""Fetches models of the catalog in the foreground, by the same supply process as the service's."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from msgspec.structs import replace

from agent import isolated
from agent.app.children.supply import MODULE, setup_of
from agent.app.configuration.ordered_models import as_json, lacks_signature
from agent.messages.children import Log
from agent.messages.errors import EXIT_FAILED, EXIT_MISTAKE, EXIT_OK, MistakeError
from agent.messages.references import ModelReference
from agent.messages.short_lived.supply import (
    Fetched,
    FetchFailed,
    FetchModels,
    FetchProgress,
    SupplyMessage,
    SupplySetup,
)
from agent.models.catalog import Catalog
from agent.processes.channel import Channel, ChannelClosedError, pair
from agent.processes.package_version import version_of
from agent.settings import Settings

_SILENT_S: Final = 15.0
"""Silence of the process, which sends a heartbeat each 0.25 s, after which it is killed: it is stuck in the kernel."""
_REAP_S: Final = 2.0
_TELL_S: Final = 10.0
_JOB: Final = "models-fetch"


def run(settings: Settings, reference: ModelReference | None, max_s: float, say: Callable[[str], None]) -> int:
    """Fetch what the store lacks of the catalog, or of `reference`; return the exit code. Raises MistakeError."""
    catalog = Catalog.load(settings.catalog.file, settings.catalog.store_dir)
    matching = catalog.matching(reference)
    if reference is not None and not matching:
        raise MistakeError(f"the catalog has no {reference}")
    wanted = [
        entry
        for entry in catalog.fetched
        if entry in catalog.missing or lacks_signature(settings.catalog, entry)
        if reference is None or entry.version_of(settings.catalog.store_dir) in matching
    ]
    if not wanted:
        say("nothing to fetch: the files of all these models are here")
        return EXIT_OK
    if version_of("httpx") is None:
        raise MistakeError("what fetches models is not installed: pip install 'changeover[supply]'")
    order = FetchModels(_JOB, tuple(as_json(entry) for entry in wanted), "", max_s)
    with _bar() as show:
        # At once, because somebody waits who knows what time it is.
        outcome = _ask(replace(setup_of(settings), window=""), order, show)
    if isinstance(outcome, FetchFailed):
        say(f"{outcome.reason}: {outcome.detail}")
        return EXIT_FAILED if outcome.is_transient else EXIT_MISTAKE
    for entry in wanted:
        version = entry.version_of(settings.catalog.store_dir)
        say(f"fetched {version.reference}\t{version.path}")
    return EXIT_OK


def _ask(setup: SupplySetup, order: FetchModels, show: Callable[[FetchProgress], None]) -> Fetched | FetchFailed:
    """Start a supply process, have it do `order`, and return how that ended; the process is gone then."""
    ours, theirs = pair()
    with ExitStack() as ended:
        channel: Channel[Any] = Channel(ours, SupplyMessage)
        ended.callback(channel.close)  # which ends the process
        with theirs:
            command = isolated.command(MODULE, theirs.fileno())
            process = subprocess.Popen(command, cwd=isolated.FOLDER, pass_fds=(theirs.fileno(),))
        ended.callback(_reap, process)
        try:
            channel.send(setup)
            channel.send(order)
            return _outcome(channel, show)
        except ChannelClosedError:
            code = process.wait(_REAP_S) if process.poll() is None else process.returncode
            return FetchFailed(_JOB, "cut_off", f"the supply process ended with code {code}", is_transient=True)


def _outcome(channel: Channel[Any], show: Callable[[FetchProgress], None]) -> Fetched | FetchFailed:
    while True:
        message = channel.receive(_SILENT_S)
        match message:
            case Fetched() | FetchFailed():
                return message
            case FetchProgress():
                show(message)
            case Log():
                sys.stderr.write(f"{message.text}\n")
            case None:
                detail = f"no sign of life for {_SILENT_S:.0f} s: is a mount's server gone?"
                return FetchFailed(_JOB, "source_hung", detail, is_transient=True)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Kill the process; one that is stuck in the kernel is left to it."""
    process.kill()
    try:
        process.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"process {process.pid} is stuck in the kernel, and ends when that lets it go\n")


@contextmanager
def _bar() -> Iterator[Callable[[FetchProgress], None]]:
    """Show progress on the terminal; where there is none, one line each ten seconds."""
    from rich.console import Console  # noqa: PLC0415 - only where something is fetched
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        told_s = time.monotonic()

        def show(progress: FetchProgress) -> None:
            nonlocal told_s
            total = progress.total or None
            bar.update(task, description=progress.state, completed=progress.bytes, total=total)
            if not console.is_terminal and time.monotonic() - told_s >= _TELL_S:
                told_s = time.monotonic()
                console.print(f"{progress.state} {progress.bytes / 1e6:.1f} of {progress.total / 1e6:.1f} MB")

        yield show
