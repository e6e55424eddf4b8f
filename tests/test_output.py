"""What commands write: never over an input, never over a file unasked, whole or not at all, refused before the work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from paoding_verify.auditing.bundle import _held, reserved, write
from paoding_verify.cli.main import main
from paoding_verify.cli.output import write_whole
from paoding_verify.errors import ConfigError, EngineError
from tests.audits import certify_example
from tests.command_lines import EFFORT, audit, bundle, folder

__all__ = ["bundle", "folder"]


def forbidden(*args: object, **options: object) -> None:
    raise AssertionError("the work started although its result cannot be written")


def bad_place(name: str, tmp: Path) -> Path:
    (tmp / "empty").mkdir()
    (tmp / "link").symlink_to(tmp / "empty")
    (tmp / "dangling").symlink_to(tmp / "nowhere")
    (tmp / "file").write_text("mine")
    return {"here": Path(), "below a file": tmp / "file" / "out"}.get(name, tmp / name)


@pytest.mark.parametrize("name", ["link", "dangling", "file", "here", "below a file"])
def test_a_bundle_that_cannot_appear_is_refused_before_the_work(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = bad_place(name, tmp_path)
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr("paoding_verify.auditing.run.audit", forbidden)
    monkeypatch.setattr("paoding_verify.network.load.load_network", forbidden)
    assert audit(folder, target=target) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dangling", "empty", "file", "link"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (ZeroDivisionError, 4)])
def test_a_run_that_ends_early_leaves_no_draft(
    error: type[BaseException], code: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*args: object, **options: object) -> None:
        (journal,) = (tmp_path / "new").iterdir()
        assert journal.name == "out.journal"
        raise error

    monkeypatch.setattr("paoding_verify.auditing.run.audit", ended)
    assert audit(folder, target=tmp_path / "new" / "out") == code
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_cannot_be_moved_is_kept_and_named(tmp_path: Path) -> None:
    result = certify_example()

    def run() -> None:
        with reserved(tmp_path / "out") as draft:
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "mine").write_text("mine")
            draft.publish(result)

    with pytest.raises(EngineError, match="it stands complete in") as caught:
        run()
    (kept,) = tmp_path.glob(".out.*")
    assert str(kept) in str(caught.value)
    assert (kept / "manifest.json").is_file()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_inputs_are_never_overwritten(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, other = tmp_path / "net.onnx", tmp_path / "result.json"
    net.write_bytes((folder / "net.onnx").read_bytes())
    (tmp_path / "again.onnx").hardlink_to(net)
    other.write_text("{}")
    before = net.read_bytes()
    for command in (
        ["prune", str(net), "-o", str(net)],
        ["prune", str(net), "-o", str(tmp_path / "again.onnx")],
        ["prune", str(net), "-o", str(tmp_path / "new.onnx"), "--trace", str(net)],
        ["render", str(other), "-o", str(other)],
        ["certify", str(net), "--vnnlib", str(other), "-o", str(other)],
    ):
        assert main([*command, "--force"]) == 2
        assert "is an input" in capsys.readouterr().err
    assert main(["prune", str(net), "-o", str(tmp_path / "a.onnx"), "--trace", str(tmp_path / "a.onnx")]) == 2
    assert (net.read_bytes(), other.read_text()) == (before, "{}")


def test_existing_files_are_overwritten_only_by_force(
    folder: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, trace = tmp_path / "there", tmp_path / "t.json"
    for path in (target, trace):
        path.write_text("mine")
    result, net = str(bundle / "audit.json"), str(folder / "net.onnx")
    for command in (
        ["render", result, "-o", str(target)],
        ["prune", net, "-o", str(tmp_path / "p.onnx"), "--trace", str(trace)],
        ["certify", net, "-o", str(trace), *EFFORT],
    ):
        assert main(command) == 2
        assert "--force" in capsys.readouterr().err
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"there": "mine", "t.json": "mine"}
    assert main(["render", result, "-o", str(target), "--force"]) == 0
    assert target.read_bytes() == (bundle / "report.html").read_bytes()
    (tmp_path / "link").symlink_to(target)
    assert main(["render", result, "-o", str(tmp_path / "link"), "--force"]) == 2


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_whole({tmp_path / "a": b"1"}, force=False)
    with pytest.raises(ConfigError, match="exists"):
        write_whole({tmp_path / "b": b"2", tmp_path / "a": b"2"}, force=False)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ConfigError, match="No space left"):
        write_whole({tmp_path / "a": b"3"}, force=True)
    assert (tmp_path / "a").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_render_reads_what_json_wrote(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = tmp_path / "shown.json"
    audit(folder, "--json", target=tmp_path / "out")
    shown.write_text(capsys.readouterr().out)
    stored, printed = json.loads((tmp_path / "out" / "audit.json").read_text()), json.loads(shown.read_text())
    assert all(claim.pop("elapsed_s") is not None for claim in printed["claims"])
    assert all(claim.pop("elapsed_s") is None for claim in stored["claims"])
    assert printed == stored
    assert list(stored)[:2] == ["verdict", "counts"]
    assert main(["render", str(shown), "-o", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "out" / "report.html").read_bytes()
    forged = (tmp_path / "out" / "audit.json").read_text().replace('"violated": ', '"violated": 7', 1)
    shown.write_text(forged)
    assert main(["render", str(shown), "-o", str(tmp_path / "forged.html")]) == 2
    assert "from the rest follows" in capsys.readouterr().err


def test_drafts_of_killed_runs_go_and_nothing_else(tmp_path: Path) -> None:
    killed, busy, kept, whole = (tmp_path / f".out.{name}" for name in ("draft-1", "draft-2", "backups", "whole-3"))
    for place in (killed, busy, kept, whole):
        place.mkdir()
        (place / "audit.json").write_text("{}")
    (tmp_path / ".out.draft-link").symlink_to(kept)
    with _held(busy):
        write(certify_example(), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".out.backups", ".out.draft-2", ".out.draft-link", ".out.whole-3", "out"
    ]  # fmt: skip
    assert (kept / "audit.json").exists()
