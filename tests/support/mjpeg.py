"""A camera in the network that can stop sending, as one does whose cable was pulled: the connection stays."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

_INTERVAL_S = 0.05


class Camera:
    """`url` streams while `is_sending` is set."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/stream.mjpg"
        self.is_sending = threading.Event()
        self.is_sending.set()


@contextmanager
def network_camera() -> Iterator[Camera]:
    done = threading.Event()
    frame = cv2.imencode(".jpg", np.full((96, 128, 3), 90, np.uint8))[1].tobytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(frame)
            while not done.is_set():
                if camera.is_sending.is_set():
                    try:
                        self.wfile.write(head + frame + b"\r\n")
                    except OSError:
                        return
                time.sleep(_INTERVAL_S)

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
