# SPDX-License-Identifier: Apache-2.0
"""Attention with projections of its own: equal to torch's while they are real, and low-bit one by one."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bittern import binary
from bittern.deploy import pack, verify
from bittern.nn import Action, BinaryLinear, Linear8bit, MultiheadAttention, convert, plan_conversion

EPS = torch.finfo(torch.float32).eps


def _assert_near(a: Tensor, b: Tensor, terms: int) -> None:
    """Two orders of the same sums of `terms` terms: the class `reduction`, from either side."""
    assert a.shape == b.shape
    assert bool(((a - b).abs() <= 2 * 64 * math.sqrt(terms) * EPS * b.abs().max()).all())


def _pair(**options: Any) -> tuple[nn.MultiheadAttention, MultiheadAttention]:
    torch.manual_seed(0)
    old = nn.MultiheadAttention(12, 3, **options)
    for parameter in old.parameters():
        nn.init.normal_(parameter, std=0.5)
    return old, MultiheadAttention.from_torch(old)


def _inputs(old: nn.MultiheadAttention, batched: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of length 5, keys and values of length 7, for a batch of 4."""
    shapes = [(5, 4, old.embed_dim), (7, 4, old.kdim), (7, 4, old.vdim)]
    found = [torch.randn(shape) for shape in shapes]
    if not batched:
        return tuple(x[:, 0] for x in found)  # type: ignore[return-value]
    return tuple(x.transpose(0, 1) if old.batch_first else x for x in found)  # type: ignore[return-value]


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_first": True}, {"bias": False}, {"kdim": 9, "vdim": 10}, {"kdim": 9, "bias": False}],
    ids=str,
)
def test_real_projections_compute_what_torch_computes(options: dict[str, Any], batched: bool) -> None:
    old, new = _pair(**options)
    inputs = _inputs(old, batched)
    for need, average in ((True, True), (True, False), (False, True)):
        expected, weights = old(*inputs, need_weights=need, average_attn_weights=average)
        got, shares = new(*inputs, need_weights=need, average_attn_weights=average)
        _assert_near(got, expected, 12 * 7)
        if weights is None:
            assert shares is None
        else:
            _assert_near(shares, weights, 12)


def _masks() -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    attn = torch.rand(5, 7, generator=generator) > 0.6
    attn[:, 0] = False
    padding = torch.arange(7) > torch.tensor([6, 3, 1, 5]).unsqueeze(1)
    return {
        "bool": {"attn_mask": attn},
        "added": {"attn_mask": torch.randn(5, 7, generator=generator)},
        "of each head": {"attn_mask": torch.randn(12, 5, 7, generator=generator)},
        "padding": {"key_padding_mask": padding},
        "padding, added": {"key_padding_mask": padding.float() * -3},
        "both": {"attn_mask": attn, "key_padding_mask": padding},
    }


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", _masks())
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
def test_masks_do_what_they_do_in_torch(mask: str, need_weights: bool) -> None:
    old, new = _pair(batch_first=True)
    inputs = _inputs(old)
    given = _masks()[mask]
    expected, got = (m(*inputs, need_weights=need_weights, **given)[0] for m in (old, new))
    _assert_near(got, expected, 12 * 7)
    plain = new(*inputs, need_weights=need_weights)[0]
    assert not torch.allclose(plain, got)


def test_a_causal_mask_counts_whether_it_is_called_so_or_not() -> None:
    old, new = _pair(batch_first=True)
    x, mask = torch.randn(2, 6, 12), nn.Transformer.generate_square_subsequent_mask(6)
    for need in (True, False):
        expected = old(x, x, x, need_weights=need, attn_mask=mask, is_causal=True)[0]
        _assert_near(new(x, x, x, need_weights=need, attn_mask=mask, is_causal=True)[0], expected, 12 * 6)
    with pytest.raises(ValueError, match="pass the mask too"):
        new(x, x, x, is_causal=True)


def test_gradients_are_those_of_torch() -> None:
    old, new = _pair()
    query, key, value = _inputs(old)
    for module in (old, new):
        module(query, key, value)[0].square().sum().backward()
    weight = torch.cat([new.get_submodule(f"{letter}_proj").weight.grad for letter in "qkv"])
    assert old.in_proj_weight.grad is not None
    _assert_near(weight, old.in_proj_weight.grad, 12 * 7 * 5 * 4)


def test_dropout_drops_in_training_alone() -> None:
    _, new = _pair(dropout=0.5)
    x = torch.randn(5, 4, 12)
    for need in (True, False):
        torch.manual_seed(0)
        assert not torch.equal(new.train()(x, x, x, need_weights=need)[0], new(x, x, x, need_weights=need)[0])
        assert torch.equal(new.eval()(x, x, x, need_weights=need)[0], new(x, x, x, need_weights=need)[0])


