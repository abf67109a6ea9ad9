"""Text that is no TOML: line, column, the text, the cure; every fault in one run."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings import SettingsError, read_toml
from agent.settings.mistakes import shown_line
from agent.settings.toml_cures import cure_of, parses
from agent.settings.toml_file import parse_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CURES = [
    ("fps = 7,5 # at most", "fps = 7.5 # at most"),
    ("fps = 1.000,5", "fps = 1000.5"),
    ("loop = True", "loop = true"),
    ("loop = off", "loop = false"),
    ("fps = 015", "fps = 15"),
    ("url = mqtt://10.0.0.2:1883", 'url = "mqtt://10.0.0.2:1883"'),
    ("max_bytes = 256 MiB", 'max_bytes = "256 MiB"'),
    ("from = 22:00", 'from = "22:00"'),
    ("id = \u201ecam-1\u201c", 'id = "cam-1"'),
    ("id = \u00abcam-1\u00bb", 'id = "cam-1"'),
    ('id = "cam-1\u201d', 'id = "cam-1"'),
    ('id = cam-1"', 'id = "cam-1"'),
    ("id = 'cam-1", "id = 'cam-1'"),
    ('"bottle-500 = "cap"', 'bottle-500 = "cap"'),
    ('größe 1 = "cap"', '"größe 1" = "cap"'),
    ('source = "C:\\Users\\me.avi"', 'source = "C:/Users/me.avi"'),
    ("[line.line 1] # the first", "[line.line-1]  # the first"),
    ("[[stream]", "[[stream]]"),
    ("[stream]]", "[[stream]]"),
    ("[ [stream] ]", "[[stream]]"),
    ('[[stream]] id = "x"', '[[stream]]\nid = "x"'),
    ('url: "x"', 'url = "x"'),
    ('url "x"', 'url = "x"'),
    ("fps == 15", "fps = 15"),
    ("fps = 15;", "fps = 15"),
    ("fps : = 15", "fps = 15"),
    ("; a comment", "# a comment"),
    ("id: \u201ccam-1\u201d", 'id = "cam-1"'),
    ("classes = [cap, no-cap]", 'classes = ["cap", "no-cap"]'),
    ('days = ["mon", "tue"', 'days = ["mon", "tue"]'),
    ('files = { "a.bin" = "00", }', 'files = { "a.bin" = "00" }'),
    ("id = \u200b'cam-1'", "id = 'cam-1'"),
    ("fps = .5", "fps = 0.5"),
    ("fps = -5. # at most", "fps = -5.0 # at most"),
    ('id = "cam-1" line = "line-1"', 'id = "cam-1"\nline = "line-1"'),
    ('id = "cam-1", line = "line-1" # both', 'id = "cam-1"\nline = "line-1" # both'),
    ("fps = 15; loop = true", "fps = 15\nloop = true"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "changeover.toml"


@pytest.mark.parametrize(("wrong", "right"), CURES, ids=[wrong for wrong, _ in CURES])
def test_the_line_as_it_should_be_is_shown(wrong: str, right: str, file: Path) -> None:
    file.write_text(f"version = 1\n{wrong}\n", encoding="utf-8")
    read = parse_toml(file)
    assert read.tables == {"version": 1, **tomllib.loads(right)}
    (mistake,) = read.mistakes
    assert mistake.file.startswith(f"{file}:2:")
    assert mistake.found == f"`{shown_line(wrong)}`"
    assert mistake.expected.endswith(f": {shown_line(right.replace(chr(10), ' ' + chr(92) + 'n '))}")


def test_all_faults_come_in_one_run(file: Path) -> None:
    file.write_text("[mqtt]\nurl = x\n[[stream]\nfps = 7,5\nid = 'a\n\n[line.a b]\nloop = yes\n")
    assert [one.file.removeprefix(f"{file}:").split(":")[0] for one in parse_toml(file).mistakes] == list("234578")
    with pytest.raises(SettingsError, match="true or false") as caught:
        read_toml(file)
    assert len(caught.value.mistakes) == 6


def test_lines_are_counted_as_the_file_has_them_behind_a_line_that_needs_two(file: Path) -> None:
    file.write_text('id = "a" line = "b"\n[mqtt] url = "x"\n\nfps = 7,5\n')
    assert [one.file.removeprefix(f"{file}:").split(":")[0] for one in parse_toml(file).mistakes] == list("124")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a = [\n1\n2]\n", ":1:5", "] behind its last value, and a comma"),
        ("a = {b=1,\nc=2}\n", ":1:", "a table in { } on one line"),
        ('a = """x\nb = 1\n', ":1:8", 'which nothing closes, expected """'),
        ("[a]\nx=1\n[b]\n[ a ]\n", ":4:", "where line 1 begins it already"),
        ("a.b = 1\na.b = 2\n", ":2:", "line 1 sets a.b already"),
        ("[stream]\nid='a'\n[stream]\n", ":3:", "[[stream]] with two brackets"),
        ("a = 1\n[a]\n", ":2:", "one a: as a table or as a key"),
        ("k = \n", ":1:", "# before the line to leave the key out"),
        ("k = None\n", ":1:", "# before the line to leave k out"),
        ('{"mqtt": {}}\n', ":1:1", "which is JSON"),
        ("- id: 1\n", ":1:", "which is YAML"),
        ("a = 1\rb = 2\r", ":1", "line ends"),
        ("a = " + "[" * 9000, "", ""),
        ("x" * 5000 + "\n", ":1:", "TOML"),
        ("a = 1\nfps = " + "9" * 5000 + "\n", ":2:", "a number of at most 4300 digits"),
        ('a = """cap"\nb = 1\n[c]\nd = 2\n', ":1:", 'which nothing closes, expected """'),
        ("z = '''y\n'''\na = '''cap'\nb = 1\n", ":3:", "which nothing closes, expected '''"),
        ("t = {\n a = 1\n}\n", ":1:", "a table in { } on one line, or a [table] of its own"),
        ("a = 1\n<<<<<<< HEAD\nb = 1\n=======\nb = 2\n>>>>>>> x\n", ":2:", "which a merge left"),
        ("<<<<<<< HEAD\nb = 1\n=======\nb = 2\n>>>>>>> x\n", ":1:", "which a merge left"),
    ],
)
def test_what_only_the_user_knows_is_told_without_a_guess(text: str, place: str, words: str, file: Path) -> None:
    file.write_bytes(text.encode())
    with pytest.raises(SettingsError) as caught:
        read_toml(file)
    first = str(caught.value.mistakes[0])
    assert first.startswith(f"{file}{place}")
    assert words in first


