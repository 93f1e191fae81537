# SPDX-License-Identifier: Apache-2.0
"""`bitsandbytes.optim.optimizer`: the manager of overrides, and the base of every optimizer here."""

from __future__ import annotations

from bittern.compat.bitsandbytes.optim._base import Bridge as Optimizer8bit
from bittern.compat.bitsandbytes.optim._manager import GlobalOptimManager

__all__ = ["GlobalOptimManager", "Optimizer8bit"]
