"""Makes the reports of this gallery again: digits.html always, mnist.html where the real models and data are.

Run: python examples/reports/make.py [FOLDER]
Writes into FOLDER (default: this folder). PAODING_VERIFY_DATA names the folder of the real models and data.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from paoding_verify.cli.main import main as paoding_verify

HERE = Path(__file__).resolve().parent
DIGITS = Path("examples/digits")
SETTLED = (0, 1, 3)
"""Exit codes of an audit that ran to its end, whatever its policy says."""


def digits() -> list[str]:
    """The audit of `make audit`, with spot checks by z3."""
    return [
        str(DIGITS / "digits_dense.onnx"), "--data", str(DIGITS / "anchors.npz"),
        "--config", str(DIGITS / "audit.toml"), "--policy", str(DIGITS / "policy.toml"),
        "--smt-samples", "6",
    ]  # fmt: skip


def mnist(data: Path) -> list[str]:
    """An MNIST network of the VNN-COMP benchmarks, at three radii, with little time for each claim."""
    return [
        str(data / "models_gpl3" / "mnist-net_256x2.onnx"), "--data", str(data / "data" / "mnist_test.npz"),
        "--eps", "0.01", "0.02", "0.03", "--samples", "12", "--domain", "0", "1", "--seed", "0",
        "--target-sparsity", "0.3", "--method", "paoding", "--smt-samples", "4",
        "--policy", str((HERE / "mnist_policy.toml").relative_to(HERE.parents[1])), "--timeout", "2",
    ]  # fmt: skip


def linked(data: Path) -> Path:
    """The data's folder under a name that says nothing about this machine: reports state the command."""
    link = HERE.parents[1] / "out" / "benchmarks"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(data)
    return link.relative_to(HERE.parents[1])


def make(name: str, arguments: list[str], folder: Path) -> None:
    """Runs an audit into out/gallery and keeps its page. Raises: RuntimeError if it did not run to its end."""
    bundle = Path("out") / "gallery" / name
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.with_name(f"{name}.journal").unlink(missing_ok=True)  # of a run that was interrupted
    code = paoding_verify(["audit", *arguments, "-o", str(bundle)])
    if code not in SETTLED:
        raise RuntimeError(f"the audit of {name} ended with exit code {code}")
    shutil.copyfile(bundle / "report.html", folder / f"{name}.html")


def main(arguments: list[str]) -> int:
    """Makes every report for which there is data."""
    folder = Path(arguments[0]).resolve() if arguments else HERE
    data = os.environ.get("PAODING_VERIFY_DATA")
    link = None if data is None else linked(Path(data).resolve())
    os.chdir(HERE.parents[1])
    make("digits", digits(), folder)
    if link is None:
        print("PAODING_VERIFY_DATA is not set: mnist.html was left out")
    else:
        make("mnist", mnist(link), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
