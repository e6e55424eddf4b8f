"""Audit results of every kind, built in memory, for tests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt

from paoding_verify.evidence.boxes import Box, ball, box_digest, pack_box
from paoding_verify.evidence.claim import Claim, Witness
from paoding_verify.evidence.pruning import Candidate, FinetuneRecord, Move, PruneStep, PruneTrace, StageMetrics
from paoding_verify.evidence.result import (
    AuditResult,
    LayerRecord,
    Metric,
    ModelRecord,
    PolicyOutcome,
    Provenance,
    RegionRecord,
    RuleOutcome,
)
from paoding_verify.evidence.verdict import Outcome, Verdict

__all__ = [
    "PAYLOAD",
    "audit_example",
    "certify_example",
    "compare_example",
    "every_example",
    "finetuned_trace",
    "hostile_example",
    "large_example",
    "trace",
]

Array = npt.NDArray[np.float64]

PAYLOAD = (
    "</title></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`|[x](javascript:alert(3))"
    "]]>&\u202e\x00\x1b[31m\ud800\n# =cmd()"
)
"""Text that breaks out of HTML, SVG, attributes, Markdown, XML and terminals wherever it is not escaped."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def model(role: str, hidden: tuple[int, ...] = (256, 256), inputs: tuple[int, ...] = (1, 28, 28)) -> ModelRecord:
    size = int(np.prod(inputs))
    layers, total, width = [LayerRecord("flatten", "Reshape", (size,), 0)], 0, size
    for k, units in enumerate((*hidden, 10)):
        layers.append(LayerRecord(f"fc{k + 1}", "Dense", (units,), (width + 1) * units))
        if k < len(hidden):
            layers.append(LayerRecord(f"relu{k + 1}", "Relu", (units,), 0))
        total, width = total + (width + 1) * units, units
    return ModelRecord(
        role, f"mnist-{role}.onnx", "ONNX", digest(role), digest("shipped" + role), digest("canonical" + role),
        total * 4 + 812, inputs, 10, total, 0, hidden, total - sum(hidden) - 10, tuple(layers),
    )  # fmt: skip


def claim(subject: str, index: int, eps: float, verdict: Verdict | None, **extra: object) -> Claim:
    kind = "top1_equivalent" if subject == "pair" else "top1_robust"
    base = Claim(
        id=f"{subject}/{kind}/r{index:04d}/eps{eps:g}", kind=kind, subject=subject, region=f"r{index:04d}-{eps:g}",
        eps=eps, label=index % 10, verdict=verdict, method="crown", margin=2.0 + index % 7 / 3, elapsed_s=0.25,
    )  # fmt: skip
    if verdict is Verdict.CERTIFIED:
        base = replace(
            base, bound=0.2 + index % 11 / 5, attack=0.9 + index % 11 / 5, semantics=("real", "float32"), rechecked=True
        )
    elif verdict is Verdict.VIOLATED:
        base = replace(base, method="pgd", attack=-0.31, rechecked=True, witness=witness(index, subject, eps))
    elif verdict is Verdict.UNKNOWN:
        base = replace(
            base, method="alpha-crown", bound=-0.4, attack=0.12, reason="time limit of 30 s reached while splitting"
        )
    else:
        base = replace(base, reason="EngineError: the bounds engine ran out of memory", margin=None)
    return replace(base, **extra)  # type: ignore[arg-type]


@cache
def centre(index: int, inputs: int) -> npt.NDArray[np.float32]:
    """Input number `index`: a ring, or the first values of one."""
    grid = np.linspace(-1, 1, 28)
    picture = np.exp(-8 * (np.hypot(*np.meshgrid(grid, grid)) - 0.3 - index % 5 / 10) ** 2)
    return picture.astype(np.float32).ravel()[:inputs]


