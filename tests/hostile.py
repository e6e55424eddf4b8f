"""Files of people who want to be certified wrongly: a command that reads one, and the one sentence that refuses it."""

from __future__ import annotations

import json
import os
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from paoding_verify.network.onnx_out import to_onnx
from tests.networks import dense_net
from tests.test_checker_bundle import make_single
from tests.test_checker_bundle import write as write_bundle
from tests.test_hostile_onnx import CASES as ONNX
from tests.test_hostile_onnx import good

__all__ = ["FORMATS", "Case", "prepare"]

Case = tuple[list[str], str]
"""Arguments of the command line, and a pattern that its one sentence matches."""
Files = dict[str, tuple[bytes | None, str]]
ARCH = "import torch\n\n\ndef make():\n    return torch.nn.Linear(6, 4)\n"


class Bomb:
    """Unpickling it creates the file `executed` in the working folder."""

    def __reduce__(self) -> tuple[object, ...]:
        return open, ("executed", "w")


def prepare(folder: Path) -> None:
    """Good files, for the others to be beside."""
    (folder / "net.onnx").write_bytes(to_onnx(dense_net(3)))
    np.savez(folder / "data.npz", x=np.zeros((2, 6), dtype=np.float32))
    (folder / "arch.py").write_text(ARCH)
    (folder / "secret.bin").write_bytes(bytes(96))


def onnx_files(folder: Path) -> list[Case]:
    inside = folder / "models"
    inside.mkdir()
    (inside / "short.bin").write_bytes(bytes(10))
    (inside / "full.bin").write_bytes(bytes(96))
    (inside / "link.bin").symlink_to(folder / "secret.bin")
    (inside / "linked").symlink_to(folder)
    found = []
    for number, (change, message) in enumerate(ONNX.values()):
        model = good()
        change(model)
        path = inside / f"{number}.onnx"
        path.write_bytes(model.SerializeToString())
        found.append((["certify", str(path), "--data", "data.npz"], message))
    for name, data in (("empty", b""), ("noise", os.urandom(4096)), ("deep", b"\x3a" * 4096)):
        (inside / f"{name}.onnx").write_bytes(data)
        found.append((["certify", f"models/{name}.onnx", "--data", "data.npz"], "not an ONNX file|ONNX"))
    with (inside / "sparse.onnx").open("wb") as file:
        file.truncate(3 << 30)
    found.append((["certify", "models/sparse.onnx", "--data", "data.npz"], "has 3221225472 bytes; the limit is"))
    found.append((["certify", "net.onnx", "--data", "data.npz", "--max-nodes", "3"], "nodes; the limit is 3"))
    return found


