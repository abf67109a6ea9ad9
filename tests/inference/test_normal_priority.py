"""A process that control has lowered knows what is normal for it."""

import os
import subprocess
import sys

import pytest

from agent.processes.scheduling import priorities

NICE = os.getpriority(os.PRIO_PROCESS, os.getpid())
STARTED = """
import os
from agent.inference.scheduling import load_priority
os.nice(9)  # as control does to a worker that starts again
load_priority.begin(2)
with load_priority.lowered("background", may_stay=True):
    print(os.getpriority(os.PRIO_PROCESS, 0))
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.skipif(not priorities.can_return(), reason="this user may not raise a priority")
def test_a_load_goes_behind_what_is_normal_not_behind_what_control_has_set() -> None:
    started = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True)
    assert [int(nice) for nice in started.stdout.split()] == [NICE + 2 + 5, NICE + 2]
