# SPDX-License-Identifier: Apache-2.0
"""`python -m bittern.bench.methods.doc`: writes docs/methods.md from the methods themselves.

Everything on the page comes from docstrings, signatures and what the classes do to a small layer, so that it cannot
say something else than the code. A test compares the committed page with a fresh one.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bittern import binary, quant
from bittern._files import write_atomically
from bittern.codes import Ones
from bittern.quantizer import (
    InputCode,
    InputScale,
    LayerShape,
    LevelsCode,
    MultibitCode,
    OnesCode,
    Quantizer,
    RealCode,
    RowCode,
    StepsCode,
    WholeCode,
    input_codes,
    weight_codes,
    weight_terms,
)
from bittern.recipes import PaperRecipe, for_method
from bittern.recipes.published import NONE_READ
from bittern.start import GlorotNormal, HeNormal, Normal, RandomSigns, Uniform, WideUniform
from bittern.train import Constant, Cosine, Exponential, Linear, Steps

METHODS: tuple[type[Quantizer], ...] = (*binary.ALL, *binary.LATENT_FREE, *quant.ALL)
"""All that come with bittern."""
PAGE = Path("docs") / "methods.md"
"""Relative to the root of the repository, where the command runs."""
SHAPE = LayerShape((6, 4, 3, 3))
"""A layer small enough to look at, whose sizes all differ."""
OUTPUT = (1, 6, 5, 5)
START: dict[type, str] = {
    type(None): "as the network starts its real weights",
    Uniform: "U(-{start.bound:g}, {start.bound:g})",
    HeNormal: "N(0, 2 / fan_{start.fan})",
    GlorotNormal: "N(0, 2 / (fan_in + fan_out))",
    WideUniform: "U(-b, b), b = max(sqrt(3 / fan_in), {start.least:g})",
    Normal: "N(0, {start.std:g}^2)",
    RandomSigns: "-1 or +1 at random",
}
"""Starts in words."""
HEADINGS = ("Differences", "Errors", "Source")
"""Words that open a part of a method's docstring, in this order, after what it computes."""

INTRO = """# Methods

<!-- Written by `python -m bittern.bench.methods.doc`; do not edit. A test fails when this page is stale. -->

A method is a class that a layer or model takes as `method=`; `functools.partial(cls, option=...)` sets its options.
"Backward" gives the estimator that stands in for the derivative of the sign; "Differences" tells where the paper, the
authors' published code and this library part; where a method offers both, the paper's variant is the default. Each
source is linked in the table. Methods of `bittern.binary` quantize weights and inputs; so do those of `bittern.quant`,
but for those whose input is "real", which quantize weights alone.

sign(0) = +1 everywhere here, in training and packed. "Recipe" says how the authors train, from the file that is named;
`bittern.recipes` holds it as data, and `bittern train --recipe paper` follows it. Latent weights start as each method
says. A converted network keeps the weights that it had; `bittern.nn.start_latent_weights` draws them anew.
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says of one method."""

    name: str
    title: str
    """First line of the module: paper and idea."""
    sentence: str
    arxiv: str | None
    source: str
    year: int
    bits: str
    weight_scale: str
    activation: str
    schedule: bool
    clip_latent: str
    start: str
    """Latent weights at the start."""
    options: tuple[tuple[str, str, str], ...]
    """(name, default, what it takes)."""
    formulas: str
    """Forward, backward and schedule, as the docstring has them."""
    differences: str


def generate() -> str:
    """The whole page, as Markdown."""
    methods = [facts(method) for method in METHODS]
    rows = ["| method | year | paper | bits (weight/input) | weight scale | activation code | schedule | options |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for f in methods:
        options = ", ".join(f"`{name}`" for name, _, _ in f.options) or "none"
        link = f"[`{f.name}`](#{f.name.lower()})"
        schedule = "`set_progress`" if f.schedule else "none"
        cells = (link, str(f.year), _paper(f), f.bits, f.weight_scale, f.activation, schedule, options)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([INTRO, *rows, *(_section(f) for f in methods)])


def facts(method: type[Quantizer]) -> Facts:
    """Look at one method.

    Raises: ValueError when its docstring lacks a part that the page needs.
    """
    parts = _parts(method)
    sentence, _, formulas = parts[""].partition("\n\n")
    source = parts.get("Source")
    year = re.search(r"arXiv (\d\d)\d\d\.\d{4,5}|\b((?:19|20)\d\d)\b", source or "")
    if source is None or year is None:
        raise ValueError(
            f"{method.__name__}: its docstring must end with 'Source: ' and an arXiv id or a year; got {source!r}"
        )
    arxiv = re.search(r"arXiv (\d{4}\.\d{4,5})", source)
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)  # some methods draw initial values
    example = method(SHAPE).eval()
    weight_scale, activation = _weight_scale(example), _activation(example)
    torch.random.set_rng_state(torch_state)
    module = inspect.getdoc(sys.modules[method.__module__]) or method.__name__
    return Facts(
        name=method.__name__,
        title=module.split("\n", 1)[0],
        sentence=_prose(sentence),
        arxiv=arxiv.group(1) if arxiv else None,
        source=source,
        year=2000 + int(year.group(1)) if year.group(1) else int(year.group(2)),
        bits=f"{sum(c.bits for c in weight_codes(example))}/{sum(c.grid.bits for c in input_codes(example))}",
        weight_scale=weight_scale,
        activation=activation,
        schedule=method.set_progress is not Quantizer.set_progress,
        clip_latent="no" if example.clip_latent is None else f"to ±{example.clip_latent:g} after each step",
        start=START[type(example.start)].format(start=example.start),
        options=_options(method),
        formulas=formulas,
        differences=_prose(parts.get("Differences", "none known.")),
    )


