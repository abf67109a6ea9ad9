"""Mistakes of configuration that people make, each as a change of a good one; docs/mistakes.md has what is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.files import file_sha256
from support.tiny_models import write_tiny_model

Make = Callable[[Path], object]

CONFIGURATION: Final = """version = 1
[mqtt]
url = "mqtt://10.0.0.2"
[[stream]]
id = "cam-1"
line = "line-1"
source = "clip.avi"
fps = 15
[line.line-1]
default = "cap-check"
[line.line-1.products]
"17" = "cap-check"
"""
RULE: Final = '[[schedule]]\nline = "line-1"\nfrom = "22:00"\nto = "06:00"\nvariant = "n"\n'
BINDING: Final = '[[binding]]\ntopic = "plant/recipe"\nline = "line-1"\nvalue = "$.recipe"\n'


def good(folder: Path) -> Path:
    """Write a configuration without a mistake, its catalog, model and video file; return its file."""
    model = write_tiny_model(folder / "cap.onnx")
    (folder / "models.toml").write_text(_entry(file_sha256(model)))
    (folder / "clip.avi").write_bytes(b"RIFF....AVI LIST")
    file = folder / "changeover.toml"
    file.write_text(CONFIGURATION)
    return file


def _entry(sha256: str) -> str:
    return f'[[model]]\nname = "cap-check"\nvariant = "n"\nversion = "3"\nfile = "cap.onnx"\nsha256 = "{sha256}"\n'


def _change(old: str, new: str) -> Make:
    """Return what replaces a part of the configuration."""

    def make(folder: Path) -> None:
        file = folder / "changeover.toml"
        text = file.read_text()
        assert old in text, old
        file.write_text(text.replace(old, new, 1))

    return make


def _catalog(old: str, new: str) -> Make:
    """Return what replaces a part of the catalog."""

    def make(folder: Path) -> None:
        file = folder / "models.toml"
        assert old in file.read_text(), old
        file.write_text(file.read_text().replace(old, new, 1))

    return make


def _add(text: str) -> Make:
    """Return what appends to the configuration."""
    return lambda folder: (folder / "changeover.toml").write_text(CONFIGURATION + text)


def _all(content: bytes) -> Make:
    return lambda folder: (folder / "changeover.toml").write_bytes(content)


def _source(text: str) -> Make:
    return _change("clip.avi", text)


def _model(content: bytes) -> Make:
    """Return what makes a file of `content` the model, with its right sha256."""

    def make(folder: Path) -> None:
        (folder / "cap.onnx").write_bytes(content)
        (folder / "models.toml").write_text(_entry(file_sha256(folder / "cap.onnx")))

    return make


def _video(content: bytes) -> Make:
    return lambda folder: (folder / "clip.avi").write_bytes(content)


def _no_pictures(folder: Path) -> None:
    (folder / "pictures").mkdir()
    _source("pictures")(folder)


def _password(content: str) -> Make:
    def make(folder: Path) -> None:
        (folder / "password").write_text(content)
        _change("[mqtt]", '[mqtt]\nusername = "box-7"\npassword_file = "./password"')(folder)

    return make


def _closed(folder: Path) -> None:
    (folder / "cap.onnx").chmod(0o600)


def _closed_folder(folder: Path) -> None:
    (folder / "films").mkdir(mode=0o700)
    (folder / "clip.avi").rename(folder / "films" / "clip.avi")
    _source("films/clip.avi")(folder)


def _at_home(folder: Path) -> None:
    (folder / "home").mkdir()
    (folder / "clip.avi").rename(folder / "home" / "clip.avi")
    _source("home/clip.avi")(folder)


def _old_key(folder: Path) -> None:
    catalog = folder / "models.toml"
    catalog.write_text(catalog.read_text().replace("cap.onnx", "cap.xml") + f'files = {{ "cap.bin" = "{"0" * 64}" }}\n')
    with catalog.open("a") as file:
        file.write(f'weights_sha256 = "{"0" * 64}"\n')


MISTAKES: Final[dict[str, Make]] = {
    "a comma in a number": _change("fps = 15", "fps = 7,5"),
    "`yes` for `true`": _change("fps = 15", "loop = yes"),
    "curly quotes, pasted from a document": _change('id = "cam-1"', "id = “cam-1”"),
    "a blank in a table's name": _change("[line.line-1]", "[line.line 1]"),
    "a blank in a product without quotes": _change('"17"', "bottle 500"),
    "a text without quotes": _change('id = "cam-1"', "id = cam-1"),
    "a quote that does not close": _change('line = "line-1"', 'line = "line-1'),
    "quotes within quotes": _add(BINDING.replace("$.recipe", '$["recipe"]')),
    "a path of Windows": _source("C:\\\\Users\\\\me\\\\clip.avi"),
    "a path whose \\t and \\n are control characters": _source("D:\\temp\\new.avi"),
    "a backslash that begins nothing": _change("mqtt://10.0.0.2", "mqtt://10.0.0.2\\"),
    "a bracket that is missing": _change("[mqtt]", "[mqtt"),
    "a list that does not close": _add(RULE + 'days = ["mon", "tue"\n'),
    "a text of several lines that does not close": _change('id = "cam-1"', 'id = """cam-1"'),
    "a table over several lines, as JSON has it": _change(
        '[mqtt]\nurl = "mqtt://10.0.0.2"', 'mqtt = {\n  url = "mqtt://10.0.0.2"\n}'
    ),
    "two keys on a line": _change('id = "cam-1"\nline', 'id = "cam-1", line'),
    "what a merge left": _change("fps = 15", "<<<<<<< HEAD\nfps = 15\n=======\nfps = 10\n>>>>>>> plant"),
    "a table twice": _add('[mqtt]\nusername = "box-7"\n'),
    "a key twice": _change("fps = 15", 'fps = 15\nline = "line-2"'),
    "one bracket for a stream": _change("[[stream]]", "[stream]"),
    "two brackets for a section": _change("[mqtt]", "[[mqtt]]"),
    "a colon for the equals sign": _change("fps = 15", "fps: 15"),
    "a key without a value": _change("fps = 15", "fps ="),
    "a time without quotes": _add(RULE.replace('"22:00"', "22:00")),
    "a comment of another language": _change("fps = 15", "fps = 15 // at most"),
    "a blank that is none, pasted from a web page": _change("fps = 15", "fps\u00a0= 15"),
    "a tab within a product": _change('"17"', "bottle\t500"),
    "YAML": _all(b"---\nmqtt:\n  host: 10.0.0.2\n"),
    "an encoding of Windows": _all(CONFIGURATION.replace("17", "B\u00fcgel").encode("latin-1")),
    "a file of a newer version": _change("version = 1", "version = 2"),
    "a key with a slip": _change("url = ", "urll = "),
    "a password in the configuration": _change("[mqtt]", '[mqtt]\npassword = "hunter2"'),
    "a key in another section's place": _change("[mqtt]", '[mqtt]\nmemory_budget = "1GiB"'),
    "a key of the line below its products": _add("dwell_s = 5\n"),
    "the product 0": _add('"0" = "cap-check"\n'),
    "a product twice": _add('"17.0" = "cap-check"\n'),
    "a line that is not there": _add(BINDING.replace("line-1", "line-2")),
    "a group that is not there": _change('default = "cap-check"', 'default = "cap-check"\ngroup = "press"'),
    "a group without a line": _change("[mqtt]", "[group.press]\n[mqtt]"),
    "a model that is not there": _add('"18" = "cap-chek"\n'),
    "a broker's address alone": _change("mqtt://10.0.0.2", "10.0.0.2:1883"),
    "a password in the broker's URL": _change("mqtt://10.0.0.2", "mqtt://box:hunter2@10.0.0.2"),
    "a certificate without TLS": _change("[mqtt]", '[mqtt]\nca_file = "models.toml"'),
    "a password's file that is not there": _change("[mqtt]", '[mqtt]\nusername = "box"\npassword_file = "./password"'),
    "a password's file that is empty": _password("\n"),
    "# in a camera's password": _source("rtsp://admin:hunter#2@10.0.0.5/stream"),
    "# in a password of a camera's query": _source("http://10.0.0.5/video?user=admin&kennwort=hunter#2"),
    "a camera's address alone": _source("10.0.0.5/stream"),
    "a camera's number": _source("0"),
    "a file's URL": _source("file:///srv/clip.avi"),
    "a video file that is not there": _source("clips.avi"),
    "a home of nobody": _source("~no-one-here/clip.avi"),
    "a video file that is empty": _video(b""),
    "a web page for a video file": _video(b"<!DOCTYPE html><html>"),
    "a folder without pictures": _no_pictures,
    "no catalog": lambda folder: (folder / "models.toml").unlink(),
    "a text for a model": _model(b"this is not the model that you look for\n"),
    "a Git LFS pointer for a model": _model(b"version https://git-lfs.github.com/spec/v1\n"),
    "a model that was changed": lambda folder: (folder / "cap.onnx").write_bytes(b"other"),
    "a wildcard in a binding": _add(BINDING.replace("plant/recipe", "plant/#")),
    "an hour that no day has": _add(RULE.replace("22:00", "25:00")),
    "an index without its root": _add('[catalog]\nindex = "https://models.plant.example/index"\n'),
    "keys beside the root of an index": _add(f'[catalog]\nroot = "clip.avi"\ntrusted_keys = ["{"ab" * 32}"]\n'),
    "a key that is none": _add('[catalog]\ntrusted_keys = ["untrusted comment: minisign public key"]\n'),
    "a window without its end": _add('[supply]\nwindow = "22:00"\n'),
    "an alias of a registry that is none": _change(
        'default = "cap-check"', 'default = "cap-check"\ncandidate = "cap-check@candidate"'
    ),
    "one of a bucket's two keys": _add('[supply.host."s3.plant.example"]\naccess_key_file = "clip.avi"\n'),
    "a credential that is not there": _add('[supply.host."s3.plant.example"]\ntoken_file = "./token"\n'),
    "an endpoint without http://": _add('[supply.host."s3.plant.example"]\nendpoint = "10.0.0.9:9000"\n'),
    "a password in a model's URL": _catalog('"cap.onnx"', '"https://me:hunter2@models.plant.example/cap.onnx"'),
    "a model at a source that there is not": _catalog('"cap.onnx"', '"ftp://models.plant.example/cap.onnx"'),
}
"""Messages to somebody who checks a configuration of their own."""

AS_ROOT: Final[dict[str, Make]] = {
    "root's model, which the service may not read": _closed,
    "a video file in a folder that is closed to the service": _closed_folder,
    "a video file in /home or /root": _at_home,
}
"""Messages to root on the service, whose user is `nobody` here, and whose unit hides FOLDER/home."""
