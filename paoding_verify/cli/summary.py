"""What people read on stdout at the end: figures, policy, where the report is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paoding_verify.evidence.codec import dumps
from paoding_verify.evidence.result import AuditResult, PolicyOutcome, RuleOutcome
from paoding_verify.evidence.verdict import Outcome

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from paoding_verify.report.tables import PropertyRow

__all__ = ["exit_code", "print_result", "result_json"]

CODES = {None: 0, Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}
ERROR_CODE = 4
LARGE = 1e300
"""Beyond this a figure stands for "no bound"."""


def exit_code(result: AuditResult) -> int:
    """4 if a claim ended in an error, else what the policy says; 0 where no policy was applied."""
    return ERROR_CODE if result.counts["error"] else CODES[result.verdict]


def result_json(result: AuditResult) -> str:
    """The result as JSON text: audit.json, with the times that claims took; `schema` describes it."""
    return dumps(result)


def print_result(result: AuditResult, *, as_json: bool, written: Path | None = None) -> None:
    """The JSON alone, or tables and, last, the verdict and where things were written."""
    if as_json:
        print(result_json(result), end="")
        return
    from rich.console import Console
    from rich.text import Text

    from paoding_verify.report.opening import cautions, refuted_unchanged
    from paoding_verify.report.tables import property_rows
    from paoding_verify.report.text import count

    console = Console(highlight=False, soft_wrap=True)
    if result.metrics:
        console.print(_metrics(result))
    if len(rows := property_rows(result, by_radius=False)) > 1:
        console.print(_properties(rows))
    counts = ", ".join(f"{number} {verdict}" for verdict, number in result.counts.items())
    wrong = refuted_unchanged(result)
    at_inputs = f" ({wrong} violated at the input itself, which the network gets wrong)" if wrong else ""
    console.print(Text(f"{count(len(result.claims), 'claim')}: {counts}{at_inputs}"))
    if distance := _distance(result):
        console.print(Text(distance))
    for sentence in cautions(result):
        console.print(Text(f"note: {sentence}"))
    for claim in [claim for claim in result.claims if claim.verdict is None][:3]:
        console.print(Text(f"error in {claim.id}: {claim.reason}"), style="red")
    if result.policy is not None:
        _print_policy(console, result.policy)
    if written is not None:
        report = written / "report.html" if written.is_dir() else written
        print(f"report: {report}" if written.is_dir() else f"result: {report}")


def _metrics(result: AuditResult) -> Table:
    from rich.table import Table

    from paoding_verify.report.text import percent

    table = Table(title="Accuracy over the regions", title_justify="left")
    for name in ("network", "eps", "regions", "natural", "robust, at most", "certified, at least"):
        table.add_column(name, justify="left" if name == "network" else "right")
    for m in result.metrics:
        shares = (m.natural_accuracy, m.empirical_robust_accuracy, m.certified_accuracy)
        table.add_row(m.subject, f"{m.eps:g}", str(m.num_regions), *map(percent, shares))
    return table


def _properties(rows: Sequence[PropertyRow]) -> Table:
    from rich.table import Table

    table = Table(title="What was asked", title_justify="left")
    table.add_column("property")
    table.add_column("network")
    for name in (outcomes := ("certified", "violated", "unknown", "error")):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.name, row.subject, *(str(row.counts.get(name, 0)) for name in outcomes))
    return table


def _distance(result: AuditResult) -> str:
    """How far the outputs differ at most over the regions, where that was asked and is known; else nothing."""
    from paoding_verify.report.tables import distance_pairs
    from paoding_verify.report.text import count, number

    pairs = distance_pairs(result)
    if not pairs:
        return ""
    found, proved = (max(side) for side in zip(*pairs, strict=True))
    return (
        f"largest difference of an output, over {count(len(pairs), 'region')}: at least {number(found)} (found), "
        f"at most {number(proved)} (proved)"
    )


def _print_policy(console: Console, policy: PolicyOutcome) -> None:
    from rich.text import Text

    for rule in policy.rules:
        console.print(Text(f"  {rule.outcome:12} {rule.text} (found {_interval(rule)})"))
    colour = {Outcome.PASS: "bold green", Outcome.FAIL: "bold red", Outcome.INCONCLUSIVE: "bold yellow"}
    console.print(Text(f"verdict: {policy.outcome}", style=colour[policy.outcome]), Text(f"(policy {policy.name})"))


def _interval(rule: RuleOutcome) -> str:
    if rule.low == rule.high:
        return f"{rule.low:.4g}"
    return f"{rule.low:.4g} or more" if rule.high > LARGE else f"{rule.low:.4g} to {rule.high:.4g}"
