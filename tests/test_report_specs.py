"""Claims as VNN-LIB specifications: read back, they ask what the claims asked."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.errors import DataError
from paoding_verify.evidence.boxes import unpack_box
from paoding_verify.evidence.property import Property, PropertyRecord, decides_like, distance_at_most, predicts
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Outcome
from paoding_verify.report.specs import RESULTS, render_specs
from paoding_verify.vnnlib import read_vnnlib
from tests.audits import audit_example, certify_example, compare_example, hostile_example


def table(files: dict[str, str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[RESULTS], newline="")))


def small(result: AuditResult, outputs: int = 3) -> AuditResult:
    """Few outputs, so that a pair's specification stays small."""
    claims = tuple(replace(c, label=None if c.label is None else c.label % outputs) for c in result.claims)
    return replace(result, models=tuple(replace(m, num_outputs=outputs) for m in result.models), claims=claims)


def same_set(mine: Property, theirs: Property) -> bool:
    """Whether both hold at the same outputs, tried at points near and far from their borders."""
    points = np.random.default_rng(0).normal(size=(400, mine.rows.shape[1])).round(1)
    margins = [prop.margins(prop.values(points)) > 0 for prop in (mine, theirs)]
    return bool(np.array_equal(*margins)) and margins[0].any() and not margins[0].all()


def test_files_read_back_as_the_boxes_and_properties_of_the_claims(tmp_path: Path):
    result = small(audit_example(Outcome.PASS, (0.01,), 2))
    result = replace(
        result, claims=tuple(replace(c, delta=0.5) if c.kind == "output_distance" else c for c in result.claims)
    )
    files = dict(render_specs(result))
    rows = table(files)
    assert len(rows) == len(result.claims) == len(files) - 1
    for row, claim in zip(rows, result.claims, strict=True):
        (tmp_path / "spec.vnnlib").write_text(files[row["vnnlib"]])
        outputs = 6 if claim.subject == "pair" else 3
        ((region, found),) = read_vnnlib(tmp_path / "spec.vnnlib", (1, 28, 28), outputs)
        record = next(r for r in result.regions if r.id == claim.region)
        box = unpack_box(record.box, (1, 28, 28), eps=record.eps, domain=record.domain, sha256=record.sha256)
        assert np.array_equal(region.lower, box.lower)
        assert np.array_equal(region.upper, box.upper)
        wanted = {
            "top1_robust": predicts(claim.label or 0, 3), "top1_equivalent": decides_like(3),
            "output_distance": distance_at_most(0.5, 3),
        }[claim.kind]  # fmt: skip
        assert same_set(found, wanted)
        assert row["answer"] == {"CERTIFIED": "unsat", "VIOLATED": "sat"}.get(row["verdict"], "unknown")
        models = {"pair": "models/original.onnx models/pruned.onnx"}.get(claim.subject, f"models/{claim.subject}.onnx")
        assert row["onnx"] == models


def test_brackets_ask_nothing_and_stand_in_the_table():
    files = dict(render_specs(small(compare_example())))
    rows = table(files)
    brackets = [row for row in rows if "output_distance" in row["claim"]]
    assert brackets
    assert not any(row["vnnlib"] for row in brackets)
    assert {row["vnnlib"] for row in rows} - {""} == set(files) - {RESULTS}


def test_a_specification_s_property_comes_from_the_bundle():
    result = certify_example()
    result = replace(result, claims=tuple(replace(c, kind="vnnlib", label=None) for c in result.claims))
    assert list(dict(render_specs(result))) == [RESULTS]
    prop = Property(np.array([[2.5, 0.0, -1.0]]), np.array([-0.25]), ((0,),))
    files = dict(render_specs(result, {result.claims[0].id: PropertyRecord.of(prop)}))
    assert "(assert (<= (+ (* 2.5 Y_0) (* -1 Y_2)) 0.25))" in files["claim00000.vnnlib"]


def test_errors_are_unknown_and_say_so():
    files = dict(render_specs(small(certify_example())))
    last = table(files)[-1]
    assert (last["verdict"], last["answer"]) == ("ERROR", "unknown")
    assert "ran out of memory" in files[last["vnnlib"]].split("(declare", 1)[0]


def test_hostile_names_stay_in_their_comments():
    files = dict(render_specs(small(hostile_example())))
    for name, text in files.items():
        if name != RESULTS:
            assert {line[:1] for line in text.splitlines()[:3]} == {";"}
            assert all(line[:1] in "(; " or line == "))" for line in text.splitlines())
            assert text.isascii() or all(c.isprintable() or c == "\n" for c in text)
    assert all(row["claim"][0] not in "=+-@" for row in table(files))


@pytest.mark.parametrize("spoil", [{"box": ""}, {"sha256": "0" * 64}, {"eps": 0.5}])
def test_a_box_that_is_missing_or_untrue_is_refused(spoil: dict[str, object]):
    result = small(certify_example())
    regions = tuple(replace(r, **spoil) for r in result.regions)  # type: ignore[arg-type]
    with pytest.raises(DataError):
        list(render_specs(replace(result, regions=regions)))


def test_a_label_beyond_the_outputs_is_refused():
    result = certify_example()
    claims = (replace(result.claims[0], label=7),)
    with pytest.raises(DataError, match="asks nothing"):
        list(render_specs(replace(result, claims=claims)))
