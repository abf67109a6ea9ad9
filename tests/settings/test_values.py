"""Values of a good configuration."""

import datetime as dt
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.messages.references import ModelReference
from agent.settings import MemoryBudget, Settings, SettingsError

Loader = Callable[..., Settings]
COMPUTES = {
    "auto": "auto",
    "CPU": "cpu",
    "cuda:1": "cuda:1",
    "CUDA:0": "cuda:0",
    "cuda": "cuda:0",
    " cuda:07 ": "cuda:7",
    "TensorRT": "tensorrt:0",
    "tensorrt:2": "tensorrt:2",
}

EXAMPLE = """
[device]
id = "box-7"
state_dir = "state"
memory_budget = 0.4
[mqtt]
url = "mqtts://broker.plant:8884"
protocol = 5
username = "box-7"
password_file = "secret"
[outbox]
max_bytes = "1.5GiB"
max_age = "12h"
[[stream]]
id = "cam-1"
line = "line-1"
source = "rtsp://10.0.0.5/stream"
[[stream]]
id = "cam-2"
line = "line-1"
source = "/dev/video0"
fps = 0
stall_s = 0
[line.line-1]
default = "cap-check"
variant = "m-int8"
changeover_timeout_s = "1m"
[line.line-1.products]
"bottle-500" = "cap-check"
" 17.0 " = "label-check:m@3"
"Bottle-500" = "cap-check:s"
[[binding]]
topic = "plant/a/plc7/recipe"
line = "line-1"
value = "$.recipe.id"
[[schedule]]
line = "line-1"
days = "fri-mon"
from = "22:00"
to = 06:00:00
timezone = "Europe/Berlin"
variant = "x"
[[bandwidth]]
line = "line-1"
below_kbps = 500
max_variant = "n"
"""


def test_every_table_becomes_attributes_of_the_same_name(loaded: Loader, tmp_path: Path) -> None:
    settings = loaded(EXAMPLE)
    assert settings.device.id == "box-7"
    assert settings.device.state_dir == tmp_path / "state"
    assert (settings.mqtt.host, settings.mqtt.port, settings.mqtt.tls) == ("broker.plant", 8884, True)
    assert settings.mqtt.protocol == "5"
    assert (settings.outbox.max_bytes, settings.outbox.max_age) == (3 * 2**29, 43200.0)
    assert [stream.id for stream in settings.streams_of("line-1")] == ["cam-1", "cam-2"]
    assert (settings.stream[1].fps, settings.stream[1].stall_s) == (0, 0)
    assert settings.line["line-1"].changeover_timeout_s == 60
    rule = settings.schedule[0]
    assert (rule.days, rule.from_, rule.to) == ((0, 4, 5, 6), dt.time(22), dt.time(6))
    assert settings.binding[0].value == "$.recipe.id"
    assert settings.bandwidth[0].max_variant == "n"


def test_a_file_may_say_the_version_of_its_keys(loaded: Loader, good: str) -> None:
    assert loaded("version = 1\n" + good).version == 1
    with pytest.raises(SettingsError, match="version: found 2, expected 1"):
        loaded("version = 2\n" + good)


@pytest.mark.parametrize("word", COMPUTES)
def test_a_processor_has_one_spelling(loaded: Loader, good: str, word: str) -> None:
    assert loaded(f"[device]\ncompute = '{word}'\n{good}").device.compute == COMPUTES[word]


def test_products_are_trimmed_keep_their_case_and_name_models(loaded: Loader) -> None:
    products = loaded(EXAMPLE).line["line-1"].products
    assert products == {
        "bottle-500": ModelReference("cap-check"),
        "17": ModelReference("label-check", "m", "3"),
        "Bottle-500": ModelReference("cap-check", "s"),
    }


def test_defaults(loaded: Loader, good: str, tmp_path: Path) -> None:
    settings = loaded(good)
    assert settings.mqtt.url == "mqtt://127.0.0.1:1883"
    assert settings.mqtt.root == "changeover/v1"
    assert settings.mqtt.keepalive_s == 10
    assert settings.catalog.file == tmp_path / "models.toml"
    assert settings.outbox.max_bytes == 256 * 2**20
    assert settings.outbox.max_age == 7 * 86400
    assert (settings.stream[0].fps, settings.stream[0].publish, settings.stream[0].loop) == (15, "all", False)
    assert settings.stream[0].source == str(tmp_path / "clips/belt.avi")
    line = settings.line["line-1"]
    assert (line.variant, line.changeover_timeout_s, line.dwell_s, line.prepare_s) == ("n", 30, 2, 1800)


