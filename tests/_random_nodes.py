# SPDX-License-Identifier: Apache-2.0
"""Random nodes of every kind: attributes and tensors that suit the values a program has so far.

They are proposals; the format's own checks say whether one fits.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from _packed_files import Entry, program_file
from bittern.deploy.form import Form
from bittern.deploy.kinds.binary import EPILOGUES
from bittern.deploy.kinds.table import KINDS

MOST_NUMBERS = 4000
"""Of one sample of a value."""

Proposal = tuple[list[int], dict[str, Any], dict[str, tuple[int, ...]]]
"""(values read, attributes, shapes of tensors by role)."""


@dataclass
class Draft:
    """A program while it grows."""

    r: random.Random
    shape: list[int]
    most_numbers: int = MOST_NUMBERS
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Entry] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    output: int = 0
    inputs: list[Any] = field(default_factory=list)
    """Of a program with several: [name, type, sizes, dimension of the batch]."""
    parameters: list[Any] = field(default_factory=list)
    sizes: list[Any] = field(default_factory=list)
    """Of a program some of whose sizes a call chooses: [name, example, least, most]."""
    conditions: list[Any] = field(default_factory=list)
    few_bits: dict[str, Any] = field(default_factory=dict)
    """Of weights that are stored in fewer bits than 8: [bits, shape] by name."""

    @property
    def first(self) -> int:
        """Number of the value that the first node writes."""
        return max(1, len(self.inputs))

    @property
    def next(self) -> int:
        """Number of the value that the next node writes."""
        return self.first + len(self.nodes)

    def value(self, *types: str) -> int | None:
        """A value of one of the types, often the last."""
        found = [v for v, form in enumerate(self.forms) if form.type in types and len(form.shape) > 1]
        if not found:
            return None
        return found[-1] if self.r.random() < 0.6 else self.r.choice(found)

    def alike(self, value: int, same: Callable[[Form, Form], bool]) -> int:
        form = self.forms[value]
        return self.r.choice([v for v, other in enumerate(self.forms) if same(form, other)])

    def file(self) -> bytes:
        more = {"inputs": self.inputs, "parameters": self.parameters} if self.inputs else {}
        more |= {"sizes": self.sizes, "conditions": self.conditions} if self.sizes else {}
        return program_file(self.nodes, self.shape, self.tensors, self.output, few_bits=self.few_bits, **more)


def one_real(d: Draft) -> Proposal | None:
    v = d.value("real")
    return None if v is None else ([v], {}, {})


def _windows(d: Draft, rank: int, most: int = 3) -> dict[str, Any]:
    r = d.r
    return {
        "kernel": [r.choice((1, 1, 2, 3, 5)[: most + 2]) for _ in range(rank)],
        "stride": [r.choice((1, 1, 2, 3)) for _ in range(rank)],
        "padding": [r.choice((0, 0, 1, 1, 2, 3)) for _ in range(rank)],
        "dilation": [r.choice((1, 1, 1, 2, 3)) for _ in range(rank)],
    }


def _pool_windows(d: Draft, rank: int) -> dict[str, Any]:
    windows = _windows(d, rank)
    padding = [d.r.randint(0, kernel // 2) for kernel in windows["kernel"]]
    return {"kernel": windows["kernel"], "stride": windows["stride"], "padding": padding}


def _encode(d: Draft) -> Proposal | None:
    v = d.value("real")
    if v is None:
        return None
    form = d.forms[v]
    dims = d.r.choice((len(form.shape) - 2, len(form.shape) - 2, 0))
    planes = d.r.choice((1, 1, 1, 1, 2, 4, 8))
    channels = form.shape[-1 if dims == 0 else 1]
    code = d.r.choice(("levels", "levels", "odd", "integers") if planes > 1 else ("sign", "sign", "levels"))
    shapes = {"threshold": (channels,)} if code == "sign" and d.r.random() < 0.5 else {}
    attrs = {"dims": dims, "code": code, "planes": planes, "channels": channels}
    return [v], attrs | _zero_level(d, code, planes), shapes


def _zero_level(d: Draft, code: str, planes: int) -> dict[str, Any]:
    """Of integers, whose level of 0 need not be the middle one."""
    given = code == "integers" and d.r.random() < 0.7
    return {"zero_level": d.r.randint(1, 2**planes - 1)} if given else {}


def _binary(d: Draft) -> Proposal | None:
    v, r = d.value("bits"), d.r
    if v is None:
        return None
    form = d.forms[v]
    dims = 0 if form.last else len(form.shape) - 2
    geometry = _windows(d, dims)
    groups = r.choice([g for g in (1, 1, 1, 2, 3, 8, form.channels) if form.channels % g == 0]) if dims else 1
    out = groups * r.choice((1, 2, 8, 8, 16, 24))
    code = r.choice(("levels", "levels", "odd", "integers") if form.planes > 1 else ("sign", "sign", "sign", "levels"))
    levels = r.choice((2, 2, 2, 3, 4, 6, 256))
    planes = (levels - 1).bit_length()
    low = {"weight_low": -r.randint(0, levels - 1)} if levels not in (3, 6) and r.random() < 0.3 else {}
    several = planes > 1 or form.planes > 1 or bool(low)
    epilogue = r.choice([e for e in EPILOGUES if not several or "beta" not in EPILOGUES[e]])
    result = "real" if several else r.choice(("real", "acc"))
    attrs = {**geometry, "dims": dims, "channels": form.channels, "out_channels": out, "groups": groups, "code": code}
    attrs |= {"input_planes": form.planes, "weight_planes": planes, "epilogue": epilogue, "result": result}
    attrs |= {"weight_levels": levels} if levels in (3, 6) else {}
    attrs |= low
    attrs |= _zero_level(d, code, form.planes)
    attrs["pad_value"] = r.choice((0, 0, 1, -1)) if code == "sign" else 0
    inputs, scale = [v], r.choice(("none", "none", "none", "per_sample", "spatial"))
    source = d.nodes[v - d.first][2][0] if v >= d.first else 0
    if scale != "none" and d.forms[source].type == "real":
        inputs, attrs["input_scale"] = [v, source], scale
        attrs["scale_order"] = r.choice(("torch", "sums", "sums"))
    fan_in = math.prod(geometry["kernel"]) * (form.channels // groups)
    shapes: dict[str, tuple[int, ...]] = {"weight": (planes, -(-fan_in * out // 8))}
    if EPILOGUES[epilogue]:
        shapes["epilogue"] = (len(EPILOGUES[epilogue]), out)
    return inputs, attrs, shapes


def _threshold(d: Draft) -> Proposal | None:
    v = d.value("acc")
    if v is None:
        return None
    channels = d.forms[v].channels
    flip = {"flip": (-(-channels // 8),)} if d.r.random() < 0.5 else {}
    return [v], {"channels": channels}, {"threshold": (channels,), **flip}


def _pool_bits(d: Draft) -> Proposal | None:
    v = d.value("bits")
    if v is None:
        return None
    form = d.forms[v]
    attrs = _pool_windows(d, max(len(form.shape) - 2, 1))
    flip = {"flip": (-(-form.channels // 8),)} if d.r.random() < 0.5 else {}
    return [v], {**attrs, "channels": form.channels, "ceil": d.r.random() < 0.5}, flip


def _concatenate_bits(d: Draft) -> Proposal | None:
    v = d.value("bits")
    if v is None:
        return None

    def fits(one: Form, other: Form) -> bool:
        return other.type == "bits" and (one.last, one.planes, len(one.shape)) == (
            other.last,
            other.planes,
            len(other.shape),
        )

    parts = [v, *(d.alike(v, fits) for _ in range(d.r.choice((0, 1, 1, 2))))]
    return parts, {"channels": [d.forms[p].channels for p in parts]}, {}


def _factors(d: Draft) -> Proposal | None:
    v = d.value("real")
    if v is None:
        return None
    shapes, total = [], 0
    for _ in range(d.r.choice((1, 1, 2, 3))):
        rank = d.r.randint(1, len(d.forms[v].shape[:4]))
        shape = [d.r.choice((n, n, 1)) for n in d.forms[v].shape[-rank:]]
        shapes += [rank, *shape]
        total += math.prod(shape)
    return [v], {"shapes": shapes}, {"factors": (total,)}


def _copies(d: Draft) -> Proposal | None:
    v = d.value("real")
    if v is None:
        return None
    last = d.r.random() < 0.3
    return [v], {"last": last}, {"scale": (d.forms[v].shape[-1 if last else 1] * d.r.choice((1, 2, 3)),)}


def _ones_product(d: Draft) -> Proposal | None:
    """Added to a value of the same size, where one is there."""
    v, r = d.value("bits"), d.r
    if v is None or d.forms[v].last:
        return None
    form, dims = d.forms[v], len(d.forms[v].shape) - 2
    reals = [n for n, f in enumerate(d.forms) if f.type == "real" and f.shape[2:] == form.shape[2:]]
    if not reals:
        return None
    y = r.choice(reals)
    out = d.forms[y].shape[1]
    kernel = [r.choice((1, 3)) for _ in range(dims)]
    groups = r.choice([g for g in range(1, out + 1) if out % g == form.channels % g == 0])
    levels = r.choice((2, 2, 3, 6))
    planes = (levels - 1).bit_length()
    attrs = {"dims": dims, "kernel": kernel, "padding": [k // 2 for k in kernel], "stride": [1] * dims}
    attrs |= {"dilation": [1] * dims, "channels": form.channels, "out_channels": out, "groups": groups}
    shapes: dict[str, tuple[int, ...]] = {"scale": (out,)} if r.random() < 0.7 else {}
    if levels > 2 or r.random() < 0.7:
        shapes["weight"] = (planes, -(-math.prod(kernel) * (form.channels // groups) * out // 8))
        attrs |= {"weight_planes": planes} | ({"weight_levels": levels} if levels > 2 else {})
    return [y, v], attrs, shapes


def _sign_residual(d: Draft) -> Proposal | None:
    v = d.value("real")
    if v is None:
        return None
    dims = d.r.choice((len(d.forms[v].shape) - 2, 0))
    return [v], {"dims": dims, "scale": d.r.choice(("per_sample", "spatial"))}, {}


def _conv(d: Draft) -> Proposal | None:
    v, r = d.value("real"), d.r
    if v is None or len(d.forms[v].shape) not in (3, 4):
        return None
    channels, *space = d.forms[v].shape[1:]
    geometry = _windows(d, len(space))
    groups = r.choice([g for g in (1, 1, 1, 2, 3, 4, channels) if channels % g == 0])
    out = groups * r.choice((1, 2, 3, 8))
    shape = (out, channels // groups, *geometry.pop("kernel"))
    return [v], {**geometry, "groups": groups}, {"weight": shape, **({"bias": (out,)} if r.random() < 0.3 else {})}


def _decoded(d: Draft) -> Proposal | None:
    v, r = d.value("real"), d.r
    if v is None:
        return None
    form = d.forms[v]
    dims = r.choice((len(form.shape) - 2, 0)) if len(form.shape) < 5 else 0
    channels = form.shape[1 if dims else -1]
    geometry = _windows(d, dims)
    groups = r.choice([g for g in (1, 1, 2, 3, channels) if channels % g == 0]) if dims else 1
    out = groups * r.choice((1, 2, 3, 8))
    low, high, step = r.choice(((-1, 1, 1), (-1, 1, 1), (-1, 1, 2), (0, 1, 1), (-3, 3, 2)))
    planes = 1 if high - low == step else 2
    numbers = math.prod(geometry["kernel"]) * channels // groups * out
    attrs = {**geometry, "dims": dims, "channels": channels, "out_channels": out, "groups": groups}
    return [v], {**attrs, "low": low, "high": high, "step": step}, {"weight": (planes, -(-numbers // 8))}


def _multibit_linear(d: Draft) -> Proposal | None:
    v, r = d.value("real"), d.r
    if v is None:
        return None
    n, out, planes = d.forms[v].shape[-1], r.choice((1, 3, 33)), r.choice((1, 2, 3))
    found = {"input_planes": r.choice((1, 2, 3)), "cycles": r.choice((0, 1, 2)), "refined": r.random() < 0.5}
    shapes: dict[str, tuple[int, ...]] = {"weight": (planes, -(-n * out // 8)), "scale": (planes, out)}
    if r.random() < 0.5:
        shapes["bias"] = (out,)
    return [v], {"channels": n, "out_channels": out, "weight_planes": planes, **found}, shapes


def _linear(d: Draft) -> Proposal | None:
    v, out = d.value("real"), d.r.choice((1, 3, 8, 33))
    if v is None:
        return None
    bias = {"bias": (out,)} if d.r.random() < 0.5 else {}
    return [v], {}, {"weight": (out, d.forms[v].shape[-1]), **bias}


def _vectors(
    *roles: str, optional: tuple[str, ...] = (), rows: tuple[int, ...] = ()
) -> Callable[[Draft], Proposal | None]:
    def propose(d: Draft) -> Proposal | None:
        v = d.value("real")
        if v is None:
            return None
        chosen = (*roles, *(role for role in optional if d.r.random() < 0.5))
        return [v], {}, dict.fromkeys(chosen, (*rows, d.forms[v].shape[1]))

    return propose


def _with(attrs: Callable[[Draft, tuple[int, ...]], dict[str, Any]]) -> Callable[[Draft], Proposal | None]:
    """One real input, attributes by its shape, no tensors."""

    def propose(d: Draft) -> Proposal | None:
        v = d.value("real")
        return None if v is None else ([v], attrs(d, d.forms[v].shape), {})

    return propose


def _in_range(d: Draft) -> Proposal | None:
    v = d.value("real")
    if v is None:
        return None
    shape = d.forms[v].shape
    dims = d.r.choice((0, min(2, len(shape) - 2)))
    channels = d.r.choice((1, shape[1 if dims else -1]))
    return [v], {"dims": dims}, {"low": (channels,), "width": (1,)}


def _steps(d: Draft) -> Proposal | None:
    v = d.value("real")
    planes = d.r.choice((1, 2, 4, 8))
    attrs = {"planes": planes, "zero_level": d.r.randint(0, 2**planes - 1)}
    return None if v is None else ([v], attrs, {"step": (1,), **({"origin": (1,)} if d.r.random() < 0.5 else {})})


def _to_steps(d: Draft) -> Proposal | None:
    v = d.value("real")
    below, high = d.r.choice(((0, 127), (128, 127), (127, 127), (1, 3)))
    return None if v is None else ([v], {"below": below, "high": high}, {"step": (1,)})


def _pool_attrs(d: Draft, shape: tuple[int, ...]) -> dict[str, Any]:
    attrs = _pool_windows(d, d.r.choice((2, max(len(shape) - 2, 1))))
    flags = {"ceil": d.r.random() < 0.5, "count_padding": d.r.random() < 0.5}
    return {**attrs, **flags, "mode": d.r.choice(("max", "average"))}


def _layer_norm(d: Draft) -> Proposal | None:
    v = d.value("real")
    if v is None:
        return None
    shape = list(d.forms[v].shape[-d.r.randint(1, max(1, len(d.forms[v].shape) - 1)) :])
    return [v], {"shape": shape}, {role: tuple(shape) for role in ("weight", "bias") if d.r.random() < 0.5}


def _reshape_attrs(d: Draft, shape: tuple[int, ...]) -> dict[str, Any]:
    sizes, left = [], math.prod(shape[1:])
    while left > 1 and len(sizes) < 3:
        sizes.append(d.r.choice(_divisors(left)))
        left //= sizes[-1]
    return {"shape": [-1, *sizes, left]}


def _divisors(n: int) -> list[int]:
    lower = [k for k in range(1, math.isqrt(n) + 1) if n % k == 0]
    return sorted({*lower, *(n // k for k in lower)})


def _slice_attrs(d: Draft, shape: tuple[int, ...]) -> dict[str, Any]:
    dim = d.r.randrange(1, len(shape)) if len(shape) > 1 else 1
    size = shape[min(dim, len(shape) - 1)]
    stop = {"stop": d.r.randint(0, size + 2)} if d.r.random() < 0.5 else {}
    return {"dim": dim, "start": d.r.randrange(size) if size else 0, "step": d.r.choice((1, 1, 2, 7)), **stop}


def _concatenate(d: Draft) -> Proposal | None:
    v = d.value("real")
    if v is None:
        return None
    dim = d.r.randrange(1, max(2, len(d.forms[v].shape)))
    parts = [
        v,
        *(
            d.alike(v, lambda a, b: b.type == "real" and len(a.shape) == len(b.shape))
            for _ in range(d.r.choice((0, 1, 1, 2)))
        ),
    ]
    return parts, {"dim": dim}, {}


def _two(d: Draft) -> Proposal | None:
    v = d.value("real")
    if v is None:
        return None
    shape = d.forms[v].shape
    same = d.r.random() < 0.8
    other = d.alike(v, lambda a, b: b.type == "real" and (b.shape == shape if same else len(b.shape) == len(shape)))
    return d.r.choice(([v, other], [other, v])), {}, {}


def _aten(d: Draft) -> Proposal | None:
    """An operator of torch; some have the batch elsewhere, integers or several results afterwards."""
    v, r = d.value("real", "bool", "int64"), d.r
    if v is None:
        return None
    shape = d.forms[v].shape
    rank = len(shape)
    x: dict[str, Any] = {"input": 0}
    by_torch = v >= d.first and d.nodes[v - d.first][0] in ("aten", "part")
    if not by_torch or r.random() < 0.7:
        x["order"] = r.choice((list(range(rank)), r.sample(range(rank), rank)))
    in_order = {**x, "order": list(range(rank))}  # where the layout decides how numbers round
    dim, other = r.randrange(-1, rank), r.randrange(rank)
    name, arguments = r.choice(
        (
            (r.choice(("mish", "hardswish", "abs", "erf", "clone", "isnan")) + ".default", [x]),
            ("transpose.int", [x, dim, other]),
            ("view.default", [x, [{"batch": 1}, -1]]),
            ("view.default", [x, [{"batch": r.choice((1, 2))}, *shape[1:]]]),
            ("reshape.default", [x, [-1, r.choice(shape)]]),
            ("matmul.default", [in_order, {**in_order}]),
            ("scaled_dot_product_attention.default", [in_order, {**in_order}, {**in_order}]),
            ("softmax.int", [x, dim]),
            ("topk.default", [x, 1, dim]),
            ("max.dim", [x, dim, True]),
            ("argmax.default", [x, dim]),
            ("cumsum.default", [x, dim]),
            ("flip.default", [x, [dim]]),
            ("sum.dim_IntList", [x, [dim], r.random() < 0.5]),
            ("unsqueeze.default", [x, dim]),
            ("expand.default", [x, [r.choice((1, 3)), *([-1] * rank)]]),
            ("repeat_interleave.self_int", [x, 2, dim]),
            ("gt.Scalar", [x, 0.0]),
            ("to.dtype", [x, {"dtype": r.choice(("float32", "int64", "bool"))}]),
            ("cat.default", [[x, x], dim]),
            ("add.Tensor", [x, {"tensor": "t0"}]),
            ("conv2d.default", [x, {"tensor": "t0"}, None, [1, 1], [r.choice((0, 1))] * 2]),
            ("upsample_nearest2d.vec", [x, None, [2.0, 1.5]]),
        )
    )
    tensors: dict[str, tuple[int, ...]] = {}
    if {"tensor": "t0"} in arguments:
        tensors["t0"] = (2, shape[1], 1, 3) if name == "conv2d.default" and rank > 1 else (shape[-1],)
    inputs = [v, 0] if any("batch" in str(a) for a in arguments) else [v]
    return inputs, {"operator": name, "arguments": arguments}, tensors


def _zeros(d: Draft, *names: str) -> dict[str, Any]:
    """Zero points, and limits that let something through."""
    low = d.r.choice((-128, -128, -20))
    return {**{name: d.r.choice((-128, -3, 0, 127)) for name in names}, "low": low, "high": d.r.choice((127, low + 9))}


def _factor(d: Draft, prefix: str = "") -> dict[str, Any]:
    return {f"{prefix}multiplier": d.r.choice((0, 2**30, 2**31 - 1)), f"{prefix}shift": d.r.choice((-31, -7, 0, 2))}


def _weight_bits(r: random.Random) -> dict[str, Any]:
    """Of some products, which are stored in so many bits."""
    return {"weight_bits": r.randint(2, 7)} if r.random() < 0.5 else {}


def _integer_conv(d: Draft) -> Proposal | None:
    v, r = d.value("int8"), d.r
    if v is None or len(d.forms[v].shape) != 4:
        return None
    channels = d.forms[v].shape[1]
    windows = _windows(d, 2)
    groups = r.choice([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
    out = groups * r.choice((1, 2, 8))
    attrs = {"stride": windows["stride"], "dilation": windows["dilation"], "groups": groups, "once": r.random() < 0.5}
    attrs |= {"padding": [r.choice((0, 1, 2)) for _ in range(4)], **_weight_bits(r)}
    shapes = {"weight": (out, channels // groups, *windows["kernel"]), "multiplier": (out,), "shift": (out,)}
    return [v], {**attrs, **_zeros(d, "zero", "out_zero")}, shapes | ({"bias": (out,)} if r.random() < 0.7 else {})


def _integer_linear(d: Draft) -> Proposal | None:
    v, out = d.value("int8"), d.r.choice((1, 3, 8, 33))
    if v is None:
        return None
    shapes = {"weight": (out, d.forms[v].shape[-1]), "multiplier": (out,), "shift": (out,)}
    attrs = {**_zeros(d, "zero", "out_zero"), "once": d.r.random() < 0.5, **_weight_bits(d.r)}
    return [v], attrs, shapes | ({"bias": (out,)} if d.r.random() < 0.7 else {})


def _integer_transposed(d: Draft) -> Proposal | None:
    v, r = d.value("int8"), d.r
    if v is None or len(d.forms[v].shape) != 4:
        return None
    out, windows = r.choice((1, 3)), _windows(d, 2)
    sizes = {"before": [r.choice((0, 0, 1)) for _ in range(2)], "size": [r.randint(1, 9) for _ in range(2)]}
    attrs = {"stride": windows["stride"], **sizes, "once": r.random() < 0.5, **_zeros(d, "zero", "out_zero")}
    attrs |= _weight_bits(r)
    shapes = {"weight": (out, d.forms[v].shape[1], *windows["kernel"]), "multiplier": (out,), "shift": (out,)}
    return [v], attrs, shapes | ({"bias": (out,)} if r.random() < 0.7 else {})


def _integer_pair(*factors: str, zeros: bool = True) -> Callable[[Draft], Proposal | None]:
    """Two values of integers; factors: the prefixes of those that it has."""

    def propose(d: Draft) -> Proposal | None:
        v = d.value("int8")
        if v is None:
            return None
        other = d.alike(v, lambda a, b: b.type == "int8" and len(a.shape) == len(b.shape))
        attrs = _zeros(d, "zero_a", "zero_b", "out_zero") if zeros else {}
        return [v, other], attrs | {key: value for prefix in factors for key, value in _factor(d, prefix).items()}, {}

    return propose


def _integer_mean(d: Draft) -> Proposal | None:
    v = d.value("int8")
    if v is None:
        return None
    dims = range(1, len(d.forms[v].shape))
    chosen = sorted(d.r.sample(dims, d.r.randint(1, len(dims))))
    attrs = {"dims": chosen, "keep": d.r.random() < 0.5, **_zeros(d, "zero", "out_zero"), **_factor(d)}
    return [v], attrs, {}


def _integer_matmul(d: Draft) -> Proposal | None:
    """A value and another of as many matrices, whose rows are as many as its columns: square ones with themselves."""
    v = d.value("int8")
    if v is None or len(d.forms[v].shape) < 3:
        return None
    a = d.forms[v].shape
    fits = [
        n
        for n, form in enumerate(d.forms)
        if form.type == "int8" and form.shape[:-2] == a[:-2] and len(form.shape) > 2 and form.shape[-2] == a[-1]
    ]
    if not fits:
        return None
    attrs = {**_zeros(d, "zero_a", "zero_b", "out_zero"), **_factor(d), "once": d.r.random() < 0.5}
    return [v, d.r.choice(fits)], attrs, {}


def _integer_resize(d: Draft) -> Proposal | None:
    v = d.value("int8")
    if v is None or len(d.forms[v].shape) != 4:
        return None
    return [v], {}, {role: (d.r.randint(1, 12), 2) for role in ("rows", "columns")}


def _integer_tables(d: Draft) -> Proposal | None:
    v = d.value("int8", "uint8")
    return None if v is None else ([v], {}, {"tables": (d.forms[v].shape[1], 256)})


def _integer_pool(d: Draft) -> Proposal | None:
    v = d.value("int8")
    if v is None:
        return None
    kernel = [d.r.choice((1, 2, 3)) for _ in range(2)]
    sides = [d.r.randint(0, kernel[1 - i // 2] - 1) for i in range(4)]
    return [v], {"kernel": kernel, "stride": [d.r.choice((1, 2)) for _ in kernel], "padding": sides, **_zeros(d)}, {}


def _of_int8(attrs: Callable[[Draft], dict[str, Any]]) -> Callable[[Draft], Proposal | None]:
    """One value of integers, attributes, no tensors."""

    def propose(d: Draft) -> Proposal | None:
        v = d.value("int8")
        return None if v is None else ([v], attrs(d), {})

    return propose


def _integer_table(d: Draft) -> Proposal | None:
    v = d.value("int8")
    return None if v is None else ([v], {}, {"table": (256,)})


def _states(d: Draft, hidden: int, *types: str) -> list[int] | None:
    """Values that may be initial states, of these types; half the time none."""
    if d.r.random() < 0.5:
        return []
    found = [[v for v, form in enumerate(d.forms) if form.type == kind and form.shape == (1, hidden)] for kind in types]
    return [d.r.choice(values) for values in found] if all(found) else None


def _recurrent(d: Draft) -> Proposal | None:
    v, cell, hidden = d.value("real"), d.r.choice(("lstm", "gru")), d.r.choice((1, 3, 8))
    if v is None or len(d.forms[v].shape) != 3:
        return None
    states = _states(d, hidden, *("real",) * (2 if cell == "lstm" else 1))
    rows = hidden * (4 if cell == "lstm" else 3)
    shapes: dict[str, tuple[int, ...]] = {"weight": (rows, d.forms[v].shape[2]), "recurrent_weight": (rows, hidden)}
    shapes |= {role: (rows,) for role in ("bias", "recurrent_bias") if d.r.random() < 0.7}
    attrs = {"cell": cell, "reverse": d.r.random() < 0.5, "state": d.r.random() < 0.3}
    return [v, *(states or [])], attrs, shapes


def _integer_recurrent(gates: int, *types: str) -> Callable[[Draft], Proposal | None]:
    def propose(d: Draft) -> Proposal | None:
        v, hidden, r = d.value("int8"), d.r.choice((1, 3, 8)), d.r
        if v is None or len(d.forms[v].shape) != 3:
            return None
        states, rows = _states(d, hidden, *types), gates * hidden
        shapes: dict[str, tuple[int, ...]] = {"weight": (rows, d.forms[v].shape[2]), "recurrent_weight": (rows, hidden)}
        for prefix in ("", "recurrent_"):
            shapes |= {f"{prefix}{role}": (rows,) for role in ("multiplier", "shift")}
            shapes |= {f"{prefix}bias": (rows,)} if r.random() < 0.7 else {}
        attrs = {
            **_zeros(d, "zero", "hidden_zero"),
            **_factor(d, "hidden_"),
            "integer_bits": r.randint(3, 6),
            "exponent": r.randint(-15, -9),
            "reverse": r.random() < 0.5,
            "state": r.random() < 0.5,
        }
        return [v, *(states or [])], attrs | ({"clip": r.choice((0, 9))} if gates == 4 else {}), shapes

    return propose


def _from_int16(d: Draft) -> Proposal | None:
    v = d.value("int16")
    return None if v is None else ([v], {"scale": d.r.choice((0.01, 2.0**-11))}, {})


def _scale(d: Draft) -> dict[str, Any]:
    return {"scale": d.r.choice((0.01, 0.5, 3.0)), "zero": d.r.choice((-128, 0, 5))}


def _softmax_factor(d: Draft) -> dict[str, Any]:
    return {"multiplier": 2**30 + d.r.randrange(2**30), "shift": d.r.choice((20, 23, 26)), "least": -d.r.randrange(256)}


def _requantize(d: Draft) -> dict[str, Any]:
    return {"zero": d.r.choice((-128, 0, 5)), "out_zero": d.r.choice((-128, 0, 5)), **_factor(d)}


def _part(d: Draft) -> Proposal | None:
    found = [v for v, form in enumerate(d.forms) if form.type == "tuple"]
    return ([d.r.choice(found)], {"index": d.r.choice((0, 0, 1))}, {}) if found else None


PROPOSALS: dict[str, Callable[[Draft], Proposal | None]] = {
    "encode": _encode,
    "binary": _binary,
    "threshold": _threshold,
    "pool_bits": _pool_bits,
    "concatenate_bits": _concatenate_bits,
    "copies": _copies,
    "ones_product": _ones_product,
    "sign_residual": _sign_residual,
    "factors": _factors,
    "decoded": _decoded,
    "multibit_linear": _multibit_linear,
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _vectors("mean", "var", optional=("weight", "bias")),
    "affine": _vectors("affine", rows=(2,)),
    "rprelu": _vectors("before", "slope", "after"),
    "dprelu": _vectors("before", "rise", "fall", "after"),
    "prelu": _vectors("weight"),
    "shifted_sign": _vectors("shift"),
    "bias": _vectors("bias"),
    "in_range": _in_range,
    "steps": _steps,
    "to_steps": _to_steps,
    "layer_norm": _layer_norm,
    "hardtanh": _with(lambda d, shape: {"least": d.r.choice((-1.0, 0.0)), "most": d.r.choice((1.0, 0.5))}),
    "leaky_relu": _with(lambda d, shape: {"slope": d.r.choice((0.25, -1.0))}),
    "softmax": _with(lambda d, shape: {"dim": d.r.randint(-3, 3), "log": d.r.random() < 0.5}),
    "pool": _with(_pool_attrs),
    "adaptive_pool": _with(lambda d, shape: {"size": [d.r.choice((1, 1, 2, 5)) for _ in shape[2:4]] or [1]}),
    "mean": _with(
        lambda d, shape: {"dims": d.r.choice(([2, 3], [1], [-1], [2], [1, 2, 3])), "keep": d.r.random() < 0.5}
    ),
    "flatten": _with(lambda d, shape: {"start": d.r.choice((1, 1, 2)), "end": d.r.choice((-1, -1, 2, 3))}),
    "reshape": _with(_reshape_attrs),
    "permute": _with(lambda d, shape: {"order": [0, *d.r.sample(range(1, len(shape)), len(shape) - 1)]}),
    "pad": _with(
        lambda d, shape: {
            "amount": [d.r.choice((0, 0, 1, 3)) for _ in range(d.r.choice((2, 4, 6)))],
            "value": d.r.choice((0.0, 0.5)),
        }
    ),
    "slice": _with(_slice_attrs),
    "constant": _with(
        lambda d, shape: {"operation": d.r.choice(("add", "multiply")), "value": d.r.choice((0.5, -2.0))}
    ),
    "concatenate": _concatenate,
    "integer_conv": _integer_conv,
    "integer_linear": _integer_linear,
    "integer_transposed_conv": _integer_transposed,
    "integer_add": _integer_pair("a_", "b_", ""),
    "integer_subtract": _integer_pair("a_", "b_", ""),
    "integer_multiply": _integer_pair(""),
    "integer_maximum": _integer_pair(zeros=False),
    "integer_minimum": _integer_pair(zeros=False),
    "integer_mean": _integer_mean,
    "integer_average": _integer_pool,
    "integer_max": _integer_pool,
    "integer_matmul": _integer_matmul,
    "integer_resize": _integer_resize,
    "integer_softmax": _of_int8(_softmax_factor),
    "integer_table": _integer_table,
    "integer_tables": _integer_tables,
    "quantize": _with(lambda d, shape: _scale(d)),
    "dequantize": _of_int8(_scale),
    "requantize": _of_int8(_requantize),
    "recurrent": _recurrent,
    "integer_lstm": _integer_recurrent(4, "int8", "int16"),
    "integer_gru": _integer_recurrent(3, "int16"),
    "quantize_16": _with(lambda d, shape: {"scale": d.r.choice((0.01, 2.0**-11))}),
    "dequantize_16": _from_int16,
    "aten": _aten,
    "part": _part,
    "add": _two,
    "subtract": _two,
    "multiply": _two,
}
OFTEN = ("pool", "affine", "add", "concatenate_bits", "pool_bits", "conv", "shifted_sign", "integer_softmax")
WEIGHTED = (
    *(kind for kind in KINDS if kind != "results"),
    *("encode",) * 8,
    *("binary", "threshold") * 24,
    *("ones_product",) * 4,
    *("quantize",) * 6,
    *[kind for kind in KINDS if kind.startswith("integer")] * 3,
    *OFTEN * 3,
    *("aten",) * 8,
    *("part",) * 8,
)
"""Low-bit layers fit only where bits or integers are, and thresholds where accumulators are, which are rarer."""
