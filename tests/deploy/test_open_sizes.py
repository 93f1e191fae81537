# SPDX-License-Identifier: Apache-2.0
"""Models whose inputs have sizes that a call chooses, beside the batch: packed once, called with any of them."""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from _cpu import pretend
from _open_sizes import CASES, Case, Images, Tokens, tokens
from _several_inputs import answers, assert_same
from bittern.binary import BNN
from bittern.deploy import Packed, PackError, pack, verify
from bittern.deploy.fixed_models import MOST_KEPT
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.packed import from_bytes
from bittern.deploy.parameters import arguments_of, bound
from bittern.deploy.structure import named
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.nn.sign_shares import ConstantInputWarning

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@EVERY
def test_every_size_answers_as_the_model(case: Case) -> None:
    """Two batches, three other sizes and those of the example: bit for bit, also from the file and node by node."""
    model = case.build().eval()
    packed = pack(model, case.example(2, *case.packed_with), dynamic=case.dynamic)
    again = from_bytes(packed.to_bytes())
    assert again.to_bytes() == packed.to_bytes()
    assert [size.example for size in packed.sizes] == list(case.packed_with)
    for sizes in (case.packed_with, *case.tried):
        for batch in (1, 3):
            example = case.example(batch, *sizes)
            assert_same(packed, model, example)
            assert_same(again, model, example)
        fixed = again.at(**dict(zip((size.name for size in again.sizes), sizes, strict=True)))
        assert not fixed.sizes
        assert_same(fixed, model, example)
        inputs = bound(fixed.program.parameters, *arguments_of(example))
        alone = named(Interpreter(fixed.program, fixed.tensors, fixed.device)(*inputs))
        assert alone is not None
        assert all(torch.equal(alone[name], value) for name, value in answers(fixed, example).items())


@EVERY
def test_low_bit_layers_are_equal_at_other_sizes(case: Case) -> None:
    model = case.build().eval()
    packed = pack(model, case.example(2, *case.packed_with), dynamic=case.dynamic)
    report = verify(packed, model, [case.example(3, *sizes) for sizes in case.tried], noise=False)
    assert report.exact
    assert all(layer.accumulators for layer in report.layers)
    report = verify(packed, model, case.example(2, *case.packed_with))
    assert report.exact
    assert len(report.sizes) >= 2
    assert "noise also at" in str(report)


def test_what_is_known_of_the_inputs() -> None:
    packed = images()
    assert packed.inputs[0].sizes == (3, "height", "width")
    assert [(size.name, size.least, size.most) for size in packed.sizes] == [("height", 1, None), ("width", 1, None)]
    assert "input [3, height, width]" in repr(packed)
    with pytest.raises(ValueError, match=r"sizes that a call chooses; use .inputs, or .at\(height=12, width=10\)"):
        packed.input_shape  # noqa: B018
    with pytest.raises(ValueError, match="each choice of sizes has an engine of its own"):
        packed.engine  # noqa: B018
    assert packed.at(height=7, width=9).input_shape == (3, 7, 9)


_KEPT: dict[str, tuple[Packed, nn.Module]] = {}


def kept(name: str) -> tuple[Packed, nn.Module]:
    if name not in _KEPT:
        case, model = CASES[name], CASES[name].build().eval()
        _KEPT[name] = pack(model, case.example(2, *case.packed_with), dynamic=case.dynamic), model
    return _KEPT[name]


def images() -> Packed:
    return kept("images")[0]


IDS, MASK = torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        ((IDS, MASK[:, :3]), ValueError, "size 'length' is 4 in input 'ids' and 3 in 'mask'; it must be the same"),
        ((IDS[:1], MASK), ValueError, "all inputs must have as many samples; 'ids' has 1, 'mask' 2"),
        ((IDS[0], MASK), ValueError, r"expected input 'ids' \[batch, length\]; got \[4\]"),
        ((IDS, MASK[None]), ValueError, r"expected input 'mask' \[batch, length\]; got \[1, 2, 4\]"),
        ((IDS, MASK.double()), TypeError, "input 'mask' must be float32"),
        ((IDS, None), TypeError, "input 'mask' must be a torch.Tensor"),
        ((IDS,), TypeError, "argument 'mask' is missing"),
        ((IDS[:, :0], MASK[:, :0]), ValueError, "size 'length' must be at least 1; got 0"),
        ((IDS.repeat(1, 5), MASK.repeat(1, 5)), ValueError, r"those with length == min\(12, length\); got length=20"),
    ],
)
def test_calls_that_do_not_fit(args: Any, error: type[Exception], text: str) -> None:
    packed, _ = kept("tokens")
    with pytest.raises(error, match=text):
        packed(*args)
    with pytest.raises(error, match=text):
        packed.accumulators(*args)


