"""Choice of the MQTT version for the next connect attempt."""

from typing import Final

from agent.mqtt.endpoint.link_settings import ProtocolSetting, ProtocolVersion

_PROOFS: Final = 2


class ProtocolChoice:
    """MQTT version for connects; `auto` tries 5 first, then 3.1.1 where a broker refuses, closes or stays silent.

    An outright refusal is remembered. Silence may be a broker going down, so 5 is tried again after that connection,
    unless 3.1.1 was accepted twice in a row.
    """

    def __init__(self, setting: ProtocolSetting) -> None:
        self.current: ProtocolVersion = "5" if setting == "auto" else setting
        self._auto: Final = setting == "auto"
        self._refused_outright = False
        self._proofs = 0

    def accepted(self) -> None:
        """Record that a broker accepted the current version."""
        self._proofs = self._proofs + 1 if self.current == "3.1.1" else 0

    def failed(self, *, unsupported: bool, answered: bool) -> bool:
        """Record a failed attempt; return True where the other version should be tried at once."""
        if not self._auto or (answered and not unsupported):
            return False
        self._refused_outright = unsupported
        self.current = "3.1.1" if self.current == "5" else "5"
        return self.current == "3.1.1"

    def lost(self) -> None:
        """Record the loss of an established connection."""
        if self._auto and not self._refused_outright and self._proofs < _PROOFS:
            self.current = "5"
