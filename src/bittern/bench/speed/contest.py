# SPDX-License-Identifier: Apache-2.0
"""A packed network against another engine, in a process that both have to themselves.

An engine that crashes, hangs or takes all memory ends that process and nothing else, and what it did meanwhile is said.
Both engines run there, rather than each in a process of its own that is asked for its turns: threads of one that spin
on after its turn (as OpenMP's do, for milliseconds) would take time from the other, and messages would lie between the
samples. So it is `compare` in one process, in turn, as of two functions. The process is forked from one that has
imported and done nothing else (`core.child`): each contest begins alike, whatever engines came before it. It costs a
tenth of a second, another to read the packed file, and the float network, which it builds itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

from torch import Tensor, nn

from bittern.bench.core.child import Child
from bittern.bench.core.timing import Comparison, compare, torch_threads
from bittern.bench.speed.peers import Peer
from bittern.deploy.packed import from_bytes

LIMIT_S = 900.0
"""The slowest step that is known, torch.compile of a large network, takes some minutes."""
BEGAN, LOADED, BUILT, RAN, TIMED = (
    "while it began", "while the packed network was read and run", "while it built its network",
    "in its first run", "while it was timed",
)  # fmt: skip
"""Steps, as they stand behind what went wrong."""


class PeerError(RuntimeError):
    """An engine that could not be built or timed: how it ended, and at which step."""


@dataclass(frozen=True, slots=True)
class Contest:
    """What a process is sent: all of it can be, so no lambda is among it.

    packed: bytes of a packed network's file. ready: makes the float network, in eval mode, and the input of both.
    module: where it is; it is imported once for all contests. budget_s: about so many seconds are measured.
    """

    packed: bytes
    ready: Callable[[], tuple[nn.Module, Tensor]]
    module: str
    peer: Peer
    threads: int
    budget_s: float

    def hold(self, limit_s: float = LIMIT_S) -> Comparison:
        """The packed network (candidate) and the peer (baseline), each sample behind an untimed call of its own.

        limit_s: the longest that a step may take; of timing beside what the budget asks for.
        Raises: PeerError.
        """
        child = Child(_serve, "contest", imports=(__name__, self.module))
        try:
            return self._followed(child, limit_s)
        finally:
            child.end()

    def _followed(self, child: Child, limit_s: float) -> Comparison:
        step, sent = BEGAN, False
        while True:
            allowed = limit_s + (2 * self.budget_s if step == TIMED else 0.0)
            try:
                if not child.connection.poll(allowed):
                    raise PeerError(f"no answer for {allowed:g} s, {step}; its process was ended")
                said = child.connection.recv()
            except (EOFError, OSError):
                raise PeerError(f"{child.how()}, {step}") from None
            if isinstance(said, Comparison):
                return said
            if isinstance(said, PeerError):
                raise said
            step = said
            if not sent:
                sent = True
                with suppress(OSError):  # one that died meanwhile is found in the next round
                    child.connection.send(self)


def _serve(connection: Connection) -> None:
    """The process: tells each step before it begins it, then what came out."""
    step = BEGAN

    def tell(next_step: str) -> None:
        nonlocal step
        step = next_step
        connection.send(step)

    tell(BEGAN)
    try:
        found: Comparison | PeerError = _held(connection.recv(), tell)
    except Exception as error:  # whatever another engine raises
        said = (str(error).splitlines() or [""])[0]
        found = PeerError(f"{type(error).__name__}: {said}, {step}")
    connection.send(found)
    os._exit(0)  # what engines do at the end of a process is nobody's concern


def _held(contest: Contest, tell: Callable[[str], None]) -> Comparison:
    with torch_threads(contest.threads):
        tell(LOADED)
        model, x = contest.ready()
        packed = from_bytes(contest.packed)
        ours = partial(packed, x)
        ours()
        tell(BUILT)
        theirs = contest.peer.build(model, x)
        tell(RAN)
        theirs()
        tell(TIMED)
        return compare(ours, theirs, budget_s=contest.budget_s, settled=True)
