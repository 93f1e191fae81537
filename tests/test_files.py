# SPDX-License-Identifier: Apache-2.0
"""Writing files: all or nothing, with the permissions and links of then, one writer at a time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bittern._files import InUseError, only_one, write_atomically


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_a_new_file_follows_the_umask_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"first")
    assert mode(path) == 0o640
    for kept in (0o600, 0o664):
        path.chmod(kept)
        write_atomically(path, b"next")
        assert mode(path) == kept


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target, link = tmp_path / "deep" / "target", tmp_path / "link"
    link.symlink_to(Path("deep") / "target")
    for data in (b"made", b"replaced"):
        write_atomically(link, data)
        assert link.is_symlink()
        assert target.read_bytes() == data
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "link", "target"]


def test_what_is_no_plain_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"cannot write .*pipe: it is no plain file"):
        write_atomically(tmp_path / "pipe", b"x")
    with pytest.raises(OSError, match="Is a directory"):
        write_atomically(tmp_path, b"x")
    with pytest.raises(OSError, match="No such file or directory; check the folder"):
        write_atomically(tmp_path / "none" / "x", b"x")


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "net.a"
    others = [tmp_path / name for name in (".net.a.notes.tmp", ".net.a.b.01234567.tmp", ".nets.01234567.tmp")]
    for other in others:
        other.write_bytes(b"not ours")
    program = (
        "import os, sys, time; from pathlib import Path; from bittern._files import write_atomically\n"
        "os.fsync = lambda descriptor: (print('waiting', flush=True), time.sleep(600))\n"
        "write_atomically(Path(sys.argv[1]), b'half')"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "waiting\n"
        (temporary,) = tmp_path.glob(".net.a.????????.tmp")
        write_atomically(path, b"another writer leaves it alone")
        assert temporary.exists()
        writer.kill()
    assert temporary.exists()
    write_atomically(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_only_one_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with only_one(lock, "taken"):
        with pytest.raises(InUseError, match=r"^taken$"), only_one(lock, "taken"):
            pytest.fail("two hold it")
        assert lock.exists()
    assert not lock.exists()
    lock.touch()  # of a process that was killed
    with only_one(lock, "taken"):
        pass
