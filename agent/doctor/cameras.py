"""Camera check: opens each source in a subprocess, takes one frame and saves it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from agent.doctor.finding import Finding, fail, note, ok
from agent.doctor.host import picture_folder
from agent.doctor.subprocess_runner import run_apart
from agent.messages.errors import TransientError
from agent.messages.short_lived.probe_results import SOFTWARE, ProbedCamera
from agent.messages.texts.camera_names import is_camera, is_encrypted
from agent.settings import Settings, StreamSettings

_MODULE: Final = "agent.capture.camera_probe"
_DEADLINE_S: Final = 30.0
_FLAT: Final = 2.0
"""Standard deviation of pixel values (0 to 255), below which a frame shows nothing."""


def try_cameras(settings: Settings, *, held: bool, pictures: Path | None = None) -> Iterator[Finding]:
    """Try each stream's source, and save a picture of each, in the state folder unless `pictures` is given.

    `held`: skip the device's own cameras and pipelines, because the running service has them open.
    """
    folder = pictures or picture_folder(settings)
    for stream in settings.stream:
        subject = f"camera {stream.id}"
        if held and (is_camera(stream.source) or stream.source.startswith("gst:")):
            yield note(subject, "the service is using it: `systemctl stop changeover` first, to try it here")
        else:
            yield _try(stream, subject, folder / f"{stream.id}.jpg")


def _try(stream: StreamSettings, subject: str, picture: Path) -> Finding:
    try:
        patience_s = (stream.open_s, stream.stall_s or stream.open_s)
        words = [str(picture), *map(str, patience_s), *([str(stream.ca_file)] if stream.ca_file else [])]
        words += [SOFTWARE] if stream.hwdec == "off" else []
        said = run_apart(_MODULE, words, stream.source.encode(), sum(patience_s) + _DEADLINE_S)
    except TransientError as error:
        return fail(subject, f"{error}; is its driver well? `dmesg | tail` may say more")
    probed = msgspec.json.decode(said, type=ProbedCamera)
    if probed.error is not None:
        return fail(subject, probed.error)
    rate = f" at {probed.fps:g}/s" if probed.fps else ""
    text = f"{probed.name}, {probed.width}x{probed.height}{rate}, first frame after {probed.seconds} s"
    text += f", decoded by {probed.decoder}" if probed.decoder else ""
    text += f"; see {probed.picture}" if probed.picture else "; its picture could not be saved"
    if probed.spread < _FLAT:
        return note(subject, f"{text}; the picture is all one colour: is the lens covered?")
    if is_encrypted(stream.source) and stream.ca_file is None:
        return note(subject, f"{text}; its certificate is not verified: set `ca_file`, or another device may answer")
    return ok(subject, text)