def test_a_rule_holds_every_day_in_utc_unless_it_says_otherwise(loaded: Loader, good: str) -> None:
    rule = loaded(good + "[[schedule]]\nline = 'line-1'\nfrom = '00:00'\nto = '24:00'\nmodel = 'x:s'\n").schedule[0]
    assert (rule.days, rule.timezone, rule.variant, rule.model) == (
        tuple(range(7)),
        "UTC",
        None,
        ModelReference("x", "s"),
    )


def test_the_device_is_the_host_in_the_form_of_an_id(
    loaded: Loader, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Box 7 (hall é)")
    assert loaded(good).device.id == "Box-7--hall---"


@pytest.mark.parametrize(
    ("text", "budget", "of_1000_mb"),
    [
        ('"auto"', MemoryBudget(), 123),
        ("0.4", MemoryBudget(fraction=0.4), 400_000_000),
        ('"900MiB"', MemoryBudget(bytes=900 * 2**20), 900 * 2**20),
        ("52428800", MemoryBudget(bytes=52428800), 52428800),
    ],
)
def test_the_budget_is_a_size_a_share_or_auto(
    loaded: Loader, good: str, text: str, budget: MemoryBudget, of_1000_mb: int
) -> None:
    settings = loaded(f"[device]\nmemory_budget = {text}\n{good}")
    assert settings.device.memory_budget == budget
    assert settings.device.memory_budget.resolve(1_000_000_000, 123) == of_1000_mb


@pytest.mark.parametrize(("text", "celsius"), [('"auto"', None), ("80", 80.0), ('"72.5"', 72.5)])
def test_where_it_gets_hot_is_a_temperature_or_auto(
    loaded: Loader, good: str, text: str, celsius: float | None
) -> None:
    assert loaded(f"[device]\nhot_c = {text}\n{good}").device.hot_c == celsius


def test_the_environment_overrides_the_file(loaded: Loader, good: str) -> None:
    settings = loaded(
        f'[mqtt]\nurl = "mqtt://a"\nroot = "x"\n{good}',
        CHANGEOVER_MQTT__URL="mqtt://b:2000",
        CHANGEOVER_DEVICE__MEMORY_BUDGET="0.25",
        CHANGEOVER_OUTBOX__MAX_BYTES="1MiB",
        CHANGEOVER_LINE__LINE_1__VARIANT="m",
        CHANGEOVER_CATALOG__TRUSTED_KEYS="[]",
        CHANGEOVER_CONFIG="/nowhere",
        OTHER="1",
    )
    assert (settings.mqtt.host, settings.mqtt.port, settings.mqtt.root) == ("b", 2000, "x")
    assert settings.device.memory_budget == MemoryBudget(fraction=0.25)
    assert settings.outbox.max_bytes == 2**20
    assert settings.line["line-1"].variant == "m"


def test_streams_can_come_from_the_environment_as_json(loaded: Loader, good: str) -> None:
    stream = '[{"id": "cam-9", "line": "line-1", "source": "rtsp://camera/1"}]'
    assert [row.id for row in loaded(good, CHANGEOVER_STREAM=stream).stream] == ["cam-9"]


def test_the_password_is_read_from_its_file_only(loaded: Loader, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    settings = loaded(EXAMPLE)
    assert settings.mqtt.password() == "hunter2"
    assert "hunter2" not in repr(settings)


def test_the_hash_follows_every_value_but_no_secret(loaded: Loader, good: str) -> None:
    base = loaded(good).configuration_hash
    assert len(base) == 64
    assert loaded(good).configuration_hash == base
    assert loaded(good + "variant = 's'\n").configuration_hash != base
    one, other = (
        loaded(good.replace("clips/belt.avi", f"rtsp://user:{word}@cam/1?key={word}"))
        for word in ("hunter2", "swordfish")
    )
    assert one.configuration_hash == other.configuration_hash
    assert "hunter2" not in repr(one)


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://cam/user=admin_password={}_channel=1.sdp",
        "http://cam/usr=admin&pwd={}&pw={}",
        "http://cam/live?passwd={}",
        "gst:rtspsrc location=rtsp://cam/1 user-pw={} ! rtph264depay ! avdec_h264",
        'gst:rtspsrc location=rtsp://cam/1 user-pw=\\"{}\\" ! decodebin',
        "gst:rtspsrc location=rtsp://cam/1 user-pw='{} {}' ! decodebin",
        "gst:rtspsrc location=rtsp://cam/1 user-pw=(string)'{} {}' ! decodebin",
        "gst:rtmpsrc location='rtmp://cam/app/key pubUser=a pubPasswd={}' ! decodebin",
        'gst:souphttpsrc location=http://cam/1 cookies=\\"sid={}\\" ! decodebin',
        'gst:souphttpsrc extra-headers=\\"h,Authorization=(string)\\\\\\"Basic {}\\\\\\"\\" ! decodebin',
        "http://cam/u=admin/p={}/",
        "http://cam/usr=a_psd={}",
        "http://cam/jwt={}",
        "http://cam/streamkey={}",
        "rtsp://cam/1;jsessionid={}",
    ],
)
def test_no_secret_of_a_source_enters_the_hash(source: str, loaded: Loader, good: str) -> None:
    one, other = (
        loaded(good.replace("clips/belt.avi", source.format(*[word] * 2))) for word in ("hunter2", "swordfish")
    )
    assert one.configuration_hash == other.configuration_hash


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://admin:p%23a%40b%2Fc@10.0.0.5:554/s",
        "rtsp://user:it's!$&()*+,;=:fine@cam/s",
        "http://10.0.0.5:8080/stream@1.example/x",
        "http://cam.plant:80/a@b.example",
        "rtsp://cam/a@b#c",
    ],
)
def test_a_source_whose_password_is_percent_encoded_or_that_has_none_is_taken(
    source: str, loaded: Loader, good: str
) -> None:
    assert loaded(good.replace("clips/belt.avi", source)).stream[0].source == source


