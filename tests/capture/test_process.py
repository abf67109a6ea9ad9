"""The real camera process, started as control starts it, on real files and over a real network stream."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from support.rtsp_camera import SERVER, needs_rtsp_server
from support.waiting import DEADLINE_S

from agent.bench.plant.children import runs
from agent.messages.children import (
    Beat,
    CameraEnded,
    CameraFailed,
    CameraMessage,
    CameraOpened,
    CameraSetup,
    Hello,
    Log,
    Message,
)
from agent.processes.channel import Channel, ChannelClosedError, pair
from agent.processes.slots.frame_slot import FrameSlot, SlotReader

CV2_GIVES_UP_S = 29.0  # without our time-outs
Kind = TypeVar("Kind", bound=Message)
Make = Callable[..., Path]


class CameraProcess:
    """A camera process and control's end of its channel."""

    def __init__(self, slot: FrameSlot, stderr: Path) -> None:
        ours, theirs = pair()
        fds = slot.descriptors()
        command = [sys.executable, "-m", "agent.capture.camera_process", str(theirs.fileno())]
        passed = (theirs.fileno(), fds.memory, fds.offered, fds.taken)
        with stderr.open("ab") as log:
            self.process = subprocess.Popen(command, pass_fds=passed, stderr=log)
        theirs.close()
        self.channel: Channel[CameraMessage] = Channel(ours, CameraMessage)

    def expect(self, kind: type[Kind]) -> Kind:
        """Return the next message of a kind; what else arrives meanwhile is passed over."""
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            message = self.channel.receive(timeout_s=1.0)
            if isinstance(message, kind):
                return message
        raise TimeoutError(f"no {kind.__name__} within {DEADLINE_S} s")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.channel.close()


Start = Callable[..., CameraProcess]


@pytest.fixture
def slot() -> Iterator[FrameSlot]:
    made = FrameSlot.create("cam-1")
    yield made
    made.close()


