"""What control's inbox holds beside its children's messages."""

import msgspec

from agent.messages.children import Message


class ChildUp(Message, frozen=True):
    """A child said hello."""

    child: str


class ChildLost(Message, frozen=True):
    """A child is gone (its pipe ended, it exited or was killed); `detail` says how."""

    child: str
    detail: str


class ChildHung(Message, frozen=True):
    """A child's beat, or its one call under way, is older than allowed; it is being killed."""

    child: str
    detail: str


class LinkUp(Message, frozen=True):
    """The broker accepted us; nothing of ours is subscribed or published yet. `protocol` is "5" or "3.1.1"."""

    protocol: str


class Listening(Message, frozen=True):
    """Every subscription is granted or given up, and a ping came back through them: now the truth may be published.

    `connection` is the link's number of the connection that this is about.
    """

    connection: int


class LinkDown(Message, frozen=True):
    """The connection is gone, or an attempt failed; the client tries again by itself."""

    detail: str


class LinkTakenOver(Message, frozen=True):
    """The broker gave our session to another client of the same client id, or seems to have."""


class LinkTrouble(Message, frozen=True):
    """Something could not pass while the connection stands. `too_large`: it is longer than the broker, or we, take."""

    detail: str
    too_large: bool = False


class Noticed(Message, frozen=True):
    """Something that people must know began or ended; control makes an alert of it. `code` is the alert's."""

    code: str
    on: bool
    detail: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """Where an answer is wanted, by MQTT 5's response topic."""

    topic: str
    correlation: bytes | None = None


class Received(Message, frozen=True):
    """A message from the broker, its topic as it was on the wire."""

    topic: str
    payload: bytes
    retained: bool = False
    reply: Reply | None = None


class StopRequested(Message, frozen=True):
    """SIGTERM or SIGINT; `signal` is its number."""

    signal: int


class ReloadRequested(Message, frozen=True):
    """SIGHUP."""
