# SPDX-License-Identifier: Apache-2.0
"""What holds in training for every binary method: gradients, schedules, state, compilation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from _binary import METHODS
from _tolerance import assert_exact, assert_reduction
from bittern import binary
from bittern.binary import ABBNN, DSQ, FDA, RBNN, AdaBin, BiPer, ReBNN, ReCU, ReSTE, SiMaN, XNORNet, XNORNetPlusPlus
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quantizer import LayerShape, Method, input_terms, set_progress, weight_terms

# torch's tracer itself instantiates a Function, which torch then warns about
compiles = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
SETTLED = ("started", "R1", "R2", "learned", "signs", "share")
"""Buffers that are no schedule: `settle` changes those of RBNN and ReBNN, a first batch `started`."""
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def small_net(method: Method) -> nn.Module:
    return nn.Sequential(
        BinaryConv2d(3, 6, 3, padding=1, method=method),
        nn.BatchNorm2d(6),
        BinaryConv2d(6, 4, 3, stride=2, groups=2, method=method),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        BinaryLinear(36, 5, method=method),
    )


@every_method
def test_state_dict_round_trip_keeps_logits(method: Method) -> None:
    torch.manual_seed(0)
    net = small_net(method)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    x = torch.randn(8, 3, 8, 8)
    for step in range(3):
        set_progress(net, step / 4)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(99)
    twin = small_net(method)
    assert twin.load_state_dict(state, strict=True) == ([], [])
    for training in (False, True):
        torch.manual_seed(3)
        y = net.train(training)(x)
        torch.manual_seed(3)
        assert_exact(twin.train(training)(x).detach(), y.detach())


@every_method
@pytest.mark.parametrize("training", [True, False])
def test_backward_does_not_write_into_its_gradient(method: Method, training: bool) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(4, 6, 3, method=method).train(training)
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    y = layer(x)
    terms = (*weight_terms(layer.method, layer.weight), *input_terms(layer.method, x))
    for out in (y, layer.method.output(y), *(term.values for term in terms if term.values.requires_grad)):
        g = torch.randn_like(out)
        kept = g.clone()
        out.backward(g, retain_graph=True)
        assert torch.equal(g, kept)


@compiles
@pytest.mark.parametrize(
    ("name", "training"), [(name, True) for name in METHODS] + [("FDA", False), ("ReCU", False), ("XNORNet", False)]
)
def test_compiled_equals_eager(name: str, training: bool) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    layer = BinaryConv2d(4, 6, 3, padding=1, method=METHODS[name]).train(training)
    x = torch.randn(2, 4, 6, 6)
    layer(x)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    results = []
    for net in (layer, compiled):
        a = x.clone().requires_grad_()
        torch.manual_seed(1)
        y = net(a)
        y.square().sum().backward()
        assert a.grad is not None
        results.append([y.detach(), a.grad, *(p.grad for p in net.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1]) >= 3
    for eager, other in zip(*results, strict=True):
        assert_exact(other, eager)


@compiles
@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:torch")  # inductor's own imports
def test_compiled_by_inductor_equals_eager() -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    layer = BinaryLinear(65, 6, method=binary.IRNet)
    x = torch.randn(5, 65)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True)
    results = []
    for net in (layer, compiled):
        y = net(x)
        y.sum().backward()
        results.append((y.detach(), next(net.parameters()).grad))
    for eager, other in zip(*results, strict=True):
        assert eager is not None
        assert_reduction(other, eager.double(), 65, float(eager.abs().max()))


@every_method
def test_eval_mode_is_deterministic(method: Method) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(4, 6, 3, method=method).eval()
    x = torch.randn(2, 4, 6, 6)
    state = torch.get_rng_state()
    y = layer(x)
    assert torch.equal(layer(x), y)
    assert torch.equal(torch.get_rng_state(), state)
    if isinstance(layer.method, FDA):
        layer.method.set_progress(1.0)
        assert torch.equal(layer(x), y)  # the noise, now ended, was not in it


@every_method
def test_every_parameter_receives_a_gradient(method: Method) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(16, 6, 3, bias=True, method=method)
    x = torch.randn(8, 16, 6, 6, requires_grad=True)
    layer(x).square().mean().backward()
    assert x.grad is not None
    assert x.grad.any()
    for name, p in layer.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


@every_method
def test_only_learned_or_differentiated_scales_carry_a_gradient(method: Method) -> None:
    m = method(LayerShape((6, 4, 3)))
    for scale in (term.scale for term in weight_terms(m, torch.randn(6, 4, 3, requires_grad=True))):
        if scale is None:
            continue
        learned = isinstance(m, (ReCU, ReSTE, RBNN, SiMaN, BiPer, ReBNN, DSQ, AdaBin, ABBNN)) or (
            isinstance(m, XNORNet) and m.gradient == "full"
        )
        assert scale.requires_grad is learned


@every_method
def test_forward_creates_no_parameter(method: Method) -> None:
    layer = BinaryConv2d(4, 6, 3, method=method)
    before = dict(layer.named_parameters()) | dict(layer.named_buffers())
    unsized = {name for name, p in layer.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)}
    declared = {1: set(), 2: {"method.gamma"}, 3: {"method.beta"}, 4: {"method.beta", "method.gamma"}}
    assert unsized == (declared[layer.method.case] if isinstance(layer.method, XNORNetPlusPlus) else set())
    layer(torch.randn(2, 4, 6, 6)).sum().backward()
    after = dict(layer.named_parameters()) | dict(layer.named_buffers())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


@every_method
def test_schedules_live_in_the_state_and_need_not_be_driven(method: Method) -> None:
    torch.manual_seed(0)
    m = method(LayerShape((6, 4, 3)))
    buffers = {name: b.clone() for name, b in m.named_buffers()}
    m.set_progress(0.0)
    for name, b in m.named_buffers():
        assert torch.equal(b, buffers[name]), f"{name}: without set_progress a schedule stands at its beginning"
    m.set_progress(1.0)
    moved = [name for name, b in m.named_buffers() if not torch.equal(b, buffers[name])]
    assert moved == [name for name in buffers if name not in SETTLED]
    scheduled = {
        "ReCU": ["tau"],
        "FDA": ["n", "alpha"],
        "IRNet": ["t", "k"],
        "ReSTE": ["o"],
        "RBNN": ["t", "k", "due"],
        "SiMaN": ["percent"],
        "AdaBin": ["t", "k"],
    }
    assert moved == scheduled.get(type(m).__name__, [])