def _parts(method: type[Quantizer]) -> dict[str, str]:
    """The docstring cut at its headings; "" is what stands before the first of them."""
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line in inspect.cleandoc(method.__doc__ or "").splitlines():
        opened = next((h for h in HEADINGS if line.startswith(f"{h}: ")), None)
        if opened is not None:
            heading, line = opened, line.removeprefix(f"{opened}: ")
        found.setdefault(heading, []).append(line)
    return {h: "\n".join(lines).strip() for h, lines in found.items()}


def _weight_scale(example: Quantizer) -> str:
    """Where the scales of the weight live, told from their shape and gradient; the offset is that of a term of ones."""
    w = torch.randn(SHAPE.weight)
    example.output(torch.zeros(OUTPUT))  # XNOR-Net++ takes its sizes from the first output
    factors = example.output_factors()
    if factors:
        axes = ("batch", "out", "height", "width")
        spans = [", ".join(axis for axis, n in zip(axes, f.shape, strict=True) if n > 1) for f in factors]
        return "learned, on the output: " + " x ".join(f"[{span}]" for span in spans)
    gate = example.gate(torch.zeros(OUTPUT[0], SHAPE.in_channels, *OUTPUT[2:]))
    if gate is not None:
        return "computed from the input, on the output: [batch, out]"
    found: list[str] = []
    for code, term in zip(weight_codes(example), weight_terms(example, w), strict=True):
        offset = "offset " if isinstance(code, Ones) else ""
        found.append(offset + _scale_in_words(term.scale))
    same = len(set(found)) == 1 and len(found) > 1
    return f"{found[0]}, in each of {len(found)} terms" if same else "; ".join(found)


def _scale_in_words(scale: Tensor | None) -> str:
    if scale is None:
        return "none"
    kind = "learned, " if scale.requires_grad else ""
    if scale.ndim == 0:
        return f"{kind}one per layer"
    power = not scale.requires_grad and bool(torch.equal(scale.detach().log2(), scale.detach().log2().round()))
    return f"{kind}one per filter{', a power of 2' if power else ''}"


MOST_NAMED = 4
"""Numbers of an input that are named one by one."""


def _activation(example: Quantizer) -> str:
    """The input codes in a few words."""
    found = [_in_words(code) for code in input_codes(example)]
    same = len(set(found)) == 1 and len(found) > 1
    return f"{len(found)} terms of {found[0]}" if same else " and ".join(found)


def _in_words(code: InputCode) -> str:
    if isinstance(code, OnesCode):
        return "an offset"
    if isinstance(code, RealCode):
        if code.rounded:
            return f"{code.rounded}, as floats"
        return "real" if code.gain is None else "real, learned gain per channel"
    if isinstance(code, LevelsCode):
        learned = "" if code.width is None else ", range learned" if code.width.requires_grad else ", range given"
        numbers = ", ".join(map(str, code.grid.values))
        return (f"{{{numbers}}}" if code.grid.levels <= MOST_NAMED else f"0 ... {code.grid.high}") + learned
    if isinstance(code, StepsCode):
        return f"{code.grid.low} ... {code.grid.high}{', step learned' if code.step.requires_grad else ''}"
    if isinstance(code, MultibitCode):
        return "±1 of a sum, scale of each row"
    if isinstance(code, WholeCode):
        given = f"of {code.step:g}" if isinstance(code.step, float) else "of one size"
        return f"{code.low} ... {code.high} steps {given}"
    if isinstance(code, RowCode):
        return f"{code.grid.low} ... {code.grid.high}, scale of each row"
    threshold = "" if code.threshold is None else ", learned threshold per channel"
    scale = {InputScale.NONE: "", InputScale.PER_SAMPLE: ", mean per sample", InputScale.SPATIAL: ", mean per pixel"}
    return f"±1{' of what is left' if code.order else ''}{threshold}{scale[code.scale]}"


