# SPDX-License-Identifier: Apache-2.0
"""The store of trials: everything comes back, once, and nothing is believed that a file says."""

from __future__ import annotations

import dataclasses
import math
import pickle  # noqa: TID251 - what multiprocessing does with a result
import random
import sqlite3
from pathlib import Path

import pytest

from _trials import done, figure, machine, trial
from bittern._files import InUseError
from bittern.bench.core.store import StoreError
from bittern.bench.trials import database, schema
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.trial import Failed, Result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "all.trials"


@pytest.fixture(scope="module")
def full_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("full") / "all.trials"
    with TrialStore.open(path) as store:
        for seed in range(3):
            store.add(done(trial(seed), accuracy=figure(trial(seed)), moment=seed))
        store.add_failed(failed())
    return path.read_bytes()


@pytest.fixture
def full(path: Path, full_bytes: bytes) -> Path:
    """A store with three results and a failure."""
    path.write_bytes(full_bytes)
    return path


def failed(seed: int = 7, cpu: str = "tested") -> Failed:
    return Failed(trial(seed), "ValueError: no", machine(cpu), "bittern bench", "2026-01-02T03:04:05.000+00:00")


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_all_of_a_result_comes_back(path: Path) -> None:
    odd = trial(-(2**62), settings=(("a", None), ("b", True), ("c", 1), ("d", 1.0), ("e", "ü\x00'")), task="")
    results = [done(), done(odd, moment=1)]
    with TrialStore.open(path) as store:
        assert [store.add(one) for one in results] == [True, True]
    assert [p.name for p in path.parent.iterdir()] == [path.name], "a closed store is one file"
    with TrialStore.read(path) as store:
        found = store.done()
        assert [dataclasses.replace(f, result=results[0].result) for f in found] == results
        for one, wanted in zip(found, results, strict=True):
            assert one.result.metrics == wanted.result.metrics
            assert one.result.curves == wanted.result.curves
            assert dict(one.result.artefacts) == dict(wanted.result.artefacts)
            assert one.result.notes == wanted.result.notes
            assert [type(v) for _, v in one.trial.settings] == [type(v) for _, v in wanted.trial.settings]
        assert store.artefact(trial().key, "packed.bittern") == bytes(range(256))
        assert store.get(odd) is not None
        assert [one.trial for one in store.find(odd.key[:9])] == [odd]
        assert store.find("%") == ()
        with pytest.raises(KeyError, match="no artefact other"):
            store.artefact(trial().key, "other")
        sent = pickle.loads(pickle.dumps(found[0]))
        assert type(sent.result.artefacts) is dict
        assert sent.result.artefacts == results[0].result.artefacts
    with pytest.raises(RuntimeError, match="is not open"):
        found[0].result.artefacts["packed.bittern"]


def test_a_trial_is_added_once(path: Path) -> None:
    with TrialStore.open(path) as store:
        assert store.add(done())
        assert not store.add(done(accuracy=0.5))
        assert not store.add(done(cpu="other"))
        assert store.add(done(cpu="other", accuracy=0.25, moment=1), beside=True)
        assert not store.add(done(cpu="other"), beside=True)
        assert [d.result.metrics["accuracy"] for d in store.done()] == [0.75]
        assert sorted(d.result.metrics["accuracy"] for d in store.done(every_machine=True)) == [0.25, 0.75]


def test_a_failure_is_kept_until_there_is_a_result(path: Path) -> None:
    with TrialStore.open(path) as store:
        store.add_failed(failed())
        store.add_failed(dataclasses.replace(failed(), error="TypeError: later"))
        assert store.failed() == (dataclasses.replace(failed(), error="TypeError: later"),)
        assert not store.has(trial(7))
        store.add(done(trial(7)))
        assert store.failed() == ()
        store.add_failed(failed(cpu="other"))
        assert store.failed() == (), "a result says more than a failure elsewhere"
        with pytest.raises(ValueError, match="one line"):
            store.add_failed(dataclasses.replace(failed(), error="two\nlines"))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (Result({"a": 1.0}, artefacts={"../a": b""}), "plain file name"),
        (Result({"a": 1.0}, artefacts={"": b""}), "plain file name"),
        (Result({"a": 1.0}, artefacts={"a.bin": bytes(database.LARGEST_VALUE)}), "67,108,864 bytes"),
    ],
)
def test_what_a_store_cannot_hold_is_refused_whole(path: Path, result: Result, message: str) -> None:
    with TrialStore.open(path) as store:
        with pytest.raises(ValueError, match=message):
            store.add(dataclasses.replace(done(), result=result))
        assert store.done() == ()
        with pytest.raises(ValueError, match="finite"):
            store.add(dataclasses.replace(done(), seconds=math.nan))
        with pytest.raises(ValueError, match="63 bits"):
            store.add(done(trial(2**63)))
        assert store.add(done())


