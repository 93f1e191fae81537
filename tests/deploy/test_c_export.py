# SPDX-License-Identifier: Apache-2.0
"""The C file computes what the packed model computes: every node, every method, every geometry, several compilers."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor, nn

from _c_agreement import check_every_node
from _c_networks import CASES, hand_made, packed_case, randomize
from _c_program import STRICT, build, compiler, run
from _graphs import graphs
from bittern import binary
from bittern.data import digits, normalize
from bittern.deploy import ExportError, Packed, pack, to_c
from bittern.deploy.c_export import rules
from bittern.deploy.c_export.rules import RULES
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.kinds.integer import INTEGER_KINDS
from bittern.deploy.program import Node
from bittern.models import mlp, resnet20_cifar
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quantizer import Method

# networks are drawn or written for their shapes here: a sign behind a ReLU is as good as any other
pytestmark = pytest.mark.filterwarnings("ignore::bittern.ConstantInputWarning")

SAMPLES = 5
LAST_TERMS = 20 * 16
"""Terms of a logit of `with_exact_stem`."""
METHODS: tuple[Method, ...] = (*binary.COMPARED, partial(binary.DoReFa, weight_bits=2, input_bits=2))


def method_name(method: Method) -> str:
    return getattr(method, "__name__", "DoReFa-2-2")


def images(samples: int) -> Tensor:
    data = digits()
    return normalize(data.test_images[:samples], data.mean, data.std)


@pytest.mark.parametrize("name", CASES)
def test_every_node_of_every_structure(name: str, tmp_path: Path) -> None:
    packed, batch = packed_case(name, SAMPLES)
    compared = check_every_node(packed, batch, build(packed, tmp_path))
    assert compared > 0 or name == "reshape only"


def test_the_structures_have_every_kind_of_node() -> None:
    found = {node.kind for name in CASES for node in packed_case(name, SAMPLES)[0].program.nodes}
    # unfolded batch norms come only from a torch without fma, `sign` only from the op: both have a test of their own
    # those of integers are in test_c_integers and test_integer_recurrent
    assert set(RULES) - found == {"batch_norm", "sign", "aten", "part"} | {kind.name for kind in INTEGER_KINDS}


@settings(max_examples=settings.default.max_examples // 4)  # type: ignore[union-attr]  # each is compiled
@given(graph=graphs(views=False))
def test_every_node_of_random_graphs(graph: tuple[nn.Module, tuple[int, ...]]) -> None:
    model, shape = graph
    batch = torch.randn(2, *shape)
    assume(bool(model(batch).isfinite().all()))
    packed = pack(model, batch)
    with TemporaryDirectory() as folder:
        check_every_node(packed, batch, build(packed, Path(folder)))


@pytest.mark.parametrize("name", ["stem ReActNet", "stem DoReFa", "plain stem"])
def test_a_convolution_before_a_sign_keeps_no_real_result(name: str, tmp_path: Path) -> None:
    made = to_c(packed_case(name, 2)[0], tmp_path / "net.c")
    assert "bt_conv_bits(" in made.path.read_text()
    assert "bt_reals" not in made.path.read_text()


def methods_on_digits() -> list[Any]:
    """All on an MLP; on a ResNet-20, with its many layers, those that are unlike, and the others are `slow`."""
    unlike = (binary.BNN, binary.XNORNet, binary.ReActNet, METHODS[-1])
    return [
        pytest.param(
            model,
            method,
            id=f"{method_name(method)}-{model.__name__}",
            marks=() if model is mlp or method in unlike else (pytest.mark.slow,),
        )
        for method in METHODS
        for model in (mlp, resnet20_cifar)
    ]


@pytest.mark.parametrize(("model", "method"), methods_on_digits())
def test_every_method_on_digits(model: type, method: Method, tmp_path: Path) -> None:
    torch.manual_seed(0)
    batch = images(SAMPLES)
    network = model(method=method, in_channels=1, input_size=8)
    network(batch)
    packed = pack(randomize(network), batch[:1])
    assert check_every_node(packed, batch, build(packed, tmp_path)) > 0


def with_exact_stem(method: Method) -> Packed:
    """A network whose real sums before the last layer are exact in any order: few small multiples of powers of 2."""
    torch.manual_seed(0)
    stem = nn.Conv2d(1, 16, 3, padding=1)
    model = nn.Sequential(
        stem,
        nn.BatchNorm2d(16),
        nn.Hardtanh(),
        BinaryConv2d(16, 24, 3, padding=1, method=method),
        nn.BatchNorm2d(24),
        nn.Hardtanh(),
        BinaryConv2d(24, 20, 3, stride=2, padding=1, method=method),
        nn.BatchNorm2d(20),
        nn.Flatten(),
        nn.Linear(LAST_TERMS, 10),
    )
    model(digits().test_images[:2])  # XNOR-Net++ makes its factors when it sees an input
    randomize(model)
    with torch.no_grad():
        for parameter in stem.parameters():
            parameter.copy_((parameter * 64).round() / 64)
    return pack(model.eval(), digits().test_images[:2])


@pytest.mark.parametrize("method", METHODS, ids=method_name)
def test_end_to_end_on_digits(method: Method, tmp_path: Path) -> None:
    """Pixels are multiples of 1/16, so the stem is exact, and with it every bit up to the last layer."""
    packed = with_exact_stem(method)
    batch = digits().test_images[:40]
    traces = run(build(packed, tmp_path), batch)
    for index, trace in enumerate(traces):
        assert_same_accumulators(packed, batch[index : index + 1], trace.accumulators)
    expected = packed(batch)
    found = torch.stack([trace.output for trace in traces])
    bound = 64 * LAST_TERMS**0.5 * torch.finfo(torch.float32).eps * float(expected.abs().max())  # docs/numerics.md
    assert float((found - expected).abs().max()) <= bound


def assert_same_accumulators(packed: Packed, x: Tensor, found: dict[int, object]) -> None:
    accumulators = packed.accumulators(x)
    names = {node.output: node for node in packed.program.nodes}
    steps = Interpreter(packed.program, packed.tensors, packed.device).steps
    low_bit = [node for node in packed.program.nodes if node.kind == "binary"]
    assert len(found) == len(low_bit) == len(accumulators)
    for number, node in zip(sorted(found), low_bit, strict=True):
        assert names[number].kind in ("binary", "threshold")
        integers = torch.tensor(found[number]).reshape(accumulators[node.name].shape[1], -1)
        if node.attrs["code"] == "levels":
            step = steps[packed.program.nodes.index(node)]
            integers = (integers + step.epilogue[0].to(torch.int32).view(-1, 1)) >> 1
        assert torch.equal(integers.flatten(), accumulators[node.name].flatten()), node.name


def test_an_unfolded_batch_norm_and_a_plain_sign(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 3)
    x[0, 0, 0] = torch.tensor([0.0, -0.0, 1.0])
    tensors = {"mean": torch.randn(4), "var": torch.rand(4) + 0.1, "weight": torch.randn(4), "bias": torch.randn(4)}
    for kind, packed in (
        ("batch_norm", hand_made("batch_norm", tensors, {"eps": 1e-5})),
        ("sign", hand_made("sign", {}, {})),
    ):
        folder = tmp_path / kind
        folder.mkdir()
        found = torch.stack([trace.output for trace in run(build(packed, folder), x)])
        assert torch.equal(found, packed(x).flatten(1))


def test_special_numbers_behave_as_in_torch(tmp_path: Path) -> None:
    """NaN stays NaN through clamps and pools and is -1 as a bit; infinities and ties at 0 are what they are."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Hardtanh(-1e38 * 2, 1e38),
        BinaryConv2d(4, 8, 1, method=binary.BNN),
    )
    x = torch.randn(3, 4, 4, 4)
    x[:, :, 0, 0], x[:, 1, 2], x[:, 2, :2], x[0, 3] = float("nan"), float("inf"), -0.0, -float("inf")
    packed = pack(model, torch.randn(1, 4, 4, 4))
    traces = run(build(packed, tmp_path), x)
    nodes = [node for node in packed.program.nodes if node.kind in ("pool", "hardtanh")]
    assert len(nodes) == 2
    pooled = nn.Sequential(*model[:3])(x)
    for index, trace in enumerate(traces):
        found = torch.tensor(trace.reals[nodes[-1].output])
        assert torch.allclose(found, pooled[index].flatten(), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(torch.stack([trace.output for trace in traces]), packed(x).flatten(1))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_levels_round_ties_to_even(bits: int, tmp_path: Path) -> None:
    """Numbers in the middle between two levels, their neighbours, and what is clipped."""
    levels = 2**bits - 1
    middles = (torch.arange(levels) + 0.5) / levels
    x = torch.cat([middles, *(torch.nextafter(middles, torch.tensor(end)) for end in (0.0, 1.0))])
    x = torch.cat([x, torch.tensor([-1.0, -0.0, 1.5, float("inf"), -float("inf")])]).view(1, -1)
    model = nn.Sequential(BinaryLinear(x.numel(), 5, method=partial(binary.DoReFa, weight_bits=1, input_bits=bits)))
    packed = pack(model, torch.randn(1, x.numel()))
    assert check_every_node(packed, x, build(packed, tmp_path)) > 0


def test_sizes_are_those_of_the_object_file(tmp_path: Path) -> None:
    """Constants by symbol: where pointers take 8 bytes, records are larger, so their words are counted."""
    if shutil.which("nm") is None:
        pytest.skip("needs nm (binutils)")
    packed, _ = packed_case("residual", 2)
    made = to_c(packed, tmp_path / "net.c")
    subprocess.run([compiler(), "-std=c99", "-O0", "-c", "net.c"], cwd=tmp_path, check=True)
    listing = subprocess.run(["nm", "-S", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    symbols = {line.split()[3]: int(line.split()[1], 16) for line in listing.splitlines() if len(line.split()) == 4}
    assert made.arena_bytes == symbols["bt_reals"] + symbols["bt_words"]
    text = (tmp_path / "net.c").read_text()
    words = {"bt_window": 12, "bt_layer": 12 + 9 + 6, "bt_convolution": 12 + 3 + 2}
    records = sum(words[type_] for type_ in re.findall(r"^static const (bt_\w+) n\d+ =", text, re.MULTILINE))
    arrays = sum(size for name, size in symbols.items() if re.fullmatch(r"n\d+_\w+", name))
    assert made.constant_bytes == arrays + 4 * records


def test_the_result_says_what_was_written(tmp_path: Path) -> None:
    packed, _ = packed_case("residual", 2)
    made = to_c(packed, tmp_path / "my.net.c", name="int")
    assert (made.name, made.input_size, made.output_size) == ("int", 3 * 17 * 15, 5)
    assert f"{made.constant_bytes:,} bytes of constants" in str(made)
    assert f"{made.arena_bytes:,} bytes of arena" in str(made)
    text = made.path.read_text()
    assert "void int_run(const float *input, float *output);" in text
    assert "#define INT_INPUT_SIZE 765" in text
    subprocess.run([compiler(), *STRICT, "-c", made.path, "-o", tmp_path / "net.o"], check=True)


def test_a_layer_that_is_called_twice_has_its_constants_once(tmp_path: Path) -> None:
    text = to_c(packed_case("twice", 2)[0], tmp_path / "net.c").path.read_text()
    assert len(re.findall(r"^static const bt_layer ", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^static const uint32_t n\d+_weight", text, re.MULTILINE)) == 1


def test_the_same_model_gives_the_same_file(tmp_path: Path) -> None:
    packed, _ = packed_case("everything", 2)
    to_c(packed, tmp_path / "a.c", name="net")
    to_c(packed, tmp_path / "b.c", name="net")
    assert (tmp_path / "a.c").read_bytes() == (tmp_path / "b.c").read_bytes()


def test_names_from_a_file_cannot_leave_their_comment(tmp_path: Path) -> None:
    packed, _ = packed_case("twice", 2)
    packed.info["model"] = "*/ int evil; /* \\ ??/ \n é"
    made = to_c(packed, tmp_path / "net.c")
    assert "int evil;" in made.path.read_text()
    subprocess.run([compiler(), *STRICT, "-c", "net.c"], cwd=tmp_path, check=True)
    listing = subprocess.run(["nm", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "evil" not in listing
    assert "net_run" in listing


@pytest.mark.parametrize(
    ("path", "name", "text"),
    [
        ("net", None, "must end in .c"),
        ("net.cpp", None, "must end in .c"),
        ("2net.c", None, "must be a C identifier .* got '2net'; pass name="),
        ("net.c", "a-b", "got 'a-b'"),
        ("net.c", "_net", "got '_net'"),
        ("net.c", "", "got ''"),
        ("net.c", "é", "got 'é'"),
    ],
)
def test_bad_paths_and_names_are_refused(path: str, name: str | None, text: str, tmp_path: Path) -> None:
    packed, _ = packed_case("twice", 2)
    with pytest.raises(ValueError, match=text):
        to_c(packed, tmp_path / path, name)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot write"):
        to_c(packed_case("twice", 2)[0], tmp_path / "no" / "net.c")


def test_a_model_on_another_device_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, _ = packed_case("twice", 2)
    monkeypatch.setattr(packed, "device", torch.device("cuda"))  # it is shared with other tests
    with pytest.raises(ValueError, match=re.escape("is on cuda; move it first: packed.to('cpu')")):
        to_c(packed, tmp_path / "net.c")


def test_a_kind_without_c_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(rules.RULES, "rprelu")
    with pytest.raises(ExportError, match=r"to_c: node 'layers.3' \(rprelu\): has no C code; leave"):
        to_c(packed_case("everything", 2)[0], tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_accumulators_with_two_readers_are_refused(tmp_path: Path) -> None:
    packed, _ = packed_case("chain BNN", 2)
    node = next(node for node in packed.program.nodes if node.kind == "threshold")
    again = Node("threshold", "again", node.inputs, 99, node.attrs, node.tensors)
    program = replace(packed.program, nodes=(*packed.program.nodes, again))
    twice = Packed(program, packed.tensors, {}, torch.device("cpu"))
    with pytest.raises(ExportError, match=r"node '0' \(binary\): its accumulators must have one reader; they have 2"):
        to_c(twice, tmp_path / "net.c")


def test_five_dimensions_are_refused(tmp_path: Path) -> None:
    packed = hand_made("slice", {}, {"dim": 1, "start": 1, "step": 1, "stop": None}, (3, 2, 2, 2, 2))
    with pytest.raises(ExportError, match=r"node 'only' \(slice\): has 5 dimensions beside the batch; the C code"):
        to_c(packed, tmp_path / "net.c")


def test_nan_has_no_literal(tmp_path: Path) -> None:
    packed = hand_made("bias", {"bias": torch.tensor([0.0, 1.0, float("nan"), 2.0])}, {"last": False})
    with pytest.raises(ExportError, match=r"node 'only' \(bias\): its bias has NaN"):
        to_c(packed, tmp_path / "net.c")
