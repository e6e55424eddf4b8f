"""Exported programs: read without torch, equal to the module, and files that mean harm are refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paoding_verify.errors import InputError, ModelError
from paoding_verify.network.graph import Shape
from paoding_verify.network.limits import LoadLimits
from paoding_verify.network.pt2 import load_pt2
from paoding_verify.network.torch_io import from_module
from tests.test_torch_io import assert_equal, convolutional, residual


def saved(module: nn.Module, shape: Shape, path: Path, *, batch: int = 2, dynamic: bool = True) -> Path:
    dimensions = ({0: torch.export.Dim("batch")},) if dynamic else None
    program = torch.export.export(module, (torch.zeros(batch, *shape),), dynamic_shapes=dimensions)
    torch.export.save(program, path / "model.pt2")
    return path / "model.pt2"


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("make", [convolutional, residual])
def test_exported_programs(tmp_path: Path, make: Callable[[], nn.Module], dynamic: bool) -> None:
    module = make()
    network = load_pt2(saved(module, (2, 8, 8), tmp_path, dynamic=dynamic))
    assert (network.name, network.input_shape) == ("model", (2, 8, 8))
    assert_equal(network, module, (2, 8, 8))


@pytest.mark.filterwarnings("ignore:No complete tensor found:UserWarning")  # torch's own, about the transposed weight
def test_exported_constants_and_sizes(tmp_path: Path) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.5]), persistent=False)
            self.scale, self.head = torch.tensor(3.0), nn.Linear(4, 2)
            self.head.weight = nn.Parameter(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).t())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.reshape(x.shape[0], 2, 2).flatten(1)
            return self.head((x - self.mean) * self.scale) - torch.tensor([1.0, 2.0])

    module = Shifted()
    assert_equal(load_pt2(saved(module, (4,), tmp_path)), module, (4,))
    assert_equal(load_pt2(saved(module, (4,), tmp_path, batch=1, dynamic=False)), module, (4,))
    assert_equal(from_module(module, (4,)), module, (4,))


def test_decomposed_program(tmp_path: Path) -> None:
    module = convolutional()
    program = torch.export.export(module, (torch.zeros(3, 2, 8, 8),))
    with pytest.warns(FutureWarning):  # torch's own, in its decompositions
        program = program.run_decompositions()
    torch.export.save(program, tmp_path / "core.pt2")
    assert_equal(load_pt2(tmp_path / "core.pt2"), module, (2, 8, 8))


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Contents of a good archive by member."""
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with zipfile.ZipFile(saved(module, (3,), tmp_path_factory.mktemp("pt2"))) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return path


def edited(members: dict[str, bytes], name: str, edit: Callable[[Any], None]) -> dict[str, bytes]:
    content = json.loads(members[name])
    edit(content)
    return {**members, name: json.dumps(content).encode()}


CONFIG = "data/weights/model_weights_config.json"


