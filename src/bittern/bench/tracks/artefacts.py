# SPDX-License-Identifier: Apache-2.0
"""What a trained model leaves behind for readers, as files of a result.

packed.bittern    the packed model, as `bittern.deploy.load` reads it
model.safetensors the float twin's parameters and buffers
confusion.json    {"classes": [name, ...], "counts": [[...], ...]}: counts[truth][predicted] over the test set
samples.json      [{"shown": text or a data URI of a PNG, "truth": name, "predicted": name, "confidence": softmax}, ...]
layers.json       [{"name", "kind", "output_shape", "binary_params", "float_params", "code_params", "bytes", "bmac",
                  "fmac"}, ...] for one sample, as `bittern.nn.summary` counts
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from bittern.bench.core.training import CPU
from bittern.bench.tracks.parts import Parts
from bittern.bench.tracks.problem import Problem
from bittern.nn.summary import Report
from bittern.train import Classification
from bittern.train.evaluate import classification_of
from bittern.train.source import TrainingData, test_batches

PACKED, STATE = "packed.bittern", "model.safetensors"
CONFUSION, SAMPLES, LAYERS = "confusion.json", "samples.json", "layers.json"


class Noted:
    """A model that remembers what it returned, so that an evaluation need not be repeated for the outputs."""

    def __init__(self, model: Callable[[Tensor], Any]) -> None:
        self._model = model
        self._outputs: list[Any] = []

    def __call__(self, inputs: Tensor) -> Any:
        output = self._model(inputs)
        self._outputs.append(output)
        return output

    @property
    def outputs(self) -> Tensor:
        """Of all calls, in their order, as one batch."""
        return torch.cat(self._outputs)


def state_bytes(model: nn.Module) -> bytes:
    """Parameters and buffers of a float model as a safetensors file."""
    return safetensors.torch.save({name: value.contiguous() for name, value in model.state_dict().items()})


def load_state(model: nn.Module, data: bytes) -> nn.Module:
    """What `state_bytes` wrote, into the same network, in eval mode. Raises: RuntimeError for another network."""
    model.load_state_dict(safetensors.torch.load(data), strict=True)
    return model.eval()


def is_classification(problem: Problem) -> bool:
    return problem.task is None or isinstance(problem.task, Classification)


def of_classification(problem: Problem, parts: Parts, logits: Tensor) -> dict[str, bytes]:
    """Confusion matrix and samples, of a classification's logits [examples, classes] on the whole test set."""
    labels = _labels(problem, parts.final)
    names = problem.classes or tuple(str(i) for i in range(logits.shape[1]))
    predicted = logits.argmax(1)
    counts = torch.bincount(labels * len(names) + predicted, minlength=len(names) ** 2).view(len(names), -1)
    sure = logits.softmax(1).max(1).values
    samples = [
        {
            "shown": shown,
            "truth": names[int(labels[i])],
            "predicted": names[int(predicted[i])],
            "confidence": round(float(sure[i]), 4),
        }
        for i, shown in enumerate(parts.shown)
    ]
    return {CONFUSION: _json({"classes": names, "counts": counts.tolist()}), SAMPLES: _json(samples)}


def layers_json(report: Report) -> bytes:
    return _json([row._asdict() for row in report.rows])


def _labels(problem: Problem, data: TrainingData) -> Tensor:
    task = problem.task or classification_of(data)
    return torch.cat([batch[1] for batch in test_batches(data, CPU, task)])


def _json(value: dict[str, Any] | Sequence[Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
