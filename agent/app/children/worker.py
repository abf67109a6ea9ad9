"""Start parameters of a group's worker process."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent import isolated
from agent.app.children.memory_budget import Budgets
from agent.messages.children import MemoryLimit, WorkerSetup, WorkerStream
from agent.messages.descriptors import RequestLink
from agent.messages.worker import WorkerMessage
from agent.models import child_environment
from agent.processes.slots.frame_slot import FrameSlot
from agent.processes.supervisor import ChildSpec
from agent.settings import DEFAULT_GROUP, Settings
from agent.trust.configured import trust_of

WORKER: Final = "worker"
"""Name of the worker of the group `default`; those of others have the group's behind it."""
HUNG_AFTER_S: Final = 2.0
"""Time without progress of a worker until `ready` is set to 0; docs promise this within 3 s."""
_MODULE: Final = "agent.inference.process"
_GIVEN_UP_AFTER_S: Final = 10.0
"""A worker without progress is killed after this time; the import of a runtime may take seconds."""


def name_of(group: str) -> str:
    """Return the name of the child process that is a group's worker."""
    return WORKER if group == DEFAULT_GROUP else f"{WORKER} {group}"


@dataclass(frozen=True)
class Share:
    """The memory of one group: what its models may take, and the whole budget that this is of."""

    limit: MemoryLimit
    whole: Budgets
    guaranteed: MemoryLimit | None = None
    """Bytes that its models in use may take; None: the whole budget is the group's own."""


def worker_spec(  # noqa: PLR0913, PLR0917 - one worker's parts, spelt out
    settings: Settings,
    group: str,
    slots: dict[str, FrameSlot],
    share: Callable[[], Share],
    started: Callable[[int], None] | None = None,
    requests: RequestLink | None = None,
) -> ChildSpec:
    """Return a worker's command, environment, setup message and watchdog deadlines.

    `share` is called, and `started` with its process id, each time that the worker starts.
    `requests` is the worker's side of its link to the web process.
    """
    lines = {id_: line for id_, line in settings.line.items() if line.group == group}
    own = (stream for stream in settings.stream if stream.line in lines)
    streams = tuple(
        WorkerStream(stream.id, stream.line, slots[stream.id].descriptors(), is_paced=stream.fps > 0) for stream in own
    )
    of_slots = [fd for one in streams for fd in (one.slot.memory, one.slot.offered, one.slot.taken)]
    longest_s = max((line.changeover_timeout_s for line in lines.values()), default=30.0)

    def setup() -> WorkerSetup:
        own = share()
        has_own_gpu = own.whole.device is not None
        return WorkerSetup(
            streams=streams,
            compute=settings.device.compute,
            budget_bytes=own.limit.host_bytes,
            cache_dir=str(settings.device.cache_dir),
            load_timeout_s=longest_s,
            prepared_max_bytes=settings.device.prepared_max_bytes,
            device_budget_bytes=own.limit.device_bytes if has_own_gpu else None,
            trust=trust_of(settings),
            guaranteed=own.guaranteed,
            requests=requests,
            ceiling_bytes=own.whole.device if has_own_gpu else own.whole.host,
        )

    return ChildSpec(
        name=name_of(group),
        command=tuple(isolated.command(_MODULE)),
        incoming=WorkerMessage,
        setup=setup,
        descriptors=(*of_slots, *((requests.channel, requests.memory) if requests is not None else ())),
        beat_deadline_s=_GIVEN_UP_AFTER_S,
        busy_deadline_s=_GIVEN_UP_AFTER_S,
        environment={**os.environ, **child_environment.FOR_WORKER},
        started=started,
    )
