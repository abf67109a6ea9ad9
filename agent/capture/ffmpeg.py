"""Video files and network streams, read through FFmpeg's libraries (PyAV)."""

import logging
import re
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import av
import av.logging
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from agent.capture.source import Buffer, Image, Packet, Patience, SourceInfo
from agent.messages.errors import TransientError
from agent.redact import redact

_FILE_PATIENCE: Final = Patience(open_s=10.0, read_s=10.0)
"""Timeouts for files; only a disk of a network share whose server is gone takes longer."""
_TIMEOUT_SHARE: Final = 0.9
"""A failure after this share of its timeout counts as a timeout, because FFmpeg reports it under other names."""
_CODINGS: Final = "set it to H.264, H.265 or MJPEG"
_DECODER: Final = "FFmpeg"
_HTTP_STATUS: Final = "HTTP error "
_VAGUE: Final = re.compile(r"\b[45]XX\b")
_ADVICE: Final = (
    (r"\b401\b|\b403\b|nauthorized|orbidden", "check user and password in `source`, percent-encoded"),
    (r"\b404\b|Not Found", "check the path in `source`"),
    (r"\b453\b|\b503\b", "it has no place for another viewer: close one, or ask it for a smaller stream"),
    (r"\b5\d\d\b", "the fault is the camera's own: is it still starting? Restart it"),
    (r"\b461\b|ransport", "it takes neither TCP nor UDP from here: see its streaming settings"),
    (r"resolve", "check the name in `source`, and this device's DNS"),
    (r"refused", "check address and port; is its stream switched on?"),
    (r"unreachable|No route", "check the address, and the network between"),
    (r"ertificate", "it is not from the authority of `ca_file`, has expired, or is not for the host in `source`"),
    (r"TLS|SSL", "it answers, but not with TLS that is understood here: check scheme and port"),
    (r"Decoder not found", _CODINGS),
    (r"Invalid data", "what it sends is no video that can be read here: a web page, or a damaged file?"),
)

# Not logged, because FFmpeg's lines show URLs with passwords; `_cause` quotes the last one, redacted.
logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False
av.logging.set_level(av.logging.ERROR)


