"""The demo's report: one HTML file with everything in it, made of a `DemoResult` and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bittern._files import write_atomically
from bittern.bench.demo import FLOAT, DemoResult, Latency, Row
from bittern.bench.report_page import page
from bittern.bench.report_plots import Point, bytes_axis, curve, linear_axis, scatter

FILE_NAME = "index.html"
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
BASELINE_NAME = "float32"
"""What readers see for `FLOAT`."""


def write(result: DemoResult, folder: Path) -> Path:
    """Write `folder`/index.html, making the folder; all or nothing. Returns its path. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    write_atomically(path, render(result).encode())
    return path


def render(result: DemoResult) -> str:
    """The page. Equal results give equal text; every text from outside is escaped."""
    body = "\n".join(
        (_header(result), _tiles(result), _table(result), _plots(result), _curves(result), _method(result), _footer())
    )
    return page(f"Bittern: {_count(result.methods)} binary networks against float", escape(result.machine.bittern), body)


def _header(result: DemoResult) -> str:
    count = _count(result.methods)
    tone = "" if not result.settings.quick else " This was a quick run, to see that everything works: ignore its figures."
    return f"""<header>
<p class="eyebrow">Bittern demo report</p>
<h1>{count.capitalize()} binary networks against float32</h1>
<p class="lead">One small convolutional network, trained {count} times with weights and activations of one bit, once per
published method, and once in float32. Each was packed into a file, checked against its training graph and timed.{tone}</p>
</header>"""


def _tiles(result: DemoResult) -> str:
    exact = sum(row.exact for row in result.methods)
    smaller = [result.baseline.stored_bytes / row.stored_bytes for row in result.methods]
    tiles = [
        (
            f"{exact} of {len(result.methods)}",
            f"packed models give the answers of the network that was trained, in {_checked(result):,} compared integers",
        ),
        (
            f"{statistics.median(smaller):.0f}× smaller",
            f"files: {_size(int(statistics.median(row.stored_bytes for row in result.methods)))} "
            f"instead of {_size(result.baseline.stored_bytes)} (median method)",
        ),
    ]
    latencies = [row.latencies for row in result.methods]
    for column in zip(*latencies, strict=True):
        ratios = [latency.speedup.median for latency in column]
        batch = column[0].batch
        tiles.append(
            (
                f"{statistics.median(ratios):.1f}× as fast",
                f"{'for one image' if batch == 1 else f'for {batch} images at once'} "
                f"({min(ratios):.1f}× to {max(ratios):.1f}×, by method)",
            )
        )
    items = "\n".join(f'<div class="tile"><dt>{escape(text)}</dt><dd>{number}</dd></div>' for number, text in tiles)
    failure = ""
    if not result.exact:
        wrong = ", ".join(_name(row) for row in result.rows if not row.exact)
        failure = f'<p class="failure" role="alert">Not exact: {escape(wrong)}. This is a bug; please report it.</p>\n'
    return f'{failure}<dl class="tiles">\n{items}\n</dl>'


