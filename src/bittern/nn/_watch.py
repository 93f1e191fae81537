# SPDX-License-Identifier: Apache-2.0
"""What one forward pass of a model does: what it calls, whose weights it reads itself, which functions it uses."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bittern.nn._flow import Flows, tensors_in
from bittern.nn._probe import eval_mode
from bittern.nn._products import Products

RELU_FUNCTIONS = frozenset({"relu", "relu_", "relu6", "threshold", "threshold_"})
"""torch functions whose result is never negative, as the modules in `activations.SWAPPED` compute it."""

_NO_READS = frozenset({"type_as", "data_ptr"})
"""Functions that take a tensor for its type or place alone."""


class Watched:
    """What was seen; modules and parameters by id."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {id(module): name for name, module in model.named_modules()}
        self.called: dict[int, nn.Module] = {}
        """Modules in the order in which the forward first finished them."""
        self.shapes: dict[int, tuple[int, ...]] = {}
        """Shape of each module's first output without the batch; () where that is no tensor."""
        self.outputs: dict[int, int] = {}
        """Numbers in all outputs of a module together."""
        self.macs: dict[int, int] = {}
        """Multiply-accumulates in a module's own forward, without those of the modules that it calls."""
        self.readers: dict[int, list[str]] = {}
        """Parameter -> modules that hand it to a torch function although it is not theirs."""
        self.relus: dict[str, str] = {}
        """Module -> the function of RELU_FUNCTIONS that its own forward calls."""
        self.bypasses: set[int] = set()
        """Layers of one tap whose output is added to a branch beside them."""


class _Watch(TorchFunctionMode):
    def __init__(self, watched: Watched, model: nn.Module, layers: tuple[type[nn.Module], ...], flows: Flows) -> None:
        super().__init__()
        self.watched, self.layers, self.flows = watched, layers, flows
        self.running: list[nn.Module] = []
        self.owners: dict[int, set[int]] = {}
        for module in model.modules():
            for inner in module.modules() if isinstance(module, layers) else (module,):
                for parameter in inner.parameters(recurse=False):
                    self.owners.setdefault(id(parameter), set()).add(id(module))

    def enter(self, module: nn.Module, inputs: Any) -> None:
        self.running.append(module)

    def leave(self, module: nn.Module, inputs: Any, named: dict[str, Any], output: Any) -> None:
        self.running.pop()
        seen = self.watched
        seen.called.setdefault(id(module), module)
        seen.shapes.setdefault(id(module), tuple(output.shape[1:]) if isinstance(output, Tensor) else ())
        if isinstance(output, Tensor):
            seen.outputs[id(module)] = seen.outputs.get(id(module), 0) + output.numel()
        if isinstance(module, self.layers):
            self.flows.layer(module, (*inputs, *named.values()), output)

    def products(self, macs: int) -> None:
        key = id(self.running[-1])
        self.watched.macs[key] = self.watched.macs.get(key, 0) + macs

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = tensors_in(result)
        if made and self.running:
            given = (*args, *kwargs.values())
            self._note_reads(func, given)
            name = str(getattr(func, "__name__", ""))
            if name in RELU_FUNCTIONS and not isinstance(self.running[-1], (nn.ReLU, nn.ReLU6, nn.Threshold)):
                self.watched.relus.setdefault(self._running_name(), name)
            self.flows.function(func, given, result)
        return result

    def _note_reads(self, func: Any, given: tuple[Any, ...]) -> None:
        name = str(getattr(func, "__name__", ""))
        if name in _NO_READS or name.startswith("new_") or name.endswith("_like"):
            return
        running = {id(module) for module in self.running}
        for tensor in tensors_in(given[:1] if name == "to" else given):
            if isinstance(tensor, nn.Parameter) and not running & self.owners.get(id(tensor), running):
                readers = self.watched.readers.setdefault(id(tensor), [])
                if self._running_name() not in readers:
                    readers.append(self._running_name())

    def _running_name(self) -> str:
        name: str = self.watched.names[id(self.running[-1])]
        return name


def watch(
    model: nn.Module, args: tuple[Tensor, ...], layers: tuple[type[nn.Module], ...], *, products: bool = False
) -> Watched:
    """Run `model` on `args` once, in eval mode and without gradients, and tell what it did.

    layers: kinds of layers between which values are followed; what is inside one counts as the layer.
    products: also count multiply-accumulates, in `Watched.macs`.
    """
    watched = Watched(model)
    # views, so that nothing hangs on the caller's tensors
    args = tuple(arg.detach() for arg in args)
    flows = Flows(args)
    mode = _Watch(watched, model, layers, flows)
    handles: list[Any] = []
    with ExitStack() as stack:
        stack.enter_context(eval_mode(model))
        stack.enter_context(torch.no_grad())
        stack.callback(lambda: [handle.remove() for handle in handles])
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(mode.enter, prepend=True))
            handles.append(module.register_forward_hook(mode.leave, with_kwargs=True))
        stack.enter_context(mode)
        if products:
            stack.enter_context(Products(mode.products))
        model(*args)
    watched.bypasses = flows.bypasses
    return watched
