"""Subprocess that is measured beside the agent: driven by lines on stdin, idle in between."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agent import isolated
from agent.bench.plant.children import end
from agent.messages.errors import TransientError


class Competitor:
    """Pipes to a running competitor: a command is one line to its stdin, the reply one line of JSON."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.pid: Final = process.pid
        self._process: Final = process
        self._log: Final = log

    def ask(self, *words: object) -> dict[str, Any]:
        """Send one command, whose words are quoted as for a shell; return the answer.

        Raises TransientError where the process fails.
        """
        assert self._process.stdin is not None, "it was asked for"
        assert self._process.stdout is not None, "it was asked for"
        try:
            self._process.stdin.write(shlex.join(map(str, words)) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            raise TransientError(f"{self._process.args!r} failed: {self._log.read_text(errors='replace')[-800:]}")
        found: dict[str, Any] = json.loads(answer)
        return found


@contextmanager
def competitor(module: str, log: Path, *arguments: object) -> Iterator[Competitor]:
    """Run `module` with `arguments` as an isolated competitor process."""
    command = isolated.command(module, *arguments)
    with (
        log.open("ab") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            yield Competitor(process, log)
        finally:
            end(process)
