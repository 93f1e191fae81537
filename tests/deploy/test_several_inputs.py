# SPDX-License-Identifier: Apache-2.0
"""Models that take more than one tensor: packed, called, saved and loaded as they were called."""

from __future__ import annotations

import copy
import json
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from _packed_files import program_of, with_program
from _several_inputs import CASES, Case, Cell, Denoiser, ImageAndTokens, Siamese, answers, assert_same
from bittern.binary import BNN
from bittern.deploy import FormatError, Packed, PackError, pack, verify
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.packed import from_bytes
from bittern.deploy.parameters import arguments_of, bound
from bittern.deploy.structure import named
from bittern.nn import BinaryConv2d, BinaryLinear

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@EVERY
@pytest.mark.parametrize("samples", [1, 2])
def test_every_network_answers_every_batch_as_it_did(case: Case, samples: int) -> None:
    model = case.build().eval()
    packed = pack(model, case.example(samples))
    assert tuple(given.name for given in packed.inputs) == case.names
    assert tuple(given.batch for given in packed.inputs) == case.dims
    again = from_bytes(packed.to_bytes())
    assert again.to_bytes() == packed.to_bytes()
    assert again.program.parameters == packed.program.parameters
    for batch in (1, 3, 2):
        example = case.example(batch)
        assert_same(packed, model, example)
        assert_same(again, model, example)
        report = verify(again, model, [example, case.example(4)], noise=False)
        assert report.exact
        assert report.given == batch + 4
        inputs = bound(packed.program.parameters, *arguments_of(example))
        alone = named(Interpreter(packed.program, packed.tensors, packed.device)(*inputs))
        assert alone is not None
        for name, value in answers(packed, example).items():
            assert torch.equal(alone[name], value)


def test_what_lies_otherwise_in_memory() -> None:
    model = Siamese().eval()
    packed = pack(model, CASES["two images"].example(2))
    left, right = torch.randn(9, 3, 8, 4).permute(3, 1, 0, 2), torch.randn(8, 6, 9, 16)[::2, ::2, :, ::2]
    expected = packed(left.contiguous(), right.contiguous())
    assert torch.equal(packed(left, right), expected)
    last = torch.channels_last
    assert torch.equal(packed(left.contiguous(memory_format=last), right.contiguous(memory_format=last)), expected)
    assert torch.equal(packed(left, left), torch.zeros(4, 8))
    with torch.inference_mode():
        assert torch.equal(packed(left, right), expected)


def test_arguments_by_position_and_by_name() -> None:
    model = Siamese().eval()
    packed = pack(model, CASES["two images"].example(2))
    left, right = CASES["two images"].example(3)
    expected = model(left, right)
    for found in (packed(left, right=right), packed(right=right, left=left), packed(left, right, None)):
        assert torch.equal(found, expected)
    assert "inputs left [3, 9, 8], right [3, 9, 8]" in repr(packed)
    with pytest.raises(ValueError, match="it is called with left, right, so its input has no one shape"):
        packed.input_shape  # noqa: B018


LEFT, RIGHT = torch.zeros(2, 3, 9, 8), torch.zeros(2, 3, 9, 8)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "text"),
    [
        ((LEFT,), {}, TypeError, "argument 'right' is missing"),
        ((LEFT, RIGHT, None, None), {}, TypeError, "at most 3 arguments by position; got 4"),
        ((LEFT, RIGHT), {"left": LEFT}, TypeError, "argument 'left' is given twice"),
        ((LEFT, RIGHT), {"third": LEFT}, TypeError, "argument 'third' is none of those that it takes, left, right, s"),
        ((LEFT, RIGHT, 2.0), {}, ValueError, "argument 'scale' was None .* got 2.0; pack the model again with it"),
        ((LEFT, RIGHT, LEFT), {}, ValueError, "argument 'scale' was None .* got a tensor"),
        ((LEFT, RIGHT[:1]), {}, ValueError, "all inputs must have as many samples; 'left' has 2, 'right' 1"),
        ((LEFT, RIGHT[..., :7]), {}, ValueError, "expected input 'right' .batch, 3, 9, 8.; got .2, 3, 9, 7."),
        ((LEFT, RIGHT[0]), {}, ValueError, "expected input 'right' .batch, 3, 9, 8.; got .3, 9, 8."),
        ((LEFT, RIGHT.double()), {}, TypeError, "input 'right' must be float32; got torch.float64; call .float"),
        ((LEFT, None), {}, TypeError, "input 'right' must be a torch.Tensor; got NoneType"),
        ((LEFT, RIGHT.to("meta")), {}, ValueError, "is on cpu, input 'right' on meta"),
        ((LEFT, RIGHT.to_sparse()), {}, TypeError, "input 'right' must be dense"),
    ],
)
def test_calls_that_do_not_fit(args: Any, kwargs: Any, error: type[Exception], text: str) -> None:
    global_packed = _siamese()
    with pytest.raises(error, match=text):
        global_packed(*args, **kwargs)


