"""Trees of bisections: any depth, written and read back, lists that are none refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from paoding_verify.checker.prove import leaves
from paoding_verify.errors import DataError
from paoding_verify.evidence.certificate import Certificate, Split
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.splits import assemble, from_lists, to_lists


def deep(depth: int) -> Split | None:
    """A tree that bisects its lower part again and again."""
    tree: Split | None = None
    for k in range(depth):
        tree = Split(0, 2.0 ** -(depth - k), tree, None)
    return tree


@pytest.mark.parametrize("depth", [0, 1, 200, 900])
def test_deep_trees_are_written_read_and_walked(depth: int) -> None:
    text = dumps({"a": Certificate("crown", split=deep(depth))})
    back = loads(dict[str, Certificate], text, "certificates")["a"]
    assert dumps({"a": back}) == text
    boxes = list(leaves(np.zeros(1), np.ones(1), back.split))
    assert len(boxes) == depth + 1
    assert sum(float((high - low)[0]) for low, high in boxes) == 1.0


def test_both_parts_keep_their_places() -> None:
    tree = Split(3, 0.5, Split(1, 0.25), Split(2, 0.75, None, Split(0, 0.9)))
    assert to_lists(tree) == ([3, 1, -1, -1, 2, -1, 0, -1, -1], [0.5, 0.25, 0.75, 0.9])
    assert from_lists(*to_lists(tree)) == tree


def test_a_tree_is_assembled_from_parts() -> None:
    cuts = {"": (3, 0.5, "b", "a"), "a": (2, 0.75, "ab", "aa")}
    assert assemble("", cuts.get) == Split(3, 0.5, None, Split(2, 0.75))
    assert assemble("b", cuts.get) is None


@pytest.mark.parametrize(
    ("dimensions", "thresholds"),
    [([], []), ([0], [0.5]), ([0, -1], [0.5]), ([-1, -1], []), ([0, -1, -1], []), ([0, -1, -1], [0.1, 0.2])],
)
def test_lists_that_are_no_tree_are_refused(dimensions: list[int], thresholds: list[float]) -> None:
    plain = json.loads(dumps({"a": Certificate("crown", split=deep(1))}))
    plain["a"]["split"] = {"dimensions": dimensions, "thresholds": thresholds}
    with pytest.raises(DataError, match="no tree"):
        loads(dict[str, Certificate], json.dumps(plain), "certificates")
