"""Certified claims proved a third time, in exact rational arithmetic: those that are closest, and some by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paoding_verify.checker.claims import Setting
from paoding_verify.checker.exact import ExactBounds
from paoding_verify.checker.program import pair_program, single_program
from paoding_verify.checker.prove import leaves
from paoding_verify.errors import InputError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim

__all__ = ["choose_claims", "prove_exactly"]

MAX_LEAVES = 64
"""Boxes of a split region that are worth the time."""


def choose_claims(claims: Sequence[Claim], count: int, seed: int) -> list[Claim]:
    """The `count` claims of smallest proved margin, and as many others drawn by the seed; in their order."""
    margins = [claim for claim in claims if claim.bound is not None and claim.bound > 0 and not claim.bracket]
    chosen = {claim.id for claim in sorted(margins, key=lambda claim: claim.bound or 0.0)[:count]}
    others = [claim.id for claim in claims if claim.id not in chosen]
    drawn = np.random.default_rng(seed).choice(len(others), min(count, len(others)), replace=False)
    chosen |= {others[int(k)] for k in drawn}
    return [claim for claim in claims if claim.id in chosen]


def prove_exactly(setting: Setting, certificate: Certificate) -> str:
    """Empty if the property follows in exact arithmetic, without any rounding to argue about; else why not.

    Not being shown is no untruth: twin units are bounded apart here, lines are a little looser, and cases of ReLUs are
    not repeated.
    """
    prop, networks = setting.property, setting.networks
    if certificate.trees:
        return "it is proved by cases of ReLUs, which are not repeated in exact arithmetic"
    program = single_program(networks[0]) if len(networks) == 1 else pair_program(networks[0], networks[1], None)
    try:
        boxes = list(leaves(setting.lower, setting.upper, certificate.split))
        if len(boxes) > MAX_LEAVES:
            return f"its region is split into {len(boxes)} boxes, too many for exact arithmetic"
        for low, high in boxes:
            bounds = ExactBounds(program, low, high, certificate.slopes, len(prop.rows)).rows(prop.rows, prop.offsets)
            if min(max(bounds[row] for row in clause) for clause in prop.clauses) <= 0:
                joint = certificate.kind == "differential"
                return "it needs joint bounds, which are not repeated in exact arithmetic" if joint else (
                    "its margin is too small for the coarser lines of exact arithmetic"
                )  # fmt: skip
    except InputError as error:
        return str(error)
    return ""