_KEPT: list[Packed] = []


def _siamese() -> Packed:
    if not _KEPT:
        _KEPT.append(pack(Siamese().eval(), CASES["two images"].example(2)))
    return _KEPT[0]


def test_a_state_goes_round() -> None:
    """Step after step, what comes out goes in again: as a tuple or as a list."""
    model = Cell().eval()
    packed = pack(model, CASES["a state"].example(2))
    state = mine = (torch.zeros(2, 5, 16), torch.zeros(2, 5, 16))
    for step in range(3):
        x = torch.randn(5, 3, 12)
        y, state = model(x, state)
        z, mine = packed(x, list(mine) if step == 1 else mine)
        assert torch.equal(y, z)
        assert torch.equal(state[1], mine[1])
    for wrong, text in (((state[0],), "'state' must be a tuple or list of 2; got 1 entries"), (x, "got Tensor")):
        with pytest.raises(TypeError, match=text):
            packed(x, wrong)
    with pytest.raises(ValueError, match=r"'x' has 5, 'state\.0' 2"):
        packed(x, (state[0][:, :2], state[1]))


def test_constants_are_part_of_the_program() -> None:
    model = Siamese().eval()
    packed = pack(model, CASES["by name, one a constant"].example(2))
    left, right = CASES["two images"].example(2)
    assert torch.equal(packed(left, right), model(left, right, 0.5))
    assert torch.equal(packed(left, right, 0.5), model(left, right, 0.5))
    for other in (None, 0.25, 1, True):
        with pytest.raises(ValueError, match=r"argument 'scale' was 0\.5 when the model was packed"):
            packed(left, right, other)


def test_what_a_dict_lacks() -> None:
    case = CASES["a list and a dict"]
    packed = pack(case.build().eval(), case.example(2))
    images, sizes = case.example(2)
    with pytest.raises(TypeError, match="argument 'sizes' must be a dict of unread, size; got one of size"):
        packed(images, {"size": sizes["size"]})
    with pytest.raises(TypeError, match="argument 'images' must be a tuple or list of 2; got Tensor"):
        packed(images[0], sizes)


def test_answers_have_memory_of_their_own() -> None:
    """Inputs that are returned untouched are copied."""
    case = CASES["a list and a dict"]
    packed = pack(case.build().eval(), case.example(2))
    images, sizes = case.example(2)
    kept = sizes["size"].clone(), images[0].clone()
    _, size, image = packed(images, sizes)
    size.zero_()
    image.zero_()
    assert torch.equal(sizes["size"], kept[0])
    assert torch.equal(images[0], kept[1])


class Twice(nn.Module):
    """One input on two ways, another that is not read, a third that only adds."""

    def __init__(self) -> None:
        super().__init__()
        self.one = BinaryConv2d(8, 8, 3, padding=1, method=BNN)
        self.two = BinaryConv2d(8, 8, 3, padding=1, method=BNN)

    def forward(self, x: Tensor, unread: Tensor, residual: Tensor) -> Tensor:
        return self.one(x) + residual + self.two(x) + x


def test_native_groups_read_every_input() -> None:
    model = Twice().eval()
    packed = pack(model, (torch.randn(2, 8, 6, 6), torch.randn(2, 3), torch.randn(2, 8, 6, 6)))
    assert {group.how for group in packed.engine.groups} <= {"block", "native", "torch"}
    assert any(2 in group.reads for group in packed.engine.groups if group.how == "block")
    example = (torch.randn(5, 8, 6, 6), torch.randn(5, 3), torch.randn(5, 8, 6, 6))
    assert torch.equal(packed(*example), model(*example))
    sums = packed.accumulators(*example)
    assert set(sums) == {"one", "two"}
    assert copy.deepcopy(packed)(*example).equal(packed(*example))
    assert len(packed.engine.profile(*example, repeats=1)) == len(packed.engine.groups)


