# SPDX-License-Identifier: Apache-2.0
"""The op contract: one object declares schema, check, fake, reference and the implementations per device.

An `Op` registers itself with `torch.library`, so that `opcheck`, `torch.compile(fullgraph=True)`, meta tensors and
autocast work, and it lists its implementations for the agreement test and the benchmark. The reference is the
specification: every implementation must equal it bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from bittern.ops._isa import Isa, available_isas, chosen_isa
from bittern.ops._transforms import FrozenFunction, passes_unseen, refuse_tangents, transform_is_active

R = TypeVar("R")
"""What an op returns: a tensor, a tuple of tensors, or None where it changes its arguments."""

_LIBRARY = torch.library.Library("bittern", "DEF")  # type: ignore[no-untyped-call]


def lazily(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of a module that is imported by the first call: Triton is loaded only where it is used."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)(*args, **kwargs)

    return call


class Implementation(NamedTuple):
    """One way to compute an op, for tests and benchmarks that compare them side by side."""

    name: str
    """"reference", "native[scalar]", "native[avx2]" (and so on, one per `Isa`) or "triton"."""
    device: str
    """"cpu" or "cuda"."""
    call: Callable[..., Any]


class Op(Generic[R]):
    """One op: called like a function, it runs the implementation for the device of its tensors.

    schema: torch schema, e.g. "sign(Tensor x) -> Tensor"; arguments that the op changes are marked, "Tensor(a!) x".
    record: a NamedTuple with the schema's arguments and defaults, for an op with more than four. It is made once a
    call, and all that follow take it in place of the arguments.
    check: raises on bad arguments; called before every implementation.
    reference: plain torch, any device; the meaning of the op.
    fake: shape and dtype of the result without computing it.
    cpu: native code; takes the instruction set as first argument.
    cuda: Triton kernel.
    """

    def __init__(
        self,
        schema: str,
        *,
        check: Callable[..., None],
        reference: Callable[..., R],
        fake: Callable[..., R],
        cpu: Callable[..., R],
        cuda: Callable[..., R],
        record: Callable[..., tuple[Any, ...]] | None = None,
    ) -> None:
        self.name = schema.split("(", 1)[0]
        self.schema = schema
        self.__doc__ = reference.__doc__
        self.record = record
        self._check = check
        self._reference = reference
        self._cpu = cpu
        self._cuda = cuda
        self._function: type[FrozenFunction] | None = None
        _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
        _LIBRARY.impl(self.name, self._run_cpu, "CPU")  # type: ignore[no-untyped-call]
        _LIBRARY.impl(self.name, self._run_cuda, "CUDA")  # type: ignore[no-untyped-call]

        def checked_fake(*args: Any, **kwargs: Any) -> R:
            args, kwargs = self._gathered(args, kwargs)
            check(*args, **kwargs)
            return fake(*args, **kwargs)

        torch.library.register_fake(f"bittern::{self.name}", checked_fake, lib=_LIBRARY)
        self._packet = getattr(torch.ops.bittern, self.name).default

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        if not torch.compiler.is_compiling() and transform_is_active():
            return self._transformed(*args, **kwargs)
        result: R = self._packet(*args, **kwargs)
        return result

    def direct(self, *args: Any) -> R:
        """The same for a layer, whose arguments fit the schema: past torch's dispatcher where that would do nothing.

        Through Python it takes some twenty microseconds, twice a small product with frozen weights.
        """
        if not torch.compiler.is_compiling() and passes_unseen(args):
            return self._run_cpu(*args)
        return self(*args)

    def _transformed(self, *args: Any, **kwargs: Any) -> R:
        """The call inside torch.func or forward-mode differentiation, where torch.library knows no derivatives."""
        if self._function is None:
            refuse_tangents(self.name, (*args, *kwargs.values()))
            result: R = self._packet(*args, **kwargs)
        else:
            assert self.record is not None
            result = self._function.apply(*self.record(*args, **kwargs))  # type: ignore[no-untyped-call]
        return result

    def differentiate(self, function: type[FrozenFunction]) -> None:
        """Give an op with a record the derivatives of `function`, backward through torch.library."""
        torch.library.register_autograd(
            f"bittern::{self.name}", function.backward, setup_context=function.setup_context, lib=_LIBRARY
        )
        self._function = function

    def __repr__(self) -> str:
        return f"Op({self.schema})"

    @property
    def overload(self) -> Any:
        """The `torch._ops.OpOverload`, as `torch.library.opcheck` wants it."""
        return self._packet

    def reference(self, *args: Any, **kwargs: Any) -> R:
        """The specification in plain torch, with the same checks as every other implementation."""
        args, kwargs = self._gathered(args, kwargs)
        self._check(*args, **kwargs)
        return self._reference(*args, **kwargs)

    def native(self, isa: Isa, *args: Any, **kwargs: Any) -> R:
        """The native CPU implementation at one instruction set."""
        args, kwargs = self._gathered(args, kwargs)
        self._check(*args, **kwargs)
        return self._cpu(isa, *args, **kwargs)

    def triton(self, *args: Any, **kwargs: Any) -> R:
        """The Triton kernel: on CUDA tensors, or on CPU tensors under TRITON_INTERPRET=1."""
        return self._run_cuda(*args, **kwargs)

    def implementations(self) -> tuple[Implementation, ...]:
        """Every implementation that this machine can run natively, the reference first."""

        def at(isa: Isa) -> Callable[..., R]:
            return lambda *args, **kwargs: self.native(isa, *args, **kwargs)

        found = [Implementation("reference", "cpu", self.reference)]
        found += [Implementation(f"native[{isa.label}]", "cpu", at(isa)) for isa in available_isas()]
        if torch.cuda.is_available():
            found.append(Implementation("triton", "cuda", self.triton))
        return tuple(found)

    def _gathered(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as `check` and the implementations take them."""
        return (args, kwargs) if self.record is None else ((self.record(*args, **kwargs),), {})

    def _run_cpu(self, *args: Any, **kwargs: Any) -> R:
        if self.record is not None:  # `_gathered`, without a call in the way of small ops
            args, kwargs = (self.record(*args, **kwargs),), {}
        self._check(*args, **kwargs)
        return self._cpu(chosen_isa(), *args, **kwargs)

    def _run_cuda(self, *args: Any, **kwargs: Any) -> R:
        args, kwargs = self._gathered(args, kwargs)
        self._check(*args, **kwargs)
        return self._cuda(*args, **kwargs)
