# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib

import pytest
import torch
import torch.nn.functional as F

from bittern.data import ImageData, normalize
from bittern.train import SquaredHinge, evaluate


def test_equals_one_pass_over_all_images(data: ImageData, mlp: type[torch.nn.Module]) -> None:
    model = mlp().train()
    result = evaluate(model, data)
    assert model.training
    logits = model.eval()(normalize(data.test_images, data.mean, data.std)).detach()
    assert result.accuracy == pytest.approx(float((logits.argmax(1) == data.test_labels).double().mean()), abs=1e-6)
    assert result.loss == pytest.approx(float(F.cross_entropy(logits, data.test_labels)), rel=1e-5)


def test_batches_of_unequal_size_count_by_their_size(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    def model(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images.flatten(1)[:, i] for i in range(10)], 1)

    whole = evaluate(model, data, loss=SquaredHinge())
    monkeypatch.setattr(importlib.import_module("bittern.train.source"), "BATCH", 100)
    calls: list[int] = []
    parts = evaluate(model, data, loss=SquaredHinge(), on_batch=lambda: calls.append(1))
    assert len(calls) == 4  # 100, 100, 100, 59
    assert parts.accuracy == whole.accuracy
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)


def test_model_with_other_classes(data: ImageData) -> None:
    with pytest.raises(ValueError, match=r"digits: the model must return logits \[359, 10\].*got \[359, 3\]"):
        evaluate(lambda images: images.flatten(1)[:, :3], data)
