# SPDX-License-Identifier: Apache-2.0
"""Every kind of node."""

from __future__ import annotations

from bittern.deploy.kinds.activations import ACTIVATION_KINDS
from bittern.deploy.kinds.arithmetic import ARITHMETIC_KINDS
from bittern.deploy.kinds.aten import ATEN, PART
from bittern.deploy.kinds.binary import BINARY
from bittern.deploy.kinds.bits import BIT_KINDS
from bittern.deploy.kinds.channel_scales import CHANNEL_SCALES
from bittern.deploy.kinds.decoded import DECODED
from bittern.deploy.kinds.integer import INTEGER_KINDS
from bittern.deploy.kinds.kind import Kind
from bittern.deploy.kinds.layout import LAYOUT_KINDS
from bittern.deploy.kinds.levels import LEVEL_KINDS
from bittern.deploy.kinds.multibit import MULTIBIT_LINEAR
from bittern.deploy.kinds.ones import ONES_KINDS
from bittern.deploy.kinds.real import REAL_KINDS
from bittern.deploy.kinds.recurrent import RECURRENT
from bittern.deploy.kinds.results import RESULTS
from bittern.deploy.kinds.sign_residual import SIGN_RESIDUAL

TORCH_KINDS: tuple[Kind, ...] = (
    *REAL_KINDS,
    *ACTIVATION_KINDS,
    *LAYOUT_KINDS,
    *ARITHMETIC_KINDS,
    *LEVEL_KINDS,
    RECURRENT,
)
"""Those whose step is a call of torch on real tensors."""

ALL: tuple[Kind, ...] = (
    *BIT_KINDS,
    BINARY,
    *ONES_KINDS,
    SIGN_RESIDUAL,
    CHANNEL_SCALES,
    DECODED,
    MULTIBIT_LINEAR,
    *TORCH_KINDS,
    *INTEGER_KINDS,
    ATEN,
    PART,
    RESULTS,
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in ALL}
"""By the name that a file uses."""
