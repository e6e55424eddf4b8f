"""What a worker does with a parcel."""

from __future__ import annotations

import hashlib
import pickle
from math import inf
from pathlib import Path

import pytest

from paoding_verify.crew import worker
from paoding_verify.crew.worker import Done, Failed, Parcel, Wanted, own_setting, work
from paoding_verify.errors import SoundnessError
from paoding_verify.robustness.certify import Certification
from paoding_verify.task import SearchConfig
from tests.crews import Plan, Scripted, jobs_of
from tests.networks import dense_net


def parcel(plan: Plan, *, recipe: bool = True, stage: str = "together") -> Parcel:
    data = pickle.dumps(Scripted(plan))
    digest = hashlib.sha256(data).hexdigest()
    return Parcel(digest, data if recipe else None, stage, tuple(jobs_of(2)), inf, own_setting())


def test_a_cascade_travels_once(tmp_path: Path) -> None:
    worker._known.clear()
    plan = Plan(str(tmp_path))
    assert isinstance(work(parcel(plan, recipe=False)), Wanted)
    for recipe in (True, False):
        found = work(parcel(plan, recipe=recipe))
        assert isinstance(found, Done)
        assert [job.seen for job in found.jobs] == [("together 2",)] * 2
    assert isinstance(work(parcel(Plan(str(tmp_path), pause_s=1.0), recipe=False)), Wanted)


def test_exceptions_come_back_as_text(tmp_path: Path) -> None:
    found = work(parcel(Plan(str(tmp_path), failing=("r1",))))
    assert found == Failed("RuntimeError: broken by r1")
    with pytest.raises(SoundnessError):
        work(parcel(Plan(str(tmp_path), fatal=SoundnessError)))


def test_cascades_are_pickled_as_what_they_are_made_of() -> None:
    network = dense_net(1)
    cascade = Certification(network, SearchConfig(seed=4))
    assert cascade._engines.network is network
    copy = pickle.loads(pickle.dumps(cascade))  # noqa: S301 - of this test
    assert "_engines" not in vars(copy)
    assert copy.config == cascade.config
    assert len(pickle.dumps(copy)) == len(pickle.dumps(cascade))
