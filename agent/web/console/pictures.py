"""Pictures for pages: asked for one by one over a WebSocket, encoded once for all who look, with their detections.

A page asks for the next picture once it has drawn the last, so a slow reader gets fewer, and never older ones. It names
a size, by how large it shows the picture and how fast its link is; all pages that want one size share its encoding.
The hub asks the camera only for pages that wait. A picture is held back until its own detections have come, for a short
time, so that boxes stand on the frame that they were found in.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from agent.processes.slots.picture_link import Picture, PictureReceiver, Size
from agent.web.console.access.body import RefusedError
from agent.web.console.access.guard import token_of
from agent.web.console.access.places import Places
from agent.web.console.access.sessions import Sessions

_HOLD_S: Final = 0.15
"""Longest wait for a picture's detections, where frames come often; then a slow model's boxes are left out."""
_LONGEST_HOLD_S: Final = 0.6
"""The same where frames come seldom: half of the time between two, but no longer than this."""
_ASK_AGAIN_S: Final = 1.0
"""A camera process that was replaced may have lost a request."""
_WATCHED_S: Final = 3.0
"""A stream counts as watched this long after the last request."""
_FRESH_S: Final = 2.0
"""A page is given no older picture, but the next one."""
_FRAMES: Final = 8
"""Detections kept of each stream: those of the newest frames."""
_BOX_AGE_S: Final = 0.35
"""Time after which detections of an earlier frame no longer belong to a picture."""
_LONGEST_REQUEST: Final = 128
_LOOK_AGAIN_S: Final = 1.0
"""A session that has ended is noticed so soon, also where no picture comes."""


@dataclass(frozen=True)
class Request:
    """A page's request for a picture of a stream."""

    frame: int
    """Number of the frame that the page has, or 0."""
    size: Size
    at_s: float
    """Time at which it came (monotonic), so that the page can tell the device's wait from the way."""


@dataclass(frozen=True, eq=False)
class Arrived:
    """A picture, and its time by a clock that nobody sets."""

    picture: Picture
    captured_s: float
    """Time of the capture (monotonic), by the age that the wall clock gave it when it came."""

    @classmethod
    def now(cls, picture: Picture) -> "Arrived":
        """Return a picture that comes at this moment."""
        age_s = (time.time_ns() - picture.captured_unix_ns) / 1e9
        return cls(picture, time.monotonic() - max(0.0, age_s))

    @property
    def age_s(self) -> float:
        """Its present age."""
        return time.monotonic() - self.captured_s


@dataclass(eq=False)
class _View:
    """One size of a stream."""

    picture: Arrived | None = None
    """The newest that pages may have."""
    held: Arrived | None = None
    """Waits for its detections."""
    asked_s: float | None = None
    """Time of the camera's unanswered request (monotonic)."""
    is_wanted: bool = False
    """A page waits."""
    shown_s: float = float("-inf")
    """Time since which pages may have the picture (monotonic)."""


@dataclass(eq=False)
class _Stream:
    receiver: PictureReceiver
    views: dict[Size, _View] = field(default_factory=lambda: {size: _View() for size in Size})
    wanted_s: float = float("-inf")
    """Time of the last request of a page (monotonic)."""
    last: Picture | None = None
    """The newest that came, of any size."""
    period_s: float = 0.0
    """Time between two frames of the camera, as far as is known."""
    detections: dict[int, bytes] = field(default_factory=dict)
    """By frame."""

    @property
    def hold_s(self) -> float:
        return min(max(_HOLD_S, self.period_s / 2), _LONGEST_HOLD_S)

    def is_watched(self, now_s: float) -> bool:
        return now_s - self.wanted_s < _WATCHED_S

    def ask(self, size: Size) -> None:
        self.views[size].asked_s = time.monotonic()
        self.receiver.ask(size)

    def has_for(self, request: Request) -> bool:
        """Return True where a page's request is answered by the picture that is there already.

        One that came after the request answers it; one that other pages asked for before does while it is of this
        moment, because the next frame would be newer.
        """
        view = self.views[request.size]
        if view.picture is None or view.picture.picture.frame == request.frame:
            return False
        return view.picture.age_s <= (_FRESH_S if view.shown_s >= request.at_s else self.hold_s)

    def note(self, picture: Picture) -> None:
        """Learn the frames' period from a picture that came."""
        last = self.last
        if last is not None and picture.frame > last.frame:
            gap_ns = picture.captured_unix_ns - last.captured_unix_ns
            self.period_s = gap_ns / (picture.frame - last.frame) / 1e9
        self.last = picture


