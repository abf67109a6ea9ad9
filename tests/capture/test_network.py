"""Network cameras of many kinds: RTSP servers, scripted answers, and streams that are slow or change their size."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from support.camera_answers import DESCRIBED, OPTIONS, PAGE, SDP, Answering, rtsp_answer
from support.certificates import Authority
from support.rtsp_camera import needs_rtsp_server
from support.source_frames import frame_of, unexpected

from agent.capture.source import Patience
from agent.capture.sources import create
from agent.messages.errors import TransientError


@needs_rtsp_server
@pytest.mark.parametrize("mode", ["h264", "h265", "mjpeg", "udp", "gop10", "audio"])
def test_an_rtsp_camera_is_read_whatever_it_sends_and_how(mode: str, rtsp: Callable[..., str]) -> None:
    source = create(f"rtsp://{rtsp(mode)}/cam", unexpected, Patience(open_s=60, read_s=60))
    try:
        info = source.open()
        assert (info.width, info.height) == (320, 240)
        for _ in range(3):
            image = frame_of(source)
            assert image.shape == (240, 320, 3)
            assert image.std() > 5  # the ball, not one grey
    finally:
        source.close()


@needs_rtsp_server
@pytest.mark.parametrize("mode", ["basic", "digest"])
def test_an_rtsp_camera_lets_in_who_knows_its_password_and_says_who_does_not(
    mode: str, rtsp: Callable[..., str]
) -> None:
    place = rtsp(mode, "user", "p@s/s#1")
    good = create(f"rtsp://user:p%40s%2Fs%231@{place}/cam", unexpected, Patience(open_s=60, read_s=60))
    assert good.open().width == 320
    good.close()
    for user in ("", "user:hunter2@"):
        with pytest.raises(TransientError, match=r"401 \(Unauthorized\); check user and password") as caught:
            create(f"rtsp://{user}{place}/cam", unexpected).open()
        assert "hunter2" not in str(caught.value)


@needs_rtsp_server
def test_an_rtsp_camera_says_that_the_path_is_wrong(rtsp: Callable[..., str]) -> None:
    with pytest.raises(TransientError, match=r"404 \(Not Found\); check the path"):
        create(f"rtsp://{rtsp('h264')}/nothing", unexpected).open()


@pytest.mark.parametrize(
    ("scheme", "answers", "said"),
    [
        ("rtsp", {"*": rtsp_answer("403 Forbidden"), "OPTIONS": OPTIONS}, "403.*check user and password"),
        ("rtsp", {"*": rtsp_answer("453 Not Enough Bandwidth"), "OPTIONS": OPTIONS}, "453.*another viewer"),
        (
            "rtsp",
            {"*": rtsp_answer("453 Not Enough Bandwidth"), "OPTIONS": OPTIONS, "DESCRIBE": DESCRIBED},
            "453.*another viewer",
        ),
        (
            "rtsp",
            {"*": rtsp_answer("461 Unsupported Transport"), "OPTIONS": OPTIONS, "DESCRIBE": DESCRIBED},
            "neither TCP nor UDP",
        ),
        ("rtsp", {"*": rtsp_answer("500 Internal Server Error"), "OPTIONS": OPTIONS}, "500"),
        ("http", {"*": "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"}, "404.*check the path"),
        ("http", {"*": "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"}, "401.*user and password"),
        (
            "http",
            {"*": "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"},
            "500 Internal.*camera's own",
        ),
        ("http", {"*": "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"}, "503.*another viewer"),
        ("http", {"*": "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"}, "410 Gone"),
        (
            "http",
            {"*": f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n\r\n{PAGE}"},
            "a web page",
        ),
    ],
)
def test_what_a_camera_answers_is_told_in_its_own_words(scheme: str, answers: dict[str, str], said: str) -> None:
    server = Answering(answers)
    try:
        with pytest.raises(TransientError, match=said):
            create(f"{scheme}://{server.place}/cam", unexpected).open()
    finally:
        server.close()


@pytest.mark.parametrize("first_frame", [True, False])
def test_a_coding_that_is_not_known_is_told_also_of_a_triggered_camera(first_frame: bool) -> None:  # noqa: FBT001
    sdp = SDP.replace("AVP 26\r\n", "AVP 96\r\na=rtpmap:96 ODD/90000\r\n")
    done = rtsp_answer("200 OK", "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
    described = rtsp_answer("200 OK", "Content-Type: application/sdp\r\n", sdp)
    server = Answering({"*": done, "OPTIONS": OPTIONS, "DESCRIBE": described})
    source = create(f"rtsp://{server.place}/cam", unexpected, Patience(1, 1, first_frame=first_frame))
    try:
        with pytest.raises(TransientError, match=r"coding is not known.*H\.264"):
            source.open()
    finally:
        source.close()
        server.close()


@pytest.mark.parametrize("scheme", ["rtsps", "https"])
def test_a_port_that_speaks_no_tls_is_told(scheme: str) -> None:
    server = Answering({"*": "HTTP/1.1 400 Bad Request\r\n\r\n"})
    try:
        with pytest.raises(TransientError, match=r"TLS.*check scheme and port"):
            create(f"{scheme}://{server.place}/cam", unexpected).open()
    finally:
        server.close()


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Return files by what they are: two authorities, and a camera's key and certificate from the first, by host."""
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    files = {"ours": authority.certificate, "theirs": stranger.certificate, "nowhere": tmp_path / "nowhere.pem"}
    for name, host in (("right", "IP:127.0.0.1"), ("wrong", "DNS:camera.example")):
        files[f"{name} key"], files[name] = authority.issue(name, host)
    return {name: str(file) for name, file in files.items()}


