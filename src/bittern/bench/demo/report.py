# SPDX-License-Identifier: Apache-2.0
"""The demo's report: one HTML file with everything in it, made of a `DemoResult` and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bittern._files import write_atomically
from bittern.bench.core.frame import page
from bittern.bench.core.store import save
from bittern.bench.core.words import breakable, duration, number_word, percent, plural, size
from bittern.bench.demo.notes import noise_text, notes
from bittern.bench.demo.optimizer_section import optimizers
from bittern.bench.demo.plots import Dot, accuracy_axis, curve, dots, linear_axis, share_interval
from bittern.bench.demo.result import FLOAT, DemoResult, Row

FILE_NAME = "index.html"
DATA_NAME = "results.json"
BASELINE_NAME = "float32"
"""What readers see for `FLOAT`."""


def write(result: DemoResult, folder: Path, commands: Sequence[str] = ()) -> Path:
    """Write `folder`/index.html, and results.json with the same figures; makes the folder. Returns the page's path.

    commands: what the page says to try next.

    Raises: OSError, with the file that was there before left whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    write_atomically(path, render(result, commands).encode())
    save(folder / DATA_NAME, result)
    return path


def render(result: DemoResult, commands: Sequence[str] = ()) -> str:
    """The page. Equal results give equal text; every text from outside is escaped."""
    title = f"Bittern: {number_word(len(result.methods))} binary networks against float32"
    footer = "<footer><p>Written by <code>bittern demo</code>. This page is one file and loads nothing.</p></footer>"
    figures = (_tiles(result), _table(result), _plots(result), _curves(result), optimizers(result))
    parts = (_header(result), *figures, notes(result, commands), footer)
    body = "\n".join(parts)
    return page(title, escape(result.machine.bittern), f"<main>\n{body}\n</main>")


def _header(result: DemoResult) -> str:
    count = number_word(len(result.methods))
    quick = " This was a quick run, to see that everything works: its figures mean nothing."
    return f"""<header>
<p class="eyebrow">Bittern demo report</p>
<h1>{count.capitalize()} binary networks against float32</h1>
<p class="lead">One small convolutional network, trained {count} times with weights and activations of one bit, once per
published method, and once in float32. Each was packed into a file, checked against its training graph and
timed.{quick if result.settings.quick else ""}</p>
</header>"""


def _tiles(result: DemoResult) -> str:
    """The answers in four figures, and an alarm where a model is not exact or the machine was too busy to time it."""
    exact = sum(row.exact for row in result.methods)
    compared = sum(row.accumulators for row in result.methods)
    tiles = [
        (
            f"{exact} of {len(result.methods)}",
            f"packed models give the answers of the network that was trained, in all {compared:,} integers compared",
        ),
        _smaller(result, "the weights of the binary layers", [row.binary_bytes for row in result.rows]),
        _smaller(result, "whole files, by median", [row.stored_bytes for row in result.rows]),
    ]
    if not result.noisy:
        tiles.append(_faster(result))
    items = "\n".join(f'<div class="tile"><dt>{escape(text)}</dt><dd>{figure}</dd></div>' for figure, text in tiles)
    return f'{_alarms(result)}<dl class="tiles">\n{items}\n</dl>'


def _smaller(result: DemoResult, what: str, sizes: Sequence[int]) -> tuple[str, str]:
    """(figure, text) of the baseline's size over the methods' median."""
    typical = int(statistics.median(sizes[1:]))
    return f"{sizes[0] / typical:.0f}× smaller", f"{what}: {size(typical)} instead of {size(sizes[0])}"


def _faster(result: DemoResult) -> tuple[str, str]:
    """(figure, text) of the speed on one image; other batches stand in the table."""
    batch = _batches(result)[0]
    ratios = [row.latencies[0].speedup.median for row in result.methods]
    load = "one image at a time" if batch == 1 else f"{batch} images at a time"
    accuracies = [row.accuracy for row in result.methods]
    return (
        f"{statistics.median(ratios):.1f}× as fast",
        f"{load}, by median ({min(ratios):.1f}× to {max(ratios):.1f}×), at {percent(statistics.median(accuracies))} "
        f"accuracy instead of {percent(result.baseline.accuracy)}",
    )


def _alarms(result: DemoResult) -> str:
    text = ""
    if not result.exact:
        wrong = ", ".join(_network_name(row.name) for row in result.rows if not row.exact)
        text += f'<p class="failure" role="alert">Not exact: {escape(wrong)}. This is a bug; please report it.</p>\n'
    if result.noisy:
        text += f'<p class="notice" role="note">{escape(noise_text(result))}</p>\n'
    return text


def _table(result: DemoResult) -> str:
    times = "".join(f'<th scope="col">{plural(batch, "image")}</th>' for batch in _batches(result))
    rows = "\n".join(_table_row(result, row) for row in result.rows)
    faster = "" if result.noisy else ", and how many times as fast when both are called in turn"
    return f"""<section aria-labelledby="results">
<h2 id="results">Results</h2>
<p>Accuracy is that of the packed model on {result.test_images:,} test images, times are per call. The small figures
compare with float32: how many times smaller{faster}.</p>
<div class="table" role="region" aria-labelledby="results" tabindex="0">
<table>
<caption>Accuracy, file size, latency and exactness of every method</caption>
<thead><tr><th scope="col">Method</th><th scope="col">Accuracy</th><th scope="col">File</th>{times}\
<th scope="col">Exact</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
</section>"""


