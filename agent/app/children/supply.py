"""The supply process: started for a request, and ended when nothing is left for it to do."""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from agent import isolated
from agent.control.events import SupplyLost
from agent.control.reconciler import Event
from agent.control.state import State
from agent.messages.children import Log, Message
from agent.messages.events import ChildHung, ChildLost, ChildUp
from agent.messages.short_lived.supply import (
    AliasesFound,
    Entered,
    EnterModels,
    Fetched,
    FetchFailed,
    FetchModels,
    FetchProgress,
    FollowAliases,
    SupplyHost,
    SupplyMessage,
    SupplySetup,
)
from agent.models.keeping.leftovers import sweep_at_start
from agent.processes.supervisor import ChildSpec, Supervisor
from agent.settings import Settings, SupplyHostSettings

_log: Final = logging.getLogger(__name__)
SUPPLY: Final = "supply"
MODULE: Final = "agent.supply.supply_process"
_BEAT_DEADLINE_S: Final = 10.0
_BUSY_DEADLINE_S: Final = 60.0
"""A read of a source, such as a NAS that is away, that takes longer is given up with its process."""


class SupplyProcess:
    """Owner of the supply process, for the loop's thread; one request at a time."""

    def __init__(
        self, supervisor: Supervisor, settings: Callable[[], Settings], decide: Callable[[Event], None]
    ) -> None:
        self._supervisor: Final = supervisor
        self._settings: Final = settings
        self._decide: Final = decide
        self._request: FetchModels | FollowAliases | EnterModels | None = None
        self._is_running = False
        self._is_up = False
        self._is_hung = False
        self.command: tuple[str, ...] = tuple(isolated.command(MODULE))
        """Command line of the process; tests replace it."""

    def begin(self, state: State) -> None:
        """Delete what is left of fetches that neither the catalog nor the job under way goes on with."""
        job = state.orders.job
        if job is not None and job.index and not job.entries:
            return  # because its models are known when its index is read
        entries = [msgspec.json.decode(one) for one in (*state.plant.supply.missing, *(job.entries if job else ()))]
        wanted = {sha256 for one in entries for sha256 in (one["sha256"], *one.get("files", {}).values())}
        follows = any(line.rules.candidate for line in state.lines.values())  # what that means is known after a look
        sweep_at_start(self._settings().catalog.store_dir, None if follows else wanted)

    def ask(self, message: FetchModels | FollowAliases | EnterModels) -> None:
        """Send a request; the process is started for it where it does not run."""
        self._request = message
        if not self._is_running:
            self._is_running, self._is_up, self._is_hung = True, False, False
            self._supervisor.start(self._spec())
        elif self._is_up:
            self._supervisor.send(SUPPLY, message)

    def end(self) -> None:
        """End the process with what it is doing."""
        self._request = None
        if self._is_running:
            self._is_running = self._is_up = False
            self._supervisor.end(SUPPLY)

    def take(self, message: Message) -> None:
        """Handle a message of the process, or its loss; a new one gets the same request."""
        match message:
            case ChildUp():
                self._is_up = True
                if self._request is not None:
                    self._supervisor.send(SUPPLY, self._request)
            case ChildHung():
                self._is_hung = True
            case ChildLost():
                self._is_up = False
                is_hung, self._is_hung = self._is_hung, False
                self._decide(SupplyLost(message.detail, is_hung))
            case FetchProgress() | Fetched() | AliasesFound() | FetchFailed() | Entered():
                if not isinstance(message, FetchProgress):
                    self._request = None
                self._decide(message)
            case Log():
                _log.log(logging.getLevelName(message.level), "event=supply_told detail=%r", message.text)

    def _spec(self) -> ChildSpec:
        return ChildSpec(
            name=SUPPLY,
            command=self.command,
            incoming=SupplyMessage,
            setup=lambda: setup_of(self._settings()),
            descriptors=(),
            beat_deadline_s=_BEAT_DEADLINE_S,
            busy_deadline_s=_BUSY_DEADLINE_S,
        )


def setup_of(settings: Settings) -> SupplySetup:
    """Return the first message to a supply process."""
    catalog, supply = settings.catalog, settings.supply
    return SupplySetup(
        store_dir=str(catalog.store_dir),
        catalog_file=str(catalog.file),
        state_dir=str(settings.device.state_dir),
        max_bytes=catalog.max_bytes,
        min_free_bytes=catalog.min_free,
        max_kbps=supply.max_kbps,
        window=supply.window,
        hosts=tuple(_host(name, host) for name, host in supply.host.items()),
        trusted_keys=catalog.trusted_keys,
        index=catalog.index,
        root=str(catalog.root or ""),
        require_fresh=catalog.require_fresh,
    )


def _host(name: str, host: SupplyHostSettings) -> SupplyHost:
    return SupplyHost(
        host=name,
        access_key_file=str(host.access_key_file or ""),
        secret_key_file=str(host.secret_key_file or ""),
        token_file=str(host.token_file or ""),
        ca_file=str(host.ca_file or ""),
        endpoint=host.endpoint,
        region=host.region,
    )