class FfmpegSource:
    """Video file or network stream, decoded at its own size; for one thread."""

    def __init__(self, name: str, url: str, options: dict[str, str], patience: Patience, *, live: bool) -> None:
        self.name = name
        self.live = live
        self._url: Final = url
        self._options: Final = options
        self._patience: Final = patience
        self._reformatter: Final = VideoReformatter()
        self._container: av.container.InputContainer | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._ahead: deque[VideoFrame] = deque()
        self._frame: VideoFrame | None = None
        self._until_s = 0.0
        self._status = ""

    def open(self) -> SourceInfo:
        """Connect and decode the first frame within `open_s`; a triggered camera is open without a frame."""
        begun_s = time.monotonic()
        stream = self.connect()
        assert self._container is not None
        if not self.live:
            stream.thread_type = "AUTO"  # includes frame threads, which delay a live stream by some frames
        try:
            self._frames = self._decoded(self._container, stream)
            if self._patience.first_frame:
                self._ahead.append(next(self._frames))
        except av.FFmpegError as error:
            raise TransientError(f"cannot open {self.name}: {self._cause(error, begun_s)}") from None
        except StopIteration:
            raise TransientError(f"{self.name} holds no frame that can be read: put a whole video there") from None
        first = self._ahead[0] if self._ahead else stream.codec_context
        turned = bool(self._ahead and self._ahead[0].rotation % 180)
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        decoder = _DECODER if self.live else ""
        return SourceInfo(width=width, height=height, fps=float(stream.average_rate or 0), decoder=decoder)

    def connect(self) -> "av.VideoStream":
        """Connect within `open_s` and return the video stream, of which nothing is decoded yet."""
        begun_s = time.monotonic()
        self._until_s = begun_s + self._patience.open_s
        try:
            container = self._container = self._connected()
        except av.FFmpegError as error:
            raise TransientError(f"cannot open {self.name}: {self._cause(error, begun_s)}") from None
        if not container.streams.video:
            raise TransientError(f"cannot open {self.name}: there is no video in it; is it the right path?")
        stream = container.streams.video[0]
        if cast("av.VideoCodecContext | None", stream.codec_context) is None:
            raise TransientError(f"cannot open {self.name}: its coding is not known here; {_CODINGS}")
        return stream

    def packets(self) -> Iterator[Packet]:
        """Yield the video's packets after `connect`; raises TransientError where none comes within `read_s`."""
        assert self._container is not None
        stream = self._container.streams.video[0]
        begun_s = time.monotonic()
        try:
            for packet in self._container.demux():
                now_s = time.monotonic()
                if packet.stream_index == stream.index and packet.size:
                    begun_s, self._until_s = now_s, now_s + self._patience.read_s
                    yield Packet(bytes(packet), packet.is_keyframe)
                elif now_s > self._until_s:  # because sound may keep coming
                    raise av.ExitError(0, "no frame in time")
        except av.FFmpegError as error:
            raise TransientError(f"{self.name} broke: {self._cause(error, begun_s)}") from None
        raise TransientError(f"{self.name} ended: is it still sending?")

    def _connected(self) -> "av.container.InputContainer":
        """Connect; take an HTTP camera's refusal from FFmpeg's log, because its errors say only `5XX`."""
        timeouts_s = (self._patience.open_s, self._patience.read_s)
        is_http = self._url.lower().startswith(("http:", "https:"))
        av.logging.set_level(av.logging.WARNING if is_http else av.logging.ERROR)
        with av.logging.Capture() as lines:
            try:
                return av.open(self._url, options=self._options, timeout=timeouts_s)
            finally:
                av.logging.set_level(av.logging.ERROR)
                self._status = next((text for _, _, text in lines if text.startswith(_HTTP_STATUS)), "")

    def grab(self) -> bool:
        """Decode the next frame; False at the end of a file.

        Raises TransientError where a live stream gives no frame within `read_s`.
        """
        begun_s = time.monotonic()
        self._until_s = begun_s + self._patience.read_s
        try:
            self._frame = self._ahead.popleft() if self._ahead else next(self._frames)
        except StopIteration:
            if self.live:
                raise TransientError(f"{self.name} ended: is it still sending?") from None
            return False
        except av.FFmpegError as error:
            raise TransientError(f"{self.name} broke: {self._cause(error, begun_s)}") from None
        return True

    def retrieve(self, buffer: Buffer) -> None:
        """Convert the decoded frame to BGR, rotated as its file says, into an array from `buffer`."""
        assert self._frame is not None
        image = _bgr(self._reformatter.reformat(self._frame, format="bgr24"))
        image = np.rot90(image, self._frame.rotation // 90)  # because a phone's file states its rotation
        np.copyto(buffer(image.shape[0], image.shape[1]), image)

    def close(self) -> None:
        """Close the connection or file; idempotent."""
        self._frames, self._frame = iter(()), None
        self._ahead.clear()
        if self._container is not None:
            self._container.close()
        self._container = None

    def _decoded(self, container: "av.container.InputContainer", stream: "av.VideoStream") -> Iterator[VideoFrame]:
        for packet in container.demux():
            if packet.stream_index == stream.index:
                try:
                    yield from packet.decode()  # type: ignore[misc] # of a video stream these are video frames
                except av.InvalidDataError:  # because only this packet is damaged
                    continue
            if self.live and time.monotonic() > self._until_s:  # because sound or undecodable packets may keep coming
                raise av.ExitError(0, "no frame in time")

    def _cause(self, error: av.FFmpegError, begun_s: float) -> str:
        waited_s = time.monotonic() - begun_s
        if self.live and waited_s >= _TIMEOUT_SHARE * (self._until_s - begun_s):
            return (
                f"no frame, and no answer that says why, within {waited_s:.1f} s; "
                "is it on, is it sending, and is the network between fast enough?"
            )
        log = cast("tuple[int, str, str] | None", error.log)
        words = self._status if _VAGUE.search(error.strerror or "") and self._status else error.strerror or str(error)
        said = redact((log[2] if log else words).strip(" .\n"))
        advice = (advice for cause, advice in _ADVICE if re.search(cause, said))
        return f"{said}; {next(advice, 'is it a whole stream?')}"


def video_file(path: Path) -> FfmpegSource:
    """Return a source for a video file, in any container that FFmpeg reads."""
    return FfmpegSource(f"video file {path}", f"file:{path}", {}, _FILE_PATIENCE, live=False)


def network_stream(url: str, patience: Patience, ca_file: str | None = None) -> FfmpegSource:
    """Return a source for an RTSP or HTTP stream; see `ffmpeg_options` for `ca_file`."""
    return FfmpegSource(redact(url), url, ffmpeg_options(url, ca_file), patience, live=True)


def ffmpeg_options(url: str, ca_file: str | None = None) -> dict[str, str]:
    """Return FFmpeg's options for `url`.

    With `ca_file`, the server must have a certificate from that authority for the host of `url`; without it, any is
    accepted.

    RTSP prefers TCP, because a packet lost over UDP shows as grey smears that a model takes for objects. The frame rate
    is not probed, because that takes a minute at one frame in 3 s.
    """
    options = {"fpsprobesize": "0"}
    if url.lower().startswith(("rtsp:", "rtsps:")):
        options["rtsp_flags"] = "prefer_tcp"
    if ca_file is not None:
        options |= {"tls_verify": "1", "ca_file": ca_file}
    return options


def _bgr(frame: VideoFrame) -> Image:
    plane = frame.planes[0]
    rows: Image = np.frombuffer(memoryview(cast("bytes", plane)), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width * 3].reshape(frame.height, frame.width, 3)
