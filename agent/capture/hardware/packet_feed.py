"""Thread that hands a network stream's packets to a decoder's pipe."""

import os
import threading
from collections.abc import Iterator
from typing import Final

from agent.capture.source import Packet
from agent.messages.errors import TransientError

_START: Final = b"\0\0\1"
_LONG_START: Final = b"\0\0\0\1"
# An access unit delimiter, then the start of a filler unit. The first ends the frame before it; a parser sees that only
# once the delimiter itself has ended. Without them each frame would wait in the parser for the next one.
_DELIMITERS: Final = {
    "h264": b"\0\0\0\1\x09\xf0\0\0\0\1\x0c\xff\x80",
    "hevc": b"\0\0\0\1\x46\1\x50\0\0\0\1\x4c\1\xff\x80",
}
_DELIMITER_TYPES: Final = {"h264": 9, "hevc": 35}


class PacketFeed:
    """Writer of one stream's packets into a pipe, from its first key frame on. Owner: HardwareSource.

    The pipe bounds it: while the decoder does not read, no packets are read from the camera. The thread closes the pipe
    when it ends, so that the decoder ends, too.
    """

    def __init__(self, coding: str, head: bytes, packets: Iterator[Packet], pipe: int) -> None:
        """Store the parameters; `head` holds the codec's parameter sets, which some cameras send only in the SDP."""
        self._coding: Final = coding
        self._head: Final = head
        self._packets: Final = packets
        self._pipe: Final = pipe
        self._is_stopping = False
        self.fed = 0
        """Number of packets written, including the one that is being written."""
        self.error: TransientError | None = None
        """Failure of the network that ended the feed."""
        self._thread: Final = threading.Thread(target=self._run, name="packet feed", daemon=True)

    def start(self) -> None:
        """Start feeding."""
        self._thread.start()

    def stop(self, wait_s: float) -> bool:
        """End the thread at the next packet; False where none came in `wait_s`. The decoder must be killed before."""
        self._is_stopping = True
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for packet in self._packets:
                if self._is_stopping:
                    return
                if self.fed or packet.is_keyframe:
                    data = packet.data if self.fed else self._head + packet.data
                    self.fed += 1
                    self._write(_undelimited(self._coding, data) + _DELIMITERS[self._coding])
        except TransientError as error:
            self.error = error
        except BrokenPipeError:
            pass  # because the decoder ended, which its reader reports
        finally:
            os.close(self._pipe)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._pipe, view) :]


def is_byte_stream(data: bytes) -> bool:
    """Return True where start codes separate the NAL units, as in the streams of RTSP cameras."""
    return data.startswith((_START, _LONG_START))


def _undelimited(coding: str, data: bytes) -> bytes:
    """Return a frame without its access unit delimiter, because the feed wrote one after the frame before."""
    at = data.find(_START) + len(_START)
    kind = data[at] & 31 if coding == "h264" else data[at] >> 1 & 63
    if kind != _DELIMITER_TYPES[coding]:
        return data
    following = data.find(_START, at)
    return _LONG_START + data[following + len(_START) :] if following >= 0 else data
