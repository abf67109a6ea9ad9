"""Counts of everything that the demo's PLC receives, and the verdict on them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from agent.demo.plant_files import BELT, BELT_STREAM, PEOPLE, PHOTOS_STREAM, PRODUCTS
from agent.messages.payloads import DetectionsPayload, Switch
from agent.messages.references import ModelReference
from agent.watch.board.stream import percentile

_FEWEST_CHANGEOVERS: Final = 3


@dataclass
class Observations:
    """Counts of the device's messages; for one thread."""

    classes: Mapping[str, frozenset[str]]
    """Labels of each model, by which a frame's answer is traced to the model that gave it."""
    frames: int = 0
    objects: int = 0
    outlined: int = 0
    """Objects with polygons."""
    turned: int = 0
    """Objects with an angle."""
    wrong_model: int = 0
    """Frames with labels that their stated model does not have."""
    unlawful_ready: int = 0
    """Frames of another model than that of the product which `ready` names."""
    refused: int = 0
    """Unknown products that the device rejected."""
    missing_messages: int = 0
    """Gaps in `seq`."""
    repeated_messages: int = 0
    switches: list[Switch] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    people: dict[int, Counter[int]] = field(default_factory=dict)
    """Counts of people found, by the height of the photograph."""
    ready: dict[str, str] = field(default_factory=dict)
    """Newest `ready`, by line."""
    complaints: list[str] = field(default_factory=list)
    _seq: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(self, topic: str, payload: bytes) -> None:
        """Count one message of the device."""
        if topic.endswith(("/detections", "/replay")):
            self._take_detections(msgspec.json.decode(payload, type=DetectionsPayload))
        elif topic.endswith("/switch"):
            self.switches.append(msgspec.json.decode(payload, type=Switch))
        elif topic.endswith("/ready"):
            self.ready[topic.split("/")[-2]] = payload.decode()

    def commanded(self) -> list[Switch]:
        """Return the changeover reports of products that the PLC requested on the belt."""
        return [one for one in self.switches if one.line == BELT and one.cause.rule == "product"]

    def report(self) -> dict[str, Any]:
        """Return the demo's final JSON."""
        switched = [one for one in self.switches if one.result == "switched"]
        return {
            "ok": not self.verdict(),
            "frames": self.frames,
            "detections": self.objects,
            "outlined": self.outlined,
            "turned": self.turned,
            "changeovers": len([one for one in self.commanded() if one.result == "switched"]),
            "switches": msgspec.to_builtins(self.switches),
            "frames_lost": sum(one.frames_lost for one in switched),
            "wrong_model": self.wrong_model,
            "refused": self.refused,
            "missing_messages": self.missing_messages,
            "repeated_messages": self.repeated_messages,
            "people": {str(height): counts.most_common(1)[0][0] for height, counts in self.people.items()},
            "latency_ms": {"p50": self.latency_ms(50), "p99": self.latency_ms(99)},
            "complaints": self.verdict(),
        }

    def latency_ms(self, share: int) -> float:
        """Return a nearest-rank percentile of the time from capture to publish."""
        return round(percentile(self.latencies_ms, share) or 0.0, 1)

    def has_seen_all(self) -> bool:
        """Return True once everything that the verdict needs was observed, right or wrong."""
        return len(self._good()) >= _FEWEST_CHANGEOVERS and self.refused > 0 and self.people.keys() == PEOPLE.keys()

    def _good(self) -> list[Switch]:
        return [one for one in self.commanded() if one.result == "switched"]

    def verdict(self) -> list[str]:
        """Return all faults found; empty where everything is right.

        `frames_lost` is reported but not judged, because it depends on the machine's load.
        """
        commanded = self.commanded()
        good = self._good()
        bad = [one for one in commanded if one.result not in {"switched", "rejected"}]
        found = list(self.complaints)
        found += [f"{one.product}: {one.result}, {one.reason}: {one.detail}" for one in bad]
        if len(good) < _FEWEST_CHANGEOVERS:
            found.append(f"only {len(good)} changeovers; give it --seconds 30 or more")
        for name in ("wrong_model", "unlawful_ready", "missing_messages", "repeated_messages"):
            if getattr(self, name):
                found.append(f"{name}: {getattr(self, name)}")
        if not self.refused:
            found.append("the unknown product was not refused")
        return found + self._people_verdict()

    def _people_verdict(self) -> list[str]:
        found = []
        for height, wanted in PEOPLE.items():
            counts = self.people.get(height, Counter())
            if set(counts) != {wanted}:
                found.append(f"people in the photograph of height {height}: {dict(counts)}, expected {wanted}")
        return found

    def _take_detections(self, one: DetectionsPayload) -> None:
        self.frames += 1
        self.objects += len(one.objects)
        self.outlined += sum(found.polygons is not msgspec.UNSET for found in one.objects)
        self.turned += sum(found.angle is not msgspec.UNSET for found in one.objects)
        self.latencies_ms.append(one.latency_ms)
        self._count_seq(one)
        labels = {found.label for found in one.objects}
        reference = ModelReference.parse(one.model)
        if reference is None or not labels <= self.classes[reference.name]:
            self.wrong_model += 1
        elif one.stream == BELT_STREAM:
            # Because the contract orders the wire: while `ready` names a product, only its model answers.
            wanted = ModelReference.parse(PRODUCTS.get(self.ready.get(BELT, ""), ""))
            self.unlawful_ready += wanted is not None and wanted.name != reference.name
        if one.stream == PHOTOS_STREAM:
            self.people.setdefault(one.height, Counter())[len(one.objects)] += 1

    def _count_seq(self, one: DetectionsPayload) -> None:
        key = (one.boot, one.stream)
        step = one.seq - self._seq.get(key, one.seq - 1)
        self.missing_messages += max(0, step - 1)
        self.repeated_messages += step < 1
        self._seq[key] = max(one.seq, self._seq.get(key, one.seq))
