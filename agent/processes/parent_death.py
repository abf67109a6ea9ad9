"""Parent-death signal for subprocesses that must not outlive their starter."""

import shutil
from collections.abc import Sequence


def ending_with_us(command: Sequence[str], signal: str = "KILL") -> list[str]:
    """Return `command` extended so that the kernel sends `signal` when the starting thread ends (prctl(2)).

    Uses setpriv of util-linux, which every Debian has; without it, `command` is returned unchanged.
    """
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", signal, "--", *command] if program else [*command]
