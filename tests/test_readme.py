# SPDX-License-Identifier: Apache-2.0
"""The README's snippet runs as it stands, and its first lines show the whole way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import bittern

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    one_line, snippet = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(one_line, "README.md", "exec"), {"bittern": bittern, "model": torch.nn.Linear(3, 3)})
    exec(compile(snippet, "README.md", "exec"), {})
    assert "exact: yes" in capsys.readouterr().out
    assert (tmp_path / "digits.safetensors").exists()


def test_the_first_lines_convert_train_pack_and_run() -> None:
    head = "\n".join(README.splitlines()[:55])
    for word in ("make demo", "make test", "optim.AdamW(", "convert(", "train(", "pack(", "load("):
        assert word in head


def test_every_file_the_readme_names_exists() -> None:
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).exists(), target
