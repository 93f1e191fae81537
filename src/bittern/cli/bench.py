# SPDX-License-Identifier: Apache-2.0
"""`bittern bench`: the measurements of `bittern.bench`."""

from __future__ import annotations

import typer

from bittern.cli import (
    bench_decode,
    bench_few_bits,
    bench_integers,
    bench_layers,
    bench_methods,
    bench_optim,
    bench_page,
    bench_publish,
    bench_sequences,
    bench_speed,
    bench_store,
    bench_trials,
)

app = typer.Typer(help="Measure: kernels against torch, and every method on one recipe.")
app.command()(bench_trials.run)
app.command()(bench_trials.quick)
app.command()(bench_store.ls)
app.command()(bench_store.show)
app.command()(bench_store.compare)
app.command()(bench_store.merge)
app.command()(bench_store.export)
app.command()(bench_page.report)
app.command()(bench_publish.publish)
app.command()(bench_speed.ops)
app.command()(bench_speed.speed)
app.command()(bench_integers.integers)
app.command()(bench_few_bits.few_bits)
app.command()(bench_layers.weights)
app.command()(bench_layers.train)
app.command()(bench_decode.decode)
app.command()(bench_sequences.sequences)
app.command()(bench_methods.methods)
app.command()(bench_optim.optim)
app.command()(bench_optim.optim_training)
app.command()(bench_optim.optim_rules)
app.command()(bench_optim.optim_ablation)
app.command()(bench_optim.optim_curvature)
app.command()(bench_optim.optim_scales)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
