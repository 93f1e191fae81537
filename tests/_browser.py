# SPDX-License-Identifier: Apache-2.0
"""A real browser for pages: what it prints, paints, and what a script inside of a page tells."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
MISSING = "no chromium here (Debian: apt install chromium)"
PHONE, DESKTOP = (390, 844), (1280, 900)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
# a window cannot be as narrow as a phone where --dump-dom is used; a frame can
FRAME = """<!doctype html><html style="color-scheme: light dark"><body><pre id="probe"></pre><script>
addEventListener("message", (event) => {{ document.getElementById("probe").textContent = event.data; }});
</script><iframe src="{name}" width="{width}" height="{height}" style="border: 0"></iframe></body></html>"""


def chromium(page: Path, size: tuple[int, int], dark: bool, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run it on a page, to its end."""
    assert CHROMIUM is not None
    profile = page.parent / f"profile{len(list(page.parent.iterdir()))}"
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
        f"--window-size={size[0]},{size[1]}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        *flags,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def probe(folder: Path, text: str, script: str, size: tuple[int, int], dark: bool) -> dict[str, Any]:
    """What a copy of a page says of itself: `script` posts JSON to its parent. The page's policy is left out."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    copy = folder / "probed.html"
    copy.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(name=copy.name, width=size[0], height=size[1]), encoding="utf-8")
    dom = chromium(frame, (1400, 1000), dark, "--virtual-time-budget=2000", "--dump-dom").stdout
    found = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    answers: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return answers


def brightness(color: str) -> float:
    """Of a computed "rgb(r, g, b)", 0 ... 255."""
    return sum(float(n) for n in re.findall(r"[\d.]+", color)[:3]) / 3
