/**
 * report.html: a run on one page, in one file. Curves, kNN table, PCA pictures, the first augmented batch, warnings,
 * machine and configuration; charts are inline SVG, pictures are PNG inside the page, nothing is loaded from anywhere.
 */
import sharp from 'sharp';
import { writeFileAtomic } from '../io/atomic.js';
import { METRICS, type MetricName, type MetricsRecord } from './metrics.js';
import { htmlPage, pageHeader, section, table } from '../io/page.js';
import { type Chart, escapeHtml, lineChart, MAX_SERIES } from '../io/plot.js';
import { formatDuration, shortNumber } from '../io/progress.js';

/** A picture as bytes: `[height, width, 3]`, RGB, C order. */
export interface RgbPicture {
  width: number;
  height: number;
  data: Uint8Array;
}

/** kNN accuracies to print. */
export interface KnnTable {
  /** What was classified, for example "cifar10 val, 1,000 pictures". */
  dataset: string;
  /** Neighbours, one column each. */
  k: number[];
  /** For example teacher, untrained, raw pixels. `top1` is in percent, in the order of `k`. The first row is the run's. */
  rows: { name: string; top1: number[] }[];
}

/** All that a report shows; what is missing or empty leaves its part out. */
export interface ReportData {
  title: string;
  /** One line under the title: when, on what. */
  subtitle?: string;
  /** The resolved configuration as YAML. */
  configYaml: string;
  /** Adapter, driver, features, memory, versions: label and value, in order. */
  machine: [label: string, value: string][];
  metrics: MetricsRecord[];
  /** Time the run took. */
  wallTimeMs?: number;
  knn?: KnnTable;
  /** A picture and the colours of its patches, one pixel a patch. */
  pca?: { source: RgbPicture; patches: RgbPicture }[];
  /** The crops of some pictures of the first batch, one row a picture. */
  crops?: { label: string; pictures: RgbPicture[] }[];
  warnings?: { step: number; message: string; cure: string }[];
  /** Pictures that could not be read. */
  badPictures?: { path: string; reason: string }[];
}

/** Metrics named `knn_top1_k20` hold the accuracy with 20 neighbours, percent. */
const KNN_METRIC = /^knn_top1_k(\d+)$/;

const CHART_GROUPS: { heading: string; names: MetricName[] }[] = [
  { heading: 'Quality', names: ['knn_top1', 'feature_std', 'teacher_entropy'] },
  {
    heading: 'Losses',
    names: ['total_loss', 'dino_local_crops_loss', 'dino_global_crops_loss', 'ibot_loss', 'koleo_loss'],
  },
  { heading: 'Schedules', names: ['lr', 'last_layer_lr', 'weight_decay', 'momentum', 'teacher_temp'] },
  { heading: 'Gradients', names: ['grad_norm_backbone', 'grad_norm_dino_head', 'grad_norm_ibot_head', 'loss_scale'] },
  { heading: 'Speed', names: ['images_per_second', 'step_ms', 'data_wait_ms'] },
];

/** Listed in full up to here; a folder of a million broken files should not make a page that no browser opens. */
const MAX_BAD_PICTURES = 200;

/** Writes the report, replacing a former one whole. */
export async function writeReport(path: string, data: ReportData): Promise<void> {
  await writeFileAtomic(path, await reportHtml(data));
}

/** The report as HTML text. The same data give the same text. */
export async function reportHtml(data: ReportData): Promise<string> {
  const body = [
    header(data),
    warningsSection(data.warnings ?? []),
    knnSection(data.knn),
    await pcaSection(data.pca ?? []),
    ...CHART_GROUPS.map(({ heading, names }) => chartsSection(heading, names, data)),
    await cropsSection(data.crops ?? []),
    badPicturesSection(data.badPictures ?? []),
    section('Machine', table(data.machine.map(([label, value]) => [label, value]))),
    section(
      'Configuration',
      `<details><summary>The resolved configuration, as in config.yaml</summary><pre>${escapeHtml(data.configYaml)}</pre></details>`,
    ),
  ];
  return htmlPage({ title: data.title, body, style: STYLE, script: SCRIPT });
}

