"""The fake tensorrt has nothing that the real ones lack, and takes the same arguments under the same names.

signatures.json was recorded from the docstrings of NVIDIA's own bindings: tensorrt_cu12_bindings 10.3.0 and 10.16.1.11,
tensorrt_cu13_bindings 11.4.0.106, imported over empty libraries (support/fake_gpu/record_signatures.py).
"""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import fake_gpu
from support.fake_gpu.tensorrt_module import fake_tensorrt

RECORDED: dict[str, dict[str, dict[str, Any]]] = json.loads(
    (Path(fake_gpu.__file__).parent / "signatures.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("version", RECORDED)
def test_every_member_is_the_real_ones(version: str) -> None:
    module = fake_tensorrt(version)
    classes = {name: one for name, one in vars(module).items() if isinstance(one, type)}
    assert set(classes) <= set(RECORDED[version])
    for name, one in classes.items():
        for member, found in _members(one).items():
            assert member in RECORDED[version][name], f"{name}.{member}"
            real = RECORDED[version][name][member]
            if isinstance(found, property):
                kind = "property" if found.fset else "property (read only)"
                assert real.startswith("property"), f"{name}.{member}"
                assert real in {kind, "property"}, f"{name}.{member}"
            elif inspect.isfunction(found) and isinstance(real, list):
                assert _arguments(found) in real, f"{name}.{member}"


def _members(one: type) -> dict[str, object]:
    if hasattr(one, "__members__"):
        return dict(one.__members__)
    return {name: found for name, found in vars(one).items() if not name.startswith("_") and not _is_for_tests(found)}


def _is_for_tests(found: object) -> bool:
    return bool(getattr(found, "is_for_tests", False))


def _arguments(function: Callable[..., object]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [one.name + ("=" if one.default is not one.empty else "") for one in parameters]


def test_half_precision_is_a_flag_of_the_older_ones_only() -> None:
    """From 11 on the graph's own types decide, which the agent must know before it sets a flag."""
    assert "FP16" in RECORDED["10.3.0"]["BuilderFlag"]
    assert "FP16" in RECORDED["10.16.1.11"]["BuilderFlag"]
    assert "FP16" not in RECORDED["11.4.0.106"]["BuilderFlag"]
