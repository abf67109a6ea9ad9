"""State of one line, computed from its messages."""

from typing import Final, get_args

import msgspec

from agent.messages.payloads import Cause, LineState, NextChange, Overrode, Phase
from agent.watch.board.rows import LineRow
from agent.watch.board.topic_message import TopicMessage, one_of, plain


class LineFold:
    """Retained topics and heartbeat of one line; for one thread."""

    def __init__(self, line: str, now_s: float) -> None:
        self._line: Final = line
        self._words: Final[dict[str, str | None]] = {}
        self._state: LineState | None = None
        self._live: str | None = None
        self._live_at_s = now_s

    @property
    def is_cleared(self) -> bool:
        """True where all retained topics are empty and no `live` came."""
        return self._state is None and self._live is None and not any(self._words.values())

    def take(self, said: TopicMessage) -> None:
        """Update the state with one message of the topic `line/{line}/{name}`."""
        match said.name:
            case "ready" | "model/state":
                self._words[said.name] = plain(said.payload)
            case "phase":
                self._words["phase"] = one_of(get_args(Phase), said.payload)
            case "live" if not said.retained:  # a retained `live` says nothing of now
                self._live, self._live_at_s = plain(said.payload), said.at_s
            case "state":
                self._state = msgspec.json.decode(said.payload, type=LineState) if said.payload else None

    def row(self, now_s: float) -> LineRow:
        """Return the row as of `now_s`."""
        state = self._state
        return LineRow(
            line=self._line,
            product=state.product if state else None,
            model=self._words.get("model/state") or (state.model if state else None),
            wanted=state.wanted if state else None,
            phase=self._words.get("phase"),
            cause=_in_words(state.cause) if state else None,
            next_change=state.next if state and isinstance(state.next, NextChange) else None,
            ready=self._words.get("ready"),
            live=self._live,
            live_age_s=max(0.0, now_s - self._live_at_s),
        )


def _in_words(cause: Cause) -> str:
    return f"{cause.rule}, not {cause.overrode.rule}" if isinstance(cause.overrode, Overrode) else cause.rule
