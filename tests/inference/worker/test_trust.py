"""The worker loads only what is signed, where keys are configured; without, it imports nothing for it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from inference.worker.dummies import DummyRuntime, PlantOfDummies

from agent.inference.backends import NotPreparedError
from agent.inference.swapping import model_loading
from agent.messages.children import TrustSetup
from agent.trust.authoring.signing import sign_file
from agent.trust.minisign import SecretKey


def test_an_unsigned_model_leaves_the_signed_one_serving(
    new_dummies: Callable[..., PlantOfDummies], runtime: DummyRuntime, tmp_path: Path
) -> None:
    key = SecretKey.make()
    plant = new_dummies(trust=TrustSetup((key.public.line,), "", str(tmp_path)))
    signed, unsigned = runtime.make("signed"), runtime.make("unsigned")
    sign_file(Path(signed.path), key)
    plant.switch(signed)
    assert plant.refusal(unsigned).reason == "unsigned"
    plant.wait_for_ledger({"signed:n@1": "active"})
    sign_file(Path(unsigned.path), key)
    plant.switch(unsigned)


def test_an_unsigned_checkpoint_is_not_even_prepared(
    new_dummies: Callable[..., PlantOfDummies],
    runtime: DummyRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unprepared(*_: object) -> None:
        raise NotPreparedError("it would be opened")

    monkeypatch.setattr(model_loading, "require_openable", unprepared)
    plant = new_dummies(trust=TrustSetup((SecretKey.make().public.line,), "", str(tmp_path)))
    assert plant.refusal(runtime.make("checkpoint")).reason == "unsigned"


def test_without_keys_the_worker_imports_nothing_that_verifies() -> None:
    code = (
        "import sys, agent.inference.worker, agent.app.agent; "
        "print({name.split('.')[0] for name in sys.modules} & {'cryptography', 'tuf', 'securesystemslib'})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
