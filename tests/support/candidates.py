"""Versions of a model to compare: one that is as good, and one that answers NaN on bright frames only."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomlkit
from onnx import TensorProto, helper, numpy_helper

from support.running_agent import RunningAgent
from support.tiny_models import write_endless_model, write_tiny_model

NAMES = ("a-good", "a-bad")
CANDIDATE = "alpha:n@2"
STABLE = "alpha:n@1"
BRIGHT = 0.6
"""Mean of a picture, from 0 to 1, from which models here go wrong."""


def write_nan_model(path: Path, names: tuple[str, ...] = NAMES, above: float = BRIGHT) -> Path:
    """Write a tiny model that answers NaN where the picture's mean is `above` or more, from 0 to 1."""
    model = onnx.load(write_tiny_model(path, names=names))
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.full((1, 1, 1, 1), above, np.float32), "limit"))
    last = graph.node.pop()
    graph.node.append(helper.make_node("Sub", ["limit", "mean"], ["room"]))
    graph.node.append(helper.make_node("Relu", ["room"], ["left"]))
    graph.node.append(helper.make_node("Div", ["nothing", "left"], ["doubtful"]))
    graph.node.append(helper.make_node("Reshape", ["doubtful", "flat"], ["doubt"]))
    graph.node.append(helper.make_node("Add", ["answer", "doubt"], list(last.output)))
    onnx.save(model, path)
    return path


def write_failing_model(path: Path) -> Path:
    """Write a tiny model whose inference ends with an error where the picture's mean is BRIGHT or more."""
    model = onnx.load(write_tiny_model(path, names=NAMES))
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.full((1, 1, 1, 1), BRIGHT, np.float32), "limit"))
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 1], np.int64), "once"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "single"))
    last = graph.node.pop()
    graph.node.append(helper.make_node("Greater", ["mean", "limit"], ["is_bright"]))
    graph.node.append(helper.make_node("Cast", ["is_bright"], ["more"], to=TensorProto.INT64))
    graph.node.append(helper.make_node("Reshape", ["more", "single"], ["by"]))
    graph.node.append(helper.make_node("Add", ["by", "once"], ["times"]))
    graph.node.append(helper.make_node("Tile", ["flattened", "times"], ["tiled"]))  # 2 x 2 x 2 of a bright picture
    graph.node.append(helper.make_node("Add", ["tiled", "answer"], list(last.output)))
    onnx.save(model, path)
    return path


def write_hanging_model(path: Path) -> Path:
    """Write a tiny model whose inference never ends where the picture's mean is BRIGHT or more."""
    write_endless_model(path, NAMES)
    model = onnx.load(path)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.full((1, 1, 1, 1), BRIGHT, np.float32), "limit"))
    graph.initializer.append(numpy_helper.from_array(np.array([], np.int64), "scalar"))
    [begins] = [one for one in graph.initializer if one.name == "begins"]
    graph.initializer.remove(begins)
    before = [
        helper.make_node("Greater", ["mean", "limit"], ["is_bright"]),
        helper.make_node("Reshape", ["is_bright", "scalar"], ["begins"]),
    ]
    loop = next(place for place, node in enumerate(graph.node) if node.op_type == "Loop")
    for node in reversed(before):
        graph.node.insert(loop, node)
    onnx.save(model, path)
    return path


def add_version(agent: RunningAgent, file: Path, version: str = "2", name: str = "alpha") -> None:
    """Enter a further version of a model in the catalog of an agent that does not run yet."""
    catalog = agent.folder / "models.toml"
    entries: Any = tomlkit.parse(catalog.read_text()).unwrap()
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    entries["model"].append({"name": name, "variant": "n", "version": version, "file": file.name, "sha256": sha256})
    catalog.write_text(tomlkit.dumps(entries))


def pinned(settings: dict[str, Any]) -> None:
    """Leave line-1 alone, whose product names version 1."""
    settings["stream"] = settings["stream"][:2]
    del settings["line"]["line-2"]
    settings["line"]["line-1"] |= {"default": STABLE, "products": {"bottle-500": STABLE, "17": "beta", "crate": STABLE}}
    settings["canary"] = {"keep_bytes": "1MiB"}
