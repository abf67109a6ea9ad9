"""Command line; each command imports the code it needs only when it runs, so that --help and completion are fast."""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from agent import __version__
from agent.cli.canary import canary
from agent.cli.index import index
from agent.cli.models import models
from agent.cli.options import FILE, config_option, settings_of
from agent.cli.trusted import bundle, import_, sign
from agent.cli.web import web
from agent.messages.errors import (
    EXIT_FAILED,
    EXIT_MISTAKE,
    EXIT_NOT_STARTED,
    MistakeError,
    NotStartedError,
    TransientError,
    denied,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from agent.models.catalog import Catalog
    from agent.settings import Settings


def main() -> NoReturn:
    """Run a command and exit: 0 good, 1 a retry may help, 2 a mistake, 3 could not start."""
    try:
        _commands(prog_name="changeover")
    except MistakeError as error:
        _fail(error, EXIT_MISTAKE)
    except NotStartedError as error:
        _fail(error, EXIT_NOT_STARTED)
    except TransientError as error:
        _fail(error, EXIT_FAILED)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # because nameless, and not of a full disk, it is a fault of our own
        is_denied = isinstance(error, PermissionError)
        _fail(denied(error.filename) if is_denied else str(error), EXIT_MISTAKE if is_denied else EXIT_FAILED)
    sys.exit(0)


def _fail(error: object, code: int) -> NoReturn:
    click.echo(str(error), err=True)
    sys.exit(code)


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's call
    if wanted:
        click.echo(f"changeover {__version__}")
        context.exit()


_COMPLETION = (
    """Completion in bash: eval "$(_CHANGEOVER_COMPLETE=bash_source changeover)"; also zsh_source, fish_source."""
)


@click.group(name="changeover", context_settings={"help_option_names": ["-h", "--help"]}, epilog=_COMPLETION)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def _commands() -> None:
    """Run the vision agent that changes over with the line: it hot-swaps YOLO models by MQTT."""


@_commands.command()
@config_option
def run(config: Path | None) -> None:
    """Run the service in the foreground; it logs to stderr."""
    settings = settings_of(config)
    from agent.app.main import run as run_agent

    sys.exit(run_agent(settings, lambda: settings_of(config)))


@_commands.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so long, on a busy machine up to 3 min later; else at Ctrl-C.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON: what was seen.")
@click.option("--no-view", is_flag=True, help="Without the live view.")
@click.option("--web", "is_web", is_flag=True, help="With the console instead of the live view; prints its address.")
def demo(seconds: float | None, *, as_json: bool, no_view: bool, is_web: bool) -> None:
    """Run a whole plant: embedded broker, two lines, a scripted PLC, a live view or the console."""
    from agent.demo.demo_command import Options
    from agent.demo.demo_command import run as run_demo

    sys.exit(run_demo(Options(seconds, as_json=as_json, view=not no_view and not is_web, web=is_web)))


@_commands.command()
@config_option
def watch(config: Path | None) -> None:
    """Show a device live in the terminal, from its topics alone."""
    settings = settings_of(config)
    from agent.watch.watch_command import run as run_watch

    sys.exit(run_watch(settings))


@_commands.command()
@click.argument("line")
@click.argument("product_or_ref")
@click.option("--model", "is_model", is_flag=True, help="Ask for a model, above the product; `auto` gives that back.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON: the answer and the report.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait; else the line's, and 10."
)
@config_option
def switch(  # noqa: PLR0913 - one parameter an argument and option
    line: str, product_or_ref: str, timeout: float | None, config: Path | None, *, is_model: bool, as_json: bool
) -> None:
    """Turn LINE over to a product (or to a model), wait until it is ready, and print the changeover report."""
    settings = settings_of(config)
    from agent.switch.switch_command import Asked
    from agent.switch.switch_command import run as run_switch

    asked = Asked(line, product_or_ref, is_model=is_model, as_json=as_json, timeout_s=timeout)
    sys.exit(run_switch(settings, asked))


@_commands.command()
@click.option("--fix", is_flag=True, help="First give renamed keys their new names, and keep the old file beside it.")
@config_option
def check(config: Path | None, *, fix: bool) -> None:
    """Check configuration, catalog and all files they name: every mistake in one run; root asks as the service."""
    from agent.app.configuration.check import check as check_all

    if fix:
        from agent.app.configuration.mend import mend

        for change in mend(config, os.environ):
            click.echo(change)
    checked = check_all(config, os.environ)
    for mistake in checked.mistakes:
        click.echo(str(mistake))
    if not checked.mistakes:
        click.echo(checked.summary)
    for word in checked.notes:
        click.echo(f"note: {word}")
    if checked.mistakes:
        sys.exit(EXIT_MISTAKE)
    if checked.settings is None or checked.catalog is None:
        return
    for word in (*_unreached(checked.settings, checked.catalog), *_unprepared(checked.settings, checked.catalog)):
        click.echo(f"note: {word}")


def _unprepared(settings: "Settings", catalog: "Catalog") -> "Iterator[str]":
    """Yield the models whose first load would be slow; loads numpy and cv2 only where one could be."""
    from agent.models.model_files import is_plain_graph

    versions = [version for version in catalog.versions if not is_plain_graph(Path(version.path))]
    if not versions:
        return
    from agent.inference.artifacts.artifact_store import ArtifactStore
    from agent.inference.backends.choice import unprepared

    yield from unprepared(versions, settings.device.compute, ArtifactStore(settings.device.cache_dir))


def _unreached(settings: "Settings", catalog: "Catalog") -> "Iterator[str]":
    """Yield what keeps sources of models from being reached, and how old the index is, where there are any."""
    if settings.catalog.root is None and not any(version.source for version in catalog.versions):
        return
    from agent.doctor.supply.sources import INDEX, try_sources

    told = (one for one in try_sources(settings) if one.verdict != "ok" or one.subject == INDEX)
    yield from (f"{one.subject}: {one.text}" for one in told)


@_commands.command()
@click.option("--line", help="The line's name.")
@click.option(
    "--product",
    "products",
    multiple=True,
    metavar="CODE=MODEL",
    help="What the PLC sends, and its model's file; repeatable.",
)
@click.option("--camera", metavar="SOURCE", help="The camera's URL, /dev/video0, a video file or a folder of pictures.")
@click.option("--camera-password-file", type=FILE, help="A file with the password of the user in the camera's URL.")
@click.option("--broker", metavar="URL", help="mqtt://HOST[:PORT], mqtts://HOST[:PORT], or embedded for a trial.")
@click.option("--username", help="The user name at the broker.")
@click.option("--password-file", type=FILE, help="A file with that user's password.")
@click.option("--ca-file", type=FILE, help="The authority of the broker's certificate; else the system's.")
@click.option("--device", metavar="ID", help="The device's id; else the host name.")
@click.option("--no-try", is_flag=True, help="Write what could not be tried: neither open the camera nor the broker.")
@config_option
def init(no_try: bool, **given: Any) -> None:  # noqa: ANN401, FBT001 - one parameter an option, as click names them
    """Write a first configuration: asks for what no option gives, tries it, never replaces a file."""
    from agent.init.init_command import Options
    from agent.init.init_command import run as run_init

    sys.exit(run_init(Options(**given, has_tries=not no_try), os.environ, click.echo))


@_commands.command()
@click.argument(
    "name",
    type=click.Choice(
        ["cache", "canary", "gateway", "memory", "outbox", "pipeline", "recovery", "supply", "swap", "tasks"]
    ),
)
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON, the figures.")
@click.option("--swaps", type=click.IntRange(min=1), help="How many swaps in a row; 1000 unless --quick.")
@click.option("--rounds", type=click.IntRange(min=1), help="canary, gateway, pipeline, supply, tasks: how many rounds.")
@click.option("--seconds", type=click.FloatRange(min=1), help="canary, gateway, pipeline, tasks: length of one look.")
@click.option("--precision", type=click.Choice(["f32", "bf16"]), help="Not the fastest that answers alike, but this.")
@click.option("--part", type=click.Choice(["latency", "same", "share"]), help="canary: this part alone.")
@click.option("--size", type=click.Choice(["320", "640"]), help="gateway: pictures of this size alone.")
@click.option("--quick", is_flag=True, help="Few repeats: to see that it runs, not for figures.")
def bench(name: str, **options: Any) -> None:  # noqa: ANN401 - click's, as `bench_command` takes them
    """Measure the agent against the bare runtime and a reference manager. Takes minutes; progress goes to stderr."""
    try:
        from agent.bench.bench_command import run as run_bench
    except ModuleNotFoundError as error:
        if error.name not in {"agent.bench", "agent.bench.bench_command"}:
            raise
        raise MistakeError("the benchmarks are not installed: run scripts/bench in a checkout of the project") from None

    sys.exit(run_bench(name, **options))


@_commands.command()
@config_option
@click.option("--as-service", is_flag=True, help="Inside the service's sandbox: as its user, with its devices only.")
@click.option("--inside", is_flag=True, hidden=True)
@click.option(
    "--record",
    type=click.File("wb", lazy=True),
    metavar="FILE",
    help="Write what a maintainer needs of the hardware to FILE, or - for standard output; try nothing.",
)
def doctor(config: Path | None, *, as_service: bool, inside: bool, record: "BinaryIO | None") -> None:
    """Try device, runtime, cameras, broker and models: one line each, ok or what to do."""
    if record is not None:
        from agent.doctor.recorder import record as recorded

        record.write(recorded())
        return
    if as_service:
        from agent.doctor.service import run_inside

        place = ["--config", str(config.absolute())] if config is not None else []
        sys.exit(run_inside(["doctor", "--inside", *place]))
    settings = settings_of(config)
    from agent.doctor.doctor_command import run as run_doctor

    sys.exit(run_doctor(settings, click.echo, inside=inside))


@_commands.command()
@config_option
def forget(config: Path | None) -> None:
    """Clear what a stopped device left retained on its broker, before it is taken away."""
    settings = settings_of(config)
    from agent.mqtt.retained_cleanup import clear_of_device

    click.echo(clear_of_device(settings))


@_commands.command()
@click.argument("out", required=False, type=click.Path(path_type=Path))
@config_option
def support(out: Path | None, config: Path | None) -> None:
    """Write one archive for whoever helps, without secrets: OUT, or a name with device and time."""
    from agent.support.support_command import run as run_support

    sys.exit(run_support(config, out, os.environ, lambda line: click.echo(line, err=True)))


models.add_command(sign)
models.add_command(bundle)
models.add_command(import_)
_commands.add_command(models)
_commands.add_command(index)
_commands.add_command(web)
_commands.add_command(canary)
