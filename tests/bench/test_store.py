# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from bittern.bench.core.store import StoreError, from_json, load, save, to_json


@dataclass(frozen=True)
class Inner:
    name: str
    share: float | None


@dataclass(frozen=True)
class Outer:
    count: int
    good: bool
    rows: tuple[Inner, ...]
    nested: tuple[tuple[str, ...], ...]


RESULT = Outer(3, True, (Inner("a", 0.1), Inner("ü", None)), (("k", "v"), ()))


def test_round_trip(tmp_path: Path) -> None:
    assert from_json(Outer, to_json(RESULT)) == RESULT
    save(tmp_path / "r.json", RESULT)
    assert load(tmp_path / "r.json", Outer) == RESULT
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_whole_number_serves_as_float() -> None:
    found = from_json(Inner, '{"name": "a", "share": 1}')
    assert type(found.share) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": None}, r"Outer.count must be int; got None"),
        ({"count": True}, r"Outer.count must be int; got True"),
        ({"good": 1}, r"Outer.good must be bool; got 1"),
        ({"rows": {}}, r"Outer.rows must be a list"),
        ({"rows": [3]}, r"Outer.rows\[0\] must be an object; got 3"),
        ({"rows": [{"name": "a"}]}, r"Outer.rows\[0\].share is missing"),
        ({"rows": [{"name": "a", "share": "x"}]}, r"Outer.rows\[0\].share must be float \| None; got 'x'"),
        ({"more": 1}, r"Outer.more is unknown"),
        ({"nested": [["a", 1]]}, r"Outer.nested\[0\]\[1\] must be str; got 1"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    data = {**json.loads(to_json(RESULT)), **change}
    with pytest.raises(StoreError, match=message):
        from_json(Outer, json.dumps(data))


def test_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for content in (b'{"count": 3', b"\xff\xfe", b"[]"):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"r\.json is not a result file of this version"):
            load(path, Outer)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.json", Outer)


def test_nothing_is_written_for_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path / "r.json", Inner("a", float("nan")))
    assert not list(tmp_path.iterdir())