@pytest.mark.parametrize("scheme", ["rtsps", "https"])
@pytest.mark.parametrize(
    ("camera", "ca_file", "said"),
    [
        ("right", "ours", "404"),
        ("wrong", None, "404"),
        ("right", "theirs", r"ertificate.*not from the authority of `ca_file`"),
        ("right", "nowhere", r"ertificate.*not from the authority of `ca_file`"),
        ("wrong", "ours", r"ertificate.*not for the host in `source`"),
    ],
)
def test_a_certificate_is_verified_by_the_stream_s_authority(
    scheme: str, camera: str, ca_file: str | None, said: str, certificates: dict[str, str]
) -> None:
    """The camera answers 404 to whoever trusts it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[camera], certificates[f"{camera} key"])
    refusal = rtsp_answer("404 Not Found") if scheme == "rtsps" else "HTTP/1.1 404 Not Found\r\n\r\n"
    server = Answering({"*": refusal}, context)
    source = create(
        f"{scheme}://{server.place}/cam", unexpected, Patience(30, 30), certificates[ca_file] if ca_file else None
    )
    try:
        with pytest.raises(TransientError, match=said):
            source.open()
    finally:
        source.close()
        server.close()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_name_that_does_not_resolve_and_a_closed_port_are_told(scheme: str) -> None:
    with pytest.raises(TransientError, match=r"resolve.*DNS"):
        create(f"{scheme}://camera.invalid/cam", unexpected).open()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(TransientError, match=r"refused.*check address and port"):
        create(f"{scheme}://127.0.0.1:{port}/cam", unexpected).open()


def test_a_camera_that_starts_on_demand_and_sends_a_frame_now_and_then_is_read() -> None:
    picture = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
    part = b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture + b"\r\n"
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(4096)
            over.wait(3)
            peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n")
            while not over.is_set():
                try:
                    peer.sendall(part)
                except OSError:
                    return
                over.wait(2.5)

    thread = threading.Thread(target=serve)
    thread.start()
    source = create(f"http://127.0.0.1:{server.getsockname()[1]}/", unexpected, Patience(open_s=60, read_s=60))
    try:
        source.open()
        begun_s = time.monotonic()
        assert [frame_of(source).shape for _ in range(5)] == [(48, 64, 3)] * 5
        assert time.monotonic() - begun_s > 2.5  # it did wait for one
    finally:
        over.set()
        source.close()
        thread.join()
        server.close()


def test_an_h264_stream_that_changes_its_size_is_not_scaled_to_the_first_one(tmp_path: Path) -> None:
    parts = []
    sizes = [(240, 320), (640, 480)]
    for number, (height, width) in enumerate(sizes):
        part = tmp_path / f"{number}.ts"
        with av.open(str(part), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(10):
                picture = av.VideoFrame.from_ndarray(np.full((height, width, 3), 90, np.uint8), format="bgr24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        parts.append(part.read_bytes())
    file = tmp_path / "camera.ts"
    file.write_bytes(b"".join(parts))
    source = create(str(file), unexpected)
    source.open()
    assert [frame_of(source).shape[:2] for _ in range(20)] == [size for size in sizes for _ in range(10)]
    source.close()


def test_a_stream_that_changes_its_size_goes_on_at_its_true_size(tmp_path: Path) -> None:
    file = tmp_path / "size_changes.mjpeg"
    sizes = [(240, 320)] * 5 + [(640, 480)] * 5 + [(120, 160)] * 5
    file.write_bytes(b"".join(cv2.imencode(".jpg", np.full((*size, 3), 90, np.uint8))[1].tobytes() for size in sizes))
    source = create(str(file), unexpected)
    source.open()
    assert [frame_of(source).shape[:2] for _ in sizes] == sizes
    assert not source.grab()
    source.close()
