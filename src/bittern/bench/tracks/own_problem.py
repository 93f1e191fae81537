# SPDX-License-Identifier: Apache-2.0
"""A problem made of a user's model and data: `bittern bench run --model FILE.py:build --data FILE.py:loaders`.

The model is a function. One with a parameter `method` is called with the method, or None for the float twin, and makes
its own network of it. Any other is called without arguments and gives a float network, of which bittern makes a low-bit
one as docs/make_it_binary.md says: `convert` with an example, the first and last layer and shortcuts real, Hardtanh in
the place of each ReLU. Weights of low-bit layers start as the method's paper has them, unless the model comes with
trained ones: then they are kept. Trained are weights that are the same whatever torch's generator is at.
The data are a function without arguments; `own_data.given` says what it may return.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bittern._own_code import DIGITS, OwnCode
from bittern.bench.core.training import fresh
from bittern.bench.core.words import plural
from bittern.bench.tracks import own_data
from bittern.bench.tracks.parts import Parts
from bittern.bench.tracks.problem import Family, Network, Problem
from bittern.binary import BNN
from bittern.data.images import ImageData
from bittern.nn import convert, plan_conversion, start_latent_weights
from bittern.nn.activations import plan_swaps
from bittern.nn.plan import Action
from bittern.quantizer import Method
from bittern.train import Cosine, Recipe

BATCH_SIZE = 50
"""Where no loader says another."""
LEARNING_RATE = 3e-3
"""Between those of the built-in problems' networks; with a budget a third and three times of it are tried too."""
WARMUP = 0.1
EXAMPLES = 2
"""Inputs that a model is looked at with."""
METHOD = "method"
CONVERTIBLE = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Random inputs like those of a part: normal of its mean and deviation, whole numbers between its ends."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    mean: float
    std: float
    low: int
    high: int

    def __call__(self, count: int) -> Tensor:
        if self.dtype.is_floating_point:
            return (torch.randn(count, *self.shape) * self.std + self.mean).to(self.dtype)
        return torch.randint(self.low, self.high + 1, (count, *self.shape)).to(self.dtype)

    @staticmethod
    def like(x: Tensor) -> Inputs:
        """x: [count, ...]."""
        if x.is_floating_point():
            std = float(x.double().std(correction=0))
            return Inputs(tuple(x.shape[1:]), x.dtype, float(x.double().mean()), std or 1.0, 0, 0)
        return Inputs(tuple(x.shape[1:]), x.dtype, 0.0, 1.0, int(x.min()), int(x.max()))


@dataclass(frozen=True, slots=True)
class OwnModel:
    """Builds a user's model; goes to other processes. trained: its weights are kept; None: not known yet."""

    code: OwnCode
    digest: str
    inputs: Inputs
    trained: bool | None = None

    def __call__(self, method: Method | None) -> nn.Module:
        """A network whose every parameter has its size. Raises: ValueError, TypeError; what the user's code raises."""
        build = self.code.load_as(self.digest)
        with torch.random.fork_rng([]):
            example = self.inputs(EXAMPLES)
        if takes_method(self.code.text, build):
            model = _module(self.code.text, _result_of(self.code.text, build, **{METHOD: method}))
        else:
            model = _module(self.code.text, _result_of(self.code.text, build))
            self._run(model, example)
            if method is not None:
                model = binary(model, method, example, trained=bool(self.trained))
        self._run(model, example)
        return model

    def _run(self, model: nn.Module, example: Tensor) -> Tensor:
        """Once, which also gives their size to parameters that wait for it."""
        training = model.training
        try:
            with torch.no_grad(), torch.random.fork_rng([]):
                output = model.eval()(example)
        # whatever a model raises, it is that it does not take these data
        except Exception as error:
            raise ValueError(
                f"{self.code.text}: the model does not run on the data's inputs, {list(example.shape)} "
                f"{example.dtype}: {type(error).__name__}: {error}"
            ) from error
        finally:
            model.train(training)
        if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(example):
            got = f"{list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"{self.code.text}: the model must return logits [batch, classes]; got {got} for a batch of "
                f"{len(example)}; return them from its forward"
            )
        return output

    def classes(self) -> int:
        """That the float twin tells apart."""
        with torch.random.fork_rng([]):
            return self._run(self(None), self.inputs(EXAMPLES)).shape[1]


def own_problem(model: OwnCode, data: OwnCode, *, learning_rate: float = LEARNING_RATE) -> Problem:
    """Look at both once, and make a problem of them.

    Raises: ImportError, AttributeError, ValueError, TypeError for what cannot be used; what the user's code raises.
    """
    data_digest = data.digest()
    found = own_data.given(data.text, _called(data))
    seen = own_data.digest_of(found)
    parts = own_data.parts_of(found, None)
    network = OwnModel(model, model.digest(), Inputs.like(parts.inputs))
    network, about = _looked_at(network)
    classes = found.classes if isinstance(found, ImageData) else tuple(str(i) for i in range(network.classes()))
    whole = hashlib.sha256(f"{data_digest} {seen}".encode()).hexdigest()[:DIGITS]
    batch_size = BATCH_SIZE if isinstance(found, ImageData) else found.batch_size or BATCH_SIZE
    return Problem(
        name=data.short,
        title=data.short,
        source=f"{data.text}, a function of the user's",
        networks={model.short: Network(network, _family(network(None)), None, about)},
        recipe=Recipe(epochs=1, batch_size=batch_size, learning_rate=learning_rate, schedule=Cosine(warmup=WARMUP)),
        inputs=network.inputs,
        read=functools.partial(_read, data, data_digest, seen),
        classes=classes,
        pictures=isinstance(found, ImageData) and found.image_shape[1] == found.image_shape[2],
        settings=(("data", whole), ("model", network.digest)),
    )


