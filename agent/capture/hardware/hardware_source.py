"""RTSP stream that FFmpeg receives and a hardware decoder decodes, in a GStreamer process of its own.

FFmpeg receives, because then credentials stay out of the arguments that every user can read, and transport, TLS and
error texts are the same as without hardware.
"""

import os
import time
from collections.abc import Callable
from typing import Final

from agent.capture.ffmpeg import FfmpegSource
from agent.capture.gstreamer import GstSource
from agent.capture.hardware.decoders import HardwareDecoding
from agent.capture.hardware.packet_feed import PacketFeed, is_byte_stream
from agent.capture.source import Buffer, Patience, SilentError, Source, SourceInfo
from agent.messages.errors import ChangeoverError, TransientError

_LOOK_S: Final = 1.2
"""Seconds after which a decoder that has packets and gives no frame counts as failed."""
_OWED: Final = 4
"""Number of packets without a decoded frame at which a running decoder counts as failed."""

Connect = Callable[[Patience], FfmpegSource]


class HardwareSource:
    """Network stream decoded by hardware, and by FFmpeg after the hardware's first failure."""

    def __init__(self, decoding: HardwareDecoding, patience: Patience, connect: Connect) -> None:
        """Store the parameters; `connect` makes an unopened FFmpeg source with the given timeouts."""
        self._decoding: Final = decoding
        self._patience: Final = patience
        self._connect: Final = connect
        self._network: FfmpegSource = connect(patience)
        self.name = self._network.name
        self.live = True
        self._source: Source | None = None
        self._feed: PacketFeed | None = None
        self._fed_before = 0
        """Value of `PacketFeed.fed` when the last frame came."""

    def open(self) -> SourceInfo:
        """Open by hardware, else by FFmpeg, within `open_s`; `decoder` in the result says which, and why."""
        until_s = time.monotonic() + self._patience.open_s
        info = None if self._decoding.failure else self._open_hardware()
        return info or self._open_ffmpeg(max(1.0, until_s - time.monotonic()))

    def grab(self) -> bool:
        """Wait for the next frame. Raises TransientError where the decoder fails; the next `open` then uses FFmpeg."""
        assert self._source is not None
        return self._source.grab() if self._feed is None else self._grab_decoded(self._source, self._feed)

    def retrieve(self, buffer: Buffer) -> None:
        """Convert the frame into an array from `buffer`."""
        assert self._source is not None
        self._source.retrieve(buffer)

    def close(self) -> None:
        """Kill the decoder, then end the connection; idempotent."""
        source, self._source = self._source, None
        feed, self._feed = self._feed, None
        if source is not None:
            source.close()
        # A thread that hangs keeps its connection, because FFmpeg stands no closing under a read.
        if feed is None or feed.stop(self._patience.read_s + _LOOK_S):
            self._network.close()

    def _open_ffmpeg(self, open_s: float) -> SourceInfo:
        self._source = self._connect(Patience(open_s, self._patience.read_s))
        info = self._source.open()
        return SourceInfo(info.width, info.height, info.fps, decoder=f"{info.decoder} ({self._decoding.failure})")

    def _open_hardware(self) -> SourceInfo | None:
        """Open through the hardware; return None, with the reason in `failure`, where FFmpeg can be tried at once."""
        self._network = self._connect(self._patience)
        stream = self._network.connect()
        context, rate = stream.codec_context, float(stream.average_rate or 0)
        coding, head = context.name, context.extradata or b""
        element = self._decoding.element(coding)
        if element is None:
            self._give_up(f"no hardware here decodes {coding}")
            return None
        if not context.width or not is_byte_stream(head):
            self._give_up(f"the camera describes its {coding} too little for {element}")
            return None
        size = self._decoding.scaled(context.width, context.height)
        try:
            self._start(coding, head, size)
        except ChangeoverError as error:
            self._give_up(self._reason(element, error))
            return None
        is_scaled = size != (context.width, context.height)
        return SourceInfo(context.width, context.height, rate, decoder=element, is_scaled=is_scaled)

    def _start(self, coding: str, head: bytes, size: tuple[int, int]) -> None:
        """Start feed and decoder, and wait for the first frame."""
        given, pipe = os.pipe()
        patience = Patience(self._patience.open_s, _LOOK_S)
        self._source = GstSource(self.name, self._decoding.pipeline(coding, size), patience, given)
        self._feed = PacketFeed(coding, head, self._network.packets(), pipe)
        self._feed.start()
        try:
            self._source.open()
        finally:
            os.close(given)  # because a feed whose decoder ended must get an error, not block
        self._fed_before = self._feed.fed

    def _reason(self, element: str, error: ChangeoverError) -> str:
        """Return why the decoder did not start. Raises TransientError where the network is why, or no time is left."""
        assert self._feed is not None
        if self._feed.error is not None:
            raise self._feed.error from None
        if isinstance(error, SilentError) and not self._feed.fed:
            raise TransientError(f"cannot open {self.name}: it sends no key frame in time; raise `open_s`") from None
        why = f"{element}: {str(error).removeprefix(self.name).strip()}"
        if isinstance(error, SilentError):
            raise self._failed(why) from None
        return why

    def _give_up(self, why: str) -> None:
        """Record why the hardware is no longer used, and close everything, so that FFmpeg can connect to the camera."""
        self._decoding.failure = why
        self.close()

    def _grab_decoded(self, decoder: Source, feed: PacketFeed) -> bool:
        until_s = time.monotonic() + self._patience.read_s
        while not self._is_decoded(decoder, feed, until_s):
            pass
        self._fed_before = feed.fed
        return True

    def _is_decoded(self, decoder: Source, feed: PacketFeed, until_s: float) -> bool:
        """Grab a decoded frame; return False where none came yet, too few packets are due, and time is left.

        Raises TransientError where the decoder or the network failed, SilentError where `until_s` has passed.
        """
        try:
            return decoder.grab()
        except SilentError:
            owed = feed.fed - self._fed_before
            if owed >= _OWED:
                raise self._failed(f"no frame came for {owed} packets") from None
            if time.monotonic() >= until_s:
                raise
            return False
        except TransientError as error:
            raise feed.error or self._failed(str(error).removeprefix(self.name).strip()) from None

    def _failed(self, why: str) -> TransientError:
        self._decoding.failure = why
        return TransientError(f"{self.name}: its hardware decoder failed, FFmpeg follows: {why}")
