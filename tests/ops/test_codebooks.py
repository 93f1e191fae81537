# SPDX-License-Identifier: Apache-2.0
"""The code tables: the published values, their structure, and where the nearest entry changes."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import pytest
import torch

from bittern.ops import codebooks


def digest(table: torch.Tensor) -> str:
    return hashlib.sha256(table.numpy().astype("<f4").tobytes()).hexdigest()[:16]


def test_dynamic_trees_are_the_published_tables() -> None:
    assert digest(codebooks.dynamic_tree()) == "e732639a65f497b4"
    assert digest(codebooks.dynamic_tree(signed=False)) == "305f002cc11278fb"


def test_signed_tree_by_its_formula() -> None:
    """10^-E (0.1 + 0.9 (2j + 1) / (2L)) with L = 2^(6 - E), the negatives, 0 and 1; no -1."""
    levels = [
        Fraction(1, 10**e) * (Fraction(1, 10) + Fraction(9, 10) * (2 * j + 1) / (2 ** (7 - e)))
        for e in range(7)
        for j in range(2 ** (6 - e))
    ]
    exact = sorted([*levels, *(-x for x in levels), Fraction(0), Fraction(1)])
    table = codebooks.dynamic_tree()
    assert len(exact) == 256
    worst = max(
        abs(Fraction(float(a)) - b) / max(abs(b), Fraction(1, 10**9)) for a, b in zip(table, exact, strict=True)
    )
    assert worst <= Fraction(2, 2**23)
    assert table[127] == 0
    assert table[-1] == 1
    assert table[0] > -1


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [True, False])
def test_trees_of_fewer_bits(bits: int, signed: bool) -> None:
    table = codebooks.dynamic_tree(signed, bits)
    assert len(table) == len(set(table.tolist())) == 2**bits
    assert torch.equal(table, table.sort().values)
    assert (table == 0).sum() == 1
    assert table[-1] == 1


def test_symmetric_tree_negates() -> None:
    table = codebooks.dynamic_tree(symmetric=True)
    distinct = torch.tensor(sorted(set(table.tolist())))
    assert len(distinct) == 255
    assert torch.equal(distinct, -distinct.flip(0))
    assert table[0] == -1


def test_other_tables() -> None:
    assert codebooks.nf4()[7] == 0
    assert (codebooks.nf4()[0], codebooks.nf4()[15]) == (-1, 1)
    assert codebooks.linear(signed=False, bits=4, zero=False).tolist() == [i / 16 for i in range(1, 17)]
    assert codebooks.linear(bits=3).tolist() == pytest.approx([-1, -2 / 3, -1 / 3, 0, 0, 1 / 3, 2 / 3, 1])
    stored = [0, 0.0625, 8, 12, 4, 6, 2, 3]
    wanted = torch.tensor([*stored, *(-v for v in stored)]) / 12
    assert torch.allclose(codebooks.fp4()[list(codebooks.FP4_PATTERN)], wanted, rtol=1e-6, atol=0)
    for name, largest in (("e4m3", 448.0), ("e5m2", 57344.0)):
        table = codebooks.fp8(name)  # type: ignore[arg-type]
        dtype = torch.float8_e4m3fn if name == "e4m3" else torch.float8_e5m2
        values = table * largest
        assert torch.equal(values, values.to(dtype).float())
    samples = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    table = codebooks.quantile(samples)
    used = torch.bincount(torch.bucketize(samples / samples.abs().max(), codebooks.boundaries(table)), minlength=256)
    assert len(table) == 256
    assert used[10:-10].max() < 10 * 10_000 / 256


@pytest.mark.parametrize(
    "table", [codebooks.dynamic_tree(), codebooks.dynamic_tree(False), codebooks.nf4(), codebooks.linear()]
)
def test_boundaries_are_exact(table: torch.Tensor) -> None:
    """The smallest float32 beyond each mid-point; the mid-point itself goes to the entry nearer 0."""
    borders = codebooks.boundaries(table)
    for i, border in enumerate(borders.tolist()):
        low, high = Fraction(float(table[i])), Fraction(float(table[i + 1]))
        middle = (low + high) / 2
        before = float(torch.nextafter(torch.tensor(border), torch.tensor(-torch.inf)))
        if middle > 0:
            assert Fraction(before) <= middle < Fraction(border)
        elif low < high:
            assert Fraction(before) < middle <= Fraction(border)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: codebooks.dynamic_tree(bits=9), "bits must be 2 to 8"),
        (lambda: codebooks.dynamic_tree(signed=False, symmetric=True), "symmetric"),
        (lambda: codebooks.linear(zero=False), "zero=False"),
        (lambda: codebooks.fp8("e3m4"), "format"),  # type: ignore[arg-type]
        (lambda: codebooks.quantile(torch.zeros(5)), "not all be 0"),
        (lambda: codebooks.quantile(torch.tensor([1.0, torch.nan])), "finite"),
    ],
)
def test_errors(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
