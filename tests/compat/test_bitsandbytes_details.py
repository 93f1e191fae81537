# SPDX-License-Identifier: Apache-2.0
"""Behaviour of bitsandbytes that its own tests ask for: states, tied weights, hooks, odd sizes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize as torch_parametrize

import bittern.compat.bitsandbytes as bnb
from bittern.compat.bitsandbytes import functional as F
from bittern.compat.bitsandbytes import utils
from bittern.compat.bitsandbytes.optim.ademamix import _ReferenceAdEMAMix


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_states_are_equal_as_their_numbers_are() -> None:
    _, state = F.quantize_nf4(_random(8, 64), compress_statistics=True)
    other = copy.deepcopy(state)
    assert state == other
    other.absmax = other.absmax ^ 1
    assert state != other
    other = copy.deepcopy(state)
    other.blocksize = 128
    assert state != other
    assert state != F.quantize_nf4(_random(8, 64))[1]
    assert state != "nf4"


def test_a_state_answers_to_old_and_packed_names() -> None:
    _, state = F.quantize_nf4(_random(8, 64), compress_statistics=True)
    absmax, shape, dtype, blocksize, (offset, inner), quant_type = (state[i] for i in range(6))
    assert (shape, dtype, blocksize, quant_type) == ((8, 64), torch.float32, 64, "nf4")
    assert absmax is state.absmax
    assert offset is state.offset
    assert inner is state.state2
    assert torch.equal(state.bitsandbytes__nf4, state.as_dict(packed=True)["quant_state.bitsandbytes__nf4"])
    assert not hasattr(state, "bitsandbytes__fp4")


@pytest.mark.parametrize("blocksize", [1, 100, 16384])
def test_any_block_size(blocksize: int) -> None:
    x = _random(3, 7000)
    codes, state = F.quantize_blockwise(x, blocksize=blocksize)
    again = F.QuantState.from_dict(state.as_dict(packed=True), device="cpu")
    values = F.dequantize_blockwise(codes, again)
    blocks = x.flatten().split(blocksize)
    assert torch.equal(state.absmax, torch.stack([block.abs().amax() for block in blocks]))
    gap = F.create_dynamic_map().diff().max() / 2
    scale = state.absmax.repeat_interleave(blocksize)[: x.numel()].view_as(x)
    assert ((values - x).abs() <= (gap + 1e-6) * scale).all()


def test_more_exponent_bits_than_room_change_nothing() -> None:
    assert torch.equal(F.create_dynamic_map(True, 8, 8), F.create_dynamic_map())


def test_a_weight_the_other_way_round_warns() -> None:
    packed, state = F.quantize_nf4(_random(128, 32))
    with pytest.warns(DeprecationWarning, match="Re-quantize from the weight"):
        y = bnb.matmul_4bit(_random(2, 128, seed=1), packed, state)
    assert y.shape == (2, 32)


def test_no_rows_have_a_gradient() -> None:
    x, weight = torch.zeros(0, 32, requires_grad=True), _random(8, 32).requires_grad_()
    bnb.matmul(x, weight).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == (0, 32)
    assert weight.grad is not None
    assert not weight.grad.any()


def test_tied_weight_stays_as_it_is() -> None:
    embedding = nn.Embedding(8, 32)
    layer = bnb.nn.Linear8bitLt(32, 8, has_fp16_weights=False)
    layer.weight = embedding.weight
    layer = layer.to("cpu")
    x = _random(2, 32)
    assert layer.bias is not None
    assert torch.equal(layer(x), nn.functional.linear(x, embedding.weight, layer.bias))
    saved = layer.state_dict()
    assert list(saved) == ["weight", "bias"]
    with pytest.raises(RuntimeError, match="into non-quantized Linear8bitLt"):
        layer.load_state_dict({**saved, "SCB": torch.ones(8)})


def test_replace_linear() -> None:
    def make(columns: int, rows: int, bias: bool) -> nn.Module:
        return bnb.nn.Linear8bitLt(columns, rows, bias, has_fp16_weights=False)

    inner = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
    model = nn.ModuleDict({"body": inner, "lm_head": nn.Linear(4, 2)})
    weight = inner[0].weight
    assert utils.replace_linear(model, make, copy_weights=True) is model
    assert type(inner[0]) is bnb.nn.Linear8bitLt
    assert inner[0].weight is weight
    assert inner[0].bias is None
    assert type(model["lm_head"]) is nn.Linear
    utils.replace_linear(model, make, skip_modules=(), post_processing_function="init_8bit_state")
    assert type(model["lm_head"]) is bnb.nn.Linear8bitLt


def test_small_helpers() -> None:
    numbers = {"blocksize": 64, "dtype": "float32"}
    assert utils.unpack_tensor_to_dict(utils.pack_dict_to_tensor(numbers)) == numbers
    x = _random(64, 16)
    x[:, 3] *= 50
    assert utils.find_outlier_dims(x, zscore=3.0).tolist() == [3]
    assert utils.find_outlier_dims(x, topk=1).tolist() == [3]
    assert utils.find_outlier_dims(x, topk=5, rdm=True).shape == (5,)
    with pytest.raises(ValueError, match="needs topk"):
        utils.find_outlier_dims(x, rdm=True)
    utils.sync_gpu(x)


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(_random(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.weight, self.weight
        assert first is second
        if not x.isfinite().all():
            raise ArithmeticError
        return x @ first


def test_a_parametrized_weight_is_decoded_once_per_forward() -> None:
    module = _Twice()
    bnb.nn.parametrize.replace_parameter_4bit(module, "weight")
    module(_random(1, 64))
    with pytest.raises(ArithmeticError):
        module(torch.full((1, 64), torch.inf))
    assert torch_parametrize._cache_enabled == 0
    assert torch_parametrize._cache == {}
    assert module.weight is not module.weight


def test_parameters_keep_further_attributes() -> None:
    for cls in (bnb.nn.Params4bit, bnb.nn.Int8Params):
        parameter = cls(_random(64, 64), requires_grad=False, _is_hf_initialized=True)
        assert parameter.to("cpu")._is_hf_initialized
        assert copy.deepcopy(parameter)._is_hf_initialized
    with pytest.raises(AttributeError, match="absmax"):
        _ = bnb.nn.Params4bit(_random(64, 64)).absmax


def test_stable_embedding_takes_a_weight() -> None:
    weight = _random(10, 8)
    layer = bnb.nn.StableEmbedding(10, 8, _weight=weight)
    assert torch.equal(layer(torch.tensor([3])), nn.functional.layer_norm(weight[3:4], (8,)))


@pytest.mark.parametrize("schedule", [None, 5])
def test_reference_ademamix_takes_the_same_steps(schedule: int | None) -> None:
    start = _random(300)
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    theirs = _ReferenceAdEMAMix([one], t_alpha=schedule, t_beta3=schedule)
    ours = bnb.optim.AdEMAMix([other], t_alpha=schedule, t_beta3=schedule)
    for seed in range(8):
        one.grad = _random(300, seed=seed + 1)
        other.grad = one.grad.clone()
        theirs.step(lambda: 0.0)
        ours.step()
    torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.state[other]["state1"], theirs.state[one]["m1_m2"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours.state[other]["state2"], theirs.state[one]["nu"], rtol=1e-5, atol=1e-7)


def test_an_embedding_that_must_be_decoded_whole_says_so(caplog: pytest.LogCaptureFixture) -> None:
    bnb.nn.EmbeddingNF4(8, 64)
    assert not caplog.messages
    bnb.nn.EmbeddingNF4(8, 65)
    assert "EmbeddingNF4: embedding_dim=65 is no multiple of the block size 64" in caplog.text
