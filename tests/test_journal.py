"""The journal: every record or none, one run, one process, and nothing of a stranger's."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paoding_verify import journal
from paoding_verify.errors import JournalError
from paoding_verify.journal import MAGIC, Journal, kept_in
from paoding_verify.memo import Record
from tests.interruptions import Stopped

RUN = {"seed": "0", "network": "abc"}
RECORDS: list[tuple[str, Record]] = [
    ("first", {"text": "ünï\n\ud800", "number": 1, "none": None, "list": [1.5, [True]], "state": 2**127}),
    ("second", {"weights": [np.arange(6, dtype="<f4").reshape(2, 3), np.array(-0.0)], "sub": {"x": np.zeros((0, 3))}}),
    ("third", {"odd": [float("inf"), float("-inf")], "exact": 0.1 + 0.2, "bytes": np.arange(5, dtype=np.uint8)}),
    ("first", {"text": "later"}),
]  # fmt: skip


def write(path: Path, records: list[tuple[str, Record]] = RECORDS, **options: Any) -> bytes:
    """What a run that was stopped after these records leaves behind."""
    with suppress(Stopped), kept_in(path, RUN, **{"resume": False, **options}) as kept:
        for key, record in records:
            kept.store(key, record)
        raise Stopped
    return path.read_bytes()


def read(path: Path) -> dict[str, Record | None]:
    found: dict[str, Record | None] = {}
    with suppress(Stopped), kept_in(path, RUN, resume=True) as kept:
        found = {key: kept.recall(key) for key, _ in RECORDS}
        raise Stopped
    return found


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_records_come_back_exactly_and_the_last_of_a_key_counts(tmp_path: Path) -> None:
    write(tmp_path / "j")
    assert same(read(tmp_path / "j"), dict(RECORDS))


def test_a_run_that_ends_leaves_no_journal(tmp_path: Path) -> None:
    with kept_in(tmp_path / "j", RUN, resume=False) as kept:
        kept.store("a", {})
        assert (tmp_path / "j").is_file()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_before_anything_is_finished_leaves_no_journal(tmp_path: Path) -> None:
    assert len(RECORDS) == 4
    with pytest.raises(Stopped), kept_in(tmp_path / "j", RUN, resume=False):
        raise Stopped
    assert list(tmp_path.iterdir()) == []


def test_a_torn_end_costs_only_the_record_that_it_tears(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = write(path)
    ends = [len(write(tmp_path / f"k{n}", RECORDS[:n])) for n in range(1, 5)]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        path.chmod(0o600)
        left = sum(end <= cut for end in ends)
        assert same(read(path), {key: None for key, _ in RECORDS} | dict(RECORDS[:left])), cut
        assert not left or path.stat().st_size == ends[left - 1]


def test_a_damaged_end_is_cut_off_too(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = write(path)
    third = len(write(tmp_path / "k", RECORDS[:2]))
    flipped = bytearray(whole)
    flipped[third + 120] ^= 1
    for tail in (b"\0" * (len(whole) - third), bytes(flipped[third:]), b"99999999999999 " + b"0" * 64 + b"\n"):
        path.write_bytes(whole[:third] + tail)
        found = read(path)
        assert same([found["first"], found["second"], found["third"]], [RECORDS[0][1], RECORDS[1][1], None])
        assert path.stat().st_size == third


def test_going_on_after_a_torn_end_loses_nothing_later(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(write(path)[:-7])
    write(path, [("fourth", {"x": 1})], resume=True)
    with kept_in(path, RUN, resume=True) as kept:
        assert kept.recall("fourth") == {"x": 1}
        assert len(kept) == 4


def test_no_record_can_be_moved_left_out_or_taken_from_another_run(tmp_path: Path) -> None:
    path = tmp_path / "j"
    records = [("zero", {}), *RECORDS]
    ends = [len(write(tmp_path / f"k{n}", records[:n])) for n in range(1, 5)]
    whole = write(path, records)
    parts = [whole[a:b] for a, b in zip(ends, [*ends[1:], len(whole)], strict=True)]
    for order in ([1, 0, 2, 3], [1, 2, 3], [3], [2, 1]):
        path.write_bytes(whole[: ends[0]] + b"".join(parts[k] for k in order))
        assert all(value is None for value in read(path).values()), order


def test_an_interrupted_run_is_lost_only_on_purpose(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path)
    with pytest.raises(JournalError, match="3 finished parts of an interrupted run: go on with --resume"):
        write(path)
    assert read(path)["third"] is not None
    write(path, [("a", {})], anew=True)
    assert read(path)["third"] is None


def test_the_journal_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "j"
    before = write(path)
    other = {"network": "abd", "seed": "0", "new": "1"}
    with (
        pytest.raises(JournalError, match=r"another run, with other network, new: "),
        kept_in(path, other, resume=True),
    ):
        pass
    assert path.read_bytes() == before


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.onnx.journal"
    code = f"""
