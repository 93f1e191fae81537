# SPDX-License-Identifier: Apache-2.0
"""What becomes of one layer: a method for all of them, or a rule that is asked about each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import nn

from bittern.nn._frozen import FrozenLinear
from bittern.nn._layer_checks import check_method
from bittern.nn.conv import BinaryConv1d, BinaryConv2d, pads_on_grid
from bittern.nn.linear import BinaryLinear
from bittern.quantizer import LayerShape, Method

Answer = Callable[..., nn.Module]
"""A `Method`, or a layer class with `from_float(layer, **options)`, or a partial of either with its options."""

Rule = Callable[[str, nn.Module], Answer | None]
"""(name, layer) -> what the layer becomes; None: it stays real."""

_ADVICE = "return a Quantizer class, a layer class with from_float (Linear8bit), a partial of one, or None"


def as_rule(owner: str, chosen: Method | Rule) -> Rule | None:
    """`chosen` if it is a rule, which takes (name, layer); None if it is a method, which takes one `LayerShape`.

    What can be called with one argument is a method. Raises: TypeError for what is neither.
    """
    check_method(owner, cast("Method", chosen))
    assert callable(chosen)
    if inspect.isclass(chosen) or inspect.isclass(getattr(chosen, "func", None)):
        return None
    signature = inspect.signature(chosen)
    if _takes(signature, 1):
        return None
    if not _takes(signature, 2):
        raise TypeError(
            f"{owner}: a method takes a LayerShape, a rule takes (name, layer); got {chosen!r} with {signature}; "
            "pass a Quantizer class, or a function of two arguments"
        )
    return cast("Rule", chosen)


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def check_answer(owner: str, name: str, answer: object) -> None:
    """Refuse what makes no layer. Raises: TypeError."""
    if answer is None or layer_class(answer) is not None:
        return
    subject = f"{owner}: the rule's answer for layer {name!r}"
    if not callable(answer) or isinstance(answer, nn.Module):
        raise TypeError(f"{subject} is {answer!r}; {_ADVICE}")
    check_method(subject, cast("Method", answer))


def layer_class(answer: object) -> type[nn.Module] | None:
    """The layer class that an answer names; None for a method."""
    inner = answer.func if isinstance(answer, partial) else answer
    return inner if isinstance(inner, type) and hasattr(inner, "from_float") else None


def why_not(answer: Answer | None, layer: nn.Module) -> str:
    """Why `layer` cannot become that; "" when it can, as far as is known before it is built."""
    cls = layer_class(answer)
    if cls is not None and issubclass(cls, FrozenLinear) and not isinstance(layer, nn.Linear):
        return f"{cls.__name__} takes the place of linear layers alone; give it a method or None"
    return ""


def in_words(answer: Answer | None) -> str:
    """For a plan: "BNN", "Linear4bit(nested=True)"."""
    if isinstance(answer, partial):
        options = ", ".join([*map(repr, answer.args), *(f"{k}={_name(v)}" for k, v in answer.keywords.items())])
        return f"{in_words(answer.func)}({options})"
    return _name(answer)


def _name(value: object) -> str:
    return str(getattr(value, "__name__", None) or repr(value))


def new_layer(owner: str, name: str, old: nn.Module, answer: Answer, pad_value: int) -> nn.Module:
    """The layer that takes the place, and the parameters, of `old`. Raises: what its class raises, with its name."""
    try:
        cls = layer_class(answer)
        new = _low_bit(old, answer, pad_value) if cls is None else _of_class(cls, old, answer)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{owner}: layer {name!r}: {error}") from error
    if not isinstance(new, nn.Module):
        raise TypeError(f"{owner}: layer {name!r}: {in_words(answer)} made a {type(new).__name__}, which is no module")
    return new.train(old.training)


def _of_class(cls: Any, old: nn.Module, answer: Answer) -> nn.Module:
    if not isinstance(answer, partial):
        return cast("nn.Module", cls.from_float(old))
    return cast("nn.Module", cls.from_float(old, *answer.args, **answer.keywords))


def _low_bit(old: nn.Module, method: Callable[[LayerShape], Any], pad_value: int) -> nn.Module:
    if isinstance(old, nn.Linear):
        return BinaryLinear.from_float(old, method=method)
    assert isinstance(old, (nn.Conv1d, nn.Conv2d))
    cls = BinaryConv1d if isinstance(old, nn.Conv1d) else BinaryConv2d
    return cls.from_float(old, method=method, pad_value=pad_value if pads_on_grid(old) else 0)
