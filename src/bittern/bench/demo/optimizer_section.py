# SPDX-License-Identifier: Apache-2.0
"""The report's section on optimizers: how large their states are, how long a step takes, what training makes of it."""

from __future__ import annotations

from bittern.bench.core.words import duration
from bittern.bench.demo.plots import curve
from bittern.bench.demo.result import DemoResult, OptimizerRow


def optimizers(result: DemoResult) -> str:
    """A table with a bar per storage, and the losses beside those of 32 bits."""
    if not result.optimizers:
        return ""
    largest = max(row.bytes_per_param for row in result.optimizers)
    lines = "\n".join(_line(row, largest, noisy=result.noisy) for row in result.optimizers)
    compared = "; the small figures compare with torch's fused float32 AdamW, called in turn"
    compared = "" if result.noisy else compared
    return f"""<section aria-labelledby="optimizers">
<h2 id="optimizers">Optimizer states in 8 and 4 bits</h2>
<p>AdamW keeps two numbers per parameter. <code>bittern.optim</code> stores them in 32, 8 or 4 bits; the update itself
is float32. Times are those of one step of a large tensor{compared}.</p>
<div class="table" role="region" aria-labelledby="optimizers" tabindex="0">
<table>
<caption>Memory and time of AdamW by the bits of its states</caption>
<thead><tr><th scope="col">States</th><th scope="col">Bytes per parameter</th><th scope="col">One step</th>\
<th scope="col">Last loss</th></tr></thead>
<tbody>
{lines}
</tbody>
</table>
</div>
<p>A small transformer on the characters of made-up sentences, the same weights and batches for each. The thin line is
32 bits.</p>
<div class="curves">
{"".join(_figure(row, result.optimizers[0]) for row in result.optimizers)}
</div>
</section>"""


def _line(row: OptimizerRow, largest: float, *, noisy: bool) -> str:
    width = 100 * row.bytes_per_param / largest
    bar = f'<div class="bar" style="width:{width:.1f}%"></div>'
    ratio = "" if noisy else f"<small>{row.speedup.median:.1f}×</small>"
    return (
        f'<tr><th scope="row">{row.bits} bits</th><td><span>{row.bytes_per_param:.2f}</span>{bar}</td>'
        f"<td><span>{duration(row.step_us.median)}</span>{ratio}</td>"
        f"<td><span>{_last(row):.3f}</span></td></tr>"
    )


def _figure(row: OptimizerRow, baseline: OptimizerRow) -> str:
    name = f"{row.bits} bits"
    drawing = curve(
        f"optimizer{row.bits}",
        f"Training loss with states of {name}",
        f"The last loss is {_last(row):.3f}.",
        row.losses,
        baseline.losses,
    )
    return f"<figure><figcaption><h3>{name}</h3><p>{_last(row):.3f}</p></figcaption>{drawing}</figure>"


def _last(row: OptimizerRow) -> float:
    """Mean of the last tenth of the steps."""
    tail = row.losses[-max(1, len(row.losses) // 10) :]
    return sum(tail) / len(tail)
