"""Choice of the source that a stream's `source` setting names."""

import re
from pathlib import Path
from typing import Final

from agent.capture import gstreamer
from agent.capture.ffmpeg import network_stream, video_file
from agent.capture.hardware.decoders import HardwareDecoding
from agent.capture.hardware.hardware_source import HardwareSource
from agent.capture.pictures import PictureSource
from agent.capture.source import Patience, Source, Warn
from agent.capture.video import device, gst_pipeline, has_gstreamer
from agent.messages.errors import MistakeError, TransientError
from agent.messages.texts.camera_names import is_camera, is_picture, is_rtsp, split
from agent.redact import redact

_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_STREAMS: Final = frozenset({"rtsp", "rtsps", "http", "https"})
_WANTED: Final = "use an rtsp, rtsps, http or https URL, /dev/video0, csi:0, gst:PIPELINE, a video file or a folder"


def create(
    text: str,
    warn: Warn,
    patience: Patience = Patience(),  # noqa: B008 - frozen
    ca_file: str | None = None,
    decoding: HardwareDecoding | None = None,
) -> Source:
    """Return an unopened source for the setting `text`; `warn` is called with a text for each skipped frame.

    `ca_file` is the authority of an rtsps or https camera's certificate; without it, the certificate is not verified.
    `decoding` decodes RTSP streams by hardware where the device has it, except for triggered cameras; None: by FFmpeg.
    Looks at the disk to tell folders from files, so call it anew for each attempt. Raises MistakeError where `text` can
    never name a source, TransientError where its file or folder is missing.
    """
    if text.startswith("gst:"):
        return gst_pipeline(text, patience) if has_gstreamer() else gstreamer.pipeline(text, patience)
    if is_camera(text):
        return _camera(text, patience)
    if match := _SCHEME.match(text):
        if match["scheme"].lower() not in _STREAMS:
            raise MistakeError(f"{redact(text)} cannot be a source, there is no scheme {match['scheme']}://; {_WANTED}")
        if decoding is not None and decoding.is_here and patience.first_frame and is_rtsp(text):
            return HardwareSource(decoding, patience, lambda within: network_stream(text, within, ca_file))
        return network_stream(text, patience, ca_file)
    try:
        return _on_disk(Path(text), warn)
    except OSError as error:
        raise TransientError(f"{text} cannot be looked at: {error.strerror}; check its name and permissions") from error


def _camera(text: str, patience: Patience) -> Source:
    try:
        name, asked = split(text)
    except ValueError as error:
        raise MistakeError(f"{text} names no camera: expected {error}") from None
    if name.startswith("/dev/"):
        return device(name, asked)
    return gstreamer.argus(name.removeprefix("csi:"), asked, patience)


def _on_disk(path: Path, warn: Warn) -> Source:
    if path.is_dir() or (path.is_file() and is_picture(path)):
        return PictureSource(path, warn)
    if path.is_file():
        return video_file(path)
    raise TransientError(
        f"there is no file or folder {path}: put it there, or correct `source`; it is looked for again"
    )
