# SPDX-License-Identifier: Apache-2.0
"""A network of a store of trials as a file that says how it is used, and the card beside it.

Which seed is published: the one whose score on held-out training examples is the median of all seeds (of an even number
the lower of the two in the middle; of equal ones the lower seed). The test set has no say, so that the card's score is
as good an estimate as that of any other seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bittern._files import write_atomically
from bittern.bench.cards.choice import CHOSEN, median_seed
from bittern.bench.tracks import artefacts
from bittern.bench.tracks.hardware_inference import LATENCY, SPEEDUP, HardwareInference
from bittern.bench.tracks.learning_task import SCORE, LearningTask, training_count
from bittern.bench.tracks.parts import Parts
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.problems import PROBLEMS
from bittern.bench.tracks.published import differences, nearest
from bittern.bench.tracks.stages import stages_of
from bittern.bench.trials.groups import Group, grouped, twins
from bittern.bench.trials.trial import TWIN, Done
from bittern.deploy.packed import Packed, from_bytes
from bittern.pretrained.card import NAME, Card
from bittern.pretrained.network import Pretrained
from bittern.pretrained.shelf import CARD, PACKED
from bittern.pretrained.use import Use
from bittern.quantizer import Method
from bittern.train import Recipe, evaluate
from bittern.train.source import TrainingData

LICENCE = "Apache-2.0, as bittern"
"""Of the files: numbers that a program computed, which hold none of the examples."""
PROBES = 8
SIZE = "train_size"
"""Setting of a training."""
FIGURES_OF, FIGURES_DATA = "cifar10_jpeg75", "CIFAR-10"
"""The one problem that authors of methods state a figure for, and the lossless data set of theirs."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What of a store is published: the trainings of a task that differ by their seed alone."""

    task: str
    network: str
    method: str
    recipe: str
    epochs: int | None = None
    train_size: int | None = None
    """Most training examples. Of both, None: there are trainings of one number alone."""


def publish(
    done: Sequence[Done],
    subject: Subject,
    method: Method,
    name: str,
    folder: Path,
    *,
    data: Path | None,
    problems: Sequence[Problem] = PROBLEMS,
) -> Card:
    """Write NAME.bittern and NAME.json into `folder`. method: the object of `subject.method`.

    Raises: ValueError for a name that is none, trials that are not there, a problem whose data have no licence or that
    does not say how it is used, a training whose packed model disagrees; FileNotFoundError for data; OSError.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"publish: a name is small letters and digits, with - between words; got {name!r}")
    problem = find(problems, subject.task)
    if problem.use is None or problem.licence is None:
        raise ValueError(
            f"publish: {problem.name} states no licence to pass networks on under, or not how they are used; set "
            "licence and use of the problem"
        )
    ours, twin = _trainings(done, subject)
    first = ours.trial
    size = dict(first.settings).get(SIZE)
    assert size is None or isinstance(size, int)
    parts, use = problem.load(data, size), problem.use(data)
    held_out = {one.trial.seed: _score(problem, parts.choice, one) for one in ours.done}
    chosen = next(one for one in ours.done if one.trial.seed == median_seed(held_out))
    content = _with_use(from_bytes(chosen.result.artefacts[artefacts.PACKED]), use).to_bytes()
    card = Card(
        name=name,
        title=problem.title,
        task=first.task,
        network=first.network,
        method=first.method,
        recipe=first.recipe,
        epochs=first.epochs,
        train_size=size,
        metric=problem.metric,
        score=chosen.result.metrics[SCORE],
        seed=chosen.trial.seed,
        chosen=CHOSEN,
        scores=_by_seed(ours),
        held_out={str(seed): score for seed, score in sorted(held_out.items())},
        twin=_by_seed(twin),
        probe=probe(problem, from_bytes(content)),
        published=published(problem, ours),
        data=problem.source,
        data_licence=problem.licence,
        licence=LICENCE,
        **_of_data(problem, parts, method, chosen),
        **_of_file(content, chosen, use),
        **_latency(done, subject),
        **_provenance(ours, chosen),
    )
    Pretrained(from_bytes(content), card)  # raises for what could not be loaded
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}{PACKED}", content)
    write_atomically(folder / f"{name}{CARD}", card.to_json().encode())
    return card


def probe(problem: Problem, packed: Packed) -> tuple[int, ...]:
    """See `Card.probe`."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        inputs = problem.inputs(PROBES)
    return tuple(packed(inputs).flatten(1).argmax(1).tolist())


