"""Logger of TensorRT's messages, which keeps the last error for our own error messages."""

import logging
from typing import Any, Final

import tensorrt as trt

_LOG: Final = logging.getLogger(__name__)
_LONGEST: Final = 1000
_LEVELS: Final = {
    trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
    trt.ILogger.Severity.ERROR: logging.ERROR,
    trt.ILogger.Severity.WARNING: logging.INFO,
}


class Words(trt.ILogger):  # type: ignore[misc]
    """A logger for TensorRT. Threading: any thread of TensorRT."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.error = ""
        """Text of TensorRT's last error; empty without one."""

    def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401 - TensorRT's own enum
        """Log one message of TensorRT, and keep it where it is an error."""
        level = _LEVELS.get(severity, logging.DEBUG)
        if level == logging.ERROR:
            self.error = msg[:_LONGEST]
        _LOG.log(level, "event=tensorrt words=%r", msg[:_LONGEST])
