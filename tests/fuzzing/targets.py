"""The targets: each takes bytes and lets nothing through but a clear refusal (InputError) or a value that holds."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from paoding_verify.auditing.bundle import write
from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.policy import Policy
from paoding_verify.checker.bundle import check_bundle
from paoding_verify.data import read_dataset
from paoding_verify.errors import InputError
from paoding_verify.journal import Journal, kept_in
from paoding_verify.network.load import load_network
from paoding_verify.network.onnx_in import read_onnx
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.vnnlib import read_vnnlib
from paoding_verify.vnnlib_pair import read_pair_vnnlib
from tests.networks import conv_net, dense_net, pooled_net, residual_net

__all__ = ["TARGETS", "Target"]

SPEC = """; six inputs, four outputs
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (>= X_0 -0.5)) (assert (<= X_0 0.5))
(assert (or (and (>= X_1 0.0) (<= X_1 1e-1)) (and (>= X_1 2) (<= X_1 3))))
(assert (or (and (>= Y_0 Y_1) (<= Y_1 3.5)) (> (+ (* 2.0 Y_0) Y_1) 1)))
"""
PAIR = """(vnnlib-version <2.0>)
(declare-network f (declare-input X real [2]) (declare-output Y real [2]))
(declare-network g (equal-to f) (declare-input Z real [2]) (declare-output W real [2]))
(assert (== X[0] Z[0])) (assert (== X[1] Z[1]))
(assert (>= X[0] -0.5)) (assert (<= X[0] 0.5)) (assert (>= X[1] -0.5)) (assert (<= X[1] 0.5))
(assert (or (and (> Y[0] Y[1]) (< W[0] W[1])) (< Y[1] W[1])))
"""
CONFIG = (
    'eps = [0.01, 0.03]\nsamples = 40\ndomain = [0.0, 1.0]\nseed = 0\nmethod = "obs"\ntimeout_s = 20\ndistil = true\n'
)
POLICY = (
    'min_certified_accuracy = { "0.01" = 0.9, "0.02" = 0.7 }\nmax_natural_accuracy_drop = 0.02\n'
    'statistical_level = 0.95\nrequired_semantics = "float32"\n'
)


@dataclass(frozen=True)
class Target:
    """One parser, or one that writes and reads."""

    seeds: Callable[[], list[bytes]]
    """Inputs that are fine, to start from."""
    run: Callable[[bytes], None]
    """Raises exactly if something is wrong with the code."""
    words: tuple[bytes, ...] = ()
    """What mutations insert."""


@cache
def folder() -> Path:
    """A folder of this process."""
    place = tempfile.TemporaryDirectory(prefix="fuzzing-")
    _KEPT.append(place)
    return Path(place.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def by_path(name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    """A reader of files as a reader of bytes."""

    def run(data: bytes) -> None:
        path = folder() / name
        path.write_bytes(data)
        with suppress(InputError):
            read(path)

    return run


def nets() -> list[bytes]:
    return [to_onnx(make(1)) for make in (dense_net, conv_net, pooled_net, residual_net)]


def run_onnx(data: bytes) -> None:
    try:
        network = read_onnx(data)
    except InputError:
        return
    outputs = network.forward(np.zeros((1, *network.input_shape), dtype=np.float32))
    if outputs.shape != (1, network.num_outputs):
        raise AssertionError(f"outputs of shape {outputs.shape}")


def archives() -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, x=np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), y=np.arange(3))
        found.append(buffer.getvalue())
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6, dtype=np.uint8).reshape(2, 3))
    return [*found, buffer.getvalue()]


def run_toml(data: bytes) -> None:
    by_path("audit.toml", AuditConfig.load)(data)
    by_path("policy.toml", Policy.load)(data)


@cache
def bundle() -> tuple[Path, dict[str, bytes]]:
    """A bundle with a proof and a witness, and its members."""
    from tests.test_checker_bundle import make_single, witness_files

    result, files = make_single()
    from dataclasses import replace

    place = write(replace(result, files={**files, **witness_files(result.claims)}), folder() / "bundle")
    names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    return place, {name: (place / name).read_bytes() for name in names}


def bundle_seeds() -> list[bytes]:
    """A byte that names the member, and its content."""
    return [bytes([k]) + data for k, data in enumerate(bundle()[1].values()) if len(data) < 20_000]


def run_bundle(data: bytes) -> None:
    """One member is replaced, and the manifest says so: what it holds is read, not only its digest."""
    place, members = bundle()
    name = list(members)[data[0] % len(members)] if data else "audit.json"
    content = data[1:]
    changed = {name: content}
    if name != "manifest.json":
        manifest = json.loads(members["manifest.json"])
        manifest["members"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        changed["manifest.json"] = json.dumps(manifest).encode()
    try:
        for key, text in changed.items():
            (place / key).write_bytes(text)
        with suppress(InputError):
            report = check_bundle(place)
            if report.ok and (len(report.reproved), len(report.replayed)) != (1, 1):
                raise AssertionError(f"a bundle with another {name} passes without its claims")
    finally:
        for key in changed:
            (place / key).write_bytes(members[key])


def journal_seeds() -> list[bytes]:
    path = folder() / "seed.journal"
    with suppress(KeyError), kept_in(path, {"work": "same"}, resume=False, anew=True) as journal:
        journal.store("a", {"x": np.arange(3.0), "n": 1})
        journal.store("b", {"text": "t", "list": [1, None, True]})
        raise KeyError
    return [path.read_bytes()]


def run_journal(data: bytes) -> None:
    path = folder() / "run.journal"
    path.write_bytes(data)
    path.chmod(0o600)
    with suppress(InputError), kept_in(path, {"work": "same"}, resume=True) as journal:
        _use(journal)


def _use(journal: Journal) -> None:
    for key in ("a", "b"):
        journal.recall(key)
    journal.store("c", {"more": 1})


def run_round_trip(data: bytes) -> None:
    """A network made from the bytes survives being written and read: the same outputs, the same file again."""
    rng = np.random.default_rng(list(data[:16]) or [0])
    makers: list[Any] = [dense_net, conv_net, pooled_net, residual_net]
    network = makers[len(data) % 4](int(rng.integers(1 << 30)))
    text = to_onnx(network)
    again = read_onnx(text)
    x = rng.normal(size=(3, *network.input_shape)).astype(np.float32)
    if not np.allclose(network.forward(x), again.forward(x), rtol=1e-5, atol=1e-5):
        raise AssertionError("a network that was written and read gives other outputs")
    if to_onnx(again) != to_onnx(read_onnx(to_onnx(again))):
        raise AssertionError("a network that was read is written in another way each time")


def tensors() -> list[bytes]:
    import torch
    from safetensors.torch import save

    state = torch.nn.Linear(4, 3).state_dict()
    found = [b"S" + save(state)]
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=new)
        found.append(b"P" + buffer.getvalue())
    return found


def run_tensors(data: bytes) -> None:
    """The first byte says which kind of file it is."""
    import torch

    def read(path: Path) -> object:
        return load_network(path, arch=lambda: torch.nn.Linear(4, 3), input_shape=(4,))

    by_path("w.safetensors" if data[:1] == b"S" else "w.pth", read)(data[1:])


@cache
def exported() -> bytes:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).eval()
    path = folder() / "seed.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(1, 4),)), path)
    return path.read_bytes()


def pt2_seeds() -> list[bytes]:
    """Member names and contents, so that mutations reach what is read: the archive itself is one for `npz`."""
    with zipfile.ZipFile(io.BytesIO(exported())) as archive:
        names = [info.filename for info in archive.infolist()]
        return [bytes([k]) + archive.read(name) for k, name in enumerate(names)]


def run_pt2(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(exported())) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = list(members)[data[0] % len(members)] if data else next(iter(members))
    path = folder() / "run.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for key, content in {**members, name: data[1:]}.items():
            archive.writestr(key, content)
    with suppress(InputError):
        load_network(path)


F, G = dense_net(0, (2, 3, 2)), dense_net(1, (2, 3, 2))
TARGETS = {
    "onnx": Target(nets, run_onnx, (b"\x08", b"\x12\x00", b"\xff" * 9 + b"\x01", b"Conv", b"MatMul", b"pads")),
    "vnnlib": Target(
        lambda: [SPEC.encode()], by_path("p.vnnlib", lambda path: read_vnnlib(path, (2,), 2)),
        (b"(assert ", b"(or ", b"(and ", b"X_0", b"Y_1", b"1e999", b")", b"(", b"(* ", b"-", b"<="),
    ),
    "vnnlib-pair": Target(
        lambda: [PAIR.encode()], by_path("q.vnnlib", lambda path: read_pair_vnnlib(path, F, G)),
        (b"(assert ", b"(or ", b"X[0]", b"W[1]", b"(equal-to f)", b")", b"(", b"(+ ", b"1e-999", b"<2.0>"),
    ),
    "npz": Target(
        archives, by_path("d.npz", read_dataset),
        (b"PK\x03\x04", b"PK\x01\x02", b"\x93NUMPY\x01\x00", b"'<f4'", b"x.npy"),
    ),
    "toml": Target(
        lambda: [CONFIG.encode(), POLICY.encode()], run_toml,
        (b"[", b"]", b"=", b"nan", b"inf", b"1e999", b'"""', b"{", b"'", b"1979-05-27", b"0x7fffffffffffffff"),
    ),
    "bundle": Target(
        bundle_seeds, run_bundle, (b'"CERTIFIED"', b'"VIOLATED"', b"null", b"1e999", b"NaN", b"[]", b"{}")
    ),
    "journal": Target(journal_seeds, run_journal, (b"\n", b"0", b'"#"', b"[]", b"999999999999999")),
    "round-trip": Target(lambda: [bytes(range(k)) for k in range(1, 9)], run_round_trip),
    "weights": Target(tensors, run_tensors, (b"\x80\x02", b"c__builtin__\neval\n", b"R.", b'"F32"', b"data_offsets")),
    "pt2": Target(pt2_seeds, run_pt2, (b"null", b"[]", b"{}", b"1e999", b"-1", b'"as_tensor"', b'"as_int"')),
}  # fmt: skip
"""Format -> how it is fuzzed."""
