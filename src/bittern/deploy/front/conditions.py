# SPDX-License-Identifier: Apache-2.0
"""What a model asks of the sizes that the caller has named, while its graph is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bittern.deploy.front.builder import Ref
from bittern.deploy.front.call import Call
from bittern.deploy.front.sizes import NoSize, Size, Symbols, Truth
from bittern.deploy.program import NamedSize
from bittern.deploy.size_expression import BATCH, Condition, SizeError, holds, in_words, names_of

SQUEEZES = ("squeeze.default", "squeeze.dim", "squeeze.dims")

ASSERTED = "_assert_scalar.default"
ASSERTIONS = ("_assert_tensor_metadata.default", ASSERTED, "sym_constrain_range_for_size.default")
"""What torch.export notes of shapes and types; a program has its own checks, but for conditions on sizes."""


class Conditions:
    """Collects them. sizes: the named ones."""

    def __init__(self, symbols: Symbols, sizes: Sequence[NamedSize]) -> None:
        self.found: list[Condition] = []
        self._symbols = symbols
        self._example = {size.name: size.example for size in sizes}

    def of_assertion(self, call: Call) -> None:
        """Those of an assertion of torch.export. Raises: NoSize."""
        truth = call.arguments.get("self") if call.operator == ASSERTED else None
        for condition in truth.conditions if isinstance(truth, Truth) else ():
            self._note(condition)

    def of_squeeze(self, call: Call, metas: Mapping[Ref, Any]) -> None:
        """That named sizes are not 1 where torch.export took it for granted: else they would be dropped."""
        source = call.arguments.get("self") if call.operator in SQUEEZES else None
        if not isinstance(source, Ref) or not self._example:
            return
        shape = self._symbols.shape_of(metas[source])
        dims = call.arguments.get("dim", range(len(shape)))
        for dim in [dims] if isinstance(dims, int) else dims:
            size = shape[dim]
            if isinstance(size, Size) and size.names != {BATCH}:
                self._note(["!=", size.expression, 1])

    def _note(self, condition: Condition) -> None:
        """Raises: NoSize for what does not hold for every batch."""
        try:
            sound = holds(condition, self._example)
        except SizeError:
            sound = False
        if not sound:
            raise NoSize(f"torch.export takes no batch but one with {in_words(condition)}; let it be of any size")
        if names_of(condition) != {BATCH} and condition not in self.found:
            self.found.append(condition)
