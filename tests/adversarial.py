"""Networks on which a verifier that ignores rounding proves what is false, each with a point that refutes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paoding_verify.evidence.property import Property, predicts
from paoding_verify.network.graph import Dense, Network, Relu
from tests.networks import chain

__all__ = ["Trap", "random_traps", "traps"]


@dataclass(frozen=True, eq=False)
class Trap:
    """A property that does not hold in `false_in`."""

    name: str
    network: Network
    lower: np.ndarray
    upper: np.ndarray
    property: Property
    false_in: tuple[str, ...]


def _row(weights: list[float], offset: float) -> Property:
    return Property(np.array([weights]), np.array([offset]), ((0,),))


def absorption(exponent: int, bits: int, share: float = 0.75) -> Trap:
    """relu(relu(K x + w) - w), w = 2^e, K = share ulp: an interval's centre K / 2 rounds to nothing, and the property
    that the value stays below .5 ulp seems to hold; at x = 1 it is .75 ulp.
    """
    w = 2.0**exponent
    ulp = w * 2.0**-bits
    ops = (
        Dense(np.array([[share * ulp]]), np.array([w])), Relu(), Dense(np.array([[1.0]]), np.array([-w])), Relu(),
        Dense(np.array([[0.0], [1.0]]), np.array([0.5 * ulp, 0.0])),
    )  # fmt: skip
    network = chain((1,), *ops)
    return Trap(f"absorption 2^{exponent}", network, np.zeros(1), np.ones(1), predicts(0, 2), ("real", "float32"))


def backward_sum(exponent: int, bits: int, share: float = 0.45) -> Trap:
    """x - T with x >= p = .3 ulp and T = share ulp of w = 2^e, through + w and - w: -T - w + w loses T."""
    w = 2.0**exponent
    ulp = w * 2.0**-bits
    one = np.array([[1.0]])
    ops = (
        Dense(one, np.array([w])), Relu(), Dense(one, np.array([-w])), Relu(), Dense(one, np.array([-share * ulp])),
    )  # fmt: skip
    lower, upper = np.array([0.3 * ulp]), np.array([0.31 * ulp])
    return Trap(f"backward sum 2^{exponent}", chain((1,), *ops), lower, upper, _row([1.0], 0.0), ("real",))


def input_sum(exponent: int, rest: float = 0.25) -> Trap:
    """w x1 - w x2 + x3 >= .5 with x1 = x2 = 1 and x3 = .25: in floats the sum may come out as anything."""
    w = 2.0**exponent
    network = chain((3,), Dense(np.array([[w, 1.0, -w]]), np.array([-0.5])))
    point = np.array([1.0, rest, 1.0])
    return Trap(f"input sum 2^{exponent}", network, point, point, _row([1.0], 0.0), ("real",))


def order_sensitive(exponent: int) -> Trap:
    """w - w + 1 in one dot product: 1 exactly, 0 in float32 for the order (1 + w) - w."""
    w = 2.0**exponent
    network = chain((3,), Dense(np.array([[w, 1.0, -w]]), np.zeros(1)))
    return Trap(f"order 2^{exponent}", network, np.ones(3), np.ones(3), _row([1.0], -0.5), ("float32",))


def folded_bias(exponent: int) -> Trap:
    """(x + w) - w over two dense layers without activation: merged x, unmerged 0 in float32 for small x."""
    w = 2.0**exponent
    one = np.array([[1.0]])
    network = chain((1,), Dense(one, np.array([w])), Dense(one, np.array([-w])))
    return Trap(f"folding 2^{exponent}", network, np.array([0.4]), np.array([0.5]), _row([1.0], -0.2), ("float32",))


def overflow() -> Trap:
    """2^100 * 2^100 * 2^-150 overflows in float32, although the result would fit."""
    weights = [2.0**100, 2.0**100, 2.0**-150]
    ops = [Dense(np.array([[w]]), np.zeros(1)) for w in weights]
    network = chain((1,), ops[0], Relu(), ops[1], Relu(), ops[2])
    return Trap("overflow", network, np.ones(1), np.ones(1), _row([-1.0], 2.0**90), ("float32",))


def underflow() -> Trap:
    """2^-100 * 2^-60 * 2^126 is 2^-34 exactly, and 0 in float32."""
    weights = [2.0**-100, 2.0**-60, 2.0**126]
    ops = [Dense(np.array([[w]]), np.zeros(1)) for w in weights]
    network = chain((1,), ops[0], Relu(), ops[1], Relu(), ops[2])
    return Trap("underflow", network, np.ones(1), np.ones(1), _row([1.0], -(2.0**-35)), ("float32",))


def underflow_in_chain() -> Trap:
    """2^-100 * 2^-60 * 2^100 without activations: 0 in float32 unless the last two weights are merged first."""
    ops = [Dense(np.array([[w]]), np.zeros(1)) for w in (2.0**-100, 2.0**-60, 2.0**100)]
    prop = _row([1.0], -(2.0**-61))
    return Trap("underflow in a chain", chain((1,), *ops), np.ones(1), np.ones(1), prop, ("float32",))


def coefficient_sum(exponent: int, rest: float = 0.25) -> Trap:
    """(w - .25 - w) x, summed over three units: going backward, the coefficient of x may come out as 0."""
    w = 2.0**exponent
    first, last = Dense(np.array([[w], [-rest], [-w]]), np.zeros(3)), Dense(np.ones((1, 3)), np.zeros(1))
    return Trap(
        f"coefficients 2^{exponent}", chain((1,), first, last), np.ones(1), np.ones(1), _row([1.0], 0.1), ("real",)
    )


def float32_absorption() -> Trap:
    """relu(x + w) - w for x in [.4, .45]: 0 in float32, at least .4 exactly."""
    one = np.array([[1.0]])
    network = chain((1,), Dense(one, np.array([2.0**24])), Relu(), Dense(one, np.array([-(2.0**24)])))
    return Trap("absorption in float32", network, np.array([0.4]), np.array([0.45]), _row([1.0], -0.1), ("float32",))


def hidden_bump(width: float, place: float) -> Trap:
    """.5 - bump(x) > 0, the bump being 1 at one place and 0 further than `width` from it: samples hardly meet it."""
    slope = 1.0 / width
    first = Dense(np.full((3, 1), slope), np.array([1.0, 0.0, -1.0]) - slope * place)
    network = chain((1,), first, Relu(), Dense(np.array([[-1.0, 2.0, -1.0]]), np.array([0.5])))
    return Trap("hidden bump", network, np.zeros(1), np.ones(1), _row([1.0], 0.0), ("real", "float32"))


def random_traps(rng: np.random.Generator) -> Iterator[Trap]:
    """Ever new ones of all kinds; numbers are multiples of 1/64, so that they are what they are said to be."""

    def share(low: int, high: int) -> float:
        return int(rng.integers(low, high)) / 64

    while True:
        single, double = int(rng.integers(20, 61)), int(rng.integers(60, 101))
        yield absorption(single, 23, share(36, 62))
        yield absorption(double, 52, share(36, 62))
        yield backward_sum(double, 52, share(21, 31))
        yield input_sum(double, share(1, 32))
        yield coefficient_sum(double, share(8, 60))
        yield order_sensitive(single + 5)
        yield folded_bias(single + 5)
        yield hidden_bump(2.0 ** -int(rng.integers(8, 16)), share(1, 64))


def traps() -> Iterator[Trap]:
    """All of them, over the exponents at which float32 and float64 verifiers fail."""
    for exponent in range(20, 61, 4):
        yield absorption(exponent, 23)
        yield order_sensitive(exponent + 5)
        yield folded_bias(exponent + 5)
    for exponent in range(40, 101, 4):
        yield absorption(exponent, 52)
        yield backward_sum(exponent, 52)
        yield input_sum(exponent + 20)
        yield coefficient_sum(exponent + 20)
    yield from (overflow(), underflow(), underflow_in_chain(), float32_absorption())
