# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import torch

from bittern.data import RandomCropFlip
from bittern.train import Cosine, CrossEntropy, Distillation, LogitsMatching, Recipe


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
        ({"epochs": True}, TypeError, "epochs must be an integer"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"accumulation_steps": 0}, ValueError, "accumulation_steps must be at least 1"),
        ({"batch_size": 32, "accumulation_steps": 5}, ValueError, "must divide batch_size"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be above 0"),
        ({"learning_rate": -1.0}, ValueError, "finite and at least 0"),
        ({"learning_rate": float("nan")}, ValueError, "finite and at least 0"),
        ({"learning_rate": "0.1"}, TypeError, "must be a number"),
        ({"weight_decay": float("inf")}, ValueError, "finite and at least 0"),
        ({"latent_weight_decay": -1e-4}, ValueError, "finite and at least 0"),
        ({"optimizer": "adamw"}, TypeError, "not its name; got 'adamw'"),
        ({"schedule": "cosine"}, TypeError, "not its name"),
        ({"loss": "hinge"}, TypeError, "not its name"),
        ({"augment": "crop"}, TypeError, "not its name"),
        ({"distillation": 0.5}, TypeError, "must be a Distillation"),
        ({"losses": [1]}, TypeError, "losses must be a tuple of added losses"),
        ({"clip_latent": 1}, TypeError, "True or False"),
        ({"glorot_rates": None}, TypeError, "True or False"),
        ({"elementwise_weight_decay": -1.0}, ValueError, "finite and at least 0"),
        ({"origin": None}, TypeError, "origin must be text"),
        ({"precision": "16-true"}, ValueError, r'"32-true", "bf16-mixed", "16-mixed"; got'),
        ({"clip_norm": 0}, ValueError, "clip_norm must be above 0 or None"),
        ({"clip_norm": float("nan")}, ValueError, "clip_norm must be finite"),
    ],
)
def test_refuses(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Recipe(**({"epochs": 1} | options))


def test_description_is_json_with_every_option() -> None:
    recipe = Recipe(
        epochs=3,
        optimizer=partial(torch.optim.SGD, nesterov=True, momentum=0.9),
        augment=RandomCropFlip(),
        distillation=Distillation(temperature=2.0),
        schedule=Cosine(warmup=0.1),
    )
    described = recipe.describe()
    assert json.loads(json.dumps(described)) == described
    assert set(described) == set(Recipe.__dataclass_fields__)
    assert described["optimizer"] == "torch.optim.sgd.SGD(momentum=0.9, nesterov=True)"
    assert described["augment"] == "RandomCropFlip(padding=4, flip=True)"
    assert described["schedule"] == "Cosine(warmup=0.1)"
    assert described["distillation"] == "Distillation(weight=1.0, temperature=2.0)"


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"optimizer": torch.optim.Adam},
        {"loss": CrossEntropy(0.1)},
        {"optimizer": partial(torch.optim.AdamW)},
    ],
)
def test_recipes_that_differ_describe_differently(changes: dict[str, Any]) -> None:
    assert Recipe(epochs=1).describe() != Recipe(epochs=1, **changes).describe()


def test_identity_leaves_out_what_older_runs_do_not_have() -> None:
    """A checkpoint of before these fields resumes where they are at their defaults, and only there."""
    added = {"elementwise_weight_decay", "losses", "origin", "clip_norm"}
    assert set(Recipe(epochs=1).describe()) - set(Recipe(epochs=1).identity()) == added
    changed = Recipe(epochs=1, elementwise_weight_decay=0.1, losses=(LogitsMatching(),), origin="here", clip_norm=1.0)
    assert changed.identity() == changed.describe()
