# SPDX-License-Identifier: Apache-2.0
"""`bittern bench few-bits`: how well a trained network keeps its accuracy below 8 bits, by rounding."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bittern.cli.errors import Misused, unknown

if TYPE_CHECKING:
    from bittern.ptq import Bits


def few_bits(
    data: Annotated[Path, typer.Option(help="Folder of data sets and trained networks, with a ResNet-20.")],
    bits: Annotated[
        list[str] | None, typer.Option(help="Such as W4A4; may be given again. [default: W4A8, W4A4 and W2A4]")
    ] = None,
    rounding: Annotated[
        list[str] | None, typer.Option(help="nearest, AdaRound, BRECQ or QDrop; may be given again. [default: all]")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="May be given again. [default: 0, 1 and 2]")] = None,
    calibration: Annotated[int, typer.Option(min=1, help="Training images to calibrate on.")] = 512,
    iterations: Annotated[int, typer.Option(min=1, help="For each part that is rounded.")] = 500,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Quantize a trained ResNet-20 below 8 bits, rounded in several ways: accuracy on all test images, and bytes."""
    from bittern.bench.integers import few_bits as bench
    from bittern.cli.screen import screen

    known = {name.lower(): name for name in bench.ROUNDINGS}
    for name in rounding or ():
        if name.lower() not in known:
            raise unknown("rounding", name, known)
    with screen(stderr=True).status("quantizing") as status:
        result = bench.run(
            data,
            command=shlex.join(["bittern", *sys.argv[1:]]),
            setting=bench.Setting(
                widths=_widths(bits) if bits else bench.WIDTHS,
                roundings=[known[name.lower()] for name in rounding or known],
                seeds=seed or (0, 1, 2),
                calibration=calibration,
                iterations=iterations,
            ),
            on_row=lambda row: status.update(f"quantizing, {row}"),
        )
    typer.echo(result.to_json() if as_json else str(result))


def _widths(texts: Sequence[str]) -> list[Bits]:
    """Raises: Misused."""
    import re

    from bittern.ptq import Bits

    found = [re.fullmatch(r"W([2-8])A([2-8])", text.upper()) for text in texts]
    wrong = next((text for text, match in zip(texts, found, strict=True) if match is None), None)
    if wrong is not None:
        raise Misused(f"--bits {wrong!r} must be the bits of weights and of inputs, 2 to 8, as in W4A8")
    return [Bits(int(match[1]), int(match[2])) for match in found if match is not None]
