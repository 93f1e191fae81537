# SPDX-License-Identifier: Apache-2.0
"""`bitsandbytes.cextension`: what libraries and bitsandbytes' own tests ask of its native library."""

from __future__ import annotations

HIP_ENVIRONMENT = False
"""There are no kernels of one kind of GPU that tests would have to leave out."""
