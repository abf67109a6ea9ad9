"""The worker process: `python -m agent.inference.process DESCRIPTOR`. Imports no runtime until a model needs it."""

import gc
from typing import Any, Final

from agent.inference.pipeline import Outlet
from agent.inference.worker import Worker
from agent.messages.children import Assign, Prepare, ToWorker, WorkerSetup
from agent.messages.errors import MistakeError
from agent.processes import oom
from agent.processes.child import Child, run_child
from agent.processes.installed import version_of

_LIBRARIES: Final = ("openvino", "onnxruntime", "ultralytics", "torch")


def versions() -> dict[str, str]:
    """Name the runtimes that are installed, with their versions, importing none."""
    return {library: version for library in _LIBRARIES if (version := version_of(library))}


def main(child: Child[Any]) -> None:
    """Serve until control closes the channel, which ends the process."""
    setup = child.inbox.get()
    if not isinstance(setup, WorkerSetup):
        raise MistakeError(f"the first message to a worker is its set-up, not {type(setup).__name__}")
    oom.volunteer(oom.WORKER)
    worker = Worker(setup, Outlet(child.send, child.busy))
    worker.start()
    gc.freeze()  # what is there now stays: collections need not look at it
    try:
        while not isinstance(message := child.inbox.get(), WorkerSetup):
            match message:
                case Assign():
                    worker.assign(message)
                case Prepare():
                    worker.prepare(message)
    finally:
        worker.stop()


if __name__ == "__main__":
    run_child(ToWorker, versions(), main)
