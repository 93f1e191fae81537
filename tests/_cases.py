# SPDX-License-Identifier: Apache-2.0
"""Inputs for every op: one generator of cases per op, from which agreement, coverage and other tests draw.

Sizes are odd on purpose, at and around multiples of the 64 bits of a word; inputs are strided and misaligned, and
hold every special value of their type.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from _bit_cases import PARTS, parts, pools
from _block_cases import blocks
from _conv_cases import DEPTHWISE, FEW, GROUPED, WINDOWS, Conv, depthwise, epilogue, generator, grouped, words
from _estimator_cases import (
    adapted,
    adapted_shapes,
    bent,
    gradient,
    is_adapted,
    is_near,
    is_scaled,
    is_shifted,
    is_standard,
    numbers,
    samples,
    scaled,
    scaled_shapes,
    shapes,
    shifted,
    shifted_shapes,
    signs_and_masks,
)
from _group_cases import check_group_product, group_products, group_weights
from _linear_cases import check_int8, check_sum, linears
from _multibit_cases import product_arguments, quantized_arguments
from _step_cases import Step, check_step, interpreted_steps, steps
from _tolerance import assert_exact
from bittern import ops
from bittern.ops import codebooks

SIZES = (1, 7, 63, 64, 65, 255, 257, 1000)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32)
FLOATS = DTYPES[:4]


Demand = Callable[[ops.Op, tuple[Any, ...], Callable[..., Any]], None]
"""(op, arguments, an implementation of it): raises where that does not do what it must."""


def tensors(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The tensors that an op returned, one or several."""
    return result if isinstance(result, tuple) else (result,)