def test_settings_cannot_be_changed(loaded: Loader, good: str) -> None:
    with pytest.raises(ValueError, match="frozen"):
        loaded(good).mqtt.url = "mqtt://elsewhere"


@pytest.mark.parametrize(
    "source",
    [
        "/dev/video0?format=MJPG&size=1280x720&rate=30",
        "/dev/v4l/by-id/usb-camera-index0?rate=7.5",
        "csi:0",
        "csi:1?size=1920x1080",
        "gst:rtspsrc location=rtsp://user:pw@camera/1 ! rtph264depay ! avdec_h264",
    ],
)
def test_a_camera_of_the_device_is_kept_as_it_was_written(source: str, loaded: Loader, good: str) -> None:
    assert loaded(good.replace("clips/belt.avi", source)).stream[0].source == source


def test_a_secret_lies_where_systemd_put_it_else_where_root_keeps_it(loaded: Loader, good: str) -> None:
    text = good + '[mqtt]\nusername = "u"\npassword_file = "credential:mqtt-password"\n'
    inside = loaded(text, CREDENTIALS_DIRECTORY="/run/credentials/changeover.service")
    assert inside.mqtt.password_file == Path("/run/credentials/changeover.service/mqtt-password")
    assert loaded(text).mqtt.password_file == Path("/etc/changeover/credentials/mqtt-password")
    assert inside.configuration_hash == loaded(text).configuration_hash


SUPPLY = """
[catalog]
trusted_keys = ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"]
[supply]
window = "22:00-05:00"
[supply.host."s3.plant.example:9000"]
access_key_file = "credential:access"
secret_key_file = "credential:secret"
endpoint = "http://10.0.0.9:9000/"
"""


def test_a_minisign_key_and_a_host_with_its_credentials_are_taken(loaded: Loader, good: str) -> None:
    inside = loaded(good + SUPPLY, CREDENTIALS_DIRECTORY="/run/credentials/changeover.service")
    host = inside.supply.host["s3.plant.example:9000"]
    assert host.secret_key_file == Path("/run/credentials/changeover.service/secret")
    assert host.endpoint == "http://10.0.0.9:9000"
    assert inside.configuration_hash == loaded(good + SUPPLY).configuration_hash


@pytest.mark.parametrize("url", ["https://models.plant.example", "http://10.0.0.9:8080/", "s3://models"])
def test_an_index_may_be_all_that_a_server_or_bucket_has(loaded: Loader, good: str, url: str) -> None:
    read = loaded(good + f'[catalog]\nindex = "{url}"\nroot = "root.json"\n')
    assert read.catalog.index == url.rstrip("/")


@pytest.mark.parametrize("place", ["index", "file:///"])
def test_an_index_in_a_folder_is_a_file_url(loaded: Loader, good: str, tmp_path: Path, place: str) -> None:
    index = place if place == "index" else f"file://{tmp_path}/index"
    read = loaded(good + f'[catalog]\nindex = "{index}"\nroot = "root.json"\n')
    assert read.catalog.index == f"file://{tmp_path}/index"
    assert read.catalog.root == tmp_path / "root.json"
    assert loaded(good + '[catalog]\nindex = ""\nroot = ""\n').catalog.root is None
