# SPDX-License-Identifier: Apache-2.0
"""Training on datasets, loaders and folders of classes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from bittern.data import ImageData, image_folder, normalize
from bittern.train import Recipe, evaluate, train

RECIPE = Recipe(epochs=2, batch_size=32, learning_rate=0.01)


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Dropout(0.2), nn.Linear(20, 10))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def trained(data: Any, **options: Any) -> Tensor:
    model = linear()
    train(model, data, RECIPE, progress=False, **options)
    return weights(model)


@pytest.fixture
def datasets(few: ImageData) -> tuple[TensorDataset, TensorDataset]:
    """The digits as a dataset of inputs that are ready."""
    return (
        TensorDataset(normalize(few.train_images, few.mean, few.std), few.train_labels),
        TensorDataset(normalize(few.test_images, few.mean, few.std), few.test_labels.int()),
    )


class Crash(Exception):
    pass


def crash_at_5(step: int, loss: float) -> None:
    if step == 5:
        raise Crash


def test_a_dataset_gives_the_weights_of_the_images_in_memory(few: ImageData, datasets: Any) -> None:
    assert torch.equal(trained(datasets), trained(few))
    assert evaluate(linear(), datasets).accuracy == evaluate(linear(), few).accuracy


def test_a_dataset_resumes_bit_for_bit(datasets: Any, tmp_path: Path) -> None:
    wanted = trained(datasets)
    with pytest.raises(Crash):
        trained(datasets, folder=tmp_path, checkpoint_steps=2, on_step=crash_at_5)
    assert torch.equal(trained(datasets, folder=tmp_path, resume=True), wanted)


def test_a_loader_resumes_bit_for_bit_from_an_epoch(datasets: Any, tmp_path: Path) -> None:
    loaders = (DataLoader(datasets[0], 32, shuffle=True), DataLoader(datasets[1], 20))
    wanted = trained(loaders)
    with pytest.raises(Crash):
        trained(loaders, folder=tmp_path, on_step=crash_at_5)
    steps: list[int] = []
    got = trained(loaders, folder=tmp_path, resume=True, on_step=lambda step, _: steps.append(step))
    assert steps == [4, 5, 6]
    assert torch.equal(got, wanted)


def test_ctrl_c_over_a_loader_keeps_the_last_epoch(datasets: Any, tmp_path: Path) -> None:
    def on_step(step: int, loss: float) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    loaders = (DataLoader(datasets[0], 32, shuffle=True), DataLoader(datasets[1], 20))
    wanted = trained(loaders)
    with pytest.raises(KeyboardInterrupt, match=r"after step 5 of 6; .* has the end of epoch 1, because a loader"):
        trained(loaders, folder=tmp_path, on_step=on_step)
    assert torch.equal(trained(loaders, folder=tmp_path, resume=True), wanted)


def test_the_last_batch_of_a_loader_may_be_smaller(datasets: Any) -> None:
    model, sizes = linear(), []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None)
    history = train(model, (DataLoader(datasets[0], 36), datasets[1]), Recipe(epochs=1, batch_size=36), progress=False)
    assert sizes == [36, 36, 24]
    assert 0 <= history.final.train_accuracy <= 1
    with pytest.raises(ValueError, match=r"accumulation_steps must divide every batch; got 9 and a batch of 24"):
        train(
            linear(),
            (DataLoader(datasets[0], 36), datasets[1]),
            Recipe(epochs=1, batch_size=36, accumulation_steps=9),
            progress=False,
        )


def test_inputs_of_any_shape_and_dtype() -> None:
    tokens = torch.arange(60).reshape(20, 3) % 7
    data = TensorDataset(tokens, tokens.sum(1) % 4)
    model = nn.Sequential(nn.Embedding(7, 8), nn.Flatten(), nn.Linear(24, 4))
    for precision in ("32-true", "bf16-mixed"):
        train(model, (data, data), Recipe(epochs=2, batch_size=5, precision=precision), progress=False)


class Items(Dataset[Any]):
    def __init__(self, item: Any, length: int = 64) -> None:
        self.item, self.length = item, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.item


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


ZEROS = torch.zeros(64)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (Items((ZEROS, 1)), TypeError, "data must be ImageData, FolderData, or .train, test.*got Items"),
        ((Items((ZEROS, 1)), [1][:0]), ValueError, "the test part, list, is empty"),
        ((Items((ZEROS, 1)), 3), TypeError, "the test part is int"),
        ((Endless(), Items((ZEROS, 1))), TypeError, "no order to choose from; put it into a DataLoader"),
        ((DataLoader(Endless()), Items((ZEROS, 1))), ValueError, "must have a length"),
        ((DataLoader(Items((ZEROS, 1)), 8), Items((ZEROS, 1))), ValueError, "batches of 8 and recipe.batch_size is 32"),
        ((Items((ZEROS, 0.5)), Items((ZEROS, 1))), TypeError, r"one integer label per input; got labels torch.float"),
        ((Items(ZEROS), Items((ZEROS, 1))), TypeError, r"must give \(inputs, labels\), both tensors; got \(Tensor\)"),
        ((Items(("text", 1)), Items((ZEROS, 1))), TypeError, r"both tensors; got \(tuple, Tensor\)"),
        (
            (Items((object(), 1)), Items((ZEROS, 1))),
            TypeError,
            r"\(inputs, labels\), both tensors, all of one shape",
        ),
        (
            (Items((ZEROS, 10)), Items((ZEROS, 1))),
            ValueError,
            r"labels must lie in 0 ... 9, the model's classes; got 10",
        ),
    ],
)
def test_data_that_cannot_be(data: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        trained(data)


def test_steps_within_an_epoch_are_not_saved_over_a_loader(datasets: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can only go on at the start of an epoch"):
        trained((DataLoader(datasets[0], 32), datasets[1]), folder=tmp_path, checkpoint_steps=2)


def test_a_folder_of_classes_is_trained_on_and_resumes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 128)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(20):
            pixels = generator.integers(low, low + 128, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    data = image_folder(tmp_path / "images")

    def run(**options: Any) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(108, 2))
        train(model, data, Recipe(epochs=3, batch_size=8, learning_rate=0.02), progress=False, **options)
        return model

    wanted = run()
    assert evaluate(wanted, data).accuracy == 1.0
    with pytest.raises(Crash):
        run(folder=tmp_path / "run", checkpoint_steps=2, on_step=crash_at_5)
    assert torch.equal(weights(run(folder=tmp_path / "run", resume=True)), weights(wanted))


def test_more_epochs_extend_a_run_and_fewer_do_not(datasets: Any, tmp_path: Path) -> None:
    def run(epochs: int, resume: bool) -> Any:
        recipe = Recipe(epochs=epochs, batch_size=32)
        return train(linear(), datasets, recipe, folder=tmp_path, resume=resume, progress=False)

    first = run(2, resume=False)
    longer = run(4, resume=True)
    assert longer.epochs[:2] == first.epochs
    assert [row.epoch for row in longer.epochs] == [1, 2, 3, 4]
    # the schedule spans all four epochs
    assert longer.epochs[2].learning_rate == Recipe(epochs=4).schedule(8, 12) * 1e-3
    with pytest.raises(ValueError, match="epochs was 4, is 3"):
        run(3, resume=True)