def test_one_driver_and_any_readers(full: Path) -> None:
    with TrialStore.open(full) as store, TrialStore.read(full) as reader:
        with pytest.raises(InUseError, match=r"all\.trials is in use by another driver"):
            TrialStore.open(full)
        store.add(done(trial(3), moment=9))
        assert len(reader.done()) == 4
    with TrialStore.open(full) as store:
        assert len(store.done()) == 4


def test_the_disk_full_is_one_error_and_nothing_half_written(full: Path) -> None:
    large = dataclasses.replace(done(trial(9)), result=Result({"a": 1.0}, artefacts={"a.bin": bytes(2**20)}))
    with TrialStore.open(full) as store:
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(OSError, match="the disk is full; nothing was half-written"):
            store.add(large)
        assert len(store.done()) == 3
        store._connection.execute("PRAGMA max_page_count = 100000")
        assert store.add(large)
    with TrialStore.read(full) as store:
        store.check()
        assert len(store.done()) == 4


def test_places_that_are_none(tmp_path: Path, full: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no store of trials at"):
        TrialStore.read(tmp_path / "none")
    with pytest.raises(OSError, match="is no file"):
        TrialStore.open(tmp_path)
    with pytest.raises(FileExistsError):
        TrialStore.open(full / "below")


def test_a_folder_that_cannot_be_written(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, who may write anywhere: what SQLite answers elsewhere is said here."""
    monkeypatch.setattr(database.os, "access", lambda *_: False)
    with TrialStore.read(full) as store:
        assert len(store.done()) == 3
        with pytest.raises(OSError, match=r"cannot open .*readonly database; check that file and folder"):
            store.add(done(trial(9)))


def test_a_newer_version_is_refused(full: Path) -> None:
    change(full, f"PRAGMA user_version = {schema.VERSION + 1}")
    before = full.read_bytes()
    for open_ in (TrialStore.read, TrialStore.open):
        with pytest.raises(StoreError, match="has version 3 of the store, and this bittern knows versions up to 2"):
            open_(full)
    assert full.read_bytes() == before


def test_a_store_from_before_builds_is_read_and_goes_on(path: Path) -> None:
    """Version 1: descriptions of machines, and the digests made of them, without a build."""
    before = dataclasses.replace(done(), machine=dataclasses.replace(machine(), build=""))
    with TrialStore.open(path) as store:
        store.add(before)
        (description,) = store._connection.execute("SELECT description FROM machines").fetchone()
    assert "build" not in description
    change(path, "PRAGMA user_version = 1")
    with TrialStore.read(path) as store:
        (found,) = store.done()
        assert found.machine == before.machine
        store.check()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,), "reading changes nothing"
    connection.close()
    with TrialStore.open(path) as store:
        assert store.add(done(trial(1), moment=1))
        assert not store.add(done(moment=2))
        assert store.add(done(moment=2), beside=True), "another build may answer otherwise"
        assert [one.machine.build for one in store.done(every_machine=True)] == ["", *[machine().build] * 2]
        assert store._connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON results BEGIN DELETE FROM results; END",
        "CREATE VIEW v AS SELECT 1",
        "ALTER TABLE metrics ADD COLUMN more TEXT",
        "DROP TABLE notes",
        "PRAGMA user_version = 0",
    ],
)
def test_other_tables_are_refused(full: Path, statement: str) -> None:
    change(full, statement)
    for open_ in (TrialStore.read, TrialStore.open):
        with pytest.raises(StoreError, match="does not have the tables"):
            open_(full)


@pytest.mark.parametrize("content", [b"x", b"{}" * 4000, b"SQLite format 3\x00" + bytes(4080)])
def test_a_file_of_another_kind_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for open_ in (TrialStore.read, TrialStore.open):
        with pytest.raises(StoreError, match=r"all\.trials"):
            open_(path)
    assert path.read_bytes() == content


def test_another_database_is_refused_and_left_alone(path: Path) -> None:
    change(path, "CREATE TABLE mine (a)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="no store of trials; give the file"):
        TrialStore.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE metrics SET value = 9e999", "must be finite"),
        ("UPDATE metrics SET value = 0.5", "not what its digest says"),
        ("DELETE FROM metrics WHERE name = 'loss'", "not what its digest says"),
        ("UPDATE curves SET epoch = 10 * epoch", "epoch 10 where 1"),
        ("UPDATE notes SET text = 'other'", "not what its digest says"),
        ("UPDATE artefacts SET content = zeroblob(256)", "artefact .* is damaged"),
        ("UPDATE artefacts SET content = zeroblob(67108865) WHERE result = 1", "too big"),
        ("UPDATE artefacts SET name = '../' || name", "no name of a file"),
        ("UPDATE trials SET seed = 100 + seed", "not what its key says"),
        ("UPDATE trials SET settings = '[1]'", "settings must be names"),
        ("UPDATE trials SET settings = '{\"a\": NaN}'", "must be finite"),
        ("UPDATE trials SET settings = '{\"a\": [1]}'", "settings must be names"),
        ("UPDATE trials SET settings = replace(hex(zeroblob(100000)), '00', '[')", "is damaged"),
        ("UPDATE trials SET task = CAST(x'ff' AS TEXT)", "is damaged"),
        ("UPDATE machines SET description = '{}'", "Machine.cpu is missing"),
        ("UPDATE machines SET description = replace(description, 'tested', 'x')", "not what its digest says"),
        ("UPDATE machines SET description = json_remove(description, '$.build')", "not what its digest says"),
        ("UPDATE machines SET description = '[]'", "must be an object"),
        ("DELETE FROM machines", "machine .* is missing"),
        ("UPDATE results SET finished = 'yesterday'", "is no time"),
        ("UPDATE results SET seconds = 9e999", "finite"),
        ("UPDATE results SET command = 'other'", "not what its digest says"),
    ],
)
def test_a_changed_result_is_refused(full: Path, statement: str, message: str) -> None:
    change(full, statement)
    with TrialStore.read(full) as store, pytest.raises(StoreError, match=message) as caught:
        store.check()
    assert str(full) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_files_never_answer_wrongly(full: Path, tmp_path: Path) -> None:
    """Bytes changed and ends cut off: the same results, or one StoreError."""
    whole = full.read_bytes()
    with TrialStore.read(full) as store:
        wanted = {d.trial.key: _all_of(d) for d in store.done()}
    draw = random.Random(0)
    refused = 0
    for i in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 1, 8))):
            damaged[draw.randrange(len(whole))] = draw.randrange(256)
        copy = tmp_path / f"{i}.trials"
        copy.write_bytes(damaged[: draw.randrange(len(whole))] if i % 5 == 0 else damaged)
        try:
            with TrialStore.read(copy) as store:
                store.check()
                found = {d.trial.key: _all_of(d) for d in store.done()}
                store.failed()
        except (StoreError, OSError) as error:
            assert_named(error, copy)
            refused += 1
        else:
            assert found.items() <= wanted.items()
    assert refused > 50


def assert_named(error: Exception, path: Path) -> None:
    assert str(path) in str(error)


def _all_of(one: object) -> object:
    assert hasattr(one, "result")
    r = one.result
    return r.metrics, r.curves, dict(r.artefacts), r.notes


def test_names_of_files_may_be_odd(tmp_path: Path) -> None:
    path = tmp_path / "a b%20?mode=memory#ü.trials"
    with TrialStore.open(path) as store:
        store.add(done())
    assert path.is_file()
    with TrialStore.read(path) as store:
        assert len(store.done()) == 1


def test_readers_find_what_a_killed_driver_left(full: Path, tmp_path: Path) -> None:
    """Its log lies beside the file."""
    copy = tmp_path / "killed" / full.name
    copy.parent.mkdir()
    with TrialStore.open(full) as store:
        store.add(done(trial(5)))
        for name in (full.name, f"{full.name}-wal"):
            copy.with_name(name).write_bytes(full.with_name(name).read_bytes())
    with TrialStore.read(copy) as store:
        assert len(store.done()) == 4
    with TrialStore.open(copy) as store:
        assert not store.add(done(trial(5)))
