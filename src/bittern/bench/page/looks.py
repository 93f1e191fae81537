# SPDX-License-Identifier: Apache-2.0
"""What trained networks leave behind for readers: confusion matrices, sample predictions, layers.

The files that trials of the trained tracks have (`bittern.bench.tracks.artefacts` says how they are made):
confusion.json  {"classes": [name, ...], "counts": [[...], ...]}, counts[truth][predicted]
samples.json    [{"shown": text or a data URI of a PNG, "truth": name, "predicted": name, "confidence": share}, ...]
layers.json     [{"name": ..., "kind": ..., number columns}, ...]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bittern.bench.page.view import View
from bittern.bench.trials.candidates import LAYERS
from bittern.bench.trials.groups import Group

CONFUSION, SAMPLES = "confusion.json", "samples.json"
MOST_CLASSES = 24
"""A matrix of more classes is told as the pairs that are mistaken most."""
MOST_PAIRS = 20
BYTES = 700_000
"""Of all of these in the page, which stays below 3 MB; what comes later is left out, and the page says so."""


def looks(view: View) -> dict[str, Any]:
    """cells: one for each group of trials that left something; texts: what samples show, each once; left_out: cells.

    layers: lists of layers, each once, since methods and recipes share them.
    """
    found: dict[str, Any] = {"cells": [], "texts": [], "layers": [], "left_out": 0}
    texts: dict[str, int] = {}
    layers: dict[str, int] = {}
    room = BYTES
    for group in view.groups:
        cell = _cell(group, texts, layers)
        if cell is None:
            continue
        new = [*list(texts)[len(found["texts"]) :], *list(layers)[len(found["layers"]) :]]
        room -= len(json.dumps(cell)) + sum(map(len, new))
        if room < 0:
            found["left_out"] += 1
            continue
        found["texts"], found["layers"] = list(texts), list(layers)
        trial = group.trial
        names = [trial.task, trial.network, *([trial.recipe] if trial.recipe not in ("", "common") else [])]
        place = f"{view.title(trial.track)}: {', '.join(names)}"
        found["cells"].append({"place": place, "method": view.methods.index(trial.method), **cell})
    found["layers"] = [json.loads(text) for text in found["layers"]]
    return found


def _cell(group: Group, texts: dict[str, int], layers: dict[str, int]) -> dict[str, Any] | None:
    """What one group left, with numbers in place of texts and lists of layers; None where it left nothing."""
    cell: dict[str, Any] = {}
    matrices = _read(group, CONFUSION)
    if matrices:
        cell["confusion"] = _confusion(matrices)
        cell["seeds"] = len(matrices)
    samples = _read(group, SAMPLES)[:1]
    if samples:
        cell["samples"] = [
            [texts.setdefault(one["shown"], len(texts)), one["truth"], one["predicted"], one.get("confidence")]
            for one in samples[0]
        ]
    listed = _read(group, LAYERS)[:1]
    if listed and listed[0]:
        cell["layers"] = layers.setdefault(json.dumps(_columns(listed[0]), separators=(",", ":")), len(layers))
    return cell or None


def _read(group: Group, name: str) -> list[Any]:
    """The file of each trial that has it."""
    files = (one.result.artefacts.get(name) for one in group.done)
    return [json.loads(file) for file in files if file is not None]


def _confusion(matrices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum over seeds; of many classes the pairs that are mistaken most, [truth, predicted, count]."""
    classes = matrices[0]["classes"]
    size = range(len(classes))
    counts = [[sum(matrix["counts"][i][j] for matrix in matrices) for j in size] for i in size]
    if len(classes) <= MOST_CLASSES:
        return {"classes": classes, "counts": counts}
    pairs = sorted(((counts[i][j], classes[i], classes[j]) for i in size for j in size if i != j), reverse=True)
    return {"pairs": [[truth, predicted, count] for count, truth, predicted in pairs[:MOST_PAIRS] if count]}


def _columns(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Names once, rows as lists; columns of nothing but 0 are left out."""
    names = [name for name in layers[0] if any(layer[name] != 0 for layer in layers)]
    return {"names": names, "rows": [[layer[name] for name in names] for layer in layers]}
