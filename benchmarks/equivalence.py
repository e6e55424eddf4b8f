"""Does the pruned network decide like the original, and how far is it away: this package and its peers, query by query.

Every query goes to all engines before the next one is asked, in an order that changes from query to query. Rows are
written as they come (JSON lines in the cache folder); the next run reuses those whose query and engine are still the
same, so that a long run can be stopped. Every violation is replayed by onnxruntime on the shipped files; engines that
contradict each other stop the run. maraboupy needs an environment of its own: PAODING_VERIFY_MARABOU names its Python.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import torch
from equivalence_engines import ENGINES, MARABOU, Row, answered, engine_digest, refuse_contradictions
from equivalence_pairs import PAIRS, Workshop
from equivalence_queries import QUICK, SUITES, Query, Suite, queries
from equivalence_tables import criteria, table, with_largest
from surroundings import data_folder, describe, surroundings

HERE = Path(__file__).resolve().parent
STORE = "equivalence.jsonl"


class Rows:
    """Rows of this and of earlier runs."""

    def __init__(self, folder: Path, *, fresh: bool) -> None:
        """fresh: earlier rows count for nothing."""
        self._path = folder / STORE
        lines = self._path.read_text().splitlines() if self._path.is_file() and not fresh else []
        self._known = {_key(row): row for row in map(json.loads, lines)}
        self.wanted, self.used = 0, list[Row]()

    def get(self, engine: str, query: Query) -> Row | None:
        """The row, if it is known."""
        row = self._known.get((query.name, query.digest, engine, engine_digest(engine)))
        return None if row is None else row | {"suite": query.suite.name}

    def add(self, row: Row) -> None:
        """Keeps a new row; that an engine is not there is not kept for the next run."""
        if row["status"] != "absent":
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def _key(row: Row) -> tuple[str, str, str, str]:
    return row["name"], row["query"], row["engine"], row["code"]


def available(pairs: Sequence[str], suites: Sequence[Suite], shop: Workshop) -> Iterator[str]:
    """Those of the pairs that some suite asks about and whose files are there."""
    for name in dict.fromkeys(name for suite in suites for name in suite.pairs if name in pairs):
        try:
            shop.pair(name)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
        else:
            yield name


def run(options: argparse.Namespace, shop: Workshop) -> Rows:
    """All rows, from the cache or asked now until the time is up. Raises: SoundnessError on a contradiction."""
    rows = Rows(options.cache, fresh=options.fresh)
    deadline = time.perf_counter() + 60 * options.minutes
    _warm_up(options.engines, shop)
    pairs = list(available(options.pairs, options.suites, shop))
    for number, query in enumerate(queries(options.suites, pairs, shop, deadline=deadline)):
        rows.wanted += len(options.engines)
        turn = number % len(options.engines)
        for engine in (*options.engines[turn:], *options.engines[:turn]) if query is not None else ():
            row = rows.get(engine, query)
            if row is None and time.perf_counter() < deadline:
                row = answered(engine, query)
                print(f"{query.name} {engine}: {row['status']} in {row['elapsed_s']:.3f} s", file=sys.stderr)
                refuse_contradictions([*rows.used, row])
                rows.add(row)
            if row is not None:
                rows.used.append(row)
    refuse_contradictions(rows.used)
    return rows


def _warm_up(engines: Sequence[str], shop: Workshop) -> None:
    """One easy query for each engine in this process, so that no row pays for imports."""
    suite = Suite("warm-up", ("digits-25-tuned",), "top1", (0.001,))
    for query, engine in product(queries([suite], suite.pairs, shop), engines):
        if query is not None and engine in ("cascade", "alpha-crown"):
            answered(engine, query)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="NAME")
    parser.add_argument("--suites", nargs="+", choices=[s.name for s in SUITES], metavar="NAME")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), metavar="NAME")
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="no query is asked after that time; run again to go on"
    )
    parser.add_argument("--fresh", action="store_true", help="ask everything again")
    parser.add_argument("--quick", action="store_true", help="four easy queries about digits: does it run?")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="networks and finished rows")
    parser.add_argument("--json", type=Path, default=HERE / "results/equivalence.json")
    options = parser.parse_args(arguments)
    chosen = [s for s in SUITES if options.suites is None or s.name in options.suites]
    options.suites = list(QUICK) if options.quick else chosen
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the tables, writes the JSON."""
    options = parse(arguments)
    torch.set_num_threads(1)
    where = surroundings()
    rows = run(options, Workshop(data_folder(), options.cache))
    rows.used = with_largest(rows.used)
    settings = {"engines": options.engines, "suites": [vars(suite) for suite in options.suites], "marabou": MARABOU}
    counts = {
        "rows": len(rows.used),
        "rows_wanted": rows.wanted,
        "code": {e: engine_digest(e) for e in options.engines},
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    found = {
        **where,
        "settings": settings,
        **counts,
        "criteria": [vars(c) for c in criteria(rows.used)],
        "results": rows.used,
    }
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(describe(where), *sorted({row["version"] for row in rows.used} - {""}), sep=", ")
    print(f"{len(rows.used)} of {rows.wanted} rows; no contradiction between engines, every violation replayed")
    print(table(rows.used))
    print("\nWhat is asked of this package")
    print(*criteria(rows.used), sep="\n")


if __name__ == "__main__":
    main()
