"""How much of a network survives pruning without data: accuracy, empirical and certified robustness, method by method.

Every row is one network, seed, sparsity and method, measured on inputs that nothing was developed or trained on. Rows
are written as they come (JSON lines in the cache folder) and reused by the next run with the same code, so that a long
run can be stopped; the table and the JSON hold what is there. Rows that stand in the repository (--measured) count
like those of the cache. With a seed, a network of that recipe is trained and pruned; the recorded networks are only
pruned with another seed, and by methods that draw nothing only once. Rows of older code count with --any-code, and
--repeat makes some of them again, drawn at random, to see whether today's code gives the very same networks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pruning_networks import RECIPES, Subject, load_subject
from pruning_peers import NUM_REAL_INPUTS, torch_pruning, with_real_inputs
from quality_measures import Flags, Kept, clopper_pearson, kept, measure
from surroundings import code_digest, data_folder, describe, surroundings

from paoding_verify.errors import ConfigError
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Network
from paoding_verify.pruning.prune import METHODS, prune
from paoding_verify.pruning.unstructured import UNSTRUCTURED

HERE = Path(__file__).resolve().parent
REFERENCE = f"real-inputs-{NUM_REAL_INPUTS}"
PEERS: Mapping[str, Callable[[Subject, float], Network]] = {"torch-pruning": torch_pruning, REFERENCE: with_real_inputs}
NUM_UNLABELLED = 100
WITH_INPUTS = f"portfolio-{NUM_UNLABELLED}-inputs"
"""The portfolio with so many training inputs, without their labels."""
SPARSITIES = (0.5, 0.75, 0.25, 0.9)
ONLY = {WITH_INPUTS: (0.75,)}
FAR, GO_FAR = 0.9, ("portfolio", "obs", REFERENCE)
"""From this sparsity on, only these methods are tried."""
SEEDLESS = (
    "magnitude-l1", "magnitude-l2", "srinivas-babu", "srinivas-babu-projection", "paoding-legacy-baseline",
    "paoding-legacy-impact", "lwm", "lwm-layer", "torch-pruning",
)  # fmt: skip
"""Methods that give one network whatever the seed."""
WITHIN = ("paoding_verify.pruning.", "paoding_verify.anchors", "paoding_verify.generators")
"""Modules whose change makes the rows of the methods that import them old."""
MEASURED_BY = ("quality_measures", "pruning_networks")

MEASURED = HERE / "measured/pruning_quality.jsonl"
_COUNTS = tuple(Kept.__dataclass_fields__)

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One row to come."""

    network: str
    seed: int
    method: str
    sparsity: float
    images: int

    def matches(self, row: Row) -> bool:
        """Whether a row answers this job."""
        return all(row[name] == value for name, value in vars(self).items())


class Originals:
    """The networks before pruning and their measures, made when first asked for; the last one is kept."""

    def __init__(self, data: Path, cache: Path) -> None:
        self._data, self._cache = data, cache
        self._key: tuple[str, int, int] | None = None
        self._found: tuple[Subject, dict[str, Flags]]

    def get(self, job: Job) -> tuple[Subject, dict[str, Flags]]:
        """Network and measures."""
        key = (job.network, job.seed, job.images)
        if key != self._key:
            subject = load_subject(job.network, job.seed, self._data, self._cache)
            flags = measure(subject.network, *subject.held_out, RECIPES[job.network].settings(job.images))
            self._key, self._found = key, (subject, flags)
        return self._found


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """All rows, those that say most about everything first: a seed after the other."""
    for seed in range(options.seeds):
        for network in options.networks:
            for sparsity in options.sparsities:
                for method in options.methods:
                    told = sparsity in ONLY.get(method, [sparsity]) and (sparsity < FAR or method in GO_FAR)
                    same_again = seed > 0 and method in SEEDLESS and not RECIPES[network].seeded
                    if told and not same_again:
                        yield Job(network, seed, method, sparsity, options.images)


def version(method: str) -> str:
    """Digest of the code that a row of this method depends on."""
    if method == WITH_INPUTS:
        modules = [METHODS["portfolio"].__module__, "paoding_verify.pruning.own_regions"]
    elif method in PEERS:
        modules = ["pruning_peers"]
    else:
        modules = [METHODS[method].__module__ if method in METHODS else "paoding_verify.pruning.unstructured"]
    return code_digest([*MEASURED_BY, *modules], WITHIN)


def pruned_by(job: Job, subject: Subject) -> Network:
    """The pruned network. Raises: ConfigError, ImportError if this cannot be done here."""
    if job.method in PEERS:
        return PEERS[job.method](subject, job.sparsity)
    method, inputs = job.method, None
    if method == WITH_INPUTS:
        method, inputs = "portfolio", subject.real_inputs[:NUM_UNLABELLED]
    found = prune(subject.network, target_sparsity=job.sparsity, method=method, seed=job.seed, inputs=inputs)
    return found.network


