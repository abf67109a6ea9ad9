"""The two walks through the code, as the documentation names them: five files each, and no file between them."""

import re
import sys
from pathlib import Path
from types import FrameType

import pytest
from support.plant_bench import Bench

from agent.control.actions import AssignLine
from agent.control.lines import changeover

ROOT = Path(__file__).parents[2]
WALKS = {
    "CONTRIBUTING.md": ("**A frame, from the camera", "**A product, from the broker"),
    "docs/architecture.md": ("## How a frame flows", "## How a product becomes a model"),
}
BETWEEN = "agent/control/reconciler.py"
"""Dispatches each event by its type, and nothing else."""


def walk(document: str, heading: str) -> list[str]:
    """Return the files of the first table after a heading."""
    text = (ROOT / document).read_text(encoding="utf-8").split(heading)[1]
    rows = re.findall(r"^\| \d \| `([^`]+)` \|", text.split("\n\n")[1] + text.split("\n\n")[2], re.MULTILINE)
    return [row if row.startswith("agent/") else f"agent/{row}" for row in rows]


@pytest.mark.parametrize("number", [0, 1])
def test_each_walk_has_five_files_and_both_pages_name_the_same(number: int) -> None:
    first, second = (walk(document, headings[number]) for document, headings in WALKS.items())
    assert first == second
    assert len(first) == 5
    assert all((ROOT / file).is_file() for file in first)


def test_no_other_file_stands_between_a_product_and_its_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks: list[list[str]] = []

    def made(*values: object) -> AssignLine:
        stacks.append(_files(sys._getframe(1)))
        return AssignLine(*values)  # type: ignore[arg-type]

    bench = Bench()
    bench.start()
    monkeypatch.setattr(changeover, "AssignLine", lambda *values, **named: made(*values, *named.values()))
    bench.product("17")
    of_control = [one for one in walk("CONTRIBUTING.md", "**A product, from the broker") if "/control/" in one]
    assert stacks == [[BETWEEN, *of_control]]


def _files(frame: FrameType | None) -> list[str]:
    """Return the files of the agent on the stack, the outermost first."""
    found: list[str] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT / "agent"):
            found.insert(0, path.relative_to(ROOT).as_posix())
        frame = frame.f_back
    return list(dict.fromkeys(found))
