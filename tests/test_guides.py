# SPDX-License-Identifier: Apache-2.0
"""The snippets of the guides run as they stand, and what their comments promise holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "make_it_binary.md").read_text()


def test_the_snippets_of_make_it_binary_run() -> None:
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(compile(snippet, "make_it_binary.md", "exec"), names)
    images = names["images"]
    assert "'3' (all +1)" in str(names["caught"][0].message)
    assert names["constant"](images).std(0).max() < 1e-6
    assert names["low"].eval()(images).std(0).max() > 1e-3
    assert "swap 2" in str(names["swapped"])


def test_the_table_of_make_it_binary_has_the_steps_of_its_example() -> None:
    steps = "import runpy; print('\\n'.join(runpy.run_path('examples/make_it_binary.py')['STEPS']))"
    found = subprocess.run([sys.executable, "-c", steps], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line.split("|")[1].strip() for line in GUIDE.splitlines() if line.count("|") == 6][2:]
    assert rows == found.stdout.splitlines()