def _options(method: type[Quantizer]) -> tuple[tuple[str, str, str], ...]:
    signature = inspect.signature(method.__init__, eval_str=True)
    keywords = [p for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return tuple((p.name, _value(p.default), _takes(p.annotation)) for p in keywords)


def _value(value: Any) -> str:
    return str(value) if isinstance(value, Enum) else repr(value)


def _takes(annotation: Any) -> str:
    """What an option accepts, from its annotation."""
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{value!r}`" for value in typing.get_args(annotation))
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return " or ".join(_takes(member) for member in typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member}`" for member in annotation)
    return "`None`" if annotation is type(None) else f"`{annotation.__name__}`"


def _paper(f: Facts) -> str:
    return f"[{f.arxiv}](https://arxiv.org/abs/{f.arxiv})" if f.arxiv else re.sub(r"[\"“”]", "", f.source).rstrip(".")


def _section(f: Facts) -> str:
    """One method: its docstring, and what the table has no room for."""
    # a code block keeps the alignment of formulas
    lines = ["", f"## {f.name}", "", f.title, "", f.sentence, "", "```text", f.formulas, "```", ""]
    lines += [f"Differences: {f.differences}", "", f"Latent weights start: {f.start}. Clipped: {f.clip_latent}."]
    if f.options:
        lines += ["", "| option | default | takes |", "|---|---|---|"]
        lines += [f"| `{name}` | `{default}` | {takes} |" for name, default, takes in f.options]
    return "\n".join([*lines, *_recipe(next(m for m in METHODS if m.__name__ == f.name))])


def _recipe(method: type[Quantizer]) -> list[str]:
    """The recipe of a method's paper, as a table, and what is to be said of it."""
    record = for_method(method)
    lines = ["", "| recipe | |", "|---|---|", *(f"| {name} | {value} |" for name, value in recipe_rows(record))]
    if record.differences:
        lines += ["", *(f"- {sentence}" for sentence in record.differences)]
    return lines


def recipe_rows(record: PaperRecipe) -> tuple[tuple[str, str], ...]:
    """(what, how) of a paper's recipe."""
    words = record.stages()[0].describe()
    stages = f"{record.epochs}" if record.first_decay is None else f"{record.epochs} in each of two stages"
    first = "" if record.first_decay is None else f"first stage, with real weights: {record.first_decay}; second: "
    return (
        ("data, network", record.task),
        ("optimizer", _optimizer(str(words["optimizer"]))),
        ("learning rate", f"{record.learning_rate:g}{', times the Glorot factor' if record.glorot_rates else ''}"),
        ("schedule", schedule_in_words(record)),
        ("epochs, batch", f"{stages}, {record.batch_size}"),
        ("weight decay", f"{first}{record.decay}"),
        ("loss", str(words["loss"]) if record.distillation is None else "cross-entropy with a teacher's outputs"),
        *(("added losses", "; ".join(map(str, record.losses))) for _ in record.losses[:1]),
        ("augmentation", record.augmentation),
        ("latent weights start", record.start),
        ("read in", record.source),
        ("test accuracy there", "; ".join(map(str, record.published)) or NONE_READ),
    )


def schedule_in_words(record: PaperRecipe) -> str:
    """Warm-up in epochs, and the fall of the rate."""
    s, epochs = record.schedule, record.epochs
    if isinstance(s, Steps):
        fall = ", ".join(f"x{factor:g} from epoch {share * epochs:.0f}" for share, factor in s.milestones)
    elif isinstance(s, Exponential):
        fall = f"exponential to x{s.end:g}"
    else:
        fall = {Cosine: "half a cosine to 0", Linear: "a line to 0", Constant: "none"}[type(s)]
    return f"{s.warmup * epochs:.0f} epochs of warm-up, {fall}" if s.warmup else fall


def _optimizer(described: str) -> str:
    """Classes and functions without their modules."""
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z_])", "", described)


def _prose(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """Write the page, from the root of the repository. Raises: FileNotFoundError elsewhere; OSError."""
    if not PAGE.parent.is_dir():
        raise FileNotFoundError(f"methods_doc: no folder {PAGE.parent}/ here; run it from the root of the repository")
    write_atomically(PAGE, (generate() + "\n").encode())


if __name__ == "__main__":
    main()
