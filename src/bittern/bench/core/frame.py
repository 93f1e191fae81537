# SPDX-License-Identifier: Apache-2.0
"""The frame of a report: style sheet and page, without any content. Nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

LIGHT = """
  --paper: #f7f5f0; --card: #fffefb; --ink: #1d2125; --muted: #62666b; --line: #e0dcd2;
  --accent: #a4550b; --accent-soft: #f4e6d4; --float: #2f6690; --good: #2b6b3f; --bad: #b3261e;
"""
DARK = """
  --paper: #131517; --card: #1b1e21; --ink: #e9e6df; --muted: #a2a29c; --line: #34383c;
  --accent: #e8a14f; --accent-soft: #3a2c1b; --float: #82b7dd; --good: #86cf9b; --bad: #ff8a80;
"""


def themes(light: str, dark: str) -> str:
    """Rules that set CSS variables by the scheme that the reader prefers, or <html data-theme="light"> asks for."""
    return f"""
:root {{ color-scheme: light dark; {light} }}
@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {dark} }} }}
"""


def switched(dark: str) -> str:
    """Rules beside those of `themes`, for a page with a switch: what <html data-theme="dark"> asks for."""
    return f"""
:root[data-theme="light"] {{ color-scheme: light; }}
:root[data-theme="dark"] {{ color-scheme: dark; {dark} }}
"""


STYLE = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
}
main { max-width: 66rem; margin: 0 auto; padding: clamp(1.5rem, 5vw, 4rem) clamp(1rem, 4vw, 2.5rem); }
header { margin-bottom: 2.5rem; }
.eyebrow { margin: 0 0 .75rem; color: var(--accent); font-weight: 600; font-size: .875rem; letter-spacing: .02em; }
h1 {
  margin: 0 0 1rem; max-width: 22ch; font-weight: 650; letter-spacing: -.022em; text-wrap: balance;
  font-size: clamp(1.9rem, 1.3rem + 2.8vw, 3.1rem); line-height: 1.12;
}
.lead { margin: 0; max-width: 62ch; color: var(--muted); font-size: 1.0625rem; text-wrap: pretty; }
h2 { margin: 3.5rem 0 .5rem; font-size: 1.375rem; line-height: 1.25; letter-spacing: -.012em; text-wrap: balance; }
h3 { margin: 0; font-size: 1rem; line-height: 1.35; }
p { max-width: 68ch; text-wrap: pretty; }
section > p { margin: 0 0 1.25rem; color: var(--muted); }
code, kbd { font: .9em/1.5 ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
strong { color: var(--ink); font-weight: 600; }

.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr)); gap: 1rem;
  margin: 0;
}
.tile { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.tile, figure, .table, .facts, .failure {
  background: var(--card); border: 1px solid var(--line); border-radius: .875rem;
}
.tile { padding: 1.1rem 1.25rem 1.2rem; }
.tile dt { color: var(--muted); font-size: .9375rem; line-height: 1.45; text-wrap: pretty; }
.tile dd {
  margin: 0 0 .25rem; color: var(--accent); font-weight: 650; font-size: 1.5rem; line-height: 1.2;
  letter-spacing: -.02em; font-variant-numeric: tabular-nums;
}
.failure { margin: 0 0 1.5rem; padding: 1rem 1.25rem; border-color: var(--bad); color: var(--bad); font-weight: 600; }
.notice { margin: 0 0 1.5rem; padding: 1rem 1.25rem; background: var(--accent-soft); border-radius: .875rem; }

.table { overflow-x: auto; }
.table:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
th, td { padding: .6rem .9rem; text-align: right; vertical-align: baseline; border-top: 1px solid var(--line); }
thead th {
  border-top: 0; color: var(--muted); font-weight: 500; font-size: .875rem; line-height: 1.3;
  vertical-align: bottom;
}
tbody th { font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 1.25rem; }
th:last-child, td:last-child { padding-right: 1.25rem; }
td small { display: block; color: var(--muted); font-size: .8125rem; line-height: 1.3; white-space: nowrap; }
td span { white-space: nowrap; }
tr.float th, tr.float td span { color: var(--float); }
.table + p { margin-top: 1.25rem; }
.bar { height: .5rem; margin: .35rem 0 .1rem auto; border-radius: .25rem; background: var(--accent); }
.yes { color: var(--good); font-weight: 600; }
.no { color: var(--bad); font-weight: 700; }

.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; padding: 1.1rem 1.25rem 1rem; min-width: 0; }
figcaption { margin-bottom: .75rem; }
figcaption p { margin: .15rem 0 0; color: var(--muted); font-size: .875rem; line-height: 1.45; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(11.5rem, 46%), 1fr)); gap: .75rem; }
.curves figure { display: flex; flex-direction: column; padding: .8rem .9rem .7rem; }
.curves svg { margin-top: auto; }
.curves figcaption {
  display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .75rem; margin-bottom: .5rem;
}
.curves h3 { font-size: .875rem; }
.curves figcaption p { margin: 0; font-size: .8125rem; font-variant-numeric: tabular-nums; }

.facts { margin: 0; padding: .5rem 1.25rem; }
.facts div {
  display: grid; grid-template-columns: 9rem 1fr; gap: .1rem 1.25rem; padding: .7rem 0;
  border-top: 1px solid var(--line);
}
.facts div:first-child { border-top: 0; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; max-width: 72ch; overflow-wrap: anywhere; text-wrap: pretty; }
.limits { margin: 0; padding-left: 1.2rem; max-width: 68ch; }
.limits li { margin: .4rem 0; padding-left: .2rem; text-wrap: pretty; }
.next { margin: 0; padding: 1rem 1.25rem; overflow-x: auto; background: var(--accent-soft); border-radius: .875rem; }
.next code { white-space: pre; }
footer {
  margin-top: 3.5rem; padding-top: 1.25rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: .875rem;
}
footer p { margin: 0; }

@media (max-width: 60rem) { .tiles { grid-template-columns: 1fr 1fr; } }
@media (max-width: 40rem) {
  .tiles { gap: .75rem; }
  .tile { padding: .9rem 1rem 1rem; }
  .tile dd { font-size: 1.25rem; }
  .tile dt { font-size: .8125rem; }
  table { font-size: .8125rem; }
  th, td { padding: .55rem .3rem; }
  thead th, td small { font-size: .75rem; }
  thead th { white-space: normal; }
  th:first-child, td:first-child { padding-left: .75rem; }
  th:last-child, td:last-child { padding-right: .75rem; }
  figure { padding: .9rem .8rem .8rem; }
  .plots svg text { font-size: 12px !important; }
  .curves svg text { font-size: 11px !important; }
  .facts div { grid-template-columns: 1fr; }
}
@media (max-width: 26rem) {
  table, thead th, td small { font-size: .6875rem; }
  thead th { letter-spacing: -.01em; }
}
@media print { body { background: none; } .tile, figure, .table, .facts { break-inside: avoid; } }
"""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="generator" content="bittern {version}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{body}{scripts}
</body>
</html>
"""


def page(title: str, version: str, body: str, *, style: str = "", scripts: Sequence[str] = ()) -> str:
    """A whole page; title, version and body must be escaped already.

    style: rules behind those of `STYLE`. scripts: what runs at the end, in this order; nothing else does, since the
    page's policy names them by their hashes. None may hold "</script".
    """
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return PAGE.format(
        title=title,
        version=version,
        style=themes(LIGHT, DARK) + STYLE + style,
        body=body,
        policy=POLICY + ("; script-src" + "".join(f" 'sha256-{one}'" for one in hashes) if hashes else ""),
        scripts="".join(f"\n<script>{script}</script>" for script in scripts),
    )
