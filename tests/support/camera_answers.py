"""A network camera that gives scripted answers: to be told apart by what it says, not by whether it works."""

import socket
import ssl
import threading
from contextlib import suppress


class Answering:
    """A server that gives one scripted answer to whatever is asked, with the request's CSeq; with `tls`, encrypted."""

    def __init__(self, answers: dict[str, str], tls: ssl.SSLContext | None = None) -> None:
        self._answers = answers
        self._tls = tls
        self._server = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            peer.settimeout(5)
            with suppress(OSError), peer if self._tls is None else self._tls.wrap_socket(peer, server_side=True) as one:
                self._answer(one)

    def _answer(self, peer: socket.socket) -> None:
        try:
            while request := peer.recv(4096).decode("latin-1"):
                sequence = next((line for line in request.split("\r\n") if line.lower().startswith("cseq")), "X: y")
                method = (request.split() or ["?"])[0]
                answer = self._answers.get(method, self._answers["*"])
                peer.sendall(answer.replace("CSEQ", sequence).encode())
                if method == "GET":
                    return
        except OSError:
            return

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


def rtsp_answer(status: str, headers: str = "", body: str = "") -> str:
    """Return an RTSP answer, whose CSEQ becomes the request's own."""
    return f"RTSP/1.0 {status}\r\nCSEQ\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}"


SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:t1\r\n"
DESCRIBED = rtsp_answer("200 OK", "Content-Type: application/sdp\r\n", SDP)
OPTIONS = rtsp_answer("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n")
PAGE = "<html><body>Log in</body></html>"
