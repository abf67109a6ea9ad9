"""One moment of a plant, with something of every kind in it."""

from agent.health.metrics.snapshot import AlertFacts, CacheFacts, Facts, LineFacts, LinkFacts, StreamFacts
from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import Reading, Zone

FACTS = Facts(
    info={
        "version": "0.1.0",
        "device": "box-7",
        "boot": "9f3a51c2",
        "board": "Orin NX",
        "system": "",
        "power_mode": "",
    },
    workers_up={"default": True},
    clock_synced=True,
    lines={
        "line-1": LineFacts("ready", ready=True, moves=True, model="cap-check:n@3"),
        "line-2": LineFacts("idle", ready=False, moves=False, model=None),
    },
    streams={
        "cam-1": StreamFacts("line-1", "online", 100, 97, 2, 96, {"cap": 41, "no-cap": 1}),
        "cam-2": StreamFacts("line-2", "offline", 0, 0, 0, 0),
    },
    cache=CacheFacts(
        400_000_000,
        130_000_000,
        {("cap-check:n@3", "active"): 70_000_000, ("b:n@1", "standby"): 60_000_000},
        evicted={"room": 1, "announced": 0},
        refused={"too_large": 1},
        pools={"host": (300_000_000, 30_000_000), "device": (400_000_000, 130_000_000)},
        pooled={("cap-check:n@3", "active", "device"): 70_000_000},
        loaded=3,
    ),
    link=LinkFacts(
        is_up=True,
        outbox={
            "events": 0,
            "detections": 7,
            "bytes": 2048,
            "events_dropped": 0,
            "detections_dropped": 3,
            "live_dropped": 1,
        },
        outbox_age_s=12.5,
        round_trip_ms=0.9,
    ),
    alerts=(AlertFacts("camera", "", "cam-2"),),
    reading=Reading(
        "jtop",
        board="Orin NX",
        zones={"cpu": Zone(51.5, 99.0)},
        rails_w={"VDD_SOC": 2.4},
        power_w=7.8,
        gpu_load=0.4,
        slowed=(),
    ),
    memory=HostReading(8 * 2**30, 3 * 2**30, 3 * 2**30, 0.02, 0.0, {"control": 45_000_000, "worker": 190_000_000}),
    ages_s={"jtop": 0.4, "memory": 1.0},
    caps={"temperature": "s"},
)
