# SPDX-License-Identifier: Apache-2.0
"""A report of quantization as one HTML page that loads nothing."""

from __future__ import annotations

import math
from html import escape

from bittern.ptq.report import ROUNDED_HEADS, Report, Row, Spent, bits, decibels, note, rounded_cells, span

LOUD, QUIET = 10.0, 50.0
"""Decibels between which a bar goes from full to nothing: the longer, the noisier."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2125; --paper: #fffefb; --line: #e0dcd2; --bar: #a4550b; --soft: #62666b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e6df; --paper: #131517; --line: #34383c; --bar: #e8a14f; --soft: #a2a29c; }
}
body { margin: 0 auto; max-width: 75rem; padding: 2rem 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
p { color: var(--soft); max-width: 70ch; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.bar { min-width: 7rem; }
td.bar div { height: .7rem; margin-top: .35rem; background: var(--bar); }
tr.float td { color: var(--soft); }
"""

HEADS = (
    ("layer", ""),
    ("kind", ""),
    ("bits", ""),
    ("range", "n"),
    ("scale", "n"),
    ("zero", "n"),
    ("signal/noise", "n"),
    ("noise", ""),
    ("bytes", "n"),
    ("MACs", "n"),
    ("why float", ""),
)


def page(report: Report, title: str) -> str:
    """The whole page."""
    head = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in HEADS)
    body = "\n".join(_row(row) for row in report.rows)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><main><h1>{escape(title)}</h1>
<p>{escape(report.summary)}.</p>
<p>Signal to noise: 10 log10 of the squares of the float network's numbers over those of the differences. A bar is
full at {LOUD:g} dB and gone at {QUIET:g} dB.</p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table></div>{_rounded(report)}{_spent(report.spent)}</main></body></html>
"""


def _spent(spent: Spent | None) -> str:
    """How much each layer suffers from few bits, and which it has."""
    if spent is None:
        return ""
    widths = sorted({bits for row in spent.damages.values() for bits in row})
    heads = ("layer", "bits", *(f"at {bits}" for bits in widths))
    head = "".join(f'<th scope="col" class="{"n" if place else ""}">{name}</th>' for place, name in enumerate(heads))
    rows = "\n".join(
        f"<tr>{_cell((name, ''))}{_cell((str(spent.bits[name]), 'n'))}"
        f"{''.join(_cell((f'{row[bits]:.2g}', 'n')) for bits in widths)}</tr>"
        for name, row in spent.damages.items()
    )
    return f"""
<h2>Bits within the budget</h2>
<p>{escape(str(spent))}. Numbers: what the answers lose, noise over signal, when the weights of that layer alone have so
many bits.</p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>
{rows}
</tbody></table></div>"""


def _rounded(report: Report) -> str:
    """What was rounded together, if any was."""
    if not report.rounded:
        return ""
    head = "".join(f'<th scope="col" class="{"n" if place else ""}">{h}</th>' for place, h in enumerate(ROUNDED_HEADS))
    rows = "\n".join(
        f"<tr>{''.join(map(_cell, zip(rounded_cells(block), ('', 'n', 'n'), strict=True)))}</tr>"
        for block in report.rounded
    )
    return f"""
<h2>Learned rounding</h2>
<p>Mean squared error of what each part gives on the calibration data.</p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>
{rows}
</tbody></table></div>"""


def _row(row: Row) -> str:
    scale = "" if row.scale is None else f"{row.scale:.4g}"
    zero = "" if row.zero is None else str(row.zero)
    share = 0.0 if math.isnan(row.noise_db) else min(max((QUIET - row.noise_db) / (QUIET - LOUD), 0.0), 1.0)
    cells = (
        (row.name, ""),
        (row.kind, ""),
        (bits(row), ""),
        (span(row), "n"),
        (scale, "n"),
        (zero, "n"),
        (decibels(row.noise_db), "n"),
    )
    rest = ((f"{row.bytes:,}", "n"), (f"{row.macs:,}", "n"), (note(row).removeprefix("float: "), ""))
    bar = f'<td class="bar"><div style="width: {share:.1%}"></div></td>'
    own = ' class="float"' if row.reason is not None else ""
    return f"<tr{own}>{''.join(map(_cell, cells))}{bar}{''.join(map(_cell, rest))}</tr>"


def _cell(entry: tuple[str, str]) -> str:
    text, kind = entry
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
