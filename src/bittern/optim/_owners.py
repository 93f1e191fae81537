# SPDX-License-Identifier: Apache-2.0
"""Matrices whose rows lie on several processes: each is put together on one of them, its owner, and handed out again.

As many matrices as there are processes make a round, the largest first, so that every process owns one and those of a
round cost about the same. A round is two exchanges of all processes with all, in bfloat16. While the owners compute,
the rows of the next round and the results of the last one are on their way; so the rows of three rounds are in memory
at once, in bfloat16, beside the one whole matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from bittern.optim._shards import RowShards

_Round = Mapping[int, Tensor]
"""A parameter for each of some owners."""


def on_owners(
    shards: RowShards,
    params: Sequence[Tensor],
    first: int,
    rows_of: Callable[[Tensor], Tensor],
    whole: Callable[[Tensor], Tensor],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each of `params` with this process's rows of whole(x) in bfloat16; x: what all have as rows_of(p), in bfloat16.

    params: matrices, all spread as `shards` says. first: the owner of the largest one, modulo the processes. Every
    process of the mesh must call it with the same parameters in the same order, and exhaust it.
    """
    owners = Owners(shards, params[0].device)
    rounds = rounds_of(params, shards.processes, first)
    arriving = owners.gather(rounds[0], rows_of)
    leaving: tuple[_Round, _Exchange] | None = None
    for i, members in enumerate(rounds):
        joined = arriving.wait()
        if i + 1 < len(rounds):
            arriving = owners.gather(rounds[i + 1], rows_of)
        results = owners.scatter(members, joined, whole)
        if leaving is not None:
            yield from owners.here(*leaving)
        leaving = members, results
    if leaving is not None:
        yield from owners.here(*leaving)


def rounds_of(params: Sequence[Tensor], processes: int, first: int) -> list[dict[int, Tensor]]:
    """`params` by falling work of a product with the transpose, dealt out to one owner after another, in rounds."""
    order = sorted(range(len(params)), key=lambda i: -params[i].numel() * min(params[i].shape))  # equal ones in order
    dealt = [((first + n) % processes, params[i]) for n, i in enumerate(order)]
    return [dict(dealt[i : i + processes]) for i in range(0, len(dealt), processes)]


class Owners:
    """The processes among which rows are spread, as this one sees them."""

    def __init__(self, shards: RowShards, device: torch.device) -> None:
        self._shards = shards
        self._mine = int(shards.mesh.get_local_rank(shards.dimension))
        where = shards.mesh.device_type  # another one than the parameters' where FSDP offloads them to the host
        self._device = device if device.type == where else torch.device(where)

    def gather(self, members: _Round, rows_of: Callable[[Tensor], Tensor]) -> _Exchange:
        """Sends this process's rows of each matrix to its owner."""
        blocks = {owner: rows_of(p).bfloat16().to(self._device) for owner, p in members.items()}
        mine = members.get(self._mine)
        lengths = [0] * self._shards.processes
        if mine is not None:
            lengths = [rows * mine.shape[1] for rows in self._shards.split(mine.shape[0])]
        return _Exchange(self._shards, self._device, blocks, lengths)

    def scatter(self, members: _Round, joined: Tensor, whole: Callable[[Tensor], Tensor]) -> _Exchange:
        """Computes the result of the matrix that this process owns and sends everybody his rows."""
        mine = members.get(self._mine)
        results: dict[int, Tensor] = {}
        if mine is not None:
            result = whole(joined.view(mine.shape)).bfloat16()
            results = dict(enumerate(torch.split(result, self._shards.split(mine.shape[0]))))
        lengths = [0] * self._shards.processes
        for owner, p in members.items():
            lengths[owner] = self._rows(p) * p.shape[1]
        return _Exchange(self._shards, self._device, results, lengths)

    def here(self, members: _Round, results: _Exchange) -> Iterator[tuple[Tensor, Tensor]]:
        """Each matrix of a round with this process's rows of its result, when they have come."""
        blocks = torch.split(results.wait(), results.lengths)
        for owner, p in members.items():
            yield p, blocks[owner].view(self._rows(p), p.shape[1]).to(p.device)

    def _rows(self, p: Tensor) -> int:
        return self._shards.split(p.shape[0])[self._mine]


class _Exchange:
    """Blocks of bfloat16 on their way: at most one to each process, and `lengths` numbers from each."""

    def __init__(
        self, shards: RowShards, device: torch.device, blocks: Mapping[int, Tensor], lengths: Sequence[int]
    ) -> None:
        import torch.distributed as dist

        self.lengths = list(lengths)
        none = torch.empty(0, dtype=torch.bfloat16, device=device)
        sent = [blocks.get(i, none).flatten() for i in range(shards.processes)]
        self._sent = torch.cat(sent)
        self._found = self._sent.new_empty(sum(lengths))
        self._work = dist.all_to_all_single(
            self._found.view(torch.uint8),  # bytes, which every backend sends
            self._sent.view(torch.uint8),
            [2 * length for length in lengths],
            [2 * block.numel() for block in sent],
            group=shards.mesh.get_group(shards.dimension),
            async_op=True,
        )

    def wait(self) -> Tensor:
        """All that came, one process after another."""
        self._work.wait()
        return self._found
