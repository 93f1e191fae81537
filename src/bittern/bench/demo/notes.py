# SPDX-License-Identifier: Apache-2.0
"""The end of the report: how it was measured, what it does not show, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bittern.bench.core.words import plural
from bittern.bench.demo.result import NOISE_LIMIT, DemoResult

LIMITS = """<section aria-labelledby="limits">
<h2 id="limits">What it does not show</h2>
<ul class="limits">
<li>Which method is best. The digits are easy, the training is short, the seed is one, and the papers train some methods
in ways that this recipe leaves out (two stages, a teacher, hundreds of epochs).</li>
<li>The speed of large networks. Here the images are tiny, so the fixed cost of each call weighs more than it would
elsewhere. <code>bittern bench ops</code> measures larger layers.</li>
</ul>
</section>"""


def noise_text(result: DemoResult) -> str:
    """What a noisy machine means for the figures."""
    return (
        f"The machine was busy with other things: timings that were repeated at once differed by {result.noise:.0%}, "
        f"and above {NOISE_LIMIT:.0%} no speed is told. Run it again on a quiet machine."
    )


def notes(result: DemoResult, commands: Sequence[str]) -> str:
    """Sections of HTML."""
    facts = {
        "Command": f"<code>{escape(result.command)}</code>",
        "Data": escape(_data(result)),
        "Network": escape(result.network),
        "Training": escape(_training(result)),
        "Exact": escape(_exact(result)),
        "Latency": escape(_latency(result)),
        "File": "the packed safetensors file with its program; float32 is stored in the same format.",
        "Machine": escape(_machine(result)),
        "Versions": escape(_versions(result)),
        "Run": escape(f"started {result.started}, took {result.seconds:.0f} s"),
    }
    listed = "\n".join(f"<div><dt>{name}</dt><dd>{fact}</dd></div>" for name, fact in facts.items())
    how = f'<section aria-labelledby="how">\n<h2 id="how">How it was measured</h2>\n<dl class="facts">\n{listed}\n</dl>'
    return f"{how}\n</section>\n{LIMITS}\n{_next(commands)}"


def _next(commands: Sequence[str]) -> str:
    if not commands:
        return ""
    lines = "\n".join(escape(command) for command in commands)
    return f"""<section aria-labelledby="next">
<h2 id="next">Next</h2>
<p>The packed networks and three images lie beside this page. Run one, look inside, test it, write it as C, train
another; type these where the demo was started:</p>
<pre class="next" tabindex="0"><code>{lines}</code></pre>
</section>"""


def _data(result: DemoResult) -> str:
    return (
        f"{result.data}: 8 × 8 pixels, {result.train_images:,} images to train on, {result.test_images:,} to test; "
        "they come with Bittern, nothing was downloaded."
    )


def _training(result: DemoResult) -> str:
    recipe = result.settings.recipe()
    return (
        f"{plural(recipe.epochs, 'epoch')} of AdamW, batch {recipe.batch_size}, learning rate {recipe.learning_rate:g} "
        f"with warm-up and cosine decay, seed {recipe.seed}; the same for every network, tuned for none of them."
    )


def _exact(result: DemoResult) -> str:
    identical = sum(row.logits_identical for row in result.methods)
    gap = max(row.max_difference for row in result.rows)
    largest = f"; the largest difference was {gap:.1e}" if gap else ""
    return (
        "on every test image, all integer sums inside all binary layers of the packed model equal those of the "
        f"training graph, and the outputs agree within rounding. For {identical} of {len(result.methods)} methods the "
        f"outputs were equal bit for bit{largest}."
    )


def _latency(result: DemoResult) -> str:
    repeated = len(result.methods[0].latencies[0].repeated)
    layouts = [f"{one.layout} for {plural(one.batch, 'image')}" for one in result.methods[0].latencies]
    return (
        f"the median of many calls on {plural(result.settings.threads, 'thread')}, packed model and float32 in turn in "
        "one process. Float32 is the same network as torch runs it call by call (eager mode, not compiled), in the "
        f"faster of torch's two memory layouts ({', '.join(layouts)}). Each comparison was made {repeated} times; "
        f"the results differed by {result.noise:.0%}."
    )


def _machine(result: DemoResult) -> str:
    machine = result.machine
    return f"{machine.cpu}, {plural(machine.cores, 'logical core')}; kernels compiled for {machine.isa}"


def _versions(result: DemoResult) -> str:
    machine = result.machine
    return f"bittern {machine.bittern}, torch {machine.torch}, Python {machine.python}, {machine.system}"