from pathlib import Path
from paoding_verify.journal import kept_in
with kept_in(Path({str(path)!r}), {RUN!r}, resume=True, anew=True): pass
"""
    with kept_in(path, RUN, resume=False) as kept:
        kept.store("a", {"x": 1})
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another process is working on out.onnx" in done.stderr
        kept.store("b", {"x": 2})
        assert kept.recall("a") == {"x": 1}


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, room = tmp_path / "j", [700]
    pwrite = os.pwrite

    def limited(descriptor: int, data: bytes, offset: int) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = pwrite(descriptor, data[: min(len(data), room[0], 100)], offset)
        room[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", limited)
    with pytest.raises(JournalError, match="No space left on device; what was finished"):
        write(path, RECORDS * 3)
    room[0] = 10**6
    assert same(read(path)["first"], RECORDS[0][1])


def forged(payload: bytes) -> bytes:
    """A journal of this run whose second record is `payload`, with digests that fit."""
    first = json.dumps({"key": "identity", "value": RUN, "arrays": []}).encode() + b"\n"
    one = hashlib.sha256(first).hexdigest()
    two = hashlib.sha256(one.encode() + payload).hexdigest()
    return MAGIC + b"".join(b"%d %s\n%s\n" % (len(p), d.encode(), p) for p, d in ((first, one), (payload, two)))


def record(value: object, arrays: object, tail: bytes = b"") -> bytes:
    return json.dumps({"key": "first", "value": value, "arrays": arrays}).encode() + b"\n" + tail


FORGERIES = {
    "no record": b"[]\n",
    "no JSON": b"{\n",
    "no line": b"{}",
    "deep": b"[" * 100_000 + b"\n",
    "key is a number": b'{"key": 1, "value": {}, "arrays": []}\n',
    "value is a list": record([], []),
    "objects": record({"a": {"#": 0}}, [["|O", [1]]], b"\0" * 8),
    "huge": record({"a": {"#": 0}}, [["<f8", [2**40, 2**20]]], b"\0" * 8),
    "many empty": record({"a": {"#": 0}}, [["<f8", [2**62, 2**62, 0]]]),
    "negative": record({"a": {"#": 0}}, [["<f8", [-1, -1]]], b"\0" * 8),
    "text as shape": record({"a": {"#": 0}}, [["<f8", "12"]], b"\0" * 8),
    "bytes left": record({}, [], b"\0"),
    "no such array": record({"a": {"#": 1}}, [["<f8", [1]]], b"\0" * 8),
    "array by text": record({"a": {"#": "0"}}, [["<f8", [1]]], b"\0" * 8),
    "arrays are a number": record({}, 3),
}


@pytest.mark.parametrize("name", list(FORGERIES))
def test_forged_records_are_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(forged(FORGERIES[name]))
    path.chmod(0o600)
    with pytest.raises(JournalError, match="is damaged"), kept_in(path, RUN, resume=True) as kept:
        kept.recall("first")


def test_a_forgery_that_is_none_is_read(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(forged(record({"a": {"#": 0}}, [["<f8", [1]]], np.array([2.5]).tobytes())))
    path.chmod(0o600)
    with kept_in(path, RUN, resume=True) as kept:
        assert same(kept.recall("first"), {"a": np.array([2.5])})


def test_other_files_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("my notes")
    (tmp_path / "link").symlink_to(tmp_path / "text")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name, words in {
        "text": "no journal of this version", "link": "cannot open", "fifo": "no plain file", "folder": "cannot open",
    }.items():  # fmt: skip
        with pytest.raises(JournalError, match=words), kept_in(tmp_path / name, RUN, resume=True, anew=True):
            pass
    assert (tmp_path / "text").read_text() == "my notes"


def test_a_journal_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    write(tmp_path / "j")
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600
    (tmp_path / "j").chmod(0o620)
    with pytest.raises(JournalError, match="cannot be trusted"), kept_in(tmp_path / "j", RUN, resume=True):
        pass


def test_what_is_too_long_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_RECORD_BYTES", 1000)
    with kept_in(tmp_path / "j", RUN, resume=False) as kept:
        kept.store("long", {"x": np.zeros(200)})
        kept.store("short", {"x": np.zeros(10)})
        assert isinstance(kept, Journal)
        assert kept.recall("long") is None
        assert same(kept.recall("short"), {"x": np.zeros(10)})


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([1.0], ">f8"), {"#": 1}, object()])
def test_what_cannot_come_back_exactly_is_not_kept(value: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError), kept_in(tmp_path / "j", RUN, resume=False) as kept:
        kept.store("a", {"x": value})