def takes_method(text: str, build: Callable[..., Any]) -> bool:
    """Whether a model's function has a parameter `method`. Raises: TypeError for others that must be given."""
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError) as error:
        raise TypeError(f"{text}: must be a function that gives a model; got {type(build).__name__}") from error
    filled = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in filled and p.name != METHOD]
    if needed:
        raise TypeError(
            f"{text}: must be a function of nothing, or of `{METHOD}`; it needs {', '.join(needed)}; give them "
            "defaults, or write a function that calls it"
        )
    return any(p.name == METHOD for p in parameters)


def binary(model: nn.Module, method: Method, example: Tensor, *, trained: bool) -> nn.Module:
    """The low-bit twin of a float model. Raises: ValueError naming the layers that cannot be converted."""
    activation = nn.Hardtanh if _swaps(model) else None
    training = model.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `_looked_at` has told the user, and the trials' notes say it
        low = convert(model, method, example=example, activation=activation)
    if not trained:
        start_latent_weights(low)
    return low.train(training)


def _read(data: OwnCode, digest: str, seen: str, folder: Path | None, train_size: int | None) -> Parts:
    """folder: of data sets, which an own function does not need."""
    if data.digest() != digest:
        raise ValueError(f"{data.text} has changed since the run began; start it again, with the same store")
    found = own_data.given(data.text, _called(data))
    if own_data.digest_of(found) != seen:
        raise ValueError(
            f"{data.text}: gives other examples than when the run began; draw parts with a seed, and shuffle nothing"
        )
    return own_data.parts_of(found, train_size)


def _called(data: OwnCode) -> Any:
    function = data.load()
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise TypeError(f"{data.text}: must be a function of nothing that returns the data: {error}") from error
    return _result_of(data.text, function)


def _result_of(text: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """What a function of the user's returns. Raises: RuntimeError with what it raised."""
    try:
        return function(**arguments)
    # whatever it raises, it is the user's; the traceback stays behind it
    except Exception as error:
        raise RuntimeError(f"{text} raised {type(error).__name__}: {error}") from error


def _looked_at(network: OwnModel) -> tuple[OwnModel, tuple[str, ...]]:
    """With what is found out about its weights, and sentences on what is done to the model."""
    if takes_method(network.code.text, network.code.load_as(network.digest)):
        return network, ()
    network = OwnModel(network.code, network.digest, network.inputs, _comes_trained(network))
    with torch.random.fork_rng([]):
        example = network.inputs(EXAMPLES)
    twin = network(None)
    swaps = _swaps(twin)
    plan = plan_conversion(twin, example=example, activation=nn.Hardtanh if swaps else None)
    about = [f"Made low-bit by bittern.convert: {plural(len(plan.names(Action.CONVERT)), 'layer')}."]
    if swaps:
        about.append(f"Hardtanh takes the place of {plural(swaps, 'ReLU')}, which the float twin has.")
    if network.trained:
        about.append("Its weights do not depend on the seed, so they count as trained, and low-bit layers keep them.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            convert(twin, BNN, example=example, activation=nn.Hardtanh if swaps else None)
        except ValueError as error:
            return network, (f"Cannot be made low-bit: {error}",)
    return network, (*about, *dict.fromkeys(str(warning.message) for warning in caught))


def _comes_trained(network: OwnModel) -> bool:
    """Whether a weight of a layer is the same under two seeds, and not the same number everywhere."""
    first, second = (dict(fresh(lambda: network(None), seed).named_modules()) for seed in (0, 1))
    pairs = [(m.weight, second[n].weight) for n, m in first.items() if isinstance(m, CONVERTIBLE) and n in second]
    return any(torch.equal(a, b) and bool((a != a.flatten()[0]).any()) for a, b in pairs)


def _swaps(model: nn.Module) -> int:
    """ReLUs that another activation can take the place of."""
    try:
        return sum(swap.new is not None for swap in plan_swaps("bench", model, nn.Hardtanh))
    except ValueError:
        return 0


def _family(model: nn.Module) -> Family:
    modules = list(model.modules())
    if any(isinstance(m, nn.MultiheadAttention) or "attention" in type(m).__name__.lower() for m in modules):
        return "Transformer"
    return "CNN" if any(isinstance(m, (nn.Conv1d, nn.Conv2d)) for m in modules) else "MLP"


def _module(text: str, made: Any) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise TypeError(f"{text}: must return an nn.Module; got {type(made).__name__}")
    return made
