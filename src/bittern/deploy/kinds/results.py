# SPDX-License-Identifier: Apache-2.0
"""The node kind `results`, which ends a program with several answers (`deploy.results`)."""

from __future__ import annotations

import torch

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.kind import AttrRule, Kind, Step
from bittern.deploy.program import Node

MOST_RESULTS = 64


def _check(node: Node, tensors: Tensors) -> None:
    names = node.attrs["names"]
    assert isinstance(names, list)
    texts = all(isinstance(name, str) for name in names) and len(set(map(str, names))) == len(names)
    if len(node.inputs) > MOST_RESULTS or not texts or len(names) not in (0, len(node.inputs)):
        raise FormatError(
            f"node {node.name!r} (results): needs a different name for each of its {len(node.inputs)} results, at most "
            f"{MOST_RESULTS}, or none at all"
        )


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    names = node.attrs["names"]
    assert isinstance(names, list)
    if names:
        return lambda *values: dict(zip(names, values, strict=True))
    return lambda *values: values


def _form(node: Node, tensors: Tensors, *values: Form) -> Form:
    for value in values:
        need(node, value.type not in ("acc", "bits", "tuple", "results"), f"it takes tensors; got {value.type}")
        need(node, value.samples_first, f"its results must be [batch, ...]; got {list(value.shape)}")
    return Form((0,), "results")


RESULTS = Kind(
    name="results",
    inputs=(-1,),
    attrs={"names": AttrRule(list, tree=True)},
    check=_check,
    shape=_form,
    build=_build,
    view=True,
)
