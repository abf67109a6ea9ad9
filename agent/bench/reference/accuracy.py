"""Subprocess that compares prepared artifacts with their float32 checkpoints.

Started as `python -m agent.bench.reference.accuracy CATALOG CACHE_DIR`; answers each line of stdin, quoted as for a
shell, with one line of JSON. Both sides see a picture in the same square, unscaled where it fits, and keep candidates
above the same score; a checkpoint's other settings are those of `YOLO.predict`.

    restore ONNX CHECKPOINT PRODUCT SIZE NAME...   write a float32 checkpoint of a shipped file, trained on a product
    score REFERENCE PRODUCT FRAMES         mAP of both on so many rendered frames of a product, and boxes as below
    match REFERENCE FILE...                boxes of both on real pictures, and on some frames of clips
"""

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Final

# before the imports below
os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from ultralytics import YOLO
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils.metrics import ap_per_class, box_iou

from agent.bench.reference.weights import restore
from agent.demo.conveyor import Part, dataset
from agent.inference.backends import Objects, load
from agent.inference.validation.parity import compare
from agent.messages.references import ModelReference, ModelVersion
from agent.models.catalog import Catalog

_UNSEEN_SEED: Final = 900_000
"""Seed of the frames on which the demo's models were scored, and not trained."""
_EVERY: Final = 0.001
_MOST: Final = 300
_STRIDE: Final = 10  # of a clip, each so many frames

Picture = NDArray[np.uint8]


class Judge:
    """Comparison of artifact and checkpoint for each model of a catalog; artifacts come from `cache_dir`."""

    def __init__(self, catalog: Path, cache_dir: Path) -> None:
        self._catalog: Final = catalog
        self._cache_dir: Final = cache_dir

    def do(self, verb: str, *words: str) -> dict[str, float]:
        """Execute one command; return its answer."""
        if verb == "restore":
            restore(Path(words[0]), Path(words[1]), words[2], words[3], words[4:])
            return {}
        version = self._version(words[0])
        if verb == "score":
            return self._score(version, words[1], int(words[2]))
        return self._match(version, list(chain.from_iterable(map(_pictures_of, words[1:]))))

    def _score(self, version: ModelVersion, product: str, count: int) -> dict[str, float]:
        seen = list(dataset.frames(product, count, _UNSEEN_SEED))
        ours, theirs = self._answers(replace(version, confidence=_EVERY), [picture for picture, _ in seen])
        truths = [parts for _, parts in seen]
        return {
            "artifact": _mean_precision(ours, truths),
            "checkpoint": _mean_precision(theirs, truths),
            "objects": sum(map(len, truths)),
        } | self._match(version, [picture for picture, _ in seen])

    def _match(self, version: ModelVersion, seen: list[Picture]) -> dict[str, float]:
        """Pair the boxes of both sides at the version's own confidence."""
        ours, theirs = self._answers(version, seen)
        found = compare(theirs, ours, version.confidence)
        return {
            "pictures": len(seen),
            "boxes": found.boxes,
            "matched": found.matched,
            "share": found.matched / found.boxes if found.boxes else float("nan"),
            "score_difference": found.score_difference,
        }

    def _answers(self, version: ModelVersion, seen: list[Picture]) -> tuple[list[Objects], list[Objects]]:
        """Return the objects that artifact and checkpoint find in a picture."""
        with closing(load(version, "auto", self._cache_dir)) as model:
            assert model.backend != "ultralytics", f"{version.reference} was prepared"
            ours = [model.infer(picture) for picture in seen]
            checkpoint = _Checkpoint(version, model.imgsz)
        return ours, [checkpoint.infer(picture) for picture in seen]

    def _version(self, reference: str) -> ModelVersion:
        wanted = ModelReference.parse(reference)
        return next(one for one in Catalog.load(self._catalog).matching(wanted))


class _Checkpoint:
    """A version's file, run by ultralytics in float32."""

    def __init__(self, version: ModelVersion, imgsz: tuple[int, int]) -> None:
        self._model: Final = YOLO(version.path, task="detect")
        self._version: Final = version
        self._imgsz: Final = imgsz

    def infer(self, picture: Picture) -> Objects:
        one = self._version
        found = self._model.predict(
            picture, conf=one.confidence, iou=one.iou, imgsz=self._imgsz, max_det=_MOST, rect=False, device="cpu"
        )[0].boxes
        arrays = (found.xyxy.numpy(), found.conf.numpy(), found.cls.numpy().astype(np.int32))
        return Objects(*arrays)


def _mean_precision(answers: list[Objects], truths: list[list[Part]]) -> float:
    """Return mAP50-95 as ultralytics computes it."""
    judge = DetectionValidator(save_dir=Path(os.devnull).parent)
    judge.iouv = torch.linspace(0.5, 0.95, 10)
    hits = [_hits(judge, answer, truth) for answer, truth in zip(answers, truths, strict=True)]
    scores = np.concatenate([answer.scores for answer in answers])
    classes = np.concatenate([answer.classes for answer in answers])
    wanted = np.array([part.class_id for truth in truths for part in truth])
    return float(ap_per_class(np.concatenate(hits), scores, classes, wanted)[5].mean())


def _hits(judge: DetectionValidator, answer: Objects, truth: list[Part]) -> NDArray[np.bool_]:
    """Return for each object and each of ten overlaps whether it matches the ground truth: bool [objects, 10]."""
    if not truth or not len(answer):
        return np.zeros((len(answer), len(judge.iouv)), np.bool_)
    boxes = torch.tensor([part.box for part in truth], dtype=torch.float32)
    wanted = torch.tensor([part.class_id for part in truth])
    overlaps = box_iou(boxes, torch.from_numpy(np.asarray(answer.boxes, np.float32)))
    return np.asarray(judge.match_predictions(torch.from_numpy(np.asarray(answer.classes)), wanted, overlaps))


def _pictures_of(file: str) -> Iterator[Picture]:
    for _, pictures, _ in LoadImagesAndVideos(file, vid_stride=_STRIDE):
        yield from (np.asarray(picture, np.uint8) for picture in pictures)


def main() -> None:
    """Serve commands until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print is no answer
    judge = Judge(Path(sys.argv[1]), Path(sys.argv[2]))
    for line in sys.stdin:
        answers.write(json.dumps(judge.do(*shlex.split(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
