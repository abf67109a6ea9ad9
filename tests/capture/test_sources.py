"""One suite for every kind of source, the dummy's and the real ones, then what is particular to each."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.source_frames import unexpected

from agent.capture.dummy import DummySource
from agent.capture.ffmpeg import ffmpeg_options
from agent.capture.pictures import is_whole
from agent.capture.source import Image, Patience, Source
from agent.capture.sources import create
from agent.messages.errors import ChangeoverError, MistakeError, TransientError
from agent.messages.texts.camera_names import is_live
from agent.redact import redact

Make = Callable[..., Path]
CV2_GIVES_UP_S = 29.0  # without our time-outs


def retrieve(source: Source) -> Image:
    given: list[Image] = []

    def buffer(height: int, width: int) -> Image:
        given.append(np.full((height, width, 3), 255, np.uint8))
        return given[-1]

    source.retrieve(buffer)
    return given[-1]


def value(image: Image) -> int:
    """Return the value that the whole image shows, within what JPEG changes."""
    middle = int(np.median(image))
    assert np.abs(image.astype(int) - middle).max() <= 4
    return middle


@pytest.fixture(params=["dummy", "video", "folder", "stream"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """Give a source of each kind, of three frames (or endless), whose values grow."""
    if request.param == "dummy":
        return DummySource(3)
    if request.param == "stream":
        return create(request.getfixturevalue("stream_url"), unexpected)
    if request.param == "video":
        return create(str(request.getfixturevalue("make_video")(frames=3)), unexpected)
    for number in range(3):
        request.getfixturevalue("make_picture")(f"folder/{number}.png", number)
    return create(str(tmp_path / "folder"), unexpected)


def test_frames_come_in_order_in_the_size_that_was_announced(source: Source) -> None:
    info = source.open()
    values = []
    for _ in range(3):
        assert source.grab()
        image = retrieve(source)
        assert image.shape == (48, 64, 3) == (info.height, info.width, 3)
        values.append(value(image))
    assert values == sorted(set(values))
    source.close()


def test_the_end_is_told_by_what_is_not_live(source: Source) -> None:
    source.open()
    for _ in range(3):
        assert source.grab()
    assert source.grab() is source.live
    source.close()


def test_it_can_be_closed_twice_and_opened_again_at_its_first_frame(source: Source) -> None:
    for _ in range(2):
        source.open()
        assert source.grab()
        assert value(retrieve(source)) <= 4
        source.close()
        source.close()


def test_what_is_grabbed_need_not_be_retrieved(source: Source) -> None:
    source.open()
    source.grab()
    first = value(retrieve(source))
    source.grab()
    source.grab()
    assert value(retrieve(source)) > first
    source.close()


def test_names_hold_no_credentials(source: Source) -> None:
    assert "secret" not in source.name
    assert "hidden" not in source.name


def test_pictures_come_in_natural_order_and_in_their_own_sizes(tmp_path: Path, make_picture: Make) -> None:
    for name, grey, width in [("10.png", 10, 30), ("9.jpg", 90, 20), ("1.bmp", 110, 10)]:
        make_picture(f"in/{name}", grey, width=width)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    source = create(str(tmp_path / "in"), unexpected)
    source.open()
    seen = []
    while source.grab():
        image = retrieve(source)
        seen.append((value(image), image.shape[1]))
    assert seen == [(110, 10), (90, 20), (10, 30)]


def test_a_damaged_picture_is_left_out_with_one_warning(tmp_path: Path, make_picture: Make) -> None:
    make_picture("in/1.png", 1)
    (tmp_path / "in" / "2.png").write_bytes(b"damaged")
    make_picture("in/3.png", 3)
    warnings: list[str] = []
    source = create(str(tmp_path / "in"), warnings.append)
    for _ in range(2):
        source.open()
        values = []
        while source.grab():
            values.append(value(retrieve(source)))
        source.close()
        assert values == [1, 3]
    assert len(warnings) == 1
    assert "2.png" in warnings[0]


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def _zeroed(data: bytes) -> bytes:
    return _cut(data).ljust(len(data), b"\0")


def _behind_a_thumbnail(data: bytes) -> bytes:
    thumbnail = b"Exif\0\0" + data[:2000] + b"\xff\xd9"
    return _cut(data[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + data[2:])


def _nothing(_data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        *((suffix, damage) for suffix in (".jpg", ".png", ".bmp", ".ppm", ".webp") for damage in (_cut, _nothing)),
        (".jpg", _zeroed),
        (".jpg", _behind_a_thumbnail),
        (".png", _zeroed),
    ],
)
def test_a_picture_of_which_a_part_is_missing_is_left_out(
    suffix: str, damage: Callable[[bytes], bytes], tmp_path: Path, make_picture: Make
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    whole = cv2.imencode(suffix, noise)[1].tobytes()
    make_picture("in/1.png", 1)
    (tmp_path / "in" / f"2{suffix}").write_bytes(damage(whole))
    (tmp_path / "in" / f"3{suffix}").write_bytes(whole)
    (tmp_path / "in" / f"4{suffix}").write_bytes(whole + b"what some cameras write behind the end")
    warnings: list[str] = []
    source = create(str(tmp_path / "in"), warnings.append)
    source.open()
    shapes = []
    while source.grab():
        shapes.append(retrieve(source).shape)
    assert shapes == [(48, 64, 3), (120, 160, 3), (120, 160, 3)]
    assert [f"2{suffix}" in warning for warning in warnings] == [True]


def test_a_progressive_jpeg_is_whole_only_with_its_last_scan() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    whole = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[
        1
    ].tobytes()
    assert is_whole(whole)
    assert not any(is_whole(whole[:length]) for length in range(3, len(whole) - 1))


def test_a_single_picture_is_a_source(make_picture: Make) -> None:
    source = create(str(make_picture("one.png", 7)), unexpected)
    source.open()
    assert source.grab()
    assert value(retrieve(source)) == 7
    assert not source.grab()


def test_an_unknown_scheme_is_a_mistake_that_names_what_there_is() -> None:
    with pytest.raises(MistakeError, match=r"ftp://.*rtsp") as caught:
        create("ftp://user:secret@host/video.avi", unexpected)
    assert "secret" not in str(caught.value)


def _missing(path: Path) -> str:
    return str(path / "missing.avi")


def _no_video(path: Path) -> str:
    (path / "text.avi").write_text("this is no video" * 1000)
    return str(path / "text.avi")


def _empty_folder(path: Path) -> str:
    (path / "empty").mkdir()
    return str(path / "empty")


def _damaged_folder(path: Path) -> str:
    (path / "damaged").mkdir()
    (path / "damaged" / "1.jpg").write_text("no picture")
    return str(path / "damaged")


def _no_device(path: Path) -> str:
    return f"/dev/{path.name}"


def _too_long(path: Path) -> str:
    return str(path / ("x" * 300))


@pytest.mark.parametrize("make", [_missing, _too_long, _no_video, _empty_folder, _damaged_folder, _no_device])
def test_what_cannot_be_opened_says_what_to_do_and_may_be_tried_again(
    make: Callable[[Path], str], tmp_path: Path
) -> None:
    text = make(tmp_path)
    with pytest.raises(TransientError, match="(?s)" + Path(text).name + ".*[:;,]"):
        create(text, lambda _: None).open()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_peer_that_never_answers_is_given_up(scheme: str) -> None:
    begun_s = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"{scheme}://user:secret@127.0.0.1:{server.getsockname()[1]}/stream"
        source = create(url, unexpected, Patience(open_s=2.0))
        with pytest.raises(ChangeoverError, match=r"no answer.*within \d+\.\d s") as caught:
            source.open()
    assert time.monotonic() - begun_s < CV2_GIVES_UP_S
    assert "secret" not in str(caught.value)


def test_rtsp_goes_over_tcp() -> None:
    assert ffmpeg_options("rtsp://10.0.0.5/stream")["rtsp_flags"] == "prefer_tcp"
    assert ffmpeg_options("RTSPS://10.0.0.5/stream")["rtsp_flags"] == "prefer_tcp"
    assert "rtsp_flags" not in ffmpeg_options("http://10.0.0.5/stream")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://10.0.0.5/stream", "rtsp://10.0.0.5/stream"),
        ("cannot open rtsp://u:p@10.0.0.5:554/s: no", "cannot open rtsp://***@10.0.0.5:554/s: no"),
        ("rtsp://u:p/a@s@10.0.0.5/s", "rtsp://***@10.0.0.5/s"),
        ("http://10.0.0.5/v.cgi?user=u&pwd=p now", "http://10.0.0.5/v.cgi?*** now"),
        ("/data/a@b?c.avi", "/data/a@b?c.avi"),
        ("rtsp://10.0.0.5/user=admin_password=x1_channel=1.sdp now", "rtsp://10.0.0.5/user=admin_password=*** now"),
        ("rtsp://10.0.0.5/user=admin&password=x/1&channel=1", "rtsp://10.0.0.5/user=admin&password=***&channel=1"),
        ("rtsp://10.0.0.5/usr=a&pwd=x1&pw=x2/s", "rtsp://10.0.0.5/usr=a&pwd=***&pw=***"),
        ("http://10.0.0.5/passwd=x1", "http://10.0.0.5/passwd=***"),
        ("http://10.0.0.5/pass=x1&ch=2", "http://10.0.0.5/pass=***&ch=2"),
        ("http://10.0.0.5/loginuse=a&loginpas=x1", "http://10.0.0.5/loginuse=a&loginpas=***"),
        ("http://10.0.0.5/live/token/x1", "http://10.0.0.5/live/token/***"),
        ("http://10.0.0.5/accessToken=x1", "http://10.0.0.5/accessToken=***"),
        ("http://10.0.0.5/a#auth=x1", "http://10.0.0.5/a#auth=***"),
        ("rtsp://10.0.0.5/password%3Dx1", "rtsp://10.0.0.5/password%3D***"),
        ("rtspsrc user-id=a user-pw=x1 ! fakesink", "rtspsrc user-id=a user-pw=*** ! fakesink"),
        ('rtspsrc user-pw="x1" ! fakesink', "rtspsrc user-pw=*** ! fakesink"),
        ("rtspsrc user-pw='x1 x2' ! fakesink", "rtspsrc user-pw=*** ! fakesink"),
        (r'rtspsrc user-pw="x1 \" x2" ! fakesink', "rtspsrc user-pw=*** ! fakesink"),
        (r'"rtspsrc user-pw=\"x1 x2\" ! fakesink"', '"rtspsrc user-pw=*** ! fakesink"'),
        (r"rtspsrc user-pw=x1\ x2 ! fakesink", "rtspsrc user-pw=*** ! fakesink"),
        ('rtspsrc user-pw  =  (string)"x1 x2" ! fakesink', "rtspsrc user-pw  =  *** ! fakesink"),
        ('rtspsrc user-pw="x1 and the rest is cut', "rtspsrc user-pw=***"),
        ("rtmpsrc pubUser=a pubPasswd=x1 ! fakesink", "rtmpsrc pubUser=a pubPasswd=*** ! fakesink"),
        ('souphttpsrc cookies="sid=x1; b=x2" ! fakesink', "souphttpsrc cookies=*** ! fakesink"),
        ('souphttpsrc cookies=<"sid=x1","b=x2"> ! fakesink', "souphttpsrc cookies=*** ! fakesink"),
        (
            r'extra-headers="h,Authorization=(string)\"Basic x1\"" ! fakesink',
            'extra-headers="h,Authorization=***" ! fakesink',
        ),
        ("the camera sent Authorization: Basic x1 back", "the camera sent Authorization: *** back"),
        ("http://10.0.0.5/u=admin/p=x1/", "http://10.0.0.5/u=admin/p=***"),
        ("http://10.0.0.5/usr=a_psd=x1", "http://10.0.0.5/usr=a_psd=***"),
        ("http://10.0.0.5/jwt=x1", "http://10.0.0.5/jwt=***"),
        ("http://10.0.0.5/streamkey=x1", "http://10.0.0.5/streamkey=***"),
        ("rtsp://10.0.0.5/s;jsessionid=x1", "rtsp://10.0.0.5/s;jsessionid=***"),
        ("cannot open rtsp:/u:p@10.0.0.5/s", "cannot open rtsp:/***@10.0.0.5/s"),
        ("authorization: denied, 3 cookies", "authorization: denied, 3 cookies"),
        ("http://10.0.0.5/720p=on/fps=30", "http://10.0.0.5/720p=on/fps=30"),
        ("psd-1.avi jwt streamkey p=0.5", "psd-1.avi jwt streamkey p=0.5"),
        ("event=passed side=left keys=3 bypass=1", "event=passed side=left keys=3 bypass=1"),
        ("rtsp://10.0.0.5/stream1/sidewalk/key-1", "rtsp://10.0.0.5/stream1/sidewalk/key-1"),
        ("rtsp://10.0.0.5/user=admin_kennwort=x1_channel=1 now", "rtsp://10.0.0.5/user=admin_kennwort=*** now"),
        ("rtsp://10.0.0.5/geheim=x1&channel=12&subtype=0", "rtsp://10.0.0.5/geheim=***&channel=12&subtype=0"),
        ("http://10.0.0.5/hash=x1/stream", "http://10.0.0.5/hash=***"),
        (
            "http://10.0.0.5/s;\u043f\u0430\u0440\u043e\u043b\u044c=x1",
            "http://10.0.0.5/s;\u043f\u0430\u0440\u043e\u043b\u044c=***",
        ),
        ("kennwort=x1 hash=x2 senha=x3 pin=1234 rest", "kennwort=*** hash=*** senha=*** pin=*** rest"),
        ("event=x spin=3 turnpin=4 rehash=5", "event=x spin=3 turnpin=4 rehash=5"),
    ],
)
def test_credentials_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("text", "live"),
    [
        ("rtsp://10.0.0.5/x", True),
        ("/dev/video0?size=640x480", True),
        ("gst:videotestsrc", True),
        ("csi:0", True),
        ("/data/line.avi", False),
        ("/dev/shm/line.avi", False),
    ],
)
def test_files_are_told_from_cameras_by_their_names(text: str, live: bool) -> None:  # noqa: FBT001 - a parameter
    assert is_live(text) is live
