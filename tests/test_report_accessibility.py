"""The page under axe-core and Lighthouse, where they are installed: PAODING_VERIFY_WEBTOOLS names their node_modules.

`npm install --prefix FOLDER axe-core playwright-core lighthouse` makes FOLDER/node_modules.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from paoding_verify.evidence.result import AuditResult
from paoding_verify.report.html import render_html
from tests.audits import every_example, large_example
from tests.test_report_browser import CHROMIUM

NODE = shutil.which("node")
MODULES = Path(os.environ.get("PAODING_VERIFY_WEBTOOLS", "missing")) / "node_modules"
SCRIPT = Path(__file__).parent / "browser" / "axe.mjs"
EXAMPLES = every_example()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None or NODE is None or not (MODULES / "axe-core").is_dir(),
        reason="Chromium, node or the modules under PAODING_VERIFY_WEBTOOLS are not installed",
    ),
]


def written(folder: Path, name: str, result: AuditResult, baseline: AuditResult | None = None) -> str:
    page = folder / f"{name}.html"
    page.write_text(render_html(result, baseline))
    return str(page)


def test_axe_finds_nothing_in_light_dark_and_print(tmp_path: Path):
    pages = [written(tmp_path, name, EXAMPLES[name]) for name in ("pass", "certify", "compare", "hostile")]
    pages.append(written(tmp_path, "changed", EXAMPLES["fail"], EXAMPLES["pass"]))
    command = [str(NODE), str(SCRIPT), str(CHROMIUM), str(MODULES), *pages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    looks = json.loads(done.stdout)
    assert len(looks) == 3 * len(pages)
    for look in looks:
        where = f"{Path(look['file']).stem}, {look['look']}"
        assert look["violations"] == [], where
        assert (look["requests"], look["messages"]) == ([], []), where
        assert look["overflow"]["1280"] == 0, where
        assert look["overflow"]["360"] == 0 or look["look"].endswith("print"), where
        assert look["passes"] > 20, where


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is given
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def scores(address: str, report: Path) -> dict[str, float]:
    command = [
        str(NODE), str(MODULES / "lighthouse" / "cli" / "index.js"), f"{address}/report.html", "--quiet",
        "--output=json", "--only-categories=accessibility,performance", f"--output-path={report}",
        "--chrome-flags=--headless --no-sandbox --disable-gpu",
    ]  # fmt: skip
    environment = {**os.environ, "CHROME_PATH": str(CHROMIUM)}
    subprocess.run(command, check=True, timeout=240, capture_output=True, env=environment)
    categories = json.loads(report.read_text())["categories"]
    return {name: category["score"] for name, category in categories.items()}


@pytest.mark.skipif(not (MODULES / "lighthouse").is_dir(), reason="Lighthouse is not installed")
def test_lighthouse_is_content_with_a_thousand_claims(tmp_path: Path):
    written(tmp_path, "report", large_example(1000))
    best = 0.0
    with served(tmp_path) as address:
        for _ in range(5):  # other work on the machine can only cost points
            found = scores(address, tmp_path / "found.json")
            assert found["accessibility"] == 1
            best = max(best, found["performance"])
            if best >= 0.95:
                break
    assert best >= 0.95
