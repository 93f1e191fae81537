# SPDX-License-Identifier: Apache-2.0
"""Where the groups of a program find what they read and write, at one batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.engine.memory_plan import MemoryPlan, image_size
from bittern.deploy.engine.native_run import NativeRun, Patch
from bittern.deploy.form import Form


class Layout:
    """The memory of a batch size, as groups ask for it."""

    def __init__(self, plan: MemoryPlan, forms: Mapping[int, Form], batch: int) -> None:
        self.plan = plan
        self.forms = forms
        self.batch = batch
        self.rows = any(form.rows for form in forms.values())
        """Whether values of three dimensions are rows of features."""

    def size(self, value: int) -> tuple[int, int, int, int]:
        """(samples, height, width, channels) of a value as images."""
        return (self.batch, *image_size(self.forms[value]))

    def images_at(self, value: int) -> tuple[Tensor, bool]:
        """(a real value's images, True); where torch computes it (images of that size without memory, False)."""
        images = self.plan.images.get(value)
        if images is not None:
            return images, True
        size = self.size(value)
        return torch.empty(0 if 0 in size[1:] else 1, dtype=torch.float32).expand(size), False

    def bits_at(self, value: int, patch: Patch) -> tuple[ops.BitImages, list[Patch]]:
        """Where bits lie; else (torch's own packing: words of one plane) their sizes, and what is to be patched."""
        bits = self.plan.bits.get(value)
        if bits is not None:
            return bits, []
        if self.forms[value].planes > 1:
            raise AssertionError(f"layout: bits that torch packs have one plane; value {value} has several")
        return ops.BitImages(torch.empty(0, dtype=torch.int64), *self.size(value)), [patch]

    def passed_on(self, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Memory that a group's next step alone reads: so many images [samples, height, width]."""
        parts, start = [], 0
        for height, width in sizes:
            count = self.batch * height * width
            parts.append(self.plan.passed_on[start : start + count].view(self.batch, height, width))
            start += count
        return parts

    def reading(self, records: np.ndarray, part: str, value: int, patches: Sequence[Patch] = ()) -> NativeRun:
        """The run of records that all read the same images: in planned memory, else patched at every call.

        patches: what else is.
        """
        images = self.plan.images.get(value)
        if images is None:
            read = [(part, "x", number, value) for number in range(len(records))]
            return NativeRun(ops.chosen_isa(), records, [*read, *patches])
        records[part]["x"], records["sizes"]["input"] = images.data_ptr(), ops.bytes_of(images)
        return NativeRun(ops.chosen_isa(), records, [*patches])

    def beside(self, record: np.ndarray, part: str, operands: Mapping[str, int]) -> list[Patch]:
        """Let a record read operands by the names of its fields; what is to be patched at every call."""
        missing: list[Patch] = []
        for name, value in operands.items():
            images = self.plan.images.get(value)
            if images is None:
                missing.append((part, name, 0, value))
            else:
                record[part][name], record["sizes"][name] = images.data_ptr(), ops.bytes_of(images)
        return missing
