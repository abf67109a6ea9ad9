"""Every mistake in one run, each with file, key, what was found and what was expected."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.messages.errors import MistakeError
from agent.settings import Mistake, SettingsError, load

Failing = Callable[..., list[Mistake]]

STREAM = '[[stream]]\nid = "cam-1"\nline = "line-1"\nsource = "a.avi"\n'
LINE = '[line.line-1]\ndefault = "cap-check"\n'
RULE = '[[schedule]]\nline = "line-1"\nfrom = "22:00"\nto = "06:00"\nvariant = "x"\n'

ALONE = [
    ("bogus = 1\n" + STREAM + LINE, "bogus", "unknown key", "device"),
    ("[mqtt]\nurll = 'x'\n" + STREAM + LINE, "mqtt.urll", "unknown key", "url"),
    ("[device]\nid = 'a b'\n" + STREAM + LINE, "device.id", '"a b"', "letters"),
    ("[device]\nmemory_budget = 'lots'\n" + STREAM + LINE, "device.memory_budget", '"lots"', "900MiB"),
    ("[device]\nmemory_budget = 1.5\n" + STREAM + LINE, "device.memory_budget", "1.5", "0.4"),
    ("[device]\nmemory_budget = 0\n" + STREAM + LINE, "device.memory_budget", "0", "0.4"),
    ("[device]\nmemory_budget = nan\n" + STREAM + LINE, "device.memory_budget", "nan", "0.4"),
    ("[device]\ncompute = 'abacus'\n" + STREAM + LINE, "device.compute", '"abacus"', "cuda:0"),
    ("[device]\ncompute = 'gpu'\n" + STREAM + LINE, "device.compute", '"gpu"', "tensorrt:0"),
    ("[device]\ncompute = 'npu:0'\n" + STREAM + LINE, "device.compute", '"npu:0"', "cuda:0"),
    ("[device]\ncompute = 'dla:0'\n" + STREAM + LINE, "device.compute", '"dla:0"', "cuda:0"),
    ("[device]\ncompute = 'cuda:x'\n" + STREAM + LINE, "device.compute", '"cuda:x"', "cuda:0"),
    ("[device]\ncompute = 'cuda:-1'\n" + STREAM + LINE, "device.compute", '"cuda:-1"', "cuda:0"),
    ("[device]\ncompute = 'cpu:0'\n" + STREAM + LINE, "device.compute", '"cpu:0"', "cuda:0"),
    ("[device]\ncompute = '0'\n" + STREAM + LINE, "device.compute", '"0"', "cuda:0"),
    ("[device]\ncompute = ''\n" + STREAM + LINE, "device.compute", '""', "cuda:0"),
    ("[device]\nhot_c = 20\n" + STREAM + LINE, "device.hot_c", "20", "40 to 120"),
    ("[device]\nhot_c = 'warm'\n" + STREAM + LINE, "device.hot_c", '"warm"', "auto"),
    ("[device]\nhot_c = true\n" + STREAM + LINE, "device.hot_c", "true", "auto"),
    ("[mqtt]\nurl = 'http://x'\n" + STREAM + LINE, "mqtt.url", '"http://x"', "mqtts://"),
    ("[mqtt]\nurl = 'mqtt://x:99999'\n" + STREAM + LINE, "mqtt.url", '"mqtt://x:99999"', "mqtts://"),
    ("[mqtt]\nprotocol = '4'\n" + STREAM + LINE, "mqtt.protocol", '"4"', "3.1.1"),
    ("[mqtt]\nroot = 'a//b'\n" + STREAM + LINE, "mqtt.root", '"a//b"', "levels"),
    ("[mqtt]\nkeepalive_s = 0\n" + STREAM + LINE, "mqtt.keepalive_s", "0", "a number greater than or equal to 1"),
    ("[outbox]\nmax_bytes = '3 apples'\n" + STREAM + LINE, "outbox.max_bytes", '"3 apples"', "256MiB"),
    ("[outbox]\nmax_age = true\n" + STREAM + LINE, "outbox.max_age", "true", "7d"),
    ("[outbox]\ndetections = 'no'\n" + STREAM + LINE, "outbox.detections", '"no"', "offline"),
    ("[catalog]\ntrusted_keys = ['abc']\n" + STREAM + LINE, "catalog.trusted_keys[0]", "does not fit", "Ed25519"),
    ("[catalog]\nindex = 'https://m.example/i'\n" + STREAM + LINE, "catalog.root", "nothing", "root.json"),
    ("[catalog]\nindex = 'ftp://m.example/i'\nroot='r.json'\n" + STREAM + LINE, "catalog.index", "ftp", "file://"),
    ("[catalog]\nmin_free = 'much'\n" + STREAM + LINE, "catalog.min_free", '"much"', "256MiB"),
    ("[supply]\nwindow = '22-05'\n" + STREAM + LINE, "supply.window", '"22-05"', "22:00-05:00"),
    ("[supply]\nwindow = '22:00-22:00'\n" + STREAM + LINE, "supply.window", '"22:00-22:00"', "two times"),
    ("[supply]\nmax_kbps = -1\n" + STREAM + LINE, "supply.max_kbps", "-1", "greater"),
    ("[supply.host.'a/b']\n" + STREAM + LINE, 'supply.host."a/b"', '"a/b"', "HOST:PORT"),
    ("[supply.host.h]\ntoken_file='credential:../x'\n" + STREAM + LINE, "supply.host.h.token_file", "fit", "NAME"),
    ("[supply.host.h]\nsecret_key_file='x'\n" + STREAM + LINE, "supply.host.h.access_key_file", "nothing", "together"),
    ("[supply.host.h]\nendpoint='h:9000'\n" + STREAM + LINE, "supply.host.h.endpoint", '"h:9000"', "http"),
    ("[http]\nbind = '9108'\n" + STREAM + LINE, "http.bind", '"9108"', "HOST:PORT"),
    ("mqtt = 3\n" + STREAM + LINE, "mqtt", "3", "a table"),
    ("stream = 3\n" + LINE, "stream", "3", "[["),
    (STREAM + "fps = -1\n" + LINE, "stream[0].fps", "-1", "greater"),
    (STREAM + "fps = 'fast'\n" + LINE, "stream[0].fps", '"fast"', "number"),
    (STREAM + "publish = 'some'\n" + LINE, "stream[0].publish", '"some"', "summary"),
    (STREAM.replace("a.avi", "ftp://x/y") + LINE, "stream[0].source", "does not fit", "rtsp://"),
    (STREAM.replace("a.avi", "/dev/video0?size=big") + LINE, "stream[0].source", "does not fit", "size=1280x720"),
    (STREAM + LINE + "[mqtt]\nusername='u'\npassword_file='credential:../x'", "mqtt.password_file", "fit", "NAME"),
    (STREAM.replace("a.avi", "csi:left") + LINE, "stream[0].source", "does not fit", "csi:N"),
    (STREAM.replace("a.avi", "gst:a ! 'b") + LINE, "stream[0].source", "does not fit", "without a sink"),
    (STREAM + STREAM + LINE, "stream[1].id", '"cam-1"', "stream[0]"),
    (STREAM.replace('id = "cam-1"', "") + LINE, "stream[0].id", "nothing", "letters"),
    (
        STREAM + LINE + STREAM.replace('"line-1"', '"line-9"').replace("cam-1", "cam-2"),
        "stream[1].line",
        '"line-9"',
        "line-1",
    ),
    (STREAM + LINE + "[line.line-2]\ndefault = 'x'\n", "line.line-2", "no stream", "line-2"),
    (STREAM + "[line.line-1]\n", "line.line-1.default", "nothing", "NAME"),
    (STREAM + "[line.line-1]\ndefault = 'a:b:c'\n", "line.line-1.default", '"a:b:c"', "NAME"),
    (STREAM + LINE + "dwell_s = '-1s'\n", "line.line-1.dwell_s", '"-1s"', "30s"),
    (STREAM + LINE + "[line.line-1.products]\n'0' = 'x'\n", "line.line-1.products.0", '"0"', "other than"),
    (STREAM + LINE + "[line.line-1.products]\n'0.0' = 'x'\n", 'line.line-1.products."0.0"', '"0.0"', "other than"),
    (STREAM + LINE + "[line.line-1.products]\n' ' = 'x'\n", 'line.line-1.products." "', '" "', "printable"),
    (STREAM + LINE + "[line.line-1.products]\n17 = 'x'\n'17.0' = 'y'\n", 'line.line-1.products."17.0"', "17", "once"),
    (STREAM + LINE + f"[line.line-1.products]\n{'p' * 65} = 'x'\n", f"line.line-1.products.{'p' * 65}", "ppp", "64"),
    (
        STREAM.replace("a.avi", "rtsp://10.0.0.5/x") + "ca_file = 'ca.pem'\n" + LINE,
        "stream[0].source",
        "without TLS",
        "rtsps://",
    ),
    (STREAM + LINE + "[[binding]]\ntopic = 'a/+'\nline = 'line-1'\n", "binding[0].topic", '"a/+"', "wildcards"),
    (STREAM + LINE + "[[binding]]\ntopic = 'a/#'\nline = 'line-1'\n", "binding[0].topic", '"a/#"', "wildcards"),
    (STREAM + LINE + "[[binding]]\ntopic = 'a'\nline = 'nope'\n", "binding[0].line", '"nope"', "line-1"),
    (STREAM + LINE + "[[binding]]\ntopic = 'a'\nline = 'line-1'\nvalue = 'x.y'\n", "binding[0].value", '"x.y"', "$."),
    (
        STREAM + LINE + "[[binding]]\ntopic = 'a'\nline = 'line-1'\nvalue = '$.a[?(@.b ==)].c'\n",
        "binding[0].value",
        "@.b ==",
        "$.",
    ),
    (STREAM + LINE + RULE.replace("22:00", "25:00"), "schedule[0].from", '"25:00"', "22:00"),
    (STREAM + LINE + RULE.replace("06:00", "6"), "schedule[0].to", '"6"', "22:00"),
    (STREAM + LINE + RULE + "days = 'fry'\n", "schedule[0].days", '"fry"', "mon-fri"),
    (STREAM + LINE + RULE + "timezone = 'Mars'\n", "schedule[0].timezone", '"Mars"', "Europe/Berlin"),
    (STREAM + LINE + RULE + "model = 'y'\n", "schedule[0]", "both", "one of"),
    (STREAM + LINE + RULE.replace("line-1", "nope"), "schedule[0].line", '"nope"', "line-1"),
    (
        STREAM + LINE + "[[bandwidth]]\nline = 'no'\nbelow_kbps = 1\npublish = 'all'\n",
        "bandwidth[0].line",
        '"no"',
        "line-1",
    ),
    (STREAM + LINE + "[[bandwidth]]\nline = 'line-1'\nbelow_kbps = 1\n", "bandwidth[0]", "neither", "at least one"),
]


@pytest.mark.parametrize(("text", "key", "found", "expected"), ALONE, ids=[case[1] for case in ALONE])
def test_one_mistake_is_one_line(mistakes: Failing, text: str, key: str, found: str, expected: str) -> None:
    (mistake,) = mistakes(text)
    assert mistake.key == key
    assert found in mistake.found
    assert expected in mistake.expected
    assert mistake.file.endswith("changeover.toml")
    assert str(mistake) == f"{mistake.file}: {key}: found {mistake.found}, expected {mistake.expected}"
    assert "\n" not in str(mistake)


def test_all_mistakes_come_in_one_run(mistakes: Failing) -> None:
    text = (
        "[device]\nid = 'a b'\ncompute = 'abacus'\n[mqtt]\nprotocol = '9'\n"
        + STREAM
        + "fps = -1\n"
        + STREAM.replace("line-1", "line-9")
        + RULE.replace("22:00", "99:00").replace("line-1", "line-9")
        + "[line.line-1]\nvariant = '!'\n"
    )
    found = mistakes(text, CHANGEOVER_HTTP__BIND="here", CHANGEOVER_NONSENSE="1")
    assert {mistake.key for mistake in found} == {
        "device.id",
        "device.compute",
        "mqtt.protocol",
        "stream[0].fps",
        "stream[1].id",
        "stream[1].line",
        "schedule[0].from",
        "schedule[0].line",
        "line.line-1.variant",
        "line.line-1.default",
        "CHANGEOVER_HTTP__BIND",
        "CHANGEOVER_NONSENSE",
    }


def test_the_environment_is_named_where_it_is_wrong(mistakes: Failing) -> None:
    found = mistakes(
        STREAM + LINE, CHANGEOVER_MQTT__KEEPALIVE_S="often", CHANGEOVER_MQTT__URLL="x", CHANGEOVER_STREAM="[{"
    )
    assert [(mistake.file, mistake.key) for mistake in found] == [
        ("environment", "CHANGEOVER_MQTT__KEEPALIVE_S"),
        ("environment", "CHANGEOVER_MQTT__URLL"),
        ("environment", "CHANGEOVER_STREAM"),
    ]


def test_no_secret_is_ever_shown(mistakes: Failing) -> None:
    found = mistakes(
        "[mqtt]\nurl = 'mqtt://u:hunter2@broker'\npassword = 'hunter2'\nusername = ['hunter2']\n"
        + STREAM.replace("a.avi", "rtp://u:hunter2@cam/x?pw=hunter2")
        + LINE,
        CHANGEOVER_STREAMS="hunter2",
        CHANGEOVER_MQTT__PASSWORD="hunter2",
        CHANGEOVER_BINDING="hunter2",
    )
    assert len(found) >= 6
    assert "hunter2" not in str(SettingsError(found))


def test_broken_toml_is_named_with_its_line(mistakes: Failing) -> None:
    (mistake,) = mistakes("[mqtt]\nurl = \n")
    assert mistake.file.endswith("changeover.toml:2:7")
    assert mistake.found == "`url =`"
    assert mistake.expected.startswith("a value after url =")


def test_a_file_that_is_not_there_or_no_text_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'[device]\nid = "\xe9"\n')
    for name, words in (("none.toml", "no such file"), ("latin.toml", "UTF-8"), (".", "directory")):
        with pytest.raises(SettingsError, match=words):
            load(tmp_path / name, {})
    assert issubclass(SettingsError, MistakeError)


def test_the_file_is_looked_for_where_the_contract_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agent.settings.loading.PLACES", (str(tmp_path / "etc.toml"), "config/changeover.toml"))
    with pytest.raises(SettingsError, match=r"CHANGEOVER_CONFIG.*config/changeover\.toml"):
        load(None, {})
    for number, name in enumerate(("config/changeover.toml", "etc.toml", "named.toml", "option.toml")):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"[device]\nid = 'box-{number}'\n{STREAM}{LINE}")
    environ = {"CHANGEOVER_CONFIG": "named.toml"}
    assert load(Path("option.toml"), environ).device.id == "box-3"
    assert load(None, environ).device.id == "box-2"
    assert load(None, {}).device.id == "box-1"
    (tmp_path / "etc.toml").unlink()
    assert load(None, {}).device.id == "box-0"


def test_tls_and_credentials_go_together(mistakes: Failing) -> None:
    keys = [mistake.key for mistake in mistakes("[mqtt]\npassword_file = 'p'\ncert_file = 'c'\n" + STREAM + LINE)]
    assert keys == ["mqtt.key_file", "mqtt.username"]


@pytest.mark.parametrize(
    ("source", "how"),
    [
        ("rtsp://admin:pa#hunter2@10.0.0.5/s", "%23 for #"),
        ("rtsp://admin:p@hunter2@10.0.0.5:554/s", "%40 for @"),
        ("rtsp://admin:p/hunter2@10.0.0.5/s", "%2F for /"),
        ("rtsp://admin:12/hunter2@10.0.0.5/s", "%2F for /"),
        ("http://admin:p?hunter2@cam.plant/s", "%3F for ?"),
        ("rtsp://admin:p%hunter2@10.0.0.5/s", "%25 for %"),
        ("rtsp://admin:p hunter2@10.0.0.5/s", "%20 for a space"),
        ("rtsp://admin:#/@hunter2@10.0.0.5/s", "%23 for #, %2F for /, %40 for @"),
        ("rtsp://us#er:hunter2@[::1]:554/s", "%23 for #"),
        ("http://cam.plant/video?user=a&pwd=hun#ter2", "%23 for #"),
        ("http://cam.plant/video?user=a&kennwort=hun#ter2", "%23 for #"),
        ("rtsp://10.0.0.5/live/geheim=hun#ter2", "%23 for #"),
        ("rtsp://10.0.0.5/user=a_password=hun#ter2", "%23 for #"),
        ("rtsp://admin@plant.example:hun#ter2@10.0.0.5/s", "%23 for #, %40 for @"),
    ],
)
def test_a_password_that_is_not_percent_encoded_is_named_with_the_cure(
    source: str, how: str, mistakes: Failing
) -> None:
    (found,) = mistakes(STREAM.replace("a.avi", source) + LINE)
    assert (found.key, found.expected.endswith(f"write {how}")) == ("stream[0].source", True), found
    assert not any(one in str(found) for one in ("hunter2", "ter2"))
