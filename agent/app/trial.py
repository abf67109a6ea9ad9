"""A broker of the agent's own, for a trial without one."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent import isolated
from agent.messages.errors import NotStartedError
from agent.settings import Settings

_STOP_S: Final = 5.0


@contextmanager
def embedded_broker(port: int) -> Iterator[int]:
    """Run the embedded broker on loopback while the context lasts; yield its port (a free one for 0).

    Raises NotStartedError where it cannot start, for example because the port is taken.
    """
    command = isolated.command("agent.mqtt.embedded", port)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=isolated.FOLDER
    ) as process:
        try:
            assert process.stdout is not None, "it was asked for"
            said = process.stdout.readline()
            if not said:
                raise NotStartedError(f"the embedded broker did not start on port {port}; see the line above")
            yield int(said.rpartition(":")[2])
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def at_port(settings: Settings, port: int) -> Settings:
    """Return the settings with the embedded broker's address in them, and the one protocol that it speaks."""
    mqtt = settings.mqtt.model_copy(update={"url": f"mqtt://127.0.0.1:{port}", "protocol": "3.1.1"})
    return settings.model_copy(update={"mqtt": mqtt})
