"""Progress of one request, computed from a device's messages; pure."""

from typing import Final, TypeVar

import msgspec

from agent.messages.payloads import Ack, Alert, LineState, Meta, Switch
from agent.messages.references import ModelReference
from agent.messages.topics import Topics
from agent.switch.request import Request

_REPORTS: Final = {"done": {"switched"}, "failed": {"failed", "superseded"}, "rejected": {"rejected"}}
"""Results that the request's changeover report may have, by the result of the final answer."""
_LONGEST: Final = 512
_Payload = TypeVar("_Payload")


class Progress:
    """State of one line as far as it concerns `request`; for one thread.

    Messages must come in their order of arrival; unreadable ones are ignored.
    """

    def __init__(self, topics: Topics, request: Request) -> None:
        self.sent = False
        """True once the request is published; set by the caller."""
        self.status: str | None = None
        self.ready: str | None = None
        self.phase: str | None = None
        self.model: str | None = None
        self.ack: Ack | None = None
        self.report: Switch | None = None
        self._topics: Final = topics
        self._request: Final = request
        self._line: Final = f"{topics.base}/line/{request.line}/"
        self._streams: Final = f"{topics.base}/stream/"
        self._stream_status: Final[dict[str, str | None]] = {}
        self._meta: Meta | None = None
        self._alerts: list[Alert] = []
        self._is_noted = False

    def topics(self) -> list[str]:
        """Return the topics to subscribe to."""
        device = [self._topics.status, *(self._topics.of_device(name) for name in ("meta", "ack", "alerts"))]
        names = ("ready", "phase", "model/state", "state", "switch")
        return [*device, *(f"{self._line}{name}" for name in names), self._topics.of_stream("+", "status")]

    def take(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Update the state with one message; a retained one describes the state before the request."""
        if topic.startswith(self._line):
            self._take_line(topic.removeprefix(self._line), payload, is_new=self.sent and not retained)
        elif topic == self._topics.status:
            self.status = _word(payload)
        elif topic == self._topics.of_device("meta"):
            self._meta = _decoded(payload, Meta)
        elif topic == self._topics.of_device("alerts"):
            self._alerts = _decoded(payload, list[Alert]) or []
        elif topic == self._topics.of_device("ack"):
            self._answered(_decoded(payload, Ack))
        elif topic.startswith(self._streams):
            self._stream_status[topic.removeprefix(self._streams).partition("/")[0]] = _word(payload)

    @property
    def is_settled(self) -> bool:
        """True where the request was refused or failed, or the line has reached the requested state."""
        if self.ack is None:
            return False
        if self.ack.result in _REPORTS and self.ack.result != "done":
            return True
        return self.is_reached or self.is_overridden

    @property
    def is_reached(self) -> bool:
        """True where the device answered positively and the line is in the requested state."""
        if self.ack is None or self.ack.result not in {"done", "noop"}:
            return False
        if not self._request.is_model:
            return self.ready == self._request.text
        return self._request.gives_back or self._serves_model()

    @property
    def is_overridden(self) -> bool:
        """True where the product was accepted, but an operator's choice of another model keeps `ready` at 0."""
        is_behind = self.ack is not None and self.ack.reason == "overridden" and self._is_noted
        return is_behind and not self.is_reached

    @property
    def lines(self) -> list[str] | None:
        """The device's lines; None before its `meta` came."""
        return self._meta.lines if self._meta is not None else None

    def troubles(self) -> list[str]:
        """Return possible reasons why the line is not ready: streams that are not online, and alerts."""
        streams = [one.id for one in self._meta.streams if one.line == self._request.line] if self._meta else []
        said = ((id_, self._stream_status.get(id_)) for id_ in streams)
        away = [f"{id_} {status or 'unknown'}" for id_, status in said if status != "online"]
        alerts = [one for one in self._alerts if one.on and one.stream is None]
        ours = [one for one in alerts if one.line in {None, self._request.line}]
        return away + [f"alert {one.code} {one.detail or ''}".rstrip() for one in ours]

    def _take_line(self, name: str, payload: bytes, *, is_new: bool) -> None:
        match name:
            case "ready":
                self.ready = _word(payload)
            case "phase":
                self.phase = _word(payload)
            case "model/state":
                self.model = _word(payload)
            case "state":
                state = _decoded(payload, LineState)
                # reliable, because `state` comes after `ready` of the same decision
                self._is_noted = state is not None and state.product == self._request.text
            case "switch" if is_new:
                self.report = _decoded(payload, Switch)

    def _answered(self, ack: Ack | None) -> None:
        if ack is None or ack.id != self._request.id or not ack.topic.startswith(self._line):
            return
        self.ack = ack
        if ack.result != "accepted" and not self._is_own(self.report, ack):
            self.report = None

    @staticmethod
    def _is_own(report: Switch | None, ack: Ack) -> bool:
        """Return True where the last report before the answer belongs to this request."""
        return report is not None and report.result in _REPORTS.get(ack.result, ()) and report.reason == ack.reason

    def _serves_model(self) -> bool:
        asked, active = ModelReference.parse(self._request.text), ModelReference.parse(self.model or "")
        # by name, because a cap may lower the variant
        return asked is not None and active is not None and asked.name == active.name


def _word(payload: bytes) -> str | None:
    return payload[:_LONGEST].decode(errors="replace") or None


def _decoded(payload: bytes, kind: type[_Payload]) -> _Payload | None:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