function header({ title, subtitle, metrics, knn, wallTimeMs, warnings = [] }: ReportData): string {
  const facts: [string, string][] = [];
  const last = metrics.at(-1);
  if (last) facts.push(['steps', (last.step + 1).toLocaleString('en-US')]);
  if (wallTimeMs !== undefined) facts.push(['time', formatDuration(wallTimeMs)]);
  const speeds = metrics.map((record) => record.images_per_second).filter((speed) => typeof speed === 'number');
  if (speeds.length > 0) facts.push(['images/s, median', shortNumber(Number(median(speeds).toPrecision(3)))]);
  const loss = metrics.filter((record) => typeof record.total_loss === 'number').at(-1)?.total_loss;
  if (typeof loss === 'number') facts.push(['total loss, last', shortNumber(Number(loss.toPrecision(3)))]);
  if (knn?.rows[0])
    facts.push([`best kNN top-1, ${knn.rows[0].name}`, `${Math.max(...knn.rows[0].top1).toFixed(1)} %`]);
  facts.push(['warnings', String(warnings.length)]);
  return pageHeader(title, subtitle, facts);
}

function warningsSection(warnings: NonNullable<ReportData['warnings']>): string {
  if (warnings.length === 0) return '';
  const items = warnings.map(
    ({ step, message, cure }) =>
      `<li><b>Step ${step}.</b> ${escapeHtml(message)} <span class="cure">${escapeHtml(cure)}</span></li>`,
  );
  return section('Warnings', `<ul class="warnings">${items.join('')}</ul>`);
}

function knnSection(knn: KnnTable | undefined): string {
  if (!knn || knn.rows.length === 0) return '';
  const head = `<tr><th scope="col">top-1, %</th>${knn.k.map((k) => `<th scope="col">k = ${k}</th>`).join('')}</tr>`;
  const rows = knn.rows.map(({ name, top1 }) => {
    const best = Math.max(...top1);
    const cells = top1.map((value) => `<td${value === best ? ' class="best"' : ''}>${value.toFixed(1)}</td>`);
    return `<tr><th scope="row">${escapeHtml(name)}</th>${cells.join('')}</tr>`;
  });
  return section(
    'Nearest neighbours',
    `<p class="note">${escapeHtml(knn.dataset)}. Features must beat raw pixels and the untrained network.</p>` +
      `<div class="scroll"><table class="numbers"><thead>${head}</thead><tbody>${rows.join('')}</tbody></table></div>`,
  );
}

async function pcaSection(pictures: NonNullable<ReportData['pca']>): Promise<string> {
  if (pictures.length === 0) return '';
  const figures = await Promise.all(
    pictures.map(
      async ({ source, patches }) =>
        `<div class="pair">${await image(source, 'source picture')}${await image(patches, 'its patch features')}</div>`,
    ),
  );
  return section(
    'Patch features',
    '<p class="note">Three principal components of the teacher\'s patch features as red, green and blue, fitted over all these pictures together: ' +
      `the same colour means the same kind of patch.</p><div class="pairs">${figures.join('')}</div>`,
  );
}

async function cropsSection(rows: NonNullable<ReportData['crops']>): Promise<string> {
  if (rows.length === 0) return '';
  const largest = Math.max(...rows.flatMap(({ pictures }) => pictures.map(({ width }) => width)));
  const html = await Promise.all(
    rows.map(async ({ label, pictures }) => {
      const images = await Promise.all(
        pictures.map((picture) =>
          image(picture, `crop of ${label}`, `width:${Math.round((88 * picture.width) / largest)}px`),
        ),
      );
      return `<div class="crops">${images.join('')}</div>`;
    }),
  );
  return section(
    'First augmented batch',
    `<p class="note">What the network sees: one row a picture, global crops first.</p>${html.join('')}`,
  );
}

function badPicturesSection(bad: NonNullable<ReportData['badPictures']>): string {
  if (bad.length === 0) return '';
  const shown = bad.slice(0, MAX_BAD_PICTURES).map(({ path, reason }) => [path, reason]);
  const more = bad.length > shown.length ? `<p class="note">and ${bad.length - shown.length} more</p>` : '';
  return section(
    'Pictures that were skipped',
    `<details><summary>${bad.length} could not be read</summary>${table(shown)}${more}</details>`,
  );
}

