# SPDX-License-Identifier: Apache-2.0
"""Every kind of real node that has integers: the rule by its name (`rule.kind_of`)."""

from __future__ import annotations

from bittern.ptq.matrices import MATRIX_RULES
from bittern.ptq.moves import MOVE_RULES
from bittern.ptq.pointwise import POINTWISE_RULES
from bittern.ptq.pools import POOL_RULES
from bittern.ptq.products import PRODUCT_RULES
from bittern.ptq.recurrent import RECURRENT_RULES
from bittern.ptq.resize import RESIZE_RULES
from bittern.ptq.rule import Rule

RULES: dict[str, Rule] = {
    **PRODUCT_RULES,
    **MATRIX_RULES,
    **MOVE_RULES,
    **RESIZE_RULES,
    **POOL_RULES,
    **POINTWISE_RULES,
    **RECURRENT_RULES,
}
