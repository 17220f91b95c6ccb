/**
 * What the pages that webdino writes have in common: one file, nothing loaded from anywhere, light and dark, readable on
 * a telephone. Colours are CSS variables, so that charts drawn as SVG text follow the page.
 */

import { escapeHtml } from './plot.js';

/** A whole document. */
export interface Page {
  readonly title: string;
  /** HTML of the parts, in order; empty ones leave no trace. */
  readonly body: readonly string[];
  /** CSS beside the common one. */
  readonly style?: string;
  readonly script?: string;
}

export function htmlPage({ title, body, style = '', script }: Page): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>${STYLE}${style}</style>
</head>
<body>
<main>
${body.filter((part) => part !== '').join('\n')}
</main>
${script ? `<script>${script}</script>\n` : ''}</body>
</html>
`;
}

/** @param content HTML */
export function section(heading: string, content: string): string {
  return `<section><h2>${escapeHtml(heading)}</h2>${content}</section>`;
}

/** Title, a line under it, and the page's main numbers as tiles. */
export function pageHeader(
  title: string,
  subtitle: string | undefined,
  facts: readonly (readonly [string, string])[],
): string {
  const tiles = facts.map(([label, value]) => `<div><dt>${escapeHtml(label)}</dt><dd>${escapeHtml(value)}</dd></div>`);
  const line = subtitle ? `<p class="subtitle">${escapeHtml(subtitle)}</p>` : '';
  return `<header><h1>${escapeHtml(title)}</h1>${line}<dl class="facts">${tiles.join('')}</dl></header>`;
}

/** Rows of a label and a value. */
export function table(rows: readonly (readonly string[])[]): string {
  const cells = rows.map(
    ([label, value]) => `<tr><th scope="row">${escapeHtml(label)}</th><td>${escapeHtml(value)}</td></tr>`,
  );
  return `<div class="scroll"><table>${cells.join('')}</table></div>`;
}

const STYLE = `
:root {
  --page: #f6f7f9; --card: #ffffff; --ink: #1b1f24; --soft: #5d6673; --line: #dfe3e8; --grid: #eceff2;
  --alarm: #9a4a00; --alarm-page: #fff4e5;
  --series-1: #2563c9; --series-2: #c2570c; --series-3: #14805e; --series-4: #8a3fb0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1d2126; --ink: #e8ebef; --soft: #9aa4b1; --line: #30363d; --grid: #292e35;
    --alarm: #ffb86b; --alarm-page: #33261a;
    --series-1: #6ea8ff; --series-2: #f0985a; --series-3: #4cc38a; --series-4: #c98bea;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 16px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 36px 0 10px; }
.subtitle, .note { color: var(--soft); margin: 4px 0 0; }
.note { font-size: 13px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 1px; margin: 20px 0 0; background: var(--line); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.facts div { background: var(--card); padding: 12px 14px; }
.facts dt { color: var(--soft); font-size: 12.5px; }
.facts dd { margin: 0; font-size: 21px; font-variant-numeric: tabular-nums; }
.chart { margin: 0; padding: 12px 12px 10px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; position: relative; }
.chart figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 12px; margin-bottom: 4px; }
.chart .title { font-weight: 600; }
.key { white-space: nowrap; }
.key + .key { margin-left: 8px; }
.key::before { content: ""; display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin-right: 4px; background: var(--key); }
.chart svg { display: block; width: 100%; height: auto; }
.chart text { font-size: 11px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--grid); }
.warnings { margin: 0; padding: 12px 14px 12px 32px; background: var(--alarm-page); border: 1px solid var(--line); border-radius: 10px; }
.warnings li + li { margin-top: 8px; }
.warnings b { color: var(--alarm); }
.cure { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin-top: 8px; }
th, td { text-align: left; padding: 6px 18px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; font-weight: 400; }
td { overflow-wrap: anywhere; }
tbody th { color: var(--soft); }
thead th { color: var(--soft); font-size: 13px; }
.numbers td, .numbers thead th + th { text-align: right; font-variant-numeric: tabular-nums; padding: 6px 6px 6px 24px; white-space: nowrap; }
.numbers th { white-space: nowrap; padding-right: 0; }
.numbers tbody tr:first-child th { color: var(--ink); font-weight: 600; }
summary { cursor: pointer; }
pre { overflow-x: auto; padding: 14px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 480px) { .numbers td, .numbers thead th + th { padding-left: 12px; } h1 { font-size: 22px; } }
`;