def _trainings(done: Sequence[Done], subject: Subject) -> tuple[Group, Group]:
    """The trainings and those of their float twin. Raises: ValueError."""
    groups = grouped(one for one in done if one.trial.track == LearningTask.name)
    found = [group for group in groups if _is(group, subject)]
    if len(found) != 1:
        there = "; ".join(f"{group.trial}, {group.trial.epochs} epochs, {_size(group)}" for group in found or groups)
        what = "no trainings" if not found else "several trainings, say which epochs and train_size"
        raise ValueError(f"publish: {what} of {subject}; there are: {there or 'none'}")
    (ours,) = found
    twin = twins(groups).get(ours.trial)
    if twin is None:
        raise ValueError(f"publish: the float twin of {ours.trial} is missing; run the same trials again")
    for one in ours.done:
        if one.result.metrics.get("exact") != 1.0:
            raise ValueError(f"publish: {one.trial}: packed model and training graph disagree; please report this")
    return ours, twin


def _is(group: Group, subject: Subject) -> bool:
    trial = group.trial
    same = (trial.task, trial.network, trial.method, trial.recipe)
    wanted = (subject.task, subject.network, subject.method, subject.recipe)
    size = dict(trial.settings).get(SIZE)
    chosen = subject.epochs in (None, trial.epochs) and subject.train_size in (None, size)
    return same == wanted and chosen and trial.method != TWIN


def _size(group: Group) -> str:
    size = dict(group.trial.settings).get(SIZE)
    return "all examples" if size is None else f"{size} examples"


def _score(problem: Problem, data: TrainingData, one: Done) -> float:
    """Of the packed network."""
    packed = from_bytes(one.result.artefacts[artefacts.PACKED])
    return evaluate(packed, data, task=problem.task).score


def _with_use(packed: Packed, use: Use) -> Packed:
    return Packed(packed.program, packed.tensors, packed.info | use.to_info(), packed.device)


def _by_seed(group: Group) -> dict[str, float]:
    return {str(seed): score for seed, score in sorted(group.by_seed(SCORE).items())}


def _of_data(problem: Problem, parts: Parts, method: Method, one: Done) -> dict[str, Any]:
    """Fields on the training."""
    trial, count = one.trial, training_count(parts.final)
    stages = stages_of(problem, trial, method, parts.final, count)
    examples = {"trained on": count, "held out": _test_count(parts.choice), "tested on": _test_count(parts.final)}
    return {"training": "; then ".join(map(_words, stages.recipes)), "examples": examples}


def _words(recipe: Recipe) -> str:
    """What matters of a recipe."""
    said = recipe.describe()
    optimizer = str(said["optimizer"]).rpartition(".")[2]
    shifted = f", {said['augment']}" if recipe.augment is not None else ""
    return (
        f"{recipe.epochs} epochs of {optimizer}, rate {recipe.learning_rate:g}, batches of {recipe.batch_size}, "
        f"{said['schedule']}{shifted}"
    )


def _test_count(data: TrainingData) -> int:
    counts = getattr(data, "counts", None)
    return counts[1] if counts is not None else len(data[1])  # type: ignore[index,arg-type]


def _of_file(content: bytes, one: Done, use: Use) -> dict[str, Any]:
    layers = json.loads(one.result.artefacts[artefacts.LAYERS])
    return {
        "takes": use.preparation.takes,
        "classes": len(use.classes),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "binary_weights": sum(layer["binary_params"] for layer in layers),
        "other_numbers": sum(layer["float_params"] + layer["code_params"] for layer in layers),
    }


def _latency(done: Sequence[Done], subject: Subject) -> dict[str, Any]:
    """Of the network, beside its twin, where the store has it."""
    for one in done:
        trial, metrics = one.trial, one.result.metrics
        here = (trial.track, trial.task, trial.network, trial.method)
        if here == (HardwareInference.name, subject.task, subject.network, subject.method) and SPEEDUP in metrics:
            return {
                "latency_s": metrics[LATENCY],
                "speedup": metrics[SPEEDUP],
                "latency_machine": str(one.machine),
            }
    return {"latency_s": None, "speedup": None, "latency_machine": None}


def _provenance(ours: Group, chosen: Done) -> dict[str, Any]:
    return {
        "commands": tuple(dict.fromkeys(one.command for one in ours.done)),
        "machine": str(chosen.machine),
        "finished": chosen.finished,
        "curves": {name: tuple(values) for name, values in chosen.result.curves.items()},
        "notes": chosen.result.notes,
    }


def published(problem: Problem, ours: Group) -> str | None:
    """The authors' figure for this task, and why it is no target here."""
    figure = nearest(ours.trial.method, ours.trial.network)
    if problem.name != FIGURES_OF or figure is None or figure.data != FIGURES_DATA:
        return None
    said = differences(ours, [problem])
    how = "" if said is None else f" Epochs: {said.epochs}; batches there of {said.batch}; shifts: {said.augmentation}."
    return (
        f"{figure}. Here {ours.trial.network} on a JPEG copy that costs about ten points: compare the gap to the twin."
        f"{how}"
    )
