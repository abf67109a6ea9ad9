"""Runs one check in a subprocess, because a driver may hang and a runtime may crash."""

import os
import subprocess
from collections.abc import Sequence

from agent import isolated
from agent.messages.errors import TransientError
from agent.models import child_environment

_TOLD_BYTES = 400


def run_apart(module: str, arguments: Sequence[str], given: bytes, deadline_s: float) -> bytes:
    """Run `module` with `given` on stdin; return the last line that it prints.

    Raises TransientError where it outlasts `deadline_s`, fails or prints nothing.
    """
    try:
        answer = subprocess.run(
            isolated.command(module, *arguments),
            input=given,
            capture_output=True,
            check=False,
            timeout=deadline_s,
            env=os.environ | child_environment.FOR_MODELS,
            cwd=isolated.FOLDER,
        )
    except subprocess.TimeoutExpired:
        raise TransientError(f"nothing came of it within {deadline_s:.0f} s") from None
    lines = answer.stdout.splitlines()
    if answer.returncode or not lines:
        said = answer.stderr.decode("utf-8", "replace").strip()[-_TOLD_BYTES:].splitlines()
        raise TransientError(f"its process ended with {answer.returncode}: {said[-1] if said else 'without a word'}")
    return lines[-1]
