# SPDX-License-Identifier: Apache-2.0
"""`install()`: this package under the name `bitsandbytes`, for libraries that import it by that name."""

from __future__ import annotations

import sys

from bittern.compat.bitsandbytes import _torch_ops

_NAME = "bitsandbytes"


def install() -> None:
    """Registers `bittern.compat.bitsandbytes` and its modules as `bitsandbytes` in this process.

    After it `import bitsandbytes`, and so `transformers.Trainer(optim="adamw_bnb_8bit")`, finds this package, and the
    operators of `torch.ops.bitsandbytes` are there. Call it before anything imports bitsandbytes, at best before
    transformers. A second call changes nothing.
    Errors: RuntimeError if the real bitsandbytes was imported already.
    """
    here = __name__.rpartition(".")[0]
    package = sys.modules[here]
    present = sys.modules.get(_NAME)
    if present is not None and present is not package:
        raise RuntimeError(
            f"install: the real bitsandbytes is imported already, from {getattr(present, '__file__', 'unknown')}; "
            "call install() before anything imports it"
        )
    _torch_ops.register()
    for name, module in list(sys.modules.items()):
        if name == here or name.startswith(here + "."):
            sys.modules[_NAME + name.removeprefix(here)] = module
