"""Tampered messages of every type against the decoders: ``make fuzz``, or for a moment
``make fuzz ARGS='--count 2000'``. Prints one JSON object; ends with 1 where a rule was broken.

What is done to the messages and what has to hold: test/wire/fuzzing.py. Every type runs in a
process of its own, so that a crash or a hang is one line of the result and not the end of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "wire")]

import fuzzing  # noqa: E402

# Generous against the fractions of a millisecond that a message takes.
HANG_S_PER_MESSAGE, HANG_S = 0.05, 60.0


def one(kind: str, seed: int, count: int) -> dict[str, Any]:
    """The result of one type."""
    verdict = fuzzing.run(kind, seed, range(count))
    return {
        "messages": verdict.messages,
        "samples": verdict.samples,
        "samples_that_rosbags_reads_alike": verdict.judged,
        "rejections": dict(verdict.rejections.most_common()),
        "largest_allocation_bytes": verdict.largest_bytes,
        "largest_allocation_over_allowed": round(verdict.largest_share, 3),
        "slowest_ms": round(1e3 * verdict.slowest_s, 2),
    }


def in_a_process(kind: str, seed: int, count: int) -> dict[str, Any]:
    """The result of one type, or under ``error`` what went wrong."""
    words = [sys.executable, __file__, "--only", kind, "--seed", str(seed), "--count", str(count)]
    patience_s = HANG_S + HANG_S_PER_MESSAGE * count
    try:
        ran = subprocess.run(words, capture_output=True, text=True, timeout=patience_s, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no end after {patience_s:.0f} s"}
    if ran.returncode < 0:
        return {"error": f"died of signal {-ran.returncode}"}
    if ran.returncode:
        return {"error": (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]}
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def main() -> int:
    """Run all types, or one of them here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="messages per type (100000)")
    parser.add_argument("--seed", type=int, default=1, help="other messages for another one (1)")
    parser.add_argument("--only", choices=fuzzing.SAMPLES, metavar="TYPE", help="one type, here")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(one(args.only, args.seed, args.count)))
        return 0
    found = {}
    for kind in fuzzing.SAMPLES:
        found[kind] = in_a_process(kind, args.seed, args.count)
        said = found[kind].get("error") or f"{found[kind]['messages']} messages"
        print(f"{kind}: {said}", file=sys.stderr)
    ok = not any("error" in result for result in found.values())
    allowed = f"2 * max(message, {fuzzing.SMALL_BYTES}) bytes"
    result = {"ok": ok, "seed": args.seed, "allowed_allocation": allowed, "types": found}
    print(json.dumps(result, indent=2))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
