# SPDX-License-Identifier: Apache-2.0
"""Packed models on ExecuTorch's runtime: `to_executorch`, and what its programs need to run (docs/edge.md).

    lowering   packed program -> torch module            write    the module -> `.pte`, verified
    backend    which nodes the Bittern backend takes     emit     a partition of them -> calls, in the bytes of `blob`
    kernels    the library that runs those calls         runtime  a `.pte` in Python
    check      comparing both models part by part        installed  whether ExecuTorch is there

Nothing here imports the package `executorch` before it is needed.
"""

from __future__ import annotations

from bittern.deploy.errors import ExportError
from bittern.deploy.executorch.check import EdgeReport
from bittern.deploy.executorch.kernels import MissingKernels, build_kernels, cmake_config, load_kernels
from bittern.deploy.executorch.runtime import EdgeProgram, load
from bittern.deploy.executorch.write import to_executorch

__all__ = [
    "EdgeProgram",
    "EdgeReport",
    "ExportError",
    "MissingKernels",
    "build_kernels",
    "cmake_config",
    "load",
    "load_kernels",
    "to_executorch",
]
