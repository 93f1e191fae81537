# SPDX-License-Identifier: Apache-2.0
"""Block-wise quantization beside the agreement test: every border, what is not finite, zero, chance, errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from _tolerance import assert_exact, assert_mean
from bittern import ops
from bittern.ops import codebooks
from bittern.ops.quantize_blockwise import check
from bittern.ops.quantize_blockwise.per_table import PerTable

TREES = {"signed": codebooks.dynamic_tree(), "unsigned": codebooks.dynamic_tree(False)}
RUNS = {found.name: found.call for found in ops.quantize_blockwise.implementations() if found.device == "cpu"}
every_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def nearby(borders: Tensor) -> Tensor:
    """Every border and its two neighbours on either side."""
    up, down = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    above, below = torch.nextafter(borders, up), torch.nextafter(borders, down)
    return torch.cat([borders, above, below, torch.nextafter(above, up), torch.nextafter(below, down)])


@every_run
@pytest.mark.parametrize("name", TREES)
def test_every_border_falls_to_the_right_side(name: str, run: Callable[..., tuple[Tensor, Tensor]]) -> None:
    table = TREES[name]
    borders = codebooks.boundaries(table)
    x = nearby(borders)
    x = torch.cat([torch.ones(1), x[x.abs() <= 1]])  # absmax 1: y is x
    codes, absmax = run(x, table, 4096)
    assert absmax.tolist() == [1.0]
    assert_exact(codes.long(), torch.bucketize(x, borders, right=True))


@every_run
@pytest.mark.parametrize("name", TREES)
def test_every_bucket_of_sixteen_bits(name: str, run: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Both ends of each stretch of floats that share their upper 16 bits: where the fast search starts."""
    table = TREES[name]
    high = torch.arange(0, 0x3F80, dtype=torch.int32) << 16
    ends = torch.cat([high, high | 0xFFFF]).view(torch.float32)
    x = torch.cat([ends, -ends]) if name == "signed" else ends
    expected = torch.bucketize(x, codebooks.boundaries(table), right=True)
    rows = torch.nn.functional.pad(x, (0, -len(x) % 255)).view(-1, 255)
    padded = torch.cat([torch.ones(len(rows), 1), rows], 1)  # absmax 1 in every block
    codes, _ = run(padded, table, 256)
    assert_exact(codes[:, 1:].reshape(-1)[: len(x)].long(), expected)


@every_run
def test_codes_survive_decoding(run: Callable[..., tuple[Tensor, Tensor]]) -> None:
    for table in TREES.values():
        codes, absmax = run(table, table, 256)
        assert codes.tolist() == list(range(256))
        assert_exact(ops.dequantize_blockwise(codes, absmax, table, 256), table)


@every_run
def test_what_is_not_finite(run: Callable[..., tuple[Tensor, Tensor]]) -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.5, -0.0, 0.0, -0.25])
    codes, absmax = run(x, TREES["signed"], 32)
    assert absmax.tolist() == [0.5]
    assert codes[[0, 1, 2, 3, 4, 5]].tolist() == [127, 255, 0, 255, 127, 127]
    codes, absmax = run(torch.full((40,), torch.nan), TREES["signed"], 32)
    assert absmax.tolist() == [0.0, 0.0]
    assert (codes == 127).all()


@every_run
def test_zero_stays_zero_and_subnormal_blocks_are_zero(run: Callable[..., tuple[Tensor, Tensor]]) -> None:
    for x in (torch.zeros(300), torch.full((300,), 1e-40), -torch.full((300,), 1e-45)):
        codes, absmax = run(x, TREES["signed"], 64)
        assert (codes == 127).all()
        assert (absmax == 0).all()
    mixed = torch.randn(512).masked_fill(torch.arange(512) % 2 == 0, 0.0)
    codes, absmax = run(mixed, TREES["signed"], 256)
    assert (ops.dequantize_blockwise(codes, absmax, TREES["signed"], 256)[::2] == 0).all()


@every_run
def test_keep_nonzero_spares_small_squares(run: Callable[..., tuple[Tensor, Tensor]]) -> None:
    x = torch.tensor([1.0, 1e-9, 1e-30, 0.0, 1e-8])
    plain, _ = run(x, TREES["unsigned"], 32)
    kept, _ = run(x, TREES["unsigned"], 32, keep_nonzero=True)
    assert plain.tolist() == [255, 0, 0, 0, 0]
    assert kept.tolist() == [255, 1, 1, 0, 1]


