"""Mosquitto broker of one benchmark, on loopback."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.bench.plant.children import free_port, running
from agent.messages.errors import TransientError

_START_S: Final = 20.0
_LOOK_S: Final = 0.02


@contextmanager
def mosquitto(folder: Path, *, nodelay: bool) -> Iterator[int]:
    """Run a broker; yield its port. `nodelay` sets `set_tcp_nodelay true`, which is off by default.

    Raises TransientError where mosquitto does not start.
    """
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise TransientError("the benchmarks need mosquitto: apt-get install mosquitto, or use scripts/bench")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", *(["set_tcp_nodelay true"] if nodelay else [])]
    if os.geteuid() == 0:
        lines.append("user root")  # else it gives up root and cannot read a folder of ours
    configuration = folder / "mosquitto.conf"
    configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with running([program, "-c", configuration], folder / "mosquitto.log") as process:
        limit_s = time.monotonic() + _START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > limit_s:
                raise TransientError(f"mosquitto did not start: {(folder / 'mosquitto.log').read_text()[-500:]}")
            time.sleep(_LOOK_S)
        yield port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
