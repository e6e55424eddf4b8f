"""Ascent climbs as Adam does, and stays within its limits."""

import subprocess
import sys

import pytest
import torch

from paoding_verify.bounds.ascent import Ascent


def objective(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return -((x - 0.3) ** 2).sum() - ((y + 1.0) ** 2).sum()


def test_takes_the_steps_of_adam() -> None:
    own = [torch.linspace(0, 1, 5, dtype=torch.float64).requires_grad_() for _ in range(2)]
    theirs = [x.detach().clone().requires_grad_() for x in own]
    ascent = Ascent(own, rate=0.1, steps=10, most=1.0)
    optimiser = torch.optim.Adam(theirs, lr=0.1)
    slower = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.2**0.1)
    for _ in range(10):
        ascent.step(objective(*own))
        optimiser.zero_grad()
        torch.autograd.backward(-objective(*theirs))
        optimiser.step()
        slower.step()
        for x in theirs:
            x.data.clamp_(0.0, 1.0)
    for x, y in zip(own, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-7)


def test_limits_are_kept_and_what_does_not_count_stays() -> None:
    x, idle = (torch.full((3,), 0.5, requires_grad=True) for _ in range(2))
    ascent = Ascent([x, idle], rate=0.3, steps=4, most=1.0)
    for _ in range(4):
        ascent.step((x * torch.tensor([1.0, -1.0, 0.0])).sum())
    assert x.tolist() == pytest.approx([1.0, 0.0, 0.5])
    assert idle.tolist() == [0.5] * 3


def test_the_compiler_of_torch_is_not_loaded() -> None:
    code = (
        "import sys, torch; from paoding_verify.bounds.ascent import Ascent; x = torch.zeros(2, requires_grad=True);"
        "Ascent([x], rate=1.0, steps=2).step(x.sum()); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
