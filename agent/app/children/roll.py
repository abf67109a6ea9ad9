"""The children that run for as long as the agent does, by name."""

import os
from typing import Final

from agent.app.children.cameras import Cameras
from agent.app.children.groups.workers import Workers
from agent.app.children.web.web_process import WEB, WebProcess
from agent.app.children.worker import WORKER
from agent.messages.children import LogSetup
from agent.processes.supervisor import Supervisor
from agent.settings import DEFAULT_GROUP, LogLevel


class Roll:
    """The workers, all camera processes and the web process, for the loop's thread."""

    def __init__(self, supervisor: Supervisor, workers: Workers, cameras: Cameras, web: WebProcess) -> None:
        self._supervisor: Final = supervisor
        self._web: Final = web
        self._children: Final = {
            **{_key(group): child for group, child in workers.children().items()},
            **{f"camera_{id_}": child for id_, child in cameras.children().items()},
        }

    def tell_level(self, level: LogLevel) -> None:
        """Send the level to log at to all children, also to those that run for a while only."""
        self._supervisor.send_to_all(LogSetup(level))

    def silent_s(self, now_s: float) -> dict[str, float | None]:
        """Return the time without progress of each child that lines need; None while it is not up."""
        return {name: self._supervisor.beat_age_s(child, now_s) for name, child in self._children.items()}

    def pids(self) -> dict[str, int]:
        """Return the process ids of control and of the children that run."""
        pids = {name: self._supervisor.pid(child) for name, child in self._children.items()}
        if self._web.is_started:
            pids[WEB] = self._supervisor.pid(WEB)
        return {"control": os.getpid(), **{name: pid for name, pid in pids.items() if pid is not None}}


def is_worker(name: str) -> bool:
    """Return True for the name of a worker, as `silent_s` has it."""
    return name == WORKER or name.startswith(f"{WORKER}_")


def _key(group: str) -> str:
    return WORKER if group == DEFAULT_GROUP else f"{WORKER}_{group}"
