# SPDX-License-Identifier: Apache-2.0
"""A program in words, as it runs on the CPU: what each item is, how large, and how many products it takes."""

from __future__ import annotations

from math import prod

from bittern.deploy.engine.engine import Engine
from bittern.deploy.engine.fuse import Forms, reason
from bittern.deploy.engine.items import BitStep, Block, Encode, Item, Pool, RealProduct, WholeMean, number_of
from bittern.deploy.kinds.kind import integer, integers
from bittern.deploy.program import Node


def how(item: Item) -> str:
    """Who runs an item."""
    if isinstance(item, Block):
        return "block"
    if isinstance(item, Encode | Pool | RealProduct | WholeMean | BitStep):
        return "native"
    return "own call" if item.kind == "binary" else "torch"


def layer_name(item: Item) -> str:
    """Path of the module that an item came from."""
    return item.name if isinstance(item, Node) else item.node.name


def product_of(item: Item) -> Node | None:
    """The product of bits in an item."""
    node = item.node if isinstance(item, Block) else item
    return node if isinstance(node, Node) and node.kind == "binary" else None


def product_macs(forms: Forms, node: Node) -> int:
    """Products of signs for one sample; those of several bit planes count once per pair of planes."""
    fan_in = integer(node, "channels") // integer(node, "groups") * prod(integers(node, "kernel"))
    planes = forms[node.inputs[0]].planes * integer(node, "weight_planes")
    return prod(forms[node.output].shape[1:]) * fan_in * planes


def shape_words(engine: Engine, item: Item) -> str:
    """Such as "3x3/2 64 -> 128 at 28x28" of a product (the size is that of its output), else the output's shape."""
    node = product_of(item)
    if node is None:
        return "x".join(map(str, engine.forms[number_of(item)].shape[1:]))
    form, kernel, groups = engine.forms[node.output], integers(node, "kernel"), integer(node, "groups")
    space, stride = form.shape[1:-1] if form.last else form.shape[2:], max(integers(node, "stride"), default=1)
    words = ["x".join(map(str, kernel)) + (f"/{stride}" if stride > 1 else "")] if kernel else []
    words.append(f"{integer(node, 'channels')} -> {integer(node, 'out_channels')}")
    words += [f"in {groups} groups"] * (groups > 1) + [f"at {'x'.join(map(str, space))}"] * bool(space)
    return " ".join(words)


def does(engine: Engine, item: Item) -> str:
    """What a block takes in, in the order in which it does it; else what it computes, or why it is not fused."""
    if isinstance(item, Block):
        return ", ".join(_taken(item)) or "product only"
    if isinstance(item, Pool):
        return f"{'scale, ' if item.before is not None else ''}{item.node.attrs['mode']} pool"
    if isinstance(item, Encode):
        return "bits"
    if isinstance(item, BitStep):
        return "max pool of bits" if item.node.kind == "pool_bits" else "bits side by side"
    if isinstance(item, WholeMean):
        return "mean"
    if isinstance(item, RealProduct):
        words = ["conv"] + ["norm"] * (item.affine is not None) + ([item.clamp.kind] if item.clamp else [])
        return ", ".join(words + ["max pool"] * (item.pool is not None))
    if item.kind == "binary":
        return f"not fused: {reason(engine.program, engine.forms, item)}"
    return item.kind


def _taken(block: Block) -> list[str]:
    rule = block.rule
    words = ["factors"] * (block.factors is not None) + ["norm"] * (block.norm is not None)
    if block.shape is not None:
        words.append(block.activation.name.lower())
    if block.residual is not None:
        arranged = [f"{rule.pool}x{rule.pool} mean"] * (rule.pool > 1) + ["doubled"] * rule.repeats
        arranged += ["padded"] * (rule.shift > 0) + ["scaled"] * (block.residual_map is not None)
        words.insert(len(words) if rule.last else len(words) - (block.shape is not None), _with("residual", arranged))
    if block.sign is not None:
        words.append("sign" if block.real else "sign only")
    return words


def _with(word: str, details: list[str]) -> str:
    return f"{word} ({', '.join(details)})" if details else word
