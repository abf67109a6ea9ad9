"""Events in the control process's inbox, other than the messages of its child processes."""

import msgspec

from agent.messages.children import Message


class ChildUp(Message, frozen=True):
    """A child process has started and sent its Hello."""

    child: str


class ChildLost(Message, frozen=True):
    """A child ended: its pipe closed, it exited or was killed."""

    child: str
    detail: str


class ChildHung(Message, frozen=True):
    """A child's heartbeat or present call exceeded its timeout; it is being killed."""

    child: str
    detail: str


class LinkUp(Message, frozen=True):
    """The broker accepted the connection; nothing is subscribed or published yet."""

    protocol: str
    """"5" or "3.1.1"."""


class Listening(Message, frozen=True):
    """The broker answered all subscriptions and returned the agent's ping, so retained states may be published."""

    connection: int
    """Number of the connection, as the link counts them."""


class LinkDown(Message, frozen=True):
    """The connection was lost or an attempt failed; the client retries by itself."""

    detail: str


class LinkTakenOver(Message, frozen=True):
    """Another client with our client id took over our session, as the broker says or its behaviour suggests."""


class LinkTrouble(Message, frozen=True):
    """A message or subscription failed on a working connection."""

    detail: str
    too_large: bool = False
    """The message exceeds the size limit of the broker or of the agent."""


class Noticed(Message, frozen=True):
    """The condition of an alert began (`on`) or ended; `code` is the alert's code."""

    code: str
    on: bool
    detail: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """MQTT 5 response topic of a command, with its correlation data."""

    topic: str
    correlation: bytes | None = None


class Received(Message, frozen=True):
    """A message from the broker, with its topic as received, or a command from the console."""

    topic: str
    payload: bytes
    retained: bool = False
    reply: Reply | None = None
    user: str = ""
    """Name of the user who gave the command in the console; empty for the broker's."""


class StopRequested(Message, frozen=True):
    """SIGTERM or SIGINT; `signal` is its number."""

    signal: int


class ReloadRequested(Message, frozen=True):
    """SIGHUP: the configuration is to be read again."""
