# SPDX-License-Identifier: Apache-2.0
"""The frame of the report: style sheet and page, without any content. Nothing is loaded from anywhere."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #f7f5f0; --card: #fffefb; --ink: #1d2125; --muted: #62666b; --line: #e0dcd2;
  --accent: #a4550b; --accent-soft: #f4e6d4; --float: #2f6690; --good: #2b6b3f; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131517; --card: #1b1e21; --ink: #e9e6df; --muted: #a2a29c; --line: #34383c;
    --accent: #e8a14f; --accent-soft: #3a2c1b; --float: #82b7dd; --good: #86cf9b; --bad: #ff8a80;
  }
}
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

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="generator" content="bittern {version}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def page(title: str, version: str, body: str) -> str:
    """A whole page; title and version must be escaped already."""
    return PAGE.format(title=title, version=version, style=STYLE, body=body)
