"""Files, indexes, lists and sticks that were altered: none is accepted, and none ends the process.

Left out of what is altered: a signature's first line, which minisign calls untrusted and nothing reads.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from support.plant_index import PlantIndex, TrustingDevice, reference_of
from support.tiny_models import write_tiny_model

from agent.messages.errors import ChangeoverError
from agent.models.catalog import Catalog
from agent.models.keeping.copying import Release
from agent.models.store import Store
from agent.trust.authoring.signing import sign_model
from agent.trust.minisign import SecretKey
from agent.trust.stick.bundle import bundle
from agent.trust.stick.importing import Target, import_models
from agent.trust.verifier import Verifier

Mutate = Callable[[random.Random, bytes, bytes], bytes]
_SHORT: Final = 240
_WHOLE: Final = 10_000


def flip(chance: random.Random, content: bytes, _other: bytes) -> bytes:
    mutant = bytearray(content)
    mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
    return bytes(mutant)


def cut(chance: random.Random, content: bytes, _other: bytes) -> bytes:
    return content[: chance.randrange(len(content))]


def swap(chance: random.Random, content: bytes, _other: bytes) -> bytes:
    one, two, three = sorted(chance.sample(range(len(content) + 1), 3))
    return content[:one] + content[two:three] + content[one:two] + content[three:]


def drop(chance: random.Random, content: bytes, _other: bytes) -> bytes:
    begin = chance.randrange(len(content))
    return content[:begin] + content[begin + chance.randrange(1, 40) :]


def repeat(chance: random.Random, content: bytes, _other: bytes) -> bytes:
    begin = chance.randrange(len(content))
    end = begin + chance.randrange(1, 200)
    return content[:end] + content[begin:]


def splice(chance: random.Random, content: bytes, other: bytes) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + other[place:]


def replay(_chance: random.Random, _content: bytes, other: bytes) -> bytes:
    return other


def double_key(_chance: random.Random, content: bytes, _other: bytes) -> bytes:
    return content[:1] + b'"signed":{},"models":[],' + content[1:]


def nest(chance: random.Random, content: bytes, _other: bytes) -> bytes:
    deep = chance.choice([20, 200, 5000])
    return content[:1] + b'"a":' + b"[" * deep + b"]" * deep + b"," + content[1:]


def space(chance: random.Random, content: bytes, _other: bytes) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + chance.choice([b" ", b"\n", b"\t", b"\0", b"\xff"]) + content[place:]


MUTATIONS: Final[tuple[Mutate, ...]] = (flip, flip, cut, swap, drop, repeat, splice, replay, double_key, nest, space)


class Bench:
    """A stick with an index and one with signatures, and the devices that they are for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        plant = PlantIndex(folder / "plant").add("cap:n@1")
        plant.rotate("root")
        old = plant.copy(folder / "old")
        plant.add("cap:n@2")
        self.index = plant.path
        self.trusting = TrustingDevice(folder / "device", plant.root)
        self.trusting.take(plant.path)
        key = SecretKey.make()
        self.keyed = Verifier((key.public.line,), "", str(folder / "state"))
        self.signed = self._signed(key, "cap", folder / "signed")
        other = self._signed(key, "hat", folder / "other")
        main = "models/cap/n/1/model.onnx"
        self.of_index = {
            "timestamp.json": old / "timestamp.json",
            max(self.index.glob("*.snapshot.json")).name: max(old.glob("*.snapshot.json")),
            max(self.index.glob("*.targets.json")).name: max(old.glob("*.targets.json")),
            "2.root.json": self.index / "1.root.json",
            "models/cap/n/2/model.onnx": self.index / main,
        }
        self.of_signed = {
            main: other / main.replace("cap", "hat"),
            f"{main}.minisig": other / f"{main.replace('cap', 'hat')}.minisig",
            "bundle.json": other / "bundle.json",
        }

    def _signed(self, key: SecretKey, name: str, stick: Path) -> Path:
        folder = self._folder / f"writer-{name}"
        folder.mkdir()
        source = write_tiny_model(folder / f"{name}.onnx", names=(name,))
        sign_model(source, key, f"{name}:n@1")
        store = Store(folder / "models.toml", folder / "store")
        bundle(stick, [store.add(Release(reference_of(f"{name}:n@1")), source)], self.keyed)
        return stick

    def is_accepted(self, stick: Path, name: str) -> bool:
        """Import a stick on a fresh catalog; a device that knows the index meets all but an altered root."""
        box = self._folder / "box"
        shutil.rmtree(box, ignore_errors=True)
        box.mkdir()
        verifier = self.keyed
        if stick == self.index:
            verifier = self.trusting.restarted()
            if name == "2.root.json":
                verifier = Verifier((), str(self.trusting.root), str(box / "state"))
        target = Target(box / "models.toml", box / "store", box, 1 << 40, 0)
        try:
            import_models(stick, target, verifier, lambda _: None)
        except ChangeoverError:
            entered = Catalog.load(target.catalog_file).versions if target.catalog_file.exists() else ()
            return any(version.version == "2" or version.name != "cap" for version in entered)
        return True


def run(bench: Bench, number: int, seed: int) -> list[str]:
    """Try so many mutants; return the names of those that were accepted."""
    chance = random.Random(seed)
    places = [(bench.index, *one) for one in bench.of_index.items()]
    places += [(bench.signed, *one) for one in bench.of_signed.items()]
    accepted, tried = [], 0
    while tried < number:
        stick, name, other = places[tried % len(places)]
        mutate = chance.choice(MUTATIONS)
        file = stick / name
        content, comment = file.read_bytes(), b""
        replaced = other.read_bytes()
        if name.endswith(".minisig"):
            comment, content = content.split(b"\n", 1)
            comment += b"\n"
            replaced = replaced.split(b"\n", 1)[1]
        mutant = mutate(chance, content, replaced)
        if mutant in {content, content.rstrip(b"\n")} or content + b"\n" == mutant:
            continue
        tried += 1
        file.write_bytes(comment + mutant)
        if bench.is_accepted(stick, name):
            accepted.append(f"{name} after {mutate.__name__}, mutant {tried} of seed {seed}")
        file.write_bytes(comment + content)
    return accepted


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("mutants"))


def test_the_unaltered_ones_are_accepted(bench: Bench) -> None:
    assert bench.is_accepted(bench.index, "timestamp.json")
    assert bench.is_accepted(bench.index, "2.root.json")
    assert bench.is_accepted(bench.signed, "bundle.json")


def test_no_mutant_is_accepted(bench: Bench) -> None:
    assert run(bench, _SHORT, int(os.environ.get("CHANGEOVER_TEST_SEED", "1"))) == []


@pytest.mark.soak
def test_none_of_ten_thousand_mutants_is_accepted(bench: Bench) -> None:
    assert run(bench, _WHOLE, 19) == []
