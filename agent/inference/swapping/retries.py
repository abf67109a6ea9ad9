"""Failed loads that are tried again, or that wait for a preparation."""

from agent.inference.backends import FellBackError, NotPreparedError
from agent.inference.memory.admission import NoFreeRoomError, NoRoomError
from agent.inference.preparing.background_builder import ArtifactDiskError
from agent.inference.swapping.load_job import DroppedError, Failure, LoadJob, NoArtifactError
from agent.messages.errors import ModelError


def is_to_be_prepared(job: LoadJob, failure: Failure | None) -> bool:
    """Return True where somebody waits for a model whose artifact is to be made before its load."""
    is_asked = job.is_patient if isinstance(failure, NoArtifactError) else job.is_requested or job.is_for_requests
    return isinstance(failure, NotPreparedError) and is_asked and not job.was_prepared


def is_loaded_without(job: LoadJob, failure: Failure) -> bool:
    """Return True where a model is loaded from its file, because the disk cannot keep its artifact.

    A lack of memory is no such failure, because the worker's runtime would compile with as much.
    """
    return job.can_skip and isinstance(failure, ArtifactDiskError)


def is_worth_a_retry(job: LoadJob, failure: Failure | None) -> bool:
    """Return True where a failed load should be tried again.

    That is where a line joined a dropped job, an idle preload, or one that would wait for its artifact; where a line
    joined that could make more room; or where the GPU that `auto` chose did not start, because the same load then takes
    the CPU.
    """
    if isinstance(failure, DroppedError | FellBackError | NoArtifactError):
        return job.is_wanted
    if isinstance(failure, NoFreeRoomError):
        return job.is_requested
    return isinstance(failure, NoRoomError) and not job.interested <= job.asked_of


def preload_failure(job: LoadJob, failure: Failure) -> Failure:
    """Return why a load in idle time has failed, where it was given up for its duration."""
    if job.is_abandoned:
        return job.failure or failure
    if job.is_late and isinstance(failure, DroppedError):
        return ModelError("load_timeout", f"{job.version.reference}: too slow beside the lines that serve")
    return failure
