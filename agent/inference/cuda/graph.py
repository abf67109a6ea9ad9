"""A captured graph: work of one stream that is enqueued by one call."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from agent.inference.cuda.driver import Driver
from agent.inference.cuda.errors import CudaError


class Graph:
    """Work that was captured once; addresses in it are those of the capture. Threading: one thread at a time."""

    def __init__(self, driver: Driver, executable: int) -> None:
        self._driver: Final = driver
        self._executable = executable

    @classmethod
    def capture(cls, driver: Driver, stream: int, work: Callable[[], None]) -> "Graph":
        """Capture what `work` enqueues on `stream`; nothing of it is executed.

        Raises CudaError (code 900 to 908 of cuda.h) where the work cannot be captured or was disturbed.
        """
        driver.begin_capture(stream)
        try:
            work()
        except BaseException:
            with suppress(CudaError):  # a capture must end, or the stream stays in it
                driver.destroy_graph(driver.end_capture(stream))
            raise
        graph = driver.end_capture(stream)
        try:
            return cls(driver, driver.instantiate(graph))
        finally:
            driver.destroy_graph(graph)

    def launch(self, stream: int) -> None:
        """Enqueue the work on a stream."""
        self._driver.launch(self._executable, stream)

    def destroy(self) -> None:
        """Free the graph."""
        executable, self._executable = self._executable, 0
        if executable:
            self._driver.destroy_executable(executable)