def witness(index: int, subject: str = "pair", eps: float = 0.01, inputs: int = 784) -> Witness:
    lower, upper = ball_around(index, eps, (inputs,))
    corner = np.where(np.sin(np.arange(inputs) + index) > 0, upper - 1e-7, lower + 1e-7).astype(np.float32)
    flat = tuple(float(v) for v in np.clip(corner, 0, 1))
    outputs = tuple(round(float(np.sin(index + k)) * 5, 3) for k in range(10))
    shifted = tuple(round(float(np.sin(index + k * 1.3 + 1)) * 5, 3) for k in range(10))
    return Witness(flat, None if subject == "pruned" else outputs, None if subject == "original" else shifted)


def claims_at(eps: float, number: int, weak: int) -> list[Claim]:
    """For `number` regions, claims of both networks and the pair; the pruned one fails on every `weak`-th."""
    found = []
    for k in range(number):
        after = (
            Verdict.VIOLATED if k % weak == weak - 1 else Verdict.UNKNOWN if k % weak == weak - 2 else Verdict.CERTIFIED
        )
        before = Verdict.UNKNOWN if k % 17 == 16 else Verdict.CERTIFIED
        bound = (
            {}
            if after is Verdict.VIOLATED
            else {"bound": round(0.1 + k % 11 / 5.2 - (2.4 if after is Verdict.UNKNOWN else 0), 4)}
        )
        found += [claim("original", k, eps, before), claim("pruned", k, eps, after, **bound)]
        pair = Verdict.CERTIFIED if k % 9 else Verdict.UNKNOWN
        smt = (
            {"smt": "confirmed", "smt_scale": 0.25, "smt_sampled": True}
            if k % 10 == 1 and pair is Verdict.CERTIFIED
            else {}
        )
        found.append(claim("pair", k, eps, pair, method="differential-crown", **smt))
        found.append(
            claim("pair", k, eps, Verdict.CERTIFIED, id=f"pair/output_distance/r{k:04d}/eps{eps:g}",
                  kind="output_distance", method="differential-crown", label=None, margin=None,
                  bound=1.0 + k % 13 / 9, attack=0.7 + k % 13 / 11)
        )  # fmt: skip
    return found


def metrics_of(claims: list[Claim], natural: tuple[float, float] = (0.98, 0.96)) -> tuple[Metric, ...]:
    rows = []
    for eps in sorted({c.eps for c in claims if c.eps is not None}):
        for subject, plain in zip(("original", "pruned"), natural, strict=True):
            own = [c for c in claims if c.subject == subject and c.eps == eps]
            if own:
                proved = sum(c.verdict is Verdict.CERTIFIED for c in own) / len(own)
                broken = sum(c.verdict is Verdict.VIOLATED for c in own) / len(own)
                rows.append(Metric(subject, eps, len(own), max(plain, 1 - broken), 1 - broken, proved))
    return tuple(rows)


def ball_around(index: int, eps: float, shape: tuple[int, ...]) -> tuple[Array, Array]:
    values = centre(index, int(np.prod(shape))).reshape(shape)
    return ball(values, np.full(shape, eps), (np.zeros(shape), np.ones(shape)))


def regions_of(
    claims: list[Claim], source: str = "mnist_test.npz", shape: tuple[int, ...] = (1, 28, 28)
) -> tuple[RegionRecord, ...]:
    return tuple(
        region_record(name, f"{source}[{k * 37 + 11}]", c, shape)
        for k, (name, c) in enumerate({c.region: c for c in claims}.items())
    )


def region_record(name: str, source: str, about: Claim, shape: tuple[int, ...]) -> RegionRecord:
    assert about.eps is not None
    index = int(about.region[1:5])
    lower, upper = ball_around(index, about.eps, shape)
    box = Box(centre(index, int(np.prod(shape))).reshape(shape), lower, upper)
    sha256, packed = box_digest(lower, upper), pack_box(box, is_ball=True)
    return RegionRecord(name, source, about.label, about.eps, (0.0, 1.0), sha256, packed)


