# SPDX-License-Identifier: Apache-2.0
"""bitsandbytes' names, signatures and file formats over bittern: `import bittern.compat.bitsandbytes as bnb`.

docs/bitsandbytes.md lists what is there and every difference. `install()` registers this package under the name
`bitsandbytes`, for libraries that import it by that name.
"""

from __future__ import annotations

from bittern.compat.bitsandbytes import autograd, cextension, functional, nn, optim, utils
from bittern.compat.bitsandbytes._install import install
from bittern.compat.bitsandbytes.autograd._functions import MatmulLtState, matmul, matmul_4bit

__version__ = "0.50.2"
"""The version of bitsandbytes whose interface this is."""

features = {"multi_backend"}
supported_torch_devices = {"cpu", "cuda"}

__all__ = [
    "MatmulLtState",
    "autograd",
    "cextension",
    "features",
    "functional",
    "install",
    "matmul",
    "matmul_4bit",
    "nn",
    "optim",
    "supported_torch_devices",
    "utils",
]