def test_a_layer_by_itself() -> None:
    layer = nn.LSTM(5, 6).eval()
    packed = pack(layer, (torch.randn(7, 2, 5), (torch.randn(1, 2, 6), torch.randn(1, 2, 6))))
    assert [given.batch for given in packed.inputs] == [1, 1, 1]
    example = (torch.randn(7, 3, 5), (torch.randn(1, 3, 6), torch.randn(1, 3, 6)))
    assert_same(packed, layer, example)


class Rest(nn.Module):
    """Arguments by position alone, and any by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = BinaryLinear(6, 4, method=BNN)

    def forward(self, first: Tensor, *more: Tensor, **named: Tensor) -> Tensor:
        return self.layer(torch.stack([first, *more]).sum(0)) + sum(named.values())


def test_arguments_that_have_no_name_of_their_own() -> None:
    model = Rest().eval()
    packed = pack(model, (torch.randn(2, 6), torch.randn(2, 6), torch.randn(2, 6)))
    assert [given.name for given in packed.inputs] == ["first", "more.0", "more.1"]
    example = tuple(torch.randn(3, 6) for _ in range(3))
    assert_same(packed, model, example)
    packed = pack(model, {"first": torch.randn(2, 6), "bias": torch.randn(2, 4)})
    assert_same(from_bytes(packed.to_bytes()), model, {"first": torch.randn(3, 6), "bias": torch.randn(3, 4)})


# -- the batch ---------------------------------------------------------------------------------------------


class Masked(nn.Module):
    """Attention with a mask of pairs of tokens, which has no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = BinaryLinear(8, 8, method=BNN)

    def forward(self, mask: Tensor, x: Tensor) -> Tensor:
        x = self.layer(x)
        scores = x @ x.transpose(1, 2) + mask
        return scores.softmax(-1) @ x


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_a_table_is_not_taken_for_a_batch(samples: int) -> None:
    """Even where it comes first, and has as many rows as there are samples."""
    model = Masked().eval()
    packed = pack(model, (torch.randn(4, 4), torch.randn(samples, 4, 8)))
    assert [given.batch for given in packed.inputs] == [None, 0]
    assert_same(packed, model, (torch.randn(4, 4), torch.randn(3, 4, 8)))


