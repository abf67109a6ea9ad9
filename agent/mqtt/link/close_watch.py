"""Alerts of connections that the broker closes or refuses. All times are of time.monotonic."""

from typing import Final

from agent.mqtt.access.denials import Denials
from agent.mqtt.access.overflows import Overflow
from agent.mqtt.alert_latch import BROKER_REFUSED, MESSAGE_TOO_LARGE, QUIET_S, AlertLatch
from agent.mqtt.endpoint.connect_errors import CERTIFICATE_REFUSED, is_refused_certificate, login_advice
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.mqtt.link.connection import Connection
from agent.mqtt.link.connection_state import Cause

_SHORT_LIVES: Final = 2
"""Number of short connections in a row that raises an alert, because a single one may be a broker's restart."""
_SILENT_CLOSES: Final = 4
"""Number of connects in a row without a CONNACK that raises an alert: each MQTT version was tried twice."""


class CloseWatch:
    """Owner of the alerts `broker_refused` and `message_too_large`, for one thread."""

    def __init__(self, settings: LinkSettings, notices: AlertLatch, denials: Denials) -> None:
        self._settings: Final = settings
        self._notices: Final = notices
        self._denials: Final = denials
        self._short_lives = 0
        self._closed_on_connect = 0
        self._is_closing = False
        self._too_large_s: float | None = None

    def unreachable(self, detail: str, *, is_refusal: bool) -> None:
        """Record a failed connect attempt."""
        self._short_lives = 0
        if is_refusal:
            self._notices.on(BROKER_REFUSED, detail)

    def accepted(self) -> None:
        """Record that the broker accepted a connection."""
        self._closed_on_connect = 0
        if not self._is_closing:
            self._notices.off(BROKER_REFUSED)

    def held(self) -> None:
        """Record that the agent disconnected on purpose."""
        self._short_lives = 0

    def ended(self, connection: Connection) -> str:
        """Record the cause of a connection's end; return its description for people."""
        life = connection.life
        detail, is_refusal = life.detail, life.cause is Cause.REFUSED
        if is_refusal:
            detail += login_advice(detail, self._settings.username, self._settings.password_file)
        if self._settings.tls is not None and not life.was_answered and is_refused_certificate(detail):
            detail, is_refusal = CERTIFICATE_REFUSED, True
        if not life.was_accepted:
            self._closed_on_connect += life.cause is Cause.UNEXPLAINED
            if self._closed_on_connect >= _SILENT_CLOSES and not is_refusal:
                told = self._settings.will
                will = f", will on {told.topic} at QoS 1, retained" if told is not None else ""
                what = f"CONNECT (client id {self._settings.client_id}{will})"
                detail, is_refusal = f"the broker closes the connection on {what}: {detail}", True
        if is_refusal:
            # refused after its CONNACK: the next CONNACK proves nothing
            self._is_closing = self._is_closing or life.was_accepted
            self._notices.on(BROKER_REFUSED, detail)
        return detail

    def lost(self, connection: Connection, now_s: float, *, is_steady: bool) -> bool:
        """Record the loss of an established connection; return True where one of its packets is no longer sent."""
        cause = connection.life.cause
        is_closed = cause in {Cause.UNEXPLAINED, Cause.NOT_NOW}
        self._short_lives = self._short_lives + 1 if is_closed and not is_steady else 0
        return is_closed and self._look_for_denials(connection, now_s)

    def overflowed(self, overflow: Overflow, detail: str, now_s: float) -> None:
        """Record a received message that ended the connection, because it was too large."""
        is_left_out = self._denials.overflows.came(overflow, now_s)
        end = "; it comes again and again, so its topic is left out for a while" if is_left_out else ""
        self.too_large(f"a message to this device: {detail}{end}", now_s, renew=is_left_out)

    def too_large(self, detail: str, now_s: float, *, renew: bool = False) -> None:
        """Record a too large message, sent or received."""
        self._too_large_s = now_s
        self._notices.on(MESSAGE_TOO_LARGE, detail, renew=renew)

    def tick(self, up_since_s: float, now_s: float) -> None:
        """End the alert of a too large message once a later connection has lasted 30 s; call it while connected."""
        is_over = self._too_large_s is not None and self._too_large_s < up_since_s < now_s - QUIET_S
        if is_over and not self._denials.overflows.left_out(now_s):
            self._too_large_s = None
            self._notices.off(MESSAGE_TOO_LARGE)

    def steady(self, now_s: float) -> None:
        """Record that the connection has lasted for some time."""
        self._denials.steady(now_s)
        if self._is_closing and self._denials.detail is None:
            self._is_closing = False
            self._notices.off(BROKER_REFUSED)

    def _look_for_denials(self, connection: Connection, now_s: float) -> bool:
        """Find the packet that the broker closed on, and raise the alert; return True where it is no longer sent."""
        unanswered = connection.unanswered
        # a limit for the moment says nothing about the packet that met it
        is_found = connection.life.cause is Cause.UNEXPLAINED and self._denials.closed(unanswered, now_s)
        if not is_found and self._short_lives < _SHORT_LIVES:
            return False
        last = ", ".join(dict.fromkeys(one.packet for one in unanswered[-5:])) or "nothing that it did not answer"
        self._is_closing = True
        detail = self._denials.detail
        self._notices.on(
            BROKER_REFUSED,
            detail or f"the broker closes the connection soon ({connection.life.detail}); sent last: {last}",
            renew=detail is not None,
        )
        return is_found