@pytest.mark.parametrize(
    ("sizes", "error", "text"),
    [
        ({}, TypeError, "a number for each of its sizes, height, width; got none"),
        ({"height": 3}, TypeError, "a number for each of its sizes, height, width; got height"),
        ({"height": 3, "width": 3, "depth": 3}, TypeError, "got height, width, depth"),
        ({"height": 3, "width": True}, TypeError, "size 'width' must be a whole number; got True"),
        ({"height": 3, "width": 0}, ValueError, "size 'width' must be at least 1; got 0"),
    ],
)
def test_sizes_that_do_not_fit(sizes: dict[str, int], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        images().at(**sizes)
    with pytest.raises(TypeError, match="for each of its sizes, none; got height"):
        images().at(height=5, width=5).at(height=5)


def test_a_few_choices_are_kept() -> None:
    packed, model = kept("images")
    first = packed.at(height=4, width=5)
    assert packed.at(width=5, height=4) is first
    assert first.tensors["last.weight"].data_ptr() == packed.tensors["last.weight"].data_ptr()
    for width in range(1, MOST_KEPT + 1):
        packed.at(height=6, width=width)
    assert packed.at(height=4, width=5) is not first
    packed.release()
    assert_same(packed, model, torch.randn(2, 3, 4, 5))
    copied = copy.copy(packed)
    copied(torch.randn(2, 3, 4, 5))
    gone = weakref.ref(copied)
    del copied
    assert gone() is None  # at once: nothing that it keeps refers to it


def test_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, avx512_bf16=True)
    packed, model = kept("tokens")
    example = tokens(3, 9)
    for other in (
        copy.deepcopy(packed),
        packed.to("cpu"),
        packed.with_real(torch.float32),
    ):
        assert other.sizes == packed.sizes
        assert_same(other, model, example)
    assert packed.with_real(torch.bfloat16).at(length=3).real == torch.bfloat16


