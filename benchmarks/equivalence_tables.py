"""The table of a comparison of engines, and what is asked of this package. Library for the scripts beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Criterion", "criteria", "table", "with_largest"]

Row = dict[str, Any]
_WORDS = {True: "met", False: "not met", None: "open"}


def table(rows: Sequence[Row]) -> str:
    """One block for each suite and pair, a line for each engine."""
    blocks = []
    for suite, pair in dict.fromkeys((row["suite"], row["pair"]) for row in rows):
        block = [row for row in rows if (row["suite"], row["pair"]) == (suite, pair)]
        moved = block[0].get("moved")
        lines = [
            f"\n{suite}, {pair}"
            + ("" if moved is None else f"; weights that are left moved by {moved:.2g} of their norm"),
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
    """Certified over attacked distance of every maximum; infinite where it was not bounded in time, or where no attack
    found a difference and none was excluded. Attacked: the most that any attack is known to reach.
    """
    found = []
    for row in rows:
        if row["kind"] == "maximum":
            attacked = row.get("largest", row["attacked"])
            known = row["decided"] and (attacked > 0 or row["bound"] <= 0)
            found.append(row["bound"] / attacked if known and attacked else 1.0 if known else np.inf)
    return found


def with_largest(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with the largest difference that is known of its box, whoever found it."""
    largest: dict[str, float] = {}
    for row in rows:
        reached = max(row[name] or 0.0 for name in ("attacked", "reached", "found"))
        largest[row["place"]] = max(largest.get(row["place"], 0.0), reached)
    return [row | {"largest": largest[row["place"]]} for row in rows]


def median_s(rows: Sequence[Row], clock: str = "elapsed_s") -> float:
    """Median time; what was not decided took at least its limit."""
    return float(np.median([row[clock] if row["decided"] else max(row["limit_s"], row[clock]) for row in rows]))


@dataclass(frozen=True)
class Criterion:
    """Something that this package has to reach."""

    name: str
    found: str
    met: bool | None
    """None: not all of it was asked."""

    def __str__(self) -> str:
        """One line."""
        return f"{self.name:<62} {_WORDS[self.met]:<9}{self.found}"


def criteria(rows: Sequence[Row]) -> list[Criterion]:
    """What this package has to reach, and what it reaches in these rows."""
    own = [row for row in rows if row["engine"] == "cascade"]

    def of(suite: str, pair: str | None = None) -> list[Row]:
        return [row for row in own if row["suite"] == suite and pair in (None, row["pair"])]

    digits = of("digits")
    seconds = median_s(digits) if digits else np.inf
    found = [
        _decided("digits: 48 of 48 decided within 10 s", digits, 48, 48),
        Criterion("digits: median at most .06 s", f"{seconds:.3f} s", seconds <= 0.06 if len(digits) == 48 else None),
        _speedup(digits, rows),
        _ratio("256x2, 25 % removed, .03: median ratio at most 1.5", of("256x2 maximum", "256x2-25"), 1.5),
        _ratio("256x4, 25 % removed, .03: median ratio at most 3, in 30 s", of("256x4 maximum", "256x4-25"), 3.0),
        _decided("256x2, 25 % removed, .03: 18 of 20 at twice the attacked", of("256x2 twice", "256x2-25"), 18, 20),
    ]
    for net, limit_s in (("1_1", 20), ("2_2", 60), ("3_3", 60)):
        in_time = [
            row | {"decided": row["decided"] and row["elapsed_s"] <= limit_s} for row in of("acas", f"acas-{net}-half")
        ]
        found.append(_decided(f"acas {net} in 16 bits, property 1, .05: decided in {limit_s} s", in_time, 1, 1))
    for radius, wanted in ((".05", 23), (".1", 22)):
        name = f"digits top-1 at {radius}: {wanted} of 24 decided"
        found.append(_decided(name, of(f"digits top-1 {radius}"), wanted, 24))
    refuted = [row for row in own if row["status"] == "violated"]
    replayed = sum(row["margin"] is not None and row["margin"] <= 0 for row in refuted)
    text = f"{replayed} of {len(refuted)}"
    return [*found, Criterion("violations that onnxruntime reproduces in the box", text, replayed == len(refuted))]


def _decided(name: str, rows: Sequence[Row], wanted: int, planned: int) -> Criterion:
    if not rows:
        return Criterion(name, "not asked", None)
    count, seconds = sum(row["decided"] for row in rows), median_s(rows)
    met = count >= wanted if len(rows) == planned else None
    return Criterion(name, f"{count} of {len(rows)} asked, median {seconds:.3f} s", met)


def _ratio(name: str, rows: Sequence[Row], most: float) -> Criterion:
    found = ratios(rows)
    if not found:
        return Criterion(name, "not asked", None)
    met = bool(np.median(found) <= most) if len(found) == 20 else None
    return Criterion(name, f"{_spread(rows)} of {len(found)} asked", met)


def _speedup(own: Sequence[Row], rows: Iterable[Row]) -> Criterion:
    """Where plain z3 decided: how often it takes our time."""
    name = "digits: at least 100 times faster than plain z3"
    seconds = {row["name"]: row["elapsed_s"] for row in own if row["decided"]}
    peers = [row for row in rows if row["engine"] == "z3" and row["suite"] == "digits"]
    there = [row["elapsed_s"] / seconds[row["name"]] for row in peers if row["decided"] and row["name"] in seconds]
    text = f"both decided {len(there)} of {len(peers)} asked"
    if there:
        text += f": median {np.median(there):.0f}, least {min(there):.0f} times"
    return Criterion(name, text, min(there, default=np.inf) >= 100 if len(peers) == 48 else None)
