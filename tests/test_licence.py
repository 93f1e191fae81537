# SPDX-License-Identifier: Apache-2.0
"""Every source file names its licence in its first line, or in its second behind a `#!`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("src", "native", "tests", "examples", "tools", "cmake", "docs")
SIGNS = dict.fromkeys((".py", ".pyi", ".sh", ".cmake", "CMakeLists.txt", "Makefile", "run"), "#")
SIGNS |= dict.fromkeys((".cpp", ".h", ".c", ".js"), "//")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LICENCE, *OTHERS = PROJECT["license"].split(" AND ")
"""Of our files, and of parts of what others made."""


def sources() -> list[Path]:
    files = [ROOT / "CMakeLists.txt", ROOT / "Makefile", ROOT / ".ci" / "run"]
    files += [path for room in ROOMS for path in sorted((ROOT / room).rglob("*")) if path.is_file()]
    return [path for path in files if sign(path) is not None and "__pycache__" not in path.parts]


def sign(path: Path) -> str | None:
    """What starts a comment in `path`; None if it is no source file."""
    return SIGNS.get(path.name, SIGNS.get(path.suffix))


def named(path: Path) -> bool:
    first, second = [*path.read_text(encoding="utf-8").split("\n"), ""][:2]
    return (second if first.startswith("#!") else first) == f"{sign(path)} SPDX-License-Identifier: {LICENCE}"


def test_every_source_file_names_its_licence() -> None:
    files = sources()
    assert {path.suffix for path in files} >= {".py", ".pyi", ".sh", ".cmake", ".cpp", ".h", ""}
    assert [str(path.relative_to(ROOT)) for path in files if not named(path)] == []


def test_what_others_made_has_its_licences_beside_it() -> None:
    """The page's chart library: all its licences are there, in the wheel too, and the package names them."""
    assets = ROOT / "src" / "bittern" / "bench" / "page" / "assets"
    words = (assets / "charts.LICENSE.txt").read_text(encoding="utf-8")
    holders = ("The Apache Software Foundation", "Mike Bostock", "Baidu Inc.", "Microsoft Corporation")
    for holder in holders:
        assert holder in words
    assert str((assets / "charts.LICENSE.txt").relative_to(ROOT)) in PROJECT["license-files"]
    assert (LICENCE, OTHERS) == ("Apache-2.0", ["BSD-3-Clause", "0BSD"])


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [
        ("a.py", "# SPDX-License-Identifier: Apache-2.0\n", True),
        ("a.sh", "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n", True),
        ("a.h", "// SPDX-License-Identifier: Apache-2.0\n#pragma once\n", True),
        ("a.h", "# SPDX-License-Identifier: Apache-2.0\n", False),
        ("a.py", "# SPDX-License-Identifier: MIT\n", False),
        ("a.py", '"""Text."""\n# SPDX-License-Identifier: Apache-2.0\n', False),
        ("a.py", "", False),
    ],
)
def test_the_line_is_the_first_and_says_what_pyproject_says(tmp_path: Path, name: str, text: str, right: bool) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert named(path) is right