def trace(steps: int = 14) -> PruneTrace:
    rows = []
    for k in range(1, steps + 1):
        accepted = tuple(Move(k % 2, None if k % 3 else 5, 16 * k + j, 0.01 * k, "energy fell") for j in range(16))
        rejected = tuple(Move(k % 2, None, 200 + j, 0.2, "energy rose; not drawn") for j in range(k % 5))
        margin, accuracies = 3.1 - 0.05 * k - 0.004 * k * k, (1 - k / 256, 1 - k / 64)
        rows.append(PruneStep(k, accepted, rejected, 0.004 * k * k, 0.8**k, 16 * k / 512, margin, *accuracies, 1.5))
    anchors = {
        "source": "synthesised: structured fields pushed towards classes",
        "count": 256,
        "eps": 0.01,
        "sha256": digest("anchors"),
    }
    candidates = (
        Candidate("paoding", 0.92, (144, 144), True, None, 0.25, 1.5),
        Candidate("magnitude", 1.61, (144, 144), False),
    )
    return PruneTrace(
        "paoding", 7, 0.5, 16 * steps / 512, tuple(rows), (tuple(range(144)), tuple(range(144))), anchors, candidates
    )


def finetuned_trace() -> PruneTrace:
    """A trace of unstructured pruning followed by certified fine-tuning."""
    shares = (("original", 0.95, 0.88, 0.8), ("pruned", 0.9, 0.62, 0.2), ("fine-tuned", 0.94, 0.86, 0.72))
    stages = tuple(StageMetrics(name, 0.1, 200, *values, "crown-ibp") for name, *values in shares)
    record = FinetuneRecord("certified", 0.1, 5, 7, "train.npz", 9000, digest("rows"), (1.5, 0.7), 3)
    return replace(trace(), method="lwm", sparsity_of="weights", steps=(), finetuning=record, stages=stages)


def policy(outcome: Outcome) -> PolicyOutcome:
    other = Outcome.PASS
    low, high, eps = {
        Outcome.PASS: (0.9, 0.95, 0.01), Outcome.FAIL: (0.34, 0.68, 0.03), Outcome.INCONCLUSIVE: (0.6, 0.8, 0.02)
    }[outcome]  # fmt: skip
    accuracy = f"certified accuracy of the pruned network at eps {eps:g} is at least 80 %"
    preserved = "the pruned network keeps at least 90 % of the original's certified accuracy"
    rules = (
        RuleOutcome("certified_accuracy", accuracy, 0.8, low, high, outcome),
        RuleOutcome("preserved_ratio", preserved, 0.9, 0.95, 1.02, other),
        RuleOutcome("errors", "no claim ended in an error", 0.0, 0.0, 0.0, other),
    )
    return PolicyOutcome("policy.toml", outcome, rules)


def provenance(
    command: str = "paoding-verify audit mnist.onnx --data mnist_test.npz --eps 0.01 0.02 -o out/",
) -> Provenance:
    versions = {
        "paoding_verify": "0.1.0",
        "torch": "2.13.0",
        "auto_LiRPA": "0.3",
        "z3": "4.15.4",
        "onnxruntime": "1.23.2",
        "numpy": "2.3.5",
    }
    config = {
        "norm": "linf",
        "domain": "0 to 1",
        "seed": "7",
        "timeout_s": "30",
        "samples": "50",
        "semantics": "real, float32",
    }
    split = "The pruner used 256 synthesised anchors; the regions were drawn from mnist_test.npz and never shown to it."
    drawing = "50 of the 10000 rows of mnist_test.npz, drawn by seed 7, no row twice."
    return Provenance(command, 7, versions, "x86_64, Linux", config, split, drawing)


def audit_example(
    outcome: Outcome = Outcome.FAIL, eps: tuple[float, ...] = (0.01, 0.02, 0.03), number: int = 50
) -> AuditResult:
    """An audit of a pair whose pruned network gets worse as eps grows."""
    claims = [c for k, e in enumerate(eps) for c in claims_at(e, number, {0: 12, 1: 5}.get(k, 3))]
    pair = (model("original"), model("pruned", (144, 144)))
    return AuditResult(
        "audit", pair, regions_of(claims), tuple(claims), metrics_of(claims), policy(outcome), trace(), provenance()
    )


