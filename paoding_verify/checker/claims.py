"""Certified claims of a result, proved again from the bundle alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paoding_verify.checker.intervals import ARITHMETICS, hardest
from paoding_verify.checker.prove import Proof, prove
from paoding_verify.errors import InputError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.property import Property, PropertyRecord
from paoding_verify.evidence.question import property_of
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Array, Network

__all__ = ["Setting", "prove_claims"]


@dataclass(frozen=True, eq=False)
class Setting:
    """What a claim is about, read from the bundle."""

    networks: tuple[Network, ...]
    property: Property
    lower: Array
    upper: Array

    @classmethod
    def of(
        cls, claim: Claim, networks: Mapping[str, Network], box: tuple[Array, Array],
        properties: Mapping[str, PropertyRecord],
    ) -> Setting:  # fmt: skip
        """Rebuilds the property from what the claim says; that of a specification stands in `properties`.

        Raises: InputError if that is not possible.
        """
        roles = ("original", "pruned") if claim.subject == "pair" else (claim.subject,)
        if any(role not in networks for role in roles):
            raise InputError(f"it is about the {claim.subject[:40]!r} network, which the bundle does not hold")
        used = tuple(networks[role] for role in roles)
        outputs = used[0].num_outputs
        if box[0].shape != used[0].input_shape or any(
            (network.num_outputs, network.input_shape) != (outputs, used[0].input_shape) for network in used
        ):
            raise InputError("its networks and region do not fit together")
        if claim.kind != "vnnlib":
            if claim.kind == "output_distance" and claim.delta is None and claim.verdict is Verdict.VIOLATED:
                raise InputError("a bracket of |f - g| states nothing that a witness could break")
            return cls(used, property_of(claim, outputs), *box)
        if claim.id not in properties:
            raise InputError(f"the bundle does not hold the property of a {claim.kind[:40]!r} claim")
        prop = properties[claim.id].property()
        if prop.rows.shape[1] != outputs * len(used):
            raise InputError(f"its property is not about {outputs * len(used)} outputs")
        return cls(used, prop, *box)


def prove_claims(
    claims: Sequence[Claim], settings: Sequence[Setting], certificates: Mapping[str, Certificate], semantics: str = ""
) -> list[str]:
    """For each claim "" if it was proved again in every arithmetic that it names, or in `semantics`, else why not."""
    reasons = ["" for _ in claims]
    groups: dict[tuple[str, str], list[int]] = {}
    for k, claim in enumerate(claims):
        if claim.id not in certificates:
            reasons[k] = "it has no certificate"
        elif not claim.semantics or not set(claim.semantics) <= set(ARITHMETICS) or not claim.rechecked:
            reasons[k] = "it does not say in which arithmetic it was proved twice"
        else:
            groups.setdefault((claim.subject, semantics or hardest(claim.semantics)), []).append(k)
    for (_, arithmetic), members in groups.items():
        proofs = prove(
            settings[members[0]].networks,
            np.stack([settings[k].lower for k in members]),
            np.stack([settings[k].upper for k in members]),
            [settings[k].property for k in members],
            [certificates[claims[k].id] for k in members],
            semantics=arithmetic,
        )
        for k, proof in zip(members, proofs, strict=True):
            reasons[k] = _refusal(claims[k], proof, arithmetic)
    return reasons


def _refusal(claim: Claim, proof: Proof, semantics: str) -> str:
    if not proof.proved or proof.margin is None:
        return f"not proved in {semantics}: {proof.reason}"
    bracket = claim.kind == "output_distance" and claim.delta is None
    if not bracket and claim.bound is not None and claim.bound > proof.margin:
        return f"its bound {claim.bound:.9g} exceeds what is proved in {semantics}, {proof.margin:.9g}"
    return ""
