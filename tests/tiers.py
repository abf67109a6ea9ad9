"""The tiers of the tests: `unit` starts no process and opens no port, `slow` takes most of a minute."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent

UNIT: Final = (
    "app/test_alert_codes.py",
    "app/test_environment.py",
    "app/test_frame_answers.py",
    "app/test_index_watch.py",
    "app/test_ledger.py",
    "app/test_memory_check.py",
    "app/test_model_processors.py",
    "app/test_log_level.py",
    "app/test_parts.py",
    "app/test_plc_page.py",
    "app/test_publishing.py",
    "app/test_refusals.py",
    "app/test_streams.py",
    "app/test_supply_page.py",
    "architecture/test_pages.py",
    "architecture/test_private_names.py",
    "architecture/test_state_owners.py",
    "architecture/test_walks.py",
    "bench/test_changeovers.py",
    "bench/test_figures.py",
    "bench/test_observer.py",
    "bench/test_pairing.py",
    "bench/test_simulator.py",
    "capture/test_camera.py",
    "capture/test_decoders.py",
    "capture/test_pacer.py",
    "cli/test_example.py",
    "cli/test_mend.py",
    "cli/test_mistakes.py",
    "control",
    "demo/test_observations.py",
    "demo/test_plc.py",
    "health/test_budget.py",
    "health/test_cadence.py",
    "health/test_probes.py",
    "health/test_reading.py",
    "health/test_sampler.py",
    "health/test_stress.py",
    "health/test_systemd.py",
    "inference/cuda",
    "inference/ends",
    "inference/memory",
    "inference/tensorrt/test_signatures.py",
    "inference/test_file_check.py",
    "inference/test_idle_cpu.py",
    "inference/test_load_priority.py",
    "inference/test_runtime_account.py",
    "inference/processors",
    "inference/worker/test_cache.py",
    "inference/worker/test_eviction.py",
    "inference/worker/test_footprints.py",
    "inference/worker/test_model_threads.py",
    "inference/worker/test_places.py",
    "inference/worker/test_proof.py",
    "inference/yolo/test_head.py",
    "inference/yolo/test_layouts.py",
    "inference/yolo/test_masks.py",
    "inference/yolo/test_letterbox.py",
    "inference/yolo/test_messages.py",
    "inference/yolo/test_metadata.py",
    "inference/yolo/test_objects.py",
    "inference/yolo/test_task_heads.py",
    "inference/yolo/test_turned.py",
    "models/test_catalog.py",
    "models/test_collecting.py",
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
    "scripts/test_lock.py",
    "settings",
    "supply/test_bounds.py",
    "switch/test_progress.py",
    "trust/test_commands.py",
    "trust/test_index.py",
    "trust/test_index_folder.py",
    "trust/test_load_check.py",
    "trust/test_minisign.py",
    "trust/test_mutants.py",
    "trust/test_stick.py",
    "watch/test_board.py",
    "watch/test_view.py",
    "web/test_document_feed.py",
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

ORDER: Final = ("unit", "slow", "system")
"""Of a run: quick words on mistakes come first, and short tests last, so that no worker waits long for the other."""


def tier_of(path: Path) -> str:
    """Return the tier of a test file."""
    place = path.relative_to(ROOT)
    names = {place.as_posix(), *(parent.as_posix() for parent in place.parents)}
    if names & set(UNIT):
        return "unit"
    return "slow" if names & set(SLOW) else "system"
