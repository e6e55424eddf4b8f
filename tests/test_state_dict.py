"""Files of weights: data only, complete, and never larger than they are."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from paoding_verify.errors import ConfigError, ModelError
from paoding_verify.network.limits import LoadLimits
from paoding_verify.network.state_dict import load_state_dict


def tiny() -> nn.Module:
    return nn.Linear(4, 3)


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"weight": torch.randn(3, 4, generator=generator), "bias": torch.randn(3, generator=generator)}


def saved(path: Path, content: Any, *, legacy: bool = False) -> Path:
    torch.save(content, path / "model.pth", _use_new_zipfile_serialization=not legacy)
    return path / "model.pth"


def assert_loaded(module: nn.Module) -> None:
    assert not module.training
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, weights()[name], rtol=0, atol=0)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        OrderedDict,
        lambda state: {"state_dict": [state], "acc": 0.9},
        lambda state: {"model": {"state_dict": state}, "epoch": 3},
        lambda state: [state],
    ],
)
def test_weights_and_their_containers(tmp_path: Path, wrap: Callable[[Any], Any], legacy: bool) -> None:
    assert_loaded(load_state_dict(saved(tmp_path, wrap(weights()), legacy=legacy), tiny))


def test_safetensors(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "model.safetensors")
    assert_loaded(load_state_dict(tmp_path / "model.safetensors", tiny))
    good = (tmp_path / "model.safetensors").read_bytes()
    for bad in (b"", good[:40], good[:-1], b"\xff" * 8 + good[8:], good.replace(b'"F32"', b'"XXX"')):
        (tmp_path / "bad.safetensors").write_bytes(bad)
        with pytest.raises(ModelError, match="no safetensors file"):
            load_state_dict(tmp_path / "bad.safetensors", tiny)


def test_architectures(tmp_path: Path) -> None:
    path = saved(tmp_path, weights())
    (tmp_path / "zoo.py").write_text(
        "from dataclasses import dataclass\nfrom torch import nn\n"
        "@dataclass\nclass Sizes:\n    inputs: int = 4\n"
        "def make():\n    return nn.Linear(Sizes().inputs, 3)\n"
        "def number():\n    return 3\ndef broken():\n    raise KeyError('x')\nvalue = 3\n"
    )
    given = tiny()
    before = given.state_dict()["weight"].clone()
    for arch in (f"{tmp_path / 'zoo.py'}:make", "tests.test_state_dict:tiny", tiny, given):
        assert_loaded(load_state_dict(path, arch))
    torch.testing.assert_close(given.state_dict()["weight"], before)
    zoo = tmp_path / "zoo.py"
    cases = [
        ("zoo", "must be written"),
        (":make", "must be written"),
        ("no_such_module:make", "cannot be imported"),
        (f"{tmp_path / 'none.py'}:make", "cannot be imported"),
        (f"{zoo}:absent", "no function"),
        (f"{zoo}:value", "no function"),
        (f"{zoo}:number", "gave a int"),
    ]
    for arch, message in cases:
        with pytest.raises(ConfigError, match=message):
            load_state_dict(path, arch)
    with pytest.raises(ModelError, match="failed: KeyError"):
        load_state_dict(path, f"{tmp_path / 'zoo.py'}:broken")


def test_names_and_shapes_must_match(tmp_path: Path) -> None:
    weight, bias = weights()["weight"], weights()["bias"]
    cases = [
        ({"weight": weight}, "missing bias; unexpected none"),
        ({"weight": weight, "bias": bias, "extra\n": bias}, r"missing none; unexpected extra\?"),
        ({"module.weight": weight, "module.bias": bias}, "missing weight, bias; unexpected module.weight, module.bias"),
        ({f"w{k}": bias for k in range(20)}, "and 12 more"),
        ({"weight": weight.t().contiguous(), "bias": bias}, r"\(4, 3\), Linear needs torch.float32 \(3, 4\)"),
        ({"weight": weight.double(), "bias": bias}, "'weight' is torch.float64"),
        ({"epoch": 3}, "holds no state dict"),
        ({}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        (weight, "holds no state dict"),
        ({"weight": weight, "bias": 3.0}, "holds no state dict"),
    ]
    for content, message in cases:
        with pytest.raises(ModelError, match=message):
            load_state_dict(saved(tmp_path, content), tiny)


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_objects_are_never_made(tmp_path: Path, legacy: bool) -> None:
    trap = tmp_path / "executed"
    for content in (tiny(), {"state_dict": weights(), "args": Bomb(trap)}, Bomb(trap)):
        path = saved(tmp_path, content, legacy=legacy)
        with pytest.raises(ModelError, match=r"holds a pickled module .* save the state dict instead"):
            load_state_dict(path, tiny)
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Bomb(trap)))
    with pytest.raises(ModelError, match=r"raw\.pth"):
        load_state_dict(tmp_path / "raw.pth", tiny)
    assert not trap.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_that_claim_more_than_they_hold(tmp_path: Path, legacy: bool) -> None:
    claimed = torch.zeros(1).as_strided((10**6, 1_600_000), (0, 0))
    path = saved(tmp_path, {"weight": claimed, "bias": torch.zeros(3)}, legacy=legacy)
    assert path.stat().st_size < 5000
    with pytest.raises(ModelError, match="claims 1600000000000 numbers and holds 1"):
        load_state_dict(path, tiny)


def repacked(path: Path, edit: Callable[[bytes], bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(path.with_name("bad.pth"), "w", method) as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, edit(content) if info.filename.endswith("data.pkl") else content)
    return path.with_name("bad.pth")


def test_storages_that_claim_more_than_the_file_has(tmp_path: Path) -> None:
    path = saved(tmp_path, weights())
    storage, shape = b"K\x0ct", b"K\x03K\x04\x86"  # 12 numbers; (3, 4)

    def edit(content: bytes) -> bytes:
        assert content.count(storage) == content.count(shape) == 1
        content = content.replace(storage, b"J\x00\x00\x00\x10t")
        return content.replace(shape, b"J\x00\x00\x00\x01K\x04\x86")

    with pytest.raises(ModelError, match="cannot be read as weights"):
        load_state_dict(repacked(path, edit), tiny)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, weights())
    with pytest.raises(ModelError, match="the limit is 100"):
        load_state_dict(path, tiny, LoadLimits(max_model_bytes=100))
    with pytest.raises(ModelError, match="at most 5 are read"):
        load_state_dict(path, tiny, LoadLimits(max_elements=5))
    with pytest.raises(ModelError, match="compressed members"):
        load_state_dict(repacked(path, bytes, zipfile.ZIP_DEFLATED), tiny)
    sparse = {**weights(), "weight": weights()["weight"].to_sparse()}
    with pytest.raises(ModelError, match="'weight' is no plain tensor"):
        load_state_dict(saved(tmp_path, sparse), tiny)
    with pytest.raises(ModelError, match="'weight' is no plain tensor"):
        load_state_dict(saved(tmp_path, {**weights(), "weight": torch.zeros(3, 4, device="meta")}), tiny)
    with pytest.raises(ModelError, match="there is no file"):
        load_state_dict(tmp_path / "absent.pth", tiny)
    for content in (b"", b"hello", b"PK\x03\x04hello", b"\x80\x02."):
        (tmp_path / "bad.pth").write_bytes(content)
        with pytest.raises(ModelError, match=r"bad\.pth"):
            load_state_dict(tmp_path / "bad.pth", tiny)


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_bytes_give_a_module_or_a_model_error(tmp_path: Path, legacy: bool) -> None:
    buffer = io.BytesIO()
    torch.save(weights(), buffer, _use_new_zipfile_serialization=not legacy)
    generator, path, refused = np.random.default_rng(0), tmp_path / "bad.pth", 0
    for _ in range(200):
        content = bytearray(buffer.getvalue())
        content[generator.integers(len(content))] = generator.integers(256)
        path.write_bytes(content)
        try:
            assert isinstance(load_state_dict(path, tiny), nn.Linear)
        except ModelError:
            refused += 1
    assert refused > 30