def _table(result: DemoResult) -> str:
    batches = [latency.batch for latency in result.methods[0].latencies] if result.methods else []
    times = "".join(f'<th scope="col">{_images(batch)}</th>' for batch in batches)
    rows = "\n".join(_table_row(result, row) for row in result.rows)
    return f"""<section aria-labelledby="results">
<h2 id="results">Results</h2>
<p>Accuracy is that of the packed model on {result.test_images} test images. Times are per call; below them the
speed compared with float32, called in turn on the same input.</p>
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
    baseline = row.name == FLOAT
    cells = [f"<td><span>{100 * row.accuracy:.1f}%</span></td>"]
    ratio = f"{result.baseline.stored_bytes / row.stored_bytes:.0f}× smaller"
    cells.append(_two(_size(row.stored_bytes), "" if baseline else ratio))
    if baseline:
        cells += [_two(_time(_float_us(result, i)), "") for i in range(len(_batches(result)))]
        cells.append('<td><span aria-label="reference">–</span></td>')
    else:
        cells += [_two(_time(latency.packed_us.median), _speed(latency)) for latency in row.latencies]
        cells.append(f'<td><span class="{"yes" if row.exact else "no"}">{"yes" if row.exact else "NO"}</span></td>')
    kind = ' class="float"' if baseline else ""
    return f'<tr{kind}><th scope="row">{_breakable(_name(row))}</th>{"".join(cells)}</tr>'


def _plots(result: DemoResult) -> str:
    accuracy = [(_name(row), row.accuracy, row.name == FLOAT) for row in result.rows]
    sizes = [row.stored_bytes for row in result.rows]
    figures = [
        _figure(
            "Accuracy against size",
            "File size, logarithmic. Left and up is better.",
            scatter(
                "size",
                "Test accuracy against file size",
                _describe(result.rows, [_size(size) for size in sizes]),
                [Point(name, size, y, base) for (name, y, base), size in zip(accuracy, sizes, strict=True)],
                bytes_axis("size of the packed file", sizes),
            ),
        )
    ]
    # one batch size: the others stand in the table, and their plots look alike
    for i, batch in enumerate(_batches(result)[:1]):
        times = [_float_us(result, i), *(row.latencies[i].packed_us.median for row in result.methods)]
        figures.append(
            _figure(
                f"Accuracy against latency, {_images(batch)}",
                "Median time of a call, linear from 0. Left and up is better.",
                scatter(
                    f"latency{batch}",
                    f"Test accuracy against latency, {_images(batch)}",
                    _describe(result.rows, [_time(us) for us in times]),
                    [Point(name, us, y, base) for (name, y, base), us in zip(accuracy, times, strict=True)],
                    linear_axis("microseconds per call", max(times)),
                ),
            )
        )
    step = 100 / result.test_images
    return f"""<section aria-labelledby="tradeoffs">
<h2 id="tradeoffs">What one bit costs, and what it buys</h2>
<p>One test image more or less moves an accuracy by {step:.1f} points, and another seed moves it by several images: read
the distance between the methods and float32, not the order of the methods.</p>
<div class="plots">
{"".join(figures)}
</div>
</section>"""


def _figure(title: str, note: str, drawing: str) -> str:
    return f"<figure><figcaption><h3>{title}</h3><p>{note}</p></figcaption>{drawing}</figure>\n"


def _curves(result: DemoResult) -> str:
    figures = []
    for i, row in enumerate(result.rows):
        name, last = _name(row), f"{100 * row.accuracies[-1]:.1f}%"
        told = "; ".join(f"epoch {e}: {100 * a:.1f}%" for e, a in enumerate(row.accuracies, 1))
        drawing = curve(
            f"curve{i}", f"Training loss of {name}", f"Test accuracy: {told}.", row.losses, result.baseline.losses
        )
        figures.append(f"<figure><figcaption><h3>{escape(name)}</h3><p>{last}</p></figcaption>{drawing}</figure>")
    return f"""<section aria-labelledby="training">
<h2 id="training">Training</h2>
<p>Cross-entropy of the training batches, on a log scale, as a running mean. The second line in each panel is float32.
Beside each name: the test accuracy after the last epoch.</p>
<div class="curves">
{"".join(figures)}
</div>
</section>"""


def _method(result: DemoResult) -> str:
    settings, recipe, machine = result.settings, result.settings.recipe(), result.machine
    threads = f"{settings.threads} thread{'s' if settings.threads > 1 else ''}"
    gap = max(row.max_difference for row in result.rows)
    identical = sum(row.logits_identical for row in result.methods)
    facts = [
        ("Command", f"<code>{escape(result.command)}</code>"),
        ("Data", f"{escape(result.data)}: 8 × 8 pixels, {result.train_images:,} images to train on, "
                 f"{result.test_images:,} to test. scikit-learn carries them; nothing was downloaded."),  # fmt: skip
        ("Network", escape(result.network)),
        ("Training", f"{_plural(recipe.epochs, 'epoch')} of AdamW, batch {recipe.batch_size}, learning rate "
                     f"{recipe.learning_rate:g} with warm-up and cosine decay, seed {recipe.seed}. The same for every "
                     "network; nothing was tuned for any of them."),  # fmt: skip
        ("Exact", "means: on every test image, all integer sums inside all binary layers of the packed model equal "
                  "those of the training graph, and the outputs agree within rounding. Outputs were equal bit for bit "
                  f"for {identical} of {len(result.methods)} methods; the largest difference was {gap:.2g}."),  # fmt: skip
        ("Latency", f"median of many calls on {threads}, packed model and float32 in turn in one process. Float32 is the "
                    "same network, run by torch call by call (eager mode, contiguous layout), not compiled."),  # fmt: skip
        ("File", "the packed safetensors file with its program; float32 stored in the same format."),
        ("Machine", escape(f"{machine.cpu}, {_plural(machine.cores, 'logical core')}; kernels: {machine.isa}")),
        ("Versions", escape(f"bittern {machine.bittern}, torch {machine.torch}, Python {machine.python}, "
                            f"{machine.system}")),  # fmt: skip
        ("Run", escape(f"started {result.started}, took {result.seconds:.0f} s")),
    ]  # fmt: skip
    listed = "\n".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in facts)
    return f"""<section aria-labelledby="how">
