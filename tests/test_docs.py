# SPDX-License-Identifier: Apache-2.0
"""The documentation: its code runs, its links lead somewhere, and Sphinx builds it without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
QUICKSTARTS = sorted((DOCS / "quickstart").glob("*.md"))


def test_there_is_a_quickstart_for_each_reader() -> None:
    assert [page.stem for page in QUICKSTARTS] == ["cpu", "memory", "microcontroller", "researcher"]


@pytest.mark.parametrize("page", QUICKSTARTS, ids=lambda page: page.stem)
def test_the_code_of_a_quickstart_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    exec(compile(code, str(page), "exec"), {"__name__": "quickstart"})


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "api" / "bittern.html").read_text()
    assert 'id="bittern.convert"' in page
    assert "<strong>method</strong>" in page, "the arguments in the docstring of convert are missing"
