"""Sizes that hardware scales to, the pipelines that it is given, and units of a byte stream."""

import os
from collections.abc import Iterator

import pytest

from agent.capture.hardware.decoders import DECODERS, Decoder, HardwareDecoding
from agent.capture.hardware.packet_feed import PacketFeed, is_byte_stream
from agent.capture.source import Packet
from agent.messages.errors import TransientError

JETSON, VA = DECODERS
AUD = b"\0\0\0\1\x09\xf0"
END = b"\0\0\0\1\x0c\xff\x80"


@pytest.mark.parametrize(
    ("side", "size", "scaled"),
    [
        (0, (1920, 1080), (1920, 1080)),
        (640, (1920, 1080), (1144, 640)),
        (640, (2592, 1944), (856, 640)),
        (640, (640, 480), (640, 480)),
        (1280, (1920, 1080), (1920, 1080)),
        (0, (1366, 768), (1360, 768)),
        (0, (321, 241), (320, 240)),
    ],
)
def test_neither_side_gets_smaller_than_the_models_input_and_the_pipe_can_carry_it(
    side: int, size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    width, height = HardwareDecoding(side).scaled(*size)
    assert (width, height) == scaled
    assert width % 8 == height % 2 == 0
    assert min(width, height) >= min(side, *size) - 7


def test_a_jetsons_pipeline_reads_from_a_pipe_decodes_and_scales_in_hardware() -> None:
    decoding = HardwareDecoding(0, (Decoder(("/dev/null",), JETSON.elements, JETSON.scale),))
    assert decoding.is_here
    assert decoding.element("hevc") == "nvv4l2decoder"
    assert decoding.element("mjpeg") is None
    assert decoding.pipeline("h264", (1144, 640)) == (
        "fdsrc fd=0 blocksize=65536 ! h264parse ! nvv4l2decoder "
        "! nvvidconv ! video/x-raw,format=I420,width=1144,height=640"
    )


def test_a_device_without_the_nodes_has_no_hardware() -> None:
    assert not HardwareDecoding(0, (Decoder(("/nonexistent*",), VA.elements, VA.scale),)).is_here


def fed(coding: str, head: bytes, packets: Iterator[Packet]) -> tuple[bytes, PacketFeed]:
    read, write = os.pipe()
    feed = PacketFeed(coding, head, packets, write)
    feed.start()
    with os.fdopen(read, "rb") as pipe:
        written = pipe.read()
    assert feed.stop(10)
    return written, feed


def test_a_feed_begins_at_a_key_frame_with_the_parameter_sets_and_delimits_each_frame() -> None:
    sent = [
        Packet(b"\0\0\1\x41early", False),
        Packet(b"\0\0\1\x65key", True),
        Packet(b"\0\0\1\x41p", False),
    ]
    written, feed = fed("h264", b"\0\0\0\1\x67sps", iter(sent))
    assert written == b"\0\0\0\1\x67sps\0\0\1\x65key" + AUD + END + b"\0\0\1\x41p" + AUD + END
    assert (feed.fed, feed.error) == (2, None)


@pytest.mark.parametrize(
    ("coding", "delimiter", "unit"),
    [("h264", b"\0\0\0\1\x09\x10", b"\0\0\0\1\x65key"), ("hevc", b"\0\0\1\x46\1\x10", b"\0\0\0\1\x26\1key")],
)
def test_a_cameras_own_delimiter_is_not_written_twice(coding: str, delimiter: bytes, unit: bytes) -> None:
    written, _ = fed(coding, b"", iter([Packet(delimiter + unit, True)]))
    assert written.startswith(unit)
    assert delimiter not in written[: len(unit)]


def test_the_networks_failure_ends_the_feed_and_is_kept() -> None:
    def packets() -> Iterator[Packet]:
        yield Packet(b"\0\0\1\x65key", True)
        raise TransientError("it broke")

    written, feed = fed("h264", b"", packets())
    assert written.startswith(b"\0\0\1\x65key")
    assert str(feed.error) == "it broke"


def test_a_decoder_that_is_gone_ends_the_feed_without_an_error() -> None:
    read, write = os.pipe()
    os.close(read)
    feed = PacketFeed("h264", b"", iter([Packet(b"\0\0\1\x65key", True)]), write)
    feed.start()
    assert feed.stop(10)
    assert feed.error is None


def test_only_start_codes_are_a_byte_stream() -> None:
    assert is_byte_stream(b"\0\0\0\1\x67")
    assert is_byte_stream(b"\0\0\1\x67")
    assert not is_byte_stream(b"\1\x64\0\x28")
    assert not is_byte_stream(b"")
