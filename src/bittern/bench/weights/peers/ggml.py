# SPDX-License-Identifier: Apache-2.0
"""ggml's Q4_0 and Q8_0, blocks of 32 with a float16 scale; it rounds inputs to 8 bits.

Its shared libraries come with the package libggml-python, which has no bindings: they are called through ctypes.
Weights lie in buffers in which ggml puts them into the order of its kernels, where it has one for this processor.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bittern.bench.weights.contender import Contender, Pass, Ready, without

F32, Q4_0, Q8_0 = 0, 2, 8
"""enum ggml_type."""
BLOCK = 32
BLOCK_BYTES = {Q4_0: 2 + BLOCK // 2, Q8_0: 2 + BLOCK}
NODES = 16
"""Tensors of a layer and of the ends, with plenty of room."""
_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int

_LOG = ctypes.CFUNCTYPE(None, _INT, ctypes.c_char_p, _POINTER)
_QUIET = _LOG(lambda level, text, data: None)


class _Memory(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = (("size", ctypes.c_size_t), ("buffer", _POINTER), ("no_alloc", ctypes.c_bool))


_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "ggml_init": (_POINTER, (_Memory,)),
    "ggml_tensor_overhead": (ctypes.c_size_t, ()),
    "ggml_graph_overhead": (ctypes.c_size_t, ()),
    "ggml_new_tensor_2d": (_POINTER, (_POINTER, _INT, _LONG, _LONG)),
    "ggml_mul_mat": (_POINTER, (_POINTER, _POINTER, _POINTER)),
    "ggml_new_graph": (_POINTER, (_POINTER,)),
    "ggml_build_forward_expand": (None, (_POINTER, _POINTER)),
    "ggml_get_data": (_POINTER, (_POINTER,)),
    "ggml_quantize_chunk": (ctypes.c_size_t, (_INT, _POINTER, _POINTER, _LONG, _LONG, _LONG, _POINTER)),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_POINTER, (_POINTER, _POINTER)),
    "ggml_backend_tensor_set": (None, (_POINTER, _POINTER, ctypes.c_size_t, ctypes.c_size_t)),
    "ggml_backend_graph_compute": (_INT, (_POINTER, _POINTER)),
    "ggml_backend_reg_dev_get": (_POINTER, (_POINTER, ctypes.c_size_t)),
    "ggml_backend_reg_get_proc_address": (_POINTER, (_POINTER, ctypes.c_char_p)),
    "ggml_free": (None, (_POINTER,)),
    "ggml_backend_free": (None, (_POINTER,)),
    "ggml_backend_buffer_free": (None, (_POINTER,)),
    "ggml_backend_dev_supports_op": (ctypes.c_bool, (_POINTER, _POINTER)),
    "ggml_log_set": (None, (_LOG, _POINTER)),
    "ggml_backend_cpu_buffer_type": (_POINTER, ()),
    "ggml_backend_cpu_reg": (_POINTER, ()),
    "ggml_backend_cpu_init": (_POINTER, ()),
    "ggml_backend_cpu_set_n_threads": (None, (_POINTER, _INT)),
}


@cache
def _functions() -> dict[str, Callable[..., int]]:
    import libggml

    folder = Path(libggml.__path__[0])
    found: dict[str, Callable[..., int]] = {}
    for name in ("libggml-base.so", "libggml-cpu.so"):
        library = ctypes.CDLL(str(next(folder.glob(f"lib*/{name}"))), mode=ctypes.RTLD_GLOBAL)
        for function, (result, arguments) in _SIGNATURES.items():
            if hasattr(library, function):
                made = getattr(library, function)
                made.restype, made.argtypes = result, arguments
                found[function] = made
    found["ggml_log_set"](_QUIET, None)  # it tells of every weight that it puts in order
    return found


def _prepare(kind: int, linears: Sequence[nn.Linear]) -> Ready:
    def build(repeats: int, x: Tensor, step: bool) -> Pass:
        layers = [*linears] * repeats
        weights = sum(linear.weight.numel() for linear in layers)
        return Pass(_graph(kind, layers, x), weights // BLOCK * BLOCK_BYTES[kind])

    return build


def _graph(kind: int, layers: Sequence[nn.Linear], x: Tensor) -> Callable[[], Tensor]:
    """A pass through the layers with torch's number of threads at this time. Raises: ValueError for part of a block."""
    g = _functions()
    if any(linear.in_features % BLOCK for linear in layers):
        raise ValueError(f"rows must be whole blocks of {BLOCK}")
    stack = next(stack for buffer in _buffers() if (stack := _stack(kind, layers, x, buffer)) is not None)
    codes = {linear: _codes(kind, linear) for linear in set(layers)}
    for weight, linear in zip(stack.weights, layers, strict=True):
        g["ggml_backend_tensor_set"](weight, codes[linear].data_ptr(), 0, codes[linear].nbytes)
    values = x.contiguous()
    g["ggml_backend_tensor_set"](stack.first, values.data_ptr(), 0, values.nbytes)
    backend = g["ggml_backend_cpu_init"]()
    g["ggml_backend_cpu_set_n_threads"](backend, torch.get_num_threads())
    place = (ctypes.c_float * x.numel()).from_address(g["ggml_get_data"](stack.last))
    result = torch.frombuffer(place, dtype=torch.float32).view(x.shape)

    def forward() -> Tensor:  # a view of ggml's memory, which lives as long as this function
        if g["ggml_backend_graph_compute"](backend, stack.graph) != 0:
            raise RuntimeError("ggml: the graph could not be computed")
        return result

    for free, owned in (("ggml_backend_free", backend), *stack.owned):
        weakref.finalize(forward, g[free], owned)
    return forward


