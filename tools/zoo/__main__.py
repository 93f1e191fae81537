# SPDX-License-Identifier: Apache-2.0
"""Which published networks convert, pack, verify, and answer alike from their file: `make zoo`.

Every network is built with random weights, converted by the method BNN with the default rules, packed, written to a
file in memory and read again, all in a process of its own. It counts as exact where what was read gives the
accumulators of every low-bit layer bit for bit and logits within docs/numerics.md, for two batch sizes and two seeds
that packing did not see, and for noise. A run that ended goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from networks import NETWORKS, Network

LIMIT_S = 900
"""For one network."""
Row = dict[str, Any]


def tried(network: Network) -> Row:
    """What became of one network."""
    import bittern
    from bittern.binary import BNN
    from bittern.deploy import pack, verify
    from bittern.deploy.packed import from_bytes

    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    row: Row = {"family": network.family, "name": network.name, "converts": False, "exact": False}
    model, example = network.build().eval(), network.example(2, 0)
    try:
        model = bittern.nn.convert(model, BNN, example=example)
        row["converts"] = True
        started = time.perf_counter()
        packed = pack(model, example)
        row["pack_s"] = round(time.perf_counter() - started, 1)
        kinds = [node.kind for node in packed.program.nodes]
        row |= {"low_bit": kinds.count("binary"), "nodes": len(kinds), "by_torch": kinds.count("aten")}
        again = from_bytes(packed.to_bytes())
        report = verify(again, model, [network.example(3, 1), network.example(1, 2)])
        row |= {"exact": report.exact, "identical": report.logits_identical}
    except Exception as error:
        row["message"] = f"{type(error).__name__}: {error}"[:600]
    return row


def main() -> None:
    """Try all networks, or those named, and write what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for zoo.json and zoo.md")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(tried(next(n for n in NETWORKS if n.name == options.one))))
        return
    path = options.out / "zoo.json"
    rows: dict[str, Row] = {row["name"]: row for row in (json.loads(path.read_text()) if path.exists() else [])}
    for network in NETWORKS:
        if network.name not in rows and (not options.names or network.name in options.names):
            rows[network.name] = _apart(network)
            path.write_text(json.dumps(list(rows.values()), indent=1) + "\n")
    (options.out / "zoo.md").write_text(page(list(rows.values())))


def _apart(network: Network) -> Row:
    """One network in a process of its own, so that a crash or a long one stops no other."""
    command = [sys.executable, __file__, "--one", network.name]
    row: Row = {"family": network.family, "name": network.name, "converts": False, "exact": False}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        lines = done.stdout.strip().splitlines()
        row = json.loads(lines[-1]) if done.returncode == 0 and lines else {**row, "message": done.stderr[-500:]}
    except subprocess.TimeoutExpired:
        row["message"] = f"took more than {LIMIT_S} s"
    print(row["family"], row["name"], "exact" if row["exact"] else row.get("message", row), flush=True)
    return row


def page(rows: list[Row]) -> str:
    """The results as Markdown."""
    exact = sum(row["exact"] for row in rows)
    identical = sum(row.get("identical", False) for row in rows)
    families = defaultdict(list)
    for row in rows:
        families[row["family"]].append(row)
    lines = [
        "# Published networks",
        "",
        "Command: `make zoo`. " + " ".join(str(__doc__).split("\n\n")[1].split()),
        "",
        f"**{exact} of {len(rows)} pack exactly**; the logits of {identical} are the training graph's bit for bit.",
        "",
        "| family | networks | convert | exact |",
        "|---|---|---|---|",
    ]
    for family, own in families.items():
        converted = sum(row["converts"] for row in own)
        lines.append(f"| {family} | {len(own)} | {converted} | {sum(row['exact'] for row in own)} |")
    lines += [
        "",
        "| network | low-bit layers | nodes | by torch | exact | logits bit-identical |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        sizes = " | ".join(str(row.get(key, "")) for key in ("low_bit", "nodes", "by_torch"))
        answers = " | ".join("yes" if row.get(key) else "no" for key in ("exact", "identical"))
        lines.append(f"| {row['name']} | {sizes} | {answers} |")
    failed = [
        f"- **{row['name']}**: {row.get('message', 'packs, but not exactly')}" for row in rows if not row["exact"]
    ]
    lines += ["", "What does not pack, in its own words:", "", *failed] if failed else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
