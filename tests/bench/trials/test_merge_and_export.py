# SPDX-License-Identifier: Apache-2.0
"""Stores of several machines in one, and a store as tables."""

from __future__ import annotations

import builtins
import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest

from _trials import COMMAND, done, machine, trial
from bittern.bench.core.store import StoreError
from bittern.bench.trials.export import export
from bittern.bench.trials.merge import Merged, merge
from bittern.bench.trials.rows import digest_of_machine
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.trial import TWIN, Done, Failed, Result


def store_of(path: Path, *results: Done, failed: tuple[int, ...] = (), cpu: str = "tested") -> Path:
    with TrialStore.open(path) as store:
        for one in results:
            store.add(one, beside=True)
        for seed in failed:
            store.add_failed(Failed(trial(seed), "ValueError: no", machine(cpu), COMMAND, "2026-01-02T03:04:05+00:00"))
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))


def test_a_merge_loses_and_doubles_nothing(tmp_path: Path) -> None:
    into = store_of(tmp_path / "a", done(trial(0)), done(trial(1)), failed=(8, 9))
    others = [
        store_of(tmp_path / "b", done(trial(1), accuracy=0.5), done(trial(2)), failed=(8,)),
        store_of(tmp_path / "c", done(trial(0), cpu="other", moment=9), done(trial(9), cpu="other"), failed=(7,)),
    ]
    before = [path.read_bytes() for path in others]
    assert merge(into, others) == Merged(added=3, known=1, differing=1, failures=1)
    assert merge(into, others) == Merged(added=0, known=4, differing=1, failures=0)
    assert [path.read_bytes() for path in others] == before
    with TrialStore.read(into) as store:
        assert sorted((d.trial.seed, d.machine.cpu) for d in store.done(every_machine=True)) == [
            *((0, "other"), (0, "tested"), (1, "tested"), (2, "tested"), (9, "other"))
        ]
        first = {d.trial.seed: d for d in store.done()}
        assert first[0].machine.cpu == "tested"
        assert first[1].result.metrics["accuracy"] == 0.75
        assert store.artefact(trial(2).key, "packed.bittern") == bytes(range(256))
        assert sorted(f.trial.seed for f in store.failed()) == [7, 8]


def test_a_merge_into_nothing_makes_a_store(tmp_path: Path) -> None:
    source = store_of(tmp_path / "a", done())
    assert merge(tmp_path / "new", [source, source]).added == 1


def test_a_merge_leaves_named_artefacts_behind(tmp_path: Path) -> None:
    source = store_of(tmp_path / "a", done(trial(0)), done(trial(1)))
    for _ in range(2):  # what is there is not taken for another result
        again = merge(tmp_path / "new", [source], leave_out=("packed.bittern",))
    assert again == Merged(added=0, known=2, differing=0, failures=0)
    third = merge(tmp_path / "third", [tmp_path / "new"], leave_out=("packed.bittern",))  # which is gone already
    assert third.added == 2
    with TrialStore.read(source) as whole, TrialStore.read(tmp_path / "new") as store:
        store.check()
        for full, kept in zip(whole.done(), store.done(), strict=True):
            assert set(full.result.artefacts) - set(kept.result.artefacts) == {"packed.bittern"}
            assert kept.result.metrics == full.result.metrics
            assert kept.result.curves == full.result.curves
            assert kept.result.notes[-1] == "left out when stores were merged: packed.bittern"
        with pytest.raises(KeyError, match=r"has no artefact packed\.bittern"):
            store.artefact(trial(0).key, "packed.bittern")
    with pytest.raises(ValueError, match=r"no result has an artefact 'model'; there are .*packed\.bittern"):
        merge(tmp_path / "none", [source], leave_out=("model",))
    assert not (tmp_path / "none").exists()