def measured(job: Job, originals: Originals) -> Row:
    """One row; a method that cannot do it leaves the reason in "failed"."""
    subject, before = originals.get(job)
    row: Row = vars(job) | {"num_units": subject.network.num_units}
    start, start_cpu = time.perf_counter(), time.process_time()
    try:
        pruned = pruned_by(job, subject)
    except (ConfigError, ImportError) as error:
        return row | {"failed": str(error)}
    row |= {"elapsed_s": time.perf_counter() - start, "cpu_s": time.process_time() - start_cpu}
    row |= {"num_units_left": pruned.num_units, "sha256": canonical_digest(pruned)}
    row |= {"original_sha256": canonical_digest(subject.network)}
    after = measure(pruned, *subject.held_out, RECIPES[job.network].settings(job.images))
    measures = {name: vars(k) for name, k in kept(before, after).items()}
    where = surroundings()
    return row | {"measures": measures, "machine": where["machine"], "versions": where["versions"]}


def rows_of(options: argparse.Namespace, data: Path) -> list[Row]:
    """The rows of all jobs, from the cache or measured now until the time is up."""
    versions, store = {method: version(method) for method in options.methods}, options.cache / "pruning_quality.jsonl"
    known = _stored(options.measured) + _stored(store)
    known = [row for row in known if row["code"] == versions.get(row["method"]) or options.any_code]
    originals, rows, started = Originals(data, options.cache), [], time.perf_counter()
    options.cache.mkdir(parents=True, exist_ok=True)
    for job in jobs(options):
        found = next((row for row in reversed(known) if job.matches(row)), None)
        if found is None and time.perf_counter() - started < 60 * options.minutes:
            found = measured(job, originals) | {"code": versions[job.method]}
            if "failed" not in found:
                with store.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
            print(f"{job}: {_brief(found)}", file=sys.stderr)
        if found is not None:
            rows.append(found)
    _refuse_mixed(rows)
    return rows


