"""Start parameters of the worker process."""

import os
from typing import Final

from agent import isolated
from agent.app.children.memory_budget import Budgets
from agent.messages.children import WorkerSetup, WorkerStream
from agent.messages.descriptors import RequestLink
from agent.messages.worker import WorkerMessage
from agent.models import child_environment
from agent.processes.slots.frame_slot import FrameSlot
from agent.processes.supervisor import ChildSpec
from agent.settings import Settings
from agent.trust.configured import trust_of

WORKER: Final = "worker"
HUNG_AFTER_S: Final = 2.0
"""Time without progress of the worker until `ready` is set to 0; docs promise this within 3 s."""
_MODULE: Final = "agent.inference.process"
_GIVEN_UP_AFTER_S: Final = 10.0
"""A worker without progress is killed after this time; the import of a runtime may take seconds."""


def worker_spec(
    settings: Settings, slots: dict[str, FrameSlot], budgets: Budgets, requests: RequestLink | None = None
) -> ChildSpec:
    """Return the worker's command, environment, setup message and watchdog deadlines."""
    streams = tuple(WorkerStream(stream.id, stream.line, slots[stream.id].descriptors()) for stream in settings.stream)
    of_slots = [fd for one in streams for fd in (one.slot.memory, one.slot.offered, one.slot.taken)]
    longest_s = max((line.changeover_timeout_s for line in settings.line.values()), default=30.0)
    setup = WorkerSetup(
        streams=streams,
        compute=settings.device.compute,
        budget_bytes=budgets.host,
        cache_dir=str(settings.device.cache_dir),
        load_timeout_s=longest_s,
        prepared_max_bytes=settings.device.prepared_max_bytes,
        device_budget_bytes=budgets.device,
        trust=trust_of(settings),
        requests=requests,
    )
    return ChildSpec(
        name=WORKER,
        command=tuple(isolated.command(_MODULE)),
        incoming=WorkerMessage,
        setup=lambda: setup,
        descriptors=(*of_slots, *((requests.channel, requests.memory) if requests is not None else ())),
        beat_deadline_s=_GIVEN_UP_AFTER_S,
        busy_deadline_s=_GIVEN_UP_AFTER_S,
        environment={**os.environ, **child_environment.FOR_MODELS},
    )
