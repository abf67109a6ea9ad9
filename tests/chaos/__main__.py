"""`python -m chaos --mode always --seed 1 --seconds 600`, in tests/: one ordeal, and its figures as a line of JSON."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from chaos.faults import Fault, drawn
from chaos.ordeal import Ordeal


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--mode", default="always", choices=["always", "offline"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--restarts", type=int, default=0, help="of the broker, instead of random faults")
    chosen = parser.parse_args()
    faults = [Fault(2, "broker killed", 1.0)] * chosen.restarts or drawn(chosen.seed, chosen.seconds)
    with tempfile.TemporaryDirectory() as folder, Ordeal(Path(folder) / "ordeal", chosen.mode) as ordeal:
        outcome = ordeal.suffer(faults)
    verdict = outcome.verdict
    figures = {
        "mode": chosen.mode,
        "seed": chosen.seed,
        "messages": verdict.messages,
        "lost": len(verdict.lost),
        "lost_by_boot": {
            boot: sum(key[0] == boot for key in verdict.lost) for boot in {key[0] for key in verdict.lost}
        },
        "repeated": verdict.repeated,
        "repeated_share": round(verdict.repeated_share, 5),
        "out_of_order": len(verdict.out_of_order),
        "examples": [*verdict.lost[:4], *verdict.out_of_order[:4]],
        "losses": [[*key, ordeal.history.around(key)] for key in verdict.lost],
        "dropped": outcome.dropped,
        "lies": outcome.lies,
        "products_named": outcome.named,
        "refused": outcome.refused,
        "boots": outcome.boots,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
