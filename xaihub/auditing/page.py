"""The audit as one page that needs nothing else: it opens offline, in the dark, on a telephone, and prints."""

from html import escape

from xaihub.auditing.drawing import (
    changes_shown,
    confusion_shown,
    findings_shown,
    how_shown,
    nuisances_shown,
    plain_shot,
    slices_shown,
    verdict_shown,
)
from xaihub.auditing.report import AuditReport

__all__ = ["page"]

_ONLY_INSIDE = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # a stranger's names cannot fetch anything
)
_STYLE = """
:root {
  color-scheme: light dark; --ink: #1f2937; --paper: #fff; --soft: #f4f4f5; --line: #d4d4d8; --dim: #52525b;
  --accent: #4f46e5; --wrong: #b91c1c; --well: #15803d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e4e7; --paper: #18181b; --soft: #27272a; --line: #3f3f46; --dim: #a1a1aa; --accent: #a5b4fc;
    --wrong: #f87171; --well: #4ade80;
  }
}
* { box-sizing: border-box; }
body {
  font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere;
}
h1 { font-size: 1.1rem; color: var(--dim); font-weight: 500; margin: 0 0 .6rem; }
h2 { font-size: 1.3rem; line-height: 1.35; margin: .1rem 0 .5rem; }
.xh-part { font-size: 1.12rem; margin: 1.8rem 0 .2rem; }
h4 { margin: 0 0 .3rem; font-size: 1rem; }
.xh-sub, figcaption, .xh-side p { color: var(--dim); font-size: .88rem; margin: .1rem 0 .4rem; }
.xh-audited {
  border-inline-start: 6px solid var(--dim); padding: .6rem 1rem; background: var(--soft);
  border-radius: 0 8px 8px 0;
}
.xh-is-alarm { border-color: var(--wrong); }
.xh-is-caution { border-color: #ca8a04; }
.xh-is-calm { border-color: var(--well); }
.xh-level { font-weight: 700; margin: 0; font-size: .85rem; text-transform: uppercase; letter-spacing: .04em; }
.xh-finding, .xh-cell {
  border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; margin: .7rem 0; break-inside: avoid;
}
.xh-cell:target { outline: 3px solid var(--accent); }
.xh-uses {
  font-size: .8rem; font-weight: 600; border: 1px solid; border-radius: 99px; padding: .05rem .6rem;
  white-space: nowrap;
}
.xh-uses-true { color: var(--wrong); } .xh-uses-false { color: var(--well); } .xh-uses-none { color: var(--dim); }
dl { margin: .4rem 0; }
dl > div { display: flex; gap: .6rem; }
dt { font-weight: 600; flex: 0 0 8rem; }
dd { margin: 0; }
.xh-sides {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: .4rem 1.2rem;
}
.xh-shots { display: flex; flex-wrap: wrap; gap: .5rem; }
.xh-shot { margin: 0; width: 6rem; }
.xh-shot img, .xh-grey { width: 100%; aspect-ratio: 1; border-radius: 6px; display: block; }
.xh-shot img { object-fit: contain; background: var(--soft); }
.xh-grey { background: var(--soft); font-size: .75rem; padding: .3rem; }
.xh-turned-pair { display: flex; align-items: center; gap: .6rem; margin-top: .5rem; }
.xh-turned-pair .xh-shot { width: 9rem; }
.xh-measured { border-collapse: collapse; width: 100%; }
.xh-measured th, .xh-measured td {
  text-align: start; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); font-weight: 400;
  font-size: .92rem; vertical-align: middle;
}
.xh-measured thead th, .xh-heading th { font-weight: 650 !important; }
.xh-heading th { padding-top: .8rem !important; }
.xh-whisker { display: grid; gap: .1rem; font-variant-numeric: tabular-nums; } .xh-strong { font-weight: 650; }
.xh-rail {
  position: relative; height: .8rem; min-width: 7rem; background: var(--soft); border-radius: 4px;
  print-color-adjust: exact;
}
.xh-rail i { position: absolute; top: 0; bottom: 0; } .xh-by-chance { border-inline-start: 2px dashed var(--dim); }
.xh-span { background: var(--accent); opacity: .35; border-radius: 4px; }
.xh-point { width: 5px; margin-inline-start: -2px; background: var(--accent); border-radius: 3px; }
.xh-scroll { overflow-x: auto; }
.xh-confused { border-collapse: separate; border-spacing: 3px; }
.xh-confused th { font-weight: 500; font-size: .88rem; text-align: start; max-width: 10rem; }
.xh-confused td { text-align: center; min-width: 3rem; border-radius: 6px; padding: 0; }
.xh-confused td a { display: block; padding: .45rem; color: inherit; }
.xh-confused thead td { font-size: .8rem; color: var(--dim); } .xh-empty { color: var(--dim); }
.xh-rightly { background: color-mix(in srgb, var(--well) var(--shade), transparent); }
.xh-wrongly { background: color-mix(in srgb, var(--wrong) var(--shade), transparent); }
.xh-how { margin: 1.5rem 0; font-size: .9rem; }
@media (max-width: 640px) {
  .xh-measured thead { display: none; }
  .xh-measured :is(tr, th, td) { display: block; border: 0; }
  .xh-measured tr { border-bottom: 1px solid var(--line); padding: .3rem 0; }
  .xh-measured td[data-head]::before { content: attr(data-head); color: var(--dim); font-size: .8rem; }
  dt { flex-basis: 5rem; }
}
@media print { body { max-width: none; } .xh-rail, .xh-confused td { print-color-adjust: exact; } }
"""


def page(report: AuditReport) -> str:
    """HTML with every picture and every rule inside; no script, and nothing is fetched."""
    parts = [
        verdict_shown(report), findings_shown(report, plain_shot), slices_shown(report),
        confusion_shown(report, plain_shot), nuisances_shown(report), changes_shown(report), how_shown(report),
    ]  # fmt: skip
    title = escape(f"Audit of {report.dataset}")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_ONLY_INSIDE}">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )
