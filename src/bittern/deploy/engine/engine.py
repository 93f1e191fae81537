# SPDX-License-Identifier: Apache-2.0
"""Running a packed program on the CPU: fused blocks over planned memory, real layers by torch.

What does not depend on the batch size is prepared once: weights in the order of the kernels, one step per real layer.
The first call with a batch size makes a `Schedule` for it: every value that native code writes gets a place in memory
that later calls use again, and neighbouring native items become one native call. Real layers see the same memory as
tensors with channels last. A layer whose sums torch would order otherwise in that layout keeps the contiguous one:
it is tried on random numbers when the schedule is made.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.bit_stream import to_words
from bittern.deploy.engine.accumulation_order import Trial
from bittern.deploy.engine.fuse import fuse
from bittern.deploy.engine.items import BitStep, Block, Encode, Item, Pool, RealProduct, WholeMean, by_torch, number_of
from bittern.deploy.engine.kernel_parameters import (
    activation_parameters,
    affine_rows,
    clamp_limits,
    pool_rule,
    sign_threshold,
)
from bittern.deploy.engine.memory_plan import as_images
from bittern.deploy.engine.schedule import Schedule
from bittern.deploy.kinds.binary import BinaryStep, epilogue_rows, weight_words
from bittern.deploy.kinds.bits import flip_words
from bittern.deploy.kinds.channel_scales import channel_scale
from bittern.deploy.kinds.kind import Build, Step, integer, integers, pair
from bittern.deploy.kinds.real import pads_whole_windows
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.plain import plain_cpu
from bittern.deploy.program import Node, Program
from bittern.deploy.shapes import forms_of

KEPT_SCHEDULES = 4
"""Batch sizes (at a number of torch's threads), per calling thread, whose memory is kept."""
CPU = torch.device("cpu")


class Engine:
    """A program that runs fused, on the CPU.

    Call with x float32 [batch, *input_shape] -> float32. Several threads may call at once; each has its own memory.
    """

    def __init__(self, program: Program, tensors: Mapping[str, Tensor], real: torch.dtype = torch.float32) -> None:
        self.program = program
        self.real = real
        self.tensors = tensors
        self.forms = forms_of(program, tensors)
        self.items = fuse(program, self.forms)
        if real != torch.float32:
            self.items = tuple(part for item in self.items for part in by_torch(item))
        self._prepared: dict[tuple[type[Item], int], Any] = {}
        for item in self.items:
            self.prepared(item)
        self._local = threading.local()

    def __call__(self, x: Tensor) -> Any:
        return self._schedule(x.shape[0]).run(x)

    def accumulators(self, x: Tensor) -> dict[str, Tensor]:
        """Accumulators of every low-bit layer, recomputed from the very bits that reach it."""
        found: dict[str, Tensor] = {}

        def look(item: Item, read: Callable[[int], Any]) -> None:
            node = item.node if isinstance(item, Block) else item
            if isinstance(node, Node) and node.kind == "binary":
                found[node.name] = self._binary_step(node).accumulator(read(node.inputs[0]))

        self._schedule(x.shape[0]).run_each(x, look)
        return {node.name: found[node.name] for node in self.program.nodes if node.name in found}

    def profile(self, x: Tensor, repeats: int = 5) -> list[tuple[Item, float]]:
        """Every item with its median time in microseconds, each run alone."""
        times: dict[int, list[float]] = {number_of(item): [] for item in self.items}
        for _ in range(repeats):
            started = time.perf_counter()

            def note(item: Item, read: Callable[[int], Any]) -> None:
                nonlocal started
                now = time.perf_counter()
                times[number_of(item)].append((now - started) * 1e6)
                started = time.perf_counter()

            self._schedule(x.shape[0]).run_each(x, lambda item, read: None, note)
        return [(item, sorted(times[number_of(item)])[repeats // 2]) for item in self.items]

    def _schedule(self, batch: int) -> Schedule:
        kept: OrderedDict[tuple[int, int], Schedule] | None = getattr(self._local, "schedules", None)
        if kept is None:
            kept = self._local.schedules = OrderedDict()
        key = batch, torch.get_num_threads()  # torch may sum in another order with other threads
        if key not in kept:
            with plain_cpu():
                kept[key] = Schedule(self.program.output, self.items, self.prepared, self.forms, batch)
            if len(kept) > KEPT_SCHEDULES:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]

    def release(self) -> None:
        """Give back the memory of all batch sizes that this thread has run."""
        self._local.schedules = OrderedDict()

    # -- what does not depend on the batch size

    def prepared(self, item: Item) -> Any:
        """What an item needs at every batch size, made when it is first asked for."""
        key = type(item), number_of(item)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(item)
        return self._prepared[key]

    def _prepare(self, item: Item) -> Any:
        if isinstance(item, Block):
            return self._block(item)
        if isinstance(item, Encode):
            return sign_threshold(item.node, self.tensors) if item.node.attrs["planes"] == 1 else None
        if isinstance(item, Pool):
            return pool_rule(item.node), affine_rows(item.before, self.tensors)
        if isinstance(item, BitStep):
            return flip_words(item.node, self._named(item.node), CPU)
        if isinstance(item, RealProduct):
            tail = affine_rows(item.affine, self.tensors), clamp_limits(item.clamp)
            return Trial(self._named(item.node), self._steps(item.node)), tail
        if isinstance(item, WholeMean):
            return Trial(self._named(item.node), self._steps(item.node))
        return self._steps(item)

    def _named(self, node: Node) -> dict[str, Tensor]:
        return node.named(self.tensors)

    def _binary_step(self, node: Node) -> BinaryStep:
        return BinaryStep(node, self._named(node), CPU)

    def _steps(self, node: Node) -> tuple[Step, Step | None]:
        """A node by torch: as in the training graph, and on images with channels last."""
        kind, named = KINDS[node.kind], self._named(node)
        if kind.product and self.real != torch.float32:
            return _in_type(self.real, kind.build_last or kind.build, node, named), None
        build_last = None if pads_whole_windows(node, named) else kind.build_last
        last = None if build_last is None else build_last(node, named, CPU)
        return kind.build(node, named, CPU), last

    def _block(self, block: Block) -> ops.PreparedBlock:
        node, named = block.node, self._named(block.node)
        words = weight_words(node, named)
        kernel = pair(integers(node, "kernel"), 1)
        w = torch.stack([plane.reshape(plane.shape[0], *kernel, plane.shape[-1]) for plane in words])
        threshold: Tensor | None
        if node.attrs["result"] == "acc":
            assert block.sign is not None
            epilogue, threshold = self._integer_sign(block.sign)
        else:
            epilogue = epilogue_rows(node, named, words)
            if block.norm is not None:
                epilogue[2:] = self.tensors[block.norm.tensors["affine"]]
            threshold = None if block.sign is None else sign_threshold(block.sign, self.tensors)
        return ops.PreparedBlock(
            w,
            integer(node, "channels"),
            pair(integers(node, "stride"), 1),
            pair(integers(node, "padding"), 0),
            pair(integers(node, "dilation"), 1),
            integer(node, "groups"),
            -1 if node.attrs["code"] == "levels" else integer(node, "pad_value"),
            epilogue,
            block.activation,
            activation_parameters(block, self.tensors),
            block.rule,
            threshold,
            affine_rows(block.residual_map, self.tensors),
            self._factor(block),
        )

    def _factor(self, block: Block) -> Tensor | None:
        """Its factors, float32 [height or 1, width or 1, channels]."""
        if block.factors is None:
            return None
        gamma, form = channel_scale(block.factors, self._named(block.factors)), self.forms[block.factors.output]
        whole = gamma.view((1,) * (len(form.shape) - gamma.ndim) + gamma.shape)
        shape = (1, form.channels, *whole.shape[2:])  # what repeats along the space is stored once
        images = as_images(whole.expand(shape))
        return images.view(images.shape[1:] if images.ndim == 4 else (1, 1, form.channels))

    def _integer_sign(self, node: Node) -> tuple[Tensor, Tensor]:
        """(epilogue, threshold) of (acc >= T) != falls: acc >= T, or -acc >= 1 - T where it falls; exact in float32."""
        named = self._named(node)
        limits = named["threshold"].float()
        rises = torch.ones_like(limits)
        if "flip" in named:
            flips = to_words(named["flip"], 1, 1, limits.numel())[0, 0]
            rises = -ops.unpack_signs(flips, limits.numel())
        zero = torch.zeros_like(limits)
        threshold = torch.where(rises > 0, limits, 1 - limits)
        return torch.stack([zero, torch.ones_like(limits), rises, zero]), threshold


def _in_type(dtype: torch.dtype, build: Build, node: Node, named: Mapping[str, Tensor]) -> Step:
    """A real product in another type, with float32 around it."""
    step = build(node, {role: tensor.to(dtype) for role, tensor in named.items()}, CPU)
    return lambda x: step(x.to(dtype)).float()