def test_a_merge_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    into, good = store_of(tmp_path / "a", done()), store_of(tmp_path / "b", done(trial(5)))
    (tmp_path / "bad").write_bytes(good.read_bytes().replace(b"tested", b"TESTED"))
    before = into.read_bytes()
    with pytest.raises(ValueError, match="both what is read and what is written"):
        merge(into, [good, into])
    with pytest.raises(FileNotFoundError, match="no store of trials"):
        merge(into, [good, tmp_path / "none"])
    with pytest.raises(StoreError, match="not what its digest says"):
        merge(into, [good, tmp_path / "bad"])
    assert into.read_bytes() == before


def test_csv_has_everything_but_artefacts(tmp_path: Path) -> None:
    odd = trial(1, task='a "b",\nc', settings=(("x", None),))
    path = store_of(tmp_path / "a", done(), done(odd, moment=1), done(cpu="other", moment=2), failed=(8,))
    with TrialStore.read(path) as store:
        written = export(store, tmp_path / "out" / "tables")
    assert [p.name for p in written] == [
        *("trials.csv", "metrics.csv", "curves.csv", "notes.csv", "failures.csv", "machines.csv", "published.csv")
    ]
    tables = {p.stem: rows_of(p) for p in written}
    assert [len(rows) for rows in tables.values()] == [3, 6, 12, 6, 1, 2, 5]
    assert tables["published"][1] == {
        "method": "BNN",
        "accuracy_percent": "89.9",
        "accuracy_percent_up_to": "89.9",
        "twin_percent": "94.1",
        "data": "CIFAR-10",
        "network": "VGG-small",
        "note": "",
        "epochs": "500",
        "batch_size": "50",
        "source": "arXiv 2103.00841, table 1 of the text as submitted",
        "augmentation": "none",
        "task": "CIFAR-10, VGG-like",
    }
    row = tables["trials"][1]
    assert (row["key"], row["task"], row["settings"], row["seconds"]) == (odd.key, odd.task, '{"x": null}', "1.5")
    assert {row["machine"] for row in tables["trials"]} == {
        digest_of_machine(machine(cpu)) for cpu in ("tested", "other")
    }
    assert tables["curves"][0] | {"key": "", "machine": ""} == {
        "key": "",
        "machine": "",
        "name": "test_accuracy",
        "epoch": "1",
        "value": "0.5",
    }
    assert tables["failures"][0]["error"] == "ValueError: no"


def test_methods_without_a_published_figure_say_so(tmp_path: Path) -> None:
    names = ("XNORNetPlusPlus", "my_file:BNN", TWIN)
    path = store_of(tmp_path / "a", *(done(trial(method=name), moment=i) for i, name in enumerate(names)))
    with TrialStore.read(path) as store:
        export(store, tmp_path)
    first, second = rows_of(tmp_path / "published.csv")
    assert (first["method"], first["accuracy_percent"], first["source"]) == ("XNORNetPlusPlus", "", "none read")
    assert (first["epochs"], second["epochs"]) == ("90", "")
    assert (second["method"], second["source"]) == ("my_file:BNN", "none read")


def test_an_empty_store_exports_headers(tmp_path: Path) -> None:
    with TrialStore.read(store_of(tmp_path / "a")) as store:
        written = export(store, tmp_path)
    assert written[1].read_text() == "key,machine,name,value\n"


def test_parquet_without_pyarrow_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        TrialStore.read(store_of(tmp_path / "a")) as store,
        pytest.raises(ImportError, match="pip install 'bittern\\[parquet\\]'; or take csv"),
    ):
        export(store, tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()


@pytest.mark.peers("pyarrow")
def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    from pyarrow import parquet

    path = store_of(tmp_path / "a", done(), dataclasses.replace(done(trial(1)), result=Result({"n": 2**60})))
    with TrialStore.read(path) as store:
        as_csv = {p.stem: rows_of(p) for p in export(store, tmp_path)}
        for written in export(store, tmp_path, "parquet"):
            rows = parquet.read_table(written).to_pylist()
            texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
            assert texts == as_csv[written.stem]
    metrics = parquet.read_table(tmp_path / "metrics.parquet")
    assert [str(t) for t in metrics.schema.types] == ["string", "string", "string", "double"]
