"""The fixed sentences of a report: what engines, properties and verdicts mean."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.pruning import DistilRecord, HeldOut, PruneTrace, RepairRecord
from paoding_verify.evidence.result import AuditResult, RuleOutcome
from paoding_verify.evidence.statistics import clopper_pearson
from paoding_verify.evidence.verdict import Outcome
from paoding_verify.report.text import count, number, percent

__all__ = [
    "KIND_NAMES",
    "METHODS",
    "MethodText",
    "claim_name",
    "decision",
    "explanation",
    "headline",
    "method_text",
    "only_specifications",
    "pruning_words",
    "subject_name",
]

KIND_NAMES = {
    "top1_robust": "top-1 robustness",
    "top1_equivalent": "top-1 equivalence",
    "output_distance": "output distance",
    "topk_equivalent": "top-k equivalence",
    "top1_confident": "top-1 equivalence where confident",
    "top1_decided": "top-1 equivalence where decided",
    "margin_preserved": "preserved margin",
    "vnnlib": "VNN-LIB specification",
}
"""Kind of claim -> its name in prose."""

_WITH_PARAMETER = {
    "topk_equivalent": "top-{:g} equivalence",
    "top1_confident": "top-1 equivalence where the original's confidence is at least {:g}",
    "top1_decided": "top-1 equivalence where the original's margin is at least {:g}",
    "margin_preserved": "margin preserved to more than {:g} times the original's",
}

LARGE = 1e300
MAX_RULE_CHARACTERS = 320
"""Policy lines are named in one sentence until they are so long together; the first is always named."""


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
    "checker": MethodText("The checker's own linear bounds, where auto_LiRPA has none.", "incomplete"),
    "alpha-crown": MethodText("CROWN with optimised slopes (auto_LiRPA).", "incomplete"),
    "input-splitting": MethodText("Splits the region and bounds every part.", "complete in the limit"),
    "relu-splitting": MethodText(
        "Splits unstable ReLUs and bounds every case.", "nearly complete for ReLU networks, up to its limits"
    ),
    "both-robust": MethodText("Both networks are bounded for the same class.", "incomplete"),
    "differential-crown": MethodText("Joint linear bounds of both networks and their difference.", "incomplete"),
    "smt": MethodText("Satisfiability modulo linear real arithmetic (z3).", "complete for ReLU networks"),
}
"""Engine -> what it does."""


def method_text(name: str) -> MethodText:
    """The text for an engine; an honest blank for one that is not listed."""
    return METHODS.get(name, MethodText("No description is available for this engine.", "not stated"))


def claim_name(claim: Claim) -> str:
    """The kind of a claim in prose, with its parameter if it has one."""
    if claim.parameter is not None and claim.kind in _WITH_PARAMETER:
        return _WITH_PARAMETER[claim.kind].format(claim.parameter)
    return KIND_NAMES.get(claim.kind, claim.kind)


def subject_name(subject: str, result: AuditResult) -> str:
    """original, pruned or pair; where there is one network, it is the network."""
    return "network" if len(result.models) == 1 and subject == "original" else subject


def only_specifications(result: AuditResult) -> bool:
    """Whether every claim is about a VNN-LIB specification."""
    return bool(result.claims) and all(claim.kind == "vnnlib" for claim in result.claims)


def headline(result: AuditResult) -> str:
    """The title of the report for its mode."""
    if only_specifications(result):
        return f"Check of {_tested(result)} against {'its' if len(result.models) == 1 else 'their'} specification"
    titles = {"audit": "Audit of a pruned network", "certify": "Certification of a network"}
    return titles.get(result.mode, "Comparison of two networks")


def _tested(result: AuditResult) -> str:
    return "a network" if len(result.models) == 1 else "two networks"


def decision(result: AuditResult) -> str:
    """One sentence: the policy lines that decide the verdict, as many as there is room for."""
    if result.policy is None:
        return "No policy was applied: this report states what was found and gives no overall verdict."
    rules, outcome = result.policy.rules, result.policy.outcome
    if not rules:
        return "The policy has no rules."
    if outcome is Outcome.PASS:
        return f"Every rule of the policy is met ({count(len(rules), 'rule')}): {_listed([r.text for r in rules])}."
    verb = "Not met" if outcome is Outcome.FAIL else "Neither met nor refuted"
    deciding = [f"{r.text} (found: {_interval(r)})" for r in rules if r.outcome is outcome]
    return f"{verb}: {_listed(deciding)}."


def _interval(rule: RuleOutcome) -> str:
    """The values that the evidence leaves open; beyond LARGE a figure stands for "no bound was proved"."""
    if rule.low == rule.high:
        return number(rule.low)
    return f"{number(rule.low)} or more" if rule.high > LARGE else f"{number(rule.low)} to {number(rule.high)}"


def _listed(lines: list[str]) -> str:
    shown = max(1, sum(total <= MAX_RULE_CHARACTERS for total in accumulate(map(len, lines))))
    more = [f"and {count(len(lines) - shown, 'more rule')} below"] if len(lines) > shown else []
    return "; ".join(lines[:shown] + more)


def explanation(result: AuditResult) -> list[str]:
    """A few sentences for readers who are no specialists."""
    counts, total = result.counts, len(result.claims)
    what = {
        "audit": "This report checks a network that was made smaller by pruning against the network it came from.",
        "certify": "This report checks how far one network keeps its answers when its input changes slightly.",
    }.get(result.mode, "This report checks whether two networks answer alike.")
    if only_specifications(result):
        what = "This report checks whether one network can do what its specification calls unsafe."
        if len(result.models) == 2:
            what = "This report checks whether two networks together can do what their specification calls unsafe."
        extent = "every input of a box that the specification describes"
    else:
        extent = "an original input together with all the ways in which it may change"
    sentences = [what]
    sentences.append(
        f"It puts {count(total, 'claim')} to the test. A claim covers every input of a region, not a sample of them: "
        f"{extent}."
    )
    if counts["certified"]:
        sentences.append(_proofs(result))
    if counts["violated"]:
        sentences.append(
            f"{count(counts['violated'], 'claim is', 'claims are')} refuted by a counterexample: a concrete input on "
            f"which the delivered model files break the claim."
        )
    if counts["unknown"]:
        them = "it" if counts["unknown"] == 1 else "them"
        sentences.append(
            f"{count(counts['unknown'], 'claim')} stayed open: there is neither a proof nor a counterexample; do not "
            f"read {them} as good news."
        )
    if refused := sum(claim.refused for claim in result.claims):
        sentences.append(
            f"Of the open claims {refused} {'was' if refused == 1 else 'were'} proved by the search and not re-proved "
            "by the independent checker; such proofs do not count."
        )
    if counts["error"]:
        sentences.append(f"{count(counts['error'], 'claim')} ended in an error; the run is not complete.")
    return sentences


def _proofs(result: AuditResult) -> str:
    proved = [c for c in result.claims if c.verdict is not None and c.verdict.value == "CERTIFIED"]
    again = sum(c.rechecked for c in proved)
    if len(proved) == 1:
        start = "One claim is proved mathematically, "
        if again:
            return f"{start}and a second, independent program has confirmed the proof."
        return f"{start}but the independent checker has not confirmed the proof. Do not rely on it."
    start = f"{count(len(proved), 'claim')} are proved mathematically, "
    if again == len(proved):
        return f"{start}and a second, independent program has confirmed every one of these proofs."
    return f"{start}but the independent checker has confirmed only {again} of these proofs. Do not rely on the rest."


def pruning_words(trace: PruneTrace) -> list[str]:
    """How far the pruner was to go, how far it went, and what its own figures are worth."""
    if trace.sparsity_of == "weights":
        reached, asked = percent(trace.sparsity), percent(trace.target_sparsity)
        return [f"{reached} of the parameters are weights at zero; {asked} were asked for.", *trace.warnings]
    units = f"{percent(trace.sparsity)} of the units were removed"
    if trace.max_certified_drop is not None:
        sentences = [f"{units}: as far as a certified budget of {percent(trace.max_certified_drop)} was seen to allow."]
    else:
        what = {"macs": "multiply-accumulate operations"}.get(trace.sparsity_of, trace.sparsity_of)
        sentences = [f"{units}; {percent(trace.target_sparsity)} of the {what} were asked for."]
    if trace.stopped:
        sentences.append(f"The run ended before its target: {trace.stopped.rstrip('.')}.")
    if trace.distilled is not None:
        sentences.append(_distilled(trace.distilled))
    if trace.repaired is not None:
        sentences.append(_repaired(trace.repaired))
    if trace.held_out is not None:
        sentences += _held_out(trace.held_out)
    return [*sentences, *trace.warnings]


def _distilled(record: DistilRecord) -> str:
    change = f"{number(record.energy_before)} to {number(record.energy_after)}"
    kept = "was taken" if record.kept else "was not taken"
    goal = " of outputs and interval bounds" if record.bounds else ""
    return (
        f"Distillation{goal} on {count(record.num_inputs, 'input')} ({count(record.steps, 'step')}) changed the mean "
        f"drop of certified margins at the pruner\u2019s anchors from {change} (logits), and {kept}."
    )


def _repaired(record: RepairRecord) -> str:
    seen = f"{number(record.drop_before)} to {number(record.drop_after)}"
    unseen = f"{number(record.acceptance_drop_before)} to {number(record.acceptance_drop_after)}"
    kept = "was taken" if record.kept else "was not taken: the network is what it was before"
    return (
        f"Certified repair on {count(record.num_anchors, 'anchor')} ({count(record.steps, 'step')}) changed the mean "
        f"drop of certified margins there from {seen}, and at {count(record.num_acceptance, 'anchor')} that nothing "
        f"else was chosen by from {unseen} (logits); it {kept}."
    )


def _held_out(held_out: HeldOut) -> list[str]:
    sentences = [
        f"Of {count(held_out.count, 'held-out anchor')}, {held_out.num_original} are certified for the original and "
        f"{held_out.num_pruned} for the pruned network; {held_out.num_lost} were lost."
    ]
    if held_out.independent:
        # One-sided at 95 %, divided among all networks that were measured on these anchors (Bonferroni).
        _, high = clopper_pearson(held_out.num_lost, held_out.count, 1 - 0.1 / held_out.num_looks)
        sentences.append(
            f"If the caller's inputs were drawn independently, then with 95 % confidence at most {percent(high)} of "
            f"inputs from the same source are lost (Clopper-Pearson, for {count(held_out.num_looks, 'look')})."
        )
    return sentences
