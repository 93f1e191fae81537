# SPDX-License-Identifier: Apache-2.0
"""Advice within limits, against trials whose answers can be worked by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

import _page_trials as made
from bittern.bench.advice import advise
from bittern.bench.trials.candidates import Candidate, candidates, front
from bittern.bench.trials.trial import TWIN, Done, Result, Trial


def training(
    method: str, scores: Sequence[float], size: float, network: str = "mlp", task: str = "digits"
) -> list[Done]:
    return [
        made.done(
            Trial("learning_task", task, network, method, "common", seed, 2),
            Result({"score": score, "packed_bytes": size}),
        )
        for seed, score in enumerate(scores)
    ]


def timed(method: str, seconds: float, network: str = "mlp") -> Done:
    trial = Trial("hardware_inference", "digits", network, method, "", 0, 0)
    return made.done(trial, Result({"latency": seconds, "latency: OpenVINO": seconds / 2}))


TRAININGS = [
    *training(TWIN, (0.96, 0.97, 0.98), 4000),
    *training("BNN", (0.90, 0.91, 0.92), 130),
    *training("ReCU", (0.93, 0.94, 0.95), 160),
    *training("FDA", (0.928, 0.938, 0.948), 170),  # 0.2 points below ReCU, and larger
    *training("XNORNet", (0.70, 0.71, 0.72), 140),  # below BNN, and larger
]


def names(found: Sequence[Candidate]) -> list[str]:
    return [one.trained.trial.method for one in found]


def test_choices_are_within_the_limits_and_not_beaten() -> None:
    (advice,) = advise(TRAININGS, {"bytes": 200})
    assert names([one.candidate for one in advice.choices]) == ["ReCU", "BNN"]
    assert advice.costs == ("bytes",)
    assert advice.nearest == advice.unmeasured == ()
    (everything,) = advise(TRAININGS, {})
    assert names([one.candidate for one in everything.choices]) == [TWIN, "ReCU", "BNN"]


def test_seed_noise_decides_what_is_worse() -> None:
    """s = 1 point, n = 3 on both sides: the interval is ±2.267 points (test_seeds.py)."""
    (advice,) = advise(TRAININGS, {"bytes": 200})
    best, other = advice.choices
    assert best.behind.mean == 0
    assert other.behind.mean == pytest.approx(-0.03)
    assert other.behind.half_width == pytest.approx(0.02267, abs=1e-5)
    assert other.worse
    # FDA is beaten by its mean and its bytes, but 0.2 points are less than the noise; XNORNet is far below
    assert names([one.candidate for one in advice.ties]) == ["FDA"]


def test_one_seed_tells_nothing_apart() -> None:
    (advice,) = advise([*training("BNN", (0.5,), 100), *training("ReCU", (0.9,), 200)], {"bytes": 300})
    assert [one.worse for one in advice.choices] == [False, False]
    assert advice.choices[1].behind.half_width is None


def test_a_limit_counts_where_it_is_reached() -> None:
    (advice,) = advise(TRAININGS, {"bytes": 160})
    assert names([one.candidate for one in advice.choices]) == ["ReCU", "BNN"]


def test_nothing_fits_and_what_comes_nearest() -> None:
    (advice,) = advise(TRAININGS, {"bytes": 100})
    assert advice.choices == ()
    assert [(near.candidate.trained.trial.method, dict(near.times)) for near in advice.nearest] == [
        ("BNN", {"bytes": 1.3}),
        ("XNORNet", {"bytes": 1.4}),
        ("ReCU", {"bytes": 1.6}),
    ]


def test_latency_is_that_of_our_engine_for_the_same_network() -> None:
    times = [timed("ReCU", 1e-4, network="another"), timed("FDA", 3e-3), timed("BNN", 1e-3)]
    (advice,) = advise([*TRAININGS, *times], {"latency": 2e-3})
    assert names([one.candidate for one in advice.choices]) == ["BNN"]
    assert advice.choices[0].candidate.costs["latency"].estimate.mean == 1e-3
    assert names(advice.unmeasured) == [TWIN, "ReCU", "XNORNet"]
    assert advice.choices[0].candidate.evidence == (*TRAININGS[3:6], times[2])


def test_tasks_are_advised_apart() -> None:
    others = training("BNN", (0.5, 0.6), 100, task="letters")
    assert [one.task for one in advise([*TRAININGS, *others], {})] == ["digits", "letters"]
    (one,) = advise([*TRAININGS, *others], {}, task="letters")
    assert names([beside.candidate for beside in one.choices]) == ["BNN"]


@pytest.mark.parametrize(
    ("done", "limits", "task", "message"),
    [
        ([], {}, None, "no trial of learning_task is done"),
        (TRAININGS, {}, "letters", "nothing was trained for the task letters; there are digits"),
        (TRAININGS, {"bytes": 0.0}, None, "finite numbers above 0"),
        (TRAININGS, {"latency": math.nan}, None, "finite numbers above 0"),
        (TRAININGS, {"watts": 1.0}, None, "of bytes, ops, latency; got watts 1.0"),
    ],
)
def test_bad_questions(done: list[Done], limits: Mapping[str, float], task: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        advise(done, limits, task)


def test_front_keeps_equals_and_leaves_out_who_lacks_a_cost() -> None:
    found = candidates([*training("BNN", (0.9,), 100), *training("ReCU", (0.9,), 100), *training("FDA", (0.9,), 101)])
    assert names(front(found, ["bytes"])) == ["BNN", "ReCU"]
    assert front(found, ["bytes", "ops"]) == []


def test_bits_are_those_of_the_file_for_each_parameter() -> None:
    trial = Trial("learning_task", "digits", "mlp", "BNN", "common", 0, 2)
    layers = b'[{"name": "a", "binary_params": 90, "float_params": 10, "code_params": 0}]'
    (one,) = candidates([made.done(trial, Result({"score": 0.9, "packed_bytes": 50.0}, {}, {"layers.json": layers}))])
    assert one.bits == 4.0
    assert candidates(training("BNN", (0.9,), 100))[0].bits is None