class Fixed(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x.view(2, 8) + y


def test_no_dimension_is_a_batch() -> None:
    with pytest.raises(PackError, match=r"found no dimension of the inputs that is a batch: .*another number"):
        pack(Fixed(), (torch.randn(2, 8), torch.randn(2, 8)))
    with pytest.raises(PackError, match=r"the model fails on inputs .2, 8., .3, 8.: "):
        pack(Masked(), (torch.randn(2, 8), torch.randn(3, 8)))


@pytest.mark.parametrize(
    ("example", "text"),
    [
        ([LEFT, RIGHT], "a tuple of the arguments by position or a dict of them by name; got list"),
        ((LEFT,), "the example does not fit Siamese.forward.*missing a required argument: 'right'"),
        ({"left": LEFT, "other": RIGHT}, "the example does not fit Siamese.forward"),
        ((LEFT, object()), "argument 'right' of the example is builtins.object, which no file holds"),
        ((LEFT, {1: RIGHT}), "argument 'right' of the example is builtins.dict, which no file holds"),
        ((LEFT, RIGHT, float("nan")), "argument 'scale' of the example is builtins.float"),
        ((LEFT, RIGHT.half()), "argument 'right' of the example must be a CPU tensor .*got torch.float16"),
        ((LEFT, RIGHT[:0]), "argument 'right' of the example must be a CPU tensor without sizes of 0"),
        ((None, None), "there is no tensor in the example"),
    ],
)
def test_examples_that_are_none(example: Any, text: str) -> None:
    with pytest.raises(PackError, match=text):
        pack(Siamese(), example)


def test_a_deep_structure_is_refused() -> None:
    tree: Any = LEFT
    for _ in range(9):
        tree = (tree,)
    with pytest.raises(PackError, match="argument 'left' of the example: a structure is nested more than 8 times"):
        pack(Siamese(), (tree, RIGHT))


def test_statistics_of_images_are_for_models_of_images_alone() -> None:
    with pytest.raises(PackError, match="mean and std are those of images, and this network takes more than one"):
        pack(Siamese(), (LEFT, RIGHT), mean=0.5, std=0.5)
    assert pack(Siamese(), (LEFT, RIGHT), classes=list("abcdefgh")).info["classes"].startswith('["a"')


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.seen += 1
        return x * self.seen + y


def test_a_buffer_that_changes_is_refused_by_name() -> None:
    with pytest.raises(PackError, match="Counts writes into 'seen' in eval mode, and a packed model has no memory"):
        pack(Counts(), (torch.randn(2, 4), torch.randn(2, 4)))


class LowBitTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = BinaryLinear(4, 4, method=BNN)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return x + self.layer(table)


def test_a_low_bit_layer_needs_the_batch() -> None:
    with pytest.raises(PackError, match=r"layer 'layer' .*has no batch"):
        pack(LowBitTime(), (torch.randn(2, 4), torch.randn(1, 4)))


# -- verify ------------------------------------------------------------------------------------------------


def test_verify_notices() -> None:
    model, other = ImageAndTokens().eval(), ImageAndTokens().eval()
    example = CASES["an image, tokens and their mask"].example(3)
    packed = pack(model, example)
    report = verify(packed, model, example)
    assert report.exact
    assert (report.given, report.noise) == (3, 8)
    assert not verify(packed, other, example).exact
    with pytest.raises(TypeError, match="argument 'mask' is missing"):
        verify(packed, model, (example["image"], example["tokens"]))
    with pytest.raises(TypeError, match=r"must be a torch\.Tensor; got int"):
        verify(packed, model, {**example, "mask": 3})


def test_pack_compares_with_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """An example of zeros proves little: what is wrong with other numbers is found before anything is returned."""
    import bittern.deploy.front.native as native

    real = native._two("add", "add")
    monkeypatch.setitem(native.ANYHOW, "sub.Tensor", real)
    with pytest.raises(PackError, match="disagrees with the original"):
        pack(Siamese(), (LEFT, RIGHT))


# -- files -------------------------------------------------------------------------------------------------


def test_one_tensor_is_written_as_before() -> None:
    packed = pack(nn.Linear(4, 3), torch.randn(2, 4))
    assert set(program_of(packed.to_bytes())) == {"input", "output", "nodes"}
    assert packed.program.inputs[0].name == "x"
    tokens = pack(nn.Embedding(9, 4), torch.zeros(2, 5, dtype=torch.int64))
    assert program_of(tokens.to_bytes())["input_type"] == "int64"
    assert torch.equal(tokens(x=torch.ones(3, 5, dtype=torch.int64)), tokens(torch.ones(3, 5, dtype=torch.int64)))


def test_one_tensor_by_name() -> None:
    layer = nn.Linear(4, 3)
    packed = from_bytes(pack(layer, {"input": torch.randn(2, 4)}).to_bytes())
    x = torch.randn(3, 4)
    assert torch.equal(packed(input=x), layer(x))
    assert torch.equal(packed(x), layer(x))
    assert packed.input_shape == (4,)
    assert verify(packed, layer, x).exact


def nested(depth: int) -> Any:
    tree: Any = 0
    for _ in range(depth):
        tree = ["tuple", tree]
    return tree


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p.update(inputs=[]), "inputs must be a list of 1 to 256"),
        (lambda p: p.update(inputs=p["inputs"] * 200), "inputs must be a list of 1 to 256"),
        (lambda p: p["inputs"].append(p["inputs"][0]), "two inputs have the same name"),
        (lambda p: p["inputs"].append(["more", "float32", [3], 0]), "must hold each of its 3 inputs once"),
        (lambda p: p["inputs"].pop(), "must hold each of its 1 inputs once"),
        (lambda p: p["inputs"][0].pop(), "input 0 must be a list of name, type, sizes and the dimension of the batch"),
        (lambda p: p["inputs"][1].__setitem__(0, ""), "input 1 has no name"),
        (lambda p: p["inputs"][1].__setitem__(1, "float16"), "input 'right' is of type 'float16'"),
        (lambda p: p["inputs"][1].__setitem__(1, "int64"), "takes a real tensor; got int64"),
        (lambda p: p["inputs"][1].__setitem__(2, [3, 0, 8]), "input 'right': its sizes"),
        (lambda p: p["inputs"][1].__setitem__(2, [2**24, 2**24]), "input 'right': its sizes"),
        (lambda p: p["inputs"][1].__setitem__(2, [1] * 8), "input 'right': its sizes"),
        (lambda p: p["inputs"][1].__setitem__(2, [3, 2**12, 2**12]), "with it the program takes"),
        (lambda p: p["inputs"][1].__setitem__(3, 4), "input 'right': its batch must be one of its 4 dimensions"),
        (lambda p: p["inputs"][1].__setitem__(3, True), "input 'right': its batch must be"),
        (lambda p: p["inputs"][1].__setitem__(3, None), r"it takes \[batch, ...\]"),
        (lambda p: [e.__setitem__(3, None) for e in p["inputs"]], "none of its inputs has a batch"),
        (lambda p: p.update(parameters=[]), "parameters must be a list of 1 to 256"),
        (lambda p: p["parameters"].append(p["parameters"][0]), "two parameters have the same name"),
        (lambda p: p["parameters"][0].__setitem__(1, 1), "must hold each of its 2 inputs once"),
        (lambda p: p["parameters"][0].__setitem__(1, -1), "must hold each of its 2 inputs once"),
        (lambda p: p["parameters"][0].__setitem__(1, ["tuple", 0, 1]), "must hold each of its 2 inputs once"),
        (lambda p: p["parameters"][0].__setitem__(1, ["dict", ["a", "a"], 0, 1]), "a different name for each"),
        (lambda p: p["parameters"][0].__setitem__(1, ["dict", ["a"], 0, 1]), "a different name for each"),
        (lambda p: p["parameters"][0].__setitem__(1, ["dict"]), "a different name for each"),
        (lambda p: p["parameters"][0].__setitem__(1, ["set", 0]), "a structure is a tuple, a list, a dict or a const"),
        (lambda p: p["parameters"][0].__setitem__(1, []), "a structure is a number or a list"),
        (lambda p: p["parameters"][0].__setitem__(1, nested(9)), "a structure is nested more than 8 times"),
        (lambda p: p["parameters"][0].__setitem__(1, nested(400)), "a structure is nested more than 8 times"),
        (lambda p: p["parameters"][2].__setitem__(1, ["constant", [1]]), "a constant is None, a number or a text"),
        (lambda p: p["parameters"][0].__setitem__(2, "never"), "it must have a name and one of either"),
        (lambda p: p["parameters"][0].__setitem__(0, 3), "it must have a name and one of either"),
        (lambda p: p.pop("parameters"), "exactly"),
        (lambda p: p.update(input=[3]), "exactly"),
        (lambda p: p["nodes"][0][2].__setitem__(0, 2), "reads values that are not yet written"),
    ],
)
def test_hostile_files_are_refused(change: Callable[[dict[str, Any]], Any], text: str) -> None:
    with pytest.raises(FormatError, match=text):
        from_bytes(with_program(change, _siamese().to_bytes()))
    assert from_bytes(with_program(lambda p: None, _siamese().to_bytes())).inputs == _siamese().inputs


