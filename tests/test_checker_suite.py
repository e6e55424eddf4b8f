"""The checker satisfies every statement of the suite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from paoding_verify.checker import branching, crown, differential, exact, program, prove, relax
from tests.case_checks import CASE_CHECKS
from tests.checker_suite import CHECKS
from tests.pair_checks import PAIR_CHECKS


@pytest.mark.parametrize("check", CHECKS + PAIR_CHECKS + CASE_CHECKS, ids=lambda check: check.__name__)
def test_checker_is_sound(check: Callable[..., None]) -> None:
    parts = {"crown": crown, "differential": differential, "program": program, "prove": prove, "relax": relax}
    check({**parts, "branching": branching, "exact": exact})
