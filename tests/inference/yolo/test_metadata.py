import pytest

from agent.inference.yolo.metadata import FileFacts, agreed_imgsz, read_facts
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

ENTRY = ModelVersion("cap", "n", "1", "cap.onnx", "")
SIZED = ModelVersion("cap", "n", "1", "cap.onnx", "", imgsz=320)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("{0: 'Normal', 1: 'Fall'}", ("Normal", "Fall")),
        ({1: "b", 0: "a"}, ("a", "b")),
        ({"10": "k", "2": "c"}, ("c", "k")),
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
    assert facts == FileFacts(names=("a",), imgsz=(480, 640), task="detect", end2end=True)


@pytest.mark.parametrize(("text", "expected"), [("640", (640, 640)), ("[320]", (320, 320)), ("big", None)])
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