@every_run
def test_stochastic_rounding_is_right_on_average(run: Callable[..., tuple[Tensor, Tensor]]) -> None:
    table = TREES["signed"]
    for value in (0.3, -0.71, 0.0123):
        x = torch.full((4096,), value)
        x[0] = 1.0
        codes, absmax = run(x, table, 4096, seed=1234567)
        values = ops.dequantize_blockwise(codes, absmax, table, 4096)[1:]
        found = values.unique()
        assert len(found) == 2
        assert_mean(values, value, float(found[1] - found[0]) / 2)


def test_stochastic_bits_depend_on_seed_and_place_alone() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    same = [run(x, TREES["signed"], 64, seed=5)[0] for run in RUNS.values()]
    for codes in same:
        assert_exact(codes, same[0])
    assert not torch.equal(same[0], ops.quantize_blockwise(x, TREES["signed"], 64, seed=6)[0])


def test_strided_input_is_taken_in_c_order() -> None:
    x = torch.randn(30, 40, generator=torch.Generator().manual_seed(0)).t()
    codes, absmax = ops.quantize_blockwise(x, TREES["signed"], 64)
    expected = ops.quantize_blockwise(x.contiguous(), TREES["signed"], 64)
    assert_exact(codes, expected[0])
    assert_exact(absmax, expected[1])


def test_nibbles_put_the_first_element_high() -> None:
    table = codebooks.nf4()
    packed, absmax = ops.quantize_4bit(torch.tensor([1.0, -1.0, 0.0]), table, 64)
    assert packed.tolist() == [0xF0, 0x70]
    assert ops.dequantize_4bit(packed, absmax, table, 64, [3]).tolist() == [1.0, -1.0, 0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.quantize_blockwise(torch.zeros(3, dtype=torch.float64), TREES["signed"]), "x must be float32"),
        (lambda: ops.quantize_blockwise(torch.zeros(3), TREES["signed"], 100), "power of two"),
        (lambda: ops.quantize_blockwise(torch.zeros(3), TREES["signed"], 8192), "power of two"),
        (lambda: ops.quantize_blockwise(torch.zeros(3), TREES["signed"].double()), "code must be float32"),
        (lambda: ops.quantize_blockwise(torch.zeros(3), TREES["signed"].flip(0)), "must not decrease"),
        (lambda: ops.quantize_blockwise(torch.zeros(3), torch.tensor([0.0, torch.nan])), "finite"),
        (lambda: ops.quantize_blockwise(torch.zeros(3), torch.zeros(1)), "2 to 256"),
        (lambda: ops.quantize_blockwise(torch.zeros(3), torch.zeros(257)), "2 to 256"),
        (lambda: ops.quantize_blockwise(torch.zeros(3), TREES["signed"], keep_nonzero=True), "keep_nonzero"),
        (
            lambda: ops.dequantize_blockwise(torch.zeros(3, dtype=torch.uint8), torch.zeros(2), TREES["signed"]),
            "absmax",
        ),
        (lambda: ops.dequantize_blockwise(torch.zeros(3), torch.zeros(1), TREES["signed"]), "codes must be uint8"),
        (lambda: ops.quantize_4bit(torch.zeros(3), TREES["signed"]), "16"),
        (
            lambda: ops.dequantize_4bit(torch.zeros(9, dtype=torch.uint8), torch.zeros(1), codebooks.nf4(), 64, [3]),
            "packed must hold 2 bytes",
        ),
    ],
)
def test_errors_say_what_to_do(call: Callable[[], object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_table_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it waits for its device, so only the first call may; a change in place is seen nevertheless."""
    read: list[int] = []

    def counting(code: Tensor) -> check.TableFacts:
        read.append(code.shape[0])
        return check.TableFacts(bool((code[1:] >= code[:-1]).all()), bool(code[0] == 0 and code[1] > 0))

    monkeypatch.setattr(check, "_facts", PerTable(counting))
    code, x = torch.linspace(0, 1, 256), torch.rand(600)
    for _ in range(3):
        codes, absmax = ops.quantize_blockwise(x, code, keep_nonzero=True)
        ops.dequantize_blockwise(codes, absmax, code)
    assert len(read) == 1
    ops.quantize_blockwise(x, torch.linspace(0, 1, 16))
    assert len(read) == 2
    code[5] = 2.0
    with pytest.raises(ValueError, match="must not decrease"):
        ops.quantize_blockwise(x, code)
    assert len(read) == 3
    with torch.inference_mode():
        uncounted = torch.linspace(0, 1, 16)
        for _ in range(2):
            ops.quantize_blockwise(x, uncounted)
    assert len(read) == 5


def test_a_table_at_the_address_of_another_is_read() -> None:
    storage = torch.linspace(0, 1, 256)
    ops.quantize_blockwise(torch.rand(600), storage[:16])
    storage.copy_(torch.linspace(1, 0, 256))
    with pytest.raises(ValueError, match="must not decrease"):
        ops.quantize_blockwise(torch.rand(600), storage[:16])
