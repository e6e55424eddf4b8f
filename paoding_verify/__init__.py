"""Audits pruned neural networks: certified robustness, certified equivalence, every claim proved twice.

Public names are loaded when they are first used: importing this package loads neither torch nor z3 nor auto_LiRPA.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paoding_verify import errors as errors
    from paoding_verify.auditing.bundle import write as write
    from paoding_verify.auditing.config import AuditConfig as AuditConfig
    from paoding_verify.auditing.policy import Policy as Policy
    from paoding_verify.auditing.run import audit as audit
    from paoding_verify.auditing.run import certify_model as certify  # noqa: F401 - an alias by intent
    from paoding_verify.auditing.run import compare_models as compare  # noqa: F401 - an alias by intent
    from paoding_verify.checker.bundle import check_bundle as check_bundle
    from paoding_verify.data import Dataset as Dataset
    from paoding_verify.data import read_dataset as read_dataset
    from paoding_verify.evidence.question import Question as Question
    from paoding_verify.evidence.verdict import Outcome as Outcome
    from paoding_verify.evidence.verdict import Verdict as Verdict
    from paoding_verify.linf import linf_regions as linf_regions
    from paoding_verify.network.graph import Network as Network
    from paoding_verify.network.load import load_network as load_network
    from paoding_verify.pruning.prune import prune as prune
    from paoding_verify.regions import Region as Region
    from paoding_verify.task import SearchConfig as SearchConfig

__version__ = "0.1.0"

_HOMES = {
    "AuditConfig": ("auditing.config", "AuditConfig"),
    "Dataset": ("data", "Dataset"),
    "Network": ("network.graph", "Network"),
    "Outcome": ("evidence.verdict", "Outcome"),
    "Policy": ("auditing.policy", "Policy"),
    "Question": ("evidence.question", "Question"),
    "Region": ("regions", "Region"),
    "SearchConfig": ("task", "SearchConfig"),
    "Verdict": ("evidence.verdict", "Verdict"),
    "audit": ("auditing.run", "audit"),
    "certify": ("auditing.run", "certify_model"),
    "check_bundle": ("checker.bundle", "check_bundle"),
    "compare": ("auditing.run", "compare_models"),
    "linf_regions": ("linf", "linf_regions"),
    "load_network": ("network.load", "load_network"),
    "prune": ("pruning.prune", "prune"),
    "read_dataset": ("data", "read_dataset"),
    "write": ("auditing.bundle", "write"),
}
"""Public name -> the module that holds it, and its name there."""

__all__ = [  # noqa: PLE0604 - the names of _HOMES are public; a test pins them
    "__version__",
    "errors",
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    """Loads a public name on first use (PEP 562)."""
    if name == "errors":
        return import_module("paoding_verify.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'paoding_verify' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = globals()[name] = getattr(import_module(f"paoding_verify.{module}"), attribute)
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
