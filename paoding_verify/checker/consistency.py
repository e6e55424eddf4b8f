"""Whether a result is complete and agrees with itself: everything that can be told without any network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from paoding_verify.checker.records import VERBATIM
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.claim import PAIR_KINDS, PAIR_QUESTIONS, PARAMETERS, Claim, claim_id
from paoding_verify.evidence.contradiction import contradictions
from paoding_verify.evidence.measures import Evidence
from paoding_verify.evidence.metrics import accuracy_metrics
from paoding_verify.evidence.policy import DEFAULT_NAME, DEFAULT_RULES, apply_rules, check_rules
from paoding_verify.evidence.result import SCHEMA_VERSION, AuditResult
from paoding_verify.evidence.verdict import Verdict

__all__ = ["check_consistency", "taken_on_trust"]

ROLES = {"audit": ("original", "pruned"), "certify": ("original",), "compare": ("original", "pruned")}
"""Mode -> the models that a result is about."""
SMT_ANSWERS = (None, "confirmed", "refuted", "undecided")


def check_consistency(result: AuditResult, problems: list[str]) -> None:
    """Mode and version are known, the claims are exactly those of the mode, each says what its verdict allows and no
    two contradict each other, and figures and policy follow from them.
    """
    if result.schema_version != SCHEMA_VERSION:
        problems.append(f"audit.json is of version {result.schema_version[:40]!r}, not {SCHEMA_VERSION}")
    if result.mode not in ROLES:
        problems.append(f"{result.mode[:40]!r} is no mode; known are {', '.join(ROLES)}")
        return
    if tuple(model.role for model in result.models) != ROLES[result.mode]:
        problems.append(f"the models of {result.mode} are {' and '.join(ROLES[result.mode])}, in this order")
    complete = _check_claim_set(result, problems)
    regions = {record.id: record for record in result.regions}
    for claim in result.claims:
        region = regions.get(claim.region)
        if region is None or (claim.eps, claim.label) != (region.eps, region.label):
            problems.append(f"claim {claim.id}: its region, radius or label is not one of the result's regions")
        problems += [f"claim {claim.id}: {text}" for text in _oddities(claim)]
    for kind in PAIR_QUESTIONS:
        if len({(claim.delta, claim.parameter) for claim in result.claims if claim.kind == kind}) > 1:
            problems.append(f"claims of kind {kind} differ in their threshold or parameter")
    problems += contradictions(result.claims)
    if result.metrics != accuracy_metrics(result.claims):
        problems.append("the metrics do not follow from the claims")
    if complete:
        _check_policy(result, problems)
    if result.pruning is not None and (
        result.mode != "audit" or any(s.elapsed_s is not None for s in result.pruning.steps)
    ):
        problems.append("a pruner's record belongs to audits, and holds no times")


def _questions(result: AuditResult) -> list[tuple[str, str]]:
    """(subject, kind) of everything that a result of this mode says about every region, in order."""
    kinds = {claim.kind for claim in result.claims}
    if result.mode == "certify":
        return [("original", "vnnlib" if "vnnlib" in kinds else "top1_robust")]
    if result.mode == "compare":
        return (
            [("pair", "vnnlib")] if "vnnlib" in kinds else [("pair", kind) for kind in PAIR_QUESTIONS if kind in kinds]
        )
    return [*((role, "top1_robust") for role in ROLES["audit"]), *(("pair", kind) for kind in PAIR_KINDS)]


def _check_claim_set(result: AuditResult, problems: list[str]) -> bool:
    """Whether there is exactly one claim per question and region, under the id that it must have."""
    asked = [(s, kind, r.id) for s, kind in _questions(result) for r in result.regions]
    wanted = [(claim_id(*one), *one) for one in asked]
    stated = [(claim.id, claim.subject, claim.kind, claim.region) for claim in result.claims]
    if wanted and stated == wanted:
        return True
    if not wanted:
        problems.append("there is no claim, or no region")
    missing, odd = Counter(wanted) - Counter(stated), Counter(stated) - Counter(wanted)
    problems += [f"claim {row[0]}: is missing" for row in missing]
    problems += [f"claim {row[0]}: is none that {result.mode} makes, or the second of its kind" for row in odd]
    if not missing and not odd and wanted:
        problems.append("the claims are not in their order")
    return False


def _oddities(claim: Claim) -> Iterator[str]:
    """What a claim must not say, given its kind and verdict."""
    settled = claim.verdict in (Verdict.CERTIFIED, Verdict.VIOLATED)
    bracket = claim.kind == "output_distance" and claim.delta is None
    if (claim.verdict is Verdict.VIOLATED) != (claim.witness is not None):
        yield "a witness belongs to VIOLATED claims and to no others"
    if claim.rechecked != settled:
        yield "it was checked a second time exactly if it is CERTIFIED or VIOLATED"
    if claim.semantics and claim.verdict is not Verdict.CERTIFIED:
        yield "only CERTIFIED claims name the arithmetic in which they were proved"
    if len(set(claim.semantics)) != len(claim.semantics):
        yield "it names an arithmetic twice"
    if (claim.bound is not None) != (claim.verdict is Verdict.CERTIFIED) and not (
        claim.verdict is Verdict.UNKNOWN and not bracket
    ):
        yield "a bound belongs to CERTIFIED claims"
    if claim.bound is not None and not bracket and (claim.bound > 0) != (claim.verdict is Verdict.CERTIFIED):
        yield "a proved margin is positive exactly if the claim is CERTIFIED"
    if claim.verdict is None and (claim.margin is not None or claim.attack is not None):
        yield "a claim that ended in an error states no figures"
    if bracket and claim.margin is not None:
        yield "a bracket of |f - g| has no margin"
    if claim.delta is not None and claim.kind != "output_distance":
        yield "only claims of kind output_distance have a threshold"
    if (claim.parameter is not None) != (claim.kind in PARAMETERS):
        yield f"a parameter belongs to the kinds {', '.join(PARAMETERS)} and to no others"
    if claim.smt not in SMT_ANSWERS or (claim.smt is not None and claim.subject != "pair"):
        yield "z3 is asked about pairs, and says confirmed, refuted or undecided"
    if claim.elapsed_s is not None:
        yield "times stand in timings.json"


def _check_policy(result: AuditResult, problems: list[str]) -> None:
    """The policy's rules and outcome follow from the claims and the thresholds that it states."""
    policy = result.policy
    if (policy is None) != (result.mode != "audit"):
        problems.append("a policy belongs to audits and to nothing else")
    if policy is None:
        return
    rules = {rule.rule: rule.threshold for rule in policy.rules}
    try:
        check_rules(policy.name[:80], rules)
    except ConfigError as error:
        problems.append(str(error))
        return
    if policy.name == DEFAULT_NAME and rules != dict(DEFAULT_RULES):
        problems.append("the policy's thresholds are not those of the default policy, whose name it has")
    if apply_rules(policy.name, rules, Evidence(result.claims, result.models)) != policy:
        problems.append("the policy's intervals and outcomes do not follow from the claims and its thresholds")


