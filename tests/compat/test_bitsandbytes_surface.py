# SPDX-License-Identifier: Apache-2.0
"""Every public name, method, parameter and default of an installed bitsandbytes, against the bridge by introspection.

What the bridge leaves out on purpose stands in the tables below, and docs/bitsandbytes.md says why; anything else that
is missing or differs fails. Nothing runs here but imports.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch

from bittern.compat.bitsandbytes._torch_ops import OPERATORS

pytestmark = [pytest.mark.peers("bitsandbytes"), pytest.mark.filterwarnings("ignore")]

MODULES = (
    "",
    "functional",
    "utils",
    "nn",
    "nn.modules",
    "nn.parametrize",
    "autograd._functions",
    "optim",
    "optim.adagrad",
    "optim.adam",
    "optim.adamw",
    "optim.ademamix",
    "optim.lamb",
    "optim.lars",
    "optim.lion",
    "optim.optimizer",
    "optim.rmsprop",
    "optim.sgd",
)
PACKAGES = ("", "nn", "optim")
"""Where names that come from other modules count too."""
ABSENT = {
    # CUDA's int8 products, paged memory and pointers
    "functional.batched_igemm",
    "functional.check_matmul",
    "functional.elementwise_func",
    "functional.fill",
    "functional.get_paged",
    "functional.get_ptr",
    "functional.igemm",
    "functional.is_on_gpu",
    "functional.prefetch_tensor",
    "functional.CUBLAS_Context",
    "functional.GlobalPageManager",
    # outlier tracing, which nothing in bitsandbytes calls any more
    "autograd._functions.GlobalOutlierPooler",
    "nn.modules.OutlierAwareLinear",
    "utils.OutlierTracer",
    "utils.outlier_hook",
    # internals: autograd functions, bases of the optimizers, repairs of weights, subprocesses
    "autograd._functions.MatMul4Bit",
    "autograd._functions.MatMul8bitFp",
    "autograd._functions.MatMul8bitLt",
    "nn.modules.fix_4bit_weight_quant_state_from_module",
    "nn.modules.maybe_rearrange_weight",
    "optim.optimizer.MockArgs",
    "optim.optimizer.Optimizer1State",
    "optim.optimizer.Optimizer2State",
    "utils.execute_and_return",
    # compute_dtype=None is always the input's type
    "nn.modules.Linear4bit.set_compute_type",
    # how its optimizers keep their states
    "optim.ademamix.AdEMAMix.init_state",
    "optim.ademamix.AdEMAMix.update_step",
    *(
        f"optim.optimizer.Optimizer8bit.{name}"
        for name in (
            "check_overrides",
            "fill_qmap",
            "get_config",
            "get_state_buffer",
            "init_state",
            "prefetch_state",
            "to_gpu",
            "update_step",
        )
    ),
    # fields of MatmulLtState that nothing reads
    *(
        f"autograd._functions.MatmulLtState.{name}"
        for name in ("CBt", "SB", "SBt", "force_no_igemmlt", "has_accumulated_gradients", "outlier_pool", "subB")
    ),
}
OTHER_SIGNATURE = {
    "autograd._functions.MatmulLtState",  # fewer fields
    "nn.modules.Int8Params.xpu",  # Tensor's own
    "nn.modules.Params4bit.xpu",
    "nn.modules.Params4bit.from_prequantized",  # device: the CPU, not CUDA
    "optim.optimizer.Optimizer8bit",
    "optim.optimizer.Optimizer8bit.load_state_dict",  # requantize besides
}

Parameter = tuple[str, Any, Any]


def _parameters(call: Callable[..., Any]) -> list[Parameter] | None:
    try:
        found = inspect.signature(call).parameters.values()
    except ValueError:
        return None  # built in: no signature
    return [(p.name, p.kind, p.default) for p in found]


def _members(name: str, owner: Any, of_package: str) -> Iterator[tuple[str, str, Any]]:
    """(full name, attribute, value) of what a module or class defines itself and does not hide."""
    for key, value in vars(owner).items():
        if key.startswith("_") or inspect.ismodule(value):
            continue
        if isinstance(owner, ModuleType):
            home = getattr(value, "__module__", None)
            if not callable(value) or not str(home).startswith(of_package):
                continue
        yield f"{name}.{key}".lstrip("."), key, getattr(owner, key)


def _differences(name: str, theirs: Any, ours: Any) -> Iterator[str]:
    for full, key, value in _members(name, theirs, "bitsandbytes"):
        home = getattr(value, "__module__", "").removeprefix("bitsandbytes").lstrip(".")
        real = f"{home}.{key}".lstrip(".") if isinstance(theirs, ModuleType) else full
        if not hasattr(ours, key):
            imported = isinstance(theirs, ModuleType) and home != name and name not in PACKAGES
            if not {full, real} & ABSENT and not imported:
                yield f"{full} is missing"
            continue
        if real != full:
            continue  # looked at where it is defined
        found = getattr(ours, key)
        if callable(value) and full not in OTHER_SIGNATURE and _parameters(value) != _parameters(found):
            yield f"{full} has {_parameters(found)}; bitsandbytes {_parameters(value)}"
        if inspect.isclass(value):
            yield from _differences(full, value, found)


@pytest.mark.parametrize("name", MODULES)
def test_surface(name: str) -> None:
    theirs = import_module(f"bitsandbytes.{name}".rstrip("."))
    ours = import_module(f"bittern.compat.bitsandbytes.{name}".rstrip("."))
    assert list(_differences(name, theirs, ours)) == []


def test_nothing_is_listed_in_vain() -> None:
    for full in sorted(ABSENT | OTHER_SIGNATURE):
        parts = full.split(".")
        length = max(n for n in range(len(parts)) if ".".join(parts[:n]) in MODULES)
        theirs: Any = import_module(".".join(["bitsandbytes", *parts[:length]]))
        ours: Any = import_module(".".join(["bittern.compat.bitsandbytes", *parts[:length]]))
        for part in parts[length:]:
            theirs, ours = getattr(theirs, part), getattr(ours, part, None)
        assert (ours is None) == (full in ABSENT), full


def test_operators() -> None:
    """torch.ops.bitsandbytes: the same schemas, names of the alias sets aside."""
    import_module("bitsandbytes")
    for operator in OPERATORS:
        name, _, overload = operator.name.partition(".")
        real = getattr(getattr(torch.ops.bitsandbytes, name), overload or "default")._schema
        ours = torch._C.parse_schema(f"bitsandbytes::{operator.schema}")
        assert [(a.name, str(a.type), a.default_value, a.is_out) for a in ours.arguments] == [
            (a.name, str(a.type), a.default_value, a.is_out) for a in real.arguments
        ]
        assert [str(r.type) for r in ours.returns] == [str(r.type) for r in real.returns]
    defined = {schema.name + "." * bool(schema.overload_name) + schema.overload_name for schema in _real_schemas()}
    assert defined == {f"bitsandbytes::{operator.name}" for operator in OPERATORS}


def _real_schemas() -> list[Any]:
    return [s for s in torch._C._jit_get_all_schemas() if s.name.startswith("bitsandbytes::")]