<h2 id="how">How it was measured</h2>
<dl class="facts">
{listed}
</dl>
</section>
<section aria-labelledby="limits">
<h2 id="limits">What it does not show</h2>
<ul class="limits">
<li>Which method is best. The digits are easy, the training is short, the seed is one, and the papers train some methods
in ways that this recipe leaves out (two stages, a teacher, hundreds of epochs).</li>
<li>The speed of large networks. Here the images are tiny, so the fixed cost of each call weighs more than it would
elsewhere. <code>bittern bench ops</code> measures larger layers.</li>
</ul>
</section>
<section aria-labelledby="next">
<h2 id="next">Next</h2>
<p>Train one of them, pack it and look inside:</p>
<pre class="next"><code>bittern train --method ReActNet --model resnet20_cifar --data digits --folder runs/first
bittern pack runs/first -o first.safetensors
bittern info first.safetensors</code></pre>
</section>"""


def _footer() -> str:
    return "<footer><p>Written by <code>bittern demo</code>. This page is one file and loads nothing.</p></footer>"


def _describe(rows: Sequence[Row], values: Sequence[str]) -> str:
    """The content of a plot in words."""
    points = zip(rows, values, strict=True)
    return "; ".join(f"{_name(row)}: {100 * row.accuracy:.1f}% at {value}" for row, value in points) + "."


def _batches(result: DemoResult) -> list[int]:
    return [latency.batch for latency in result.methods[0].latencies] if result.methods else []


def _float_us(result: DemoResult, i: int) -> float:
    """Of the baseline at the i-th batch size: the median over its comparisons with all methods."""
    return statistics.median(row.latencies[i].float_us.median for row in result.methods)


def _checked(result: DemoResult) -> int:
    return sum(row.accumulators for row in result.methods)


def _name(row: Row) -> str:
    return BASELINE_NAME if row.name == FLOAT else row.name


def _breakable(name: str) -> str:
    """Escaped, with a place to break before capitals that follow small letters: XNORNet-PlusPlus."""
    parts = [name[0]]
    for before, letter in zip(name, name[1:], strict=False):
        parts.append(f"\0{letter}" if letter.isupper() and before.islower() else letter)
    return escape("".join(parts)).replace("\0", "<wbr>")


def _two(value: str, note: str) -> str:
    return f"<td><span>{value}</span>{f'<small>{note}</small>' if note else ''}</td>"


def _speed(latency: Latency) -> str:
    return f"{latency.speedup.median:.1f}×"


def _images(batch: int) -> str:
    return "1 image" if batch == 1 else f"{batch} images"


def _count(rows: Sequence[Row]) -> str:
    return COUNTS[len(rows)] if len(rows) < len(COUNTS) else str(len(rows))


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    """Bytes for a reader, in powers of 1000."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.2f} MB"


def _time(us: float) -> str:
    if us < 1e3:
        return f"{us:.0f} µs"
    return f"{us / 1e3:.2f} ms" if us < 1e4 else f"{us / 1e3:.1f} ms"
