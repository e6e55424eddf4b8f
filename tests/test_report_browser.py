"""The page in a browser: layout, console, colours and print."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from paoding_verify.evidence.result import AuditResult
from paoding_verify.evidence.verdict import Outcome, Verdict
from paoding_verify.report.html import render_html
from paoding_verify.report.text import visible
from tests.audits import audit_example, every_example

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PDFTOTEXT = shutil.which("pdftotext")
EXAMPLES = every_example()

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--allow-file-access-from-files", "--enable-logging=stderr",
)  # fmt: skip

PROBE = """<!doctype html><title>probe</title>
<iframe src="report.html" width="%d" height="800" style="border:0"></iframe>
<pre id="found"></pre><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement
  const body = getComputedStyle(page.body), title = getComputedStyle(page.querySelector("h1"))
  document.querySelector("#found").textContent = JSON.stringify({
    scrolled: [...page.querySelectorAll(".hero .wide")].filter(wide => wide.scrollWidth > wide.clientWidth).length,
    overflow: root.scrollWidth - root.clientWidth,
    hidden: [...page.querySelectorAll("section")].filter(one => one.scrollWidth > one.clientWidth).length,
    summary: page.querySelector("#summary").getBoundingClientRect().bottom,
    background: body.backgroundColor, ink: title.color, scripts: page.scripts.length,
    broken: [...page.images].filter(image => !image.naturalWidth).length,
    charts: [...page.querySelectorAll("svg.chart")].filter(chart => chart.getBoundingClientRect().height < 50).length,
  })
}</script>
"""


def chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def probe(folder: Path, result: AuditResult, width: int, *options: str) -> dict[str, object]:
    (folder / "report.html").write_text(render_html(result))
    (folder / "probe.html").write_text(PROBE % width)
    done = chromium(folder, *options, "--window-size=1400,900", "--dump-dom", (folder / "probe.html").as_uri())
    assert "CONSOLE" not in done.stderr
    found = re.search('<pre id="found">(.*?)</pre>', done.stdout)
    assert found is not None
    measured: dict[str, object] = json.loads(unescape(found[1]))
    return measured


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["fail", "hostile", "certify"])
def test_nothing_overflows_or_is_broken(tmp_path: Path, name: str, width: int):
    found = probe(tmp_path, EXAMPLES[name], width)
    assert (found["overflow"], found["hidden"], found["scrolled"]) == (0, 0, 0)
    assert (found["broken"], found["scripts"], found["charts"]) == (0, 0, 0)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_summary_fits_the_first_screen(tmp_path: Path, outcome: Outcome):
    assert probe(tmp_path, audit_example(outcome, number=20), 1280)["summary"] <= 800


def test_dark_follows_the_reader(tmp_path: Path):
    result = EXAMPLES["pass"]
    light = probe(tmp_path, result, 1280, "--blink-settings=preferredColorScheme=1")
    dark = probe(tmp_path, result, 1280, "--blink-settings=preferredColorScheme=0")
    assert _brightness(light["background"]) > 200
    assert _brightness(light["ink"]) < 60
    assert _brightness(dark["background"]) < 60
    assert _brightness(dark["ink"]) > 200


def _brightness(colour: object) -> float:
    return sum(map(int, re.findall(r"\d+", str(colour))[:3])) / 3


@pytest.mark.skipif(PDFTOTEXT is None, reason="pdftotext is not installed")
def test_print_shows_every_claim_although_details_are_closed(tmp_path: Path):
    result = EXAMPLES["inconclusive"]
    page, pdf = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_text(render_html(result))
    chromium(tmp_path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", page.as_uri())
    assert PDFTOTEXT is not None
    text = subprocess.run([PDFTOTEXT, "-raw", str(pdf), "-"], capture_output=True, check=True, timeout=60).stdout
    printed = re.sub(r"\s", "", text.decode())
    for claim in result.claims:
        assert visible(claim.id) in printed, claim.verdict
    assert sum(c.verdict is Verdict.CERTIFIED for c in result.claims) > 10
    for label in (
        "eps(inputunits)",
        "provedmargin,original(logits)",
        "regions,byprovedbound",
        "accuracy(%):naturalsolid,certifieddashed",
        "certifiedmarginlost,mean(logits)",
        f"certified{sum(c.subject == 'original' and c.verdict is Verdict.CERTIFIED for c in result.claims)}",
    ):  # of charts
        assert label in printed
