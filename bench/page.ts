/**
 * A bench run as one page, in one file: how near every operator comes to what this adapter can do, the same as a roofline,
 * others beside us, where a training step's time goes, and all numbers as a table. Nothing is loaded from anywhere.
 */

import { htmlPage, pageHeader, section, table } from '../src/io/page.js';
import { escapeHtml } from '../src/io/plot.js';
import type { Ceiling, Ceilings } from './ceilings.js';
import { type BenchReport, refusals } from './run_suites.js';
import type { StepKernel, StepOutcome } from './step_suite.js';
import { type BenchRow, isMeasured, type MeasuredRow, type PeerRow } from './suites.js';
import { byteRate, figure, limitingRate, operationRate } from './tables.js';

/** Suites by colour, in the page's order. */
const SUITE_LABELS: Readonly<Record<string, string>> = {
  gemm: 'Matrix products',
  attention: 'Attention',
  layernorm: 'Layer-norm',
  loss: 'Losses and targets',
  adamw: 'Optimizer',
  step: 'Training step',
};

function colourOf(suite: string): string {
  return `var(--series-${Object.keys(SUITE_LABELS).indexOf(suite) + 1})`;
}

/** The report as HTML text. The same data give the same text. */
export function benchPage(report: BenchReport): string {
  const { adapter, ceilings, rows, peers, step, shapes } = report;
  const measured = rows.filter(isMeasured);
  const body = [
    pageHeader(adapter, `webdino bench ${report.suite}, ${longDate(report.date)}`, facts(report)),
    refusedSection(report),
    ...(ceilings ? [rooflineSection(measured, ceilings)] : []),
    barsSection(measured),
    peersSection(peers),
    step ? stepSection(step) : '',
    tableSection(rows),
    section(
      'Machine',
      table([
        ['adapter', report.reason || adapter],
        [
          'processor',
          `${report.processor}, ${report.processors} at hand, load ${report.load.toFixed(1)} when the run began`,
        ],
        ['Node', report.node],
        ['date', report.date],
        ['shapes', shapes === 'full' ? 'full: those of training on a GPU' : 'small: what a CPU does in a moment'],
        ...ceilingRows(ceilings),
      ]),
    ),
  ];
  return htmlPage({ title: `webdino bench: ${adapter}`, body, style: STYLE });
}

function longDate(iso: string): string {
  const date = new Date(iso);
  const day = date.toLocaleDateString('en-GB', { day: 'numeric', month: 'long', year: 'numeric', timeZone: 'UTC' });
  return `${day}, ${iso.slice(11, 16)} UTC`;
}

function ceilingRows(ceilings: Ceilings | undefined): [string, string][] {
  if (!ceilings) return [];
  const { copy, gemm, gemmOnMatrices } = ceilings;
  return [
    ['ceiling of memory', `${byteRate(copy.perSecond)}: ${copy.work}, read plus written`],
    ['ceiling of float32', `${operationRate(gemm.perSecond)}: ${gemm.work}`],
    ...(gemmOnMatrices
      ? [
          ['ceiling of matrix units', `${operationRate(gemmOnMatrices.perSecond)}: ${gemmOnMatrices.work}`] as [
            string,
            string,
          ],
        ]
      : []),
  ];
}

function facts({ ceilings, rows, step, features }: BenchReport): [string, string][] {
  const list: [string, string][] = [];
  if (ceilings) {
    const { copy, gemm, gemmOnMatrices } = ceilings;
    list.push(['memory', byteRate(copy.perSecond)], ['float32', operationRate(gemm.perSecond)]);
    if (gemmOnMatrices) list.push(['matrix units', operationRate(gemmOnMatrices.perSecond)]);
  }
  if (step && 'msPerStep' in step) {
    list.push(['training, images/s', figure(step.imagesPerSecond)]);
    list.push(['memory of a step', memory(step.peakBytes)]);
  }
  if (features && 'imagesPerSecond' in features) list.push(['features, images/s', figure(features.imagesPerSecond)]);
  const measured = rows.filter(isMeasured);
  if (measured.length > 0) list.push(['results checked', String(measured.length)]);
  return list;
}

