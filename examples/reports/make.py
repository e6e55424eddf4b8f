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
    """The audit of `make audit`."""
    return [
        str(DIGITS / "digits_dense.onnx"), "--data", str(DIGITS / "anchors.npz"),
        "--config", str(DIGITS / "audit.toml"), "--policy", str(DIGITS / "policy.toml"),
    ]  # fmt: skip


def mnist(data: Path) -> list[str]:
    """A small MNIST network of the benchmarks, at two radii."""
    return [
        str(data / "models" / "mnist2x10.onnx"), "--data", str(data / "data" / "mnist_test.npz"),
        "--eps", "0.005", "0.02",
        "--samples", "25", "--domain", "0", "1", "--seed", "0", "--target-sparsity", "0.25", "--method", "paoding",
        "--policy", str(HERE / "mnist_policy.toml"), "--timeout", "10",
    ]  # fmt: skip


def make(name: str, arguments: list[str], folder: Path) -> None:
    """Runs an audit into out/gallery and keeps its page. Raises: RuntimeError if it did not run to its end."""
    bundle = Path("out") / "gallery" / name
    shutil.rmtree(bundle, ignore_errors=True)
    code = paoding_verify(["audit", *arguments, "-o", str(bundle)])
    if code not in SETTLED:
        raise RuntimeError(f"the audit of {name} ended with exit code {code}")
    shutil.copyfile(bundle / "report.html", folder / f"{name}.html")


def main(arguments: list[str]) -> int:
    """Makes every report for which there is data."""
    folder = Path(arguments[0]).resolve() if arguments else HERE
    data = os.environ.get("PAODING_VERIFY_DATA")
    os.chdir(HERE.parents[1])
    make("digits", digits(), folder)
    if data is None:
        print("PAODING_VERIFY_DATA is not set: mnist.html was left out")
    else:
        make("mnist", mnist(Path(os.path.relpath(data))), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
