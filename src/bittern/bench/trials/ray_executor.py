# SPDX-License-Identifier: Apache-2.0
"""Trials as tasks of a Ray cluster.

The store stays with the driver; a trial's folder must lie where the driver and every node see it, since its checkpoints
are what a retry goes on from. A task that loses its worker or its node is started again by the driver, as one that
loses its process is (`runner`), so Ray's own retries are off. Modules of own methods are found where Ray looks for
modules: in the driver's current folder, which all nodes must see then.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bittern.bench.trials.executor import Event, Executor, Finished, Job, Lost, Progress, Raised, Stopped, Unusable
from bittern.bench.trials.worker import one_line, perform

LOCAL = "local"
AHEAD = 2
"""Tasks that a cluster is given for each that it can run, so that none waits for the driver."""
EVERY_S = 0.5
"""Between words of a running trial."""


class RayTasks(Executor):
    """address: of a cluster, as "10.0.0.1:6379" or "auto", or "local" for one that begins and ends with this.

    cpus, gpus: that a trial takes; one that measures time takes all the cores of a node.

    Raises: on entering, ImportError without Ray; OSError for a cluster that does not answer.
    """

    def __init__(self, address: str, *, cpus: int = 1, gpus: float = 0.0) -> None:
        self._address = address
        self._cpus = cpus
        self._gpus = gpus
        self._keys: dict[Any, str] = {}
        self._mark: Path | None = None

    def __enter__(self) -> Self:
        try:
            import ray
        except ImportError as error:
            raise ImportError("--ray needs Ray: pip install 'bittern[ray]', on every node") from error
        self._ray = ray
        local: dict[str, Any] = {"include_dashboard": False} if self._address == LOCAL else {}
        if local:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(self._address, log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise OSError(f"--ray {self._address}: {one_line(error)}; start a cluster, or give local") from error
        self._inbox = ray.remote(_Inbox).options(num_cpus=0).remote()
        return self

    def __exit__(self, *error: object) -> None:
        if self._mark is not None:
            self._mark.unlink(missing_ok=True)
            with suppress(OSError):
                self._mark.parent.rmdir()  # unless checkpoints are in it
        self._keys.clear()
        self._ray.shutdown()

    @property
    def lanes(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 0.0) // self._cpus))

    def accepts(self, alone: bool) -> bool:
        return len(self._keys) < AHEAD * self.lanes

    def start(self, job: Job) -> None:
        options: dict[str, Any] = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_retries": 0}
        options["scheduling_strategy"] = "SPREAD"  # a node that is crowded trains slower than an empty one
        if job.alone:
            nodes = [node["Resources"].get("CPU", 0.0) for node in self._ray.nodes() if node["Alive"]]
            options["num_cpus"] = max([self._cpus, *nodes])
        reference = self._ray.remote(_task).options(**options).remote(job, self._marked(job.folder.parent), self._inbox)
        self._keys[reference] = job.trial.key

    def wait(self, seconds: float) -> Sequence[Event]:
        events = self._words()
        if self._keys:
            ready, _ = self._ray.wait([*self._keys], timeout=0 if events else seconds)
            # what a trial said before its end comes before it
            events += [*self._words(), *(self._end(reference) for reference in ready)]
        return events

    def interrupt(self) -> None:
        for reference in self._keys:
            self._ray.cancel(reference, force=False)

    def _end(self, reference: Any) -> Event:
        key, errors = self._keys.pop(reference), self._ray.exceptions
        try:
            end: Event = self._ray.get(reference)
        except errors.TaskCancelledError:
            return Stopped(key)
        except errors.RayTaskError as error:
            return Unusable(key, f"a node cannot take a trial: {_brief(error)}")
        except errors.RayError as error:
            return Lost(key, _brief(error))
        return end

    def _words(self) -> list[Event]:
        try:
            return list(self._ray.get(self._inbox.take.remote(), timeout=10))
        except self._ray.exceptions.RayError:
            return []  # words are lost with the node that kept them; ends are not

    def _marked(self, folder: Path) -> Path:
        """A file by which a node tells that it sees the driver's folder."""
        if self._mark is None:
            folder.mkdir(parents=True, exist_ok=True)
            self._mark = folder / f".{secrets.token_hex(8)}.driver"
            self._mark.touch()
        return self._mark


class _Inbox:
    """Keeps what running trials say until the driver asks."""

    def __init__(self) -> None:
        self._events: list[Progress] = []

    def put(self, event: Progress) -> None:
        self._events.append(event)

    def take(self) -> list[Progress]:
        events, self._events = self._events, []
        return events


def _brief(error: Exception) -> str:
    """Without the traceback of the node, and advice on Ray."""
    return one_line(error).split(" traceback: ")[0].split(" The ")[0]


def _task(job: Job, mark: Path, inbox: Any) -> Finished | Raised | Unusable | Stopped:
    """What a worker does."""
    key = job.trial.key
    if not mark.exists():
        host = os.uname().nodename
        return Unusable(key, f"node {host} does not see {mark.parent}; give --work a folder that all nodes share")
    said = 0.0

    def tell(share: float, words: str) -> None:
        nonlocal said
        if time.monotonic() - said >= EVERY_S:
            said = time.monotonic()
            with suppress(Exception):  # whatever happens to words, the trial goes on
                inbox.put.remote(Progress(key, share, words))

    try:
        return perform(job, tell)
    except KeyboardInterrupt:
        return Stopped(key)
