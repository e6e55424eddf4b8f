"""Claims and policy rules as JUnit test cases, for build servers."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.result import AuditResult, RuleOutcome
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report.text import number, visible

__all__ = ["render_junit"]


def render_junit(result: AuditResult) -> str:
    """One suite for the policy, whose rules fail unless they are met, and one for the claims.

    A violated claim is a failure, a claim that ended in an error is an error, an unknown one is skipped: whether
    unknown claims are acceptable is what the policy's rules decide.
    """
    root = ET.Element("testsuites", name="paoding_verify")
    if result.policy is not None:
        _suite(root, "policy", [_rule(rule) for rule in result.policy.rules])
    _suite(root, "claims", [_claim(claim) for claim in result.claims])
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, name: str, cases: list[ET.Element]) -> None:
    counts = {f"{tag}s": sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error")}
    skipped = sum(case.find("skipped") is not None for case in cases)
    attributes = {"tests": len(cases), **counts, "skipped": skipped}
    attrib = {"name": name, **{key: str(value) for key, value in attributes.items()}}
    suite = ET.SubElement(root, "testsuite", attrib)
    suite.extend(cases)


def _rule(rule: RuleOutcome) -> ET.Element:
    case = ET.Element("testcase", name=visible(rule.rule), classname="policy")
    if rule.outcome is not Outcome.PASS:
        low, high, threshold = number(rule.low), number(rule.high), number(rule.threshold)
        message = f"{rule.outcome.value}: {visible(rule.text)} (evidence {low} to {high}, threshold {threshold})"
        ET.SubElement(case, "failure", type=rule.outcome.value, message=message)
    return case


def _claim(claim: Claim) -> ET.Element:
    case = ET.Element("testcase", name=visible(claim.id), classname=f"{visible(claim.subject)}.{visible(claim.kind)}")
    bracket = f"bound {number(claim.bound)}, attack {number(claim.attack)}"
    if claim.verdict is Verdict.VIOLATED:
        ET.SubElement(case, "failure", type="VIOLATED", message=f"a witness breaks the claim ({bracket})")
    elif claim.verdict is Verdict.UNKNOWN:
        ET.SubElement(case, "skipped", message=f"UNKNOWN: {visible(claim.reason)} ({bracket})")
    elif claim.verdict is None:
        ET.SubElement(case, "error", type="ERROR", message=visible(claim.reason))
    return case
