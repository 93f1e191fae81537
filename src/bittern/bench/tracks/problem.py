# SPDX-License-Identifier: Apache-2.0
"""A problem of the benchmark: data in parts, networks for it, and one recipe for every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor, nn

from bittern.bench.tracks.parts import Parts
from bittern.bench.trials.trial import Value
from bittern.pretrained.use import Use
from bittern.quantizer import Method
from bittern.train import Recipe, Task

Family = Literal["CNN", "Transformer", "MLP"]
ACCURACY = "accuracy"


class Network(NamedTuple):
    """A network for a problem."""

    build: Callable[[Method | None], nn.Module]
    """A fresh one with a method, or the float twin; the caller seeds torch. Every parameter has its size."""
    family: Family
    learning_rate: float | None = None
    """Of the common recipe with this network, for all methods and the twin; None: the recipe's own."""
    about: tuple[str, ...] = ()
    """Sentences on how a method comes into it, for the notes of trials that train it."""


@dataclass(frozen=True, eq=False, slots=True)
class Problem:
    """What is learned, from which data, by which networks. It goes to the processes of trials: no closures in it.

    name: as `Trial.task`. title: for readers. source: what the data are, where from, under which licence, in words.
    networks: by name; the first is the standard one. recipe: the common one of all methods and the float twin, whose
    epochs and seed are those of a trial. inputs: (count) -> that many random inputs, as networks take them.
    read: (folder of data sets, at most so many training examples) -> the examples.
    folder: name of the data set within the folder of data sets; None: the data come with bittern.
    task: None: a classification by the recipe's loss. classes: names of a classification's classes, in their order.
    pictures: the inputs are square pictures, as `bittern.data.ImageData`, which can be corrupted as such.
    settings: of every trial, where name and networks' names do not say all: digests of a user's files.
    use: (folder of data sets) -> how raw examples become inputs and outputs answers, which travels with a published
    network. licence: of the data, under which networks trained on them may be passed on, and whom it asks to name.
    None: nobody publishes networks of this problem.
    """

    name: str
    title: str
    source: str
    networks: Mapping[str, Network]
    recipe: Recipe
    inputs: Callable[[int], Tensor]
    read: Callable[[Path | None, int | None], Parts]
    folder: str | None = None
    task: Task | None = None
    classes: tuple[str, ...] = ()
    pictures: bool = False
    settings: tuple[tuple[str, Value], ...] = ()
    use: Callable[[Path | None], Use] | None = None
    licence: str | None = None

    @property
    def metric(self) -> str:
        """What the score is called; higher is better."""
        return ACCURACY if self.task is None else self.task.metric

    def network(self, name: str) -> Network:
        """Raises: ValueError for a network that the problem does not have."""
        if name not in self.networks:
            raise ValueError(f"{self.name}: has no network {name}; there are {', '.join(self.networks)}")
        return self.networks[name]

    def missing(self, data: Path | None) -> str | None:
        """A sentence on data that are not there; None where they are."""
        if self.folder is None:
            return None
        if data is None:
            return f"{self.name}: needs a folder of data sets that holds {self.folder}; none was given."
        if not (data / self.folder).is_dir():
            return f"{self.name}: needs the data set {self.folder}, which {data} does not hold."
        return None

    def load(self, data: Path | None, train_size: int | None = None) -> Parts:
        """data: folder of data sets. train_size: training examples, at most.

        Raises: FileNotFoundError for data that are not there; ValueError for damaged ones; OSError.
        """
        missing = self.missing(data)
        if missing is not None:
            raise FileNotFoundError(missing)
        return self.read(data, train_size)


def find(problems: Sequence[Problem], name: str) -> Problem:
    """Raises: ValueError for a name that none of them has."""
    for problem in problems:
        if problem.name == name:
            return problem
    known = ", ".join(problem.name for problem in problems)
    raise ValueError(f"bench: no task {name}; there are {known}")