def taken_on_trust(result: AuditResult) -> list[str]:
    """What a result says that nothing in its bundle can prove or refute."""
    found = [
        "provenance (command, seed, versions, settings, how data was split)",
        "what was installed where the audit ran (components.cdx.json)",
        "labels, sources and domains of the regions",
        "method and running time of each claim",
        "that no violation was found beyond those stated",
    ]
    loose = [m.role for m in result.models if m.format not in VERBATIM]
    if loose:
        found.append(f"digest of the file that was read, of {' and '.join(loose)}: it is not the file that ships")
    if result.models:
        found.append("names of the model files")
    boxes = sum(record.eps is None for record in result.regions)
    if boxes:
        found.append(f"boxes of regions that state no radius ({boxes}): they may be of any size")
    twice = len(result.regions) - len({record.sha256 for record in result.regions})
    if twice:
        found.append(f"that regions with the same box as another one ({twice}) were drawn so, not repeated")
    failed = result.counts["error"]
    if failed:
        found.append(f"that {failed} claims ended in an error")
    if any(claim.attack is not None for claim in result.claims):
        found.append("values that attacks found, as far as no proof excludes them")
    if any(claim.verdict is Verdict.UNKNOWN and claim.bound is not None for claim in result.claims):
        found.append("bounds of UNKNOWN claims, none of which is positive or counts in any figure")
    if any(claim.smt is not None for claim in result.claims):
        found.append("answers of z3, which cannot be proved again")
    if any(claim.kind == "vnnlib" for claim in result.claims):
        found.append("that boxes and properties are those of the specification")
    if result.policy is not None and result.policy.name != DEFAULT_NAME:
        found.append("thresholds of the policy file")
    if result.pruning is not None:
        found.append("the pruner's record")
    return found
