# SPDX-License-Identifier: Apache-2.0
"""How much faster a packed network runs here, and how much smaller its file is.

    OM_infer = sqrt( ( E[T_twin / T_method]^2 + E[S_twin / S_method]^2 ) / 2 )

T is the latency of one input, the twin's in the faster one of torch's two memory layouts; S is bytes: of the packed
file, and of the twin's parameters and buffers as safetensors. E is the mean over tasks and networks.
Derivation: BiBench (arXiv 2301.11233) takes the quadratic mean of the speedups and compressions that libraries reach on
hardware; its text was not at hand, and the formula follows that meaning.
Differences: BiBench runs Larq Compute Engine and daBNN on fourteen chips; here it is this machine, and every engine
that is installed runs the twin: "speedup: ENGINE" is that engine's time by ours, above 1 ours is faster. Each pair is
timed in turn in a process of its own (`bench.speed.contest`), so an engine that crashes or hangs becomes a note, with
networks that start at random: trained ones take as long.
"""

from __future__ import annotations

import contextlib
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from bittern import deploy
from bittern.bench.core.timing import latency, torch_threads
from bittern.bench.core.training import fresh
from bittern.bench.speed.contest import LIMIT_S, Contest, PeerError
from bittern.bench.speed.peers import CHANNELS_LAST, PEERS, Peer
from bittern.bench.tracks import artefacts
from bittern.bench.tracks.overall import beside_twins, complete, quadratic_mean, times_less
from bittern.bench.tracks.planning import cells
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.problems import PROBLEMS
from bittern.bench.tracks.theoretical_complexity import untrained
from bittern.bench.trials.track import Choice, Plan, Track, Work
from bittern.bench.trials.trial import TWIN, Done, Result, Trial
from bittern.deploy.packed import Packed
from bittern.nn import ConstantInputWarning

BUDGET_S = 0.5
"""For each engine, beside what it takes to set up."""
TORCH = (PEERS[0].name, CHANNELS_LAST.name)
US_PER_S = 1e6
LATENCY, SPEEDUP = "latency", "speedup"


class HardwareInference(Track):
    """Times packed networks beside their twins; peers: the engines; budget_s: seconds for each.

    limit_s: the longest that one may take to be built, or to be timed beside its budget.
    """

    name = "hardware_inference"
    title = "Hardware inference"
    question = "How much faster and smaller is the packed network, here and against which engine?"
    metric = LATENCY
    higher_is_better = False

    def __init__(
        self,
        problems: Sequence[Problem] = PROBLEMS,
        peers: Sequence[Peer] = PEERS,
        budget_s: float = BUDGET_S,
        limit_s: float = LIMIT_S,
    ) -> None:
        self.problems = tuple(problems)
        self.peers = tuple(peers)
        self.budget_s = budget_s
        self.limit_s = limit_s

    def plan(self, choice: Choice) -> Plan:
        found = cells(self.problems, choice, lambda problem: tuple(problem.networks)[:1], needs_data=False)
        missing = [f"{peer.name}: {reason}." for peer in self.peers if (reason := peer.missing()) is not None]
        return Plan(untrained(self.name, found.found, choice), (*found.dropped, *missing))

    def alone(self, trial: Trial) -> bool:
        return True

    def run(self, trial: Trial, work: Work) -> Result:
        problem = find(self.problems, trial.task)
        ready = partial(_twin, problem, trial.network, trial.seed)
        twin, x = ready()
        size = len(artefacts.state_bytes(twin))
        with torch_threads(work.threads):
            if trial.method == TWIN:
                metrics, notes = self._twin(twin, x), list[str]()
            else:
                build, method = problem.network(trial.network).build, work.methods[trial.method]
                file = _packed(fresh(lambda: build(method), trial.seed), x).to_bytes()
                metrics, notes = self._against_twin(file, ready, work)
                size = len(file)
        return Result({"file_bytes": float(size), **metrics}, notes=(*notes, f"On {work.threads} thread(s)."))

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        speed = complete(beside_twins(done, self.name, lambda trial, twin: trial.get(SPEEDUP)))
        size = complete(beside_twins(done, self.name, times_less("file_bytes")))
        return {
            method: quadratic_mean(statistics.fmean(places.values()) for places in (speed[method], size[method]))
            for method in speed
            if method in size
        }

    def _twin(self, twin: nn.Module, x: Tensor) -> dict[str, float]:
        """The faster one of torch's layouts, by itself."""
        found = {}
        for peer in self.peers:
            with contextlib.suppress(Exception):  # a layout that is none for these inputs
                if peer.name in TORCH:
                    found[peer.name] = latency(peer.build(twin, x)).median / US_PER_S
        return {LATENCY: min(found.values()), **{f"{LATENCY}: {name}": value for name, value in found.items()}}

    def _against_twin(
        self, file: bytes, ready: Callable[[], tuple[nn.Module, Tensor]], work: Work
    ) -> tuple[dict[str, float], list[str]]:
        """In turn with every engine that is there and takes the twin. file: of the packed network."""
        metrics: dict[str, float] = {}
        notes = []
        for i, peer in enumerate(self.peers):
            work.on_progress(i / len(self.peers), peer.name)
            if peer.missing() is not None:
                continue
            try:
                timed = Contest(file, ready, __name__, peer, work.threads, self.budget_s).hold(self.limit_s)
            except PeerError as error:
                notes.append(f"{peer.name}: {error}")
                continue
            metrics.setdefault(LATENCY, timed.latency_us.median / US_PER_S)
            metrics[f"{LATENCY}: {peer.name}"] = timed.baseline_latency_us.median / US_PER_S
            metrics[f"{SPEEDUP}: {peer.name}"] = timed.speedup.median
        torch = [metrics[f"{SPEEDUP}: {name}"] for name in TORCH if f"{SPEEDUP}: {name}" in metrics]
        if torch:
            metrics[SPEEDUP] = min(torch)
        return metrics, notes


def _twin(problem: Problem, network: str, seed: int) -> tuple[nn.Module, Tensor]:
    """The float network and an input."""
    build = problem.network(network).build
    return fresh(lambda: build(None), seed).eval().requires_grad_(False), problem.inputs(1)


def _packed(model: nn.Module, x: Tensor) -> Packed:
    """Of a network that was never trained, whose signs may well be the same whatever comes in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        return deploy.pack(model.eval(), x)
