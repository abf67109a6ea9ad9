"""Entry of the supply process: `python -m agent.supply.supply_process DESCRIPTOR`. Its libraries come with a job."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import psutil

from agent.messages.errors import MistakeError, ModelError, TransientError
from agent.messages.short_lived.supply import (
    AliasesFound,
    Entered,
    EnterModels,
    Fetched,
    FetchFailed,
    FetchModels,
    FollowAliases,
    SupplySetup,
    ToSupply,
)
from agent.models.keeping.room import NoRoomError
from agent.models.store import Store
from agent.processes import oom_score
from agent.processes.child import Child, run_child
from agent.processes.package_version import version_of
from agent.redact import redact
from agent.supply.bounds.job import Job
from agent.supply.bounds.token_bucket import TokenBucket
from agent.supply.bounds.window import Window
from agent.supply.errors import SourceError
from agent.supply.fetching import Fetcher
from agent.supply.following import follow
from agent.supply.verifying import verifier_of

_LOG: Final = logging.getLogger(__name__)
_LIBRARIES: Final = ("httpx", "minio", "tuf", "cryptography")
_OOM_SCORE: Final = 1000
_Answer = TypeVar("_Answer", Fetched, AliasesFound)


def main(child: Child[Any]) -> None:
    """Do the jobs that control sends, one after the other, until it closes the channel."""
    setup = child.inbox.get()
    if not isinstance(setup, SupplySetup):
        raise MistakeError(f"the first message to a supply process is its set-up, not {type(setup).__name__}")
    _step_back()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # because it tells each URL
    while not isinstance(message := child.inbox.get(), SupplySetup):
        match message:
            case FetchModels():
                child.send(_fetched(setup, message, child))
            case FollowAliases():
                child.send(_followed(setup, message, child))
            case EnterModels():
                child.send(_entered(setup, message))


def _fetched(setup: SupplySetup, order: FetchModels, child: Child[Any]) -> Fetched | FetchFailed:
    def fetch(job: Job) -> Fetched:
        return Fetched(order.job, Fetcher(setup, verifier_of(setup)).fetch(order.entries, order.index, job))

    return _done(setup, order, child, fetch)


def _followed(setup: SupplySetup, order: FollowAliases, child: Child[Any]) -> AliasesFound | FetchFailed:
    return _done(setup, order, child, lambda job: follow(setup, order, job))


def _done(
    setup: SupplySetup, order: FetchModels | FollowAliases, child: Child[Any], do: Callable[[Job], _Answer]
) -> _Answer | FetchFailed:
    """Return what `do` answers to a job, or why it failed."""
    window = Window(setup.window, setup.timezone)
    job = Job(order.job, order.max_s, child.send, window=window, bucket=TokenBucket(setup.max_kbps * 125))
    try:
        return do(job)
    except (SourceError, NoRoomError, ModelError) as error:
        return FetchFailed(order.job, error.reason, redact(str(error)), isinstance(error, TransientError))
    except (TransientError, MistakeError) as error:  # of the kept index, or of the catalog
        return FetchFailed(order.job, "load_failed", redact(str(error)), isinstance(error, TransientError))
    except Exception as error:  # noqa: BLE001 - the edge of a job, which must end with a reason
        return _broken(order.job, error)


def _entered(setup: SupplySetup, order: EnterModels) -> Entered | FetchFailed:
    try:
        entries = [msgspec.json.decode(entry, type=dict[str, Any]) for entry in order.entries]
        Store(Path(setup.catalog_file), Path(setup.store_dir)).enter(entries, order.remove)
    except (MistakeError, msgspec.DecodeError) as error:
        return FetchFailed(order.job, "load_failed", redact(str(error)), is_transient=False)
    except Exception as error:  # noqa: BLE001 - as above
        return _broken(order.job, error)
    return Entered(order.job)


def _broken(job: str, error: Exception) -> FetchFailed:
    _LOG.exception("event=job_crashed job=%r", job)
    return FetchFailed(job, "load_failed", redact(f"{type(error).__name__}: {error}"), is_transient=False)


def _step_back() -> None:
    """Lower this process's priority for processor and disk, and make it the OOM killer's first victim."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
    oom_score.raise_to(_OOM_SCORE)


if __name__ == "__main__":
    run_child(ToSupply, {name: version for name in _LIBRARIES if (version := version_of(name))}, main)
