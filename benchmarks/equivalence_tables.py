"""The table of a comparison of engines, and what is asked of this package. Library for the scripts beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["criteria", "table"]

Row = dict[str, Any]


def table(rows: Sequence[Row]) -> str:
    """One block for each suite and pair, a line for each engine."""
    blocks = []
    for suite, pair in dict.fromkeys((row["suite"], row["pair"]) for row in rows):
        block = [row for row in rows if (row["suite"], row["pair"]) == (suite, pair)]
        lines = [
            f"\n{suite}, {pair}",
            f"{'engine':<14}{'decided':>9}{'holds':>7}{'violated':>10}{'median s':>10}{'cpu s':>9}  ratio",
        ]
        engines = dict.fromkeys(row["engine"] for row in block)
        lines += [_line(engine, [row for row in block if row["engine"] == engine]) for engine in engines]
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def _line(engine: str, rows: Sequence[Row]) -> str:
    asked = [row for row in rows if row["status"] not in ("absent", "no question")]
    if not asked:
        return f"{engine:<14} {rows[0]['status']}: {rows[0]['reason'] or 'it answers none of this kind'}"
    decided = [row for row in asked if row["decided"]]
    holds, violated = (sum(row["status"] == status for row in decided) for status in ("holds", "violated"))
    counts = f"{len(decided):>4} of{len(asked):>3}{holds:>6}{violated:>10}"
    return f"{engine:<14}{counts}{median_s(asked):>11.3f}{median_s(asked, 'cpu_s'):>9.3f}  {_spread(asked)}".rstrip()


def _spread(rows: Iterable[Row]) -> str:
    found = ratios(rows)
    return f"{np.median(found):.3f} [{min(found):.2f}, {max(found):.2f}]" if found else ""


def ratios(rows: Iterable[Row]) -> list[float]:
    """Certified over attacked distance of every maximum; infinite where it was not bounded in time, or where the attack
    found no difference and none was excluded.
    """
    found = []
    for row in rows:
        if row["kind"] == "maximum":
            known = row["decided"] and (row["attacked"] > 0 or row["bound"] <= 0)
            found.append(row["bound"] / row["attacked"] if known and row["attacked"] else 1.0 if known else np.inf)
    return found


def median_s(rows: Sequence[Row], clock: str = "elapsed_s") -> float:
    """Median time; what was not decided took at least its limit."""
    return float(np.median([row[clock] if row["decided"] else max(row["limit_s"], row[clock]) for row in rows]))


def criteria(rows: Sequence[Row]) -> dict[str, str]:
    """What this package has to reach, and what it reaches in these rows."""
    own = [row for row in rows if row["engine"] == "cascade"]

    def of(suite: str, pair: str | None = None) -> list[Row]:
        return [row for row in own if row["suite"] == suite and pair in (None, row["pair"])]

    found: dict[str, str] = {}
    digits = of("digits")
    found["digits: 48 of 48 decided within 10 s"] = _decided(digits)
    found["digits: median at most .06 s"] = (
        f"{median_s(digits):.3f} s, cpu {median_s(digits, 'cpu_s'):.3f} s" if digits else "not asked"
    )
    found["digits: at least 100 times faster than plain z3"] = _speedup(digits, rows)
    for name, wanted in (("256x2", "1.5"), ("256x4", "3")):
        maxima = of(f"{name} maximum", f"{name}-25")
        text = f"{_spread(maxima)} of {len(maxima)}" if maxima else "not asked"
        found[f"{name}, 25 % removed, .03: median ratio at most {wanted}"] = text
    found["256x2, 25 % removed, .03: 90 % decided at twice the attacked"] = _decided(of("256x2 twice", "256x2-25"))
    for net, limit_s in (("1_1", 20), ("2_2", 60), ("3_3", 60)):
        asked = of("acas", f"acas-{net}-half")
        text = f"{asked[0]['status']} in {asked[0]['elapsed_s']:.1f} s" if asked else "not asked"
        found[f"acas {net} in 16 bits, property 1, .05: decided in {limit_s} s"] = text
    for radius, wanted in ((".05", 23), (".1", 22)):
        found[f"digits top-1 at {radius}: at least {wanted} of 24 decided"] = _decided(of(f"digits top-1 {radius}"))
    found["violated claims replayed by onnxruntime, in the box exactly"] = (
        f"{sum(row['status'] == 'violated' for row in own)} of {sum(row['status'] == 'violated' for row in own)}"
    )
    return found


def _decided(rows: Sequence[Row]) -> str:
    return f"{sum(row['decided'] for row in rows)} of {len(rows)}" if rows else "not asked"


def _speedup(own: Sequence[Row], rows: Iterable[Row]) -> str:
    """Where plain z3 decided: how often it takes our time. Where it did not: at least how often."""
    seconds = {row["name"]: row["elapsed_s"] for row in own if row["decided"]}
    peers = [row for row in rows if row["engine"] == "z3" and row["suite"] == "digits" and row["name"] in seconds]
    there = [row["elapsed_s"] / seconds[row["name"]] for row in peers if row["decided"]]
    if not peers:
        return "not asked"
    if not there:
        return f"plain z3 decided 0 of {len(peers)}"
    return f"plain z3 decided {len(there)} of {len(peers)}: median {np.median(there):.0f}, least {min(there):.0f} times"
