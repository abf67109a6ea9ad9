"""Reads a source on a thread of its own, so that a call that never returns costs one thread and no job."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeVar, cast

from agent.supply.errors import SourceError
from agent.supply.transfer.opened import Opened

if TYPE_CHECKING:
    from typing_extensions import Self

_T = TypeVar("_T")
_WAITING: Final = 8
"""Chunks that wait for the disk; a source is not read further meanwhile."""
_LOOK_S: Final = 0.2


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class Pump:
    """Iterates over the bytes of a source; raises what its reading raises, and SourceError where it hangs.

    The thread is a daemon: one that is stuck in the kernel, as on a mount whose server is gone, ends with the process.
    """

    def __init__(self, source: Callable[[], AbstractContextManager[Opened]], stall_s: float) -> None:
        self._source: Final = source
        self._stall_s: Final = stall_s
        self._queue: Final[queue.Queue[Opened | bytes | _End]] = queue.Queue(_WAITING)
        self._is_over: Final = threading.Event()

    def __enter__(self) -> "Self":
        threading.Thread(target=self._read, name="source", daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._is_over.set()

    def head(self) -> Opened:
        """Wait until the source is open, and return what it is."""
        found = self._next()
        assert isinstance(found, Opened), "it is what the thread puts first"
        return found

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the bytes, to the end of the source."""
        while not isinstance(chunk := self._next(), (Opened, _End)):
            yield chunk

    def _next(self) -> Opened | bytes | _End:
        try:
            found = self._queue.get(timeout=self._stall_s)
        except queue.Empty:
            raise SourceError("source_hung", f"the source has sent nothing for {self._stall_s:g} s") from None
        if isinstance(found, _End) and found.error is not None:
            raise found.error
        return found

    def _read(self) -> None:
        try:
            with self._source() as source:
                if not self._put(source):
                    return
                for chunk in source.chunks:
                    if not self._put(chunk):
                        return
        except BaseException as error:  # noqa: BLE001 - raised where the bytes are taken
            self._put(_End(error))
            return
        self._put(_End())

    def _put(self, item: Opened | bytes | _End) -> bool:
        """Hand over an item; False where nobody takes it any more."""
        while not self._is_over.is_set():
            try:
                self._queue.put(item, timeout=_LOOK_S)
            except queue.Full:
                continue
            return True
        return False


def bounded(call: Callable[[], _T], stall_s: float, what: str) -> _T:
    """Return what a call returns, or raise what it raises; raise SourceError where it takes longer than `stall_s`."""
    answers: queue.Queue[tuple[_T | None, BaseException | None]] = queue.Queue(1)

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - raised where the answer is taken
            answers.put((None, error))

    threading.Thread(target=run, name="source", daemon=True).start()
    try:
        answer, error = answers.get(timeout=stall_s)
    except queue.Empty:
        raise SourceError("source_hung", f"{what}: no answer within {stall_s:g} s") from None
    if error is not None:
        raise error
    return cast("_T", answer)
