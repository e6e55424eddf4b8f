"""Certified claims proved a third time, in exact rational arithmetic: those that are closest, and some by chance."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from paoding_verify.checker.claims import Setting
from paoding_verify.checker.exact import ExactBounds
from paoding_verify.checker.exact_ops import ExactProgram
from paoding_verify.checker.exact_pair import ExactPair, exact_pair_program
from paoding_verify.checker.exact_tree import Case, cases_of, least_of_cases
from paoding_verify.checker.program import single_program
from paoding_verify.checker.prove import leaves
from paoding_verify.errors import InputError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Array

__all__ = ["choose_claims", "prove_exactly"]

MAX_LEAVES = 64
"""Boxes of a split region that are worth the time."""
MAX_CASES = 2048
"""Cases of ReLUs that are."""


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

    What follows is the property for outputs on exact numbers (semantics `real`); what float32 programs compute is left
    to the float checker. Not being shown is no untruth: sigmoid and tanh have no rational values, and what is too large
    is left out.
    """
    try:
        margin = _margin(setting, certificate)
    except InputError as error:
        return str(error)
    return "" if margin > 0 else "its margin is not positive in exact arithmetic"


def _margin(setting: Setting, certificate: Certificate) -> Fraction:
    """A lower bound of the property's margin on the box. Raises: InputError if there is none, or it takes long."""
    prop, networks = setting.property, setting.networks
    if len(networks) == 1:
        program = ExactProgram(single_program(networks[0]))
    else:
        program = exact_pair_program(networks[0], networks[1], certificate.alignment)
    boxes = list(leaves(setting.lower, setting.upper, certificate.split))
    if len(boxes) > MAX_LEAVES:
        raise InputError(f"its region is split into {len(boxes)} boxes, too many for exact arithmetic")
    if (count := sum(len(tree.scales) for tree in certificate.trees)) > MAX_CASES:
        raise InputError(f"it is proved by {count} cases of ReLUs, too many for exact arithmetic")
    trees = {tree.clause: cases_of(tree, prop, program.program) for tree in certificate.trees}
    if len(trees) != len(certificate.trees) or (trees and certificate.split is not None):
        raise InputError("its certificate has two trees for one clause, or splits both its region and its ReLUs")
    return min(_margin_on(program, box, prop, certificate, trees) for box in boxes)


def _margin_on(
    program: ExactProgram,
    box: tuple[Array, Array],
    prop: Property,
    certificate: Certificate,
    trees: dict[int, list[Case]],
) -> Fraction:
    """A lower bound of the property's margin on one box."""
    hints, num_rows = certificate.slopes, len(prop.rows)
    if program.program.twins:
        bounds: ExactBounds = ExactPair(program, *box, slopes=hints, shares=certificate.shares, num_rows=num_rows)
    else:
        bounds = ExactBounds(program, *box, slopes=hints, num_rows=num_rows)
    found = bounds.rows(prop.rows, prop.offsets).fractions
    margins = [max(found[row] for row in clause) for clause in prop.clauses]
    for clause, cases in trees.items():
        if margins[clause] <= 0:
            margins[clause] = least_of_cases(bounds, prop, cases)
    return min(margins)
