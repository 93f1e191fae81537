# SPDX-License-Identifier: Apache-2.0
"""Node kinds of networks of integers: int8 in, int32 sums, a fixed-point factor, int8 out.

A value is int8 [batch, channels, height, width], [batch, features] or another [batch, ...]; a real number is
scale * (integer - zero), and scales are gone from a program: `ops.fixed_point` says what remains of them. Every step is
exact, on every device.
"""

from __future__ import annotations

from bittern.deploy.kinds.integer.conversions import CONVERSION_KINDS
from bittern.deploy.kinds.integer.matmul import MATMUL
from bittern.deploy.kinds.integer.means import MEAN
from bittern.deploy.kinds.integer.pairs import PAIR_KINDS
from bittern.deploy.kinds.integer.pools import POOL_KINDS
from bittern.deploy.kinds.integer.products import PRODUCT_KINDS
from bittern.deploy.kinds.integer.recurrent import RECURRENT_KINDS
from bittern.deploy.kinds.integer.resize import RESIZE
from bittern.deploy.kinds.integer.softmax import SOFTMAX
from bittern.deploy.kinds.integer.sums import ADD
from bittern.deploy.kinds.integer.table import CHANNEL_TABLES, TABLE
from bittern.deploy.kinds.integer.transposed import TRANSPOSED_CONV
from bittern.deploy.kinds.integer.wide import WIDE_KINDS

INTEGER_KINDS = (
    *PRODUCT_KINDS,
    TRANSPOSED_CONV,
    MATMUL,
    ADD,
    *PAIR_KINDS,
    *POOL_KINDS,
    MEAN,
    RESIZE,
    SOFTMAX,
    TABLE,
    CHANNEL_TABLES,
    *CONVERSION_KINDS,
    *WIDE_KINDS,
    *RECURRENT_KINDS,
)
