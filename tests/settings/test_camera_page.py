"""docs/cameras.md shows sources that `check` takes, and ten makers."""

import re
from pathlib import Path

import pytest
import tomlkit
from pydantic import ValidationError
from support.page import blocks

from agent.settings.model import StreamSettings

PAGE = Path(__file__).parents[2] / "docs" / "cameras.md"
TEXT = PAGE.read_text(encoding="utf-8")
SHOWN = [text for kind, text in blocks(PAGE) if kind == "toml"]
URLS = re.findall(r"`((?:rtsp|http)://10[^`]*|gst:[^`]* ![^`]*)`", TEXT)


@pytest.mark.parametrize("shown", SHOWN)
def test_a_stream_of_the_page_is_one(shown: str) -> None:
    (stream,) = tomlkit.parse(shown).unwrap()["stream"]
    StreamSettings.model_validate(stream)


@pytest.mark.parametrize("url", URLS)
def test_a_source_of_the_page_is_one(url: str) -> None:
    StreamSettings.model_validate({"id": "cam-1", "line": "line-1", "source": url})


def test_the_page_names_ten_makers_and_who_published_what() -> None:
    rows = [line for line in TEXT.splitlines() if re.search(r"\| (maker|others)\b[^|]*\|$", line)]
    assert len(rows) == 10


def test_what_the_page_says_of_passwords_is_so() -> None:
    with pytest.raises(ValidationError, match="%23"):
        StreamSettings.model_validate({"id": "cam-1", "line": "line-1", "source": "rtsp://me:47#11@10.0.0.5/x"})
