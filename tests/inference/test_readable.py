"""Folders of systemd's credentials are out of the sandbox, also those among the libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.processes.walls import missing_walls

pytestmark = pytest.mark.skipif(bool(missing_walls()), reason=f"this kernel lacks {', '.join(missing_walls())}")

INSIDE = """
import json, os, sys
from pathlib import Path
from agent.inference import sandbox
readable = sys.modules["agent.processes.walls.readable"]
own, libraries, *places = sys.argv[1:]
readable._SYSTEM = (*readable._SYSTEM, libraries)
sandbox.enter(Path(own), sandbox.Limits(memory_bytes=1 << 30, cpu_s=60, wall_s=60.0, disk_bytes=1 << 20))
could = []
for place in places:
    try:
        if os.path.isdir(place):
            os.listdir(place)
        else:
            open(place, "rb").read()
        could.append(place)
    except OSError:
        pass
Path(own, "could.json").write_text(json.dumps(could))
os._exit(0)
"""
OF_SYSTEMD = [
    *("/etc/credstore", "/etc/credstore.encrypted", "/run/credstore", "/run/credstore.encrypted", "/run/credentials"),
    *("/usr/lib/credstore", "/usr/lib/credstore.encrypted", "/usr/local/lib/credstore", "/lib/credstore"),
]


def test_secrets_among_libraries_are_not_readable(tmp_path: Path) -> None:
    own, libraries = tmp_path / "own", tmp_path / "lib"
    own.mkdir()
    for name in ("credstore", "credstore.encrypted", "deep"):
        (libraries / name).mkdir(parents=True)
        (libraries / name / "file").write_text("text")
    (libraries / "libx.so").write_text("text")
    (libraries / "link").symlink_to(libraries / "credstore")
    places = [libraries / "deep", libraries / "deep" / "file", libraries / "libx.so"]
    secrets = [libraries / name for name in ("credstore", "credstore/file", "credstore.encrypted/file", "link/file")]
    arguments = map(str, (own, libraries, *places, *secrets, *OF_SYSTEMD))
    command = [sys.executable, "-c", INSIDE, *arguments]
    # PATH alone: the credentials that a unit was given are named by its environment
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=120, env={"PATH": os.environ["PATH"]})
    assert json.loads((own / "could.json").read_text()) == [str(place) for place in places]
