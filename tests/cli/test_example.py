"""The example that ships: right as it stands, and right with every commented key put in."""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from agent.app.configuration.check import check
from agent.settings import Settings, load

EXAMPLE = Path(__file__).parents[2] / "config" / "changeover.toml"
COMMENTED = re.compile(r'^#(?=[\[a-z"])', re.MULTILINE)


def groups_of(value: object) -> Iterator[BaseModel]:
    """Iterate over all groups of keys in a value, also in lists and tables."""
    if isinstance(value, BaseModel):
        yield value
        value = [getattr(value, name) for name in type(value).model_fields]
    if isinstance(value, (list, tuple, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from groups_of(one)


def test_the_example_passes_check_as_it_stands() -> None:
    checked = check(EXAMPLE, {})
    assert [str(mistake) for mistake in checked.mistakes] == []
    assert checked.summary.startswith("ok: 1 line, ")


def test_the_example_with_every_key_is_right_and_leaves_no_key_out(tmp_path: Path) -> None:
    file = tmp_path / "changeover.toml"
    file.write_text(COMMENTED.sub("", EXAMPLE.read_text(encoding="utf-8")).replace("mqtt://", "mqtts://"))
    settings = load(file, {})
    groups = list(groups_of([getattr(settings, name) for name in Settings.model_fields]))
    assert "version" in settings.model_fields_set
    left_out = {
        f"{type(group).__name__}.{name}"
        for group in groups
        for name in type(group).model_fields
        if name not in group.model_fields_set
    }
    assert left_out == {"ScheduleRule.model", "WebClientSettings.subject"}


def test_a_commented_value_of_a_table_is_the_default(tmp_path: Path) -> None:
    written = tmp_path / "changeover.toml"
    plain = tmp_path / "plain.toml"
    text = EXAMPLE.read_text(encoding="utf-8")
    plain.write_text(text)
    written.write_text(
        re.sub(
            r"^#(?=(max_(?!inflight)|detections|bind|root|protocol|keepalive|memory|compute|state_dir|store_dir|fps|"
            r"loop|publish|stall_s|variant|changeover_|dwell|prepare)\w* = .*)",
            "",
            text.partition("# A topic")[0],
            flags=re.MULTILINE,
        )
    )
    assert load(written, {}) == load(plain, {})
