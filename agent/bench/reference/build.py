"""Subprocess that builds yolo11 models: with the demo's trained weights, or random ones calibrated on rendered frames.

Started as `python -m agent.bench.reference.build FOLDER IMGSZ NAME...`. A NAME is a size (n, s, m, l, x), or a size
with a suffix: of a task (`n-seg`), or any other (`x-b`) for another detector of that size. Writes `NAME.onnx` for the
agent, and for each size or task `STEM.pt` and `STEM_openvino_model/` for the reference manager. Each detector's .onnx
has labels of its own, and one constant candidate, by which every answer is traced to its model. Nanos of the tasks that
the demo has trained take its weights, because decoding of their answers takes as long as there is something to see.
"""

import os
import sys
from pathlib import Path
from typing import Final

import numpy as np

from agent.bench.plant.labels import CLASSES, labels_of, marker_of
from agent.bench.plant.models import TASKS
from agent.bench.plant.pictures import TRAINED, pictures
from agent.demo.plant_files import PRODUCTS, demo_models
from agent.messages.references import ModelReference, ModelVersion
from agent.models.catalog import Catalog

# before the imports below
os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}

import onnx
import torch
from onnx import helper, numpy_helper
from ultralytics import YOLO

from agent.bench.reference.calibration import calibrate
from agent.bench.reference.weights import network

_SEED: Final = 11
_CALIBRATING: Final = 4
_OUTPUT: Final = "output0"


def build(folder: Path, stem: str, imgsz: int) -> Path:
    """Write the reference manager's files of a size or task; return the ONNX file that the agent's are copied from."""
    torch.manual_seed(_SEED)
    model = YOLO(f"yolo11{stem}.yaml")
    trained = _trained(stem)
    if trained is not None:
        made = model.model
        model.model = network(Path(trained.path), stem, trained.classes)
        model.model.task, model.model.args = made.task, made.args
    else:
        calibrate(model.model, pictures(imgsz)[:_CALIBRATING])
    checkpoint = folder / f"{stem}.pt"
    model.save(checkpoint)
    YOLO(checkpoint).export(format="openvino", imgsz=imgsz)
    return Path(YOLO(checkpoint).export(format="onnx", imgsz=imgsz, simplify=False))


def _trained(stem: str) -> ModelVersion | None:
    """Return the demo's model of a size and task such as `n-seg`, where there is one."""
    size, _, suffix = stem.partition("-")
    product = TRAINED.get(TASKS[suffix]) if suffix else None
    reference = ModelReference.parse(PRODUCTS[product]) if product else None
    return Catalog.load(demo_models()).find(reference, size) if reference is not None else None


def mark(plain: Path, path: Path, name: str) -> None:
    """Write a copy with labels of its own and one constant candidate."""
    model = onnx.load(plain)
    index, box = marker_of(name)
    candidate = np.zeros((1, 4 + CLASSES, 1), np.float32)
    candidate[0, :4, 0] = box
    candidate[0, 4 + index, 0] = 1.0
    for node in model.graph.node:
        node.output[:] = ["unmarked" if output == _OUTPUT else output for output in node.output]
    model.graph.initializer.append(numpy_helper.from_array(candidate, "marker"))
    model.graph.node.append(helper.make_node("Concat", ["unmarked", "marker"], [_OUTPUT], axis=2))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value += 1
    facts = {fact.key: fact.value for fact in model.metadata_props}
    helper.set_model_props(model, facts | {"names": repr(dict(enumerate(labels_of(name))))})
    onnx.save(model, path)


def _of_tasks(names: list[str]) -> list[str]:
    """Return the names of other models than detectors, whose plain files serve the agent as they are."""
    return [name for name in names if name.partition("-")[2] in TASKS]


def main() -> None:
    """Build the models that the command line names."""
    folder, imgsz, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    detectors = [name for name in names if name not in _of_tasks(names)]
    for stem in dict.fromkeys([*(name[0] for name in detectors), *_of_tasks(names)]):
        sys.stderr.write(f"bench: building yolo11{stem} with calibrated random weights, once ...\n")
        plain = build(folder, stem, imgsz)
        for name in sorted((one for one in detectors if one[0] == stem), key=len, reverse=True):
            mark(plain, folder / f"{name}.onnx", name)  # the size's own name last: it replaces the plain file


if __name__ == "__main__":
    main()
