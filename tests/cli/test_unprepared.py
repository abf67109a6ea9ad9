"""`changeover check` names what is not prepared, and `models prepare` has no way around the walls."""

import hashlib
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("file", "more", "words"),
    [
        (
            "gap.pt",
            "",
            "note: gap:n@1: its .pt is not prepared, and is not opened before: `changeover models prepare gap",
        ),
        ("gap.pt", "unsafe = true", ""),
        ("gap.pt", 'backend = "ultralytics"', "note: gap:n@1: backend = "),
        ("gap.engine", "", "note: gap:n@1: a .engine file runs code"),
        ("gap.engine", "unsafe = true", ""),
    ],
)
def test_check_says_which_entries_are_not_prepared(
    changeover: Command, config: Path, file: str, more: str, words: str
) -> None:
    content = pickle.dumps("a model") if file.endswith(".pt") else b"a model"
    (config.parent / file).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    with (config.parent / "models.toml").open("a") as catalog:
        catalog.write(f'[[model]]\nname = "gap"\nvariant = "n"\nversion = "1"\nfile = "{file}"\n')
        catalog.write(f'sha256 = "{sha256}"\n{more}\n')
    answer = changeover("check", "--config", str(config))
    assert answer.returncode == 0, answer
    said = answer.stdout.splitlines()
    assert said[0].startswith("ok: ")
    assert [line for line in said if "gap" in line] == [line for line in said if words and line.startswith(words)]
    assert len(said) == (2 if words else 1)
