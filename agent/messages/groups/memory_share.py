"""Messages by which control lends the memory of one group's budget to another, and takes it back."""

from agent.messages.children import MemoryLimit, Message


class ShareAsked(Message, frozen=True):
    """A worker's request for a limit of at least `limit` before a load; answered once by Share of the same `number`."""

    number: int
    limit: MemoryLimit
    is_requested: bool
    """A line waits for the load; False: it is a guess, for which no other group unloads anything."""


class Share(Message, frozen=True):
    """The new limit on the memory of a worker's models: the answer to ShareAsked, with what there is."""

    number: int
    limit: MemoryLimit


class ShareRecalled(Message, frozen=True):
    """Asks a worker to lower its limit to `limit`, or as near to it as its loaded models allow.

    With `evict` it first unloads models that nobody uses. It answers once by ShareHeld of the same `number`.
    """

    number: int
    limit: MemoryLimit
    evict: bool


class ShareHeld(Message, frozen=True):
    """The limit that a worker keeps to from now on, after ShareRecalled."""

    number: int
    limit: MemoryLimit