def results_of(program: dict[str, Any]) -> dict[str, Any]:
    kind, _, _, attrs, _ = program["nodes"][-1]
    assert kind == "results"
    found: dict[str, Any] = attrs
    return found


@pytest.mark.parametrize(
    ("structure", "text"),
    [
        (["tuple", 0, 1], "must hold each of its 3 results once"),
        (["tuple", 0, ["tuple", 1, 1]], "must hold each of its 3 results once"),
        (["tuple", 0, ["tuple", 2, 1]], "must hold each of its 3 results once"),
        (["tuple", 0, nested(8)], "nested more than 8 times"),
        (["tuple", "0"], "a structure is a number or a list"),
    ],
)
def test_hostile_structures_of_results_are_refused(structure: Any, text: str) -> None:
    packed = pack(Cell().eval(), CASES["a state"].example(2))
    program = program_of(packed.to_bytes())
    assert results_of(program)["structure"] == ["tuple", 0, ["tuple", 1, 2]]
    data = packed.to_bytes()
    before = json.dumps(json.dumps(["tuple", 0, ["tuple", 1, 2]], separators=(",", ":")))[1:-1].encode()
    after = json.dumps(json.dumps(structure, separators=(",", ":")))[1:-1].encode()
    (length,) = struct.unpack("<Q", data[:8])
    assert before in data[8 : 8 + length]
    header = data[8 : 8 + length].replace(before, after)
    with pytest.raises(FormatError, match=re.escape(text)):
        from_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])


