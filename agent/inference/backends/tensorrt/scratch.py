"""The block of GPU memory that all engines of a GPU compute in, one after another."""

import threading
from typing import Final

from agent.inference.cuda.device import Device
from agent.messages.errors import OutOfMemoryError

OWNER: Final = "tensorrt"
"""Owner of the block in the pool's count of bytes, because the block belongs to no model."""


class Scratch:
    """One block, as large as the largest need of the engines that are loaded.

    An engine that infers holds `turn`, so the block moves between two inferences only. Threading: any thread.
    """

    def __init__(self, device: Device) -> None:
        self.turn: Final = threading.Lock()
        """Held for each inference, and while the block moves."""
        self.address = 0
        self.size_bytes = 0
        self.moves = 0
        """Number of moves; whoever captured the address before the last one has to do so again."""
        self._device: Final = device
        self._needs_bytes: Final[dict[object, int]] = {}

    def join(self, user: object, needed_bytes: int) -> None:
        """Enlarge the block to what `user` needs.

        Raises OutOfMemoryError where memory is lacking; the block then stays as it is.
        """
        with self.turn:
            if needed_bytes > self.size_bytes:
                self._move(needed_bytes)
            self._needs_bytes[user] = needed_bytes

    def leave(self, user: object) -> None:
        """Reduce the block to what the others need; it stays where there is no memory to move it."""
        with self.turn:
            self._needs_bytes.pop(user, None)
            needed_bytes = max(self._needs_bytes.values(), default=0)
            if needed_bytes < self.size_bytes:
                try:
                    self._move(needed_bytes)
                except OutOfMemoryError:
                    return

    def _move(self, size_bytes: int) -> None:
        """Allocate the new block before the old one is freed, so that a refusal harms no engine."""
        address = self._device.pool.allocate(size_bytes, OWNER)
        old, self.address, self.size_bytes = self.address, address, size_bytes
        self.moves += 1
        self._device.pool.free(old)


class Scratches:
    """The scratch block of each GPU of this process. Threading: any thread."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._made: Final[dict[Device, Scratch]] = {}

    def of(self, device: Device) -> Scratch:
        """Return the scratch block of a GPU."""
        with self._lock:
            return self._made.setdefault(device, Scratch(device))


SCRATCHES: Final = Scratches()
"""The only instance of this process, because its GPUs belong to the whole process."""
