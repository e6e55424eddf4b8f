"""Tables of hints as text: sparse ones stay short, each has one text, and none takes more memory than a file may."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from paoding_verify.errors import DataError
from paoding_verify.evidence import codec
from paoding_verify.evidence.certificate import NO_HINT, Certificate
from paoding_verify.evidence.codec import dumps, loads

Tables = dict[str, Certificate]


def text(*tables: str, key: str = "3,1") -> str:
    return json.dumps({str(k): {"kind": "crown", "slopes": {key: table}} for k, table in enumerate(tables)})


def table(shape: str, *data: int) -> str:
    return f"{shape}:{base64.b64encode(bytes(data)).decode()}"


def test_random_tables_come_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = tuple(int(n) for n in rng.integers(0, 20, 2))
        dense = rng.integers(0, 256, shape).astype(np.uint8)
        hints = np.where(rng.random(shape) < rng.choice([0.02, 0.5, 1.0]), dense, NO_HINT).astype(np.uint8)
        written = dumps({"a": Certificate("crown", {(3, 1): hints})})
        assert (loads(Tables, written, "x")["a"].slopes[3, 1] == hints).all()


def test_large_sparse_tables_come_back_and_are_short() -> None:
    """As many rows as a pair of ten classes has, over a layer of 32 x 16 x 16 units, nearly all without a hint."""
    hints = np.full((270, 8192), NO_HINT, dtype=np.uint8)
    hints[3:12, ::100] = 7
    written = dumps({"a": Certificate("crown", {(3, 1): hints})})
    assert len(written) < 4000
    assert (loads(Tables, written, "x")["a"].slopes[3, 1] == hints).all()


@pytest.mark.parametrize(
    "other",
    [
        table("\N{ARABIC-INDIC DIGIT ONE}x3", 0x80, 0xA0, 5, 7), table("01x3", 0x80, 0xA0, 5, 7),
        table("1x3", 0x80, 0xA0, 5, 7) + "\n", table("1x3", 0x80, 0xA0, NO_HINT, 7), table("1x3", 0x80, 0),
        table("1x3", 0x81, 0xA0, 5, 7), table("1x3", 0x80, 0xB0, 5, 7), table("1x3", 0x80, 0xA0, 5, 7, 9),
        table("1x3", 0x80, 0xA0, 5), table("1x3", 0x80), table("99999999x99999999", 0), "1x3:gKAFBx==", "1x3:*", "1x3",
    ],
)  # fmt: skip
def test_a_table_has_one_text(other: str) -> None:
    assert loads(Tables, text(table("1x3", 0x80, 0xA0, 5, 7)), "x")["0"].slopes[3, 1].tolist() == [[5, NO_HINT, 7]]
    with pytest.raises(DataError):
        loads(Tables, text(other), "x")


@pytest.mark.parametrize(
    "other",
    [
        table("40@1x300@2", 3, 5, 1, 9, 0, 5, 7), table("40@1x300@2", 3, 5, 0, 5, 0, 5, 7),
        table("40@1x300@2", 3, 9, 0, 44, 1, 5, 7), table("40@1x300@2", 44, 9, 0, 5, 1, 5, 7),
        table("40@1x300@2", 3, 9, 0, 5, 1, NO_HINT, 7), table("40@1x300@2", 3, 9, 0, 5, 1, 5),
        table("40@1x300@2", 3, 9, 0, 5, 1, 5, 7, 8), table("40@1x300@2", 3, 9, 5, 5, 7), table("40@1x300@2"),
        table("40@01x300@2", 3, 9, 0, 5, 1, 5, 7), table("40@1x300@99999999", 3, 9, 0, 5, 1, 5, 7),
        table("40@1x300@", 3, 9, 0, 5, 1, 5, 7), table("40x300@2", 0x10, 0, 0, 0, 0, 9, 0, 5, 1, 5, 7),
        table("40@1x300", 3, 0, 0x40, *bytes(30), 4, *bytes(5), 5, 7),
    ],
)  # fmt: skip
def test_few_entries_are_numbered_in_one_way(other: str) -> None:
    hints = loads(Tables, text(table("40@1x300@2", 3, 9, 0, 5, 1, 5, 7)), "x")["0"].slopes[3, 1]
    assert {tuple(map(int, place)): int(hints[tuple(place)]) for place in np.argwhere(hints != NO_HINT)} == {
        (3, 9): 5, (3, 261): 7,
    }  # fmt: skip
    with pytest.raises(DataError):
        loads(Tables, text(other), "x")


@pytest.mark.parametrize(
    "key", ["03,1", "\N{SUPERSCRIPT TWO},1", "\N{ARABIC-INDIC DIGIT THREE},1", "3,1\n", "-1,1", "3"]
)
def test_a_key_has_one_text(key: str) -> None:
    with pytest.raises(DataError, match="no pair of numbers"):
        loads(Tables, text(table("1x3", 0x80, 0xA0, 5, 7), key=key), "x")


def test_all_tables_of_a_file_have_room_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_ENTRIES", 5000)
    small = table("32@0x64@0")
    assert len(loads(Tables, text(small, small), "x")) == 2
    assert len(loads(Tables, text(small, small), "x")) == 2
    with pytest.raises(DataError, match="too large"):
        loads(Tables, text(small, small, small), "x")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e999"])
def test_a_number_beyond_all_floats_is_refused(number: str) -> None:
    split = f'{{"dimensions":[0,-1,-1],"thresholds":[{number}]}}'
    with pytest.raises(DataError, match="finite"):
        loads(Certificate, f'{{"kind":"crown","split":{split}}}', "x")
