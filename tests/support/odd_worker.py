"""A worker whose frames fare as a file says, named by ODD_WORKER: `fail`, `stop`, `stand`, `spin`, `leak`, or well."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from agent.inference import process
from agent.inference.backends import load
from agent.inference.serving.model_threads import ModelThreads
from agent.inference.serving.sequencer import Sequencer
from agent.inference.worker import Worker
from agent.messages.worker import ToWorker
from agent.processes.child import run_child

ORDERS = Path(os.environ["ODD_WORKER"])
HOARD: list[bytes] = []
LEAKED = b"x" * (48 << 20)


def ordered(word: str) -> bool:
    """Say whether the file says `word` now."""
    return ORDERS.exists() and ORDERS.read_text() == word


class OddModel:
    """A model that fails on real frames, and on nothing before them."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - whatever the runtime brought
        self._model = model

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the model's own
        return getattr(self._model, name)

    def answer(self, *arguments: Any) -> Any:  # noqa: ANN401 - the model's own
        """Answer as the model does, or fail, or never."""
        while ordered("spin"):
            pass
        if ordered("leak"):
            HOARD.append(LEAKED[:-1] + b"y")
        if ordered("fail"):
            raise RuntimeError("no kernel image is available")
        return self._model.answer(*arguments)


def odd_load(*arguments: Any) -> Any:  # noqa: ANN401 - as `load`
    """Load as usual."""
    return OddModel(load(*arguments))


def patch() -> None:
    """Make the process as odd as its file says."""
    step, after = ModelThreads._step, Sequencer.after_those_before

    def stop(threads: ModelThreads) -> None:
        if ordered("stop"):
            threading.Event().wait()  # for ever, and marked by nothing: as good as dead
        step(threads)

    @contextmanager
    def stand(order: Sequencer, number: int) -> Iterator[None]:
        while ordered("stand"):
            time.sleep(0.02)
        with after(order, number):
            yield

    ModelThreads._step = stop  # type: ignore[assignment,method-assign] # that is what this process is for
    Sequencer.after_those_before = stand  # type: ignore[assignment,method-assign]
    Worker.__init__.__defaults__ = (odd_load,)


if __name__ == "__main__":
    patch()
    run_child(ToWorker, process.versions(), process.main)
