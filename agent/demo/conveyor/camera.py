"""Network camera above the demo's conveyor: MJPEG over HTTP on loopback."""

from __future__ import annotations

import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import cv2

from agent.demo.conveyor.products import PRODUCTS
from agent.demo.conveyor.scene import Conveyor

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from agent.demo.conveyor.paint import Pixels

_log = logging.getLogger(__name__)
_BOUNDARY: Final = "frame"
_JPEG_QUALITY: Final = 85
_STOP_DEADLINE_S: Final = 5.0
_SEND_DEADLINE_S: Final = 2.0


class ConveyorCamera:
    """Server of the rendered conveyor at `url` for any number of viewers.

    One thread renders at `fps` for all viewers and keeps only the newest picture; a slow viewer skips some. `start` and
    `stop` belong to one thread; any thread may call `set_product`.
    """

    def __init__(  # noqa: PLR0913 - each is a property of the camera, and all but one are by name
        self,
        product: str | None = None,
        *,
        seed: int = 1,
        fps: float = 15.0,
        width: int = 640,
        height: int = 480,
        port: int = 0,
    ) -> None:
        self._seed, self._fps, self._size, self._port = seed, fps, (width, height), port
        self._product = product
        self._conveyors: dict[str | None, Conveyor] = {}
        self._server: _Server | None = None
        self._threads: list[threading.Thread] = []
        self._newest = _NewestPicture()

    @property
    def url(self) -> str:
        """Address such as `http://127.0.0.1:40123/line.mjpg`, valid once started."""
        if self._server is None:
            raise RuntimeError("the camera is not started: call start() first")
        return f"http://127.0.0.1:{self._server.server_port}/line.mjpg"

    @property
    def product(self) -> str | None:
        """Product on the belt; None while the belt is empty."""
        return self._product

    @property
    def skipped(self) -> int:
        """Number of pictures that viewers were too slow for, summed over all viewers."""
        return self._newest.skipped

    def set_product(self, product: str | None) -> None:
        """Change the product on the belt, from the next picture on. Raises KeyError for an unknown one."""
        if product is not None and product not in PRODUCTS:
            raise KeyError(f"the demo line does not make {product!r}: it makes {', '.join(PRODUCTS)}")
        self._product = product

    def start(self) -> None:
        """Paint all parts, open the port and start rendering. Raises OSError where the port is taken."""
        self._conveyors = {code: Conveyor(code, self._seed, *self._size) for code in (None, *PRODUCTS)}
        self._newest = _NewestPicture()
        self._server = _Server(self._port, self._newest)
        render = threading.Thread(target=self._render, name="conveyor-render")
        serve = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="conveyor-http")
        self._threads = [render, serve]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the port and end every thread; idempotent."""
        if self._server is None:
            return
        self._newest.close()
        self._server.shutdown()
        for thread in self._threads:
            thread.join(_STOP_DEADLINE_S)
        # Joins the viewers' threads, which ended because the newest picture is closed.
        self._server.server_close()
        self._server = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _render(self) -> None:
        began = time.monotonic()
        number = 0
        while not self._newest.closed:
            picture, _ = self._conveyors[self._product].render(number / self._fps)
            self._newest.put(as_jpeg(picture))
            # Skips late frames, because the belt must keep its speed on a busy machine.
            number = max(number + 1, int((time.monotonic() - began) * self._fps))
            self._newest.wait_closed(began + number / self._fps - time.monotonic())


class _NewestPicture:
    """Newest picture with its number, counted from 1, for viewers that wait; thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._end = threading.Event()
        self._picture, self._number, self._skipped = b"", 0, 0

    @property
    def closed(self) -> bool:
        return self._end.is_set()

    @property
    def skipped(self) -> int:
        with self._changed:
            return self._skipped

    def wait_closed(self, timeout_s: float) -> None:
        self._end.wait(max(0.0, timeout_s))

    def put(self, picture: bytes) -> None:
        with self._changed:
            self._picture, self._number = picture, self._number + 1
            self._changed.notify_all()

    def close(self) -> None:
        self._end.set()
        with self._changed:
            self._changed.notify_all()

    def after(self, number: int) -> tuple[int, bytes] | None:
        """Wait for a picture with a greater number; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._number > number)
            if self.closed:
                return None
            if number:
                self._skipped += self._number - number - 1
            return self._number, self._picture


class _Server(ThreadingHTTPServer):
    # Not daemons, because closing the server must join its viewers' threads.
    daemon_threads = False
    block_on_close = True

    def __init__(self, port: int, newest: _NewestPicture) -> None:
        super().__init__(("127.0.0.1", port), _Viewer)
        self.newest = newest


class _Viewer(BaseHTTPRequestHandler):
    # Limited, because `stop` waits for each viewer.
    timeout = _SEND_DEADLINE_S
    server: _Server

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        number = 0
        try:
            while (newer := self.server.newest.after(number)) is not None:
                number, picture = newer
                self._part(picture)
        except (OSError, TimeoutError) as error:
            _log.debug("event=viewer_left viewer=%s detail=%r", self.client_address, str(error))

    def _part(self, picture: bytes) -> None:
        head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        self.wfile.write(head.encode() + picture + b"\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives
        _log.debug("event=http viewer=%s detail=%r", self.client_address, format % args)


def as_jpeg(picture: Pixels) -> bytes:
    """Return an encoded frame."""
    good, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert good, "a uint8 picture always encodes"
    return data.tobytes()
