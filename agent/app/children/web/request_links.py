"""Links for inference requests between the web process and the worker of each group."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from agent.messages.descriptors import RequestLink
from agent.processes.channel import pair
from agent.processes.slots import request_memory

if TYPE_CHECKING:
    import socket


class RequestLinks:
    """Owner of the links' descriptors, for as long as control runs, so that either side may be replaced."""

    def __init__(self, groups: Iterable[str]) -> None:
        """Create a link for each group. Raises OSError without free descriptors."""
        self._sockets: Final[list[socket.socket]] = []
        self._memories: Final[list[int]] = []
        self._of_web: Final[dict[str, RequestLink]] = {}
        self._of_workers: Final[dict[str, RequestLink]] = {}
        for group in groups:
            ours, theirs = pair()
            self._sockets.extend((ours, theirs))
            memory = request_memory.create(f"changeover-requests-{group}")
            self._memories.append(memory)
            self._of_web[group] = RequestLink(group, ours.fileno(), memory)
            self._of_workers[group] = RequestLink(group, theirs.fileno(), memory)

    def of_web(self) -> tuple[RequestLink, ...]:
        """Return the web process's sides."""
        return tuple(self._of_web.values())

    def of_worker(self, group: str) -> RequestLink | None:
        """Return the side of a group's worker; None where no requests are served."""
        return self._of_workers.get(group)

    def close(self) -> None:
        """Close the descriptors; the kernel frees the memory once the children are gone too."""
        for one in self._sockets:
            one.close()
        for memory in self._memories:
            os.close(memory)