function memory(bytes: number): string {
  return bytes >= 2 ** 30 ? `${figure(bytes / 2 ** 30)} GiB` : `${figure(bytes / 2 ** 20)} MiB`;
}

function refusedSection(report: BenchReport): string {
  const wrong = refusals(report);
  if (wrong.length === 0) return '';
  const items = wrong.map((line) => `<li>${escapeHtml(line)}</li>`);
  return section(
    'No number',
    `<p class="note">Their results were wrong here, so nothing was timed.</p><ul class="warnings">${items.join('')}</ul>`,
  );
}

// --- Roofline ----------------------------------------------------------------------------------------------------------

const WIDTH = 1088;
const HEIGHT = 440;
const MARGIN = { left: 92, right: 24, top: 18, bottom: 46 };

function decades(low: number, high: number): number[] {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const count = Math.floor(Math.log10(high) + 1e-9) - first + 1;
  return Array.from({ length: Math.max(count, 0) }, (_, i) => 10 ** (first + i));
}

/** Rows as points under the ceilings: operations a byte across, operations a second up, both logarithmic. */
function rooflineSection(rows: readonly MeasuredRow[], ceilings: Ceilings): string {
  const points = rows.filter(({ flops, bytes }) => flops > 0 && bytes > 0);
  if (points.length === 0) return '';
  const { copy, gemm, gemmOnMatrices } = ceilings;
  const best = Math.max(gemm.perSecond, gemmOnMatrices?.perSecond ?? 0);
  const intensity = ({ flops, bytes }: MeasuredRow): number => flops / bytes;
  const speed = ({ tflops }: MeasuredRow): number => tflops * 1e12;
  const xs = [...points.map(intensity), best / copy.perSecond];
  const ys = [...points.map(speed), best];
  const [x0, x1] = [Math.min(...xs) / 2, Math.max(...xs) * 3];
  const [y0, y1] = [Math.min(...ys) / 2, Math.max(...ys) * 2];
  const along = (value: number, low: number, high: number): number => Math.log(value / low) / Math.log(high / low);
  const px = (x: number): number => MARGIN.left + along(x, x0, x1) * (WIDTH - MARGIN.left - MARGIN.right);
  const py = (y: number): number => HEIGHT - MARGIN.bottom - along(y, y0, y1) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const at = (value: number): string => value.toFixed(1);
  const line = (kind: string, [ax, ay]: number[], [bx, by]: number[]): string =>
    `<line class="${kind}" x1="${at(ax)}" y1="${at(ay)}" x2="${at(bx)}" y2="${at(by)}"/>`;

  const parts: string[] = [];
  // Drawn last, above the points.
  const labels: string[] = [];
  for (const y of decades(y0, y1)) {
    parts.push(line('grid', [MARGIN.left, py(y)], [WIDTH - MARGIN.right, py(y)]));
    parts.push(`<text x="${MARGIN.left - 10}" y="${at(py(y) + 4)}" text-anchor="end">${operationRate(y)}</text>`);
  }
  for (const x of decades(x0, x1)) {
    parts.push(line('grid', [px(x), MARGIN.top], [px(x), HEIGHT - MARGIN.bottom]));
    parts.push(`<text x="${at(px(x))}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${figure(x)}</text>`);
  }
  parts.push(
    `<text x="${WIDTH - MARGIN.right}" y="${HEIGHT - 8}" text-anchor="end">operations for each byte that must move</text>`,
  );
  // The memory's line rises to the highest product and starts where it enters the plot.
  const ridge = best / copy.perSecond;
  const start = Math.max(x0, y0 / copy.perSecond);
  const [from, to] = [
    [px(start), py(start * copy.perSecond)],
    [px(ridge), py(best)],
  ];
  parts.push(line('roof', from, to));
  const slope = (Math.atan2(to[1] - from[1], to[0] - from[0]) * 180) / Math.PI;
  const middle = [from[0] + 0.45 * (to[0] - from[0]), from[1] + 0.45 * (to[1] - from[1])];
  labels.push(
    `<text class="roof" transform="translate(${at(middle[0])} ${at(middle[1] - 8)}) rotate(${at(slope)})" text-anchor="middle">copy, ${byteRate(copy.perSecond)}</text>`,
  );
  const flat = (ceiling: Ceiling, label: string): void => {
    const y = py(ceiling.perSecond);
    parts.push(line('roof', [px(ceiling.perSecond / copy.perSecond), y], [WIDTH - MARGIN.right, y]));
    labels.push(
      `<text class="roof" x="${WIDTH - MARGIN.right}" y="${at(y - 8)}" text-anchor="end">${label}, ${operationRate(ceiling.perSecond)}</text>`,
    );
  };
  flat(gemm, 'best float32 product');
  if (gemmOnMatrices) flat(gemmOnMatrices, 'best product on matrix units');
  for (const row of points) {
    const { suite, operator, shape, percentOfCeiling } = row;
    const title = `${operator}, ${shape}: ${operationRate(speed(row))}, ${figure(percentOfCeiling)} % of its ceiling`;
    parts.push(
      `<circle cx="${at(px(intensity(row)))}" cy="${at(py(speed(row)))}" r="${suite === 'step' ? 8 : 5.5}" fill="${colourOf(suite)}"><title>${escapeHtml(title)}</title></circle>`,
    );
  }
  const present = Object.keys(SUITE_LABELS).filter((suite) => points.some((row) => row.suite === suite));
  const keys = present.map(
    (suite) => `<span class="key" style="--key: ${colourOf(suite)}">${SUITE_LABELS[suite]}</span>`,
  );
  return section(
    'Roofline',
    '<p class="note">A point on the slanted line moves memory as fast as a plain copy; one on a level line computes as fast as the best product. Both were measured in this run. What stays in the caches can lie above the slope.</p>' +
      `<figure class="chart roofline"><figcaption><span class="title">Speed against arithmetic intensity</span><span class="keys">${keys.join('')}</span></figcaption>` +
      `<div class="scroll"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Roofline of ${points.length} operators">${[...parts, ...labels].join('')}</svg></div></figure>`,
  );
}

