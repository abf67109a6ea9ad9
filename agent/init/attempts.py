"""Tries an answer at once: opens the camera, connects to the broker."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agent.doctor.broker import try_broker
from agent.doctor.cameras import try_cameras
from agent.doctor.finding import Finding
from agent.doctor.host import temporary_folder
from agent.init.answers import Answers
from agent.init.place import Place
from agent.settings import Settings

_ANY: Final = "model"
"""Placeholder for the line's model, which neither a camera nor a broker needs."""


def try_camera(answers: Answers, place: Place, say: Callable[[str], None]) -> bool:
    """Open the camera and take a frame; return True where that went well."""
    say("trying the camera ...")
    settings = _settings(answers, place, None)
    return _all_well(try_cameras(settings, held=False, pictures=temporary_folder()), say)


def try_the_broker(answers: Answers, place: Place, say: Callable[[str], None]) -> bool:
    """Connect to the broker as the agent would; return True where that went well."""
    say("trying the broker ...")
    with _password_file(answers.password) as path:
        return _all_well(try_broker(_settings(answers, place, path)), say)


def _all_well(found: Iterator[Finding], say: Callable[[str], None]) -> bool:
    verdicts = []
    for finding in found:
        say(f"  {finding}")
        verdicts.append(finding.verdict)
    return "fail" not in verdicts


def _settings(answers: Answers, place: Place, password_file: str | None) -> Settings:
    """Return settings made from the answers given so far."""
    tables: dict[str, Any] = {"mqtt": {"url": answers.broker} if answers.broker else {}, "device": {}}
    tables["device"] = place.own.get("device", {}) | ({"id": answers.device} if answers.device else {})
    if answers.username:
        tables["mqtt"]["username"] = answers.username
    if password_file is not None:
        tables["mqtt"]["password_file"] = password_file
    if answers.ca_file is not None:
        tables["mqtt"]["ca_file"] = str(answers.ca_file)
    if answers.camera:
        tables["stream"] = [{"id": "cam-1", "line": answers.line, "source": answers.camera}]
    tables["line"] = {answers.line: {"default": _ANY}}
    return Settings.model_validate(tables, context={"base": place.file.parent})


@contextmanager
def _password_file(password: str | None) -> Iterator[str | None]:
    """Yield the path of a temporary file with the password, removed after the block; None without a password."""
    if password is None:
        yield None
        return
    descriptor, path = tempfile.mkstemp(prefix="changeover-init-")  # open to its owner alone
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(password)
        yield path
    finally:
        Path(path).unlink()
