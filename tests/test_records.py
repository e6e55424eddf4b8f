"""Records of regions, provenance, progress lines, and what the summary prints."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.provenance import describe
from paoding_verify.auditing.records import region_records
from paoding_verify.cli.progress import _PlainLines, reporting
from paoding_verify.cli.summary import exit_code, print_result
from paoding_verify.evidence.metrics import accuracy_metrics
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.regions import Region, box_digest
from paoding_verify.report.tables import distance_pairs, property_rows
from paoding_verify.versions import COMPONENTS, component_versions
from tests.audits import audit_example
from tests.test_policy import claims


def test_regions_are_identified_by_their_boxes() -> None:
    region = Region("r0", np.zeros(2), np.ones(2), label=1, eps=0.5, source="data.npz[3]")
    (record,) = region_records([region])
    assert (record.id, record.source, record.label, record.eps) == ("r0", "data.npz[3]", 1, 0.5)
    assert record.sha256 == box_digest(region.lower, region.upper)


def test_provenance_names_versions_and_settings_but_no_host() -> None:
    config = AuditConfig(eps=(0.1, 0.2), domain=(0.0, 1.0), delta=2.0, samples=7, drawing="7 of 9 rows")
    record = describe(config, "apart", drawn=True, pruned=False, pair=True)
    assert set(record.versions) == {"python", *COMPONENTS}
    assert record.versions == component_versions()
    assert {k: record.config[k] for k in ("eps", "domain", "samples", "timeout_s", "delta", "smt_samples")} == {
        "eps": "0.1, 0.2", "domain": "0 to 1", "samples": "7", "timeout_s": "30", "delta": "2", "smt_samples": "0"
    }  # fmt: skip
    assert not {"method", "target_sparsity", "normalisation", "drawing"} & set(record.config)
    assert platform.node() not in record.machine.split()
    assert (record.data_split, record.drawing) == ("apart", "7 of 9 rows")
    alone = describe(AuditConfig(), "", drawn=False, pruned=False, pair=False)
    assert not {"eps", "samples", "domain", "delta", "smt_samples", "method"} & set(alone.config)


def test_accuracies_are_shares_of_the_regions() -> None:
    (metric,) = accuracy_metrics(claims("pruned", "top1_robust", "ccvue"))
    assert (metric.natural_accuracy, metric.empirical_robust_accuracy, metric.certified_accuracy) == (0.6, 0.8, 0.4)
    boxes = [replace(claim, eps=None) for claim in claims("pruned", "top1_robust", "cc")]
    assert accuracy_metrics(boxes) == ()


def test_plain_progress_tells_beginning_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _PlainLines()
    for done in range(1, 101):
        lines("pruning", done, 100)
    lines("proving", 1, 2)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("pruning: 1 of 100")
    assert shown[-2:] == ["pruning: 100 of 100", "proving: 1 of 2"]
    assert len(shown) == 3


def test_plain_progress_estimates_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("paoding_verify.cli.progress.time.monotonic", lambda: clock[0])
    lines = _PlainLines()
    lines("proving", 0, 10)
    clock[0] = 8.0
    lines("proving", 4, 10)
    assert capsys.readouterr().err.splitlines()[-1] == "proving: 4 of 10, about 12 s left"


def test_quiet_means_no_callback() -> None:
    with reporting(quiet=True) as progress:
        assert progress is None


@pytest.mark.parametrize(
    ("outcome", "code"), [(Outcome.PASS, 0), (Outcome.FAIL, 1), (Outcome.INCONCLUSIVE, 3), (None, 0)]
)
def test_exit_codes_follow_the_policy(outcome: Outcome | None, code: int) -> None:
    result = audit_example()
    settled = tuple(claim for claim in result.claims if claim.verdict is not None)
    policy = replace(result.policy, outcome=outcome) if outcome and result.policy else None
    assert exit_code(replace(result, claims=settled, policy=policy)) == code


def test_an_error_outweighs_the_policy() -> None:
    result = audit_example()
    broken = replace(result.claims[0], verdict=None, witness=None, reason="broke")
    assert exit_code(replace(result, claims=(*result.claims, broken))) == 4


def test_the_summary_shows_figures_rules_errors_and_the_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = audit_example()
    broken = replace(result.claims[0], id="x/[bold]y", verdict=None, witness=None, reason="it broke")
    print_result(replace(result, claims=(broken, *result.claims)), as_json=False, written=tmp_path)
    shown = capsys.readouterr().out
    assert result.policy is not None
    assert f"verdict: {result.policy.outcome}" in shown
    assert all(rule.text in shown for rule in result.policy.rules)
    assert "error in x/[bold]y: it broke" in shown
    brackets = distance_pairs(result)
    assert f"over {len(brackets)} regions: at least {max(low for low, _ in brackets):.4g} (found)" in shown
    for row in property_rows(result, by_radius=False):
        line = next(line for line in shown.splitlines() if row.name in line and row.subject in line)
        assert line.split("\N{BOX DRAWINGS LIGHT VERTICAL}")[3].strip() == str(row.counts.get("certified", 0))
    assert shown.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    assert sum(claim.verdict is Verdict.CERTIFIED for claim in result.claims) == result.counts["certified"]