// --- Bars --------------------------------------------------------------------------------------------------------------

function bar(label: string, detail: string, share: number, colour: string, figures: readonly string[]): string {
  const width = Math.min(Math.max(100 * share, 0.4), 100).toFixed(1);
  return (
    `<li><span class="what">${escapeHtml(label)} <small>${escapeHtml(detail)}</small></span>` +
    `<span class="track"><span style="width: ${width}%; background: ${colour}"></span></span>` +
    `${figures.map((text) => `<span class="value">${escapeHtml(text)}</span>`).join('')}</li>`
  );
}

/** Percent of the ceiling, one bar an operator; the step has a section of its own. */
function barsSection(rows: readonly MeasuredRow[]): string {
  const groups = Object.entries(SUITE_LABELS)
    .filter(([suite]) => suite !== 'step')
    .map(([suite, label]) => {
      const bars = rows
        .filter((row) => row.suite === suite)
        .map((row) =>
          bar(row.operator, row.shape, row.percentOfCeiling / 100, colourOf(suite), [
            `${figure(row.percentOfCeiling)} %`,
            limitingRate(row),
            `${figure(row.ms)} ms`,
          ]),
        );
      return bars.length > 0 ? `<h3>${label}</h3><ul class="bars">${bars.join('')}</ul>` : '';
    })
    .join('');
  if (groups === '') return '';
  return section(
    'Operators',
    `<p class="note">Share of this adapter’s own ceilings: a full bar is as fast as a copy of the same bytes, or as the best product with as many operations.</p>${groups}`,
  );
}

function peersSection(peers: readonly PeerRow[]): string {
  if (peers.length === 0) return '';
  const [{ operator, shape }] = peers;
  const measured = peers.filter((peer) => peer.tflops !== undefined);
  const fastest = Math.max(...measured.map(({ tflops = 0 }) => tflops));
  const bars = [...measured]
    .sort((a, b) => (b.tflops ?? 0) - (a.tflops ?? 0))
    .map(({ name, ms = 0, tflops = 0 }) => {
      const colour = name.startsWith('webdino') ? 'var(--series-1)' : 'var(--peer)';
      return bar(name, '', tflops / fastest, colour, [operationRate(tflops * 1e12), `${figure(ms)} ms`]);
    });
  const missing = peers
    .filter((peer) => peer.missing !== undefined)
    .map(({ name, missing }) => `<li>${escapeHtml(`${name}: ${missing}`)}</li>`);
  return section(
    'Beside others',
    `<p class="note">${escapeHtml(`${operator}, ${shape}, float32`)}. The same product, checked and timed in the same run; longer is faster.</p>` +
      `<ul class="bars peers">${bars.join('')}</ul>${missing.length > 0 ? `<ul class="note">${missing.join('')}</ul>` : ''}`,
  );
}

