"""Networks of ultralytics with random weights that say something of a picture, exported in many ways."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Untyped = Any
Picture = NDArray[np.uint8]

LOUDER: Final = 4.0
LOUDEST: Final = 4.0
"""The greatest logit of a network whose scores are compared one by one: from 17 on, all are 1 and in any order."""
QUIETER: Final = 0.1  # for v9, whose many layers make more of any rounding, in any two runtimes


@dataclass(frozen=True)
class Export:
    """One file to make: of a network, with so many classes, for pictures of a side, by the exporter's options."""

    network: str
    classes: int
    side: int
    options: tuple[tuple[str, object], ...]

    @property
    def name(self) -> str:
        """Name for a file, made of all fields."""
        said = [f"{key}={value}" for key, value in self.options]
        return "-".join([self.network, f"{self.classes}c", str(self.side), *said])

    @property
    def is_query(self) -> bool:
        """Say whether it is a transformer, which is given stretched pictures."""
        return self.network.startswith("rtdetr")


def letterboxed(torch: Untyped, picture: Picture, side: int, *, stretch: bool = False) -> Untyped:
    """Bring a picture into a network's input, as ultralytics does."""
    from ultralytics.data.augment import LetterBox  # noqa: PLC0415 - only after torch was imported safely

    pixels = LetterBox((side, side), auto=False, scale_fill=stretch)(image=picture)
    return torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)))[None].float() / 255


def awaken(torch: Untyped, network: Untyped, tensor: Untyped, louder: float, sizes: float = 0.02) -> None:
    """Let random weights say something of a picture.

    Norms take its own statistics, or every signal dies on its way to the head; the head's last layers of classes lose
    their biases, which hold all scores near 0. Those of boxes keep theirs, which hold sizes above 0; in a
    head that gives `sizes` themselves so much is left of what the picture adds, as another picture adds anything.
    """
    network.train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network(tensor)
        head = network.model[-1]
        for name, layer in last_layers(torch, network):
            if "cv2" not in name:
                layer.bias.zero_()
                layer.weight.mul_(louder)
            elif head.reg_max == 1:  # sizes as they are, not the mean of a distribution
                layer.weight.mul_(sizes)
    for norm in norms:
        norm.momentum = 0.03
    network.eval()


def soften(torch: Untyped, network: Untyped, tensor: Untyped) -> None:
    """Scale the head's last layers of classes so that none of a picture's logits is greater than LOUDEST."""
    peaks: list[float] = []
    layers = [layer for name, layer in last_layers(torch, network) if "cv2" not in name]
    hooks = [
        layer.register_forward_hook(lambda _layer, _given, logits: peaks.append(float(logits.abs().max())))
        for layer in layers
    ]
    with torch.no_grad():
        network(tensor)
        for layer in layers:
            layer.weight.mul_(LOUDEST / max(peaks))
    for hook in hooks:
        hook.remove()


def last_layers(torch: Untyped, network: Untyped) -> list[tuple[str, Untyped]]:
    """List a head's last layers, the only ones with a bias, with their names in it."""
    named = network.model[-1].named_modules()
    return [(name, layer) for name, layer in named if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None]


def save_random(torch: Untyped, export: Export, folder: Path, picture: Picture) -> Path:
    """Save a checkpoint of the network, awake; returns it."""
    from ultralytics import RTDETR, YOLO  # noqa: PLC0415 - only after torch was imported safely
    from ultralytics.nn.tasks import yaml_model_load  # noqa: PLC0415 - as above
    from ultralytics.utils import YAML  # noqa: PLC0415 - as above

    torch.manual_seed(20)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / f"{export.network}.yaml"
    YAML.save(recipe, {**yaml_model_load(f"{export.network}.yaml"), "nc": export.classes})
    fresh = (RTDETR if export.is_query else YOLO)(str(recipe))
    if export.is_query:  # its decoder says something of a picture as it is, of 80 classes too little
        torch.nn.init.zeros_(fresh.model.model[-1].dec_score_head[-1].bias)
    else:
        tensor = letterboxed(torch, picture, export.side)
        awaken(torch, fresh.model, tensor, louder=1.0, sizes=0.0)
        soften(torch, fresh.model, tensor)
    checkpoint = folder / "random.pt"
    fresh.save(checkpoint)
    return checkpoint


def make(export: Export, checkpoint: Path) -> Path:
    """Export a copy of the checkpoint that is named as the export is; returns the .onnx, or the .xml."""
    from ultralytics import RTDETR, YOLO  # noqa: PLC0415 - only after torch was imported safely

    copy = checkpoint.with_name(f"{export.name}.pt")
    copy.write_bytes(checkpoint.read_bytes())
    options: dict[str, object] = {"format": "onnx", "device": "cpu", "imgsz": export.side, **dict(export.options)}
    if options["format"] == "onnx":
        options["simplify"] = False  # it needs a package more, and changes no layout
    made = Path((RTDETR if export.is_query else YOLO)(copy).export(**options))
    return next(made.glob("*.xml")) if made.is_dir() else made


def as_ir(path: Path) -> Path:
    """Return the same ONNX file as ultralytics' OpenVINO folder would hold it, with the same numbers."""
    from agent.inference.backends.openvino_graph import ov  # noqa: PLC0415 - only where it is installed

    model = onnx.load(path)
    folder = path.with_name(f"{path.stem}_openvino_model")
    ov.save_model(ov.convert_model(path), folder / f"{path.stem}.xml", compress_to_fp16=False)
    facts = {fact.key: fact.value for fact in model.metadata_props}
    (folder / "metadata.yaml").write_text(json.dumps(facts), encoding="utf-8")  # JSON is YAML
    return folder / f"{path.stem}.xml"


def stripped(path: Path) -> Path:
    """Return the same ONNX file without what its exporter wrote into it."""
    model = onnx.load(path)
    del model.metadata_props[:]
    bare = path.with_name(f"{path.stem}-bare.onnx")
    onnx.save(model, bare)
    return bare


def without(path: Path, keys: Sequence[str]) -> Path:
    """Return the same ONNX file with some of its metadata missing."""
    model = onnx.load(path)
    kept = [fact for fact in model.metadata_props if fact.key not in keys]
    facts = {fact.key: fact.value for fact in kept}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, facts)
    left = path.with_name(f"{path.stem}-without.onnx")
    onnx.save(model, left)
    return left


def cut(path: Path, branch: str, bits: int) -> Path:
    """Return the ONNX file with the weights whose names hold `branch` rounded to so many significant bits."""
    model = onnx.load(path)
    chosen = [one for one in model.graph.initializer if branch in one.name and len(one.dims) > 1]
    assert chosen, branch
    for one in chosen:
        weights = numpy_helper.to_array(one)
        shares, exponents = np.frexp(weights.astype(np.float32))
        rounded = np.ldexp(np.round(shares * 2**bits) / 2**bits, exponents).astype(weights.dtype)
        one.CopyFrom(numpy_helper.from_array(rounded, one.name))
    coarse = path.with_name(f"{path.stem}-{branch}-{bits}.onnx")
    onnx.save(model, coarse)
    return coarse
