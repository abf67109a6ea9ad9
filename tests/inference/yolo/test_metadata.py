import time
import tracemalloc

import pytest

from agent.inference.yolo.metadata import RTDETR, YOLO, FileFacts, agreed_imgsz, agreed_task, read_facts
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion, Task

ENTRY = ModelVersion("cap", "n", "1", "cap.onnx", "")
SIZED = ModelVersion("cap", "n", "1", "cap.onnx", "", imgsz=320)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("{0: 'Normal', 1: 'Fall'}", ("Normal", "Fall")),
        ({1: "b", 0: "a"}, ("a", "b")),
        ({"1": "k", "0": "c"}, ("c", "k")),
        ({"10": "k", "2": "c"}, ()),  # an index without a name: none is sure
        ({0: ["a"]}, ()),
        ({"first": "a"}, ()),
        (["a", "b"], ("a", "b")),
        ("__import__('os').getcwd()", ()),
        ("{" * 10_000, ()),
        (None, ()),
    ],
)
def test_names_in_every_form(names: object, expected: tuple[str, ...]) -> None:
    assert read_facts({"names": names}).names == expected


def test_facts_of_an_export() -> None:
    facts = read_facts({"task": "detect", "imgsz": "[480, 640]", "end2end": "True", "names": "{0: 'a'}"})
    assert facts == FileFacts(names=("a",), imgsz=(480, 640), task="detect", end2end=True, is_ultralytics=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("640", (640, 640)), ("[320]", (320, 320)), ("big", None), ("[0, 320]", None), ("99999999", None), ("-320", None)],
)
def test_sizes_in_every_form(text: str, expected: tuple[int, int] | None) -> None:
    assert read_facts({"imgsz": text}).imgsz == expected


def test_a_stranger_gives_no_facts() -> None:
    assert read_facts({}) == FileFacts()


def test_the_files_own_size_comes_first_then_the_catalogs() -> None:
    assert agreed_imgsz(ENTRY, FileFacts(imgsz=(480, 480)), (320, 256)) == (320, 256)
    assert agreed_imgsz(SIZED, FileFacts(imgsz=(480, 480)), None) == (320, 320)
    assert agreed_imgsz(ENTRY, FileFacts(imgsz=(480, 480)), None) == (480, 480)
    assert agreed_imgsz(ENTRY, FileFacts(), None) == (640, 640)
    with pytest.raises(ModelError, match="imgsz is 320 in the catalog, and the file takes 640 x 640"):
        agreed_imgsz(SIZED, FileFacts(), (640, 640))


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({"description": "Ultralytics rtdetr-l model "}, RTDETR),
        ({"description": "Ultralytics RT-DETR-x model trained on /data/yolo/parts.yaml"}, RTDETR),
        ({"description": "Ultralytics YOLO11n model trained on /data/rtdetr/parts.yaml"}, YOLO),
        ({"description": "Ultralytics best model trained on parts.yaml"}, None),
        ({"description": "a yolo of mine"}, None),
        ({"head": "RTDETRDecoder", "description": "Ultralytics YOLO11n model"}, RTDETR),
        ({"head": "v10Detect"}, YOLO),
        ({"head": "None"}, None),
        ({}, None),
    ],
)
def test_a_family_by_the_files_own_words(metadata: dict[str, object], family: str | None) -> None:
    assert read_facts(metadata).family == family


def test_arguments_and_release_of_an_export() -> None:
    facts = read_facts({"args": "{'nms': True, 'half': None, 'batch': 1}", "version": "8.4.60"})
    assert (facts.has_nms, facts.release, facts.is_ultralytics) == (True, (8, 4, 60), True)
    assert read_facts({"args": {"nms": None}}).has_nms is False
    assert read_facts({"args": "{'half': False}"}).has_nms is None
    assert read_facts({"version": "1.2.3"}).release is None, "somebody else's release"


@pytest.mark.parametrize(
    "text",
    [
        "{" + ", ".join(f"{index}: 'class {index}'" for index in range(400_000)) + "}",
        "(" * 7_000_000,
        "-" * 60_000 + "1",
        "1" + "+1" * 30_000,
        "[" * 30_000 + "]" * 30_000,
        "{'a': " * 9_000,
        "9" * 60_000,
    ],
    ids=["long", "open", "minus", "sum", "deep", "dicts", "number"],
)
def test_metadata_takes_neither_memory_nor_time(text: str) -> None:
    tracemalloc.start()
    began_s = time.thread_time()
    facts = read_facts({"names": text, "args": text, "end2end": text, "imgsz": text, "task": text, "version": text})
    took_s, most_bytes = time.thread_time() - began_s, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert facts.names == ()
    assert most_bytes < 64 << 20
    assert took_s < 30, "seven megabytes took the parser minutes"


def test_the_catalogs_task_settles_a_silent_file_and_contradicts_none() -> None:
    contradicting: tuple[tuple[Task, str], ...] = (("detect", "pose"), ("pose", "detect"), ("", "depth"))
    for task, said in contradicting:
        entry = ModelVersion("cap", "n", "1", "cap.onnx", "", classes=("cap",), task=task)
        with pytest.raises(ModelError) as refused:
            agreed_task(entry, FileFacts(task=said))
        assert refused.value.reason == "load_failed"
    silent, entry = (
        ModelVersion("cap", "n", "1", "cap.onnx", ""),
        ModelVersion("cap", "n", "1", "cap.onnx", "", task="pose"),
    )
    assert agreed_task(entry, FileFacts()) == agreed_task(silent, FileFacts(task="pose")) == "pose"
    assert not agreed_task(silent, FileFacts())
