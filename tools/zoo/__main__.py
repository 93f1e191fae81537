# SPDX-License-Identifier: Apache-2.0
"""Which published networks convert, pack, verify, and answer alike from their file: `make zoo`.

Every network is built with random weights, converted by the method BNN with the default rules, packed, written to a
file in memory and read again, all in a process of its own. It counts as exact where what was read gives the
accumulators of every low-bit layer bit for bit and logits within docs/numerics.md, for two batch sizes and two seeds
that packing did not see, and for noise. A run that ended goes on where it stopped, on the same commit and machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from networks import NETWORKS, Network

from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.store import from_json, to_json

LIMIT_S = 900
"""For one network."""

ONE_THREAD = {"OMP_NUM_THREADS": "1"}

PACKAGES = "torchvision", "timm", "transformers"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one network."""

    family: str
    name: str
    converts: bool = False
    exact: bool = False
    identical: bool = False
    """Whether its logits are the training graph's bit for bit."""
    low_bit: int = 0
    nodes: int = 0
    by_torch: int = 0
    """Nodes that are operators of torch."""
    pack_s: float = 0.0
    message: str = ""
    """Of what went wrong."""


@dataclass(frozen=True, slots=True)
class Zoo:
    """All networks at one commit, on one machine."""

    commit: str
    machine: Machine
    packages: tuple[str, ...]
    runs: tuple[Row, ...] = ()

    def page(self) -> str:
        """The results as Markdown."""
        exact = sum(row.exact for row in self.runs)
        identical = sum(row.identical for row in self.runs)
        lines = [
            "# Published networks",
            "",
            "Command: `make zoo`. " + " ".join(str(__doc__).split("\n\n")[1].split()),
            "",
            f"Commit {self.commit}. Machine: {self.machine}; {', '.join(self.packages)}.",
            "",
            f"**{exact} of {len(self.runs)} pack exactly**; the logits of {identical} are the training graph's bit for "
            "bit." + ("" if len(self.runs) == len(NETWORKS) else f" {len(NETWORKS) - len(self.runs)} have not run."),
            "",
            *_families(self.runs),
            "",
            "| network | low-bit layers | nodes | by torch | exact | logits bit-identical |",
            "|---|---|---|---|---|---|",
        ]
        for row in self.runs:
            answers = " | ".join("yes" if right else "no" for right in (row.exact, row.identical))
            lines.append(f"| {row.name} | {row.low_bit} | {row.nodes} | {row.by_torch} | {answers} |")
        failed = [f"- **{row.name}**: {row.message or 'packs, but not exactly'}" for row in self.runs if not row.exact]
        lines += ["", "What does not pack, in its own words:", "", *failed] if failed else []
        return "\n".join(lines) + "\n"


def _families(rows: tuple[Row, ...]) -> list[str]:
    families = defaultdict(list)
    for row in rows:
        families[row.family].append(row)
    lines = ["| family | networks | convert | exact |", "|---|---|---|---|"]
    for family, own in families.items():
        converted = sum(row.converts for row in own)
        lines.append(f"| {family} | {len(own)} | {converted} | {sum(row.exact for row in own)} |")
    return lines


def tried(network: Network) -> Row:
    """What became of one network, in this process."""
    import bittern
    from bittern.binary import BNN
    from bittern.deploy import pack, verify
    from bittern.deploy.packed import from_bytes

    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    row = Row(network.family, network.name)
    model, example = network.build().eval(), network.example(2, 0)
    try:
        model = bittern.nn.convert(model, BNN, example=example)
        row = replace(row, converts=True)
        started = time.perf_counter()
        packed = pack(model, example)
        kinds = [node.kind for node in packed.program.nodes]
        counts = {"low_bit": kinds.count("binary"), "nodes": len(kinds), "by_torch": kinds.count("aten")}
        row = replace(row, pack_s=round(time.perf_counter() - started, 1), **counts)
        again = from_bytes(packed.to_bytes())
        report = verify(again, model, [network.example(3, 1), network.example(1, 2)])
        return replace(row, exact=report.exact, identical=report.logits_identical)
    except Exception as error:
        return replace(row, message=f"{type(error).__name__}: {error}"[:600])


def apart(network: Network) -> Row:
    """What became of one network, in a process of its own, so that a crash or a long one stops no other."""
    command = [sys.executable, __file__, "--one", network.name]
    none = Row(network.family, network.name)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=os.environ | ONE_THREAD
        )
    except subprocess.TimeoutExpired:
        return replace(none, message=f"took more than {LIMIT_S} s")
    if done.returncode != 0:
        return replace(none, message=done.stderr[-500:] or f"ended with {done.returncode}")
    return from_json(Row, done.stdout[done.stdout.index(START) + len(START) :])


START = "the row as JSON:\n"


def main() -> None:
    """Try all networks and write what became of them; or print what becomes of those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these, and write nothing")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for zoo.json and zoo.md")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    by_name = {network.name: network for network in NETWORKS}
    if options.one:
        print(START + to_json(tried(by_name[options.one])))
        return
    unknown = [name for name in options.names if name not in by_name]
    if unknown:
        parser.error(f"no networks {', '.join(unknown)}; there are {', '.join(by_name)}")
    if options.names:
        for name in options.names:
            tell(apart(by_name[name]))
        return
    torch.set_num_threads(1)  # as in the processes of the networks
    fresh = Zoo(commit(), this_machine(), tuple(f"{name} {version(name)}" for name in PACKAGES))
    trials = [Trial(network.name, partial(apart, network)) for network in NETWORKS]
    run_trials("make zoo", options.out / "zoo.json", fresh, trials, lambda row: row.name, on_run=tell)


def tell(row: Row) -> None:
    print(row.family, row.name, "exact" if row.exact else row.message or asdict(row), flush=True)


def commit() -> str:
    """That of the source tree; what is changed beside the results of this program says so."""
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=10"]
    changed = ["git", "-C", str(Path(__file__).parents[2]), "status", "--porcelain", "--", "src", "native", "tools"]
    name = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    dirty = subprocess.run(changed, capture_output=True, text=True, check=True).stdout.strip()
    return name + (" with changes" if dirty else "")


if __name__ == "__main__":
    main()
