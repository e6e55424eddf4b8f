"""The fixed sentences of a report: what engines, properties and verdicts mean."""

from __future__ import annotations

from dataclasses import dataclass

from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Outcome
from paoding_verify.report.text import count, number

__all__ = ["KIND_NAMES", "METHODS", "MethodText", "decision", "explanation", "headline", "method_text"]

KIND_NAMES = {
    "top1_robust": "top-1 robustness",
    "top1_equivalent": "top-1 equivalence",
    "output_distance": "output distance",
    "vnnlib": "VNN-LIB specification",
}
"""Kind of claim -> its name in prose."""

MAX_RULES = 3
"""Policy lines named in one sentence."""


@dataclass(frozen=True)
class MethodText:
    """What an engine does."""

    role: str
    """In one sentence."""
    completeness: str
    """Whether it can leave a claim open although the claim has an answer."""


METHODS = {
    "centre": MethodText("Evaluates the centre of the region.", "refutes only"),
    "pgd": MethodText("Searches for a witness by projected gradient descent.", "refutes only"),
    "ibp": MethodText("Interval bound propagation (auto_LiRPA).", "incomplete"),
    "crown-ibp": MethodText("CROWN for the output, intervals inside (auto_LiRPA).", "incomplete"),
    "crown": MethodText("Linear bounds propagated backwards (auto_LiRPA).", "incomplete"),
    "alpha-crown": MethodText("CROWN with optimised slopes (auto_LiRPA).", "incomplete"),
    "input-splitting": MethodText("Splits the region and bounds every part.", "complete in the limit"),
    "relu-splitting": MethodText(
        "Splits unstable ReLUs and bounds every case.", "complete for ReLU networks, up to its limits"
    ),
    "both-robust": MethodText("Both networks are bounded for the same class.", "incomplete"),
    "differential-crown": MethodText("Joint linear bounds of both networks and their difference.", "incomplete"),
    "smt": MethodText("Satisfiability modulo linear real arithmetic (z3).", "complete for ReLU networks"),
}
"""Engine -> what it does."""


def method_text(name: str) -> MethodText:
    """The text for an engine; an honest blank for one that is not listed."""
    return METHODS.get(name, MethodText("No description is available for this engine.", "not stated"))


def headline(result: AuditResult) -> str:
    """The title of the report for its mode."""
    titles = {"audit": "Audit of a pruned network", "certify": "Certification of a network"}
    return titles.get(result.mode, "Comparison of two networks")


def decision(result: AuditResult) -> str:
    """One sentence: the policy lines that decide the verdict, three at most."""
    if result.policy is None:
        return "No policy was applied: this report states what was found and gives no overall verdict."
    rules, outcome = result.policy.rules, result.policy.outcome
    if not rules:
        return "The policy has no rules."
    if outcome is Outcome.PASS:
        return f"Every rule of the policy is met ({count(len(rules), 'rule')}): {_listed([r.text for r in rules])}."
    verb = "Not met" if outcome is Outcome.FAIL else "Neither met nor refuted"
    deciding = [
        f"{r.text} (evidence: {number(r.low)} to {number(r.high)}, threshold {number(r.threshold)})"
        for r in rules
        if r.outcome is outcome
    ]
    return f"{verb}: {_listed(deciding)}."


def _listed(lines: list[str]) -> str:
    more = [f"and {count(len(lines) - MAX_RULES, 'more rule')} below"] if len(lines) > MAX_RULES else []
    return "; ".join(lines[:MAX_RULES] + more)


def explanation(result: AuditResult) -> list[str]:
    """A few sentences for readers who are no specialists."""
    counts, total = result.counts, len(result.claims)
    what = {
        "audit": "This report checks a network that was made smaller by pruning against the network it came from.",
        "certify": "This report checks how far one network keeps its answers when its input changes slightly.",
    }.get(result.mode, "This report checks whether two networks answer alike.")
    sentences = [what]
    sentences.append(
        f"It puts {count(total, 'claim')} to the test. A claim covers every input of a region, not a sample of them: "
        f"an original input together with all the ways in which it may change."
    )
    if counts["certified"]:
        sentences.append(_proofs(result))
    if counts["violated"]:
        sentences.append(
            f"For {count(counts['violated'], 'claim')} a counterexample exists: a concrete input on which the "
            f"delivered model files break the claim."
        )
    if counts["unknown"]:
        sentences.append(
            f"{count(counts['unknown'], 'claim')} stayed open: there is neither a proof nor a counterexample, so they "
            f"must not be read as good news."
        )
    if counts["error"]:
        sentences.append(f"{count(counts['error'], 'claim')} ended in an error; the run is not complete.")
    return sentences


def _proofs(result: AuditResult) -> str:
    proved = [c for c in result.claims if c.verdict is not None and c.verdict.value == "CERTIFIED"]
    again = sum(c.rechecked for c in proved)
    first = f"For {count(len(proved), 'claim')} there is a mathematical proof"
    if again == len(proved):
        return f"{first}, and a second, independent program has confirmed every one of these proofs."
    return (
        f"{first}, but only {again} of these proofs were confirmed by the independent checker. Do not rely on the rest."
    )