def test_state_dicts_of_torch_are_taken_and_others_are_not() -> None:
    for options in ({}, {"kdim": 9}, {"bias": False}):
        old, new = _pair(**options)
        again = MultiheadAttention(12, 3, **options)
        again.load_state_dict(old.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), new.parameters(), strict=True))
        again.load_state_dict(new.state_dict())
    state = old.state_dict()
    del state["in_proj_weight"]
    with pytest.raises(RuntimeError, match=r"q_proj\.weight"):
        again.load_state_dict(state)


def test_what_was_frozen_stays_frozen_and_nothing_random_is_drawn() -> None:
    old = nn.MultiheadAttention(12, 3).double().eval()
    old.in_proj_weight.requires_grad_(False)
    state = torch.get_rng_state()
    new = MultiheadAttention.from_torch(old)
    assert torch.equal(torch.get_rng_state(), state)
    assert {n for n, p in new.named_parameters() if not p.requires_grad} == {f"{c}_proj.weight" for c in "qkv"}
    assert {p.dtype for p in new.parameters()} == {torch.float64}
    assert not new.training


def test_new_weights_are_drawn_as_torch_draws_them() -> None:
    old, new = nn.MultiheadAttention(64, 4), MultiheadAttention(64, 4)
    bounds = [float(weight.detach().abs().max()) for weight in (new.q_proj.weight, old.in_proj_weight)]
    assert bounds[0] == pytest.approx(bounds[1], rel=0.01)
    assert not bool(new.k_proj.bias.any())
    assert not bool(new.out_proj.bias.any())


@pytest.mark.parametrize("extra", ["add_bias_kv", "add_zero_attn"])
def test_what_has_no_counterpart_stays_and_says_why(extra: str) -> None:
    attention = nn.MultiheadAttention(8, 2, **{extra: True})
    with pytest.raises(ValueError, match=f"MultiheadAttention: {extra}=True has no counterpart"):
        MultiheadAttention.from_torch(attention)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.linear = attention, nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.linear(self.attention(x, x, x)[0])
            return y

    low = convert(Net(), binary.BNN, keep=())
    assert type(low.attention) is nn.MultiheadAttention
    assert isinstance(low.linear, BinaryLinear)
    rows = plan_conversion(Net(), keep=()).rows
    assert [(row.name, row.action) for row in rows] == [
        ("attention", Action.KEEP),
        ("attention.out_proj", Action.KEEP),
        ("linear", Action.CONVERT),
    ]
    assert rows[0].reason == f"{extra}=True has no counterpart"
    assert rows[1].reason == "MultiheadAttention multiplies by its weight without calling it"


def test_a_subclass_stays() -> None:
    class Own(nn.MultiheadAttention):
        pass

    row = plan_conversion(nn.Sequential(Own(8, 2), nn.Linear(8, 8)), keep=()).rows[0]
    assert row.reason == "class Own may compute something else than nn.MultiheadAttention"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: m(x[..., :3], x, x), r"query must be \[length, 12\]"),
        (lambda m, x: m(x, x[0], x), r"key must be \[length, 12\]"),
        (lambda m, x: m(x, x, x, attn_mask=torch.zeros(5, 4)), r"attn_mask must be \[5, 5\] or \[12, 5, 5\]"),
        (lambda m, x: m(x, x, x, key_padding_mask=torch.zeros(5, 4)), r"key_padding_mask must be \[4, 5\]"),
        (lambda m, x: MultiheadAttention(12, 5), "num_heads must divide embed_dim"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(_pair()[1], torch.randn(5, 4, 12))
    with pytest.raises(TypeError, match=r"attn_mask must be bool or floating point; got torch\.int64"):
        _pair()[1](*[torch.randn(5, 4, 12)] * 3, attn_mask=torch.zeros(5, 5, dtype=torch.int64))


def _encoder(kind: str, batch_first: bool) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    options: dict[str, Any] = {"dim_feedforward": 24, "dropout": 0.0, "activation": "gelu", "batch_first": batch_first}
    x = torch.randn(3, 6, 16)
    if kind == "decoder":
        return nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, **options), 2), (x, torch.randn(3, 6, 16))
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, **options), 2, enable_nested_tensor=False), (x,)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_layers_of_torch_convert_by_their_own_projections(kind: str, batch_first: bool, training: bool) -> None:
    model, args = _encoder(kind, batch_first)
    low = convert(model, binary.BNN, keep=(), example=args).train(training)
    projections = [m for m in low.modules() if isinstance(m, MultiheadAttention)]
    assert len(projections) == (4 if kind == "decoder" else 2)
    assert not any(isinstance(m, nn.Linear) for m in low.modules())
    with torch.no_grad():
        before = low(*args)
        for module in low.modules():
            if isinstance(module, BinaryLinear):
                module.weight.mul_(3.0)  # the signs stay as they are
        assert torch.equal(low(*args), before)
    low.train()(*args).square().sum().backward()
    assert all(p.grad is not None for p in low.parameters())


