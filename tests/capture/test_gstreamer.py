"""Pipelines, CSI and V4L2: real gst-launch processes, a real RTSP server, and what is asked of drivers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest
from support.brokers import free_port
from support.source_frames import unexpected
from support.waiting import DEADLINE_S

from agent.capture.gstreamer import GstSource, argus
from agent.capture.source import Image, Patience, SilentError, Source
from agent.capture.sources import create
from agent.capture.video import device, v4l2_properties
from agent.messages.errors import MistakeError, TransientError
from agent.messages.texts.camera_names import CameraFormat, split

SERVER = """
import sys, gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    "( videotestsrc is-live=true pattern=red ! video/x-raw,format=I420,width=320,height=240,framerate=20/1"
    " ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
)
factory.set_shared(True)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
print("up", flush=True)
GLib.MainLoop().run()
"""


def retrieve(source: Source) -> Image:
    given: list[Image] = []

    def buffer(height: int, width: int) -> Image:
        given.append(np.zeros((height, width, 3), np.uint8))
        return given[-1]

    source.retrieve(buffer)
    return given[-1]


def read_on(source: Source) -> None:
    while source.grab():
        pass


@pytest.fixture
def opened() -> Iterator[Callable[[str], Source]]:
    """Give a function that opens a source; it is closed after the test."""
    made: list[Source] = []

    def open_(text: str) -> Source:
        made.append(create(text, unexpected))
        made[-1].open()
        return made[-1]

    yield open_
    for source in made:
        source.close()


@pytest.fixture
def rtsp_server() -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Give a camera's RTSP server on loopback: its URL, and its process."""
    port = free_port()
    command = ["/usr/bin/python3", "-c", SERVER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        yield f"rtsp://127.0.0.1:{port}/camera", server
        server.kill()


def pipelines() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if is_pipeline(one)]


def is_pipeline(process: psutil.Process) -> bool:
    try:
        return "gst-launch" in process.name()
    except psutil.NoSuchProcess:
        return False


def test_frames_of_a_pipeline_come_whole_in_their_size_and_colour() -> None:
    source = create("gst:videotestsrc pattern=red ! video/x-raw,width=648,height=362,framerate=20/1", unexpected)
    info = source.open()
    assert (info.width, info.height, info.fps) == (648, 362, 20)
    for _ in range(3):
        assert source.grab()
        image = retrieve(source)
        assert image.shape == (362, 648, 3)
        assert np.abs(image.astype(int) - (0, 0, 255)).max() <= 4
    source.close()
    source.close()
    assert pipelines() == []