def weight_files(folder: Path) -> list[Case]:
    def pth(name: str, content: object, *, zipped: bool = True) -> str:
        torch.save(content, folder / name, _use_new_zipfile_serialization=zipped)
        return name

    good_state = torch.nn.Linear(6, 4).state_dict()
    spread = torch.zeros(1).as_strided((10**6, 1_600_000), (0, 0))
    names = [
        (pth("bomb.pth", Bomb()), "save the state dict instead"),
        (pth("legacy-bomb.pth", {"a": Bomb()}, zipped=False), "save the state dict instead"),
        (pth("stride.pth", {"weight": spread, "bias": torch.zeros(4)}), "claims 1600000000000 numbers and holds 1"),
        (pth("old-stride.pth", {"weight": spread}, zipped=False), "claims 1600000000000 numbers and holds 1"),
        (pth("shape.pth", {"weight": torch.zeros(2, 2), "bias": torch.zeros(4)}), "shape"),
        (pth("names.pth", {"other": torch.zeros(2, 2)}), "other|weight"),
        (pth("list.pth", [1, 2]), "list"),
        (pth("nan.pth", {"weight": torch.full((4, 6), float("nan")), "bias": torch.zeros(4)}), "finite|NaN"),
        (pth("complex.pth", {**good_state, "bias": torch.zeros(4, dtype=torch.complex64)}), "complex"),
    ]
    save_file(good_state, folder / "good.safetensors")
    data = (folder / "good.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header["weight"]["shape"] = [10**6, 10**6]
    text = json.dumps(header).encode()
    for name, content in (
        ("claims", struct.pack("<Q", len(text)) + text + data[8 + size :]),
        ("header", struct.pack("<Q", 2**62) + data[8:]),
        ("noise", os.urandom(500)),
        ("empty", b""),
    ):
        (folder / f"{name}.safetensors").write_bytes(content)
        names.append((f"{name}.safetensors", rf"{name}\.safetensors"))
    arch = ["--arch", "arch.py:make", "--input-shape", "6", "--data", "data.npz"]
    return [(["certify", name, *arch], message) for name, message in names]


def pt2_files(folder: Path) -> list[Case]:
    module = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, (torch.zeros(1, 6),)), folder / "good.pt2")
    with zipfile.ZipFile(folder / "good.pt2") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    (program,) = (name for name in members if name.endswith("models/model.json"))
    (weights,) = (name for name in members if name.endswith("model_weights_config.json"))
    claim = json.loads(members[weights])
    entry = next(iter(claim["config"].values()))
    entry["tensor_meta"].update(sizes=[{"as_int": 10**9}, {"as_int": 10**6}], strides=[{"as_int": 0}] * 2)
    pickled = json.loads(members[weights])
    next(iter(pickled["config"].values()))["use_pickle"] = True
    cases: list[tuple[str, dict[str, bytes], str]] = [
        ("claim", {weights: json.dumps(claim).encode()}, "claims 1000000000000000 numbers"),
        ("pickled", {weights: json.dumps(pickled).encode()}, "pickled"),
        ("nested", {program: b"[" * 200_000}, r"nested\.pt2"),
        ("no-json", {program: b"\x80\x04."}, r"no-json\.pt2"),
        ("bomb", {program: b" " * (60 << 20)}, "times its size"),
    ]
    found = []
    for name, changed, message in cases:
        with zipfile.ZipFile(folder / f"{name}.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
            for key, content in {**members, **changed}.items():
                archive.writestr(key, content)
        found.append((["certify", f"{name}.pt2", "--data", "data.npz"], message))
    (folder / "torn.pt2").write_bytes((folder / "good.pt2").read_bytes()[:-100])
    return [*found, (["certify", "torn.pt2", "--data", "data.npz"], r"torn\.pt2")]


def array_header(shape: str, kind: str = "'<f4'") -> bytes:
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def data_files(folder: Path) -> list[Case]:
    np.savez_compressed(folder / "bomb.npz", x=np.zeros((200, 1024, 1024), dtype=np.uint8))
    np.savez(folder / "objects.npz", x=np.array([Bomb(), None], dtype=object))
    np.savez(folder / "nan.npz", x=np.full((2, 6), np.nan, dtype=np.float32))
    np.savez(folder / "infinite.npz", x=np.full((2, 6), 1e300))
    np.savez(folder / "integers.npz", x=np.zeros((2, 6), dtype=np.int32))
    np.savez(folder / "empty.npz", x=np.zeros((0, 6), dtype=np.float32))
    np.savez(folder / "wide.npz", x=np.zeros((2, 7), dtype=np.float32))
    np.savez(folder / "labels.npz", x=np.zeros((2, 6), dtype=np.float32), y=np.array([0, 2**40]))
    raw: Files = {
        "claim.npy": (array_header("(1000000000000, 6)") + bytes(24), "claims 24000000000000 bytes"),
        "negative.npy": (array_header("(-1, 6)") + bytes(24), "natural numbers"),
        "structured.npy": (array_header("(1,)", "[('a', '<f4')]") + bytes(4), "no real number"),
        "code.npy": (array_header("(1, 6)", "__import__('os').abort()"), "header is damaged"),
        "noise.npz": (b"PK\x03\x04" + os.urandom(300), "damaged"),
        "torn.npz": ((folder / "data.npz").read_bytes()[:-40], "damaged"),
    }
    for name, (content, _) in raw.items():
        (folder / name).write_bytes(content or b"")
    messages = {
        "bomb.npz": "more than 200 times its size", "objects.npz": "never unpickled", "nan.npz": "NaN, infinity",
        "infinite.npz": "beyond float32", "integers.npz": "must be floats", "empty.npz": "at least one sample",
        "wide.npz": "the network takes", "labels.npz": "label 1099511627776",
        **{name: message for name, (_, message) in raw.items()},
    }  # fmt: skip
    found = [(["certify", "net.onnx", "--data", name], message) for name, message in messages.items()]
    found.append((["certify", "net.onnx", "--data", "data.npz", "--max-data-bytes", "10"], "the limit is 10"))
    return [*found, (["certify", "net.onnx", "--data", "."], "not a file")]


def specifications(folder: Path) -> list[Case]:
    names = "".join(f"(declare-const X_{k} Real)" for k in range(6))
    names += "".join(f"(declare-const Y_{k} Real)" for k in range(4))
    box = "".join(f"(assert (>= X_{k} 0))(assert (<= X_{k} 1))" for k in range(6))
    texts: Files = {
        "nested": (b"(" * 1_000_000, "nested deeper than 64"),
        "product": ((names + box + "(assert (or (>= Y_0 1) (<= Y_0 0)))" * 20_000).encode(), "normal form"),
        "number": ((names + box + f"(assert (>= Y_0 {'9' * 100_000}))").encode(), "too long or too large"),
        "power": ((names + box + "(assert (>= Y_0 1e999999999))").encode(), "too long or too large"),
        "squared": ((names + box + "(assert (>= (* Y_0 Y_0) 1))").encode(), "multiplies variables"),
        "unbounded": ((names + "(assert (>= Y_0 1))").encode(), "has no lower bound|has no upper bound|has no"),
        "inverted": ((names + box + "(assert (<= X_0 -1))(assert (>= Y_0 1))").encode(), "no input meets"),
        "binary": (b"\xff\xfe(", "no text file"),
        "open": ((names + box + '(assert "').encode(), "never closed"),
        "empty": (b"", "X_0"),
    }
    for name, (content, _) in texts.items():
        (folder / f"{name}.vnnlib").write_bytes(content or b"")
    found = [(["certify", "net.onnx", "--vnnlib", f"{name}.vnnlib"], words) for name, (_, words) in texts.items()]
    words = ["compare", "net.onnx", "net.onnx", "--vnnlib", "nested.vnnlib", "--max-spec-depth", "5"]
    return [*found, (words, "nested deeper than 5")]


def settings(folder: Path) -> list[Case]:
    texts = {
        "nested.toml": ("x = " + "[" * 100_000, "nested.toml"),
        "large.toml": ("#" * (2 << 20), "larger than 1048576 bytes"),
        "unknown.toml": ("pickle = true", "unknown key 'pickle'"),
        "twice.toml": ("seed = 1\nseed = 2", "cannot read the configuration"),
        "nan.toml": ("eps = nan", "finite"),
        "infinite.toml": ("eps = [inf]", "finite"),
        "text.toml": ('samples = "all"', "takes a whole number"),
        "huge.toml": ("seed = 999999999999999999999999999", "seed must be"),
        "digits.toml": ("seed = " + "9" * 100_000, "digits.toml"),
    }
    for name, (text, _) in texts.items():
        (folder / name).write_text(text)
    (folder / "binary.toml").write_bytes(b"\xff\xfe\x00")
    start = ["certify", "net.onnx", "--data", "data.npz", "--config"]
    found = [([*start, name], message) for name, (_, message) in texts.items()]
    found.append(([*start, "binary.toml"], "cannot read the configuration"))
    (folder / "policy.toml").write_text("min_certified_accuracy = { a = { b = 1 } }")
    policy = ["audit", "net.onnx", "--pruned", "net.onnx", "--data", "data.npz", "-o", "out", "--policy", "policy.toml"]
    return [*found, (policy, "policy")]


def bundles(folder: Path) -> list[Case]:
    from dataclasses import replace

    from paoding_verify.evidence.members import witness_files

    result, files = make_single()
    honest = write_bundle(folder / "honest", replace(result, files={}), {**files, **witness_files(result.claims)})
    found: list[Case] = []

    def bundle(name: str, message: str, spoil: Callable[[Path], object], *, code_5: bool = False) -> None:
        place = folder / name
        shutil.copytree(honest, place)
        spoil(place)
        found.append((["check", name], ("5" if code_5 else "") + message))

    bundle("no-manifest", "has no manifest.json", lambda place: (place / "manifest.json").unlink())
    bundle(
        "nested",
        "manifest.json is damaged",
        code_5=True,
        spoil=lambda place: (place / "manifest.json").write_text("[" * 100_000),
    )
    bundle(
        "members",
        "manifest.json is damaged",
        code_5=True,
        spoil=lambda place: (place / "manifest.json").write_text('{"members": 1}'),
    )
    bundle("listed", "named in the manifest", lambda place: (place / "certificates" / "extra").touch(), code_5=True)
    bundle("linked", "has no audit.json with the digest", linked, code_5=True)
    bundle("upwards", "not in the bundle", listed_outside, code_5=True)
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
    found.append((["check", "bundle.zip"], "5has no manifest.json"))
    (folder / "audit.json").write_text("[" * 100_000)
    found.append((["render", "audit.json", "-o", "r.html"], "audit.json"))
    (folder / "claims.json").write_text('{"claims": 1e400}')
    found.append((["render", "claims.json", "-o", "r.html"], "claims.json"))
    return found


def linked(place: Path) -> None:
    (place / "audit.json").unlink()
    (place / "audit.json").symlink_to(place.parent / "secret.bin")


def listed_outside(place: Path) -> None:
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["members"]["../secret.bin"] = {"sha256": "0" * 64, "bytes": 96}
    (place / "manifest.json").write_text(json.dumps(manifest))


def journals(folder: Path) -> list[Case]:
    command = ["certify", "net.onnx", "--data", "data.npz", "--resume", "-o"]
    (folder / "a.json.journal").write_bytes(b"\x80\x04pickle")
    (folder / "b.json.journal").symlink_to(folder / "secret.bin")
    (folder / "c.json.journal").mkdir()
    os.mkfifo(folder / "d.json.journal")
    (folder / "e.json.journal").touch()
    (folder / "e.json.journal").chmod(0o666)
    words = ("no journal of this version", "cannot open the journal", "cannot open the journal|no plain file",
             "no plain file", "others can write it")  # fmt: skip
    return [([*command, f"{name}.json"], text) for name, text in zip("abcde", words, strict=True)]


FORMATS: dict[str, Callable[[Path], list[Case]]] = {
    "onnx": onnx_files, "weights": weight_files, "pt2": pt2_files, "data": data_files, "vnnlib": specifications,
    "toml": settings, "bundle": bundles, "journal": journals,
}  # fmt: skip
"""Format -> what makes its files in a folder and says how they are refused. A message that starts with 5 belongs to
exit code 5, the others to 2."""