def _table_row(result: DemoResult, row: Row) -> str:
    cells = [_cell(percent(row.accuracy))]
    if row.name == FLOAT:
        cells.append(_cell(size(row.stored_bytes)))
        cells += [_cell(duration(_float_us(result, i))) for i in range(len(_batches(result)))]
        cells.append('<td><span aria-label="reference">–</span></td>')
    else:
        cells.append(_cell(size(row.stored_bytes), f"{result.baseline.stored_bytes / row.stored_bytes:.0f}×"))
        for one in row.latencies:
            cells.append(_cell(duration(one.packed_us.median), "" if result.noisy else f"{one.speedup.median:.1f}×"))
        cells.append(f'<td><span class="{"yes" if row.exact else "no"}">{"yes" if row.exact else "NO"}</span></td>')
    kind = ' class="float"' if row.name == FLOAT else ""
    return f'<tr{kind}><th scope="row">{breakable(_network_name(row.name))}</th>{"".join(cells)}</tr>'


def _cell(value: str, note: str = "") -> str:
    return f"<td><span>{value}</span>{f'<small>{note}</small>' if note else ''}</td>"


def _plots(result: DemoResult) -> str:
    """Accuracy beside latency, network by network in the same order."""
    drawings = [_accuracy_plot(result), _latency_plot(result)]
    return f"""<section aria-labelledby="tradeoffs">
<h2 id="tradeoffs">What one bit costs, and what it buys</h2>
<p>Intervals that overlap tell no order: read the distance between the methods and float32, not the order of the
methods. Another seed moves an accuracy by several images, which the intervals leave out.</p>
<div class="plots">
{"".join(drawings)}</div>
</section>"""


def _accuracy_plot(result: DemoResult) -> str:
    rows = []
    for row in result.rows:
        low, high = share_interval(row.accuracy, result.test_images)
        name = _network_name(row.name)
        rows.append(Dot(name, row.accuracy, low, high, percent(row.accuracy), row.name == FLOAT))
    axis = accuracy_axis([end for row in rows for end in (row.low, row.high)])
    words = "; ".join(f"{r.name}: {r.text} ({percent(r.low)} to {percent(r.high)})" for r in rows) + "."
    return _figure(
        "Accuracy",
        f"On {result.test_images:,} test images, with the 95 % interval that so few leave. Right is better.",
        dots("accuracy", "Test accuracy of every network", words, rows, axis),
    )


def _latency_plot(result: DemoResult) -> str:
    """Of the first batch size: the others stand in the table, and their plots look alike."""
    batch = plural(_batches(result)[0], "image")
    firsts = [row.latencies[0] for row in result.methods]
    low = statistics.median(one.float_half_us.low for one in firsts)
    high = statistics.median(one.float_half_us.high for one in firsts)
    us = _float_us(result, 0)
    rows = [Dot(_network_name(FLOAT), us, low, high, duration(us), True)]
    for row, one in zip(result.methods, firsts, strict=True):
        us, half = one.packed_us.median, one.packed_half_us
        rows.append(Dot(_network_name(row.name), us, half.low, half.high, duration(us), False))
    words = "; ".join(f"{r.name}: {r.text} ({duration(r.low)} to {duration(r.high)})" for r in rows) + "."
    return _figure(
        f"Latency, {batch}",
        "Median time of a call; half of the calls lie in the interval. Left is better.",
        dots(
            "latency",
            f"Latency of every network, {batch}",
            words,
            rows,
            linear_axis("microseconds per call", max(row.high for row in rows)),
        ),
    )


def _figure(title: str, note: str, drawing: str) -> str:
    return f"<figure><figcaption><h3>{title}</h3><p>{note}</p></figcaption>{drawing}</figure>\n"


def _curves(result: DemoResult) -> str:
    figures = []
    for i, row in enumerate(result.rows):
        name = _network_name(row.name)
        epochs = "; ".join(f"epoch {epoch}: {percent(share)}" for epoch, share in enumerate(row.accuracies, 1))
        drawing = curve(
            f"curve{i}", f"Training loss of {name}", f"Test accuracy: {epochs}.", row.losses, result.baseline.losses
        )
        caption = f"<figcaption><h3>{escape(name)}</h3><p>{percent(row.accuracies[-1])}</p></figcaption>"
        figures.append(f"<figure>{caption}{drawing}</figure>")
    return f"""<section aria-labelledby="training">
<h2 id="training">Training</h2>
<p>Cross-entropy of the training batches, on a log scale, as a running mean. The thin line in each panel is float32.
Beside each name: the test accuracy after the last epoch.</p>
<div class="curves">
{"".join(figures)}
</div>
</section>"""


def _batches(result: DemoResult) -> list[int]:
    """Batch sizes that were timed."""
    return [latency.batch for latency in result.methods[0].latencies]


def _float_us(result: DemoResult, i: int) -> float:
    """Of the baseline at the i-th batch size: the median over its comparisons with all methods."""
    return statistics.median(row.latencies[i].float_us.median for row in result.methods)


def _network_name(name: str) -> str:
    """What readers see for the name of a row: that of the float twin says its numbers."""
    return BASELINE_NAME if name == FLOAT else name
