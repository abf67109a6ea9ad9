"""The pages for whoever works here name files and folders that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("", "agent", "agent/control", "agent/inference", "docs", "tests")
"""Folders that a path in a page may be relative to."""


def named(page: str) -> set[str]:
    """Return the names in backticks that are a path: with an ending that we have, or a slash at the end."""
    text = (ROOT / page).read_text(encoding="utf-8")
    names = re.findall(r"`([\w./-]+)`", text)
    return {name for name in names if re.search(r"\.(py|sh|toml|jsonl?)$|/$", name) and "NAME" not in name}


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/packages.md", "docs/glossary.md"])
def test_what_a_page_names_is_there(page: str) -> None:
    everything = [path for top in ("agent", "tests") for path in (ROOT / top).rglob("*")]
    for name in sorted(named(page)):
        is_there = any((ROOT / place / name).exists() for place in PLACES)
        assert is_there or any(path.match(name) for path in everything), f"{page} names {name}"


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md"))]
)
def test_each_link_of_a_page_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
