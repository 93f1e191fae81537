# SPDX-License-Identifier: Apache-2.0
"""Values whose channels lie in pieces: concatenations that nothing has to write.

In a dense network (BinaryDenseNet, MeliusNet) every layer appends channels to those before, and the next one takes the
signs of all of them. Written out, a stage of n layers copies n^2 / 2 pieces. But signs, with an affine map in front or
not, go channel by channel: the bits of a concatenation are those of its pieces, one behind the other. And a slice that
ends where a piece does is some of the pieces. So what only signs and slices read need not be there as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping

from bittern.deploy.form import Form
from bittern.deploy.kinds.kind import IMAGE_DIMS, integer
from bittern.deploy.program import Node, Program

Forms = Mapping[int, Form]
Pieces = Mapping[int, tuple[int, ...]]
"""By value, the values whose channels follow each other in it; a value that is not here is one piece, itself."""


def find_pieces(program: Program, forms: Forms) -> dict[int, tuple[int, ...]]:
    """The pieces of each concatenation of channels of real images, and of slices between them."""
    found: dict[int, tuple[int, ...]] = {}
    for node in program.nodes:
        if not _is_image(forms, node.output):
            continue
        if node.kind == "concatenate" and integer(node, "dim") % IMAGE_DIMS == 1:
            found[node.output] = tuple(piece for value in node.inputs for piece in found.get(value, (value,)))
        elif (bounds := _channels_of_slice(node, forms)) is not None:
            pieces = _between(found.get(node.inputs[0], ()), forms, *bounds)
            if pieces:
                found[node.output] = pieces
    return found


def _is_image(forms: Forms, value: int) -> bool:
    form = forms[value]
    return len(form.shape) == IMAGE_DIMS and form.type == "real"


def _channels_of_slice(node: Node, forms: Forms) -> tuple[int, int] | None:
    """(first, end) of the channels that a node takes of an image; None: it is no slice of neighbouring channels."""
    if node.kind != "aten" or node.attrs["operator"] != "slice.Tensor":
        return None
    arguments = node.attrs["arguments"]
    if not isinstance(arguments, list) or len(arguments) != SLICE_ARGUMENTS:
        return None
    _, dim, first, end, step = arguments
    if not all(isinstance(number, int) for number in (dim, first, end, step)) or dim % IMAGE_DIMS != 1 or step != 1:
        return None
    channels = forms[node.inputs[0]].shape[1]
    start, stop, _ = slice(first, end).indices(channels)
    return start, max(start, stop)


SLICE_ARGUMENTS = 5
"""tensor, dimension, first, end, step."""


def _between(pieces: tuple[int, ...], forms: Forms, first: int, end: int) -> tuple[int, ...]:
    """The pieces that make up the channels from first to end; () where one of them begins or ends within a piece."""
    place, taken = 0, []
    for piece in pieces:
        channels = forms[piece].shape[1]
        if place >= first and place + channels <= end:
            taken.append(piece)
        elif place + channels > first and place < end:
            return ()
        place += channels
    return tuple(taken)