def equals_reference(op: ops.Op, arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """Bit for bit."""
    result = call(*arguments)
    for mine, theirs in zip(tensors(result), tensors(op.reference(*arguments)), strict=True):
        assert mine.is_contiguous()
        assert_exact(mine, theirs)


def equals_and_lies_like_reference(op: ops.Op, arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """Bit for bit, in the same layout of memory."""
    mine, theirs = call(*arguments), op.reference(*arguments)
    assert mine.stride() == theirs.stride()
    assert_exact(mine, theirs)


@dataclass(frozen=True)
class Case:
    """One call of an op. `make` builds the same arguments every time."""

    op: ops.Op
    label: str
    make: Callable[[], tuple[Any, ...]] = field(compare=False)
    light: bool = False
    """Small enough for Triton's interpreter."""
    demand: Demand = field(default=equals_reference, compare=False)

    def __str__(self) -> str:
        return f"{self.op.name}-{self.label}"


def special_values(dtype: torch.dtype) -> Tensor:
    """Both zeros, both infinities, NaN of both signs, subnormals and extremes; for int32 its extremes."""
    if dtype == torch.int32:
        info = torch.iinfo(dtype)
        return torch.tensor([0, 1, -1, info.max, info.min], dtype=dtype)
    info = torch.finfo(dtype)
    tiny = info.smallest_normal * info.eps  # the smallest subnormal
    values = [0.0, tiny, info.smallest_normal, 1.0, info.max, float("inf"), float("nan")]
    return torch.tensor(values + [-v for v in values], dtype=torch.float64).to(dtype)


def values(label: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Normal numbers with special values strewn in, as many as there is room for."""
    draw = generator(label)
    x = (torch.randn(shape, generator=draw, dtype=torch.float64) * 2).to(dtype)
    flat, special = x.view(-1), special_values(dtype)
    places = torch.randperm(flat.numel(), generator=draw)[: len(special)]
    flat[places] = special[torch.randperm(len(special), generator=draw)[: len(places)]]
    return x


def dense(x: Tensor) -> Tensor:
    return x


def strided(x: Tensor) -> Tensor:
    """The same values as every second element of a larger tensor."""
    wide = torch.zeros((*x.shape[:-1], x.shape[-1] * 2), dtype=x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def transposed(x: Tensor) -> Tensor:
    """The same values with the memory order of the dimensions reversed."""
    order = tuple(reversed(range(x.ndim)))
    return x.permute(order).contiguous().permute(order)


def misaligned(x: Tensor) -> Tensor:
    """The same values, contiguous, one element off the start of their memory."""
    memory = torch.zeros(x.numel() + 1, dtype=x.dtype)
    memory[1:] = x.reshape(-1)
    return memory[1:].view(x.shape)


def planar(x: Tensor) -> Tensor:
    """The same values as torch keeps images: [batch, channels, ...] in memory, seen with channels last."""
    return x.movedim(-1, 1).contiguous().movedim(1, -1) if x.ndim > 1 else x


LAYOUTS = (dense, strided, transposed, misaligned)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def sign_cases() -> Iterator[Case]:
    def case(shape: tuple[int, ...], dtype: torch.dtype, layout: Callable[[Tensor], Tensor] = dense) -> Case:
        label = f"{_name(dtype)}-{'x'.join(map(str, shape))}-{layout.__name__}"
        light = layout is dense and shape in ((257,), ())
        demand = equals_and_lies_like_reference
        return Case(ops.sign, label, lambda: (layout(values(label, shape, dtype)),), light, demand)

    for dtype in DTYPES:
        yield from (case((n,), dtype) for n in SIZES)
        yield from (case((5, 63), dtype, layout) for layout in LAYOUTS)
        yield case((), dtype)
        yield case((0, 3), dtype)
        yield case((70_001,), dtype)  # more than one task of the thread pool


def pack_cases() -> Iterator[Case]:
    def case(
        shape: tuple[int, ...],
        dtype: torch.dtype,
        threshold: bool,
        layout: Callable[[Tensor], Tensor] = dense,
    ) -> Case:
        label = f"{_name(dtype)}-{'x'.join(map(str, shape))}{'-threshold' * threshold}-{layout.__name__}"

        def make() -> tuple[Any, ...]:
            x = values(label, shape, dtype)
            if not threshold:
                return (layout(x),)
            limits = values(label + "limits", shape[-1:], dtype).to(_threshold_dtype(dtype))
            if x.numel():
                limits[1::2] = x.reshape(-1, shape[-1])[0, 1::2].to(limits.dtype)  # ties, which give 1
            return layout(x), layout(limits)

        light = layout is dense and shape in ((2, 65), (257,), (0, 65))
        return Case(ops.pack_signs, label, make, light)

    for dtype, threshold in itertools.product(DTYPES, (False, True)):
        yield from (case((n,), dtype, threshold) for n in SIZES)
        yield from (case((3, n), dtype, threshold) for n in (1, 63, 65))
        yield from (case((2, 3, 65), dtype, threshold, layout) for layout in LAYOUTS)
        yield case((2, 65), dtype, threshold)
        yield case((0, 65), dtype, threshold)
        yield case((301, 129), dtype, threshold)  # more than one task, and the second starts inside a row
        for shape in ((3, 1, 1, 64), (2, 7, 9, 65), (2, 515, 1), (1, 23, 47, 130), (0, 3, 65)):
            yield case(shape, dtype, threshold, planar)


def levels_cases() -> Iterator[Case]:
    def case(shape: tuple[int, ...], planes: int, layout: Callable[[Tensor], Tensor] = dense) -> Case:
        label = f"{planes}-{'x'.join(map(str, shape))}-{layout.__name__}"

        def make() -> tuple[Any, ...]:
            x = values(label, shape, torch.float32)
            ties = (torch.arange(x.numel()) % (2 * 2**planes) / 2) / (2**planes - 1)  # levels, and halves between two
            mixed = torch.where(torch.arange(x.numel()) % 3 == 0, x.reshape(-1), ties.to(torch.float32))
            return layout(mixed.view(shape)), planes

        return Case(ops.pack_levels, label, make, layout is dense and shape in ((2, 65), (0, 65)))

    for planes in (2, 3, 8):
        yield from (case((n,), planes) for n in SIZES if n)
        yield from (case((2, 3, 65), planes, layout) for layout in LAYOUTS)
        yield from (case(shape, planes) for shape in ((2, 65), (0, 65), (2, 5, 7, 70), (301, 129)))
        yield from (case(shape, planes, planar) for shape in ((2, 7, 9, 65), (1, 23, 47, 130), (3, 1, 1, 64)))


def _threshold_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype in (torch.float64, torch.int32) else torch.float32


def unpack_cases() -> Iterator[Case]:
    def case(rows: tuple[int, ...], n: int, dtype: torch.dtype, layout: Callable[[Tensor], Tensor] = dense) -> Case:
        label = f"{_name(dtype)}-{'x'.join(map(str, (*rows, n)))}-{layout.__name__}"
        light = layout is dense and (rows, n) in (((), 257), ((0,), 65))
        return Case(ops.unpack_signs, label, lambda: (layout(words(label, *rows, bits=n)), n, dtype), light)

    for dtype in FLOATS:
        yield from (case((), n, dtype) for n in SIZES)
        yield from (case((2, 3), 65, dtype, layout) for layout in LAYOUTS)
        yield case((0,), 65, dtype)
        yield case((301,), 129, dtype)


def matmul_cases() -> Iterator[Case]:
    def case(
        rows: tuple[int, ...],
        n: int,
        k: int,
        folded: bool = False,
        layout: Callable[[Tensor], Tensor] = dense,
        light: bool = False,
    ) -> Case:
        label = f"{'x'.join(map(str, (*rows, n, k)))}{'-epilogue' * folded}-{layout.__name__}"

        def make() -> tuple[Any, ...]:
            a, b = words(label + "a", *rows, bits=k), words(label + "b", n, bits=k)
            return layout(a), layout(b), k, layout(epilogue(label, n)) if folded else None

        return Case(ops.binary_matmul, label, make, light)

    for k, folded in itertools.product(SIZES, (False, True)):
        yield case((3,), 5, k, folded, light=k in (1, 63, 65))
        yield case((17,), 33, k, folded)
    for n in (1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129):
        yield case((n,), 130 - n, 65, folded=True)
    yield from (case((2, 3), 7, 129, True, layout) for layout in LAYOUTS)
    yield case((), 7, 65, light=True)
    yield case((0,), 7, 65, True, light=True)
    yield case((5,), 0, 65, True)
    yield case((66,), 67, 64, True, light=True)  # more than one tile of the Triton kernel
    yield case((257,), 65, 4097)
    for k in (2**14 - 1, 2**16 - 1, 2**17 + 1):
        yield _all_differ(k)


def sign_product_cases() -> Iterator[Case]:
    """Floats below, bits from `LEAST_COUNTED` on; batches, no rows, no columns, nothing to add up."""

    def case(
        front: tuple[int, ...], m: int, n: int, k: int, dtype: torch.dtype = torch.float32, layout: Any = dense
    ) -> Case:
        label = f"{'x'.join(map(str, (*front, m, n, k)))}-{_name(dtype)}-{layout.__name__}"

        def make() -> tuple[Any, ...]:
            return tuple(layout(values(label + name, (*front, rows, k), dtype)) for name, rows in (("a", m), ("b", n)))

        return Case(ops.sign_products, label, make)

    yield from (case((2, 2), 129, 127, 257, layout=layout) for layout in LAYOUTS)
    yield from (case((2, 3), 5, 7, k, dtype) for k, dtype in zip((1, 63, 64, 65), FLOATS, strict=True))
    yield from (case((3,), 100, 130, 255, dtype) for dtype in FLOATS[1:])
    yield case((2,), 65, 1000, 65, layout=planar)
    yield from (case(front, m, n, k) for front, m, n, k in (((), 3, 5, 65), ((0, 2), 3, 5, 7), ((2,), 0, 5, 7)))
    yield from (case((2,), *sizes) for sizes in ((3, 0, 7), (3, 5, 0)))


def _all_differ(k: int) -> Case:
    """The largest counts that k bits can give: counters of 8 or 16 bits overflow here first."""

    def make() -> tuple[Any, ...]:
        return ops.pack_signs.reference(torch.ones(5, k)), ops.pack_signs.reference(-torch.ones(35, k)), k

    return Case(ops.binary_matmul, f"all-differ-{k}", make)


def conv_cases() -> Iterator[Case]:
    def case(conv: Conv, light: bool = False, layout: Callable[[Tensor], Tensor] = dense) -> Case:
        def make() -> tuple[Any, ...]:
            x, w, *rest = conv.make()
            return layout(x), layout(w), *rest

        return Case(ops.binary_conv2d, f"{conv}-{layout.__name__}", make, light)

    for pad_value in (0, 1, -1):
        yield from (case(Conv(c, pad_value=pad_value, folded=c % 2 == 0)) for c in (1, 3, 63, 64, 65, 127, 256, 257))
        small = Conv(65, 3, (4, 3), (3, 2), (2, 1), (2, 1), (1, 2), pad_value=pad_value)
        yield case(small, light=True)
        yield case(Conv(66, 6, (4, 3), (2, 3), padding=(1, 2), groups=3, pad_value=pad_value), light=True)
        yield case(Conv(256, 6, (4, 3), groups=2, pad_value=pad_value, folded=True), light=True)
        yield case(Conv(40, 40, groups=40, pad_value=pad_value))
        yield case(Conv(40, 80, groups=40, pad_value=pad_value, folded=True))
        yield case(Conv(300, 9, groups=3, pad_value=pad_value))
        yield from (case(depthwise(c, pad_value=pad_value, folded=c % 2 == 1)) for c in DEPTHWISE)
        yield from (case(grouped(*sizes, pad_value=pad_value, folded=sizes[1] > 8)) for sizes in GROUPED)
        yield from (case(Conv(*sizes, pad_value=pad_value, folded=sizes[0] == sizes[1])) for sizes in FEW)
        for kernel, padding, stride, dilation in WINDOWS:
            window = {"kernel": kernel, "padding": padding, "stride": stride, "dilation": dilation}
            yield case(depthwise(65, size=(9, 12), **window, pad_value=pad_value, folded=True))
            yield case(depthwise(144, size=(6, 3), **window, pad_value=pad_value, batch=1))
            yield case(grouped(9, 16, 16, size=(9, 12), **window, pad_value=pad_value, folded=True))
            yield case(Conv(16, 18, (9, 21), **window, pad_value=pad_value, folded=True))
        yield case(Conv(64, 7, (2, 1), (5, 3), padding=(3, 4), pad_value=pad_value))  # kernel larger than image
        yield case(Conv(64, 7, (0, 0), padding=(2, 2), pad_value=pad_value))  # nothing but padding
        yield case(Conv(65, 7, (1, 9), (1, 5), padding=(0, 4), dilation=(1, 2), pad_value=pad_value))  # 1-d
    for out in (1, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 129):
        yield case(Conv(64, out, folded=out % 2 == 1))
    for batch, size in ((1, (1, 1)), (3, (5, 17)), (1, (33, 33)), (0, (6, 7))):
        yield case(Conv(65, 9, size, batch=batch, folded=True), light=batch == 0)
    yield case(Conv(64, 0))
    yield case(Conv(64, 8, (8, 8), (1, 1), (2, 2), (0, 0)))
    yield case(Conv(64, 3, (4, 4), padding=(1, 1), folded=True, batch=5), light=True)  # more than one Triton tile
    yield case(Conv(2049, 3, (5, 5), (5, 5), padding=(2, 2)))
    yield from (case(Conv(129, 7), layout=layout) for layout in LAYOUTS)


def block_cases() -> Iterator[Case]:
    for block in blocks():
        yield Case(ops.binary_block, str(block), block.make, block.light)


def follows_formulas(_: ops.Op, arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """Within the rounding of each operation of the rule."""
    check_step(arguments, call)


def step_cases(chosen: Callable[[], Iterator[Step]] = steps) -> Iterator[Case]:
    for step in chosen():
        yield Case(
            ops.optimizer_step, str(step), step.make, light=step == Step(step.rule, step.bits), demand=follows_formulas
        )


def blockwise_inputs(op: ops.Op[Any], label: str, n: int, dtype: torch.dtype, block: int, table: str) -> Case:
    """Numbers of several magnitudes, with special values, a block of zeros and one of subnormals."""

    def make() -> tuple[Any, ...]:
        code, x = TABLES[table], values(label, (n,), dtype)
        x *= torch.exp(3 * torch.randn(n, generator=generator(label + "scale"))).to(dtype)
        x[2 * block : 3 * block] = 0.0
        x[3 * block : 4 * block] = torch.finfo(dtype).smallest_normal / 4
        x = x.abs() if code[0] >= 0 else x
        small = op in (ops.quantize_4bit, ops.dequantize_4bit)
        quantize = ops.quantize_4bit if small else ops.quantize_blockwise
        if op is quantize:
            return x, code, block
        codes, absmax = quantize.reference(x, code, block)
        return (codes, absmax, code, block, [n], dtype) if small else (codes, absmax, code, block, dtype)

    return Case(op, f"{label}-{_name(dtype)}-{n}-{block}-{table}", make, n == 257)


TABLES = {
    "tree": codebooks.dynamic_tree(),
    "unsigned tree": codebooks.dynamic_tree(False),
    "symmetric tree": codebooks.dynamic_tree(symmetric=True),
    "linear": codebooks.linear(),
    "nf4": codebooks.nf4(),
    "fp4": codebooks.fp4(),
    "unsigned linear": codebooks.linear(False, 4, zero=False),
}


def blockwise_cases(op: ops.Op[Any]) -> Iterator[Case]:
    tables = ("nf4", "fp4", "unsigned linear") if op in (ops.quantize_4bit, ops.dequantize_4bit) else tuple(TABLES)
    for dtype, table in itertools.product((torch.float32, torch.float16, torch.bfloat16), tables):
        yield from (blockwise_inputs(op, op.name, n, dtype, 32, table) for n in (*SIZES, 0))
        yield from (blockwise_inputs(op, op.name, 1000, dtype, block, table) for block in (64, 128, 256, 4096))
        yield blockwise_inputs(op, op.name, 40_001, dtype, 256, table)  # more than one task


def is_rounded_sum(op: ops.Op, arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """Within the rounding of a sum of products."""
    check_sum(call(*arguments), arguments, op is ops.linear_4bit_backward)


def is_int8_product(op: ops.Op, arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """Bit for bit but for the sum of outliers."""
    check_int8(call(*arguments), arguments, op.reference)


def linear_cases() -> Iterator[Case]:
    return (Case(ops.linear_4bit, str(linear), linear.forward, light, is_rounded_sum) for linear, light in linears())


def linear_backward_cases() -> Iterator[Case]:
    for linear, light in linears():
        yield Case(ops.linear_4bit_backward, str(linear), linear.backward, light, is_rounded_sum)


def int8_cases() -> Iterator[Case]:
    for linear, light in linears():
        if linear.table == "nf4":
            for threshold in (0.0, 2.5, 100.0):
                label = f"{linear}-outliers-{threshold}"
                make = partial(linear.int8, threshold)
                yield Case(ops.linear_8bit, label, make, light and threshold < 100, is_int8_product)


def is_group_product(op: ops.Op, arguments: tuple[Any, ...], call: Callable[..., Any]) -> None:
    """Bit for bit with inputs in int8, else within the rounding of a sum."""
    check_group_product(call(*arguments), arguments, op)


def group_cases() -> Iterator[Case]:
    for groups, light in group_products():
        yield Case(ops.linear_groups, str(groups), groups.forward, light, is_group_product)


def decoded_group_cases() -> Iterator[Case]:
    return (Case(ops.dequantize_groups, str(groups), groups.decode, light) for groups, light in group_weights())


def pool_bits_cases() -> Iterator[Case]:
    for pool in pools():
        yield Case(ops.pool_bits, str(pool), pool.make)


def concatenate_bits_cases() -> Iterator[Case]:
    for shape, channels in PARTS:
        label = f"{'x'.join(map(str, shape))}-{'+'.join(map(str, channels))}"
        yield Case(ops.concatenate_bits, label, partial(parts, shape, channels))


def estimator_cases(op: ops.Op[Any]) -> Iterator[Case]:
    for shape, dtype in shapes():
        layouts = LAYOUTS if shape == (5, 63) else (dense,)
        for layout in layouts:
            for demand, found in ((equals_reference, signs_and_masks), (is_near, bent)):
                # Triton's interpreter cuts bfloat16 off, which a GPU rounds
                light = layout is dense and shape in ((257,), (5, 63), (0, 3)) and dtype != torch.bfloat16
                for one, label, make in found(shape, dtype, layout):
                    if one is op:
                        yield Case(op, label, make, light, demand)


def standard_cases(op: ops.Op[Any]) -> Iterator[Case]:
    for dtype in (torch.float32, torch.float64):
        for label, x in samples(dtype):
            arguments: tuple[Any, ...] = (x, 1e-5)
            if op is ops.standard_sign_gradient:
                statistics = ops.standard_sign.reference(*arguments)[1]
                arguments = gradient(label, tuple(x.shape), dtype), x, statistics
            yield Case(op, label, partial(copy.deepcopy, arguments), dtype == torch.float32, is_standard)


def shifted_cases(op: ops.Op[Any]) -> Iterator[Case]:
    for *shape, dtype in shifted_shapes():
        label = f"{_name(dtype)}-{'x'.join(map(str, shape))}"
        make = partial(shifted, label, tuple(shape), dtype, op is ops.shifted_sign_gradient)
        yield Case(op, label, make, demand=is_shifted)


def scaled_cases() -> Iterator[Case]:
    for rows, n, dtype in scaled_shapes():
        label = f"{_name(dtype)}-{rows}x{n}"
        light = dtype == torch.float32 and n < 1000
        yield Case(ops.scaled_gradient, label, partial(scaled, label, rows, n, dtype), light, is_scaled)


def adapted_cases(op: ops.Op[Any]) -> Iterator[Case]:
    for *sizes, dtype in adapted_shapes():
        for one, label, make in adapted(*sizes, dtype):
            if one is op:
                yield Case(op, label, make, demand=is_adapted)


def window_cases() -> Iterator[Case]:
    """Rows of images, strides, windows that reach beyond the image, and a dimension of space less."""
    windows = (((3, 3), (1, 1), (1, 1), (1, 1)), ((2, 3), (2, 1), (0, 2), (1, 2)), ((1, 5), (3, 2), (3, 4), (1, 1)))
    for (window, dtype), layout in itertools.product(zip(windows, FLOATS, strict=False), LAYOUTS):
        label = f"{window}-{layout.__name__}"
        yield Case(ops.window_mean, label, partial(_windowed, layout, (3, 1, 9, 17), dtype, window))
    for shape in ((2, 1, 7), (0, 1, 7), (1, 1, 2)):
        line = ((3,), (2,), (1,), (1,))
        yield Case(ops.window_mean, f"{shape}", partial(_windowed, dense, shape, torch.float32, line))
    large = (70, 1, 16, 65)
    yield Case(ops.window_mean, "threads", partial(_windowed, dense, large, torch.float32, windows[0]))


def _windowed(layout: Callable[[Tensor], Tensor], shape: tuple[int, ...], dtype: torch.dtype, window: Any) -> Any:
    return (layout(numbers(f"{shape}", shape, dtype, (0.0, -0.0))), *map(list, window))


def magnitude_cases() -> Iterator[Case]:
    """Channels last and first, in pieces and rows; lanes that are not full."""
    for channels, space in itertools.product((1, 7, 16, 17, 64, 257), ((), (9,), (5, 7), (4, 8))):
        label = f"{channels}x{space}"
        for layout in (dense, _channels_last) if len(space) == 2 else LAYOUTS:
            make = partial(_laid_out, layout, label, (3, channels, *space), torch.float32)
            yield Case(ops.mean_magnitude, f"{label}-{layout.__name__}", make)
    yield Case(ops.mean_magnitude, "pieces", partial(_laid_out, dense, "pieces", (2, 33, 1, 1031), torch.float32))
    yield Case(ops.mean_magnitude, "empty", lambda: (torch.zeros(0, 5, 3, 3),))
    for dtype in FLOATS[1:]:
        yield Case(ops.mean_magnitude, _name(dtype), partial(_laid_out, dense, "types", (2, 19, 3, 3), dtype))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _laid_out(layout: Callable[[Tensor], Tensor], label: str, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    return (layout(numbers(label, shape, dtype)),)


def multibit_quantize_cases() -> Iterator[Case]:
    for label, make in quantized_arguments():
        yield Case(ops.multibit_quantize, label, make, light=label in ("vector", "65-3planes-2cycles-refined"))


def multibit_matvec_cases() -> Iterator[Case]:
    for label, make in product_arguments():
        yield Case(ops.multibit_matvec, label, make, light=label in ("vector", "65x7x2x2x1"))


GENERATORS: dict[ops.Op, Callable[[], Iterator[Case]]] = {
    ops.sign: sign_cases,
    **{
        op: partial(estimator_cases, op)
        for op in (
            ops.clipped_sign,
            ops.clipped_levels,
            ops.masked_gradient,
            ops.approx_sign_gradient,
            ops.error_decay_gradient,
            ops.fourier_gradient,
            ops.noisy_sign,
        )
    },
    **{op: partial(standard_cases, op) for op in (ops.standard_sign, ops.standard_sign_gradient)},
    **{op: partial(shifted_cases, op) for op in (ops.shifted_sign, ops.shifted_sign_gradient)},
    ops.scaled_gradient: scaled_cases,
    **{op: partial(adapted_cases, op) for op in (ops.adapted_sign, ops.adapted_sign_gradient)},
    ops.mean_magnitude: magnitude_cases,
    ops.window_mean: window_cases,
    ops.pack_signs: pack_cases,
    ops.pack_levels: levels_cases,
    ops.unpack_signs: unpack_cases,
    ops.binary_matmul: matmul_cases,
    ops.sign_products: sign_product_cases,
    ops.binary_conv2d: conv_cases,
    ops.binary_block: block_cases,
    ops.pool_bits: pool_bits_cases,
    ops.concatenate_bits: concatenate_bits_cases,
    ops.optimizer_step: step_cases,
    ops.quantize_blockwise: lambda: blockwise_cases(ops.quantize_blockwise),
    ops.dequantize_blockwise: lambda: blockwise_cases(ops.dequantize_blockwise),
    ops.quantize_4bit: lambda: blockwise_cases(ops.quantize_4bit),
    ops.dequantize_4bit: lambda: blockwise_cases(ops.dequantize_4bit),
    ops.linear_4bit: linear_cases,
    ops.linear_4bit_backward: linear_backward_cases,
    ops.linear_8bit: int8_cases,
    ops.dequantize_groups: decoded_group_cases,
    ops.linear_groups: group_cases,
    ops.multibit_quantize: multibit_quantize_cases,
    ops.multibit_matvec: multibit_matvec_cases,
}


def pure_cases() -> list[Case]:
    """Cases of the ops that return tensors and change none."""
    return [case for case in all_cases() if "(a!)" not in case.op.schema]


WITHOUT_KERNEL = (
    ops.error_decay_gradient,
    ops.fourier_gradient,
    ops.noisy_sign,
    ops.adapted_sign,
    ops.adapted_sign_gradient,
    ops.standard_sign,
    ops.standard_sign_gradient,
    ops.shifted_sign,
    ops.shifted_sign_gradient,
    ops.scaled_gradient,
    ops.mean_magnitude,
    ops.window_mean,
    ops.multibit_quantize,
    ops.sign_products,
)
"""On CUDA these are their references."""


def interpreted_cases() -> list[Case]:
    """What Triton's interpreter runs: the light cases of ops that have a kernel, and nearly all steps."""
    own = (case for case in pure_cases() if case.light and case.op not in WITHOUT_KERNEL)
    return [*own, *step_cases(interpreted_steps)]


def all_cases() -> list[Case]:
    return [case for cases in GENERATORS.values() for case in cases()]
