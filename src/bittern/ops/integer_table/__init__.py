# SPDX-License-Identifier: Apache-2.0
"""integer_table: int8 to int8 by a table of all 256 numbers, entry x + 128: any function of one number at fixed scales.

Not called by itself: a step of a native program, made by `integer_table_step`; `integer_table` runs it alone.
"""

from bittern.ops.integer_table.cpu import integer_table, integer_table_step
from bittern.ops.integer_table.reference import integer_table_reference

__all__ = ["integer_table", "integer_table_reference", "integer_table_step"]
