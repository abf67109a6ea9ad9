"""Camera processes of all streams, with their frame slots and status."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agent import isolated
from agent.messages.children import (
    CameraEnded,
    CameraFailed,
    CameraMessage,
    CameraOpened,
    CameraSetup,
    Log,
    Message,
)
from agent.messages.events import ChildLost
from agent.messages.payloads import StreamStatus
from agent.messages.texts.camera_names import is_live
from agent.processes.slots.frame_slot import FrameSlot, SlotCounters
from agent.processes.slots.picture_link import PictureLink
from agent.processes.supervisor import ChildSpec, Supervisor
from agent.settings import StreamSettings, WebSettings

_log: Final = logging.getLogger(__name__)
_CAMERA_MODULE: Final = "agent.capture.camera_process"
_BEAT_DEADLINE_S: Final = 1.5
_DRIVER_MARGIN_S: Final = 8.0
"""A driver that ignores its timeouts is killed with its process this much later."""
_TRIGGERED_READ_S: Final = 60.0
"""A triggered camera is reconnected after this long without a frame."""
_STALL_MARGIN_S: Final = 0.3
"""A stall is reported this much early, so that it reaches the broker within `stall_s`."""
ENDED: Final = "the file or folder came to its end; `loop = true` in its [[stream]] plays it again and again"
_PERIODS_ALLOWED: Final = 1.25
"""Frame periods before a stall: a stream of one frame in 5 s has not stalled after 3 s."""


@dataclass
class _Stream:
    settings: StreamSettings
    slot: FrameSlot
    status: StreamStatus = "offline"
    opened_ns: int = 0
    ended: bool = False
    detail: str = ""
    decoder: str = ""
    is_scaled: bool = False
    child: str = field(init=False)

    def __post_init__(self) -> None:
        self.child = f"camera {self.settings.id}"

    @property
    def period_s(self) -> float:
        return 1 / self.settings.fps if self.settings.fps else 0.0

    @property
    def read_s(self) -> float:
        if self.settings.stall_s == 0:
            return _TRIGGERED_READ_S
        return max(self.settings.stall_s, _PERIODS_ALLOWED * self.period_s)

    @property
    def waits_for_reader(self) -> bool:
        return self.settings.fps == 0 and not is_live(self.settings.source)


class Cameras:
    """Owner of frame slots and camera processes; calls `on_change(stream, status, detail)` on the loop's thread."""

    def __init__(
        self,
        settings: tuple[StreamSettings, ...],
        supervisor: Supervisor,
        on_change: Callable[[str, StreamStatus, str], None],
        model_side: int = 0,
        web: WebSettings | None = None,
    ) -> None:
        """Create a frame slot for each stream, and a picture link where `web` serves a console.

        `model_side` is the largest model's input side in pixels, 0: unknown.
        """
        self._supervisor: Final = supervisor
        self._on_change: Final = on_change
        self._streams: Final = {one.id: _Stream(one, FrameSlot.create(one.id)) for one in settings}
        self._pictures: Final = {one.id: PictureLink() for one in settings if web and web.has_console}
        self._model_side = model_side
        self._by_child: Final = {stream.child: stream for stream in self._streams.values()}

    def start(self) -> None:
        """Start one camera process for each stream."""
        for stream in self._streams.values():
            self._supervisor.start(self._spec(stream))

    def owns(self, child: str) -> bool:
        """Return True where `child` is a camera process."""
        return child in self._by_child

    def of(self, child: str) -> str:
        """Return the id of the stream that a camera process serves."""
        return self._by_child[child].settings.id

    def slots(self) -> dict[str, FrameSlot]:
        """Return the frame slot of each stream, for the worker."""
        return {id_: stream.slot for id_, stream in self._streams.items()}

    def picture_ends(self) -> dict[str, int]:
        """Return the web process's descriptor of each stream's picture link; empty where nobody may look."""
        return {id_: link.web_end for id_, link in self._pictures.items()}

    def counters(self) -> dict[str, SlotCounters]:
        """Return the slot counters of each stream."""
        return {id_: stream.slot.counters() for id_, stream in self._streams.items()}

    def decoders(self) -> dict[str, str]:
        """Return the decoder of each network stream, as of its last opening; empty for others."""
        return {id_: stream.decoder for id_, stream in self._streams.items()}

    def children(self) -> dict[str, str]:
        """Return the name of each stream's camera process."""
        return {id_: stream.child for id_, stream in self._streams.items()}

    def take(self, child: str, message: CameraMessage | ChildLost | Message) -> None:
        """Handle a message from a camera process, or its loss."""
        stream = self._by_child[child]
        match message:
            case Log():
                _log.warning("event=camera_warned stream=%s detail=%r", stream.settings.id, message.text)
            case CameraOpened():
                stream.opened_ns, stream.detail = time.monotonic_ns(), message.detail
                self._note_decoder(stream, message)
            case CameraFailed():
                _log.warning("event=camera_failed stream=%s detail=%r", stream.settings.id, message.detail)
                self._set(stream, "stalled" if stream.status == "online" else "offline", message.detail, news=True)
                stream.opened_ns = 0
            case CameraEnded():
                stream.ended = True
                self._set(stream, "ended", ENDED)
            case ChildLost():
                stream.opened_ns, stream.ended = 0, False
                if stream.status != "stalled":
                    self._set(stream, "offline", message.detail)

    def tick(self) -> None:
        """Update the status of streams, and restart the process of a stalled camera."""
        for stream in self._streams.values():
            if not stream.opened_ns or stream.ended:
                continue
            counters = stream.slot.counters()
            if self._is_late(stream, counters):
                self._set(stream, "stalled", f"no frame for {stream.settings.stall_s:g} s")
                self._supervisor.restart(stream.child, "the camera stalled")
            elif counters.last_offered_ns > stream.opened_ns or stream.settings.stall_s == 0:
                self._set(stream, "online", stream.detail)

    def close(self) -> None:
        """Close the slots; the supervisor ends the processes."""
        for stream in self._streams.values():
            stream.slot.close()
        for link in self._pictures.values():
            link.close()

    def _note_decoder(self, stream: _Stream, opened: CameraOpened) -> None:
        if opened.decoder != stream.decoder:
            _log.info("event=camera_decoder stream=%s decoder=%r", stream.settings.id, opened.decoder)
        stream.decoder, stream.is_scaled = opened.decoder, opened.is_scaled

    def _is_late(self, stream: _Stream, counters: SlotCounters) -> bool:
        if stream.settings.stall_s == 0:
            return False
        waiting = counters.offered - counters.overwritten - counters.taken
        if waiting and stream.waits_for_reader:
            return False
        stall_s = stream.settings.stall_s
        allowed_s = max(stall_s - _STALL_MARGIN_S, stall_s / 2, _PERIODS_ALLOWED * stream.period_s)
        seen_ns = max(counters.last_offered_ns, stream.opened_ns)
        return time.monotonic_ns() - seen_ns > allowed_s * 1e9

    def _set(self, stream: _Stream, status: StreamStatus, detail: str, *, news: bool = False) -> None:
        """Record a stream's status and detail; report them where the status changed, or with `news`."""
        stream.detail = detail
        if news or status != stream.status:
            stream.status = status
            self._on_change(stream.settings.id, status, detail)

    def models_changed(self, model_side: int) -> None:
        """Restart cameras that scale frames in hardware where `model_side`, in pixels, has grown or is unknown (0)."""
        before, self._model_side = self._model_side, model_side
        if before and (not model_side or model_side > before):
            for stream in self._streams.values():
                if stream.is_scaled:
                    self._supervisor.restart(stream.child, "a larger model came")

    def _spec(self, stream: _Stream) -> ChildSpec:
        slot = stream.slot.descriptors()
        settings = stream.settings
        link = self._pictures.get(settings.id)
        pictures = link.camera_end if link is not None else None

        def setup() -> CameraSetup:
            return CameraSetup(
                stream=settings.id,
                source=settings.source,
                fps=settings.fps,
                loop=settings.loop,
                wait_for_reader=stream.waits_for_reader,
                slot=slot,
                triggered=settings.stall_s == 0 and is_live(settings.source),
                open_s=settings.open_s,
                read_s=stream.read_s,
                ca_file=str(settings.ca_file) if settings.ca_file else None,
                hwdec=settings.hwdec == "auto",
                model_side=self._model_side,
                pictures=pictures,
            )

        return ChildSpec(
            name=stream.child,
            command=tuple(isolated.command(_CAMERA_MODULE)),
            incoming=CameraMessage,
            setup=setup,
            descriptors=(slot.memory, slot.offered, slot.taken, *(() if pictures is None else (pictures,))),
            beat_deadline_s=_BEAT_DEADLINE_S,
            busy_deadline_s=max(settings.open_s, stream.read_s) + _DRIVER_MARGIN_S,
        )
