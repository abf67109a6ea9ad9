"""Every camera: opened, one frame taken and saved, in a process of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from agent.doctor.finding import Finding, fail, note, ok
from agent.doctor.host import picture_folder
from agent.doctor.subprocess_runner import run_apart
from agent.messages.errors import TransientError
from agent.messages.sources import is_camera
from agent.settings import Settings, StreamSettings

_MODULE: Final = "agent.capture.probe_process"
_DEADLINE_S: Final = 30.0
_FLAT: Final = 2.0
"""A frame whose pixels differ by less (standard deviation, of 255) shows nothing."""


class _Tried(msgspec.Struct, frozen=True):
    error: str | None = None
    name: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    spread: float = 0.0
    picture: str | None = None


def try_cameras(settings: Settings, *, held: bool) -> Iterator[Finding]:
    """Try each stream's source. `held`: the service runs, and so holds the device's own cameras."""
    folder = picture_folder(settings)
    for stream in settings.stream:
        subject = f"camera {stream.id}"
        if held and (is_camera(stream.source) or stream.source.startswith("gst:")):
            yield note(subject, "the service is using it: `systemctl stop changeover` first, to try it here")
        else:
            yield _try(stream, subject, folder / f"{stream.id}.jpg")


def _try(stream: StreamSettings, subject: str, picture: Path) -> Finding:
    try:
        patience_s = (stream.open_s, stream.stall_s or stream.open_s)
        words = [str(picture), *map(str, patience_s)]
        said = run_apart(_MODULE, words, stream.source.encode(), sum(patience_s) + _DEADLINE_S)
    except TransientError as error:
        return fail(subject, f"{error}; is its driver well? `dmesg | tail` may say more")
    tried = msgspec.json.decode(said, type=_Tried)
    if tried.error is not None:
        return fail(subject, tried.error)
    rate = f" at {tried.fps:g}/s" if tried.fps else ""
    text = f"{tried.name}, {tried.width}x{tried.height}{rate}, first frame after {tried.seconds} s"
    text += f"; see {tried.picture}" if tried.picture else "; its picture could not be saved"
    if tried.spread < _FLAT:
        return note(subject, f"{text}; the picture is all one colour: is the lens covered?")
    return ok(subject, text)
