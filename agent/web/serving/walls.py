"""Walls of the web process, which stand before it serves anybody, and what it reads before them.

Behind them it reads Python, its packages and the console's own folder, writes into that folder only, starts no program
and no process, and connects to nobody. Certificates and tokens are read before, so whoever takes the process over
finds what it holds in memory, and no file.
"""

import logging
import os
import resource
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agent.messages.web.control import Serving, WebSetup
from agent.messages.web.told import MetaWeb
from agent.processes import oom_score
from agent.processes.child import Child
from agent.processes.walls import kernel, landlock, missing_walls, syscalls
from agent.processes.walls.readable import readable
from agent.web.serving.tls import context_of

_log: Final = logging.getLogger(__name__)
_OOM_SCORE: Final = 750
"""Higher than the worker's, because lines need that and not this."""
_NICE: Final = 5
"""Pictures of requests are decoded here, and must not take the processor from frames."""
_DESCRIPTORS: Final = 1024
_LOW_PORTS: Final = 1 << 10
"""CAP_NET_BIND_SERVICE: an address may be that of port 443."""
_FILES_OF_OTHERS: Final = 1 << 1
"""CAP_DAC_OVERRIDE, which only an agent of root has: its state may be the service's, and Landlock bounds it."""
_NOT_DUMPABLE: Final = (4, 0)  # prctl(2)
_RETRY_S: Final = 15.0
_NAMES: Final = ("hosts", "nsswitch.conf", "host.conf", "gai.conf", "resolv.conf")
"""Files of /etc by which the name in an address is resolved."""

Contexts = dict[str, ssl.SSLContext | None]
"""TLS of each address, by the settings' key; None without."""


def contexts_of(child: Child[Any], setup: WebSetup) -> Contexts:
    """Load the certificates; where one cannot be used, tell control why, and try again for as long as it takes."""
    wanted = {"bind": (setup.bind, ("http/1.1",)), "grpc_bind": (setup.grpc_bind, ("h2",))}
    while True:
        try:
            return {key: context_of(setup, protocols) for key, (bind, protocols) in wanted.items() if bind}
        except OSError as error:
            fault = str(error)
        binds = " and ".join(f"web.{key} {bind}" for key, (bind, _) in wanted.items() if bind)
        child.send(Serving(0, 0, f"{binds} cannot be served: {fault}", MetaWeb([], "nothing is served yet")))
        child.wait(_RETRY_S)


def close_in(own: Path | None) -> MetaWeb:
    """Step behind the lines for processor and memory, and build the walls; return which stand, and why not all.

    `own` is the folder that may be read and written. Call it while the process has one thread.
    """
    oom_score.raise_to(_OOM_SCORE)
    with suppress(OSError):
        os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, limit), limit))
    missing = missing_walls()
    standing: list[str] = []
    kernel.give_up_rights(_LOW_PORTS | (_FILES_OF_OTHERS if "files" not in missing else 0))
    kernel.control(*_NOT_DUMPABLE)
    try:
        if "files" not in missing:
            landlock.restrict(own, (*readable(), *_names()), may_replace=True)
            standing.append("files")
        if "calls" not in missing:
            syscalls.restrict(is_server=True)
            standing.append("calls")
    except OSError as error:  # because a container may forbid it: the service goes on, and says so
        missing["kernel"] = f"the kernel refuses a wall: {error}"
    lacking = "; ".join(missing.values())
    if lacking:
        _log.warning("event=web_walls_missing detail=%r", lacking)
    return MetaWeb(standing, lacking or None)


def _names() -> Iterator[Path]:
    yield from (Path("/etc") / name for name in _NAMES)