def test_windows_text_and_its_line_ends_are_read_or_named(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 'x'\r\n")
    assert read_toml(file) == {"a": 1, "b": "x"}
    for content, words in (("a = 1\n".encode("utf-16"), "UTF-16"), (b"a = 1\nb = '\xfc'\n", ":2:6: found a byte 0xfc")):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match=words):
            read_toml(file)


@pytest.mark.parametrize(
    "line",
    [
        "password = hunter 2",
        "username = hunter",
        "source = rtsp://admin:hun ter@10.0.0.5/x",
        "source = rtsp://admin:hunter@10.0.0.5/x",
        "source: rtsp://10.0.0.5/user=a_kennwort=hunter",
        "password_file = hunter",
        "key_file hunter",
        'source = "gst:rtspsrc user-pw=hunter ! x',
    ],
)
def test_no_secret_of_a_broken_line_is_shown(line: str, file: Path) -> None:
    file.write_text(line + "\n")
    with pytest.raises(SettingsError) as caught:
        read_toml(file)
    assert "hunter" not in str(caught.value)
    assert "hun ter" not in str(caught.value)


def test_what_holds_no_secret_is_shown() -> None:
    for line in ("source = /dev/video0", "source = rtsp://10.0.0.5:554/s", "password_file = /etc/changeover/p"):
        assert shown_line(line) == line


@given(st.text(alphabet="ab=[]{}\"'#,.:;/\\ \t1", max_size=40))
def test_a_cure_always_parses(line: str) -> None:
    cure = cure_of(line)
    assert cure is None or cure.line is None or parses(cure.line)


@pytest.mark.parametrize(
    "part", ["\"'", '"', "'", '"a', " ", "[", "=", "\\", "a ", "a.", "{", "x:", "# ", "// ", "\u201c"]
)
def test_no_line_takes_long(part: str, file: Path) -> None:
    """Patterns that step back take longer than a life for some lines of a thousand characters."""
    file.write_text("x" + part * (1000 // len(part)) + "\n", encoding="utf-8")
    parse_toml(file)
