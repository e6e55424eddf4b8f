"""The first screen: the policy lines that decide, and a few sentences for readers who are no specialists."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from paoding_verify.evidence.result import SYNTHETIC, AuditResult, RuleOutcome
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report.tables import flows
from paoding_verify.report.text import count, number
from paoding_verify.report.wording import only_specifications

__all__ = ["Decision", "cautions", "decision", "explanation", "measured", "refuted_unchanged"]

LARGE = 1e300
"""Beyond this a figure stands for "no bound was proved"."""
MAX_RULE_CHARACTERS = 400
"""Policy lines are listed until they are so long together; the first is always listed."""


@dataclass(frozen=True)
class Decision:
    """Why the verdict is what it is."""

    lead: str
    """One sentence."""
    rules: tuple[str, ...]
    """The policy lines that decide, with what was measured, as many as there is room for. Untrusted text."""
    more: int
    """Deciding lines that there is no room for."""

    def __str__(self) -> str:
        """All of it as one sentence."""
        if not self.rules:
            return self.lead
        more = [f"and {count(self.more, 'more rule')} below"] if self.more else []
        return f"{self.lead.rstrip('.')}: {'; '.join([*self.rules, *more])}."


def decision(result: AuditResult) -> Decision:
    """The policy lines that decide the verdict: those that failed, else those left open, else all."""
    if result.policy is None:
        return Decision("No policy was applied: this report states what was found and gives no overall verdict.", (), 0)
    rules, outcome = result.policy.rules, result.policy.outcome
    if not rules:
        return Decision("The policy has no rules.", (), 0)
    deciding = [rule for rule in rules if rule.outcome is outcome]
    lines = [f"{rule.text} (found: {measured(rule)})" for rule in deciding]
    room = max(1, sum(total <= MAX_RULE_CHARACTERS for total in accumulate(map(len, lines))))
    return Decision(_lead(outcome, len(deciding), len(rules)), tuple(lines[:room]), max(len(lines) - room, 0))


def _lead(outcome: Outcome, deciding: int, total: int) -> str:
    if outcome is Outcome.PASS:
        return f"Every rule of the policy is met ({count(total, 'rule')})."
    if not deciding:
        return "No rule of the policy fails, but a claim ended in an error, so that the run is not complete."
    of = f"{deciding} of {count(total, 'rule')} of the policy"
    if outcome is Outcome.FAIL:
        return f"{of} {'is' if deciding == 1 else 'are'} not met."
    return f"{of} {'is' if deciding == 1 else 'are'} neither met nor refuted by the evidence."


def measured(rule: RuleOutcome) -> str:
    """The value of a rule, or the interval that the evidence leaves open."""
    if rule.low == rule.high:
        return number(rule.low)
    return f"{number(rule.low)} or more" if rule.high > LARGE else f"{number(rule.low)} to {number(rule.high)}"


def cautions(result: AuditResult) -> list[str]:
    """What the figures are not about, where inputs were made or came without labels."""
    if only_specifications(result) or not result.regions:
        return []
    sentences = []
    if all(region.source.startswith(SYNTHETIC) for region in result.regions):
        sentences.append(
            "No data was read: inputs were synthesised from the original, and shares say nothing about inputs in use."
        )
    if all(region.label is None for region in result.regions):
        sentences.append(
            "The inputs have no labels: right is what the original answers, which makes it right at all of them."
        )
    return sentences


def refuted_unchanged(result: AuditResult) -> int:
    """Claims of robustness that fail at the input itself, before anything changes: the answer is wrong there."""
    return sum(
        claim.kind == "top1_robust"
        and claim.verdict is Verdict.VIOLATED
        and claim.margin is not None
        and claim.margin <= 0
        for claim in result.claims
    )


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
    sentences += [*cautions(result), *_kept(result)]
    if counts["certified"]:
        sentences.append(_proofs(result))
    if counts["violated"]:
        sentences.append(
            f"{count(counts['violated'], 'claim is', 'claims are')} refuted by a counterexample: a concrete input on "
            f"which the delivered model files break the claim."
        )
    if wrong := refuted_unchanged(result):
        those = (
            "1 of these is about robustness and fails"
            if wrong == 1
            else f"{wrong:,} of these are about robustness and fail"
        )
        sentences.append(f"{those} at the input itself: the network answers wrongly there before anything changes.")
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


def _kept(result: AuditResult) -> list[str]:
    """What pruning did to the proofs of robustness."""
    found = {} if only_specifications(result) else flows(result)
    before = sum(n for (original, _), n in found.items() if original == "certified")
    if not before:
        return []
    where = f"Of the {count(before, 'region')} on which" if before > 1 else "On the one region on which"
    both = f" on {found.get(('certified', 'certified'), 0):,}" if before > 1 else ""
    verb = "is proved to keep it" if both or ("certified", "certified") in found else "is not proved to keep it"
    return [f"{where} the original is proved to keep its answer, the pruned network {verb}{both}."]


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
