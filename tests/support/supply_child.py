"""A supply process of a test's own, as control starts it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent import isolated
from agent.messages.short_lived.supply import (
    AliasesFound,
    Entered,
    EnterModels,
    Fetched,
    FetchFailed,
    FetchModels,
    FollowAliases,
    Followed,
    SupplyMessage,
    SupplySetup,
)
from agent.processes.channel import Channel, pair
from support.waiting import DEADLINE_S

MODULE = "agent.supply.supply_process"


class SupplyChild:
    """A running process, and this end of its channel."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel[Any]) -> None:
        self.process = process
        self.channel = channel
        self.told: list[Any] = []

    def ask(self, *entries: dict[str, Any], max_s: float = 60.0) -> None:
        self.channel.send(FetchModels("job-1", tuple(json.dumps(one).encode() for one in entries), "", max_s))

    def enter(self, *entries: dict[str, Any], remove: tuple[str, ...] = ()) -> None:
        self.channel.send(EnterModels("job-1", tuple(json.dumps(one).encode() for one in entries), remove))

    def follow(self, *aliases: Followed, known: tuple[str, ...] = (), max_s: float = 60.0) -> None:
        self.channel.send(FollowAliases("job-1", aliases, known, max_s))

    def answer(self) -> Fetched | AliasesFound | FetchFailed | Entered:
        """Wait for the end of the job."""
        while True:
            message = self.channel.receive(DEADLINE_S)
            assert message is not None, "it beats, or ends"
            self.told.append(message)
            if isinstance(message, (Fetched, AliasesFound, FetchFailed, Entered)):
                return message


@contextmanager
def supply_child(setup: SupplySetup) -> Iterator[SupplyChild]:
    """Start a process, which ends with the block."""
    ours, theirs = pair()
    with theirs:
        command = isolated.command(MODULE, theirs.fileno())
        process = subprocess.Popen(command, cwd=isolated.FOLDER, pass_fds=(theirs.fileno(),))
    channel: Channel[Any] = Channel(ours, SupplyMessage)
    try:
        channel.send(setup)
        yield SupplyChild(process, channel)
    finally:
        channel.close()
        try:
            process.wait(DEADLINE_S)
        finally:
            process.kill()
            process.wait()
