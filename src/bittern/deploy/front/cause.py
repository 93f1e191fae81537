# SPDX-License-Identifier: Apache-2.0
"""What stopped an export, in one sentence."""

from __future__ import annotations

from bittern.deploy.errors import PackError
from bittern.deploy.front.example import Example
from bittern.deploy.front.limits import violated
from bittern.deploy.front.where import place_of_error
from bittern.deploy.size_expression import BATCH
from bittern.deploy.unseen import describe_failure


def fixes_batch(error: BaseException) -> bool:
    """Whether torch.export found the number of samples to be a constant."""
    names = violated(error)
    return BATCH in names if names else "specialized" in str(error)


def cause(error: BaseException, guarded: str) -> str:
    """What stopped the export, and where in the user's code. guarded: where the number of samples was fixed."""
    text, place = str(error), place_of_error(error)
    if fixes_batch(error):
        return (
            "its answer depends on the size of the batch; write x.size(0), x.flatten(1) or -1 where the forward or a "
            "buffer of it holds the number of samples of the example, and take two batches in one apart by x.size(0), "
            f"not by len(x), as in both.split(x.size(0)){place or guarded}"
        )
    if "data-dependent" in text or "GuardOnDataDependent" in type(error).__name__:
        said = describe_failure(error)
        return f"its forward branches on values of tensors, which no program does{place}; torch says: {said}"
    return f"{describe_failure(error)}{place}"


def failure(example: Example, error: Exception) -> PackError:
    """What to say where the model itself fails on the example."""
    shapes = ", ".join(str(list(x.shape)) for x in example.tensors)
    what = f"an input {shapes}" if len(example.tensors) == 1 else f"inputs {shapes}"
    return PackError(
        f"pack: the model fails on {what}: {describe_failure(error)}{place_of_error(error)}; give pack an example of "
        "what it takes, in batches of any size"
    )