class PictureHub:
    """All streams' newest pictures, for the event loop's thread."""

    def __init__(self, receivers: Mapping[str, PictureReceiver], watch: Callable[[tuple[str, ...]], None]) -> None:
        """`watch` is told which streams are watched, at each change; their detections are then to be given."""
        self._streams: Final = {id_: _Stream(receiver) for id_, receiver in receivers.items()}
        self._watch: Final = watch
        self._watched: tuple[str, ...] = ()
        self._wakes: Final[set[asyncio.Event]] = set()
        """One of each page."""
        self._places: Final = Places()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Listen for pictures on the running loop."""
        self._loop = asyncio.get_running_loop()
        for stream in self._streams.values():
            self._loop.add_reader(stream.receiver.fileno(), self._arrived, stream)

    def stop(self) -> None:
        """Listen no longer, and close the links' ends."""
        for stream in self._streams.values():
            if self._loop is not None:
                self._loop.remove_reader(stream.receiver.fileno())
            stream.receiver.close()

    def take_detections(self, stream: str, payload: bytes) -> None:
        """Take the detections of one frame of a watched stream: JSON of the contract."""
        one = self._streams.get(stream)
        if one is None:
            return
        frame = msgspec.json.decode(payload, type=_Numbered).frame
        one.detections[frame] = payload
        while len(one.detections) > _FRAMES:
            del one.detections[next(iter(one.detections))]
        for view in one.views.values():
            if view.held is not None and frame >= view.held.picture.frame:
                self._show(view)

    def tick(self) -> None:
        """Ask cameras again that did not answer, and tell what is watched; call it every second."""
        now_s = time.monotonic()
        for one in self._streams.values():
            for size, view in one.views.items():
                is_late = view.asked_s is None or now_s - view.asked_s >= _ASK_AGAIN_S
                if view.is_wanted and view.held is None and is_late:
                    one.ask(size)
        self._tell_watched(now_s)

    def has(self, stream: str) -> bool:
        """Return True for a stream of this device."""
        return stream in self._streams

    def answer(self, stream: str, request: Request) -> bytes | None:
        """Return the message with the picture that a page's request is to have; None where it has to wait for it."""
        one = self._streams[stream]
        one.wanted_s = max(one.wanted_s, request.at_s)
        self._tell_watched(request.at_s)
        view = one.views[request.size]
        if view.picture is not None and one.has_for(request):
            return _message(stream, one, view.picture, time.monotonic() - request.at_s)
        view.is_wanted = True
        if view.asked_s is None and view.held is None:
            one.ask(request.size)
        return None

    async def serve(self, socket: WebSocket, sessions: Sessions) -> None:
        """Serve one page until it closes its socket or its session ends."""
        token = token_of(socket) or ""
        if not self._places.has_for(token):
            await socket.close(1013)
            return
        with self._places.taken(token):
            await socket.accept()
            viewer = _Viewer(socket, self, sessions)
            self._wakes.add(viewer.wake)
            try:
                await viewer.run()
            finally:
                self._wakes.discard(viewer.wake)

    def _tell_watched(self, now_s: float) -> None:
        watched = tuple(id_ for id_, one in self._streams.items() if one.is_watched(now_s))
        if watched != self._watched:
            self._watched = watched
            self._watch(watched)

    def _arrived(self, one: _Stream) -> None:
        picture = one.receiver.receive()
        if picture is None:
            return
        one.note(picture)
        view = one.views[picture.size]
        view.held, view.asked_s = Arrived.now(picture), None
        if one.detections and max(one.detections) >= picture.frame:
            self._show(view)
        else:
            assert self._loop is not None
            self._loop.call_later(one.hold_s, self._show_if_held, view, view.held)

    def _show_if_held(self, view: _View, picture: Arrived) -> None:
        if view.held is picture:
            self._show(view)

    def _show(self, view: _View) -> None:
        view.picture, view.held, view.is_wanted, view.shown_s = view.held, None, False, time.monotonic()
        for wake in self._wakes:
            wake.set()


class _Viewer:
    def __init__(self, socket: WebSocket, hub: PictureHub, sessions: Sessions) -> None:
        self.wake: Final = asyncio.Event()
        """Set by a request and by a picture."""
        self._socket: Final = socket
        self._hub: Final = hub
        self._sessions: Final = sessions
        self._wants: Final[dict[str, Request]] = {}
        """By stream that the page waits for."""

    async def run(self) -> None:
        tasks = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._write())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(RuntimeError, OSError, WebSocketDisconnect):  # it may be closed already
            await self._socket.close(1008)

    async def _read(self) -> None:
        """Read requests: a stream's id, the number of the frame that the page has, or 0, and the name of a size."""
        with suppress(WebSocketDisconnect, KeyError):  # KeyError: a message without text
            while True:
                text = await self._socket.receive_text()
                stream, _, rest = text[:_LONGEST_REQUEST].partition(" ")
                request = request_of(rest)
                if request is None or not self._hub.has(stream):
                    return
                if not self._may_look():
                    return
                self._wants[stream] = request
                self.wake.set()

    async def _write(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError, OSError):
            while self._may_look():
                self.wake.clear()
                for stream, request in list(self._wants.items()):
                    message = self._hub.answer(stream, request)
                    if message is not None:
                        del self._wants[stream]
                        await self._socket.send_bytes(message)
                with suppress(TimeoutError, asyncio.TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), _LOOK_AGAIN_S)

    def _may_look(self) -> bool:
        try:
            return self._sessions.user_of(token_of(self._socket)) is not None
        except RefusedError:
            return False


def request_of(text: str) -> Request | None:
    """Read a page's request, such as "17 medium"; None where it is not understood."""
    frame, _, size = text.partition(" ")
    if not (frame.isascii() and frame.isdigit()) or size.upper() not in Size.__members__:
        return None
    return Request(int(frame), Size[size.upper()], time.monotonic())


class _Numbered(msgspec.Struct):
    frame: int


def _message(stream: str, one: _Stream, arrived: Arrived, waited_s: float) -> bytes:
    """Return the length of a JSON header (4 bytes, big-endian), the header, and the JPEG file."""
    picture = arrived.picture
    oldest = picture.frame - (int(_BOX_AGE_S / one.period_s) if one.period_s > 0 else 0)
    fitting = [frame for frame in one.detections if oldest <= frame <= picture.frame]
    header: dict[str, Any] = {
        "stream": stream,
        "frame": picture.frame,
        "age_ms": round(arrived.age_s * 1000, 1),
        "waited_ms": round(waited_s * 1000, 1),
        "detections": msgspec.Raw(one.detections[max(fitting)]) if fitting else None,
    }
    head = msgspec.json.encode(header)
    return len(head).to_bytes(4, "big") + head + picture.jpeg
