"""The demo's report: one HTML file with everything in it, made of a `DemoResult` and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bittern._files import write_atomically
from bittern.bench.demo_result import FLOAT, DemoResult, Row
from bittern.bench.report_notes import notes
from bittern.bench.report_optim import optimizers
from bittern.bench.report_page import page
from bittern.bench.report_plots import Point, bytes_axis, curve, linear_axis, scatter
from bittern.bench.report_text import breakable, duration, network_name, number_word, percent, plural, size
from bittern.bench.store import save

FILE_NAME = "index.html"
DATA_NAME = "results.json"


def write(result: DemoResult, folder: Path) -> Path:
    """Write `folder`/index.html, and results.json with the same figures; makes the folder. Returns the page's path.

    Raises: OSError, with the file that was there before left whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    write_atomically(path, render(result).encode())
    save(folder / DATA_NAME, result)
    return path


def render(result: DemoResult) -> str:
    """The page. Equal results give equal text; every text from outside is escaped."""
    title = f"Bittern: {number_word(len(result.methods))} binary networks against float32"
    footer = "<footer><p>Written by <code>bittern demo</code>. This page is one file and loads nothing.</p></footer>"
    figures = (_tiles(result), _table(result), _plots(result), _curves(result), optimizers(result))
    parts = (_header(result), *figures, notes(result), footer)
    return page(title, escape(result.machine.bittern), "\n".join(parts))


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
    """The answers in four figures, and an alarm where a model is not exact."""
    exact = sum(row.exact for row in result.methods)
    compared = sum(row.accumulators for row in result.methods)
    sizes = [row.stored_bytes for row in result.methods]
    smaller = statistics.median(result.baseline.stored_bytes / count for count in sizes)
    typical = size(int(statistics.median(sizes)))
    tiles = [
        (
            f"{exact} of {len(result.methods)}",
            f"packed models give the answers of the network that was trained, in all {compared:,} integers compared",
        ),
        (f"{smaller:.0f}× smaller", f"files: {typical} instead of {size(result.baseline.stored_bytes)}, by median"),
    ]
    for i, batch in enumerate(_batches(result)):
        ratios = [row.latencies[i].speedup.median for row in result.methods]
        load = "one image at a time" if batch == 1 else f"{batch} images at a time"
        spread = f"{load}, by median ({min(ratios):.1f}× to {max(ratios):.1f}×)"
        tiles.append((f"{statistics.median(ratios):.1f}× as fast", spread))
    items = "\n".join(f'<div class="tile"><dt>{escape(text)}</dt><dd>{figure}</dd></div>' for figure, text in tiles)
    failure = ""
    if not result.exact:
        wrong = ", ".join(network_name(row.name) for row in result.rows if not row.exact)
        failure = f'<p class="failure" role="alert">Not exact: {escape(wrong)}. This is a bug; please report it.</p>\n'
    return f'{failure}<dl class="tiles">\n{items}\n</dl>'


def _table(result: DemoResult) -> str:
    times = "".join(f'<th scope="col">{plural(batch, "image")}</th>' for batch in _batches(result))
    rows = "\n".join(_table_row(result, row) for row in result.rows)
    return f"""<section aria-labelledby="results">
<h2 id="results">Results</h2>
<p>Accuracy is that of the packed model on {result.test_images:,} test images, times are per call. The small figures
compare with float32: how many times smaller, and how many times as fast when both are called in turn.</p>
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
        cells += [_cell(duration(one.packed_us.median), f"{one.speedup.median:.1f}×") for one in row.latencies]
        cells.append(f'<td><span class="{"yes" if row.exact else "no"}">{"yes" if row.exact else "NO"}</span></td>')
    kind = ' class="float"' if row.name == FLOAT else ""
    return f'<tr{kind}><th scope="row">{breakable(network_name(row.name))}</th>{"".join(cells)}</tr>'


def _cell(value: str, note: str = "") -> str:
    return f"<td><span>{value}</span>{f'<small>{note}</small>' if note else ''}</td>"


def _plots(result: DemoResult) -> str:
    sizes = [row.stored_bytes for row in result.rows]
    drawings = [
        _figure(
            "Accuracy against size",
            "Size of the packed file, on a log scale. Left and up is better.",
            scatter(
                "size",
                "Test accuracy against file size",
                _describe(result.rows, [size(count) for count in sizes]),
                _points(result.rows, sizes),
                bytes_axis("size of the file", sizes),
            ),
        )
    ]
    # one batch size: the others stand in the table, and their plots look alike
    for i, batch in enumerate(_batches(result)[:1]):
        times = [_float_us(result, i), *(row.latencies[i].packed_us.median for row in result.methods)]
        drawings.append(
            _figure(
                f"Accuracy against latency, {plural(batch, 'image')}",
                "Median time of a call. Left and up is better.",
                scatter(
                    f"latency{batch}",
                    f"Test accuracy against latency, {plural(batch, 'image')}",
                    _describe(result.rows, [duration(us) for us in times]),
                    _points(result.rows, times),
                    linear_axis("microseconds per call", max(times)),
                ),
            )
        )
    return f"""<section aria-labelledby="tradeoffs">
<h2 id="tradeoffs">What one bit costs, and what it buys</h2>
<p>One test image more or less moves an accuracy by {100 / result.test_images:.1f} points, and another seed moves it by
several images: read the distance between the methods and float32, not the order of the methods.</p>
<div class="plots">
{"".join(drawings)}</div>
</section>"""


def _figure(title: str, note: str, drawing: str) -> str:
    return f"<figure><figcaption><h3>{title}</h3><p>{note}</p></figcaption>{drawing}</figure>\n"


def _points(rows: Sequence[Row], xs: Sequence[float]) -> list[Point]:
    return [Point(network_name(r.name), x, r.accuracy, r.name == FLOAT) for r, x in zip(rows, xs, strict=True)]


def _describe(rows: Sequence[Row], values: Sequence[str]) -> str:
    """The content of a plot in words."""
    points = zip(rows, values, strict=True)
    return "; ".join(f"{network_name(row.name)}: {percent(row.accuracy)} at {value}" for row, value in points) + "."


def _curves(result: DemoResult) -> str:
    figures = []
    for i, row in enumerate(result.rows):
        name = network_name(row.name)
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
