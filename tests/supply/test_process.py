"""The supply process as control sees it: jobs, reasons, and what is left when it is killed at any moment."""

import json
import os
from pathlib import Path

import psutil
from support.fetches import Fetches, content_of, entry
from support.file_server import FileServer, Served
from support.supply_child import supply_child

from agent.messages.short_lived.supply import Entered, Fetched, FetchFailed, FetchProgress
from agent.models.catalog import Catalog

SIZE = 400_000
CONTENT = content_of(SIZE)


def test_it_fetches_and_enters_what_it_is_told(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT, pause_s=0.05)
    with supply_child(fetches.setup) as child:
        child.ask(entry(server.url("/cap.onnx"), CONTENT))
        answer = child.answer()
        assert isinstance(answer, Fetched)
        states = [one.state for one in child.told if isinstance(one, FetchProgress)]
        assert (states[0], states[-1]) == ("downloading", "verifying")
        assert os.sched_getscheduler(child.process.pid) == os.SCHED_IDLE
        assert psutil.Process(child.process.pid).ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
        child.enter(json.loads(answer.entries[0]))
        assert isinstance(child.answer(), Entered)
    [version] = Catalog.load(fetches.folder / "models.toml").versions
    assert Path(version.path).read_bytes() == CONTENT


def test_a_failure_has_a_reason_and_says_whether_a_retry_helps(server: FileServer, fetches: Fetches) -> None:
    with supply_child(fetches.setup) as child:
        child.ask(entry(server.url("/nothing.onnx"), CONTENT))
        gone = child.answer()
        child.ask(entry("http://127.0.0.1:9/cap.onnx", CONTENT), max_s=1)
        away = child.answer()
        child.ask(entry("gopher://host/cap.onnx", CONTENT))
        odd = child.answer()
        child.enter({"name": "cap"}, remove=("none:n@1",))
        invalid = child.answer()
    assert isinstance(gone, FetchFailed)
    assert (gone.reason, gone.is_transient) == ("not_found", False)
    assert isinstance(away, FetchFailed)
    assert away.is_transient
    assert isinstance(invalid, FetchFailed)
    assert not (fetches.folder / "models.toml").exists()
    assert isinstance(odd, FetchFailed)
    assert not odd.is_transient
