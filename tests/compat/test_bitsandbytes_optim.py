# SPDX-License-Identifier: Apache-2.0
"""Optimizers under bitsandbytes' names: signatures, checkpoints both ways, bits per parameter, the Trainer."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import bittern.compat.bitsandbytes as bnb
from bittern import optim as native

CLASSES = [name for name in bnb.optim.__all__ if name != "GlobalOptimManager"]
WRAPPED = "__bnb_optimizer_quant_state__"
EVERY_RULE: list[tuple[str, dict[str, Any]]] = [
    ("AdamW8bit", {}),
    ("Adam", {"weight_decay": 0.1}),
    ("AdEMAMix8bit", {}),
    ("AdEMAMix32bit", {"t_alpha": 10, "t_beta3": 10}),
    ("SGD8bit", {"lr": 0.1, "momentum": 0.9}),
    ("Lion8bit", {}),
    ("RMSprop8bit", {}),
    ("Adagrad8bit", {}),
    ("LAMB8bit", {}),
    ("LARS8bit", {"lr": 0.1, "momentum": 0.9}),
    ("PagedAdamW32bit", {}),
]


def _parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(64, 96, generator=torch.Generator().manual_seed(3)))


def _steps(optimizer: torch.optim.Optimizer, p: Tensor, first: int = 0, count: int = 4) -> None:
    for i in range(first, first + count):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
        optimizer.step()


def _options(name: str) -> dict[str, Any]:
    return {"lr": 0.1, "momentum": 0.9} if name.startswith(("SGD", "LARS", "PytorchLARS")) else {}


@pytest.mark.parametrize("name", CLASSES)
def test_bits_and_first_steps_of_every_class(name: str) -> None:
    p = _parameter()
    optimizer = getattr(bnb.optim, name)([p], **_options(name))
    _steps(optimizer, p)
    assert optimizer.state[p]["state1"].dtype == (torch.uint8 if "8bit" in name else torch.float32)
    assert torch.isfinite(p).all()
    assert not torch.equal(p, _parameter())


@pytest.mark.parametrize(("name", "options"), EVERY_RULE)
def test_a_checkpoint_resumes_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    p = _parameter()
    optimizer = getattr(bnb.optim, name)([p], **options)
    _steps(optimizer, p)
    q = torch.nn.Parameter(p.detach().clone())
    other = getattr(bnb.optim, name)([q], **options)
    other.load_state_dict(optimizer.state_dict())
    _steps(optimizer, p, first=4)
    _steps(other, q, first=4)
    assert torch.equal(p, q)


@pytest.mark.parametrize("loaded", [False, True])
def test_states_answer_to_their_names(loaded: bool) -> None:
    p, q = _parameter(), _parameter()
    optimizer, mixed = bnb.optim.AdamW8bit([p]), bnb.optim.AdEMAMix([q])
    _steps(optimizer, p)
    _steps(mixed, q)
    if loaded:
        saved, optimizer = optimizer.state_dict(), bnb.optim.AdamW8bit([p])
        optimizer.load_state_dict(saved)
    state = optimizer.state[p]
    assert state["state1"] is state["exp_avg"]
    assert state["absmax2"] is state["exp_avg_sq_absmax"]
    assert torch.equal(state["qmap2"], bnb.functional.create_dynamic_map(signed=False))
    values = bnb.functional.dequantize_blockwise(
        A=state["state1"], code=state["qmap1"], absmax=state["absmax1"], blocksize=256
    )
    assert values.shape == p.shape
    with pytest.raises(KeyError):
        state["state3"]
    assert mixed.state[q]["state1"].shape == (2, *q.shape)
    assert torch.equal(mixed.state[q]["state1"][1], mixed.state[q]["exp_avg_slow"])


def test_optimizers_equal_those_of_bittern_optim() -> None:
    p, q = _parameter(), _parameter()
    _steps(bnb.optim.AdamW8bit([p], weight_decay=0.1), p)
    _steps(native.AdamW([q], weight_decay=0.1, state_bits=8), q)
    assert torch.equal(p, q)


def test_trust_ratios_work_in_8_bits() -> None:
    """bitsandbytes' LAMB8bit is Adam8bit and its LARS8bit is SGD8bit."""
    for name, plain, options in [
        ("LAMB8bit", "Adam8bit", {"lr": 0.01}),
        ("LARS8bit", "SGD8bit", {"lr": 0.01, "momentum": 0.9}),
    ]:
        p, q = (torch.nn.Parameter(1e-3 * _parameter().detach()) for _ in range(2))
        start = p.detach().clone()
        _steps(getattr(bnb.optim, name)([p], **options), p, count=1)
        _steps(getattr(bnb.optim, plain)([q], **options), q, count=1)
        assert (p - start).detach().norm() < 0.1 * (q - start).detach().norm()


