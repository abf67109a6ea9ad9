"""Reference manager for comparison: the published one that this project started from."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import numpy as np

# before the imports below
os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}

import torch
from ultralytics import YOLO


class Manager:
    """LRU of at most `most` YOLO objects, warmed with a zero frame; calls `empty_cache()` after an eviction."""

    def __init__(self, most: int, imgsz: int) -> None:
        self._most: Final = most
        self._imgsz: Final = imgsz
        self._models: Final[OrderedDict[str, Any]] = OrderedDict()

    def get(self, path: Path) -> Any:  # noqa: ANN401 - ultralytics has no types
        """Return a model; load and warm it where it is not cached."""
        key = str(path)
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        while len(self._models) >= self._most:
            self._models.popitem(last=False)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        model = YOLO(key, task="detect")
        model.predict(np.zeros((self._imgsz, self._imgsz, 3), np.uint8), imgsz=self._imgsz, verbose=False)
        self._models[key] = model
        return model

    def answer(self, path: Path, frame: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
        """Infer one frame by a model; return the number of objects found."""
        result = self.get(path).predict(frame, imgsz=self._imgsz, verbose=False)
        return len(result[0].boxes)
