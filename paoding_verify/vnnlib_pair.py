"""VNN-LIB 2.0 specifications of two networks: boxes of common inputs, and what must hold of both outputs there.

The first declared network is the original, the second the pruned one. Every input of the second must be tied to the
same input of the first by an equality; then the specification is one about inputs X_i and outputs Y_j, of which the
first half belongs to f and the second half to g. Rounding and strict inequalities are as in `vnnlib`.
Source: VNN-LIB 2.0 standard (vnnlib.org), chapter "Query Language".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path

from paoding_verify.errors import SpecError
from paoding_verify.evidence.property import Property
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Network
from paoding_verify.regions import Region
from paoding_verify.vnnlib import questions_of
from paoding_verify.vnnlib_formula import CONSTANT, STRICT, Linear, disjuncts, variables_of
from paoding_verify.vnnlib_syntax import Form, SpecLimits, read_forms

__all__ = ["read_pair_vnnlib"]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
ELEMENT = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(?:\[([0-9,]*)\])?")
TYPES = ("real", "float32")
"""Element types that are read: files hold float32 networks, and proofs cover real numbers too."""
PARTS = {"declare-input": ("X", "U"), "declare-output": ("Y", "Z")}
"""Declaration -> letter of the variables of the first and of the second network."""


@dataclass(frozen=True)
class _Tensor:
    """A declared input or output."""

    name: str
    letter: str
    shape: tuple[int, ...]
    line: int

    def element(self, index: int) -> str:
        """An element as the specification writes it, by its row-major number."""
        places: list[str] = []
        for size in reversed(self.shape):
            index, place = divmod(index, size)
            places.insert(0, str(place))
        return f"{self.name}[{','.join(places)}]" if places else self.name


def read_pair_vnnlib(
    path: str | Path, original: Network, pruned: Network, *, limits: SpecLimits | None = None
) -> list[tuple[Region, Property]]:
    """Pairs such that the unsafe set is empty if every property, over the outputs (f, g), holds on its region.

    Raises: SpecError naming file, line and word; also for networks that do not fit the declarations, other numbers of
    networks, inputs or outputs than two, one and one, inputs of the two networks that are not tied, conditions that
    relate several inputs or inputs with outputs, and `!=`.
    """
    path, limits = Path(path), limits or SpecLimits()
    tensors: dict[str, _Tensor] = {}
    networks: set[str] = set()
    variables: set[str] = set()
    asserted: list[tuple[int, list[list[Linear]]]] = []
    for number, (line, raw) in enumerate(read_forms(path, limits)):
        try:
            form = _joined(raw)
            head = form[0] if isinstance(form, tuple) and form else ""
            if number == 0:
                _check_version(form)
            elif head == "declare-network" and not asserted:
                _declare(form, line, (original, pruned), networks, tensors)
            elif head == "assert" and len(form) == 2 and len(networks) == 2:
                if not asserted:
                    variables |= {f"{t.letter}_{k}" for t in tensors.values() for k in range(prod(t.shape))}
                asserted.append((line, disjuncts(_renamed(form[1], tensors), variables, limits)))
            else:
                raise SpecError("expected two (declare-network ...), and then only (assert condition)")
        except SpecError as error:
            raise SpecError(f"{path.name}, line {line}: {error}") from None
    try:
        parts = _with_common_inputs(asserted, {tensor.letter: tensor for tensor in tensors.values()}, path.name)
        return questions_of(parts, original.input_shape, 2 * original.num_outputs, path.name, limits)
    except SpecError as error:
        words = str(error)
        raise SpecError(words if words.startswith(path.name) else f"{path.name}: {words}") from None


def _check_version(form: Form) -> None:
    if not (isinstance(form, tuple) and len(form) == 2 and form[0] == "vnnlib-version"):
        raise SpecError("a specification of two networks starts with (vnnlib-version <2.0>)")
    if not re.fullmatch(r"<2\.[0-9]{1,3}>", str(form[1])):
        raise SpecError(f"VNN-LIB version {str(form[1])[:20]} is not read; write <2.0>")


def _joined(form: Form) -> Form:
    """The form with `X [0, 1]`, which is several words, as the one word `X[0,1]`; shapes stay words of their own."""
    if isinstance(form, str):
        return form
    words: list[Form] = []
    declares = bool(form) and form[0] in PARTS
    for part in form:
        last = words[-1] if words else ()
        inside = isinstance(last, str) and "[" in last and "]" not in last
        index = isinstance(part, str) and part.startswith("[") and not declares
        if isinstance(last, str) and isinstance(part, str) and (inside or (index and NAME.fullmatch(last))):
            words[-1] = last + part
        else:
            words.append(_joined(part))
    return tuple(words)


def _declare(form: Form, line: int, pair: Sequence[Network], networks: set[str], tensors: dict[str, _Tensor]) -> None:
    """Adds a network and its tensors."""
    number = len(networks)
    if number == len(pair):
        raise SpecError("it declares a third network; exactly two are compared")
    name = form[1] if len(form) > 1 else ""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or name in {*networks, *tensors}:
        raise SpecError(f"{str(name)[:40]!r} is no name for a network, or is taken")
    declared: dict[str, _Tensor] = {}
    for part in form[2:]:
        head = part[0] if isinstance(part, tuple) and part else part
        if head in ("equal-to", "isomorphic-to") and len(part) == 2 and not declared:
            _check_relation(str(head), str(part[1]), networks, pair)
        elif head in PARTS and head not in declared:
            declared[str(head)] = tensor = _tensor(part, PARTS[str(head)][number], line)
            size = prod(pair[number].input_shape) if head == "declare-input" else pair[number].num_outputs
            if prod(tensor.shape) != size:
                raise SpecError(f"{tensor.name} has {prod(tensor.shape)} elements; network {name} has {size}")
            if tensor.name in {*networks, *tensors, name}:
                raise SpecError(f"the name {tensor.name} is taken")
            tensors[tensor.name] = tensor
        else:
            raise SpecError(
                f"{str(head)[:40]!r} is not handled here: a network has one declare-input, one declare-output and, "
                "before them, perhaps equal-to or isomorphic-to"
            )
    if len(declared) < len(PARTS):
        raise SpecError(f"network {name} needs one declare-input and one declare-output")
    networks.add(name)


def _check_relation(relation: str, other: str, networks: set[str], pair: Sequence[Network]) -> None:
    """Raises: SpecError if the second network is not related to the first as it is declared."""
    if other not in networks:
        raise SpecError(f"{relation} {other[:40]}: there is no such network before this one")
    f, g = pair
    if relation == "equal-to" and canonical_digest(f) != canonical_digest(g):
        raise SpecError("the networks are declared equal, and the files hold different ones")
    built = [[(type(node.op), node.inputs) for node in network.nodes] for network in pair]
    if built[0] != built[1] or f.shapes != g.shapes:
        raise SpecError("the networks are declared isomorphic, and the files differ in structure")


def _tensor(part: Form, letter: str, line: int) -> _Tensor:
    if len(part) != 4 or not all(isinstance(word, str) for word in part):
        raise SpecError(f"expected ({part[0]} NAME TYPE [D,...])")
    _, name, kind, shape = map(str, part)
    if not NAME.fullmatch(name):
        raise SpecError(f"{name[:40]!r} is no name for a tensor")
    if kind.lower() not in TYPES:
        raise SpecError(f"{name} has elements of type {kind[:20]}; networks are read as float32: write float32 or real")
    if not re.fullmatch(r"\[([0-9]{1,9}(,[0-9]{1,9})*)?\]", shape) or shape.count(",") > 15:
        raise SpecError(f"{shape[:40]!r} is no shape: expected [D,...]")
    return _Tensor(name, letter, tuple(int(size) for size in shape[1:-1].split(",") if size), line)


def _renamed(form: Form, tensors: Mapping[str, _Tensor]) -> Form:
    """The condition over X_i, U_i, Y_j and Z_j, with equalities as two inequalities."""
    if isinstance(form, str):
        return _variable(form, tensors) if form[:1].isalpha() else form
    if form and form[0] == "!=":
        raise SpecError("!= is not handled: it bounds nothing; write < or > instead")
    parts = tuple(_renamed(part, tensors) for part in form[1:])
    if form and form[0] == "==":
        return ("and", ("<=", *parts), (">=", *parts))
    return (form[0], *parts) if form else form


def _variable(word: str, tensors: Mapping[str, _Tensor]) -> str:
    match = ELEMENT.fullmatch(word)
    tensor = tensors.get(match.group(1)) if match else None
    if match is None or tensor is None:
        raise SpecError(f"{word[:40]!r} is no element of a declared tensor")
    places = [int(place) for place in (match.group(2) or "").split(",") if place and len(place) < 10]
    if len(places) != len(tensor.shape) or any(p >= size for p, size in zip(places, tensor.shape, strict=True)):
        raise SpecError(f"{word[:40]} does not lie in {tensor.name}, whose shape is {list(tensor.shape)}")
    number = 0
    for place, size in zip(places, tensor.shape, strict=True):
        number = number * size + place
    return f"{tensor.letter}_{number}"


def _with_common_inputs(
    asserted: Sequence[tuple[int, list[list[Linear]]]], tensors: Mapping[str, _Tensor], source: str
) -> list[list[list[Linear]]]:
    """The formulas over X_i and Y_j alone. Raises: SpecError naming the line of what is not handled."""
    if len(tensors) != 4:
        raise SpecError("it declares fewer than two networks")
    below = {pair for _, part in asserted if len(part) == 1 for linear in part[0] if (pair := _tie(linear))}
    count = prod(tensors["U"].shape)
    for k in range(count):
        if not {(f"U_{k}", f"X_{k}"), (f"X_{k}", f"U_{k}")} <= below:
            mine, theirs = (tensors[letter].element(k) for letter in "UX")
            raise SpecError(
                f"{source}, line {tensors['U'].line}: the input {mine} is not tied to {theirs}: only specifications "
                f"that give both networks the same input are handled; add (assert (== {mine} {theirs}))"
            )
    shift = prod(tensors["Y"].shape)
    result = []
    for line, part in asserted:
        changed = [[_merged(linear, shift) for linear in case] for case in part]
        for linear in (linear for case in changed for linear in case):
            names = variables_of(linear)
            if any(name[0] == "X" for name in names) and len(names) > 1:
                raise SpecError(
                    f"{source}, line {line}: a condition relates several inputs, or inputs with outputs: only boxes of "
                    "inputs are handled"
                )
        result.append(changed)
    return result


def _tie(linear: Linear) -> tuple[str, str] | None:
    """(a, b) if the inequality says a <= b for an input of each network."""
    names = sorted(variables_of(linear), key=lambda name: linear[name], reverse=True)
    if STRICT in linear or len(names) != 2 or linear[CONSTANT] != 0 or linear[names[0]] != -linear[names[1]]:
        return None
    return (names[0], names[1]) if {name[0] for name in names} == {"X", "U"} else None


def _merged(linear: Linear, shift: int) -> Linear:
    """Inputs of the second network become those of the first, its outputs follow those of the first."""
    result: Linear = {CONSTANT: linear[CONSTANT]}
    for name, value in linear.items():
        letter, number = name[:1], name[2:]
        new = {"U": f"X_{number}", "Z": f"Y_{int(number) + shift}" if letter == "Z" else ""}.get(letter, name)
        if new != CONSTANT:
            result[new] = result.get(new, Fraction(0)) + value
    return {name: value for name, value in result.items() if value or name == CONSTANT}
