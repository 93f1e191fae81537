# SPDX-License-Identifier: Apache-2.0
"""Trials on two nodes of Ray: a worker that is killed costs its trial a try, which goes on from its checkpoint."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from _own_files import written
from _trials import COMMAND, Toy, Trains
from bittern._own_code import own_code
from bittern.bench.tracks.learning_task import LearningTask
from bittern.bench.tracks.own_problem import own_problem
from bittern.bench.trials.executor import Job, Unusable
from bittern.bench.trials.ray_executor import RayTasks, _task
from bittern.bench.trials.runner import Told, run, work_folder
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.track import Choice
from bittern.bench.trials.trial import TWIN, Trial
from bittern.binary import BNN


@pytest.mark.peers("ray")
@pytest.mark.filterwarnings("ignore")
def test_two_nodes_share_the_trials_and_a_killed_worker_costs_a_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where nodes find the tracks of tests
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr("sys.path", [*sys.path])
    file = written(tmp_path)
    made = own_problem(own_code(f"{file}:build"), own_code(f"{file}:sets"))
    # with a core each, trials that wait for each other are on two nodes
    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    told: list[Told] = []
    try:
        cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        choice = Choice({}, seeds=(0,), epochs=4, tasks=("straight", "dies once"))
        path = tmp_path / "all.trials"
        with TrialStore.open(path) as store, RayTasks(cluster.address) as executor:
            summary = run((Trains(),), choice, store, executor, command=COMMAND, on_event=told.append)
            # of the same workers, which are there by now
            own = run((LearningTask((made,)),), Choice({"BNN": BNN}, (0,)), store, executor, command=COMMAND)
    finally:
        cluster.shutdown()
    assert (summary.done, summary.failed) == (own.done, own.failed) == (2, ())
    with TrialStore.read(path) as store:
        found = {d.trial.task: d.result for d in store.done()}
        by_method = {d.trial.method: d.result.metrics for d in store.done() if d.trial.task == made.name}
    assert by_method.keys() == {TWIN, "BNN"}
    assert by_method["BNN"]["exact"] == 1.0, "a model of the user's own goes to nodes"
    assert found["straight"].metrics["began"] == 1
    assert found["dies once"].metrics["began"] == 3, "from its last checkpoint, not from epoch 1"
    assert found["dies once"].curves == found["straight"].curves
    assert {t.what for t in told} >= {"start", "lost", "done"}
    assert not work_folder(path).exists()


def test_a_node_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    job = Job(Toy(), Trial("toy", "digits", "mlp", "BNN", "", 0, 1), tmp_path / "w" / "k", {}, None, 1, {})
    end = _task(job, tmp_path / "w" / "mark", None)
    assert isinstance(end, Unusable)
    assert "give --work a folder that all nodes share" in end.why
    assert not (tmp_path / "w").exists()


def test_without_ray_one_line_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install 'bittern\\[ray\\]', on every node"):
        RayTasks("local").__enter__()
