"""How often z3 confirms what this package says of a pair, and on how much of each region.

Regions are drawn by a seed before anything is asked. Those count that the criterion is about: at most 6 ReLUs that
interval arithmetic leaves open, or at most 8 inputs. A contradiction stops the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equivalence_pairs import PAIRS, Pair, Workshop
from surroundings import data_folder, describe, surroundings

from paoding_verify.data import Dataset
from paoding_verify.equivalence.compare import compare
from paoding_verify.equivalence.encoding import encode
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.linf import linf_regions
from paoding_verify.regions import Region
from paoding_verify.task import SearchConfig, Task

HERE = Path(__file__).resolve().parent
MAX_OPEN, MAX_INPUTS = 6, 8
WANTED = 0.95
SAME = {Verdict.CERTIFIED: "confirmed", Verdict.VIOLATED: "refuted"}

Row = dict[str, Any]


def regions(pair: Pair, name: str, radii: Sequence[float], count: int, seed: int) -> list[Region]:
    """Boxes around drawn images, as many of each radius; of pairs with a box of their own, boxes inside it."""
    rng = np.random.default_rng(seed)
    if pair.box is not None:
        low, high = pair.box.lower, pair.box.upper
        found = []
        for k in range(count):
            centre = rng.uniform(low, high).astype(np.float32)
            half = radii[k % len(radii)] * (high - low) / 2
            ends = np.maximum(low, centre - half), np.minimum(high, centre + half)
            found.append(Region(f"{name}-{k}", *ends, np.clip(centre, *ends).astype(np.float32), None, None))
        return found
    assert pair.images is not None  # noqa: S101 - a pair has one or the other
    chosen = pair.images[rng.choice(len(pair.images), count, replace=False)]
    return [
        linf_regions(Dataset(chosen[k : k + 1], None, f"{name}-{k}"), eps=radii[k % len(radii)], domain=(0.0, 1.0))[0]
        for k in range(count)
    ]


def measure(pair: Pair, name: str, options: argparse.Namespace) -> list[Row]:
    """One row for each region: the package's verdict, z3's answer, the part of the region that it is about."""
    rows = []
    for k, region in enumerate(regions(pair, name, options.radii, options.count, options.seed)):
        networks = (pair.original, pair.pruned)
        unresolved, inputs = len(encode(networks, region, None).units), region.lower.size
        if unresolved > MAX_OPEN and inputs > MAX_INPUTS:
            continue
        kind = ("top1_equivalent", "output_distance")[k % 2]
        task = Task(f"pair/{kind}/{region.id}", kind, "pair", region, None)
        (finding,) = compare(*networks, [task], SearchConfig(timeout_s=options.timeout, smt_samples=1))
        claim = finding.claim
        rows.append(
            {
                "pair": name, "region": k, "kind": kind, "unresolved": unresolved, "inputs": inputs,
                "verdict": claim.verdict.value if claim.verdict else None, "z3": claim.smt, "scale": claim.smt_scale,
                "agrees": claim.verdict is not None and SAME.get(claim.verdict) == claim.smt,
            }
        )  # fmt: skip
    return rows


def table(rows: Sequence[Row]) -> str:
    """A line for each pair, then what is asked of this package."""
    names = dict.fromkeys(row["pair"] for row in rows)
    lines = [f"{'pair':<22}{'regions':>8}{'settled':>9}{'z3 agrees':>11}  scales"]
    lines += [_line(name, [row for row in rows if row["pair"] == name]) for name in names]
    settled = [row for row in rows if row["verdict"] != "UNKNOWN"]
    agreed = sum(row["agrees"] for row in settled)
    share = agreed / len(settled) if settled else 0.0
    met = "met" if share >= WANTED else "not met"
    return "\n".join(
        [*lines, f"z3 agrees on {agreed} of {len(settled)} settled claims ({share:.1%}; {met}: {WANTED:.0%})"]
    )


def _line(name: str, rows: Sequence[Row]) -> str:
    settled = [row for row in rows if row["verdict"] != "UNKNOWN"]
    scales = Counter(row["scale"] for row in settled if row["agrees"])
    text = ", ".join(f"{scale:g}: {count}" for scale, count in sorted(scales.items(), reverse=True))
    return f"{name:<22}{len(rows):>8}{len(settled):>9}{sum(row['agrees'] for row in settled):>11}  {text}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    digits = [name for name in PAIRS if name.startswith("digits")]
    acas = [name for name in PAIRS if name.startswith("acas")]
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=[*digits, *acas], metavar="NAME")
    parser.add_argument("--radii", nargs="+", type=float, default=[0.005, 0.01, 0.02, 0.03], metavar="R")
    parser.add_argument("--count", type=int, default=20, help="regions drawn for each pair")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for each claim")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="networks")
    parser.add_argument("--json", type=Path, default=HERE / "results/spot_checks.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    where, shop, rows = surroundings(), Workshop(data_folder(), options.cache), list[Row]()
    for name in options.pairs:
        try:
            pair = shop.pair(name)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
        else:
            rows += measure(pair, name, options)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(options, name) for name in ("pairs", "radii", "count", "seed", "timeout")}
    options.json.write_text(json.dumps({**where, "settings": settings, "results": rows}, indent=1) + "\n")
    print(describe(where), table(rows), sep="\n")


if __name__ == "__main__":
    main()
