# SPDX-License-Identifier: Apache-2.0
"""The snippets of the guides run as they stand, and what their comments promise holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bittern._own_code import own_code
from bittern.bench.tracks.own_problem import own_problem

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "make_it_binary.md").read_text()
BENCH = (ROOT / "docs" / "bench.md").read_text()


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


def test_the_file_of_bench_is_a_model_and_data_that_the_benchmark_takes(tmp_path: Path) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", BENCH, re.DOTALL)
    (tmp_path / "file_of_the_guide.py").write_text(text)
    model, data = (own_code(f"{tmp_path}/file_of_the_guide.py:{name}") for name in ("build", "loaders"))
    problem = own_problem(model, data)
    (network,) = problem.networks.values()
    assert network.about == (
        "Made low-bit by bittern.convert: 1 layer.",
        "Hardtanh takes the place of 2 ReLUs, which the float twin has.",
    )
    assert len(problem.load(None).choice[1]) == 30, "a tenth of the training part"
