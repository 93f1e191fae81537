# SPDX-License-Identifier: Apache-2.0
"""`bittern bench decode` on a model of a few thousand weights."""

from __future__ import annotations

import json

import pytest
import torch

from bittern.bench.decode import run as bench
from bittern.bench.decode.model import Decoder, Shape
from bittern.nn import Linear4bit, quantize

TINY = Shape(layers=2, width=64, heads=2, hidden=128, words=80, context=16)


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(0)
    return Decoder(TINY).eval().requires_grad_(False)


def test_a_token_behind_cached_ones_is_the_last_of_a_prompt(model: Decoder) -> None:
    words = torch.randint(TINY.words, (1, 9))
    whole = model(words)
    model(words[:, :8])
    torch.testing.assert_close(model(words[:, 8:], 8), whole)


def test_order_matters_and_later_tokens_do_not(model: Decoder) -> None:
    words = torch.randint(TINY.words, (1, 6))
    swapped = words[:, [1, 0, 2, 3, 4, 5]]
    assert not torch.allclose(model(words), model(swapped))
    prefix = model(words[:, :5])
    model(words)
    torch.testing.assert_close(model(words[:, :5]), prefix)


def test_the_default_has_187_million_weights_in_linear_layers() -> None:
    with torch.device("meta"):
        made = Decoder()
    linear = sum(m.weight.numel() for m in made.modules() if isinstance(m, torch.nn.Linear))
    assert linear == 12 * (4 * 1024**2 + 3 * 1024 * 2816) + 32_000 * 1024 == 186_908_672


def test_bytes_are_those_that_a_token_reads(model: Decoder) -> None:
    norms = 5 * TINY.width
    linear = 2 * (4 * 64 * 64 + 3 * 64 * 128) + 80 * 64
    assert bench.weight_bytes(model) == 4 * (norms + linear)
    small = quantize(model, Linear4bit)
    table, scale = 16, linear // 64
    layers = 2 * 7 + 1
    assert bench.weight_bytes(small) <= 4 * norms + linear // 2 + 4 * scale + 4 * table * layers
    assert bench.weight_bytes(small) >= 4 * norms + linear // 2 + 4 * scale


def test_rows_and_report() -> None:
    found: list[str] = []
    report = bench.run(
        (1,),
        command="it",
        formats=("nf4", "groups4-int8"),
        shape=TINY,
        prompt=8,
        with_peers=True,
        budget_s=1e-4,
        on_row=found.append,
    )
    subjects = [row.subject for row in report.rows]
    assert subjects[:4] == [
        "nf4: prompt of 8, 1 thread",
        "nf4: one token, 1 thread",
        "groups4-int8: prompt of 8, 1 thread",
        "groups4-int8: one token, 1 thread",
    ]
    assert "torch bfloat16: one token, 1 thread" in subjects
    assert found[0] == "nf4, 1 threads"
    for row in report.rows:
        tokens = 8 if "prompt" in row.subject else 1
        assert row.rate == pytest.approx(tokens / row.latency_us.median * 1e6)
        assert (row.of_peak is None) == (tokens == 8)
    assert "Command: it" in str(report)
    assert json.loads(report.to_json())["rows"][0]["rate_unit"] == "tokens/s"


@pytest.mark.parametrize(
    ("option", "value", "match"), [("prompt", 16, "1 to 15 tokens; got 16"), ("budget_s", 0.0, "budget")]
)
def test_refuses(option: str, value: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        bench.run(command="", shape=TINY, **{option: value})
