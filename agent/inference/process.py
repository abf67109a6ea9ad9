"""The worker process: `python -m agent.inference.process DESCRIPTOR`. Imports no runtime until a model needs it."""

import gc
import logging
import os
import sys
import threading
import traceback
from typing import Any, Final

from agent.inference.cuda.errors import when_lost
from agent.inference.scheduling import load_priority
from agent.inference.serving.stream_pipeline import Outlet
from agent.inference.worker import Worker
from agent.messages.canary import Compare, StopComparing
from agent.messages.children import Assign, Log, Preload, Prepare, ThreadCrashed, WorkerSetup
from agent.messages.errors import MistakeError
from agent.messages.groups.memory_share import Share, ShareRecalled
from agent.messages.web.holding import HoldModel
from agent.messages.worker import ToWorker
from agent.processes import oom_score
from agent.processes.child import Child, run_child
from agent.processes.package_version import version_of

_LOG: Final = logging.getLogger(__name__)
_LONGEST_DETAIL: Final = 500
_LIBRARIES: Final = ("openvino", "onnxruntime", "tensorrt", "ultralytics", "torch")
_DEVICE_LOST: Final = 71  # EX_OSERR
_REQUESTS_NICE: Final = 10
"""Nice value of a worker without streams, whose requests yield to other groups' lines: a tenth of their weight."""
_GIL_S: Final = 0.0005
"""Time for which a thread that loads may keep the GIL from a frame; Python's 5 ms are half an inference."""


def versions() -> dict[str, str]:
    """Return the installed runtimes with their versions, importing none."""
    return {library: version for library in _LIBRARIES if (version := version_of(library))}


def main(child: Child[Any]) -> None:
    """Run the worker until control closes the channel; the process then ends."""
    setup = child.inbox.get()
    if not isinstance(setup, WorkerSetup):
        raise MistakeError(f"the first message to a worker is its set-up, not {type(setup).__name__}")
    oom_score.raise_to(oom_score.WORKER)
    load_priority.begin(0 if setup.streams else _REQUESTS_NICE)
    threading.excepthook = lambda crash: _report(child, crash)
    when_lost(lambda words: _end(child, words))
    worker = Worker(setup, Outlet(child.send, child.busy))
    child.progress = worker.progress
    sys.setswitchinterval(_GIL_S)
    worker.start()
    gc.freeze()  # because objects of the start are permanent, so collections need not visit them
    try:
        while not isinstance(message := child.inbox.get(), WorkerSetup):
            match message:
                case Assign():
                    worker.assign(message)
                case Prepare():
                    worker.prepare(message)
                case Preload():
                    worker.preload(message)
                case Share() | ShareRecalled():
                    worker.share(message)
                case Compare():
                    worker.compare(message)
                case StopComparing():
                    worker.stop_comparing(message)
                case HoldModel():
                    worker.hold(message)
    finally:
        worker.stop()


def _end(child: Child[Any], words: str) -> None:
    """Report to control that the GPU's context is broken, and end this process at once, so that control restarts it."""
    child.send(Log("ERROR", words))
    os._exit(_DEVICE_LOST)


def _report(child: Child[Any], crash: threading.ExceptHookArgs) -> None:
    """Report a crashed thread to control."""
    name = crash.thread.name if crash.thread is not None else "?"
    detail = "".join(traceback.format_exception_only(crash.exc_type, crash.exc_value)).strip()[:_LONGEST_DETAIL]
    trace = (crash.exc_type, crash.exc_value or crash.exc_type(), crash.exc_traceback)
    _LOG.error("event=crashed thread=%r", name, exc_info=trace)
    child.send(ThreadCrashed(name, detail))


if __name__ == "__main__":
    run_child(ToWorker | HoldModel, versions(), main)