// --- Step --------------------------------------------------------------------------------------------------------------

/** Kernels that get a colour of their own in the stacked bar; the rest is one segment. */
const SEGMENTS = 7;

function stackedBar(kernels: readonly StepKernel[]): string {
  const timed = kernels.filter(({ percent }) => percent !== undefined);
  if (timed.length === 0) return '';
  const first = timed.slice(0, SEGMENTS);
  const rest = timed.slice(SEGMENTS).reduce((sum, { percent = 0 }) => sum + percent, 0);
  const segments = first.map(({ kernel, percent = 0 }, i) => ({
    label: kernel,
    percent,
    colour: `var(--segment-${i + 1})`,
  }));
  if (rest > 0) segments.push({ label: `${timed.length - SEGMENTS} others`, percent: rest, colour: 'var(--peer)' });
  const blocks = segments.map(
    ({ label, percent, colour }) =>
      `<span style="width: ${percent.toFixed(2)}%; background: ${colour}" title="${escapeHtml(`${label}: ${percent.toFixed(1)} %`)}"></span>`,
  );
  const keys = segments.map(
    ({ label, percent, colour }) =>
      `<span class="key" style="--key: ${colour}">${escapeHtml(label)} <b>${percent.toFixed(1)} %</b></span>`,
  );
  return `<figure class="chart"><div class="stack">${blocks.join('')}</div><div class="keys below">${keys.join('')}</div></figure>`;
}

function stepSection(step: StepOutcome): string {
  const { arch, patch, batch, global, local, nLocal, prototypes, dropPath, dtype } = step.settings;
  const what = `${arch}/${patch}, batch ${batch}, 2 × ${global} px + ${nLocal} × ${local} px, ${prototypes.toLocaleString('en-US')} prototypes, drop path ${dropPath}, ${dtype}`;
  const note = `<p class="note">${escapeHtml(what)}</p>`;
  if ('refused' in step) return '';
  const words =
    'msPerStep' in step
      ? `${figure(step.msPerStep)} ms a step, ${figure(step.imagesPerSecond)} images/s, ${operationRate(step.tflops * 1e12)}, ${memory(step.peakBytes)} at the peak, ${step.dispatches} dispatches.`
      : `Not run: ${memory(step.peakBytes)} at the peak, ${step.dispatches} dispatches, ${figure(step.flops / 1e9)} GFLOP.`;
  const rows = step.kernels.map(
    ({ kernel, dispatches, ms, percent, tflops = 0, gigabytesPerSecond = 0, flops, bytes }) => [
      kernel,
      String(dispatches),
      ms === undefined ? '' : figure(ms),
      percent === undefined ? '' : `${percent.toFixed(1)} %`,
      ms === undefined ? `${figure(flops / 1e9)} GFLOP` : operationRate(tflops * 1e12),
      ms === undefined ? `${figure(bytes / 1e9)} GB` : byteRate(gigabytesPerSecond * 1e9),
    ],
  );
  return section(
    'Where a training step’s time goes',
    `${note}<p>${escapeHtml(words)}</p>${stackedBar(step.kernels)}` +
      `<details><summary>${step.kernels.length} kernels</summary>${numbers(['kernel', 'dispatches', 'ms', 'of the step', 'operations', 'memory'], rows)}</details>`,
  );
}

// --- Table -------------------------------------------------------------------------------------------------------------

function numbers(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = headings.map((text) => `<th scope="col">${text}</th>`).join('');
  const body = rows.map(
    ([first, ...cells]) =>
      `<tr><th scope="row">${escapeHtml(first)}</th>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`,
  );
  return `<div class="scroll"><table class="numbers plain"><thead><tr>${head}</tr></thead><tbody>${body.join('')}</tbody></table></div>`;
}

