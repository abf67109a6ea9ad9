"""Parent-death signal for subprocesses that must not outlive their starter."""

import shutil
from collections.abc import Sequence


def ending_with_us(command: Sequence[str], signal: str = "KILL") -> list[str]:
    """Return `command` so that the kernel sends it `signal` when the thread that starts it ends (prctl(2)).

    Without util-linux's setpriv (every Debian has it) it is returned as it is.
    """
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", signal, "--", *command] if program else [*command]
