"""A result without its running times, and the times by themselves."""

from __future__ import annotations

from dataclasses import replace

from paoding_verify.evidence.result import AuditResult

__all__ = ["timings", "without_timings"]


def without_timings(result: AuditResult) -> AuditResult:
    """The same result with every elapsed_s removed: equal searches give equal bytes."""
    pruning = result.pruning
    if pruning is not None:
        steps = tuple(replace(step, elapsed_s=None) for step in pruning.steps)
        candidates = tuple(replace(candidate, elapsed_s=None) for candidate in pruning.candidates)
        trained = None if pruning.distilled is None else replace(pruning.distilled, elapsed_s=None)
        mended = None if pruning.repaired is None else replace(pruning.repaired, elapsed_s=None)
        pruning = replace(pruning, steps=steps, candidates=candidates, distilled=trained, repaired=mended)
    claims = tuple(replace(claim, elapsed_s=None) for claim in result.claims)
    return replace(result, claims=claims, pruning=pruning)


def timings(result: AuditResult) -> dict[str, float]:
    """Claim id, or "candidate: " and the name of a pruning candidate -> seconds, where the time was measured."""
    candidates = result.pruning.candidates if result.pruning else ()
    named = [(claim.id, claim.elapsed_s) for claim in result.claims]
    named += [(f"candidate: {candidate.name}", candidate.elapsed_s) for candidate in candidates]
    return {name: elapsed_s for name, elapsed_s in named if elapsed_s is not None}
