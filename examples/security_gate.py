"""A release gate: lets a pruned network pass only if its policy is met.

Run: python examples/security_gate.py [ORIGINAL.onnx PRUNED.onnx ANCHORS.npz POLICY.toml]
Without arguments it prunes the digit classifier of this folder first. Exit code: 0 pass, 1 anything else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import paoding_verify as pv

DIGITS = Path(__file__).resolve().parent / "digits"
EPS = 0.01
SAMPLES = 10


def gate(original: pv.Network, pruned: pv.Network, anchors: Path, policy: Path) -> bool:
    """Whether the policy is met; INCONCLUSIVE does not pass."""
    data = pv.read_dataset(anchors, input_shape=original.input_shape)
    regions = pv.linf_regions(data, eps=EPS, domain=(0, 1), samples=SAMPLES, seed=0)
    result = pv.audit(original, pruned, regions, policy=pv.Policy.load(policy))
    for rule in result.policy.rules if result.policy else ():
        print(f"{rule.outcome:12} {rule.text}")
    print(f"verdict: {result.verdict}; claims: {result.counts}")
    return result.verdict is pv.Outcome.PASS and result.counts["error"] == 0


def main(arguments: list[str]) -> int:
    """The exit code of the gate."""
    if arguments:
        original, pruned = (pv.load_network(path) for path in arguments[:2])
        return 0 if gate(original, pruned, Path(arguments[2]), Path(arguments[3])) else 1
    original = pv.load_network(DIGITS / "digits_dense.onnx")
    pruned = pv.prune(original, target_sparsity=0.3, seed=0, domain=(0, 1)).network
    return 0 if gate(original, pruned, DIGITS / "anchors.npz", DIGITS / "policy.toml") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