def test_a_time_of_each_sample_and_one_for_all_agree() -> None:
    model = Denoiser().eval()
    each = pack(model, (torch.randn(2, 4, 8, 8), torch.tensor([3, 4])))
    latent = torch.randn(3, 4, 8, 8)
    one = pack(model, (torch.randn(2, 4, 8, 8), torch.tensor(3)))
    assert torch.equal(each(latent, torch.full((3,), 5))["sample"], one(latent, torch.tensor(5))["sample"])
    with pytest.raises(ValueError, match=r"expected input 'timestep' \[\]; got \[3\]"):
        one(latent, torch.full((3,), 5))


@EVERY
def test_a_large_batch_in_parts(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code runs a few samples at a time: every input is taken apart along its own batch, or not at all."""
    monkeypatch.setattr("bittern.deploy.engine.schedule.PART_BYTES", 1)
    model = case.build().eval()
    packed = pack(model, case.example(2))
    assert_same(packed, model, case.example(9))


# -- two batches in one


class Doubled(nn.Module):
    """A layer on two batches at once, as contrastive losses call it, and what becomes of the halves."""

    def __init__(self, layer: nn.Module, halves: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.layer = layer
        self.halves = halves

    def forward(self, a: Tensor, b: Tensor) -> Any:
        both = self.layer(torch.cat([a, b]))
        return self.halves(both, a)


def by_position(both: Tensor, a: Tensor) -> Tensor:
    return both[: a.size(0)] * both[a.size(0) :]


def by_view(both: Tensor, a: Tensor) -> Tensor:
    return both.view(2, a.size(0), -1).sum(0)


def by_chunk(both: Tensor, a: Tensor) -> Tensor:
    first, second = both.chunk(2)
    return first * second


def by_split(both: Tensor, a: Tensor) -> Tensor:
    first, second = torch.split(both, a.shape[0], dim=0)
    return first * second


def by_length(both: Tensor, a: Tensor) -> Tensor:
    first, second = both.split(len(a))  # a number in Python
    return first * second


def line_of(function: Callable[..., Any]) -> int:
    return function.__code__.co_firstlineno + 1


@pytest.mark.parametrize("layer", [nn.Linear, BinaryLinear], ids=["real", "low-bit"])
@pytest.mark.parametrize("halves", [by_position, by_view, by_chunk, by_split])
def test_a_linear_layer_takes_two_batches_in_one(layer: type[nn.Linear], halves: Any) -> None:
    method = {} if layer is nn.Linear else {"method": BNN}
    model = Doubled(layer(4, 5, **method), halves).eval()
    packed = pack(model, (torch.randn(3, 4), torch.randn(3, 4)))
    for batch in (1, 2, 5):
        assert_same(packed, model, (torch.randn(batch, 4), torch.randn(batch, 4)))


def test_halves_of_two_batches_may_reach_a_layer() -> None:
    model = Doubled(nn.Linear(4, 5), lambda both, a: model.behind(by_view(both, a)[:, :, None, None])).eval()
    model.behind = BinaryConv2d(5, 6, 1, method=BNN)
    packed = pack(model, (torch.randn(3, 4), torch.randn(3, 4)))
    for batch in (1, 4):
        assert_same(packed, model, (torch.randn(batch, 4), torch.randn(batch, 4)))


def test_a_split_that_fixes_the_batch_is_refused_with_its_place() -> None:
    model = Doubled(nn.Linear(4, 5), by_length)
    where = rf"as in both\.split\(x\.size\(0\)\) \(at {re.escape(__file__)}:{line_of(by_length)}\)"
    with pytest.raises(PackError, match=rf"its answer depends on the size of the batch; .*{where}"):
        pack(model, (torch.randn(3, 4), torch.randn(3, 4)))


def test_a_result_of_two_batches_belongs_in_a_tuple() -> None:
    example = torch.randn(3, 4), torch.randn(3, 4)
    with pytest.raises(PackError, match=r"one entry a sample; the model returns \[2 \* batch, 5\]; .* in a tuple"):
        pack(Doubled(nn.Linear(4, 5), lambda both, a: both), example)
    model = Doubled(nn.Linear(4, 5), lambda both, a: (both,)).eval()
    assert_same(pack(model, example), model, (torch.randn(2, 4), torch.randn(2, 4)))