@pytest.fixture
def stderr(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


@pytest.fixture
def start(slot: FrameSlot, stderr: Path) -> Iterator[Start]:
    started: list[CameraProcess] = []

    def run(source: object, *, fps: float = 0.0, loop: bool = False, wait_for_reader: bool = False) -> CameraProcess:
        camera = CameraProcess(slot, stderr)
        started.append(camera)
        camera.channel.send(CameraSetup("cam-1", str(source), fps, loop, wait_for_reader, slot.descriptors()))
        return camera

    yield run
    for camera in started:
        camera.stop()


def take(reader: SlotReader) -> tuple[int, int]:
    """Take one frame; return its number and the value in its middle."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        if reader.wait(1.0) and (frame := reader.take()):
            height, width, _ = frame.image.shape
            value = int(frame.image[height // 2, width // 2, 0])
            assert time.monotonic_ns() >= frame.captured_ns > 0
            assert abs(frame.captured_unix_ns / 1e9 - time.time()) < DEADLINE_S
            assert reader.release(frame)
            return frame.number, value
    raise TimeoutError(f"no frame within {DEADLINE_S} s")


def test_a_video_is_delivered_whole_and_then_the_process_idles(start: Start, slot: FrameSlot, make_video: Make) -> None:
    reader = SlotReader(slot.descriptors())
    path = make_video(frames=12)
    camera = start(path, wait_for_reader=True)
    assert camera.expect(Hello).pid == camera.process.pid
    assert camera.expect(CameraOpened) == CameraOpened("cam-1", 64, 48, 15.0, f"video file {path}")
    frames = [take(reader) for _ in range(12)]
    assert [number for number, _ in frames] == list(range(12))
    assert [value for _, value in frames] == pytest.approx([20 * number for number in range(12)], abs=4)
    assert camera.expect(CameraEnded).stream == "cam-1"
    assert camera.expect(Beat).busy_since_ns == 0
    assert camera.process.poll() is None
    assert slot.counters().overwritten == 0


def test_a_loop_goes_on_and_its_frame_numbers_too(start: Start, slot: FrameSlot, make_video: Make) -> None:
    reader = SlotReader(slot.descriptors())
    start(make_video(frames=3), loop=True, wait_for_reader=True)
    frames = [take(reader) for _ in range(8)]
    assert [number for number, _ in frames] == list(range(8))
    assert [value for _, value in frames] == pytest.approx([20 * (number % 3) for number in range(8)], abs=4)


def test_a_folder_is_delivered_in_natural_order_without_its_damaged_pictures(
    start: Start, slot: FrameSlot, make_picture: Make, tmp_path: Path
) -> None:
    reader = SlotReader(slot.descriptors())
    for name, value, width in [("9.png", 90, 30), ("10.png", 100, 640)]:
        make_picture(f"in/{name}", value, width=width)
    (tmp_path / "in" / "8.png").write_bytes(b"damaged")
    camera = start(tmp_path / "in", wait_for_reader=True)
    assert "8.png" in camera.expect(Log).text
    assert [take(reader) for _ in range(2)] == [(0, 90), (1, 100)]
    camera.expect(CameraEnded)


def test_a_source_that_appears_later_is_picked_up(
    start: Start, slot: FrameSlot, make_video: Make, tmp_path: Path
) -> None:
    reader = SlotReader(slot.descriptors())
    camera = start(tmp_path / "later.avi")
    assert "later.avi" in camera.expect(CameraFailed).detail
    make_video("whole.avi").replace(tmp_path / "later.avi")
    camera.expect(CameraOpened)
    take(reader)


def test_a_network_stream_that_stalls_is_reported_and_picked_up_again(
    start: Start, slot: FrameSlot, stream_url: str, stall: threading.Event, stderr: Path
) -> None:
    reader = SlotReader(slot.descriptors())
    camera = start(stream_url, fps=30)
    details = [camera.expect(CameraOpened).detail]
    number, _ = take(reader)
    stall.set()
    stalled_s = time.monotonic()
    details.append(camera.expect(CameraFailed).detail)
    assert time.monotonic() - stalled_s < CV2_GIVES_UP_S
    stall.clear()
    details.append(camera.expect(CameraOpened).detail)
    assert take(reader)[0] > number
    shown = stderr.read_text() + "".join(details)
    assert "secret" not in shown
    assert "hidden" not in shown
    assert "[ WARN" not in shown  # cv2's own words, which may name the URL


@needs_rtsp_server
def test_a_camera_that_drops_its_connections_is_opened_again_and_again(
    start: Start, slot: FrameSlot, rtsp: Callable[..., str]
) -> None:
    reader = SlotReader(slot.descriptors())
    camera = start(f"rtsp://{rtsp('h264')}/cam")
    (server,) = (one for one in psutil.Process().children() if runs(one, str(SERVER)))
    numbers = []
    for _ in range(2):
        camera.expect(CameraOpened)
        numbers += [take(reader)[0] for _ in range(2)]
        server.send_signal(signal.SIGUSR1)
        assert re.search("ended|broke", camera.expect(CameraFailed).detail)
    assert numbers == sorted(set(numbers))


def test_a_read_that_hangs_shows_in_the_beats(start: Start, stream_url: str, stall: threading.Event) -> None:
    camera = start(stream_url)
    camera.expect(CameraOpened)
    stall.set()
    since_ns = 0
    while not (since_ns and time.monotonic_ns() - since_ns > 1_000_000_000):
        since_ns = camera.expect(Beat).busy_since_ns
    assert camera.process.poll() is None


def test_a_live_stream_keeps_its_newest_frame_for_a_slow_worker(start: Start, slot: FrameSlot, stream_url: str) -> None:
    reader = SlotReader(slot.descriptors())
    start(stream_url)
    take(reader)
    deadline_s = time.monotonic() + DEADLINE_S
    while slot.counters().offered < 20 and time.monotonic() < deadline_s:
        time.sleep(0.02)
    take(reader)
    counters = slot.counters()
    assert counters.overwritten >= 15
    assert counters.offered - counters.taken - counters.overwritten in (0, 1)


def test_a_killed_process_is_replaced_and_frame_numbers_go_on(start: Start, slot: FrameSlot, make_video: Make) -> None:
    reader = SlotReader(slot.descriptors())
    path = make_video()
    numbers = []
    for _ in range(3):
        camera = start(path, loop=True)
        numbers += [take(reader)[0] for _ in range(5)]
        os.kill(camera.process.pid, signal.SIGKILL)
        with pytest.raises(ChannelClosedError):
            camera.expect(CameraEnded)
    assert numbers == sorted(set(numbers))
    assert slot.counters().torn == 0


def test_the_process_ends_when_control_is_gone(start: Start, make_video: Make) -> None:
    camera = start(make_video(), loop=True, fps=5)
    camera.expect(CameraOpened)
    camera.channel.close()
    assert camera.process.wait(DEADLINE_S) == 0


def test_it_loads_no_runtime_and_no_mqtt() -> None:
    code = (
        "import sys, agent.capture.camera_process, agent.capture.camera, agent.capture.sources;"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "cv2" in loaded
    assert not loaded & {"torch", "openvino", "onnxruntime", "ultralytics", "paho", "pydantic"}
