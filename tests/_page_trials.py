# SPDX-License-Identifier: Apache-2.0
"""Made-up trials of all tracks, for tests of the page and of advice."""

from __future__ import annotations

import base64
import io
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from PIL import Image

from bittern import binary
from bittern.bench.core.machine import Machine
from bittern.bench.trials.track import Choice, Plan, Track, Work
from bittern.bench.trials.trial import TWIN, Done, Failed, Result, Trial

HOSTILE = '</script><b onmouseover="alert(1)">"\'&{b}'
MACHINE = Machine(
    cpu='A <b>"CPU"</b> & more',
    cores=2,
    features=("avx2",),
    isa="avx2",
    threads=1,
    device="cpu",
    system="Linux x86_64",
    python="3.11.0",
    torch="2.13.0",
    bittern="0.1.0",
)
METHODS = (TWIN, *(method.__name__ for method in binary.COMPARED))
CLASSES = tuple("0123456789")


class MadeUpTrack(Track):
    """Answers with the overall figures that it was made with."""

    def __init__(self, name: str, metric: str, figures: Mapping[str, float]) -> None:
        self.name, self.metric, self._figures = name, metric, figures
        self.title = name.replace("_", " ").capitalize()
        self.question = f"What does <{name}> say?"

    def plan(self, choice: Choice) -> Plan:
        raise NotImplementedError

    def run(self, trial: Trial, work: Work) -> Result:
        raise NotImplementedError

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        return self._figures


def tracks() -> tuple[Track, ...]:
    names = METHODS[1:]
    figures = {
        "learning_task": ("score", 0.9, 0.01),
        "neural_architecture": ("score", 0.8, 0.02),
        "corruption_robustness": ("corrupted_accuracy", 0.7, 0.03),
        "training_consumption": ("speedup", 1.0, -0.05),
        "theoretical_complexity": ("stored_bits", 12.0, 0.5),
        "hardware_inference": ("latency", 4.0, -0.2),
    }
    return tuple(
        MadeUpTrack(name, metric, {method: start + step * i for i, method in enumerate(names)})
        for name, (metric, start, step) in figures.items()
    )


def trials(tasks: int = 2, networks: int = 2, seeds: int = 3, epochs: int = 8) -> list[Done]:
    """Of three tracks: trainings, complexity, latency."""
    rng = random.Random(0)
    found = []
    for task in (f"task {i}" for i in range(tasks)):
        for n in range(networks):
            for m, method in enumerate(METHODS):
                for seed in range(seeds):
                    trial = Trial(
                        "learning_task", task, f"network{n}", method, "common", seed, epochs, (("train_size", None),)
                    )
                    score = 0.93 - 0.03 * (m > 0) - 0.012 * m + 0.02 * n + rng.gauss(0, 0.006)
                    found.append(done(trial, trained(score, method, n, epochs, rng)))
                own = Trial("theoretical_complexity", task, f"network{n}", method, "", 0, 0)
                ops = 4e6 * (1 + n) / (1 if method == TWIN else 9 + m / 4)
                found.append(done(own, Result({"ops": ops, "stored_bits": 8 * size(method, n)})))
                timed = Trial("hardware_inference", task, f"network{n}", method, "", 0, 0)
                found.append(done(timed, Result({"latency": 1e-3 * (1 + n) / (1 if method == TWIN else 4 - m / 6)})))
    return found


def size(method: str, n: int) -> float:
    return 40_000.0 * (1 + n) * (24 if method == TWIN else 1 + 0.01 * len(method))


def trained(score: float, method: str, n: int, epochs: int, rng: random.Random) -> Result:
    rise = [score * (1 - math.exp(-(i + 1) / 2)) + rng.gauss(0, 0.004) for i in range(epochs)]
    loss = [2.3 * math.exp(-(i + 1) / 3) + 0.1 + 0.02 * rng.random() for i in range(epochs)]
    curves = {
        "train_loss": tuple(loss),
        "test_loss": tuple(value * 1.1 + 0.05 for value in loss),
        "train_accuracy": tuple(min(1.0, value + 0.03) for value in rise),
        "test_accuracy": tuple(rise),
    }
    metrics = {"train_score": score + 0.03, "score": score, "packed_bytes": size(method, n), "accuracy": score}
    if method != TWIN:
        metrics["exact"] = 1.0
    wrong = [[9 * (i == j) + (i * j) % 2 for j in range(10)] for i in range(10)]
    samples = [
        {
            "shown": picture(i),
            "truth": CLASSES[i % 10],
            "predicted": CLASSES[(i + (i % 5 == 0)) % 10],
            "confidence": 0.83,
        }
        for i in range(12)
    ]
    layers = [
        {"name": f"layers.{i}", "kind": "BinaryConv2d", "output_shape": [1, 16, 8, 8], "binary_params": 2304 * i,
         "float_params": 32, "code_params": 0, "bytes": 416, "bmac": 147456 * i, "fmac": 0}
        for i in range(4)
    ]  # fmt: skip
    files = {
        "confusion.json": json.dumps({"classes": CLASSES, "counts": wrong}).encode(),
        "samples.json": json.dumps(samples).encode(),
        "layers.json": json.dumps(layers).encode(),
    }
    return Result(metrics, curves, files, ("Batches of 100.",))


def picture(i: int) -> str:
    file = io.BytesIO()
    image = Image.new("L", (8, 8), 20)
    for k in range(8):
        image.putpixel((k, (k * i) % 8), 230)
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def done(trial: Trial, result: Result, command: str = "bittern bench run --out 'a <folder>'") -> Done:
    return Done(trial, result, MACHINE, command, "2026-01-02T03:04:05+00:00", 12.5)


def failed(method: str = "FDA", error: str = "ValueError: layer 'conv1' pads with 0, which has no bit") -> Failed:
    trial = Trial("neural_architecture", "task 0", "mixer", method, "common", 0, 8)
    return Failed(trial, error, MACHINE, "bittern bench run", "2026-01-02T03:04:05+00:00")


def hostile() -> list[Done]:
    """Names, classes, layers, notes, commands and machines that would like to be markup."""
    trial = Trial("learning_task", HOSTILE, HOSTILE, HOSTILE, HOSTILE, 0, 2, ((HOSTILE, HOSTILE),))
    files = {
        "confusion.json": json.dumps({"classes": [HOSTILE, "b"], "counts": [[1, 2], [3, 4]]}).encode(),
        "samples.json": json.dumps(
            [{"shown": HOSTILE, "truth": HOSTILE, "predicted": "b", "confidence": None}]
        ).encode(),
        "layers.json": json.dumps([{"name": HOSTILE, "kind": HOSTILE, "bytes": 3}]).encode(),
    }
    curves = {"test_loss": (1.0, 0.5), "test_accuracy": (0.5, 0.6)}
    result = Result({"score": 0.5, "packed_bytes": 10.0, HOSTILE: 3.0}, curves, files, (HOSTILE,))
    machine = replace(MACHINE, cpu=HOSTILE)
    return [Done(trial, result, machine, HOSTILE, HOSTILE, 1.0)]
