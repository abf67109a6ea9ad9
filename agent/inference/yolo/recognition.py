"""Recognition of a file's output layout by its metadata, then by the shapes of its outputs.

A model is refused where two layouts are possible, because a wrong guess would serve wrong detections unnoticed.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from agent.inference.yolo.layouts import SERVED_WORDS, TABLE, Layout, Reading, Seen, Shapes
from agent.inference.yolo.metadata import FileFacts, agreed_task
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.models.onnx_file import OPEN

_BOX: Final = 4
_ROW: Final = 6  # a box, score, label
_POINT_SIZES: Final = (2, 3)  # x, y, and a score


class Recognised(NamedTuple):
    """A layout, with the numbers of the file's outputs that it reads, in its order."""

    layout: Layout
    outputs: tuple[int, ...]


def recognise(
    version: ModelVersion, facts: FileFacts, shapes: Shapes, imgsz: tuple[int, int], classes: int
) -> Recognised:
    """Return the layout of a file's outputs: the catalog's, else the metadata's, else the only one that fits.

    `shapes` has OPEN for each side that the file leaves open; `imgsz` is height and width; `classes` is the number of
    class names. Where neither catalog nor file say the task, an output that only its task tells apart fits nothing.

    Raises ModelError("unclear_layout") where two layouts are possible, and ModelError("proof_failed") where none is.
    """
    task = agreed_task(version, facts)
    known = f"{version.reference}: the output is {' and '.join(str(tuple(shape)) for shape in shapes)}"
    possible = [reading for reading in TABLE if reading.task == task or (not task and reading.is_silent)]
    fitting = {
        reading: seen
        for reading in possible
        for seen in _looks(reading, shapes, facts, imgsz, classes)
        if reading.fits(seen)
    }
    if version.layout:
        named = _named(version.layout, list(fitting), known)
        return Recognised(named.layout, fitting[named].outputs)
    left = [reading for reading in fitting if not reading.denied(facts)]
    left = [reading for reading in left if reading.affirmed(fitting[reading])] or left
    if not left:
        expected = " or ".join(reading.layout.value for reading in possible)
        raise ModelError("proof_failed", f"{known}, with {classes} class names; expected {expected}")
    if len(left) > 1:
        raise ModelError(
            "unclear_layout", f"{known} and could be {_choice(left)}: say which by `layout` in the catalog"
        )
    return Recognised(left[0].layout, fitting[left[0]].outputs)


def keypoints(
    version: ModelVersion, facts: FileFacts, layout: Layout, shape: Sequence[int], classes: int
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Return the number of keypoints and of their numbers, and their names; the names are empty unless each has one.

    `shape` is that of the first output that `layout` reads. Raises ModelError ("unclear_layout") where the output could
    be read twice.
    """
    points = _points(version, facts, layout, shape, classes)
    return points, facts.kpt_names if len(facts.kpt_names) == points[0] else ()


def _points(
    version: ModelVersion, facts: FileFacts, layout: Layout, shape: Sequence[int], classes: int
) -> tuple[int, int]:
    if layout not in {Layout.POINTS, Layout.POINT_ROWS}:
        return 0, 0
    if facts.kpt_shape is not None:
        return facts.kpt_shape
    numbers = shape[1] - _BOX - classes if layout is Layout.POINTS else shape[2] - _ROW
    possible = [(numbers // size, size) for size in _POINT_SIZES if numbers % size == 0]
    if len(possible) != 1:
        what = " or ".join(f"{count} keypoints of {size}" for count, size in possible) or "no keypoints"
        raise ModelError(
            "unclear_layout",
            f"{version.reference}: {numbers} numbers an object could be {what}: the file has no kpt_shape",
        )
    return possible[0]


def _looks(reading: Reading, shapes: Shapes, facts: FileFacts, imgsz: tuple[int, int], classes: int) -> Iterator[Seen]:
    """Yield what a reading sees of the outputs; nothing where it cannot be theirs, or they hold several pictures."""
    outputs = reading.picks(shapes)
    if not outputs or not all(shapes[number][0] in {OPEN, 1} for number in outputs):
        return
    rows, columns = shapes[outputs[0]][-2:]
    masks = shapes[outputs[1]][1] if len(outputs) > 1 else 0
    yield Seen(rows, columns, classes, imgsz, facts, masks, outputs)


def _named(word: str, fitting: list[Reading], known: str) -> Reading:
    """Return the reading that the catalog calls `word`; where two have that name, the one whose main name it is.

    Raises ModelError("proof_failed") where no layout in `fitting` has that name.
    """
    named = [reading for reading in fitting if word in reading.words]
    if not named:
        fits = _choice(fitting) if fitting else f"none of {', '.join(sorted(SERVED_WORDS))}"
        raise ModelError("proof_failed", f'{known}; the catalog says layout = "{word}", and it could be {fits}')
    return min(named, key=lambda reading: reading.words.index(word))


def _choice(readings: list[Reading]) -> str:
    return " or ".join(f'"{reading.words[0]}" {reading.layout.value}' for reading in readings)
