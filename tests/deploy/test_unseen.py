# SPDX-License-Identifier: Apache-2.0
"""What stands around a forward, hooks, wrappers, in-place calls: computed as the module does, or refused."""

from __future__ import annotations

import threading
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from bittern.binary import BNN, XNORNetPlusPlus
from bittern.deploy import FormatError, PackError, pack, verify
from bittern.deploy.format import decode, encode
from bittern.deploy.packed import from_bytes
from bittern.deploy.program import one_input
from bittern.nn import BinaryConv2d, BinaryLinear

ZEROS = torch.zeros(1, 4, 6, 6)
"""An example that shows nothing by itself."""

pytestmark = pytest.mark.filterwarnings(
    "ignore::bittern.ConstantInputWarning",
    "ignore:.torch.nn.utils.weight_norm. is deprecated:FutureWarning",
)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.Hardtanh()), BinaryConv2d(4, 4, 3, method=BNN)
    ).eval()


def twice(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output * 2 - 0.7


def shifted(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (args[0] + 1,)


HOOKS: dict[str, Callable[[nn.Sequential], Any]] = {
    "behind a layer": lambda m: m[0].register_forward_hook(twice),
    "before a layer": lambda m: m[0].register_forward_pre_hook(shifted),
    "behind a sequence": lambda m: m[1].register_forward_hook(twice),
    "before a low-bit layer": lambda m: m[2].register_forward_pre_hook(shifted),
    "behind a low-bit layer": lambda m: m[2].register_forward_hook(twice),
    "behind the model": lambda m: m.register_forward_hook(twice),
    "always": lambda m: m[1][0].register_forward_hook(twice, always_call=True),
    "weight norm": lambda m: nn.utils.weight_norm(m[0]),
    "spectral norm": lambda m: nn.utils.spectral_norm(m[0]),
    "pruned": lambda m: prune.l1_unstructured(m[0], "weight", 0.5),
    "parametrized": lambda m: parametrizations.weight_norm(m[0]),
    "low-bit weight parametrized": lambda m: parametrizations.spectral_norm(m[2]),
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_and_computed_weights_are_packed_as_they_run(name: str) -> None:
    model, x = net(), torch.randn(5, 4, 6, 6)
    with torch.no_grad():
        without = model(x)
    HOOKS[name](model)
    packed = pack(model.eval(), ZEROS)
    with torch.no_grad():
        expected = model(x)
    assert torch.equal(packed(x), expected)
    if name.split()[0] in ("behind", "before", "always", "pruned"):
        assert not torch.equal(expected, without)


@pytest.mark.parametrize(
    ("computed", "remover"),
    [
        (nn.utils.weight_norm, "remove_weight_norm"),
        (nn.utils.spectral_norm, "remove_spectral_norm"),
        (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), "prune.remove"),
    ],
)
def test_a_low_bit_weight_that_a_hook_computes_is_refused(computed: Callable[[nn.Module], Any], remover: str) -> None:
    model = net()
    computed(model[2])
    with pytest.raises(PackError, match=rf"layer '2' .BinaryConv2d. computes its weight in a hook.*{remover}"):
        pack(model, ZEROS)


def test_a_hook_on_all_modules_is_refused() -> None:
    handle = nn.modules.module.register_module_forward_hook(twice)
    try:
        with pytest.raises(PackError, match="global forward hook"):
            pack(net(), ZEROS)
    finally:
        handle.remove()
    pack(net(), ZEROS)


def test_what_is_wrong_is_named_at_once() -> None:
    model = replaced(0)
    model[1][0] = nn.LazyBatchNorm2d()
    with pytest.raises(PackError, match=r"2 things would be lost: layer '0' .*; layer '1.0' "):
        pack(model, ZEROS)


class OwnCall(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class ForeverTraining(nn.Module):
    """Holds a batch norm that no call of eval reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def train(self, mode: bool = True) -> ForeverTraining:
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def replaced(layer: int | None) -> nn.Sequential:
    model = net()
    module = model if layer is None else model[layer]
    plain = module.forward
    module.forward = types.MethodType(lambda self, x: plain(x) * 2, module)  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (replaced(0), "layer '0' .Conv2d. had its forward replaced"),
        (replaced(None), "the model's forward or __call__ was replaced"),
        (OwnCall(*net()), "the model's forward or __call__ was replaced"),
        (nn.Sequential(net(), ForeverTraining()), "layer '1.norm' .BatchNorm2d. stays in training mode"),
        (nn.Sequential(BinaryConv2d(4, 4, 3, method=XNORNetPlusPlus)), "without a size; run the model once"),
        (nn.Sequential(nn.LazyConv2d(4, 3)), "without a size; run the model once"),
        (lambda x: x, "model must be a torch.nn.Module; got function"),
    ],
    ids=["layer", "root", "call", "training", "lazy method", "lazy", "function"],
)
def test_modules_that_are_not_what_their_type_says(model: Any, text: str) -> None:
    with pytest.raises(PackError, match=text):
        pack(model, ZEROS)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(Doubled(4, 4, 3)),
        nn.DataParallel(net()),
        torch.optim.swa_utils.AveragedModel(net()),
        torch.compile(net(), backend="eager"),
        torch.compile(nn.DataParallel(net()), backend="eager"),
        nn.Sequential(nn.SyncBatchNorm(4), net()),
    ],
    ids=["subclass", "parallel", "averaged", "compiled", "twice", "synchronized"],
)
def test_subclasses_and_wrappers_are_seen_through(model: nn.Module) -> None:
    inside = getattr(getattr(model, "_orig_mod", model), "module", getattr(model, "_orig_mod", model)).eval()
    packed, x = pack(model, ZEROS), torch.randn(5, 4, 6, 6)
    with torch.no_grad():
        assert torch.equal(packed(x), inside(x))
    assert verify(packed, model, x).exact


def test_tensors_that_a_model_keeps_are_copied_as_they_are() -> None:
    model = net()
    model.kept = model[0](torch.ones(1, 4, 6, 6))  # type: ignore[assignment]
    pack(model, ZEROS)
    assert model.kept.grad_fn is not None  # type: ignore[union-attr]


def test_what_cannot_be_copied_is_refused() -> None:
    model = net()
    model.kept = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(PackError, match="cannot be copied"):
        pack(model, ZEROS)


# -- in-place operations


class InPlace(nn.Module):
    """A forward of its own around one low-bit layer."""

    def __init__(self, rule: Callable[[InPlace, Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.conv = BinaryConv2d(4, 4, 3, padding=1, method=BNN)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.same = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self, self.conv(x) + x)


def added(model: InPlace, y: Tensor) -> Tensor:
    same = y
    y += model.conv(y)
    return y * 2 + same


def multiplied(model: InPlace, y: Tensor) -> Tensor:
    kept = model.same(y)
    y *= 3
    kept -= 1
    return y + kept


COMPUTED: dict[str, Callable[[InPlace, Tensor], Tensor]] = {
    "layer": lambda m, y: m.conv(m.relu(y)) + y,
    "layer, result unused": lambda m, y: (m.relu(y), y + 1)[1],
    "function": lambda m, y: F.relu(y, inplace=True) * 0.5 + y,
    "function, by position": lambda m, y: F.hardtanh(y, -0.5, 0.5, True) * 0.5 + y,
    "function, twice": lambda m, y: (F.relu(y, True), F.hardtanh(y, -1.0, 0.5, inplace=True), y)[2],
    "through dropout": lambda m, y: (m.relu(m.drop(y)), y)[1],
    "through identity": lambda m, y: (m.relu(y), m.same(y))[1],
    "augmented sum": added,
    "augmented product": multiplied,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_values_that_are_overwritten_are_read_as_the_module_reads_them(name: str) -> None:
    torch.manual_seed(0)
    model = InPlace(COMPUTED[name]).eval()
    packed = pack(model, ZEROS)
    x = torch.randn(5, 4, 6, 6)
    with torch.no_grad():
        assert torch.equal(packed(x), model(x.clone()))


def through_view(model: InPlace, y: Tensor) -> Tensor:
    flat = torch.flatten(y, 2)
    model.relu(y)
    return flat.reshape(-1, 4, 6, 6) + 1


def augmented_view(model: InPlace, y: Tensor) -> Tensor:
    half = y[:, :2]
    half += 1
    return y


def read_at_the_end(model: InPlace, y: Tensor) -> Tensor:
    turned = y.permute(0, 1, 3, 2)
    F.relu(y, inplace=True)
    return turned


VIEWS: dict[str, Callable[[InPlace, Tensor], Tensor]] = {
    "view": through_view,
    "slice": augmented_view,
    "result": read_at_the_end,
    "method": lambda m, y: y.relu_() + y,
    "out": lambda m, y: torch.add(y, 1, out=y),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_what_is_overwritten_are_read_as_the_module_reads_them(name: str) -> None:
    torch.manual_seed(0)
    model = InPlace(VIEWS[name]).eval()
    packed, x = pack(model, ZEROS), torch.randn(5, 4, 6, 6)
    with torch.no_grad():
        assert torch.equal(packed(x), model(x.clone()))


# -- calls that nobody foresaw


CALLS_THAT_PACK: dict[str, Callable[[InPlace, Tensor], Any]] = {
    "reshape(shape=)": lambda m, y: y.reshape(shape=(-1, 144)),
    "view(size=)": lambda m, y: y.view(size=(-1, 144)),
    "permute(dims=)": lambda m, y: y.permute(dims=(0, 1, 3, 2)),
    "adaptive pool without a size": lambda m, y: F.adaptive_avg_pool2d(y, (1, None)),  # type: ignore[list-item]
    "a tensor as a limit": lambda m, y: y.clamp(y, y * 2),
    "a size as a number": lambda m, y: y.view(y.size(0), -1),
    "another path for tensors": lambda m, y: y if isinstance(y, Tensor) else y + 1,
    "an index": lambda m, y: y[:, 0],
    "tensors of the model": lambda m, y: y * m.conv.weight.abs().mean() + torch.arange(4).view(4, 1, 1),
    "parts": lambda m, y: sum(y.chunk(3, dim=1)[:1], y.unbind(1)[0].unsqueeze(1)),  # type: ignore[arg-type]
    "rows of windows": lambda m, y: y.view(y.size(0) * 4, 3, 12).softmax(-1).view(-1, 4, 6, 6),
    "attention": lambda m, y: F.scaled_dot_product_attention(y, y, y.flip(-1)),
    "several results": lambda m, y: y.flatten(1).topk(5)[0] + y.flatten(1).max(1)[0].unsqueeze(1),
    "the batch last": lambda m, y: (y.flatten(1).t().cumsum(0) * 2).t(),
    "resized": lambda m, y: F.interpolate(y, scale_factor=2, mode="bilinear"),
    "no gradient": lambda m, y: no_gradient(y),
    "to its own device": lambda m, y: y.to(torch.device("cpu")) * torch.full((1,), 2.0).to(y.device),
    "a mask": lambda m, y: y.masked_fill(torch.ones(6, 6).tril() == 0, float("-inf")).softmax(-1),
}


def no_gradient(y: Tensor) -> Tensor:
    with torch.no_grad():
        return y + 1


@pytest.mark.parametrize("name", CALLS_THAT_PACK)
def test_operators_of_torch_run_as_they_are(name: str) -> None:
    torch.manual_seed(0)
    model = InPlace(CALLS_THAT_PACK[name]).eval()
    packed = pack(model, ZEROS)
    again = from_bytes(packed.to_bytes())
    for samples in (5, 1, 2):
        x = torch.randn(samples, 4, 6, 6)
        with torch.no_grad():
            expected = model(x.clone())
        assert torch.equal(packed(x), expected)
        assert torch.equal(again(x), expected)


CALLS: dict[str, Callable[[InPlace, Tensor], Any]] = {
    "nothing computed": lambda m, y: torch.ones(1, 4),
    "random": lambda m, y: y * float(torch.rand(())),
    "sizes that do not fit": lambda m, y: y.reshape(-1, 7),
    "a fixed batch": lambda m, y: torch.flatten(y + torch.ones(2, 1, 1, 1), 1),
    "a list": lambda m, y: torch.cat([y, 3]),  # type: ignore[list-item]
    "a dimension too far": lambda m, y: torch.flatten(y, 7),
    "a pool larger than the image": lambda m, y: F.max_pool2d(y, 9),
    "a padding of words": lambda m, y: F.pad(y, ("a", "b")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_no_call_ends_in_anything_but_a_pack_error(name: str) -> None:
    with pytest.raises(PackError, match=r"^pack: "):
        pack(InPlace(CALLS[name]).eval(), ZEROS)


def test_all_calls_without_a_packed_form_are_named_with_their_place() -> None:
    model = InPlace(lambda m, y: torch.fft.fft(y).real + torch.nonzero(y).sum() + torch.linalg.det(y).sum()).eval()
    text = r"operator 'fft_fft.default' .at .*test_unseen.py:\d+.,.* operator 'linalg_det.default' .at .*test_unseen.py"
    with pytest.raises(PackError, match=text):
        pack(model, ZEROS)


def test_a_second_input_that_may_be_left_out_is_left_out() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return x * 2 if mask is None else x * mask

    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(pack(Masked(), ZEROS)(x), x * 2)


def test_other_arguments_of_sums_still_pack() -> None:
    for rule in (lambda m, y: torch.add(y, other=y), lambda m, y: torch.mul(input=y, other=y)):
        model = InPlace(rule).eval()
        x = torch.randn(2, 4, 6, 6)
        with torch.no_grad():
            assert torch.equal(pack(model, ZEROS)(x), model(x))


class Positions(nn.Module):
    """Adds what a low-bit layer makes of positions, which are no input (as Swin v2 does)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.linspace(-1, 1, 36).view(6, 6))
        self.bias, self.conv = BinaryLinear(6, 6, method=BNN), BinaryConv2d(4, 4, 3, padding=1, method=BNN)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.bias(self.places) * torch.zeros(6).fill_(0.5)


def test_a_low_bit_layer_that_sees_no_input_is_computed_when_packing() -> None:
    model, x = Positions().eval(), torch.randn(3, 4, 6, 6)
    packed = from_bytes(pack(model, ZEROS).to_bytes())
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    assert packed.constant_layers == report.constant_layers == ("bias",)
    assert "computed when packing, not compared by themselves: bias" in str(report)


def test_random_numbers_are_not_frozen() -> None:
    with pytest.raises(PackError, match=r"operator 'rand.default' .at .*test_unseen.py:\d+"):
        pack(InPlace(lambda m, y: y * torch.rand(4, 1, 1)).eval(), ZEROS)


class Windows(nn.Module):
    """A linear layer over windows, the batch folded into the first dimension, and over time first (as RNNs have it)."""

    def __init__(self, rule: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.rule, self.linear = rule, BinaryLinear(6, 5, bias=True, method=BNN)

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self.linear, x)


@pytest.mark.parametrize(
    "rule",
    [
        lambda linear, x: linear(x.reshape(-1, 6, 6)).reshape(x.size(0), -1),
        lambda linear, x: linear(x.reshape(-1, 6)).reshape(x.size(0), -1),
        lambda linear, x: linear(x.transpose(0, 1)).transpose(0, 1).sum(1),
        lambda linear, x: linear(x.permute(1, 2, 0, 3)).permute(2, 0, 1, 3),
    ],
    ids=["windows", "rows", "channels first", "samples third"],
)
def test_linear_layers_take_rows_from_any_dimensions(rule: Callable[[nn.Module, Tensor], Tensor]) -> None:
    model = Windows(rule).eval()
    report = verify(pack(model, ZEROS), model, torch.randn(3, 4, 6, 6))
    assert report.exact
    assert report.logits_identical
    assert [layer.name for layer in report.layers] == ["linear"]


# -- several results


class Stages(nn.Module):
    """A backbone that gives two stages and a prediction of integers."""

    def __init__(self, answer: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer
        self.first = BinaryConv2d(4, 8, 3, padding=1, method=BNN)
        self.second = BinaryConv2d(8, 8, 3, padding=1, stride=2, method=BNN)

    def forward(self, x: Tensor) -> Any:
        first = self.first(x)
        second = self.second(F.hardtanh(first))
        return self.answer(first, second, second.flatten(1).argmax(1))


class Pair(NamedTuple):
    coarse: Tensor
    fine: Tensor


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda a, b, c: (a, b, c), tuple),
        (lambda a, b, c: [b, a], tuple),
        (lambda a, b, c: {"fine": a, "class": c, "coarse": b}, dict),
        (lambda a, b, c: OrderedDict(out=b), dict),
        (lambda a, b, c: Pair(b, a), dict),
        (lambda a, b, c: (a, a, a.flatten(1)), tuple),
    ],
    ids=["tuple", "list", "dict", "ordered", "named", "one value three times"],
)
def test_models_with_several_results_pack(answer: Callable[..., Any], kind: type) -> None:
    torch.manual_seed(0)
    model = Stages(answer).eval()
    packed = from_bytes(pack(model, ZEROS).to_bytes())
    report = verify(packed, model, torch.randn(3, 4, 6, 6))
    assert report.exact
    assert report.logits_identical
    for samples in (0, 2, 1, 5):
        x = torch.randn(samples, 4, 6, 6)
        with torch.no_grad():
            expected = model(x)
        found = packed(x)
        assert type(found) is kind
        values = expected._asdict() if isinstance(expected, Pair) else expected
        assert list(found) == list(values) if kind is dict else len(found) == len(values)
        pairs = [(found[key], values[key]) for key in (values if kind is dict else range(len(values)))]
        assert all(torch.equal(got, wanted) and got.dtype == wanted.dtype for got, wanted in pairs)
        pairs[0][0].fill_(7)  # each result has memory of its own, apart from results that are one and the same
        assert torch.equal(packed(x)[next(iter(values)) if kind is dict else 0], pairs[0][1])


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda a, b, c: (a, (b, b.shape[0])), "result '1.1' of the model is no tensor that depends on its input"),
        (
            lambda a, b, c: {"a": a, "b": [b, "text"]},
            "result 'b.1' of the model is no tensor that depends on its input",
        ),
        (lambda a, b, c: (a, {"b": (torch.ones(2),)}), "result '1.b.0' of the model is no tensor that depends on its"),
        (lambda a, b, c: (a, torch.ones(2)), "result '1' of the model is no tensor that depends on its input"),
        (lambda a, b, c: {"a": a, "n": 3}, "result 'n' of the model is no tensor"),
    ],
)
def test_results_that_are_no_tensors_are_refused_by_name(answer: Callable[..., Any], text: str) -> None:
    with pytest.raises(PackError, match=text):
        pack(Stages(answer).eval(), ZEROS)


