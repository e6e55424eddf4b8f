"""The terms that security and compliance people know: attacker, threats left out, and clauses that evidence serves.

Nothing here is a statement of conformity: a report supports evidence, people judge conformity.
Source: NIST AI 100-2 E2025; MITRE ATLAS; ISO/IEC TR 24029-1:2021; ISO/IEC 24029-2:2023; Regulation (EU) 2024/1689; NIST
AI RMF 1.0 (NIST AI 100-1).
"""

from __future__ import annotations

from dataclasses import dataclass

from paoding_verify.evidence.result import AuditResult

__all__ = ["ATTACKER", "OUTSIDE", "Clause", "Threat", "clauses"]


@dataclass(frozen=True)
class Threat:
    """One aspect of the attacker, or one attack that the report says nothing about."""

    aspect: str
    nist: str
    """In the terms of NIST AI 100-2."""
    atlas: str
    """MITRE ATLAS techniques."""


@dataclass(frozen=True)
class Clause:
    """A clause of a framework, and the sections of the report that bear on it."""

    source: str
    subject: str
    """What the clause is about, in short."""
    evidence: str
    """What the report contributes."""
    sections: tuple[str, ...]
    """Ids of sections of the page."""


ATTACKER = (
    Threat("Attack", "evasion, at the deployment stage", "AML.T0015 Evade AI Model"),
    Threat("Goal", "integrity violation: another answer than the one claimed", "AML.T0043 Craft Adversarial Data"),
    Threat(
        "Knowledge", "white-box: architecture, weights, and this report",
        "AML.T0043.000 White-Box Optimization; proofs hold whatever way a point is found, so .001 and .002 as well",
    ),
    Threat("Capability", "control of one input, within its region; unlimited computation and queries", "–"),  # noqa: RUF001
)  # fmt: skip
"""What the attacker of every claim is and can do."""

OUTSIDE = (
    Threat("Training data", "poisoning, also by backdoors", "AML.T0020 Poison Training Data, AML.T0043.004"),
    Threat("The model itself", "model poisoning, supply-chain attacks", "AML.T0018 Manipulate AI Model, AML.T0010"),
    Threat(
        "Secrets", "privacy attacks: extraction, membership inference", "AML.T0024 Exfiltration via AI Inference API"
    ),
    Threat("Service", "availability breakdown", "AML.T0029 Denial of AI Service"),
)
"""Attacks about which no claim of any report says anything."""


def clauses(result: AuditResult) -> tuple[Clause, ...]:
    """The clauses that this result supports evidence for; those that need what it lacks are left out."""
    found = [
        Clause(
            "ISO/IEC 24029-2:2023", "robustness of neural networks by formal methods",
            "the property, the domain and the formal method of every claim, with completeness and arithmetic",
            ("claim", "method", "evidence"),
        ),
        Clause(
            "EU AI Act, Art. 15(4) and (5)",
            "resilience against errors, and against inputs designed to cause a mistake (adversarial examples, evasion)",
            "proofs, counterexamples and open claims for perturbed inputs; limits of what was examined",
            ("claim", "results", "limitations"),
        ),
        Clause(
            "EU AI Act, Annex IV, 2(g)",
            "validation and testing procedures, data, metrics, test logs, reports dated and signed",
            "procedure, origin of the regions, metrics, machine-readable log (audit.json), sign-off block",
            ("method", "confidence", "reproduce", "signoff"),
        ),
        Clause(
            "NIST AI RMF 1.0, MEASURE 2.7", "security and resilience are evaluated and documented",
            "an adversarial evaluation that ends in proofs or replayed counterexamples",
            ("claim", "results", "evidence"),
        ),
    ]  # fmt: skip
    if result.metrics:
        found += [
            Clause(
                "ISO/IEC TR 24029-1:2021", "statistical, formal and empirical methods to assess robustness",
                "certified accuracy (formal), attacked accuracy (empirical), intervals for both (statistical)",
                ("results", "confidence"),
            ),
            Clause(
                "EU AI Act, Art. 15(1) and (3)", "levels of accuracy and robustness, and their metrics, are declared",
                "natural, certified and empirical robust accuracy with their definitions", ("results", "confidence"),
            ),
            Clause(
                "NIST AI RMF 1.0, MEASURE 2.5", "valid and reliable; limits of generalisability are documented",
                "figures by network and eps, the population they speak about, and the limitations",
                ("results", "confidence", "limitations"),
            ),
        ]  # fmt: skip
    order = (
        "ISO/IEC TR",
        "ISO/IEC",
        "EU AI Act, Art. 15(1)",
        "EU AI Act, Art.",
        "EU AI Act",
        "NIST AI RMF 1.0, MEASURE 2.5",
        "NIST",
    )
    return tuple(sorted(found, key=lambda clause: next(k for k, s in enumerate(order) if clause.source.startswith(s))))
