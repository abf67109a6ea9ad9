"""Messages from control to a worker about requests."""

from agent.messages.children import Message
from agent.messages.references import ModelVersion


class HoldModel(Message, frozen=True):
    """Load `model` where memory is free, after all that lines want, and keep it for requests for `hold_s` seconds.

    The web process asked for it (AskModel) and gets the answer: Held or NotHeld of the same `number`.
    """

    number: int
    model: ModelVersion
    hold_s: float
