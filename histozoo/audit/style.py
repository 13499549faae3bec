"""The look of the page: one style sheet and the frame around the sections. No script, nothing loaded from anywhere."""

from __future__ import annotations

CSS = """
:root {
  --ink: #1d1f27; --dim: #6a7080; --line: #e3e6ec; --paper: #fff; --red: #b3261e; --amber: #9a6200;
  --blue: #44546f
}
* { box-sizing: border-box }
body {
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
  background: #f5f6f9; margin: 0
}
main { max-width: 1400px; margin: 0 auto; padding: 24px 20px 60px }
h1 { font-size: 24px; margin: 0 }
h2 { font-size: 18px; margin: 0 }
h3 { font-size: 13px; margin: 16px 0 6px; color: var(--dim); font-weight: 600 }
p { margin: 4px 0 }
.dim { color: var(--dim); font-size: 12px }
a { color: inherit }
section {
  background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px;
  margin: 16px 0
}
.badge {
  display: inline-block; border-radius: 9px; padding: 0 8px; font-size: 11.5px; line-height: 18px;
  font-weight: 600; white-space: nowrap
}
.error { background: #fbdcd9; color: var(--red) }
.warning { background: #fdebc8; color: var(--amber) }
.note { background: #e8ecf3; color: var(--blue) }
.permissive { background: #dcefe2; color: #1f6b3d }
.non-commercial { background: #fdebc8; color: var(--amber) }
.unknown { background: #e8ecf3; color: var(--blue) }
table { border-collapse: collapse; width: 100%; font-size: 12.5px }
th { text-align: left; font-weight: 600; color: var(--dim); font-size: 11.5px; vertical-align: bottom }
th, td { padding: 4px 5px; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
td.c, th.c { text-align: center; font-variant-numeric: tabular-nums }
td.c { border-left: 2px solid var(--paper); border-right: 2px solid var(--paper) }
td.nowrap { white-space: nowrap }
td.kin { max-width: 108px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
td.name a { font-weight: 600; text-decoration: none }
.scroll { overflow-x: auto }
.gravest { list-style: none; margin: 8px 0 0; padding: 0 }
.gravest li {
  padding: 5px 0; border-top: 1px solid var(--line); display: grid; grid-template-columns: 66px 1fr;
  gap: 8px
}
.gravest li:first-child { border: 0 }
.gravest b { margin-right: 6px }
.two { display: grid; grid-template-columns: minmax(0, 1fr) 430px; gap: 22px }
@media (max-width: 900px) { .two { grid-template-columns: 1fr } }
.head { display: flex; gap: 10px; align-items: baseline; flex-wrap: wrap; margin-bottom: 8px }
.head .dim { flex-basis: 100% }
.bar {
  display: grid; grid-template-columns: 130px 1fr 46px 68px; gap: 6px; align-items: center;
  font-size: 12px; line-height: 17px
}
.bar .num { text-align: right; font-variant-numeric: tabular-nums }
.track { background: #eef0f4; height: 9px; border-radius: 2px; overflow: hidden }
.track i { display: block; height: 9px }
.panels { display: flex; flex-wrap: wrap; gap: 6px 14px }
.panel { background: #fafbfc; border: 1px solid var(--line); border-radius: 6px }
svg text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: var(--dim) }
svg .title { fill: var(--ink) }
svg .tick { font-size: 10px }
.sheet { display: grid; grid-template-columns: 130px minmax(0, 1fr); gap: 10px; margin: 6px 0; align-items: start }
.sheet img, .pairs img { max-width: 100%; height: auto; display: block }
.sheet b { border-left: 4px solid; padding-left: 6px; overflow-wrap: break-word; min-width: 0; font-size: 12.5px }
.pairs { margin: 6px 0 }
.traps { margin: 0; padding-left: 18px; color: var(--dim); font-size: 12px }
details > summary { cursor: pointer; color: var(--dim); font-size: 12.5px; margin-top: 12px }
code { font-size: 12px; background: #eef0f4; padding: 0 4px; border-radius: 3px }
@media print { body { background: #fff } section { break-inside: avoid-page } }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>histozoo: audit of {n} tasks</title>
<style>{css}</style></head><body><main>
{body}
</main></body></html>
"""
