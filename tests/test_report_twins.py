"""The machine-readable twins: complete, well-formed, harmless."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from paoding_verify.evidence import codec
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report.claims_csv import COLUMNS, render_csv
from paoding_verify.report.intoto import render_intoto
from paoding_verify.report.junit import render_junit
from paoding_verify.report.markdown import escape_markdown, render_markdown
from paoding_verify.report.plain import timings, without_timings
from paoding_verify.report.render import TWINS, audit_json, render_all, timings_json
from paoding_verify.report.sarif import render_sarif
from paoding_verify.report.schema import json_schema, render_schema
from paoding_verify.report.text import visible
from tests.audits import PAYLOAD, audit_example, certify_example, compare_example, every_example

EXAMPLES = every_example()


@pytest.fixture(params=sorted(EXAMPLES))
def result(request: pytest.FixtureRequest) -> AuditResult:
    return EXAMPLES[request.param]


def test_every_twin_is_deterministic_and_free_of_control_characters(result: AuditResult):
    first, second = render_all(result), render_all(replace(result))
    assert first == second
    assert list(first) == list(TWINS)
    for text in first.values():
        text.encode()
        assert all(c in "\r\n" or c.isprintable() for c in text)


def test_audit_json_satisfies_its_schema_and_reads_back(result: AuditResult):
    text = audit_json(result)
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(text))
    back = codec.loads(AuditResult, text.encode(), "audit.json")
    assert audit_json(back) == text
    assert render_all(back) == render_all(result)


def test_the_schema_is_one_and_refuses_what_does_not_belong():
    schema = json.loads(render_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    plain = json.loads(audit_json(certify_example()))
    for spoil in (
        lambda p: p.pop("mode"),
        lambda p: p.update(extra=1),
        lambda p: p["claims"][0].update(verdict="MAYBE"),
    ):
        spoilt = json.loads(json.dumps(plain))
        spoil(spoilt)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate(spoilt)


def test_times_go_into_a_file_of_their_own():
    result = audit_example(Outcome.PASS, (0.01,), 4)
    assert all(c.elapsed_s is None for c in without_timings(result).claims)
    assert json.loads(timings_json(result)) == {c.id: 0.25 for c in result.claims}
    assert timings(without_timings(result)) == {}
    assert audit_json(result) == audit_json(without_timings(result))


def test_sarif_holds_every_claim_that_was_not_certified(result: AuditResult):
    log = json.loads(render_sarif(result))
    run = log["runs"][0]
    found = {r["partialFingerprints"]["claimId/v1"]: r for r in run["results"]}
    wanted = {visible(c.id): c for c in result.claims if c.verdict is not Verdict.CERTIFIED}
    assert log["version"] == "2.1.0"
    assert set(found) == set(wanted)
    for name, claim in wanted.items():
        assert found[name]["level"] == ("warning" if claim.verdict is Verdict.UNKNOWN else "error")
        assert run["tool"]["driver"]["rules"][found[name]["ruleIndex"]]["id"] == claim.kind
        assert found[name]["message"]["text"]
    assert run["invocations"][0]["executionSuccessful"] == (result.counts["error"] == 0)


SARIF_SCHEMA = Path(os.environ.get("PAODING_VERIFY_SARIF_SCHEMA", "missing"))
"""The official schema, sarif-schema-2.1.0.json of OASIS; it is not part of this repository."""


@pytest.mark.skipif(not SARIF_SCHEMA.is_file(), reason="PAODING_VERIFY_SARIF_SCHEMA does not name the official schema")
def test_sarif_satisfies_the_official_schema(result: AuditResult):
    schema = json.loads(SARIF_SCHEMA.read_text())
    validator = jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)
    validator.validate(json.loads(render_sarif(result)))


def test_sarif_has_the_form_that_the_standard_asks_for(result: AuditResult):
    """SARIF 2.1.0, sections 3.13, 3.14, 3.19, 3.20, 3.27: what these objects must have, and nothing unknown."""
    log = json.loads(render_sarif(result))
    (run,) = log["runs"]
    for value, needed, allowed in (
        (log, {"version", "runs"}, {"$schema"}),
        (run, {"tool"}, {"invocations", "results", "columnKind"}),
        (run["tool"]["driver"], {"name"}, {"version", "rules"}),
        *((i, {"executionSuccessful"}, {"commandLine"}) for i in run["invocations"]),
        *((rule, {"id"}, {"shortDescription"}) for rule in run["tool"]["driver"]["rules"]),
        *(
            (r, {"message"}, {"ruleId", "ruleIndex", "level", "locations", "partialFingerprints", "properties"})
            for r in run["results"]
        ),
    ):
        assert needed <= set(value) <= needed | allowed
    assert {r["level"] for r in run["results"]} <= {"none", "note", "warning", "error"}
    assert all(isinstance(v, str) for r in run["results"] for v in r["partialFingerprints"].values())


def test_junit_counts_what_it_holds(result: AuditResult):
    suites = {s.get("name"): s for s in ET.fromstring(render_junit(result))}  # noqa: S314 - written by us
    claims, counts = suites["claims"], result.counts
    assert [case.get("name") for case in claims] == [visible(c.id) for c in result.claims]
    assert [claims.get(k) for k in ("failures", "skipped", "errors")] == [
        str(counts[k]) for k in ("violated", "unknown", "error")
    ]
    assert len(claims.findall(".//failure")) == counts["violated"]
    assert ("policy" in suites) == (result.policy is not None)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_policy_rule_that_is_not_met_is_a_junit_failure(outcome: Outcome):
    suite = ET.fromstring(render_junit(audit_example(outcome, (0.01,), 2)))[0]  # noqa: S314 - written by us
    assert suite.get("failures") == ("0" if outcome is Outcome.PASS else "1")


@pytest.mark.parametrize(
    ("outcome", "word"), [(Outcome.PASS, "PASSED"), (Outcome.FAIL, "FAILED"), (Outcome.INCONCLUSIVE, "WARNED")]
)
def test_the_attestation_names_the_shipped_files(outcome: Outcome, word: str):
    result = audit_example(outcome, (0.01,), 12)
    statement = json.loads(render_intoto(result))
    predicate = statement["predicate"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert [s["digest"]["sha256"] for s in statement["subject"]] == [m.shipped_sha256 for m in result.models]
    assert predicate["result"] == word
    lengths = [len(predicate[k]) for k in ("passedTests", "warnedTests", "failedTests")]
    assert lengths == [result.counts[k] for k in ("certified", "unknown", "violated")]


def test_the_attestation_without_a_policy_follows_the_claims():
    assert json.loads(render_intoto(certify_example()))["predicate"]["result"] == "FAILED"
    compared = compare_example()
    assert json.loads(render_intoto(compared))["predicate"]["result"] == "WARNED"
    proved = replace(compared, claims=tuple(c for c in compared.claims if c.verdict is Verdict.CERTIFIED))
    assert json.loads(render_intoto(proved))["predicate"]["result"] == "PASSED"


def test_markdown_text_means_only_itself():
    escaped = escape_markdown("# *a* _b_ `c` [d](e) <f> & |g| ~h~ www.i.j @k !l")
    assert escaped.startswith("\\# \\*a\\* \\_b\\_ \\`c\\` \\[d\\]\\(e\\) &lt;f&gt; &amp; \\|g\\|")
    assert "www." not in escaped
    assert "\n" not in escape_markdown("a\nb")


def test_markdown_of_a_hostile_result_has_no_html_and_no_links():
    text = render_markdown(EXAMPLES["hostile"])
    assert "<" not in text
    assert "](" not in text.replace("\\]\\(", "")
    assert PAYLOAD not in text


def test_markdown_states_the_verdict_and_the_open_claims():
    result = audit_example(Outcome.FAIL, (0.01,), 12)
    text = render_markdown(result)
    assert text.startswith("# Audit of a pruned network: FAIL\n")
    for claim in result.claims:
        assert (escape_markdown(claim.id) in text) == (claim.verdict is not Verdict.CERTIFIED)


def test_csv_has_one_row_for_each_claim(result: AuditResult):
    rows = list(csv.DictReader(io.StringIO(render_csv(result), newline="")))
    assert [row["id"].removeprefix("'") for row in rows] == [visible(c.id) for c in result.claims]
    assert tuple(rows[0]) == COLUMNS
    for row, claim in zip(rows, result.claims, strict=True):
        assert row["bound"] == ("" if claim.bound is None else repr(claim.bound))
        assert row["verdict"] == (claim.verdict.value if claim.verdict else "ERROR")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "|cmd", "'=1"])
def test_csv_text_is_never_a_formula(text: str):
    result = certify_example()
    spoilt = replace(result, claims=(replace(result.claims[0], id=text, bound=-1.5),))
    row = next(csv.DictReader(io.StringIO(render_csv(spoilt), newline="")))
    assert row["id"][0] not in "=+-@\t\r|%"
    assert row["id"].lstrip("'").lstrip()[:1] != "=" or row["id"].startswith("'")
    assert row["bound"] == "-1.5"


def test_rendering_loads_no_engine():
    code = (
        "import sys; import paoding_verify.report.render; "
        "sys.exit(', '.join({'torch', 'z3', 'auto_LiRPA', 'scipy', 'onnx', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
