# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from bittern.train import CrossEntropy, Distillation, SquaredHinge


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 2, 1, 2, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_formula(smoothing: float) -> None:
    logits = draw(5, 3)
    wanted = torch.full((5, 3), smoothing / 3, dtype=torch.float64)
    wanted[torch.arange(5), LABELS] += 1 - smoothing
    expected = -(wanted * (logits.exp() / logits.exp().sum(1, keepdim=True)).log()).sum(1).mean()
    torch.testing.assert_close(CrossEntropy(smoothing)(logits, LABELS), expected)


def test_squared_hinge_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.5, -0.5]])
    # label 0: max(0, 1 - 2)^2, max(0, 1 + 0)^2; label 1: max(0, 1 + 0.5)^2, max(0, 1 + 0.5)^2
    assert SquaredHinge()(logits, torch.tensor([0, 1])) == (0 + 1 + 2.25 + 2.25) / 4


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distributional_loss_is_its_formula(temperature: float) -> None:
    student, teacher = draw(5, 3), draw(5, 3, seed=1)
    p = (teacher / temperature).exp()
    p = p / p.sum(1, keepdim=True)
    q = (student / temperature).exp()
    q = q / q.sum(1, keepdim=True)
    expected = temperature**2 * -(p * q.log()).sum(1).mean()
    torch.testing.assert_close(Distillation(temperature=temperature)(student, teacher), expected)


def test_a_student_that_equals_its_teacher_has_no_gradient() -> None:
    teacher = draw(5, 3)
    student = teacher.clone().requires_grad_()
    Distillation(temperature=2.0)(student, teacher).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_refuses_a_smoothing_outside_its_range(smoothing: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        CrossEntropy(smoothing)


@pytest.mark.parametrize(
    "options", [{"weight": 0.0}, {"weight": 1.1}, {"temperature": 0.0}, {"temperature": float("inf")}]
)
def test_refuses_a_distillation_that_means_nothing(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Distillation(**options)
