"""The fixed sentences of a report: what engines, properties and verdicts mean."""

from __future__ import annotations

from dataclasses import dataclass

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.pruning import DistilRecord, HeldOut, PruneTrace, RepairRecord
from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.statistics import clopper_pearson
from paoding_verify.report.text import count, number, percent

__all__ = [
    "ANCHOR_NAMES",
    "KIND_NAMES",
    "METHODS",
    "MethodText",
    "claim_name",
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


ANCHOR_NAMES = {
    "source": "where they came from",
    "count": "anchors that steer the pruner",
    "eps": "radius (input units)",
    "eps_rule": "how the radius was chosen",
    "domain": "domain",
    "num_selection": "anchors that candidates are compared on",
    "selection_source": "where those came from",
    "bounds": "bounds that steer the pruner",
    "bounds_reason": "why these bounds",
    "judging_bounds": "bounds that candidates are compared by",
    "sha256": "SHA-256 of all anchors",
}
"""Facts about the pruner's anchors -> their names in prose; others keep their own."""


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
