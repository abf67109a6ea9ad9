"""A camera in the network that can stop sending, as one does whose cable was pulled: the connection stays."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

_INTERVAL_S = 0.05


class Camera:
    """`url` streams what was shown last while `is_sending` is set."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/stream.mjpg"
        self.is_sending = threading.Event()
        self.is_sending.set()
        self.show(128, 96)

    def show(self, width: int, height: int) -> None:
        """Send pictures of this size from now on."""
        self.frame = cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


@contextmanager
def network_camera(interval_s: float = _INTERVAL_S) -> Iterator[Camera]:
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            while not done.is_set():
                if camera.is_sending.is_set():
                    frame = camera.frame
                    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(frame)
                    try:
                        self.wfile.write(head + frame + b"\r\n")
                    except OSError:
                        return
                done.wait(interval_s)

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    camera = Camera(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield camera
    finally:
        done.set()
        server.shutdown()
        server.server_close()
        thread.join()