def test_lars_by_hand() -> None:
    """|p| = |g| = 5: the ratio is max_unorm = 0.02, the step 0.01 * 0.02 g."""
    p = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    p.grad = torch.tensor([4.0, -3.0])
    bnb.optim.PytorchLARS([p]).step()
    torch.testing.assert_close(p.detach(), torch.tensor([2.9992, 4.0006]))


@pytest.mark.parametrize(("max_unorm", "step"), [(0.0, 1.0), (0.5, 0.5), (1.0, 1.0), (1e-3, 1e-3)])
def test_lamb_limits_its_step(max_unorm: float, step: float) -> None:
    """Adam's first direction is the sign of the gradient; here it is as long as the parameter."""
    p = torch.nn.Parameter(torch.ones(100))
    p.grad = torch.full((100,), 3.0)
    optimizer = bnb.optim.LAMB([p], lr=0.1, max_unorm=max_unorm)
    assert optimizer.args.max_unorm == max_unorm
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.full((100,), 1 - 0.1 * step))


def test_lars_without_a_limit_is_sgd() -> None:
    p, q = (torch.nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(2))
    lars, sgd = bnb.optim.PytorchLARS([p], momentum=0.9, max_unorm=0.0), torch.optim.SGD([q], 0.01, 0.9)
    for gradient in ([40.0, -30.0], [1.0, 2.0]):
        p.grad, q.grad = torch.tensor(gradient), torch.tensor(gradient)
        lars.step()
        sgd.step()
    torch.testing.assert_close(p, q)


def test_files_of_the_other_lars_are_refused() -> None:
    p = torch.nn.Parameter(torch.ones(5000))
    p.grad = torch.ones(5000)
    optimizer = bnb.optim.LARS([p], 0.1, 0.9)
    optimizer.step()
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    assert "momentum_buffer" in saved["state"][0]
    saved["state"][0] = {"step": 1, "__bnb_optimizer_quant_state__": {"state1": torch.ones(5000)}}
    with pytest.raises(ValueError, match="start with a new optimizer"):
        optimizer.load_state_dict(saved)


def test_a_parameter_without_gradient_does_not_drift_under_lion8bit() -> None:
    p = _parameter()
    start = p.detach().clone()
    optimizer = bnb.optim.Lion8bit([p], lr=1e-3)
    p.grad = torch.zeros_like(p)
    p.grad[:, ::2] = 1.0
    for _ in range(20):
        optimizer.step()
    assert torch.equal(p[:, 1::2], start[:, 1::2])


def test_override_concerns_one_parameter_and_no_other_optimizer() -> None:
    p, q, other = _parameter(), _parameter(), _parameter()
    manager = bnb.optim.GlobalOptimManager.get_instance()
    manager.register_parameters([p, q])
    manager.override_config(p, "optim_bits", 32)
    optimizer, second = bnb.optim.Adam8bit([p, q]), bnb.optim.Adam8bit([other])
    for one, params in ((optimizer, [p, q]), (second, [other])):
        for parameter in params:
            parameter.grad = torch.ones_like(parameter)
        one.step()
    bits = [optimizer.state[x]["exp_avg"].dtype for x in (p, q)] + [second.state[other]["exp_avg"].dtype]
    assert bits == [torch.float32, torch.uint8, torch.uint8]


def test_embedding_overrides_its_own_weight() -> None:
    for cls in (bnb.nn.StableEmbedding, bnb.nn.Embedding):
        layer = cls(100, 64)
        optimizer = bnb.optim.Adam8bit(layer.parameters())
        layer(torch.arange(5)).square().sum().backward()
        optimizer.step()
        assert optimizer.state[layer.weight]["exp_avg"].dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Adam", {"optim_bits": 4}, "optim_bits must be 8 or 32"),
        ("Adam8bit", {"optim_bits": 16}, "its states have 8 bits"),
        ("AdamW", {"args": object()}, "args held settings"),
        ("LAMB", {"adam_w_mode": False}, "adam_w_mode=True"),
        ("LAMB8bit", {"max_unorm": -0.5}, "must be positive, or 0"),
        ("LARS8bit", {"lr": 0.1, "momentum": 0.9, "max_unorm": -1.0}, "must be positive, or 0"),
        ("Adagrad8bit", {"optim_bits": 32}, "8 bits"),
        ("AdamW", {"betas": (0.9, 1.5)}, "betas"),
    ],
)
def test_arguments_that_cannot_be_honoured_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        getattr(bnb.optim, name)([_parameter()], **options)


def test_more_refusals() -> None:
    with pytest.raises(NotImplementedError, match="momentum"):
        bnb.optim.SGD8bit([_parameter()], lr=0.1)
    with pytest.raises(ValueError, match="a group of its own"):
        bnb.optim.GlobalOptimManager.get_instance().override_config(_parameter(), "lr", 0.1)
    optimizer = bnb.optim.Adam8bit([_parameter()])
    with pytest.raises(ValueError, match="move_to_device"):
        optimizer.load_state_dict(optimizer.state_dict(), move_to_device=False)