def test_a_picture_of_many_colours_survives_the_pipe(make_picture: Callable[..., Path], tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    blocks = chance.integers(0, 256, (12, 16, 3), np.uint8).repeat(40, axis=0).repeat(40, axis=1)
    make_picture("one.png", 0)
    cv2.imwrite(str(tmp_path / "one.png"), blocks)
    source = create(f"gst:filesrc location={tmp_path}/one.png ! pngdec ! imagefreeze", unexpected)
    source.open()
    source.grab()
    difference = np.abs(retrieve(source).astype(int) - blocks)
    source.close()
    assert difference[20::40, 20::40].max() <= 4


def test_the_newest_frame_wins_however_slow_the_reader_is(opened: Callable[[str], Source]) -> None:
    pattern = "videotestsrc is-live=true pattern=ball motion=wavy ! video/x-raw,width=1280,height=720,framerate=30/1"
    source = opened(f"gst:{pattern}")
    source.grab()
    first = retrieve(source)
    time.sleep(3)  # ninety frames, of which the pipe and the queue can hold two or three
    for _ in range(4):
        source.grab()
    begun_s = time.monotonic()
    for _ in range(10):
        source.grab()
    assert time.monotonic() - begun_s > 0.15  # they come as the camera makes them, not out of a store
    assert not np.array_equal(retrieve(source), first)


def test_a_pipeline_that_never_gives_a_frame_is_given_up_after_open_s_and_killed() -> None:
    source = create("gst:videotestsrc ! valve drop=true", unexpected, Patience(open_s=1))
    begun_s = time.monotonic()
    with pytest.raises(TransientError, match="no frame in time"):
        source.open()
    assert time.monotonic() - begun_s < 8  # what it was, whatever `open_s` said
    assert len(pipelines()) == 1
    source.close()
    assert pipelines() == []


def test_a_silent_pipeline_is_read_on_when_its_next_frame_comes(opened: Callable[[str], Source]) -> None:
    source = opened("gst:videotestsrc is-live=true ! video/x-raw,framerate=1/5")
    assert source.grab()
    with pytest.raises(SilentError, match="no frame in time"):
        read_on(source)  # because a busy machine may look so late that a frame is there
    deadline_s = time.monotonic() + DEADLINE_S
    grabbed = False
    while not grabbed and time.monotonic() < deadline_s:
        with suppress(SilentError):
            grabbed = source.grab()
    assert grabbed
    assert len(pipelines()) == 1


def test_a_pipeline_is_waited_for_as_long_as_its_stream_may_be_silent() -> None:
    source = create("gst:videotestsrc is-live=true ! video/x-raw,framerate=1/3", unexpected, Patience(60, 60))
    begun_s = time.monotonic()
    source.open()
    assert [source.grab() for _ in range(2)] == [True, True]
    source.close()
    assert time.monotonic() - begun_s > 2  # it did wait for one


def test_a_pipeline_that_ends_or_cannot_start_says_why(opened: Callable[[str], Source]) -> None:
    source = opened("gst:videotestsrc num-buffers=3 is-live=true")
    with pytest.raises(TransientError, match="ended"):
        read_on(source)
    with pytest.raises(TransientError, match='no element "nosuchsrc"'):
        opened("gst:nosuchsrc ! jpegdec")
    with pytest.raises(TransientError, match=r"ended.*not found"):
        opened("gst:filesrc location=/nonexistent ! jpegdec")


def test_names_and_reasons_hold_no_credentials() -> None:
    text = "gst:rtspsrc location=rtsp://user:secret@127.0.0.1:1/x ! decodebin"
    source = create(text, unexpected)
    with pytest.raises(TransientError) as caught:
        source.open()
    source.close()
    assert "secret" not in source.name + str(caught.value)
    assert "rtspsrc" in source.name


@pytest.mark.parametrize("size", [(642, 362), (640, 361)])
def test_a_size_that_the_pipe_cannot_hold_is_a_mistake(size: tuple[int, int], opened: Callable[[str], Source]) -> None:
    with pytest.raises(MistakeError, match=f"{size[0]}x{size[1]}.*videoscale"):
        opened(f"gst:videotestsrc ! video/x-raw,width={size[0]},height={size[1]}")


def test_no_pipeline_outlives_a_killed_camera_process() -> None:
    code = (
        "from agent.capture.sources import create\n"
        "source = create('gst:videotestsrc is-live=true', print)\n"
        "source.open()\nprint('open', flush=True)\nimport time\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as camera:
        assert camera.stdout is not None
        assert camera.stdout.readline() == "open\n"
        (pipeline,) = pipelines()
        pipeline.suspend()  # stalled: it will never notice that the pipe is closed
        camera.kill()
    assert psutil.wait_procs([pipeline], DEADLINE_S)[1] == []


@pytest.mark.parametrize("kind", ["rtsp", "gst"])
def test_an_rtsp_camera_is_read_and_noticed_when_it_freezes(
    kind: str, rtsp_server: tuple[str, "subprocess.Popen[str]"], opened: Callable[[str], Source]
) -> None:
    url, server = rtsp_server
    source = opened(url if kind == "rtsp" else f"gst:rtspsrc location={url} latency=0 ! rtpjpegdepay ! jpegdec")
    for _ in range(5):
        assert source.grab()
    image = retrieve(source)
    assert image.shape == (240, 320, 3)
    assert np.abs(np.median(image, axis=(0, 1)) - (0, 0, 254)).max() <= 20  # JPEG, in whichever range
    os.kill(server.pid, signal.SIGSTOP)
    begun_s = time.monotonic()
    with pytest.raises(TransientError, match="no frame"):
        read_on(source)
    assert time.monotonic() - begun_s < 29.0  # cv2's own time-out
    os.kill(server.pid, signal.SIGCONT)
    source.close()
    source.open()
    assert source.grab()


def test_a_driver_that_gives_nothing_in_time_is_silent_and_one_that_is_gone_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    waits_s = 0.2

    class Driver:
        def __init__(self, *_: object) -> None:
            pass

        def isOpened(self) -> bool:  # noqa: N802 - cv2's name
            return True

        def get(self, key: int) -> float:
            return 29.97 if key == cv2.CAP_PROP_FPS else 48.0

        def grab(self) -> bool:
            nonlocal now_s
            now_s += waits_s
            return False

    (tmp_path / "video0").touch()
    monkeypatch.setattr("cv2.VideoCapture", Driver)
    monkeypatch.setattr("agent.capture.video.time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr("agent.capture.video._SILENT_S", 0.1)
    source = device(str(tmp_path / "video0"), CameraFormat(rate=30))
    source.open()
    with pytest.raises(SilentError):
        source.grab()
    waits_s = 0.0
    with pytest.raises(TransientError) as caught:
        source.grab()
    assert not isinstance(caught.value, SilentError)


def test_a_csi_camera_is_argus_with_what_is_asked_of_it() -> None:
    source = argus("1", CameraFormat(size=(1920, 1080), rate=29.97), Patience())
    assert source.name == "CSI camera 1"
    assert "nvarguscamerasrc sensor-id=1 ! 'video/x-raw(memory:NVMM)," in source.pipeline
    assert "width=1920,height=1080,framerate=2997/100" in source.pipeline
    assert isinstance(create("csi:0?size=1280x720", unexpected), GstSource)


def test_a_driver_hears_format_before_size_before_rate() -> None:
    name, asked = split("/dev/video0?rate=30&size=1280x720&format=MJPG")
    assert name == "/dev/video0"
    assert v4l2_properties(asked) == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 30),
    ]


def test_a_driver_that_gives_something_else_is_a_mistake_not_a_surprise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn:
        """A driver that takes 640x480, whatever it hears."""

        def __init__(self, *_: object) -> None:
            self.released = False

        def isOpened(self) -> bool:  # noqa: N802 - cv2's name
            return True

        def get(self, key: int) -> float:
            return {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0}[key]

        def release(self) -> None:
            self.released = True

    (tmp_path / "video0").touch()
    monkeypatch.setattr("cv2.VideoCapture", Stubborn)
    with pytest.raises(MistakeError, match="v4l2-ctl --list-formats-ext"):
        device(str(tmp_path / "video0"), CameraFormat(size=(1280, 720))).open()


@pytest.mark.parametrize(
    "text",
    [
        "/dev/video0?size=1280",
        "/dev/video0?size=1281x720",
        "/dev/video0?rate=0",
        "/dev/video0?speed=9",
        "/dev/video0?size=2x2&size=2x2",
        "/dev/video0?format=mjpeg",
        "csi:0?format=MJPG",
        "/dev/video0?",
    ],
)
def test_what_cannot_be_asked_of_a_camera_is_a_mistake(text: str) -> None:
    with pytest.raises(MistakeError, match="expected /dev/videoN or csi:N"):
        create(text, unexpected)