def test_differences_in_any_result_are_found() -> None:
    model = Stages(lambda a, b, c: {"fine": a, "class": c}).eval()
    packed = pack(model, ZEROS)
    for changed in (lambda a, b, c: {"fine": a + 1, "class": c}, lambda a, b, c: {"fine": a, "class": c + 1}):
        model.answer = changed
        assert not verify(packed, model, torch.randn(3, 4, 6, 6)).exact
    model.answer = lambda a, b, c: {"fine": a}
    with pytest.raises(ValueError, match=r"returns .'fine', 'class'., the model .'fine'."):
        verify(packed, model, ZEROS)


# -- token ids


class Words(nn.Module):
    """A classifier of token ids: an embedding, attention over all places, low-bit linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(50, 16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mixed, self.head = BinaryLinear(16, 16, method=BNN), nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.embedding(tokens))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        hidden = (tokens != 0).unsqueeze(-1) * self.mixed(x)
        return self.head(hidden.sum(1))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_models_of_token_ids_pack(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, example = Words().eval(), torch.randint(0, 50, (2, 7)).to(dtype)
    packed = from_bytes(pack(model, example).to_bytes())
    report = verify(packed, model, torch.randint(0, 50, (5, 7)).to(dtype))
    assert report.exact
    assert report.logits_identical
    assert [layer.name for layer in report.layers] == ["mixed"]
    with pytest.raises(TypeError, match=f"must be {str(dtype)[6:]}; got torch.float32; call .(long|int)"):
        packed(torch.zeros(2, 7))
    with pytest.raises(ValueError, match="torch refuses its arguments: index out of range"):
        packed(torch.full((2, 7), 50, dtype=dtype))


def test_an_input_of_another_type_reaches_no_layer_that_takes_real_numbers() -> None:
    content = decode(pack(net(), ZEROS).to_bytes())
    wrong = replace(content.program, inputs=one_input(content.program.inputs[0].shape, "int64"))
    with pytest.raises(FormatError, match="takes a real tensor; got int64"):
        from_bytes(encode(content._replace(program=wrong)))
    wrong = replace(content.program, inputs=one_input(content.program.inputs[0].shape, "text"))
    with pytest.raises(FormatError, match="must be one of float32, int64"):
        from_bytes(encode(content._replace(program=wrong)))


class WithoutFive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x == 5, float("nan"), x)


def test_a_number_that_is_nan_is_named_with_its_place() -> None:
    with pytest.raises(PackError, match=r"call 'where' .*test_unseen.py:\d+.: an argument is NaN.*repair that number"):
        pack(WithoutFive().eval(), torch.randn(2, 4))


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


def test_a_model_that_remembers_is_told_what_to_do() -> None:
    with pytest.raises(PackError, match=r"writes into 'calls' in eval mode.*from the input alone when it does"):
        pack(Counting().eval(), torch.randn(2, 4))
