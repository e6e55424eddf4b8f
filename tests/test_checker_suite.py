"""The checker satisfies every statement of the suite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paoding_verify.checker import (
    branching,
    crown,
    exact,
    exact_numbers,
    exact_ops,
    exact_pair,
    exact_tree,
    program,
    prove,
    relax,
)
from tests.case_checks import CASE_CHECKS
from tests.checker_suite import CHECKS
from tests.exact_checks import EXACT_CHECKS
from tests.pair_checks import PAIR_CHECKS


@pytest.mark.parametrize("check", CHECKS + PAIR_CHECKS + CASE_CHECKS + EXACT_CHECKS, ids=lambda check: check.__name__)
def test_checker_is_sound(check: Callable[..., None]) -> None:
    modules = (
        branching, crown, exact, exact_numbers, exact_ops, exact_pair, exact_tree, program, prove, relax,
    )  # fmt: skip
    check({module.__name__.rpartition(".")[2]: module for module in modules})
