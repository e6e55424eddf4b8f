"""Files of a bundle that follow from its result: they must be there, byte for byte, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeAlias

from paoding_verify.errors import DataError, MissingComponentError
from paoding_verify.evidence.codec import dumps, loads, unique_keys
from paoding_verify.evidence.members import (
    BOXES,
    CERTIFICATES,
    COMPONENTS,
    PROPERTIES,
    RESULT,
    SIGNATURE,
    TIMINGS,
    TWINS,
    model_file,
    witness_files,
)
from paoding_verify.evidence.result import AuditResult

__all__ = ["Twins", "check_derived"]

Twins: TypeAlias = Mapping[str, Callable[[AuditResult], str]]
"""File name -> what draws it."""


def check_derived(
    result: AuditResult, members: Mapping[str, bytes], twins: Twins, problems: list[str], omitted: list[str]
) -> None:
    """The bundle has exactly the files of its result; witness files, report and twins are drawn again and compared.

    What `twins` does not draw, or cannot because a component is missing, is omitted: not compared.
    """
    witnesses = witness_files(result.claims)
    wanted = {
        RESULT,
        TIMINGS,
        BOXES,
        CERTIFICATES,
        COMPONENTS,
        *TWINS,
        *witnesses,
        *(model_file(m.role) for m in result.models),
    }
    if any(claim.kind == "vnnlib" for claim in result.claims):
        wanted.add(PROPERTIES)
    problems += [f"{name}: is missing, or damaged" for name in sorted(wanted - set(members))]
    problems += [f"{name[:80]}: is no file of such a bundle" for name in sorted(set(members) - wanted - {SIGNATURE})]
    if members[RESULT] != dumps(result).encode():
        problems.append(f"{RESULT}: is not written as audits write it")
    problems += [
        f"{name}: does not hold the witness that {RESULT} states"
        for name, data in witnesses.items()
        if name in members and members[name] != data
    ]
    _check_timings(result, members.get(TIMINGS), problems)
    _check_components(result, members.get(COMPONENTS), problems)
    for name in TWINS:
        if name in members:
            _compare(name, members[name], result, twins, problems, omitted)


def _compare(
    name: str, data: bytes, result: AuditResult, twins: Twins, problems: list[str], omitted: list[str]
) -> None:
    if name not in twins:
        omitted.append(f"{name} was not drawn again")
        return
    try:
        text = twins[name](result)
    except (ImportError, MissingComponentError) as error:
        omitted.append(f"{name} cannot be drawn again: {str(error)[:120]}")
    except Exception as error:  # a stranger's result may hold what no audit writes
        problems.append(f"{name}: cannot be drawn from {RESULT} ({type(error).__name__})")
    else:
        if data != text.encode():
            problems.append(f"{name}: is not what this version of paoding-verify draws from {RESULT}")


def _check_timings(result: AuditResult, data: bytes | None, problems: list[str]) -> None:
    if data is None:
        return
    try:
        times = loads(dict[str, float], data, TIMINGS)
    except DataError as error:
        problems.append(str(error))
        return
    known = {claim.id for claim in result.claims}
    known |= {f"candidate: {candidate.name}" for candidate in (result.pruning.candidates if result.pruning else ())}
    if not set(times) <= known or min(times.values(), default=0.0) < 0:
        problems.append(f"{TIMINGS}: holds more than seconds of claims and candidates")


def _check_components(result: AuditResult, data: bytes | None, problems: list[str]) -> None:
    """The list of what was installed must not contradict the versions that the result states."""
    if data is None:
        return
    try:
        plain = json.loads(data, object_pairs_hook=unique_keys)
        listed = {str(entry["name"]): str(entry["version"]) for entry in plain["components"]}
        if plain["bomFormat"] != "CycloneDX":
            raise ValueError("it is not CycloneDX")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        problems.append(f"{COMPONENTS}: is damaged: {str(error)[:120]}")
        return
    for name, version in result.provenance.versions.items():
        if listed.get(name, version) != version:
            problems.append(f"{COMPONENTS}: lists {name[:80]} in another version than {RESULT} states")
