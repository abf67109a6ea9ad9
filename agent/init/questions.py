"""Questions at a terminal or a pipe; the end of the input is an error, and never taken for an answer."""

import getpass
import sys
from collections.abc import Callable
from typing import Final, TypeVar

from agent.messages.errors import MistakeError

Value = TypeVar("Value")

NOTHING: Final = "nothing was written"


class InputEndedError(MistakeError):
    """The input ended where an answer was asked for."""


class Questions:
    """Asks on stderr and reads from stdin, so that stdout holds the result alone."""

    def ask(self, question: str, option: str, default: str = "") -> str:
        """Return the answer, or `default` for an empty one.

        Raises InputEndedError, whose text names `option`, where stdin has ended.
        """
        self.say(f"{question} [{default}]: " if default else f"{question}: ", end="")
        line = sys.stdin.readline()
        if not line:
            self.say("")
            raise InputEndedError(f"{NOTHING}: the input ended at the question for {option}; give that, or an answer")
        return line.strip() or default

    def ask_secret(self, question: str, option: str) -> str:
        """Return a secret, which a terminal does not show. Raises InputEndedError where stdin has ended."""
        if not sys.stdin.isatty():
            return self.ask(question, option)
        try:
            return getpass.getpass(f"{question} (not shown): ", sys.stderr)
        except EOFError:
            self.say("")
            raise InputEndedError(f"{NOTHING}: the input ended at the question for {option}; give that") from None

    def ask_until(
        self,
        question: str,
        option: str,
        read: Callable[[str], Value],
        *,
        default: str = "",
        attempt: Callable[[Value], bool] = lambda _: True,
    ) -> Value:
        """Ask until `read` accepts the answer and `attempt` returns True; Enter keeps one that only `attempt` refused.

        `read` refuses by MistakeError. Raises InputEndedError where stdin has ended.
        """
        failed: list[Value] = []
        while True:
            hint = " (Enter: keep it all the same)" if failed else ""
            answer = self.ask(f"{question}{hint}", option, "" if failed else default)
            if failed and not answer:
                return failed[0]
            try:
                value = read(answer)
            except InputEndedError:
                raise
            except MistakeError as error:
                self.say(f"  {error}")
                continue
            if attempt(value):
                return value
            failed = [value]

    def say(self, text: str, end: str = "\n") -> None:
        """Write a line to stderr, because it is no part of the result."""
        sys.stderr.write(f"{text}{end}")
        sys.stderr.flush()
