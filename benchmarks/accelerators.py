"""How much an accelerator uses of the errors that the checker allows float32, tf32 and bfloat16 programs.

Networks are run there on points, in batches of several sizes (which choose between kernels), and every output is
compared with what the checker allows programs of that arithmetic at that point. The table shows how much of the
allowance was used: 1 or more would be an unsound arithmetic. Some networks are made to cost a device that truncates
where the checker assumes rounding as much as possible; `numbers` names the kinds. Without a GPU only float32 and
bfloat16 run, on the CPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from surroundings import describe, surroundings

from paoding_verify.checker.crown import enclose
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Array, Conv2d, Dense, Network, Node, Op, Relu, Reshape
from paoding_verify.network.torch_out import to_module

HERE = Path(__file__).resolve().parent
BITS = {"float32": 24, "tf32": 11, "bfloat16": 8}
"""Significant bits of the operands of each arithmetic."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """A way to run a network in an arithmetic."""

    name: str
    semantics: str
    weights: torch.dtype = torch.float32
    autocast: bool = False
    partial_sums: bool = False
    """Whether sums that are split between threads may be kept in bfloat16."""
    cudnn: bool = False
    """Whether cuDNN chooses how to convolve, Winograd's method and Fourier transforms among its choices."""

    @property
    def gpu(self) -> bool:
        """Whether it differs from others on a graphics processor only."""
        return self.partial_sums or self.cudnn

    @property
    def covered(self) -> bool:
        """Whether the checker claims to cover it whatever the network."""
        return not self.gpu

    def run(self, network: Network, points: Array, device: str) -> Array:
        """Outputs of one batch. Shapes: (N, *in) -> (N, out)."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.semantics == "tf32"
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = self.partial_sums
        torch.backends.cudnn.enabled = self.cudnn
        module = to_module(network, self.weights).to(device)
        with torch.no_grad(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.autocast):
            return module(torch.as_tensor(points).to(device, self.weights)).double().cpu().numpy()


PROGRAMS = (
    Program("float32", "float32"),
    Program("float32, cuDNN", "float32", cudnn=True),
    Program("tf32", "tf32"),
    Program("tf32, cuDNN", "tf32", cudnn=True),
    Program("bfloat16", "bfloat16", torch.bfloat16),
    Program("bfloat16, autocast", "bfloat16", autocast=True),
    Program("bfloat16, cuDNN", "bfloat16", torch.bfloat16, cudnn=True),
    Program("bfloat16, partial sums too", "bfloat16", torch.bfloat16, partial_sums=True),
)


def numbers(kind: str, shape: Sequence[int], bits: int, rng: np.random.Generator) -> Array:
    """Operands. Kinds: `normal`; `below`, all digits beyond `bits` set, so that truncating loses the most; `tie`, just
    under half a unit, so that rounding does; `absorbed`, one large number before many that sums of few bits forget.
    """
    unit = 2.0 ** (1 - bits)
    if kind == "normal":
        found = rng.normal(size=shape)
    elif kind in ("below", "tie"):
        found = 1 + (unit if kind == "below" else unit / 2) - 2.0**-23 + np.zeros(shape)
        found = found * 2.0 ** rng.integers(-2, 3, shape)
    else:
        found = rng.uniform(1, 2, shape) * 2.0**-12
        found[..., 0] = 1.0
    return found.astype(np.float32).astype(np.float64)


def chain(shape: tuple[int, ...], *ops: Op) -> Network:
    """A network in which every node reads the one before it."""
    return Network(shape, tuple(Node(op, (k,), f"node{k}") for k, op in enumerate(ops)))


def dense(kind: str, width: int, bits: int, rng: np.random.Generator) -> Network:
    """One layer, without bias."""
    weight = numbers(kind, (64, width), bits, rng)
    return chain((width,), Dense(weight, np.zeros(64)))


def convolution(kind: str, kernel: int, bits: int, rng: np.random.Generator) -> Network:
    """One convolution of 32 channels over 12 x 12 cells, flattened."""
    weight, half = numbers(kind, (32, 32, kernel, kernel), bits, rng), kernel // 2
    layer = Conv2d(weight, np.zeros(32), padding=(half, half, half, half))
    return chain((32, 12, 12), layer, Reshape((32 * 144,)))


def deep(kind: str, width: int, bits: int, rng: np.random.Generator) -> Network:
    """Three dense layers with ReLU between them."""
    ops: list[Op] = []
    for _ in range(3):
        weight = numbers(kind, (width, width), bits, rng) / np.sqrt(width)
        ops += [Dense(weight.astype(np.float32).astype(np.float64), np.zeros(width)), Relu()]
    return chain((width,), *ops[:-1])


def networks(options: argparse.Namespace, bits: int) -> Iterator[tuple[str, str, Network]]:
    """Kind of numbers, name and network."""
    for kind in ("normal", "below", "tie", "absorbed"):
        rng = np.random.default_rng(options.seed)
        for width in options.widths:
            yield kind, f"dense {width}", dense(kind, width, bits, rng)
        for kernel in (3, 5):
            yield kind, f"convolution {kernel}x{kernel}", convolution(kind, kernel, bits, rng)
        yield kind, "three dense 256", deep(kind, 256, bits, rng)


def used(network: Network, points: Array, outputs: Array, semantics: str) -> float:
    """The largest share of what the checker allows, over points and outputs; above 1: outside of its bounds."""
    allowed = enclose([network], points, points, semantics).values[-1]
    exact = evaluate(network, points)
    below, above = (exact - outputs) / (exact - allowed.lower), (outputs - exact) / (allowed.upper - exact)
    return float(np.maximum(below, above).max())


def measured(options: argparse.Namespace) -> list[Row]:
    """A row for each program, network and batch."""
    rows = []
    on_gpu = torch.device(options.device).type == "cuda"
    for program in PROGRAMS:
        if not on_gpu and (program.gpu or program.semantics == "tf32"):
            continue
        for kind, name, network in networks(options, BITS[program.semantics]):
            rng = np.random.default_rng(options.seed)
            points = numbers(kind, (max(options.batches), *network.input_shape), BITS[program.semantics], rng)
            for batch in options.batches:
                outputs = program.run(network, points[:batch], options.device)
                share = used(network, points[:batch], outputs, program.semantics)
                rows.append({
                    "program": program.name, "covered": program.covered, "numbers": kind, "network": name,
                    "batch": batch, "used": share,
                })  # fmt: skip
    return rows


def table(rows: Sequence[Row]) -> str:
    """A block for each program: the largest share used, networks by kinds of numbers."""
    lines = []
    for program in dict.fromkeys(row["program"] for row in rows):
        mine = [row for row in rows if row["program"] == program]
        kinds = list(dict.fromkeys(row["numbers"] for row in mine))
        note = "" if mine[0]["covered"] else " (not covered by the checker)"
        lines += [f"\n{program}{note}", f"{'':<22}" + "".join(f"{kind:>10}" for kind in kinds)]
        for name in dict.fromkeys(row["network"] for row in mine):
            cells = (
                max(row["used"] for row in mine if (row["network"], row["numbers"]) == (name, kind)) for kind in kinds
            )
            lines.append(f"{name:<22}" + "".join(f"{cell:>10.4f}" for cell in cells))
    lines.append("")
    for covered, word in ((True, "covered"), (False, "other")):
        mine = [row for row in rows if row["covered"] == covered]
        outside = sum(row["used"] > 1 for row in mine)
        lines.append(f"{outside} of {len(mine)} runs of {word} programs left the checker's bounds")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--widths", nargs="+", type=int, default=[16, 64, 256, 784, 4096, 16384], metavar="N",
                        help="inputs of the dense layers")  # fmt: skip
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64], metavar="N", help="points at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=HERE / "results/accelerators.json")
    options = parser.parse_args(arguments)
    if min([*options.widths, *options.batches]) < 1:
        parser.error("widths and batches must be at least 1")
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here; leave --device out")
    where: dict[str, Any] = surroundings()
    on_gpu = torch.device(options.device).type == "cuda"
    where["accelerator"] = torch.cuda.get_device_name(options.device) if on_gpu else "none"
    rows = measured(options)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    options.json.write_text(json.dumps({**where, "settings": settings, "results": rows}, indent=1) + "\n")
    print(f"{describe(where)}\naccelerator: {where['accelerator']}")
    print("Share of the allowed error that was used, the largest over points, outputs and batches:")
    print(table(rows))


if __name__ == "__main__":
    main()
