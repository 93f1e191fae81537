# SPDX-License-Identifier: Apache-2.0
"""Detection: the loss by plain loops, average precision worked by hand, and as COCO's own code has it."""

from __future__ import annotations

import contextlib
import io
import math

import pytest
import torch
from torch import Tensor

from _tolerance import assert_reduction
from bittern.train import Detection
from bittern.train.tasks.average_precision import Found, average_precision, overlaps

TASK = Detection(classes=2, stride=4)
# of two images of 8 x 12: 2 x 3 cells
BOXES = torch.tensor(
    [
        [[0.0, 0.0, 3.0, 2.0], [0.0, 0.0, 2.0, 2.0], [5.0, 4.5, 12.0, 8.0], [0.0, 0.0, 0.0, 0.0]],
        [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
    ]
)
LABELS = torch.tensor([[1, 0, 0, -1], [-1, -1, -1, -1]])
# the first two boxes share cell (0, 0), which the larger one gets
ANSWERS = ((0, 0, 0, (0.0, 0.0, 3.0, 2.0), 1), (0, 1, 2, (5.0, 4.5, 12.0, 8.0), 0))


def test_overlaps() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    b = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [2.0, 2.0, 3.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    expected = torch.tensor([[1.0, 1 / 3, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(overlaps(a, b), expected, rtol=1e-6, atol=0)
    assert overlaps(a, b[:0]).shape == (2, 0)


def test_loss_is_its_formula() -> None:
    z = torch.randn(2, 7, 2, 3, generator=torch.Generator().manual_seed(0))
    v = z.double()

    def sigmoid(x: Tensor) -> float:
        return 1 / (1 + math.exp(-float(x)))

    total = 0.0
    for image in range(2):
        for i in range(2):
            for j in range(3):
                has = (image, i, j) in [(n, row, column) for n, row, column, _, _ in ANSWERS]
                sure = sigmoid(v[image, 0, i, j])
                total -= math.log(sure if has else 1 - sure)
    for image, i, j, (x0, y0, x1, y1), label in ANSWERS:
        at = v[image, :, i, j]
        x, y = (x0 + x1) / 8 - j, (y0 + y1) / 8 - i
        total += abs(sigmoid(at[1]) - x) + abs(sigmoid(at[2]) - y)
        total += abs(float(at[3]) - math.log((x1 - x0) / 4)) + abs(float(at[4]) - math.log((y1 - y0) / 4))
        total -= float(at[5 + label]) - math.log(math.exp(at[5]) + math.exp(at[6]))
    expected = torch.tensor(total / len(ANSWERS), dtype=torch.float64)
    z.requires_grad_()
    loss = TASK.measure(lambda _: z, (torch.zeros(2, 3, 8, 12), BOXES, LABELS)).loss
    assert_reduction(loss.detach(), expected, 30, float(expected))
    loss.backward()
    assert z.grad is not None
    assert bool((z.grad[:, 0] != 0).all())
    assert bool((z.grad[1, 1:] == 0).all())  # no box in the second image


def outputs_of_answers() -> Tensor:
    z = torch.zeros(2, 7, 2, 3)
    z[:, 0] = -20.0
    for image, i, j, (x0, y0, x1, y1), label in ANSWERS:
        centre = torch.tensor([(x0 + x1) / 8 - j, (y0 + y1) / 8 - i])
        z[image, 0, i, j] = 20.0
        z[image, 1:3, i, j] = torch.logit(centre)
        z[image, 3:5, i, j] = torch.tensor([(x1 - x0) / 4, (y1 - y0) / 4]).log()
        z[image, 5 + label, i, j] = 20.0
    return z


def test_what_the_cells_say_is_what_is_found() -> None:
    first, second = TASK.detections(outputs_of_answers())
    assert len(second.boxes) == 0
    assert sorted(first.classes.tolist()) == [0, 1]
    expected = torch.tensor([ANSWERS[1][3], ANSWERS[0][3]])
    torch.testing.assert_close(first.boxes[first.classes.argsort()], expected, rtol=1e-5, atol=1e-5)


def test_scores_of_a_batch_and_of_a_set() -> None:
    images, z = torch.zeros(2, 3, 8, 12), outputs_of_answers()
    # class 1 is found whole; of class 0 the box that gave way to a larger one stays unfound: AP = 51 / 101
    expected = (1 + 51 / 101) / 2
    measured = TASK.measure(lambda _: z, (images, BOXES, LABELS))
    assert float(measured.score) == pytest.approx(2 * expected, rel=1e-6)
    batches = [(images[i : i + 1], BOXES[i : i + 1], LABELS[i : i + 1]) for i in range(2)]
    answers = iter(z)
    evaluation = TASK.evaluate(lambda _: next(answers)[None], batches)
    assert evaluation.score == pytest.approx(expected, rel=1e-6)
    nothing = TASK.measure(lambda _: z[1:], (images[1:], BOXES[1:], LABELS[1:]))
    assert float(nothing.score) == 0.0
    assert math.isfinite(float(nothing.loss))


def test_doubles_are_dropped() -> None:
    z = outputs_of_answers()
    z[0, :, 0, 1] = z[0, :, 0, 0]
    z[0, 0, 0, 1] = 3.0
    z[0, 1, 0, 1] = -20.0  # four pixels beside the cell of the first, so that their boxes nearly touch
    z[0, 3:5, 0, 0:2] = math.log(5.0)  # 20 x 20: an overlap of more than a half
    assert len(TASK.detections(z)[0].boxes) == 2
    z[0, 5:7, 0, 1] = torch.tensor([20.0, 0.0])  # another class
    assert len(TASK.detections(z)[0].boxes) == 3


def test_average_precision_by_hand() -> None:
    """Four boxes; detections are right, wrong, right, and wrong since their box is taken, in the order of their scores.

    Precision 1, 1/2, 2/3, 1/2 at recall 1/4, 1/4, 1/2, 1/2: 26 recalls (0 ... 0.25) read 1, 25 (0.26 ... 0.5) read 2/3,
    the rest 0.
    """
    truth = torch.tensor([[10.0 * i, 0.0, 10.0 * i + 4.0, 4.0] for i in range(4)])
    boxes = torch.stack((truth[2], truth[0], torch.tensor([0.0, 50.0, 4.0, 54.0]), truth[0]))
    found = [Found(boxes, torch.tensor([0.6, 0.9, 0.7, 0.5]), torch.zeros(4, dtype=torch.int64))]
    got = average_precision(found, [truth], [torch.zeros(4, dtype=torch.int64)], 2)
    assert float(got[0]) == pytest.approx((26 + 25 * 2 / 3) / 101, rel=1e-12)
    assert math.isnan(float(got[1]))
    nothing = Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert float(average_precision([nothing], [truth], [torch.zeros(4, dtype=torch.int64)], 1)[0]) == 0.0
    with pytest.raises(ValueError, match="got 1, 0, 0 images"):
        average_precision(found, [], [], 1)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((torch.zeros(1), torch.zeros(1, 2)), TypeError, r"must give \(image, boxes"),
        ((torch.zeros(1), torch.zeros(1, 2, 3), torch.zeros(1, 2).long()), TypeError, r"got boxes \[1, 2, 3\]"),
        ((torch.zeros(1), torch.zeros(1, 2, 4), torch.zeros(1, 2)), TypeError, "labels torch.float32"),
        ((torch.zeros(1), torch.zeros(1, 2, 4), torch.full((1, 2), 2)), ValueError, r"labels of 0 \.\.\. 1, or -1"),
        ((torch.zeros(1), torch.zeros(1, 2, 4), torch.full((1, 2), -2)), ValueError, r"got -2 \.\.\. -2"),
    ],
)
def test_batches_that_are_none(batch: tuple[Tensor, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TASK.check(batch, "the dataset")


def test_outputs_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"must return \[2, 7, 2, 3\] for images \[2, 3, 8, 12\]; got \[2, 7, 3, 2\]"):
        TASK.measure(lambda _: torch.zeros(2, 7, 3, 2), (torch.zeros(2, 3, 8, 12), BOXES, LABELS))


@pytest.mark.peers("pycocotools")
def test_average_precision_is_cocos() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    draw = torch.Generator().manual_seed(0)
    found, boxes, labels = [], [], []
    for count in (5, 0, 12, 3, 130):
        corner = torch.rand(count, 2, generator=draw) * 100
        there = torch.cat((corner, corner + 5 + 20 * torch.rand(count, 2, generator=draw)), 1)
        near = there.repeat(2, 1) + 3 * torch.randn(2 * count, 4, generator=draw)
        near = torch.cat((torch.minimum(near[:, :2], near[:, 2:]), torch.maximum(near[:, :2], near[:, 2:])), 1)
        boxes.append(there)
        labels.append(torch.randint(3, (count,), generator=draw))
        scores = (torch.rand(2 * count, generator=draw) * 20).round() / 20  # with ties
        found.append(Found(near, scores, torch.randint(3, (2 * count,), generator=draw)))

    def as_coco(image: int, box: Tensor) -> dict[str, object]:
        x0, y0, x1, y1 = box.double().tolist()
        return {"image_id": image, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}

    truth = [
        {**as_coco(i, box), "category_id": int(label), "id": 1000 * i + n + 1}
        for i, (some, named) in enumerate(zip(boxes, labels, strict=True))
        for n, (box, label) in enumerate(zip(some, named, strict=True))
    ]
    guesses = [
        {**as_coco(i, box), "category_id": int(kind), "score": float(score)}
        for i, one in enumerate(found)
        for box, score, kind in zip(*one, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(5)],
            "categories": [{"id": c} for c in range(3)],
            "annotations": truth,
            "info": {},
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(guesses), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = torch.from_numpy(evaluation.eval["precision"])[0, :, :, 0, 2]  # overlap 0.5, all areas, 100 detections
    got = average_precision(found, [b.double() for b in boxes], labels, 3)
    torch.testing.assert_close(got, precision.mean(0), rtol=1e-9, atol=1e-12)
