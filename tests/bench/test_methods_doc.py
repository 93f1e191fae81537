# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from bittern import binary, quant, recipes
from bittern.bench.methods import doc as methods_doc
from bittern.bench.methods.doc import METHODS, PAGE, facts, generate
from bittern.binary import BNN

ROOT = Path(__file__).parents[2]


def test_committed_page_is_fresh() -> None:
    committed = (ROOT / PAGE).read_text(encoding="utf-8")
    assert committed == generate() + "\n", "run: python -m bittern.bench.methods.doc"


def test_page_does_not_depend_on_the_random_state() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = generate()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert generate() == first


def test_every_method_has_a_row_and_a_section() -> None:
    page = generate()
    assert (*binary.ALL, *binary.LATENT_FREE, *quant.ALL) == METHODS
    for method in METHODS:
        assert f"[`{method.__name__}`](#{method.__name__.lower()})" in page
        assert f"\n## {method.__name__}\n" in page
    rows = [line for line in page.splitlines() if line.startswith("| [`")]
    assert len(rows) == len(METHODS)
    assert all(line.count(" | ") == 7 for line in rows)


@pytest.mark.parametrize(
    ("name", "scale", "activation", "year"),
    [
        ("BNN", "none", "±1", 2016),
        ("XNORNet", "one per filter", "±1, mean per pixel", 2016),
        ("DoReFa", "one per layer", "{0, 1}", 2016),
        ("XNORNetPlusPlus", "learned, on the output: [out] x [height] x [width]", "±1", 2019),
        ("ReActNet", "one per filter", "±1, learned threshold per channel", 2020),
        ("ReCU", "learned, one per filter", "±1", 2021),
        ("FDA", "one per layer", "±1", 2021),
        ("IRNet", "one per filter, a power of 2", "±1", 2019),
        ("ReSTE", "one per layer", "±1", 2023),
        ("RBNN", "learned, one per filter", "±1", 2020),
        ("FracBNN", "none", "{-3, -1, 1, 3}, range given", 2020),
        ("EWGS", "none", "{0, 1}, range learned", 2021),
        ("BiT", "one per layer", "±1, learned threshold per channel", 2022),
        ("BiBERT", "one per filter", "±1", 2022),
        ("ReBNN", "learned, one per filter", "±1, learned threshold per channel", 2023),
        ("BNext", "none", "±1, learned threshold per channel", 2022),
        ("DSQ", "learned, one per layer", "±1", 2019),
        ("TWN", "one per layer", "real", 2016),
        ("TTQ", "learned, one per layer, in each of 2 terms", "real", 2016),
        ("Alternating", "one per filter, in each of 2 terms", "real", 2018),
        ("OneBit", "learned, one per filter", "real, learned gain per channel", 2024),
        ("ParetoQ", "learned, one per filter", "real", 2025),
        ("BitNet", "one per layer", "-128 ... 127, scale of each row", 2024),
        ("HORQ", "one per filter", "±1, mean per pixel and ±1 of what is left, mean per pixel", 2017),
        ("ABCNet", "one per layer, in each of 3 terms", "3 terms of ±1, learned threshold per channel", 2017),
        ("RealToBinary", "computed from the input, on the output: [batch, out]", "±1", 2020),
        ("AdaBin", "one per filter; offset one per filter", "±1, learned threshold per channel and an offset", 2022),
    ],
)
def test_facts_are_those_of_the_papers(name: str, scale: str, activation: str, year: int) -> None:
    found = facts(getattr(binary, name, None) or getattr(quant, name))
    assert (found.weight_scale, found.activation, found.year) == (scale, activation, year)


def test_schedules_and_options() -> None:
    scheduled = {"ReCU", "FDA", "IRNet", "ReSTE", "RBNN", "SiMaN", "AdaBin"}
    assert {m.__name__ for m in METHODS if facts(m).schedule} == scheduled
    assert facts(BNN).options[0] == ("input_gradient", "'paper'", "`'paper'`, `'released'`")
    assert facts(BNN).clip_latent == "to ±1 after each step"


def test_sources_are_links_or_papers() -> None:
    for method in METHODS:
        found = facts(method)
        assert found.formulas
        assert found.differences
        assert found.arxiv is None or re.fullmatch(r"\d{4}\.\d{4,5}", found.arxiv)


def test_method_without_a_source_is_refused() -> None:
    class Undocumented(BNN):
        """Signs."""

    with pytest.raises(ValueError, match="Undocumented: its docstring must end with 'Source: '"):
        facts(Undocumented)


def test_page_is_written_only_at_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="run it from the root of the repository"):
        methods_doc.main()
    (tmp_path / "docs").mkdir()
    methods_doc.main()
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == generate() + "\n"


def test_recipes_and_starts_are_on_the_page() -> None:
    assert facts(BNN).start == "U(-1, 1)"
    assert facts(binary.ReCU).start == "N(0, 2 / fan_in)"
    page = generate()
    for record in recipes.ALL:
        assert f"| read in | {record.source} |" in page
        for sentence in record.differences:
            assert f"- {sentence}" in page
    assert "| schedule | 5 epochs of warm-up, half a cosine to 0 |" in page
    assert "| schedule | x0.5 from epoch 18, x0.1 from epoch 29, x0.05 from epoch 43, x0.01 from epoch 52 |" in page