def _stored(path: Path) -> list[Row]:
    """Rows of a file, if it is there."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    for row in rows:
        row["measures"] = {name: {k: m[k] for k in _COUNTS} for name, m in row["measures"].items()}
    return rows


def _refuse_mixed(rows: Iterable[Row]) -> None:
    """Raises: SystemExit if rows of one seed began with different networks: training differs between machines."""
    digests: dict[tuple[str, int], str] = {}
    for row in rows:
        if "original_sha256" in row:
            first = digests.setdefault((row["network"], row["seed"]), row["original_sha256"])
            if first != row["original_sha256"]:
                raise SystemExit(
                    f"rows of {row['network']}, seed {row['seed']}, began with different networks: measure them anew, "
                    "with --measured naming no file and an empty --cache"
                )


def _derived(row: Row) -> Row:
    """The row with shares and intervals, for readers."""
    if "failed" in row:
        return row
    found = {name: Kept(**m) for name, m in row["measures"].items()}
    return row | {"measures": {
        name: {**vars(k), "ratio": k.ratio, "share": k.share, "share_interval": k.interval,
               "accuracy_interval": clopper_pearson(k.after, k.total)}
        for name, k in found.items()
    }}  # fmt: skip


def repeated(rows: Sequence[Row], count: int, data: Path, cache: Path) -> dict[str, int]:
    """Makes some rows of older code again, drawn at random: how many there are, and how many give the same network."""
    old = [row for row in rows if "failed" not in row and row["code"] != version(row["method"])]
    chosen = np.random.default_rng(0).permutation(len(old))[:count]
    same = 0
    for row in (old[k] for k in chosen):
        job = Job(**{name: row[name] for name in Job.__dataclass_fields__})
        network = pruned_by(job, load_subject(job.network, job.seed, data, cache))
        same += canonical_digest(network) == row["sha256"]
        print(
            f"{job}: {'the same network' if canonical_digest(network) == row['sha256'] else 'ANOTHER'}", file=sys.stderr
        )
    return {"rows_of_older_code": len(old), "repeated": len(chosen), "same_network": same}


def _origin(row: Row) -> str:
    return f"{row['machine']}, torch {row['versions']['torch']}, numpy {row['versions']['numpy']}"


def _brief(row: Row) -> str:
    if "failed" in row:
        return f"failed: {row['failed']}"
    ratios = ", ".join(f"{name} {Kept(**m).ratio:.3f}" for name, m in row["measures"].items())
    return f"{ratios}, {row['cpu_s']:.1f} s"


def table(rows: Sequence[Row]) -> str:
    """One block for each network and sparsity; a line for each method: mean over seeds, and the range in brackets."""
    blocks = []
    for network, sparsity in dict.fromkeys((row["network"], row["sparsity"]) for row in rows):
        block = [row for row in rows if (row["network"], row["sparsity"]) == (network, sparsity)]
        done = [row for row in block if "failed" not in row]
        lines = [f"\n{network}, {sparsity:.0%} removed"]
        if done:
            lines += [_head(done), *(_line(method, mine) for method, mine in _by_method(done))]
        lines += sorted({f"{row['method']:<26} not run: {row['failed']}" for row in block if "failed" in row})
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def _by_method(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    rows = list(rows)
    for method in dict.fromkeys(row["method"] for row in rows):
        yield method, [row for row in rows if row["method"] == method]


def _head(rows: Sequence[Row]) -> str:
    """Names of the columns, and what the original has: mean over its networks, with the interval of the inputs."""
    measures = rows[0]["measures"]
    originals = {row["seed"]: row["measures"] for row in rows}.values()
    before = [
        _share(np.mean([m[name]["before"] for m in originals]), measures[name]["total"]).center(_WIDTH)
        for name in measures
    ]
    names = [f"{name} (of {m['total']})".center(_WIDTH) for name, m in measures.items()]
    columns = ["accuracy".center(_WIDTH // 2) + "kept of original".center(_WIDTH // 2) for _ in measures]
    label = f"{'original':<26} {len(originals):>5}"
    return "\n".join(
        (f"{'':<32} {' '.join(names)}", f"{label} {' '.join(before)}",
         f"{'method':<26} {'seeds':>5} {' '.join(columns)} {'cpu s':>9}")
    )  # fmt: skip


def _line(method: str, rows: Sequence[Row]) -> str:
    cells = []
    for name, first in rows[0]["measures"].items():
        ratios = [Kept(**row["measures"][name]).ratio for row in rows]
        mean = np.mean([row["measures"][name]["after"] for row in rows])
        spread = f"{np.mean(ratios):.3f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        cells.append(_share(mean, first["total"]).center(_WIDTH // 2) + spread.center(_WIDTH // 2))
    cpu = np.mean([row["cpu_s"] for row in rows])
    return f"{method:<26} {len(rows):>5} {' '.join(cells)} {cpu:>9.1f}"


_WIDTH = 40


def _share(hits: Any, total: int) -> str:
    """A share with its exact 95 % interval, as if all seeds had seen one and the same sample of inputs - they have."""
    low, high = clopper_pearson(round(float(hits)), total)
    return f"{hits / total:.3f} ({low:.3f}-{high:.3f})"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    methods = [*METHODS, WITH_INPUTS, *UNSTRUCTURED, *PEERS]
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods, metavar="NAME")
    parser.add_argument("--sparsities", nargs="+", type=float, default=list(SPARSITIES))
    parser.add_argument("--images", type=int, default=500, help="held-out inputs attacked and bounded")
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="no new row is begun after that time; run again to go on"
    )
    parser.add_argument("--any-code", action="store_true", help="reuse rows measured with other versions of the pruner")
    parser.add_argument("--repeat", type=int, default=0, help="rows of older code to make again and compare")
    parser.add_argument("--quick", action="store_true", help="one small network, one seed, 40 inputs: does it run?")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="trained networks and finished rows")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="rows to begin with")
    parser.add_argument("--store-measured", action="store_true", help="write the rows of the table there as well")
    parser.add_argument("--json", type=Path, default=HERE / "results/pruning_quality.json")
    options = parser.parse_args(arguments)
    if options.quick:
        options.networks, options.sparsities, options.seeds, options.images = ["wine"], [0.5], 1, 40
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table, writes the JSON."""
    options = parse(arguments)
    data = data_folder()
    if data is None:
        print("pruning_quality: nothing measured, the data are missing (set PAODING_VERIFY_DATA)")
        return
    torch.set_num_threads(1)
    where = surroundings()
    rows = rows_of(options, data)
    wanted = sum(1 for _ in jobs(options))
    summary = {"rows": len(rows), "rows_wanted": wanted, **repeated(rows, options.repeat, data, options.cache)}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(options).items() if name not in ("cache", "json", "measured")}
    results = [_derived(row) for row in rows]
    options.json.write_text(json.dumps({**where, "settings": settings, **summary, "results": results}, indent=1) + "\n")
    if options.store_measured:
        options.measured.parent.mkdir(parents=True, exist_ok=True)
        options.measured.write_text("".join(f"{json.dumps(row)}\n" for row in rows if "failed" not in row))
    print(describe(where))
    for machine, number in Counter(_origin(row) for row in rows if "failed" not in row).items():
        print(f"{number} rows measured on {machine}")
    print(
        f"seeds 0 to {options.seeds - 1}; {len(rows)} of {wanted} rows, {summary['rows_of_older_code']} by older code"
    )
    print(f"made again with today's code: {summary['repeated']}, the very same network: {summary['same_network']}")
    print("Accuracies are shares of held-out inputs with exact 95 % intervals, means over seeds. Kept of original:")
    print("pruned / original, mean over seeds [smallest, largest]; above 1 the pruned network is the better one.")
    print(table(rows))


if __name__ == "__main__":
    main()
