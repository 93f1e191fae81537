# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from bittern.data import Batches, RandomCropFlip
from bittern.data.batches import generator_for

IMAGES = torch.arange(23, dtype=torch.float32).view(23, 1, 1, 1)
LABELS = torch.arange(23)


def order(seed: int, epoch: int) -> list[int]:
    batches = Batches(IMAGES, LABELS, 5, seed=seed)
    return [int(i) for place in range(4) for i in batches.at(epoch * 4 + place).labels]


def test_an_epoch_visits_each_example_at_most_once_in_full_batches() -> None:
    batches = Batches(IMAGES, LABELS, 5, seed=0)
    assert batches.steps_per_epoch == 4
    assert all(len(batches.at(step).labels) == 5 for step in range(12))
    for epoch in range(3):
        assert len(set(order(0, epoch))) == 20


def test_images_keep_their_labels() -> None:
    batch = Batches(IMAGES, LABELS, 7, seed=3).at(2)
    assert torch.equal(batch.images.view(-1).long(), batch.labels)


def test_orders_differ_between_epochs_and_seeds_and_repeat_for_the_same() -> None:
    orders = {tuple(order(seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    assert order(2, 3) == order(2, 3)


def test_any_step_can_be_asked_for_at_any_time() -> None:
    augment = RandomCropFlip(padding=1)
    images = torch.rand(23, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    forward = Batches(images, LABELS, 5, seed=1, augment=augment)
    straight = [forward.at(step) for step in range(10)]
    backward = Batches(images, LABELS, 5, seed=1, augment=augment)
    torch.manual_seed(99)
    for step in reversed(range(10)):
        again = backward.at(step)
        assert torch.equal(again.images, straight[step].images)
        assert torch.equal(again.labels, straight[step].labels)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Batches(IMAGES, LABELS, 5, seed=0, augment=lambda images, generator: images).at(0)
    assert torch.equal(before, torch.get_rng_state())


def test_generators_of_different_keys_differ() -> None:
    # seeds beyond 32 bits too, of which torch's CPU generator would read the low half only
    keys = [(s, p, i) for s in (0, 1, 2**32, 2**40) for p in ("order", "augment") for i in range(20)]
    draws = {int(torch.randint(2**62, (), generator=generator_for(*key))) for key in keys}
    assert len(draws) == len(keys)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="one label per image"):
        Batches(IMAGES, LABELS[:-1], 5, seed=0)
    with pytest.raises(ValueError, match="at least one"):
        Batches(IMAGES[:0], LABELS[:0], 5, seed=0)
    for size in (0, 24):
        with pytest.raises(ValueError, match=r"1 \.\.\. 23"):
            Batches(IMAGES, LABELS, size, seed=0)
    with pytest.raises(ValueError, match="at least 0"):
        Batches(IMAGES, LABELS, 5, seed=0).at(-1)
