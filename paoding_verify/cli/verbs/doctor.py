"""`doctor`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paoding_verify.network.graph import Network

__all__ = ["configure", "install_command", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this verb."""
    parser.add_argument("--json", action="store_true", help="the findings as JSON on stdout, nothing else there")


@dataclass(frozen=True)
class Component:
    """Something the toolkit uses."""

    name: str
    """Distribution name."""
    use: str
    """What it is for."""
    probe: Callable[[], None]
    """Does a little work with it; raises if it does not work."""
    install: str
    """Exact command that installs it."""
    core: bool = True
    """Whether the toolkit is unusable without it."""


def run(args: argparse.Namespace) -> int:
    """Tries every component; 0 if all core components work, else 2."""
    import json
    import platform

    rows = [_examine(component) for component in _components()]
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        _print(rows, platform.python_version())
    return 2 if any(row["core"] and row["state"] != "works" for row in rows) else 0


def install_command(module: str) -> str | None:
    """The command that installs the component a module belongs to; None if no component is of that name."""
    name = module.partition(".")[0].replace("_", "-").lower()
    known = {component.name.lower().removesuffix("-solver"): component.install for component in _components()}
    return known.get({"markupsafe": "jinja2"}.get(name, name))


def _examine(component: Component) -> dict[str, str | bool]:
    from paoding_verify.versions import installed_version

    state = "works"
    try:
        component.probe()
    except Exception as error:  # a broken installation may raise anything; that is what is looked for here
        missing = isinstance(error, ImportError)
        state = "missing" if missing else f"broken: {type(error).__name__}: {error}"
    return {
        "component": component.name, "version": installed_version(component.name), "use": component.use,
        "state": state, "core": component.core, "install": "" if state == "works" else component.install,
    }  # fmt: skip


def _print(rows: list[dict[str, str | bool]], python: str) -> None:
    print(f"{'python':14}{python:18}")
    for row in rows:
        print(f"{row['component']:14}{row['version']:18}{row['state']:8} {row['use']}")
        if row["install"]:
            print(f"{'':14}{'install it' if row['core'] else 'optional; install it'}: {row['install']}")


def _components() -> list[Component]:
    pip = "python -m pip install"
    return [
        Component("numpy", "arrays; the checker", _numpy, f"{pip} 'numpy>=2.0'"),
        Component("scipy", "sparse linear algebra", lambda: _import("scipy.sparse"), f"{pip} 'scipy>=1.14'"),
        Component("torch", "search: attacks, bounds, pruning", _torch, f"{pip} 'torch>=2.10'"),
        Component("auto-LiRPA", "search: bounds of one network", _lirpa, _LIRPA_INSTALL),
        Component("highspy", "counterexamples of equivalence", _highs, f"{pip} 'highspy>=1.10'"),
        Component("z3-solver", "spot checks of equivalence", _z3, f"{pip} 'z3-solver>=4.13'"),
        Component("onnx", "reading and writing models", lambda: _import("onnx"), f"{pip} 'onnx>=1.21'"),
        Component("onnxruntime", "replay of witnesses", _onnxruntime, f"{pip} 'onnxruntime>=1.20'"),
        Component("safetensors", "reading weights", lambda: _import("safetensors.numpy"), f"{pip} 'safetensors>=0.5'"),
        Component("jinja2", "the report", lambda: _import("jinja2"), f"{pip} 'jinja2>=3.1.6'"),
        Component("cryptography", "signatures", lambda: _import("cryptography"), f"{pip} cryptography", core=False),
        Component(
            "distributed",
            "workers on other machines",
            lambda: _import("distributed"),
            f"{pip} 'distributed>=2025.1'",
            core=False,
        ),
        Component("rich", "the terminal", lambda: _import("rich"), f"{pip} 'rich>=13'"),
    ]


_LIRPA_INSTALL = "python -m pip install --no-deps auto-LiRPA==0.3 && python -m pip install packaging appdirs pyyaml"


def _import(name: str) -> None:
    import importlib

    importlib.import_module(name)


def _tiny() -> Network:
    import numpy as np

    from paoding_verify.network.graph import Dense, Network, Node, Op, Relu

    ops: tuple[Op, ...] = (Dense(np.eye(2), np.zeros(2)), Relu(), Dense(np.eye(2), np.ones(2)))
    return Network((2,), tuple(Node(op, (k,), f"node{k}") for k, op in enumerate(ops)))


def _numpy() -> None:
    import numpy as np

    if float(np.linalg.norm(np.eye(2)[0])) != 1.0:
        raise RuntimeError("a norm came out wrong")


def _torch() -> None:
    import torch

    torch.ones(2).sum().item()


def _highs() -> None:
    _import("paoding_verify.equivalence.milp")


def _z3() -> None:
    _import("paoding_verify.equivalence.smt")


def _lirpa() -> None:
    """Bounds of a tiny network, through the very adapter that audits use."""
    import numpy as np

    from paoding_verify.bounds.lirpa import LirpaBounder

    box = np.zeros((1, 2)), np.ones((1, 2))
    LirpaBounder(_tiny()).lower_bounds(*box, np.eye(2), np.zeros(2), method="crown")


def _onnxruntime() -> None:
    import numpy as np

    from paoding_verify.network.onnx_out import to_onnx
    from paoding_verify.network.runtime import OnnxProgram

    OnnxProgram(to_onnx(_tiny())).run(np.zeros((1, 2), dtype=np.float32))
