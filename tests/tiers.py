"""The tiers of the tests: `unit` starts no process and opens no port, `slow` takes most of a minute."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent

UNIT: Final = (
    "app/test_alert_codes.py",
    "app/test_environment.py",
    "app/test_ledger.py",
    "app/test_model_processors.py",
    "app/test_parts.py",
    "app/test_plc_page.py",
    "app/test_publishing.py",
    "app/test_streams.py",
    "capture/test_camera.py",
    "capture/test_pacer.py",
    "cli/test_example.py",
    "control",
    "health/test_budget.py",
    "health/test_cadence.py",
    "health/test_probes.py",
    "health/test_reading.py",
    "health/test_sampler.py",
    "health/test_stress.py",
    "health/test_systemd.py",
    "inference/test_file_check.py",
    "inference/test_load_priority.py",
    "inference/test_runtime_account.py",
    "inference/test_idle_cpu.py",
    "inference/processors",
    "inference/worker/test_cache.py",
    "inference/worker/test_eviction.py",
    "inference/worker/test_footprints.py",
    "inference/worker/test_places.py",
    "inference/yolo/test_letterbox.py",
    "inference/yolo/test_metadata.py",
    "models/test_catalog.py",
    "models/test_model_files.py",
    "models/test_natural_key.py",
    "models/test_store.py",
    "mqtt/test_ack_rate.py",
    "mqtt/test_damage.py",
    "mqtt/test_moves.py",
    "mqtt/test_notices.py",
    "mqtt/test_outbox.py",
    "mqtt/test_publisher.py",
    "mqtt/test_round_trip.py",
    "mqtt/test_schemas.py",
    "mqtt/test_store.py",
    "mqtt/test_topics.py",
    "mutants",
    "plc/test_block.py",
    "plc/test_files.py",
    "processes/test_backoff.py",
    "processes/test_channel.py",
    "processes/test_installed.py",
    "processes/test_loop.py",
    "scenarios",
    "settings",
    "switch/test_progress.py",
    "watch/test_board.py",
    "watch/test_view.py",
)
"""Files and folders whose tests start nothing; tests/conftest.py refuses it to them."""

SLOW: Final = (
    "app/test_random_run.py",
    "bench",
    "chaos",
    "demo/test_demo.py",
    "inference/worker/test_churn.py",
    "plc/test_faults.py",
)
"""Whole benchmarks, demos and long runs, in their short cut."""

ORDER: Final = ("unit", "system", "slow")


def tier_of(path: Path) -> str:
    """Return the tier of a test file."""
    place = path.relative_to(ROOT)
    names = {place.as_posix(), *(parent.as_posix() for parent in place.parents)}
    if names & set(UNIT):
        return "unit"
    return "slow" if names & set(SLOW) else "system"