def test_an_encoder_of_which_only_the_attention_changes_computes_the_same() -> None:
    """Real projections in place of torch's attention, through masks and a fast path that must not be taken."""
    model, (x,) = _encoder("encoder", True)
    twin = copy.deepcopy(model).eval()  # in training there is no fast path, which reads some masks otherwise
    for layer in twin.layers:
        layer.self_attn = MultiheadAttention.from_torch(layer.self_attn)
    mask = torch.arange(6) > torch.tensor([5, 2, 4]).unsqueeze(1)
    for kwargs in ({}, {"src_key_padding_mask": mask}, {"mask": torch.randn(6, 6)}):
        with torch.no_grad():
            a, b = model(x, **kwargs), twin(x, **kwargs)
        _assert_near(b, a, 1000)


def test_an_encoder_takes_padding_masks_in_eval_mode_too() -> None:
    """With nested tensors, which torch's encoder makes of masked inputs in eval mode alone, no low-bit layer runs."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
    low = convert(nn.TransformerEncoder(layer, 2), binary.BNN, keep=()).eval()
    x, mask = torch.randn(3, 6, 16), torch.arange(6) > torch.tensor([5, 2, 4]).unsqueeze(1)
    other = torch.where(mask.unsqueeze(2), 9.0, x)
    with torch.no_grad():
        a, b = (low(values, src_key_padding_mask=mask) for values in (x, other))
        assert torch.equal(a[~mask], b[~mask])
        assert torch.equal(a, low.train()(x, src_key_padding_mask=mask))


def test_names_of_attentions_keep_them_whole() -> None:
    model, (x,) = _encoder("encoder", True)
    low = convert(model, binary.BNN, keep=["layers.0.self_attn", "layers.1.self_attn.*"], example=x)
    assert type(low.layers[0].self_attn) is nn.MultiheadAttention
    assert type(low.layers[1].self_attn) is nn.MultiheadAttention
    assert isinstance(low.layers[1].linear1, BinaryLinear)
    assert low.layers[0].self_attn.state_dict().keys() == model.layers[0].self_attn.state_dict().keys()


def test_a_rule_mixes_projections() -> None:
    model, (x,) = _encoder("encoder", True)

    def rule(name: str, layer: nn.Module) -> Any:
        if not name.startswith("layers.0.self_attn"):
            return None
        return {"q_proj": binary.BNN, "v_proj": Linear8bit}.get(name.rpartition(".")[2])

    low = convert(model, rule, example=x)
    attention = low.layers[0].self_attn
    kinds = [type(attention.get_submodule(name)) for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    assert kinds == [BinaryLinear, nn.Linear, Linear8bit, nn.Linear]
    assert type(low.layers[1].self_attn) is nn.MultiheadAttention
    assert low(x).shape == x.shape


def test_checkpoints_of_the_attention_before_it_was_converted_load() -> None:
    model, (x,) = _encoder("encoder", True)
    low = convert(model, binary.BNN, keep=(), example=x)
    other, _ = _encoder("encoder", True)
    with torch.no_grad():
        other.layers[0].self_attn.in_proj_weight.neg_()
    low.load_state_dict(other.state_dict())
    expected = other.layers[0].self_attn.in_proj_weight[:16]
    assert torch.equal(low.layers[0].self_attn.q_proj.weight, expected)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_converted_encoder_packs_exactly(batch_first: bool) -> None:
    model, (x,) = _encoder("encoder", batch_first)

    class Samples(nn.Module):
        """Gives the encoder its samples where it wants them."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.encoder(x if batch_first else x.transpose(0, 1))
            return y if batch_first else y.transpose(0, 1)

    low = convert(Samples(), binary.ReActNet, keep=(), example=x).eval()
    report = verify(pack(low, x), low, [torch.randn(2, 6, 16), torch.randn(5, 6, 16)])
    assert report.exact
    assert len(report.layers) == 12


class ReadsItself(nn.Module):
    """Hands the weights of an attention to torch's function, as some published pools do."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        a = self.attention
        weights = (a.in_proj_weight, a.in_proj_bias, None, None, False, 0.0, a.out_proj.weight, a.out_proj.bias)
        y, _ = nn.functional.multi_head_attention_forward(x, x, x, 8, 2, *weights, training=False)
        z: Tensor = self.linear(y)
        return z


def test_an_attention_whose_weights_are_read_elsewhere_stays_where_an_example_shows_it() -> None:
    x = torch.randn(5, 3, 8)
    low = convert(ReadsItself(), binary.BNN, keep=(), example=x)
    assert type(low.attention) is nn.MultiheadAttention
    assert isinstance(low.linear, BinaryLinear)
    assert low(x).shape == x.shape
    row = plan_conversion(ReadsItself(), keep=(), example=x).rows[0]
    assert row.reason == "'(model)' reads its weight itself, which must stay real"
    with pytest.raises(AssertionError):  # without an example it is not known, but never silent
        convert(ReadsItself(), binary.BNN, keep=())(x)
