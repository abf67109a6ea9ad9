"""The demo started cold, as in a fresh checkout, as often as `CHANGEOVER_TEST_COLD_STARTS` says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.demo import assets

STARTS = int(os.environ.get("CHANGEOVER_TEST_COLD_STARTS", "50"))
SECONDS = int(os.environ.get("CHANGEOVER_TEST_COLD_SECONDS", "30"))
_DEADLINE_S = 300


@pytest.mark.soak
@pytest.mark.timeout(_DEADLINE_S)
@pytest.mark.parametrize("number", range(STARTS))
def test_a_cold_start_exits_0(number: int, tmp_path: Path) -> None:
    assets.fetch()
    command = [sys.executable, "-m", "agent", "demo", "--seconds", str(SECONDS), "--json", "--no-view"]
    # nothing is found in an empty folder of compiled files, and nothing is written there
    cold = {"PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False, env={**os.environ, **cold}
    )
    assert done.returncode == 0, (number, done.stdout[-2000:], done.stderr[-3000:])
    assert json.loads(done.stdout.splitlines()[-1])["ok"] is True
    assert not (tmp_path / "compiled").exists()