def entry(config: Any) -> Any:
    return config["config"]["0.weight"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: entry(c).update(use_pickle=True), "pickled"),
        (lambda c: entry(c)["tensor_meta"].update(dtype=8), r"impossible|holds 6|claims"),
        (lambda c: entry(c)["tensor_meta"].update(dtype=99), "unusual type"),
        (lambda c: entry(c)["tensor_meta"].update(sizes=[{"as_int": 10**9}, {"as_int": 10**6}],
                                                  strides=[{"as_int": 0}] * 2), "claims 1000000000000000 numbers"),
        (lambda c: entry(c)["tensor_meta"].update(strides=[{"as_int": 100}, {"as_int": 1}]), "beyond its data"),
        (lambda c: entry(c)["tensor_meta"].update(storage_offset={"as_int": 10}), "beyond its data"),
        (lambda c: entry(c)["tensor_meta"].update(storage_offset={"as_int": -1}), "impossible layout"),
        (lambda c: entry(c).update(path_name="../../../etc/passwd"), "lacks its member"),
        (lambda c: c["config"].pop("0.weight"), "no program"),
        (lambda c: c.pop("config"), "no program"),
    ],
)  # fmt: skip
def test_hostile_weights_are_refused(
    tmp_path: Path, members: dict[str, bytes], edit: Callable[[Any], None], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_pt2(packed(tmp_path / "bad.pt2", edited(members, CONFIG, edit)))


def test_nothing_is_unpickled(tmp_path: Path, members: dict[str, bytes]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    torch.save(Bomb(), tmp_path / "bomb")
    bomb = (tmp_path / "bomb").read_bytes()
    poisoned = {**members, "data/sample_inputs/model.pt": bomb, "data/aotinductor/model/x.so": b"\x7fELF"}
    assert load_pt2(packed(tmp_path / "model.pt2", poisoned)).num_outputs == 2
    assert not (tmp_path / "executed").exists()


def test_hostile_archives_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    model = "models/model.json"
    cases = [
        ({**members, "data/zeros": bytes(2**25)}, "more than 200 times"),
        ({k: v for k, v in members.items() if k != model}, "0 exported programs"),
        ({**members, "models/other.json": b"{}"}, "2 exported programs"),
        ({**members, model: b"[" * 100_000}, "no JSON"),
        ({**members, model: b"{}"}, "no program"),
        ({**members, "byteorder": b"big"}, "big-endian"),
    ]
    for content, message in cases:
        with pytest.raises(ModelError, match=message):
            load_pt2(packed(tmp_path / "bad.pt2", content, zipfile.ZIP_DEFLATED))
    good = packed(tmp_path / "good.pt2", members)
    for limits, message in (
        (LoadLimits(max_model_bytes=100), "the limit is 100"),
        (LoadLimits(max_nodes=1), "3 nodes"),
        (LoadLimits(max_macs=19), "20 multiply"),
    ):
        with pytest.raises(ModelError, match=message):
            load_pt2(good, limits)
    (tmp_path / "text.pt2").write_text("no zip")
    with pytest.raises(ModelError, match="damaged"):
        load_pt2(tmp_path / "text.pt2")


def scrambled(value: Any, generator: np.random.Generator) -> Any:
    """The JSON value with one random leaf or branch replaced."""
    if isinstance(value, (dict, list)) and value and generator.random() < 0.93:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[generator.integers(len(keys))]
        copy = value.copy()
        copy[key] = scrambled(value[key], generator)
        return copy
    odd = [None, -1, 0, 2**70, 1e300, "x", "p_0_weight", [], {}, [[]], {"as_int": 7}, True]
    return odd[generator.integers(len(odd))]


def test_scrambled_programs_give_a_network_or_an_input_error(tmp_path: Path, members: dict[str, bytes]) -> None:
    generator = np.random.default_rng(0)
    model, refused = "models/model.json", 0
    for k in range(200):
        content = json.loads(members[CONFIG if k % 2 else model])
        mixed = scrambled(content if k % 2 else content["graph_module"], generator)
        changed = {CONFIG: json.dumps(mixed)} if k % 2 else {model: json.dumps({**content, "graph_module": mixed})}
        files = {**members, **{name: text.encode() for name, text in changed.items()}}
        try:
            load_pt2(packed(tmp_path / "bad.pt2", files))
        except InputError:
            refused += 1
    assert refused > 60


def test_programs_are_read_without_torch(tmp_path: Path, members: dict[str, bytes]) -> None:
    code = (
        "import sys; from paoding_verify.network.pt2 import load_pt2; "
        "assert load_pt2(sys.argv[1]).num_outputs == 2; assert 'torch' not in sys.modules"
    )
    path = packed(tmp_path / "model.pt2", members)
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


@pytest.mark.parametrize("pad", [10**6, 2**40])
def test_windows_beyond_the_limits_are_refused(tmp_path: Path, pad: int) -> None:
    path = saved(nn.Sequential(nn.Conv2d(1, 1, 2, 2, 1), nn.Flatten()), (1, 4, 4), tmp_path)
    with zipfile.ZipFile(path) as archive:
        content = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}

    def edit(model: Any) -> None:
        inputs = model["graph_module"]["graph"]["nodes"][0]["inputs"]
        assert [i["name"] for i in inputs[-2:]] == ["stride", "padding"]
        for item in inputs[-2:]:
            item["arg"] = {"as_ints": [pad, pad]}

    with pytest.raises(ModelError, match="beyond the limits"):
        load_pt2(packed(tmp_path / "bad.pt2", edited(content, "models/model.json", edit)))


def test_constants_that_grow_are_refused(tmp_path: Path) -> None:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.ones(1, 30))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shift = self.shift
            for _ in range(10):
                shift = shift + 1
            return x + shift

    path = saved(Chain(), (30,), tmp_path)
    assert_equal(load_pt2(path), Chain(), (30,))
    with pytest.raises(ModelError, match="constants of more than 100 numbers"):
        load_pt2(path, LoadLimits(max_elements=100))


def test_weights_that_are_read_again_and_again_count_every_time(tmp_path: Path, members: dict[str, bytes]) -> None:
    def edit(model: Any) -> None:
        nodes = model["graph_module"]["graph"]["nodes"]
        first = json.loads(json.dumps(nodes[0]))
        for k in range(50):
            first["outputs"][0]["as_tensor"]["name"] = f"again{k}"
            nodes.append(json.loads(json.dumps(first)))

    path = packed(tmp_path / "bad.pt2", edited(members, "models/model.json", edit))
    with pytest.raises(ModelError, match="more than 500 parameters"):
        load_pt2(path, LoadLimits(max_parameters=500))
