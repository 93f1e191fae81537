# SPDX-License-Identifier: Apache-2.0
"""Inputs made of noise, for looking at a network where an example may be too plain to show anything.

An example of zeros, or one that is the same everywhere, hides what a network does with other inputs. Noise of the
example's shape, at its own scale and at others, does not. Every number comes from a generator of its own, so torch's
is left as it was, and the same example gives the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

SIZES_AND_SCALES = ((1, 1.0), (3, 1.0), (1, 0.125), (3, 8.0))
"""Samples of each batch, and how much wider than the example it is."""

SEED = 20260


def noise_batches(
    example: tuple[Tensor, ...], dims: Sequence[int | None] | None = None
) -> Iterator[tuple[Tensor, ...]]:
    """Several batches of arguments as `example` holds them, of one sample and of more (`SIZES_AND_SCALES`).

    Real tensors become normal noise of the example's mean and spread, times the scale of the batch (spread 1 where the
    example is constant); integers are drawn between the least and the largest of the example; anything else, such as
    a mask, is repeated. A tensor without dimensions stays as it is. dims: which dimension of each tensor is the batch,
    None where it has none and keeps its shape; left out, the first of every tensor.
    """
    generator = torch.Generator("cpu").manual_seed(SEED)
    dims = (0,) * len(example) if dims is None else dims
    for samples, scale in SIZES_AND_SCALES:
        yield tuple(
            _noise(tensor.detach().cpu(), dim, samples, scale, generator).to(tensor.device)
            for tensor, dim in zip(example, dims, strict=True)
        )


def repeated(x: Tensor, dim: int | None, samples: int) -> Tensor:
    """A tensor with so many samples along `dim`: its own ones, again from the first where there are too few."""
    return x if dim is None else x.index_select(dim, torch.arange(samples) % x.shape[dim])


def _noise(example: Tensor, dim: int | None, samples: int, scale: float, generator: torch.Generator) -> Tensor:
    if example.ndim == 0 or example.numel() == 0:
        return example.clone()
    shape = example.shape if dim is None else (*example.shape[:dim], samples, *example.shape[dim + 1 :])
    if example.is_floating_point():
        finite = example[example.isfinite()].to(torch.float64)
        spread = float(finite.std(correction=0)) if finite.numel() else 0.0
        middle = float(finite.mean()) if finite.numel() else 0.0
        noise = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
        return (noise * ((spread or 1.0) * scale) + middle).to(example.dtype)
    if example.dtype == torch.bool or example.is_complex():
        return repeated(example, dim, samples).clone()
    least, most = int(example.min()), int(example.max())
    return torch.randint(least, most + 1, shape, generator=generator, device="cpu", dtype=example.dtype)
