# SPDX-License-Identifier: Apache-2.0
"""Every track of the benchmark can go to another process."""

from __future__ import annotations

import pickle  # noqa: TID251 - what multiprocessing does with a job
from pathlib import Path

import pytest

from bittern import binary
from bittern.bench.tracks.all import ALL
from bittern.bench.trials.executor import Job
from bittern.bench.trials.order import in_order
from bittern.bench.trials.track import Choice, Track


@pytest.mark.parametrize("track", ALL, ids=lambda track: track.name)
def test_a_job_of_each_track_can_be_sent(track: type[Track]) -> None:
    choice = Choice({method.__name__: method for method in binary.ALL}, seeds=(0,), tasks=("digits",))
    order = in_order([track()], choice, [known() for known in ALL])
    assert order.trials
    one = order.trials[-1]
    job = Job(one.track, one.trial, Path("folder"), choice.methods, None, 1, {}, one.alone)
    sent = pickle.loads(pickle.dumps(job))
    assert (sent.trial, sent.methods, type(sent.track)) == (job.trial, job.methods, track)
    assert sent.track.plan(choice) == one.track.plan(choice)