function tableSection(rows: readonly BenchRow[]): string {
  if (rows.length === 0) return '';
  const lines = rows.map((row) => {
    if (!isMeasured(row)) return [row.operator, row.shape, '', '', '', row.refused ? 'wrong' : 'skipped', '', ''];
    return [
      row.operator,
      row.shape,
      figure(row.ms),
      operationRate(row.tflops * 1e12),
      byteRate(row.gigabytesPerSecond * 1e9),
      `${figure(row.percentOfCeiling)} %`,
      row.bound,
      row.error.toExponential(0),
    ];
  });
  return section(
    'All numbers',
    `<details><summary>${rows.length} cases; medians, by ${clocks(rows)}</summary>${numbers(['operator', 'shape', 'ms', 'operations', 'memory', 'of ceiling', 'bound by', 'error'], lines)}</details>`,
  );
}

function clocks(rows: readonly BenchRow[]): string {
  const used = new Set(rows.filter(isMeasured).map(({ clock }) => clock));
  return used.has('timestamps') ? 'the GPU’s timestamps where not noted otherwise' : 'the wall clock';
}

const STYLE = `
:root { --series-5: #b3365b; --series-6: #1b1f24; --peer: #a9b1bb;
  --segment-1: #2563c9; --segment-2: #6b9be8; --segment-3: #14805e; --segment-4: #64b698; --segment-5: #c2570c; --segment-6: #e5a46f; --segment-7: #8a3fb0; }
@media (prefers-color-scheme: dark) {
  :root { --series-5: #f0809e; --series-6: #e8ebef; --peer: #59626d;
    --segment-1: #6ea8ff; --segment-2: #3f6db3; --segment-3: #4cc38a; --segment-4: #2c7d59; --segment-5: #f0985a; --segment-6: #a1612f; --segment-7: #c98bea; }
}
.roofline .scroll svg { min-width: 640px; }
.chart.roofline text { font-size: 12px; }
.chart .roof { stroke: var(--ink); stroke-width: 1.6; stroke-linecap: round; }
.chart text.roof { stroke: var(--card); stroke-width: 4; paint-order: stroke; fill: var(--ink); font-size: 12.5px; }
.chart circle { fill-opacity: 0.78; stroke: var(--card); stroke-width: 1.2; }
.chart circle:hover { fill-opacity: 1; stroke: var(--ink); }
h3 { font-size: 14px; font-weight: 600; margin: 18px 0 0; }
.facts dd { font-size: 19px; white-space: nowrap; }
.roofline { margin-top: 10px; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--soft); }
.keys .key + .key { margin-left: 0; }
.keys b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.keys.below { margin-top: 10px; }
.bars { list-style: none; margin: 8px 0 0; padding: 8px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.bars li { display: grid; grid-template-columns: minmax(0, 1fr) minmax(120px, 34%) 62px 112px 84px; gap: 0 14px; align-items: center; padding: 5px 0; }
.bars.peers li { grid-template-columns: minmax(0, 1fr) minmax(120px, 40%) 112px 84px; }
.bars li + li { border-top: 1px solid var(--grid); }
.bars small { color: var(--soft); font-size: 12.5px; white-space: nowrap; }
.bars .what { line-height: 1.35; }
.track { height: 12px; border-radius: 3px; background: var(--grid); overflow: hidden; }
.track span { display: block; height: 100%; border-radius: 3px; }
.value { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; font-size: 13.5px; }
.value + .value { color: var(--soft); }
.stack { display: flex; height: 34px; border-radius: 6px; overflow: hidden; gap: 1px; margin-top: 2px; }
.stack span { min-width: 1px; }
.numbers.plain tbody tr:first-child th { color: var(--soft); font-weight: 400; }
.numbers.plain { font-size: 13.5px; }
details { margin-top: 12px; }
@media (max-width: 720px) {
  .bars li, .bars.peers li { grid-template-columns: 1fr auto auto; }
  .bars .what, .bars .track { grid-column: 1 / -1; }
  .bars .value:nth-of-type(3) { text-align: left; }
}
`;
