"""A language is one file: each has every word, and every code that the device publishes has one."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from agent.messages.canary import CanaryMode, CanaryReason, CanaryResult
from agent.messages.errors import Reason
from agent.messages.payloads import AckResult, JobPhase, Phase, Rule, StreamStatus, SwitchResult
from agent.web.console.acts import ACTS

ROOT = Path(__file__).parents[2]
FILES = ROOT / "agent" / "web" / "console" / "files"
LANGUAGES = sorted((FILES / "lang").glob("*.json"))


def once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), sorted(key for key in keys if keys.count(key) > 1)
    return dict(pairs)


WORDS = {path.stem: json.loads(path.read_text(), object_pairs_hook=once) for path in LANGUAGES}


def test_each_language_has_the_same_words_and_blanks() -> None:
    assert {"en", "de"} <= WORDS.keys()
    for name, words in WORDS.items():
        assert words.keys() == WORDS["en"].keys(), name
        for key, text in words.items():
            assert text.strip(), (name, key)
            assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", WORDS["en"][key])), (name, key)


@pytest.mark.parametrize(
    ("start", "codes"),
    [
        ("phase", get_args(Phase)),
        ("stream", get_args(StreamStatus)),
        ("rule", get_args(Rule)),
        ("result", (*get_args(AckResult), *get_args(SwitchResult))),
        ("reason", get_args(Reason)),
        ("job", (*[one for one in get_args(JobPhase) if isinstance(one, str)], "done", "failed")),
        ("act", tuple(ACTS)),
        ("canary", get_args(CanaryResult)),
        ("mode", get_args(CanaryMode)),
        ("reason", get_args(CanaryReason)),
    ],
)
def test_each_code_has_a_word(start: str, codes: tuple[str, ...]) -> None:
    assert codes
    assert [code for code in codes if f"{start}.{code}" not in WORDS["en"]] == []


def test_each_alert_has_a_title_and_what_to_do() -> None:
    section = (ROOT / "docs" / "health.md").read_text().split("## Alerts")[1].split("\n## ")[0]
    codes = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert {"camera", "worker_lost"} <= set(codes)
    assert [code for code in codes if not {f"alert.{code}", f"cure.{code}"} <= WORDS["en"].keys()] == []


def test_each_word_of_the_pages_exists_and_is_used() -> None:
    text = "\n".join(path.read_text() for path in FILES.rglob("*.js") if path.parent.name != "vendor")
    asked = set(re.findall(r'\bt\(\s*"([\w.]+)"', text)) | set(re.findall(r'\? "([\w]+(?:\.[\w]+)+)" : "', text))
    starts = tuple(re.findall(r"\bt\(`([\w.]+\.)\$\{", text))
    assert sorted(asked - WORDS["en"].keys()) == []
    quoted = set(re.findall(r'"([\w]+(?:\.[\w]+)*)"', text))
    unused = [
        key
        for key in WORDS["en"]
        if key not in quoted and not key.startswith((*starts, "alert.", "cure.", "language.", "said."))
    ]
    assert unused == []


@pytest.mark.parametrize(
    ("detail", "unknown"),
    [
        ("no beat for 10.2 s (killed); starts again in 0.21 s", {"10.2", "0.21"}),
        ("group press: one call has lasted 10.1 s (killed); starts again in 0.21 s", {"press", "10.1", "0.21"}),
        (
            "group p: the kernel killed 2 of its group's processes, whose memory limit is 300 MiB; "  # noqa: ISC004
            "the other side closed the channel (exit code -9); starts again in 0.21 s",
            {"p", "2", "300 MiB", "-9", "0.21"},
        ),
    ],
)
def test_why_a_worker_was_lost_is_said_in_each_language(detail: str, unknown: set[str]) -> None:
    said = {key: text for key, text in WORDS["en"].items() if key.startswith("said.")}
    forms = sorted(said.values(), key=lambda text: len(re.sub(r"{\w+}", "", text)), reverse=True)

    def left(text: str) -> set[str]:
        """Return the parts of a sentence that stay as they are, found as `said` of i18n.js does it."""
        for form in forms:
            if found := re.fullmatch("(.+?)".join(map(re.escape, re.split(r"{\w+}", form))), text, re.DOTALL):
                return {part for group in found.groups() for part in left(group)}
        return {text}

    assert left(detail) == unknown


def test_each_sentence_of_the_device_is_one_that_it_says() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "agent").rglob("*.py"))
    said = {key: text for key, text in WORDS["en"].items() if key.startswith("said.")}
    parts = {key: [part for part in re.split(r"{\w+}", text) if part.strip()] for key, text in said.items()}
    assert said
    assert [(key, part) for key, found in parts.items() for part in found if part not in sources] == []
