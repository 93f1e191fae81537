# SPDX-License-Identifier: Apache-2.0
"""Running a `.pte` in ExecuTorch's Python runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.executorch.installed import require
from bittern.deploy.executorch.kernels import ADVICE, BUILD, LIBRARY, MissingKernels, kernels_loaded, load_kernels
from bittern.deploy.other_packages import quietly


class EdgeProgram:
    """A loaded `.pte`.

    Call with x float32 [batch, *input_shape], or with one tensor for each input -> logits [batch, ...], or a tuple of
    all results; samples run one by one, as the file has it.

    Raises: TypeError / ValueError for inputs of another number, dtype or shape.
    """

    def __init__(self, data: bytes) -> None:
        with quietly():
            from executorch.runtime import Runtime

            # the program reads from `data`, so that must live as long
            self._program = Runtime.get().load_program(data)
            self._method: Any = self._program.load_method("forward")
        about = self._method.metadata
        sizes = [about.input_tensor_meta(place).sizes() for place in range(about.num_inputs())]
        self.input_shapes: tuple[tuple[int, ...], ...] = tuple(tuple(own[1:]) for own in sizes)
        """Shape of one sample of each input."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the first input."""
        return self.input_shapes[0]

    def __call__(self, *inputs: Tensor) -> Any:
        found = self.values(*inputs)
        return found[0] if len(found) == 1 else tuple(found)

    def values(self, *inputs: Tensor) -> list[Tensor]:
        """All results of the program, for a batch."""
        if len(inputs) != len(self.input_shapes) or len({len(x) for x in inputs}) != 1:
            batches = ", ".join(str(len(x)) for x in inputs)
            raise ValueError(
                f"edge program: takes {len(self.input_shapes)} inputs of as many samples; got inputs of {batches}"
            )
        for x, shape in zip(inputs, self.input_shapes, strict=True):
            _check_input(x, shape)
        samples = zip(*(x.unsqueeze(1) for x in inputs), strict=True)
        rows = [[y.clone() for y in self._method.execute([row.contiguous() for row in sample])] for sample in samples]
        return [torch.cat(parts) for parts in zip(*rows, strict=True)]


def _check_input(x: Tensor, shape: tuple[int, ...]) -> None:
    """Raises: TypeError, ValueError."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise TypeError(f"edge program: the input must be float32 on the CPU; got {x.dtype} on {x.device}")
    if tuple(x.shape[1:]) != shape or x.shape[0] == 0:
        sizes = ", ".join(str(size) for size in shape)
        raise ValueError(f"edge program: expected an input [batch, {sizes}]; got {list(x.shape)}")


def load(path: str | Path) -> EdgeProgram:
    """Load a `.pte` that `to_executorch` wrote, with the kernels of `make edge` where none are loaded yet.

    Raises: ImportError without ExecuTorch; FileNotFoundError; MissingKernels saying how to load the kernel library;
    ValueError for a file that ExecuTorch cannot read.
    """
    require("load")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load: no file {str(path)!r}; write one with bittern.deploy.to_executorch")
    if not kernels_loaded() and (BUILD / LIBRARY).is_file():
        load_kernels()
    try:
        return EdgeProgram(path.read_bytes())
    except RuntimeError as error:
        if not kernels_loaded():
            needs = f"load: {str(path)!r} needs Bittern's kernels, which are not loaded"
            raise MissingKernels(f"{needs}; {ADVICE}") from error
        raise ValueError(f"load: ExecuTorch cannot read {str(path)!r}: {error}") from error