@pytest.fixture(scope="module")
def real() -> Any:
    import bitsandbytes

    return bitsandbytes


@pytest.mark.peers("bitsandbytes")
@pytest.mark.filterwarnings("ignore")
class TestAgainstTheRealOne:
    """bitsandbytes itself."""

    @pytest.mark.parametrize("name", CLASSES)
    def test_signature(self, real: Any, name: str) -> None:
        theirs, ours = (inspect.signature(getattr(m.optim, name).__init__) for m in (real, bnb))
        assert [(n, p.default) for n, p in theirs.parameters.items()] == [
            (n, p.default) for n, p in ours.parameters.items()
        ]

    @pytest.mark.parametrize(
        ("name", "options"),
        # their AdEMAMix32bit crashes; LARS has a format of its own here
        [(name, options) for name, options in EVERY_RULE if name not in ("AdEMAMix32bit", "LARS8bit")],
    )
    def test_checkpoints_move_both_ways(self, real: Any, name: str, options: dict[str, Any]) -> None:
        p, q = _parameter(), _parameter()
        ours, theirs = (getattr(m.optim, name)([x], **options) for m, x in ((bnb, p), (real, q)))
        _steps(ours, p)
        _steps(theirs, q)
        a, b = ours.state_dict(), theirs.state_dict()
        assert set(a["state"][0][WRAPPED]) >= {k for k, v in b["state"][0][WRAPPED].items() if v is not None} - {
            "unorm_vec"
        }
        for key, value in b["state"][0][WRAPPED].items():
            if value is not None and key != "unorm_vec":
                found = a["state"][0][WRAPPED][key]
                assert (found.shape, found.dtype) == (value.shape, value.dtype)
        assert set(b["param_groups"][0]) <= set(a["param_groups"][0])
        here, there = (getattr(m.optim, name)([x], **options) for m, x in ((bnb, q), (real, p)))
        here.load_state_dict(b)
        there.load_state_dict(a)
        start = q.detach().clone()
        _steps(here, q, first=4, count=1)
        _steps(there, p, first=4, count=1)
        assert here.state_dict()["state"][0]["step"] in (5, 1)  # 1: SGD counts no steps
        assert not torch.equal(q, start)

    @pytest.mark.parametrize(
        "name", ["Adam32bit", "AdamW32bit", "AdEMAMix", "Lion32bit", "RMSprop32bit", "Adagrad32bit"]
    )
    def test_trajectory_in_32_bits(self, real: Any, name: str) -> None:
        p, q = _parameter(), _parameter()
        _steps(getattr(bnb.optim, name)([p], weight_decay=0.1), p)
        _steps(getattr(real.optim, name)([q], weight_decay=0.1), q)
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


_TRAINER = """
import warnings
warnings.simplefilter("ignore")
import bittern.compat.bitsandbytes as bnb
bnb.install()
bnb.install()
import bitsandbytes
assert bitsandbytes is bnb
from bitsandbytes.optim.adamw import AdamW8bit
assert AdamW8bit is bnb.optim.AdamW8bit
import torch
from transformers import Trainer, TrainingArguments

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.linear = torch.nn.Embedding(64, 64), torch.nn.Linear(64, 64)

    def forward(self, x, labels):
        y = self.linear(self.embedding(x))
        return {"loss": torch.nn.functional.cross_entropy(y, labels), "logits": y}

data = [{"x": torch.tensor(i), "labels": torch.tensor(i)} for i in range(64)]
for name in ("adamw_bnb_8bit", "paged_adamw_32bit", "lion_8bit", "rmsprop_bnb_8bit", "ademamix_8bit"):
    arguments = TrainingArguments(
        FOLDER, optim=name, max_steps=4, report_to=[], disable_tqdm=True, save_strategy="no", use_cpu=True
    )
    trainer = Trainer(Model(), arguments, train_dataset=data)
    trainer.train()
    optimizer = trainer.optimizer.optimizer
    assert type(optimizer).__module__.startswith("bittern.compat.bitsandbytes")
    dtypes = {p is trainer.model.embedding.weight: s for p, s in optimizer.state.items() if p.ndim == 2}
    key = "square_avg" if "rmsprop" in name else "exp_avg"
    assert dtypes[True][key].dtype == torch.float32
    assert dtypes[False][key].dtype == (torch.uint8 if "8bit" in name else torch.float32)
print("trained")
"""


@pytest.mark.peers("transformers", "accelerate")
def test_transformers_trainer(tmp_path: Any) -> None:
    code = _TRAINER.replace("FOLDER", repr(str(tmp_path)))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert result.stdout.strip().endswith("trained"), result.stderr[-2000:]


def test_install_refuses_beside_another_bitsandbytes() -> None:
    code = (
        "import sys, types; sys.modules['bitsandbytes'] = types.ModuleType('bitsandbytes')\n"
        "from bittern.compat.bitsandbytes import install\n"
        "try: install()\nexcept RuntimeError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the real bitsandbytes is imported already" in result.stdout
