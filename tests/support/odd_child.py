"""A child process that does as it is told, well or badly; `python -m support.odd_child FD`."""

import logging
import os
import signal
import time

from agent.messages.children import CameraFailed, CameraOpened, CameraSetup, LogSetup
from agent.processes.child import Child, run_child


def main(child: Child[CameraSetup]) -> None:
    """Misbehave as the first message's `source` says."""
    setup = child.inbox.get()
    match setup.source:
        case "exit":
            os._exit(7)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            with child.busy():
                time.sleep(3600)
        case "slow":
            with child.busy(60.0):
                time.sleep(1.5)
                child.send(CameraOpened(setup.stream, 1, 1, 0.0, setup.source))
                time.sleep(3600)
        case "level":
            while not logging.getLogger("agent").isEnabledFor(logging.DEBUG):
                time.sleep(0.01)
            child.send(CameraOpened(setup.stream, 1, 1, 0.0, setup.source))
            time.sleep(3600)
        case "flood":
            while True:
                child.send(CameraFailed(setup.stream, "x" * 1000))
        case _:
            child.send(CameraOpened(setup.stream, 1, 1, 0.0, setup.source))
            while True:
                child.inbox.get()


if __name__ == "__main__":
    run_child(CameraSetup | LogSetup, {"odd": "1"}, main)
