"""Entry point of `changeover run`."""

import faulthandler
import signal
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType

from agent.app.agent import Agent
from agent.app.context import Context
from agent.app.state_disk.state_folder import taken
from agent.messages.errors import EXIT_OK, NotStartedError
from agent.messages.events import ReloadRequested, StopRequested
from agent.models.catalog import Catalog
from agent.processes.logs import set_level, set_up
from agent.settings import Settings


def run(settings: Settings, reread: Callable[[], Settings] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. `reread` reads the configuration at a reload, if given."""
    set_up()
    set_level(settings.device.log_level)
    if not faulthandler.is_enabled():
        faulthandler.enable()  # here, because an isolated interpreter ignores PYTHONFAULTHANDLER
    with ExitStack() as undo:
        undo.enter_context(taken(settings.device.state_dir, settings.device.id))
        if settings.mqtt.embedded:
            from agent.app.embedded_broker import at_port, embedded_broker  # noqa: PLC0415 - only a trial brings its own

            broker = undo.enter_context(embedded_broker(settings.mqtt.port))
            settings = at_port(settings, broker.port)
        catalog = Catalog.load(settings.catalog.file, settings.catalog.store_dir)
        try:
            agent = Agent(Context(settings, catalog, reread=reread))
        except OSError as error:
            raise NotStartedError(
                f"the agent cannot start: {error}; is there memory, and are there descriptors?"
            ) from error

        def stop(number: int, _frame: FrameType | None) -> None:
            agent.loop.put(StopRequested(number))

        def reload(_number: int, _frame: FrameType | None) -> None:
            agent.loop.put(ReloadRequested())

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        signal.signal(signal.SIGHUP, reload)
        agent.run()
    return EXIT_OK
