"""RTSP through a decoder in a process of its own, with software elements in a Jetson's place, and the way back."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.rtsp_camera import needs_rtsp_server
from support.source_frames import frame_of, unexpected
from support.waiting import DEADLINE_S

from agent.capture.hardware.decoders import DECODERS, Decoder, HardwareDecoding
from agent.capture.hardware.hardware_source import HardwareSource
from agent.capture.source import Patience, Source
from agent.capture.sources import create
from agent.messages.errors import TransientError

SCALE = "videoscale ! videoconvert ! video/x-raw,format=I420,width={width},height={height}"
LONG = Patience(open_s=60, read_s=60)
pytestmark = needs_rtsp_server


def stand_in(h264: str = "openh264dec", hevc: str = "libde265dec", side: int = 0) -> HardwareDecoding:
    """Return a hardware decoder that every device has: its elements decode in software."""
    decoder = Decoder(nodes=("/dev/null",), elements={"h264": h264, "hevc": hevc}, scale=SCALE)
    return HardwareDecoding(side, (decoder,))


def read_on(source: Source) -> None:
    while source.grab():
        pass


def decoders() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if "gst-launch" in one.name()]


@pytest.fixture
def make() -> Iterator[Callable[..., Source]]:
    """Give a function that makes a source, which is closed after the test."""
    made: list[Source] = []

    def make_(url: str, decoding: HardwareDecoding, patience: Patience = LONG) -> Source:
        made.append(create(url, unexpected, patience, decoding=decoding))
        assert isinstance(made[-1], HardwareSource)
        return made[-1]

    yield make_
    for source in made:
        source.close()
    assert decoders() == []


@pytest.mark.parametrize(
    ("mode", "element"), [("h264", "openh264dec"), ("h265", "libde265dec"), ("audio", "openh264dec")]
)
def test_frames_come_whole_in_the_cameras_size_and_say_who_decoded_them(
    mode: str, element: str, rtsp: Callable[..., str], make: Callable[..., Source]
) -> None:
    source = make(f"rtsp://{rtsp(mode)}/cam", stand_in())
    for _ in range(2):
        info = source.open()
        assert (info.width, info.height, info.decoder) == (320, 240, element)
        for _ in range(3):
            image = frame_of(source)
            assert image.shape == (240, 320, 3)
            assert image.std() > 5  # the ball, not one grey
        source.close()


def test_frames_are_scaled_to_the_model_and_the_cameras_own_size_is_told(
    rtsp: Callable[..., str], make: Callable[..., Source]
) -> None:
    source = make(f"rtsp://{rtsp('h264')}/cam", stand_in(side=120))
    info = source.open()
    assert (info.width, info.height, info.is_scaled) == (320, 240, True)
    assert frame_of(source).shape == (120, 160, 3)


def test_no_frame_waits_for_the_next_one(rtsp: Callable[..., str], make: Callable[..., Source]) -> None:
    url, limit_s = f"rtsp://{rtsp('h264')}/cam", time.monotonic() + DEADLINE_S
    behind = [1]
    while 0 not in behind:  # with a parser that waits for the next packet it is never below 1
        assert time.monotonic() < limit_s, behind
        behind = _frames_behind(make(url, stand_in()))


def _frames_behind(source: Source) -> list[int]:
    """Return for ten frames how many packets were fed beyond each; on a busy machine frames queue up from the start."""
    source.open()
    assert isinstance(source, HardwareSource)
    feed = source._feed
    assert feed is not None
    behind = []
    for number in range(1, 11):
        source.grab()
        behind.append(feed.fed - number)
    source.close()
    return behind


def test_a_password_stays_out_of_the_decoders_arguments(rtsp: Callable[..., str], make: Callable[..., Source]) -> None:
    place = rtsp("digest", "user", "p@s/s#1")
    source = make(f"rtsp://user:p%40s%2Fs%231@{place}/cam", stand_in())
    source.open()
    (process,) = decoders()
    words = " ".join(process.cmdline())
    assert "openh264dec" in words
    assert "user" not in words
    assert "rtsp" not in words


def test_a_wrong_password_is_the_cameras_matter_and_not_the_decoders(
    rtsp: Callable[..., str], make: Callable[..., Source]
) -> None:
    decoding = stand_in()
    source = make(f"rtsp://user:wrong@{rtsp('digest', 'user', 'right')}/cam", decoding)
    with pytest.raises(TransientError, match=r"401 \(Unauthorized\); check user and password"):
        source.open()
    assert decoding.failure == ""


@pytest.mark.parametrize(
    ("mode", "element", "why"),
    [
        ("h264", "nosuchdec", 'nosuchdec: .*no element "nosuchdec"'),
        ("h264", "openh264dec ! jpegdec", "openh264dec"),  # does not link
        ("mjpeg", "openh264dec", "no hardware here decodes mjpeg"),
    ],
)
def test_a_decoder_that_does_not_start_is_replaced_at_once_and_not_tried_again(
    mode: str, element: str, why: str, rtsp: Callable[..., str], make: Callable[..., Source]
) -> None:
    decoding = stand_in(element)
    url = f"rtsp://{rtsp(mode)}/cam"
    source = make(url, decoding)
    info = source.open()
    assert info.decoder.startswith("FFmpeg (")
    assert info.decoder == f"FFmpeg ({decoding.failure})"
    assert re.search(why, decoding.failure)
    assert not info.is_scaled
    assert frame_of(source).shape == (240, 320, 3)
    source.close()
    again = make(url, decoding)
    again.open()
    assert decoders() == []
    assert frame_of(again).shape == (240, 320, 3)


def test_without_gst_launch_ffmpeg_decodes_and_says_what_is_missing(
    rtsp: Callable[..., str], make: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.capture.gstreamer.PROGRAM", "no-gst-launch")
    decoding = stand_in()
    source = make(f"rtsp://{rtsp('h264')}/cam", decoding)
    info = source.open()
    assert "needs no-gst-launch: apt-get install gstreamer1.0-tools" in info.decoder
    assert frame_of(source).shape == (240, 320, 3)


def test_a_decoder_that_gives_nothing_is_given_up_after_open_s(
    rtsp: Callable[..., str], make: Callable[..., Source]
) -> None:
    decoding = stand_in("openh264dec ! identity drop-probability=1")
    url = f"rtsp://{rtsp('h264')}/cam"
    source = make(url, decoding, Patience(open_s=12, read_s=60))
    with pytest.raises(TransientError, match="hardware decoder failed, FFmpeg follows"):
        source.open()
    source.close()
    again = make(url, decoding)
    assert again.open().decoder.startswith("FFmpeg (")
    assert frame_of(again).shape == (240, 320, 3)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_decoder_that_dies_or_hangs_is_noticed_and_ffmpeg_follows(
    sent: signal.Signals, rtsp: Callable[..., str], make: Callable[..., Source]
) -> None:
    decoding = stand_in()
    source = make(f"rtsp://{rtsp('h264')}/cam", decoding)
    source.open()
    source.grab()
    (process,) = decoders()
    begun_s = time.monotonic()
    os.kill(process.pid, sent)
    with pytest.raises(TransientError, match="hardware decoder failed, FFmpeg follows"):
        read_on(source)
    assert time.monotonic() - begun_s < DEADLINE_S
    source.close()
    assert source.open().decoder == f"FFmpeg ({decoding.failure})"
    assert frame_of(source).shape == (240, 320, 3)


def test_a_camera_that_falls_silent_is_not_the_decoders_fault(
    rtsp: Callable[..., str], make: Callable[..., Source]
) -> None:
    decoding = stand_in()
    source = make(f"rtsp://{rtsp('h264')}/cam", decoding, Patience(open_s=60, read_s=3))
    source.open()
    source.grab()
    (server,) = [one for one in psutil.Process().children() if "rtsp_server.py" in " ".join(one.cmdline())]
    server.suspend()
    with pytest.raises(TransientError, match=r"no frame|no answer"):
        read_on(source)
    server.resume()
    source.close()
    assert decoding.failure == ""
    assert source.open().decoder == "openh264dec"
    assert source.grab()


@pytest.mark.parametrize("mode", ["h264", "h265"])
def test_a_jetsons_own_pipeline_runs_with_only_its_two_elements_replaced(
    mode: str,
    rtsp: Callable[..., str],
    make: Callable[..., Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = shutil.which("gst-launch-1.0")
    software = {"h264": "openh264dec", "h265": "libde265dec"}[mode]
    asked = tmp_path / "asked"
    wrapper = tmp_path / "gst-launch-1.0"
    wrapper.write_text(
        f"""#!/bin/bash
echo "$*" >{asked}
words=()
for word in "$@"; do
  case "$word" in
    nvv4l2decoder) words+=({software}) ;;
    nvvidconv) words+=(videoscale ! videoconvert) ;;
    *) words+=("$word") ;;
  esac
done
exec {real} "${{words[@]}}"
"""
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    jetson = Decoder(("/dev/null",), DECODERS[0].elements, DECODERS[0].scale)
    source = make(f"rtsp://{rtsp(mode)}/cam", HardwareDecoding(120, (jetson,)))
    info = source.open()
    assert (info.width, info.height, info.decoder, info.is_scaled) == (320, 240, "nvv4l2decoder", True)
    assert frame_of(source).shape == (120, 160, 3)
    assert "! nvv4l2decoder ! nvvidconv ! video/x-raw,format=I420,width=160,height=120 !" in asked.read_text()