def certify_example() -> AuditResult:
    """One network, one eps, features that are no picture, an error among the claims."""
    kinds = (Verdict.CERTIFIED, Verdict.CERTIFIED, Verdict.UNKNOWN, Verdict.VIOLATED, None)
    claims = [claim("original", k, 0.05, verdict) for k, verdict in enumerate(kinds)]
    claims[3] = replace(claims[3], witness=Witness((0.5, -1.25, 3.0, 0.0, 1.5), (1.0, 2.0, -1.0), None))
    single = replace(model("original", (20, 20), (1, 1, 1, 5)), num_outputs=3)
    return AuditResult(
        "certify", (single,), regions_of(claims, "acas.csv", (1, 1, 1, 5)), tuple(claims), metrics_of(claims), None,
        None, provenance("paoding-verify certify acas.onnx --data acas.csv --eps 0.05"),
    )  # fmt: skip


def compare_example() -> AuditResult:
    """Pair claims only: no metrics, no policy, no trace."""
    claims = [c for c in claims_at(0.02, 12, 4) if c.subject == "pair"]
    pair = (model("original"), model("pruned", (144, 144)))
    return AuditResult("compare", pair, regions_of(claims), tuple(claims), (), None, None, provenance())


def large_example(number: int = 1000) -> AuditResult:
    """As many claims as asked for, in the proportions of an ordinary audit."""
    whole = audit_example(Outcome.INCONCLUSIVE, (0.01,), number // 4)
    return replace(whole, provenance=provenance("paoding-verify audit big.onnx"))


def hostile_example() -> AuditResult:
    """Every text that a stranger controls is an attack on the reader's browser, terminal or spreadsheet."""
    whole = audit_example(Outcome.FAIL, (0.01,), 12)
    models = tuple(
        replace(m, file=PAYLOAD, format=PAYLOAD, layers=tuple(replace(r, name=PAYLOAD, op=PAYLOAD) for r in m.layers))
        for m in whole.models
    )
    claims = tuple(
        replace(c, id=f"{PAYLOAD}{k}", region=f"{PAYLOAD}{c.region}", method=PAYLOAD, reason=PAYLOAD, kind=c.kind)
        for k, c in enumerate(whole.claims)
    )
    regions = tuple(replace(r, id=f"{PAYLOAD}{r.id}", source=PAYLOAD) for r in whole.regions)
    assert whole.policy is not None
    assert whole.pruning is not None
    pruning = replace(whole.pruning, method=PAYLOAD, anchors={PAYLOAD: PAYLOAD})
    candidates = tuple(Candidate(f"{k}{PAYLOAD}", 1.0 + k, (3,), k == 0) for k in range(2))
    pruning = replace(_hostile_trace(pruning), candidates=candidates)
    rules = tuple(replace(r, rule=PAYLOAD, text=PAYLOAD) for r in whole.policy.rules)
    return replace(
        whole, models=models, claims=claims, regions=regions, policy=replace(whole.policy, name=PAYLOAD, rules=rules),
        pruning=pruning,
        provenance=Provenance(PAYLOAD, 7, {PAYLOAD: PAYLOAD}, PAYLOAD, {PAYLOAD: PAYLOAD}, PAYLOAD, PAYLOAD),
    )  # fmt: skip


def _hostile_trace(own: PruneTrace) -> PruneTrace:
    tuned = finetuned_trace()
    assert tuned.finetuning is not None
    record = replace(tuned.finetuning, objective=PAYLOAD, source=PAYLOAD, sha256=PAYLOAD)
    stages = tuple(replace(s, stage=PAYLOAD, method=PAYLOAD) for s in tuned.stages)
    return replace(own, sparsity_of=PAYLOAD, finetuning=record, stages=stages)


def every_example() -> dict[str, AuditResult]:
    """One result of each kind, by name."""
    return {
        "pass": audit_example(Outcome.PASS, (0.01,), 20),
        "fail": audit_example(Outcome.FAIL),
        "inconclusive": audit_example(Outcome.INCONCLUSIVE, (0.01, 0.02), 20),
        "certify": certify_example(),
        "compare": compare_example(),
        "hostile": hostile_example(),
    }
