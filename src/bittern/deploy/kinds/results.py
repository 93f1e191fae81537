# SPDX-License-Identifier: Apache-2.0
"""The node kind `results`, which ends a program with several answers (`deploy.structure`)."""

from __future__ import annotations

import torch

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.kind import AttrRule, Kind, Step
from bittern.deploy.program import Attr, Node
from bittern.deploy.structure import CONSTANT, DICT, TUPLE, Tree, branches, built, check_tree, leaves

MOST_RESULTS = 64


def tree_of(node: Node) -> Tree:
    """The structure of the answers."""
    tree, names = node.attrs.get("structure"), node.attrs["names"]
    if isinstance(tree, list):
        return tree
    places = range(len(node.inputs))
    return [DICT, names, *places] if names else [TUPLE, *places]


def attrs_of(tree: Tree) -> dict[str, Attr]:
    """Attributes that say this structure: names alone where nothing in it has a structure of its own."""
    assert isinstance(tree, list)
    if tree[0] == CONSTANT or not all(isinstance(entry, int) for _, entry in branches(tree)):
        return {"names": [], "structure": tree}
    return {"names": tree[1] if tree[0] == DICT else []}


def _check(node: Node, tensors: Tensors) -> None:
    names, tree = node.attrs["names"], node.attrs.get("structure")
    assert isinstance(names, list)
    texts = all(isinstance(name, str) for name in names) and len(set(map(str, names))) == len(names)
    if len(node.inputs) > MOST_RESULTS or not texts or len(names) not in (0, len(node.inputs)):
        raise FormatError(
            f"node {node.name!r} (results): needs a different name for each of its {len(node.inputs)} results, at most "
            f"{MOST_RESULTS}, or none at all"
        )
    if tree is None:
        return
    try:
        check_tree(tree)
    except ValueError as error:
        raise FormatError(f"node {node.name!r} (results): {error}") from error
    if names or [place for _, place in leaves(tree)] != list(range(len(node.inputs))):  # type: ignore[arg-type]
        raise FormatError(
            f"node {node.name!r} (results): its structure must hold each of its {len(node.inputs)} results once, in "
            "their order, and takes the place of names"
        )


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    tree = tree_of(node)
    return lambda *values: built(tree, values)


def _form(node: Node, tensors: Tensors, *values: Form) -> Form:
    for value in values:
        need(node, value.type not in ("acc", "bits", "tuple", "results"), f"it takes tensors; got {value.type}")
    return Form((0,), "results")


RESULTS = Kind(
    name="results",
    inputs=(-1,),
    attrs={"names": AttrRule(list, tree=True), "structure": AttrRule(list, tree=True, optional=True)},
    check=_check,
    shape=_form,
    build=_build,
    view=True,
)