class _Stack(NamedTuple):
    """Pointers to a graph and to its tensors."""

    weights: list[int]
    first: int
    last: int
    graph: int
    owned: tuple[tuple[str, int], ...]
    """What frees them, and what it takes."""


def _stack(kind: int, layers: Sequence[nn.Linear], x: Tensor, buffer: int) -> _Stack | None:
    """With weights in a buffer of a type; None where the products cannot have them there."""
    g = _functions()
    stored, values = (g["ggml_init"](_Memory(_room(len(layers)), None, True)) for _ in range(2))
    weights = [g["ggml_new_tensor_2d"](stored, kind, linear.in_features, linear.out_features) for linear in layers]
    first = last = g["ggml_new_tensor_2d"](values, F32, x.shape[1], x.shape[0])
    products = []
    for weight in weights:
        last = g["ggml_mul_mat"](values, weight, last)
        products.append(last)
    held = _allocate(stored, buffer)
    device = g["ggml_backend_reg_dev_get"](g["ggml_backend_cpu_reg"](), 0)
    if not all(g["ggml_backend_dev_supports_op"](device, product) for product in products):
        g["ggml_backend_buffer_free"](held), g["ggml_free"](stored), g["ggml_free"](values)
        return None
    graph = g["ggml_new_graph"](values)
    g["ggml_build_forward_expand"](graph, last)
    others = _allocate(values, g["ggml_backend_cpu_buffer_type"]())
    owned = [("ggml_free", context) for context in (stored, values)]
    owned += [("ggml_backend_buffer_free", one) for one in (held, others)]
    return _Stack(weights, first, last, graph, tuple(owned))


def _room(layers: int) -> int:
    g = _functions()
    return NODES * (layers + 1) * g["ggml_tensor_overhead"]() + g["ggml_graph_overhead"]()


def _allocate(context: int, buffer_type: int) -> int:
    """The buffer."""
    found = _functions()["ggml_backend_alloc_ctx_tensors_from_buft"](context, buffer_type)
    if not found:
        raise RuntimeError("ggml: no memory for the tensors")
    return found


def _buffers() -> Iterator[int]:
    """Types of buffers: those that put weights into the order of a kernel, and the plain one."""
    g = _functions()
    registered = g["ggml_backend_cpu_reg"]()
    address = g["ggml_backend_reg_get_proc_address"](registered, b"ggml_backend_dev_get_extra_bufts")
    if address:
        listed = ctypes.CFUNCTYPE(ctypes.POINTER(_POINTER), _POINTER)(address)
        types = listed(g["ggml_backend_reg_dev_get"](registered, 0))
        for place in count():
            if not types or not types[place]:
                break
            yield int(types[place])
    yield g["ggml_backend_cpu_buffer_type"]()


def _codes(kind: int, linear: nn.Linear) -> Tensor:
    weight = linear.weight.detach().contiguous()
    rows, columns = weight.shape
    found = torch.empty(rows * columns // BLOCK * BLOCK_BYTES[kind], dtype=torch.uint8)
    _functions()["ggml_quantize_chunk"](kind, weight.data_ptr(), found.data_ptr(), 0, rows, columns, None)
    return found


GGML = tuple(
    Contender(
        f"ggml {name}",
        partial(_prepare, kind),
        (torch.float32,),
        steps=False,
        int8=True,
        missing=without("libggml", install="libggml-python"),
    )
    for name, kind in (("Q4_0", Q4_0), ("Q8_0", Q8_0))
)
