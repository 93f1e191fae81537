# SPDX-License-Identifier: Apache-2.0
"""Pools of real images by a native step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from bittern import ops
from bittern.deploy.engine.groups.behind_affine import BehindAffine
from bittern.deploy.engine.groups.group import AtBatch, Material, always
from bittern.deploy.engine.groups.native import RealGroup
from bittern.deploy.engine.kernel_parameters import affine_rows, pool_rule
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun


@dataclass(frozen=True)
class Pool(BehindAffine, RealGroup):
    """A pool, with an affine node in front of it if there is one."""

    @property
    def reads(self) -> tuple[int, ...]:
        return (self.source,)

    def does(self) -> str:
        return f"{self.mapped}{self.node.attrs['mode']} pool"

    def prepare(self, material: Material) -> AtBatch:
        return always(self, partial(self._run, pool_rule(self.node), affine_rows(self.before, material.tensors)))

    def _run(self, rule: ops.PoolRule, affine: Tensor | None, layout: Layout) -> NativeRun:
        record = ops.pool_step(rule, layout.size(self.source), layout.plan.images[self.node.output], affine)
        return layout.reading(record, "pool", self.source)