function chartsSection(heading: string, names: MetricName[], data: ReportData): string {
  const charts = names.map((name) => lineChart(chartOf(name, data))).filter((chart) => chart !== '');
  return charts.length > 0 ? section(heading, `<div class="charts">${charts.join('')}</div>`) : '';
}

function chartOf(name: MetricName, { metrics, knn }: ReportData): Chart {
  const { label, unit, healthy } = METRICS[name];
  const points = (key: string): [number, number][] =>
    metrics.flatMap((record) => {
      const value = record[key];
      return typeof value === 'number' ? [[record.step, value] as [number, number]] : [];
    });
  if (name !== 'knn_top1') return { title: label, unit, note: healthy, series: [{ label, points: points(name) }] };
  const keys = [...new Set(metrics.flatMap((record) => Object.keys(record).filter((key) => KNN_METRIC.test(key))))];
  const neighbours = keys.map((key) => Number(KNN_METRIC.exec(key)![1])).sort((a, b) => a - b);
  return {
    title: label,
    unit,
    note: healthy,
    series: neighbours.slice(0, MAX_SERIES).map((k) => ({ label: `k ${k}`, points: points(`knn_top1_k${k}`) })),
    references: knn?.rows.slice(1).map((row) => ({ label: row.name, y: Math.max(...row.top1) })),
  };
}

async function image({ width, height, data }: RgbPicture, alt: string, style?: string): Promise<string> {
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  const uri = `data:image/png;base64,${png.toString('base64')}`;
  return `<img src="${uri}" width="${width}" height="${height}" alt="${escapeHtml(alt)}"${style ? ` style="${style}"` : ''}>`;
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const STYLE = `
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: 14px; }
.chart .latest { color: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
.chart .latest b { color: var(--ink); font-weight: 600; }
.chart svg { touch-action: pan-y; }
.chart text.reference { fill: var(--ink); }
.chart polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.chart .reference { stroke-dasharray: 4 3; }
.chart line.reference { stroke: var(--soft); }
.chart text.reference { stroke: none; }
.chart .pointer { stroke: var(--soft); }
.readout { position: absolute; left: 12px; right: 12px; bottom: 6px; padding: 2px 6px; font-size: 12.5px; background: var(--card); color: var(--ink); font-variant-numeric: tabular-nums; pointer-events: none; }
.best { font-weight: 600; }
.pairs { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 10px; }
.pair { display: flex; gap: 2px; border-radius: 8px; overflow: hidden; }
.pair img { width: 128px; height: 128px; object-fit: fill; image-rendering: pixelated; display: block; }
.pair img:first-child { image-rendering: auto; }
.crops { display: flex; flex-wrap: wrap; align-items: center; gap: 4px; margin-top: 6px; }
.crops img { height: auto; border-radius: 3px; }
@media (max-width: 480px) { .pair img { width: 42vw; height: 42vw; } }
`;

/** Names the values under the pointer. The page is complete without it. */
const SCRIPT = `
for (const svg of document.querySelectorAll('svg[data-chart]')) {
  const { x: [x0, x1], left, right, unit, lines } = JSON.parse(svg.dataset.chart);
  const [, , width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
  const pointer = document.createElementNS('http://www.w3.org/2000/svg', 'line');
  pointer.setAttribute('class', 'pointer');
  pointer.setAttribute('y1', 0);
  pointer.setAttribute('y2', height - 24);
  const readout = document.createElement('div');
  readout.className = 'readout';
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width * width - left) / (width - left - right);
    const x = x0 + Math.min(Math.max(share, 0), 1) * (x1 - x0);
    const nearest = lines.map(({ label, points }) => ({ label, point: points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a) }));
    const at = left + (nearest[0].point[0] - x0) / (x1 - x0) * (width - left - right);
    pointer.setAttribute('x1', at);
    pointer.setAttribute('x2', at);
    readout.textContent = 'step ' + nearest[0].point[0] + ': ' + nearest.map(({ label, point }) => (lines.length > 1 ? label + ' ' : '') + point[1]).join(', ') + (unit ? ' ' + unit : '');
    svg.append(pointer);
    svg.parentNode.append(readout);
  });
  svg.addEventListener('pointerleave', () => { pointer.remove(); readout.remove(); });
}
`;
