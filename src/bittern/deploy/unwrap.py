# SPDX-License-Identifier: Apache-2.0
"""The network inside what people wrap around it for training."""

from __future__ import annotations

from typing import Any

WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
}
"""Classes of torch whose answer is that of the model inside them, and under which name it stands."""


def unwrapped(model: Any) -> Any:
    """The model without wrappers of torch."""
    while type(model).__name__ in WRAPPERS and type(model).__module__.startswith("torch."):
        model = getattr(model, WRAPPERS[type(model).__name__])
    return model