def test_many_threads_of_many_sizes() -> None:
    packed, model = kept("images")
    given = [torch.randn(1 + index % 2, 3, 5 + index % 5, 7 + index % 3) for index in range(12)]
    expected = [model(x) for x in given]
    wrong: list[int] = []

    def run(start: int) -> None:
        for index in range(start, start + len(given)):
            at = index % len(given)
            if not torch.equal(packed(given[at]), expected[at]):
                wrong.append(at)

    threads = [threading.Thread(target=run, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_other_layouts_of_the_input() -> None:
    packed, model = kept("images")
    x = torch.randn(2, 3, 9, 14)
    expected = model(x)
    assert torch.equal(packed(x.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(packed(x.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)), expected)


# -- what the model asks of its sizes ----------------------------------------------------------------------


class Pairs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        return x.reshape(batch, length // 2, 2, width).sum(2)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[1] > 4 else x * 3


class One(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[1] == 1 else x * 3


class Squeezed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, : x.shape[1] // 2].squeeze(1) + 1


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Window(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = BinaryConv2d(3, 8, 5, method=BNN)
        self.two = BinaryConv2d(8, 8, 3, method=BNN)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))


def row(length: int) -> Tensor:
    return torch.randn(2, length, 3)


def test_a_condition_is_checked_in_calls() -> None:
    """An even length; one condition of two inputs; a size that must not be 1."""
    packed = from_bytes(pack(Pairs(), row(6), dynamic={1: "length"}).to_bytes())
    assert_same(packed, Pairs(), row(2))
    assert_same(packed, Pairs(), row(10))
    with pytest.raises(ValueError, match=r"no sizes but those with length == 2 \* \(length // 2\); got length=7"):
        packed(row(7))
    packed = pack(One(), row(6), dynamic={1: "length"})
    assert_same(packed, One(), row(2))
    with pytest.raises(ValueError, match="no sizes but those with length != 1"):
        packed(row(1))
    packed = pack(Squeezed(), row(6), dynamic={1: Dim("length", min=4)})
    assert_same(packed, Squeezed(), row(5))
    with pytest.raises(ValueError, match="at least 4; got 3"):
        packed(row(3))
    with pytest.raises(PackError, match=r"at other sizes, length=1: .*give limits when packing"):
        pack(Squeezed(), row(6), dynamic={1: "length"})


def test_limits_are_those_of_the_model_or_of_the_caller() -> None:
    packed = pack(Branch(), row(6), dynamic={1: "length"})
    assert packed.sizes[0][2:] == (5, None)
    with pytest.raises(ValueError, match="size 'length' must be at least 5; got 4"):
        packed(row(4))
    packed = from_bytes(pack(Branch(), row(6), dynamic={1: Dim("length", min=5, max=9)}).to_bytes())
    assert packed.sizes[0][2:] == (5, 9)
    with pytest.raises(ValueError, match=r"size 'length' must be 5 \.\.\. 9; got 10"):
        packed(row(10))
    with pytest.raises(PackError, match=r"torch.export finds: length = Dim\('length', min=5\); give such limits"):
        pack(Branch(), row(6), dynamic={1: Dim("length", min=2)})
    packed = pack(Window().eval(), torch.randn(2, 3, 11, 12), dynamic={2: "height", 3: "width"})
    assert [size.least for size in packed.sizes] == [7, 7]
    assert packed(torch.randn(1, 3, 7, 8)).shape == (1, 8, 1, 2)
    packed = pack(Tokens().eval(), tokens(2, 5), dynamic={n: {1: Dim("length", max=12)} for n in ("ids", "mask")})
    assert packed.sizes[0][2:] == (1, 12)
    with pytest.raises(ValueError, match=r"size 'length' must be 1 \.\.\. 12; got 13"):
        packed(**tokens(2, 13))


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.across = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.across(x.transpose(1, 2))


class Number(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1) / int(x.shape[1])


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1.0 / x.shape[1]) ** 0.5


class Values(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0].sum() + x


@pytest.mark.parametrize(
    ("model", "example", "dynamic", "text"),
    [
        (Fixed(), row(6), {1: "length"}, "Fixed does not take the sizes .* torch.export finds: length = 6; give such"),
        (Number(), row(6), {1: "length"}, r"torch.export finds: length = 6"),
        (Root(), row(6), {1: "length"}, r"test_open_sizes.py:\d+\): ToFloat\(length\) is no sum, product, floor div"),
        (Sum(), (row(6), row(6)), {"x": {1: "a"}, "y": {1: "b"}}, r"torch.export finds: b = a"),
        (Sum(), (row(6), row(6)), {"x": {1: "a"}}, r"torch.export finds: a = 6"),
        (Sum(), (row(6), row(6)), {1: "a"}, r"dynamic must say of which input, as in .*; the inputs are x, y"),
        (Sum(), (row(6), row(6)), {"z": {1: "a"}}, "dynamic names the input 'z'; the inputs of this example are x, y"),
        (Sum(), (row(6), row(5)), {"x": {1: "a"}, "y": {1: "a"}}, "'a' is 6 in the example, and 5 in its input 'y'"),
        (Branch(), row(6), {0: "samples"}, r"the result must be a real tensor \[batch, ...\]"),
        (Pairs(), row(6), {3: "length"}, r"input 'x' has the dimensions 0 \.\.\. 2; got 3"),
        (Pairs(), row(6), {"x": {"1": "length"}}, r"input 'x' has the dimensions 0 \.\.\. 2; got '1'"),
        (Pairs(), row(6), {1: "batch"}, "input 'x', dimension 1 must have a name, as a variable has"),
        (Pairs(), row(6), {1: "a length"}, "must have a name, as a variable has"),
        (Pairs(), row(6), {1: 6}, "must have a name, as a variable has .* got 6"),
        (Pairs(), row(6), {1: 2 * Dim("half")}, "or be a torch.export.Dim with its own limits"),
        (Pairs(), row(6), {1: Dim.AUTO}, "or be a torch.export.Dim with its own limits"),
        (Pairs(), row(6), {1: "a", 2: Dim("a", max=9)}, "'a' has other limits than before"),
        (
            Pairs(),
            row(6),
            {1: Dim("length", max=5)},
            "'length' is 6 in the example; give .* at least 2 and at most 5",
        ),
        (Pairs(), row(1), {1: "length"}, "'length' is 1 in the example; give one where it is at least 2"),
        (Pairs(), row(6), {}, "dynamic must be a dict|dynamic names no dimension"),
        (Pairs(), row(6), {"x": {}}, "dynamic names no dimension"),
        (Pairs(), row(6), "length", "dynamic must be a dict of inputs by name"),
        (Pairs(), row(6), {"x": "length"}, "dynamic must be a dict of inputs by name"),
    ],
)
def test_what_cannot_be_open_is_refused(model: nn.Module, example: Any, dynamic: Any, text: str) -> None:
    with pytest.raises(PackError, match=text):
        pack(model.eval(), example, dynamic=dynamic)


class Hidden(nn.Module):
    """Another network while torch.export looks: right with the length of the example alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 6 if torch.compiler.is_exporting() else x * x.shape[1]


class Six(nn.Module):
    """Takes one length within the limits, and says so."""

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        return x.reshape(batch, length // 6, 6, width).sum(2)


class Remembers(nn.Module):
    """Fails with every length but that of the example, and does not say so to torch.export."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting() and x.shape[1] != 6:
            raise ValueError("six alone")
        return x * 2


def test_other_sizes_are_compared_when_packing() -> None:
    assert pack(Hidden(), row(6)) is not None
    with pytest.raises(PackError, match=r"disagrees with the original(.|\n)*noise also at length=1; length=7"):
        pack(Hidden(), row(6), dynamic={1: "length"})
    with pytest.raises(PackError, match=r"at other sizes, length=1: the model fails on an input .*six alone"):
        pack(Remembers(), row(6), dynamic={1: "length"})
    with pytest.raises(PackError, match="size 'length' can be nothing but 6, so it is not dynamic"):
        pack(Six(), row(6), dynamic={1: Dim("length", min=5, max=7)})


class Cache(nn.Module):
    """A mask over what was there before and what is new: one size is the sum of two others."""

    def __init__(self) -> None:
        super().__init__()
        self.head = BinaryLinear(4, 3, method=BNN)

    def forward(self, old: Tensor, new: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([old, new], 1)
        return self.head(both * mask.unsqueeze(-1)), both


def test_a_size_that_is_the_sum_of_two() -> None:
    def example(old: int, new: int) -> tuple[Tensor, ...]:
        return torch.randn(2, old, 4), torch.randn(2, new, 4), torch.rand(2, old + new)

    model = Cache().eval()
    packed = pack(model, example(3, 2), dynamic={"old": {1: "old"}, "new": {1: "new"}, "mask": {1: "all"}})
    for sizes in ((1, 1), (4, 1), (3, 8)):
        assert_same(packed, model, example(*sizes))
    with pytest.raises(ValueError, match=r"no sizes but those with .*; got old=3, new=2, all=6"):
        packed(*example(3, 2)[:2], torch.rand(2, 6))


class Blind(nn.Module):
    """What reaches its layer is the same whatever it is shown, though not in all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor([1.0, -1.0, 1.0, -1.0]))
        self.head = BinaryLinear(4, 3, method=BNN)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x * 0 + self.offset)


def test_inputs_that_never_change_are_still_named() -> None:
    """Other sizes cannot be compared place by place, and do not count as a change."""
    with pytest.warns(ConstantInputWarning, match="head"):
        pack(Blind(), torch.randn(2, 6, 4), dynamic={1: "length"})


def test_without_names_nothing_is_open() -> None:
    packed = pack(Images().eval(), torch.randn(2, 3, 12, 10))
    assert packed.sizes == ()
    assert packed.at() is packed
    with pytest.raises(ValueError, match=r"expected an input \[batch, 3, 12, 10\]; got \[2, 3, 12, 11\]"):
        packed(torch.randn(2, 3, 12, 11))
