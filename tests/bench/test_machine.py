# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

import bittern
from bittern import _native, ops
from bittern.bench.core import machine
from bittern.bench.core.build import digest_of, this_build
from bittern.bench.core.machine import (
    ASSUMED_CACHE,
    Machine,
    copy_bandwidth_gb_s,
    cpu_model,
    fp32_gmac_s,
    last_level_cache_bytes,
    this_machine,
)
from bittern.bench.core.store import from_json, to_json
from bittern.bench.core.timing import Spread, torch_threads


def test_machine_describes_this_process() -> None:
    with torch_threads(3):
        found = this_machine()
    assert found.threads == 3
    assert found.cores >= 1
    assert found.isa == ops.chosen_isa().label
    assert found.bittern == bittern.__version__
    assert found.build == this_build()
    assert len(found.build) == 12
    assert int(found.build, 16) >= 0
    assert str(found).endswith(f"bittern {bittern.__version__} (build {found.build})")
    assert found.torch == torch.__version__
    assert found.python == platform.python_version()
    assert set(found.features) == {name for name, present in _native.cpu_features().items() if present}
    assert found.device == "cpu"
    for part in (found.cpu, found.torch, found.isa, "3 thread(s)"):
        assert part in str(found)
    assert from_json(Machine, to_json(found)) == found


def test_a_build_is_its_sources_and_its_extension(tmp_path: Path) -> None:
    package, extension = tmp_path / "package", tmp_path / "native.so"
    package.mkdir()
    files = [package / "a.py", package / "b.py"]
    for file in (*files, extension):
        file.write_text("x")

    def digest() -> str:
        return digest_of(package, files, extension)

    found = [digest(), digest()]
    assert found[0] == found[1]
    for file in (*files, extension):
        file.write_text("y")
        found.append(digest())
    files[1] = files[1].rename(package / "c.py")
    found.append(digest())
    assert len(set(found)) == 5


def test_cpu_model_is_read_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeInfo:
        def __init__(self, text: str | None) -> None:
            self.text = text

        def is_file(self) -> bool:
            return self.text is not None

        def read_text(self, **_: str) -> str:
            return self.text or ""

    monkeypatch.setattr(machine, "Path", lambda _: FakeInfo("processor\t: 0\nmodel name\t: Fast: CPU 9\nflags : a"))
    assert cpu_model() == "Fast: CPU 9"
    for missing in (None, "processor\t: 0\n"):
        monkeypatch.setattr(machine, "Path", lambda _, text=missing: FakeInfo(text))
        assert cpu_model() == (platform.processor() or platform.machine())


def test_rates_follow_from_times(monkeypatch: pytest.MonkeyPatch) -> None:
    # 10 us in the median, between 5 us and 20 us
    monkeypatch.setattr(machine, "latency", lambda f: (f(), Spread(10.0, 5.0, 20.0))[1])
    # 1000 floats, read and written: 8000 bytes in 10 us are 0.8 GB/s
    assert copy_bandwidth_gb_s(1000) == Spread(median=0.8, min=0.4, max=1.6)
    # 10^3 multiply-accumulates in 10 us are 0.1 GMAC/s
    assert fp32_gmac_s(10) == Spread(median=0.1, min=0.05, max=0.2)


def test_last_level_cache_is_the_largest(tmp_path: Path) -> None:
    for place, size in enumerate(("32K", "16384K", "512K", "odd")):
        (tmp_path / f"index{place}").mkdir()
        (tmp_path / f"index{place}" / "size").write_text(size + "\n")
    assert last_level_cache_bytes(tmp_path) == 16 * 2**20
    assert last_level_cache_bytes(tmp_path / "none") == ASSUMED_CACHE
