"""Request for a line, and its topic and payload."""

import uuid
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent.control.decoding.values import decode
from agent.messages.errors import MistakeError
from agent.messages.references import ModelReference
from agent.messages.topics import is_id

GIVE_BACK: Final = "auto"


@dataclass(frozen=True)
class Request:
    """Request of a product for one line, or with `is_model` of a model reference or `auto`."""

    line: str
    text: str
    """Product, model reference or `auto`, normalised as the device reads it."""
    is_model: bool
    id: str = field(default_factory=lambda: f"switch-{uuid.uuid4().hex[:12]}")

    @property
    def name(self) -> str:
        """End of the topic to publish to, behind that of the line: `product/set` or `model/set`."""
        return "model/set" if self.is_model else "product/set"

    @property
    def payload(self) -> bytes:
        """JSON of `text` and `id`; the device's answer repeats the id."""
        return _payload(self.text, self.id)

    @property
    def gives_back(self) -> bool:
        """True for `auto`, which ends an operator's choice of a model instead of naming one."""
        return self.is_model and self.text == GIVE_BACK


def make_request(line: str, text: str, *, is_model: bool, products: frozenset[str] | None) -> Request:
    """Return a valid request; raises MistakeError for an impossible one, and for a model without `--model`.

    `products` are the line's own, because a product may look like a model reference; None where they are unknown.
    """
    if not is_id(line):
        raise MistakeError(f"LINE: found {line!r}, expected 1 to 64 of A-Z a-z 0-9 . _ -")
    value = decode(_payload(text, "-"))
    assert value is not None, "a JSON object is never empty"
    text = value.text
    reference = ModelReference.parse(text)
    if is_model and reference is None:
        raise MistakeError(f"found {text!r}, expected NAME[:VARIANT][@VERSION] or {GIVE_BACK}")
    names_version = reference is not None and (reference.variant or reference.version)
    if not is_model and names_version and text not in (products or ()):
        # refused, because an unknown product would stop the line over a forgotten option
        raise MistakeError(f"{text!r} reads like a model reference: --model asks for a model; nothing was sent")
    return Request(line, text, is_model)


def _payload(text: str, command_id: str) -> bytes:
    return msgspec.json.encode({"value": text, "id": command_id})
