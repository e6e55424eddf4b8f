"""Archives that other programs would unpack in another way than the checker reads them."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from paoding_verify.checker.members import MAX_MEMBER_BYTES
from paoding_verify.checker.zipped import archived
from paoding_verify.errors import DataError

FILES = {"audit.json": b"{}" * 500, "models/original.onnx": bytes(range(256)) * 9, "timings.json": b""}
Names = dict[str, bytes]


def packed(names: Names, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    path = Path("packed.zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return path.read_bytes()


def read(data: bytes) -> tuple[Names, list[str]]:
    """What is found in an archive, and what is odd about it."""
    Path("read.zip").write_bytes(data)
    problems: list[str] = []
    found = {name: get() for name, get in archived(Path("read.zip"), problems, MAX_MEMBER_BYTES).items()}
    return found, problems


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", ["", "out/", "an audit (2)/"])
def test_honest_archives_are_read(method: int, top: str) -> None:
    names = {top + name: data for name, data in FILES.items()}
    assert read(packed(names, method)) == (FILES, [])


def test_archives_written_into_a_pipe_are_read() -> None:
    """Their sizes follow the data."""
    code = "import sys, zipfile, ast\nwith zipfile.ZipFile(sys.stdout.buffer, 'w', 8) as file:\n"
    code += "    for name, data in ast.literal_eval(sys.argv[1]).items(): file.writestr(name, data)"
    done = subprocess.run([sys.executable, "-c", code, repr(FILES)], capture_output=True, check=True)
    assert struct.unpack_from("<H", done.stdout, 6)[0] & 8
    assert read(done.stdout) == (FILES, [])


def test_archives_of_other_programs_are_read() -> None:
    for name, data in FILES.items():
        Path("out", name).parent.mkdir(parents=True, exist_ok=True)
        Path("out", name).write_bytes(data)
    program = shutil.which("zip")
    if program is None:
        pytest.skip("zip is not installed")
    subprocess.run([program, "-qr", "other.zip", "out"], check=True)
    assert read(Path("other.zip").read_bytes()) == (FILES, [])


def in_front(data: bytes) -> bytes:
    return b"#!/bin/sh\n" + data


def behind(data: bytes) -> bytes:
    return data + b"more"


def commented(data: bytes) -> bytes:
    return data[:-2] + struct.pack("<H", 4) + b"more"


def between(data: bytes) -> bytes:
    """A whole member that the directory does not name, in front of it."""
    start = struct.unpack_from("<L", data, len(data) - 6)[0]
    hidden = packed({"evil.exe": b"evil"}, zipfile.ZIP_STORED)[: 30 + 8 + 4]
    return data[:start] + hidden + data[start:-6] + struct.pack("<L", start + len(hidden)) + data[-2:]


def renamed(data: bytes) -> bytes:
    """The header in front of the data has another name than the directory."""
    return data.replace(b"audit.json", b"other.json", 1)


def resized(data: bytes) -> bytes:
    """The header in front of the data has another size than the directory."""
    return data[:22] + struct.pack("<L", 7) + data[26:]


def twice(data: bytes) -> bytes:
    Path("twice.zip").write_bytes(data)
    with zipfile.ZipFile("twice.zip", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("audit.json", b"[]")
    return Path("twice.zip").read_bytes()


def with_entry(name: str, mode: int, content: bytes = b"") -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        Path("more.zip").write_bytes(data)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        with zipfile.ZipFile("more.zip", "a") as archive:
            archive.writestr(info, content)
        return Path("more.zip").read_bytes()

    return change


@pytest.mark.parametrize(
    "change",
    [
        in_front, behind, commented, between, renamed, resized, twice, with_entry("link", 0o120777, b"/etc/passwd"),
        with_entry("models/", 0o120777, b"/etc"), with_entry("models/", 0o40755, b"content"), with_entry("p", 0o10644),
    ],
)  # fmt: skip
def test_archives_that_may_be_read_in_two_ways_are_refused(change: Callable[[bytes], bytes]) -> None:
    try:
        problems = read(change(packed(FILES)))[1]
    except DataError:
        return
    assert problems


def test_what_is_packed_ends_where_its_size_says() -> None:
    """Other programs unpack all of a stream whose first part is what was promised."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    longer = stream.compress(FILES["audit.json"] + b"more") + stream.flush()
    short = {"audit.json": longer}
    data = bytearray(packed(short, zipfile.ZIP_STORED))
    directory = data.index(b"PK\x01\x02")
    for base in (8, directory + 10):  # method, then time and date, then checksum, packed size and size
        struct.pack_into("<H", data, base, zipfile.ZIP_DEFLATED)
        sizes = zlib.crc32(FILES["audit.json"]), len(longer), len(FILES["audit.json"])
        struct.pack_into("<LLL", data, base + 6, *sizes)
    Path("read.zip").write_bytes(data)
    with zipfile.ZipFile("read.zip") as archive:
        assert archive.read("audit.json") == FILES["audit.json"]
    assert read(bytes(data)) == ({"audit.json": b""}, [])


@pytest.mark.parametrize("top", ["../", "/", "./", "C:/", "..\\/"])
def test_names_that_leave_the_folder_stay_what_they_are(top: str) -> None:
    found, _ = read(packed({top + name: data for name, data in FILES.items()}))
    assert not found.keys() & FILES.keys()


def test_unusual_packing_and_bombs_are_refused() -> None:
    assert read(packed(FILES, zipfile.ZIP_BZIP2))[0]["audit.json"] == b""
    Path("bomb.zip").write_bytes(packed({"audit.json": bytes(3 << 20)}))
    with pytest.raises(DataError, match="would unpack to more than 2 MiB"):
        archived(Path("bomb.zip"), [], 2 << 20)
