import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.rtsp_camera import SERVER, SYSTEM_PYTHON

STEP = 20  # between the grey values of neighbouring frames, well above what JPEG changes


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes a video whose n-th frame is filled with `20 * n`."""

    def make(name: str = "video.avi", frames: int = 10, width: int = 64, height: int = 48) -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 15, (width, height))
        for number in range(frames):
            writer.write(np.full((height, width, 3), STEP * number % 256, np.uint8))
        writer.release()
        return path

    return make


@pytest.fixture
def make_picture(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes a picture filled with one value."""

    def make(name: str, value: int, width: int = 64, height: int = 48) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))
        return path

    return make


@pytest.fixture
def stall() -> Iterator[threading.Event]:
    """Give the switch that makes `stream_url` fall silent with its connections open."""
    event = threading.Event()
    yield event
    event.clear()


@pytest.fixture
def stream_url(stall: threading.Event) -> Iterator[str]:
    """Serve an endless MJPEG stream over HTTP, its n-th frame filled with `20 * n`; give its URL, with a password."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            number = 0
            while not over.wait(0.02):
                if stall.is_set():
                    continue
                picture = cv2.imencode(".jpg", np.full((48, 64, 3), STEP * number % 256, np.uint8))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + picture + b"\r\n")
                except OSError:
                    return
                number += 1

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://user:secret@127.0.0.1:{server.server_port}/video?token=hidden"
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def rtsp() -> Iterator[Callable[..., str]]:
    """Give a function that starts an RTSP camera and returns its HOST:PORT."""
    with ExitStack() as running:

        def start(mode: str, *credentials: str) -> str:
            process = subprocess.Popen(
                [SYSTEM_PYTHON, str(SERVER), mode, *credentials], stdout=subprocess.PIPE, text=True
            )
            running.enter_context(process)
            running.callback(process.kill)
            assert process.stdout is not None
            return f"127.0.0.1:{int(process.stdout.readline())}"

        yield start
