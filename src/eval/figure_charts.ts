/**
 * The figures of an evaluation as inline SVG: heat maps of confusion, reliability, bars, scatter, and values with their
 * intervals. Colours are the page's CSS variables, or half-transparent where a picture carries them, so that light and
 * dark both work.
 */

import sharp from 'sharp';
import { escapeHtml, tickLabel, ticks } from '../io/plot.js';
import { metricHeading, metricText, valueText } from './report_text.js';
import type { Figure, Metric, ModelResult, Picture } from './result.js';

type FigureOf<Kind extends Figure['kind']> = Extract<Figure, { readonly kind: Kind }>;

/** Bins of the reliability curve and of the expected calibration error (Guo et al. 2017). */
const CONFIDENCE_BINS = 15;

/** Confusion matrices up to this many classes have their counts written in the cells. */
const WRITTEN_CLASSES = 16;
/** Cells of larger ones that tell their count under the pointer: the fullest. */
const TOLD_CELLS = 400;
/** Confusions listed beside the matrix. */
const LISTED_CONFUSIONS = 12;

/** More bars than this are shown from both ends, the rest in a list that unfolds. */
const MOST_BARS = 40;
/** Of each end then. */
const BARS_OF_AN_END = 15;

/** More points than this are thinned, evenly. */
const MOST_POINTS = 3000;
const SCATTER_LAYERS = 8;

/** Pictures of a gallery are shrunk to this side, in pixels. */
const GALLERY_SIDE = 320;

/** RGB of right and wrong predictions, at strengths that show on white and on black. */
const RIGHT = [46, 118, 214] as const;
const WRONG = [214, 96, 24] as const;

/** A figure as HTML. */
export async function figureHtml(figure: Figure): Promise<string> {
  switch (figure.kind) {
    case 'confusion':
      return confusionMatrix(figure);
    case 'reliability':
      return reliabilityCurve(figure);
    case 'bars':
      return barChart(figure);
    case 'scatter':
      return scatterPlot(figure);
    case 'gallery':
      return gallery(figure);
  }
}

function chart(parts: {
  readonly title: string;
  readonly latest?: string;
  readonly width: number;
  readonly height: number;
  readonly label: string;
  readonly content: readonly string[];
  readonly className?: string;
  /** HTML under the drawing. */
  readonly after?: string;
}): string {
  const { title, latest = '', width, height, label, content, className = '', after = '' } = parts;
  return (
    `<figure class="chart ${className}"><figcaption><span class="title">${escapeHtml(title)}</span>` +
    `<span class="latest">${latest}</span></figcaption>` +
    `<svg viewBox="0 0 ${width} ${round(height)}" role="img" aria-label="${escapeHtml(label)}">${content.join('')}</svg>${after}</figure>`
  );
}

function round(value: number): number {
  return Number(value.toFixed(1));
}

interface TextStyle {
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly className?: string;
  readonly rotate?: number;
}

function text(x: number, y: number, content: string, { anchor = 'start', className, rotate }: TextStyle = {}): string {
  const name = className ? ` class="${className}"` : '';
  const turn = rotate === undefined ? '' : ` transform="rotate(${rotate} ${round(x)} ${round(y)})"`;
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"${name}${turn}>${escapeHtml(content)}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, className = 'grid'): string {
  return `<line class="${className}" x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}"/>`;
}

function shortened(name: string, characters: number): string {
  return name.length > characters ? `${name.slice(0, characters - 1)}…` : name;
}

// --- values with intervals ---

/** One metric of several models: a dot a model, its interval as a line. Empty text where no model has the metric. */
export function intervalChart(models: readonly ModelResult[], { name, unit }: Pick<Metric, 'name' | 'unit'>): string {
  const rows = models.flatMap(({ model, floor, metrics }) => {
    const metric = metrics.find((one) => one.name === name && Number.isFinite(one.value));
    return metric ? [{ model, floor, metric }] : [];
  });
  if (rows.length === 0) return '';
  const [width, left, right, step, top] = [720, 200, 130, 26, 8];
  const bottom = top + rows.length * step;
  const ends = rows.flatMap(({ metric: { value, interval } }) => [value, ...(interval ?? [])]).filter(Number.isFinite);
  const axis = ticks(Math.min(...ends), Math.max(...ends), 5);
  const [low, high] = [axis[0], axis.at(-1)!];
  const x = (value: number): number => left + ((value - low) / (high - low)) * (width - left - right);
  const content = axis.flatMap((tick) => [
    line(x(tick), top, x(tick), bottom),
    text(x(tick), bottom + 15, tickLabel(tick, axis), { anchor: 'middle' }),
  ]);
  rows.forEach(({ model, floor, metric }, i) => {
    const y = top + (i + 0.5) * step;
    const colour = floor ? 'var(--soft)' : `var(--series-${(i % 4) + 1})`;
    content.push(text(left - 10, y + 4, shortened(model, 32), { anchor: 'end', className: floor ? '' : 'strong' }));
    if (metric.interval?.every(Number.isFinite)) {
      const [from, to] = metric.interval.map(x);
      content.push(
        `<line x1="${round(from)}" x2="${round(to)}" y1="${y}" y2="${y}" stroke="${colour}" stroke-width="6" stroke-linecap="round" opacity="0.3"/>`,
      );
    }
    content.push(`<circle cx="${round(x(metric.value))}" cy="${y}" r="4.5" fill="${colour}"/>`);
    content.push(text(width - right + 12, y + 4, metricText(metric), { className: floor ? '' : 'strong' }));
  });
  const label = rows.map(({ model, metric }) => `${model} ${metricText(metric)}`).join('; ');
  const title = metricHeading({ name, unit });
  return chart({ title, width, height: bottom + 22, label: `${title}: ${label}`, content, className: 'wide' });
}

// --- confusion ---

async function confusionMatrix({ title, classNames, counts }: FigureOf<'confusion'>): Promise<string> {
  const classes = classNames.length;
  const count = (truth: number, prediction: number): number => counts[truth * classes + prediction];
  const totals = classNames.map((_, truth) =>
    classNames.reduce((sum, __, prediction) => sum + count(truth, prediction), 0),
  );
  const right = classNames.reduce((sum, _, label) => sum + count(label, label), 0);
  const all = totals.reduce((sum, total) => sum + total, 0);
  const longest = Math.min(Math.max(...classNames.map((name) => name.length)), 22);
  const side = 600;
  const left = 26 + longest * 5.6;
  const top = 6;
  const cell = side / classes;
  const cells = classNames
    .flatMap((_, truth) =>
      classNames.map((__, prediction) => ({ truth, prediction, pictures: count(truth, prediction) })),
    )
    .filter(({ pictures }) => pictures > 0)
    .sort((a, b) => b.pictures - a.pictures || a.truth - b.truth || a.prediction - b.prediction);

  // A pixel a class, stretched: thousands of rectangles would be slow to show.
  const pixels = new Uint8Array(classes * classes * 4);
  for (const { truth, prediction, pictures } of cells) {
    const at = 4 * (truth * classes + prediction);
    pixels.set(truth === prediction ? RIGHT : WRONG, at);
    // The square root shows single mistakes among many right ones.
    pixels[at + 3] = Math.round(40 + 215 * Math.sqrt(pictures / totals[truth]));
  }
  const url = await pngUrl({ width: classes, height: classes, data: pixels }, 4);
  const content = [
    `<rect x="${left}" y="${top}" width="${side}" height="${side}" class="frame"/>`,
    `<image x="${left}" y="${top}" width="${side}" height="${side}" preserveAspectRatio="none" class="pixels" href="${url}"/>`,
  ];
  const every = Math.max(Math.ceil(10 / cell), 1);
  classNames.forEach((name, i) => {
    if (i % every !== 0) return;
    const middle = (i + 0.5) * cell;
    const label = shortened(name, 22);
    content.push(text(left - 5, top + middle + 3, label, { anchor: 'end', className: 'small' }));
    content.push(text(left + middle + 3, top + side + 6, label, { anchor: 'end', className: 'small', rotate: -90 }));
  });
  content.push(text(10, top + side / 2, 'truth', { anchor: 'middle', rotate: -90 }));
  const bottom = top + side + 12 + longest * 5.6;
  content.push(text(left + side / 2, bottom + 12, 'prediction', { anchor: 'middle' }));
  const told = cells.slice(0, classes <= WRITTEN_CLASSES ? cells.length : TOLD_CELLS);
  for (const { truth, prediction, pictures } of told) {
    const [x, y] = [left + prediction * cell, top + truth * cell];
    if (classes <= WRITTEN_CLASSES) {
      content.push(text(x + cell / 2, y + cell / 2 + 4, compact(pictures), { anchor: 'middle', className: 'count' }));
    }
    const words = `${classNames[truth]} → ${classNames[prediction]}: ${pictures} of ${totals[truth]}`;
    content.push(
      `<rect x="${round(x)}" y="${round(y)}" width="${round(cell)}" height="${round(cell)}" fill="transparent"><title>${escapeHtml(words)}</title></rect>`,
    );
  }
  const wrong = cells.filter(({ truth, prediction }) => truth !== prediction).slice(0, LISTED_CONFUSIONS);
  const listed = wrong.map(
    ({ truth, prediction, pictures }) =>
      `<li>${escapeHtml(classNames[truth])} → ${escapeHtml(classNames[prediction])}: <b>${compact(pictures)}</b> of ${compact(totals[truth])}</li>`,
  );
  const share = `${((100 * right) / all).toFixed(1)} % right`;
  return chart({
    title,
    latest: `<b>${share}</b> · <span class="key" style="--key: rgb(${RIGHT})">right</span><span class="key" style="--key: rgb(${WRONG})">wrong</span>`,
    width: round(left + side + 8),
    height: bottom + 20,
    label: `${title}: ${classes} classes, ${share}`,
    content,
    className: 'matrix',
    after:
      listed.length === 0
        ? ''
        : `<p class="note">Most frequent confusions, truth → prediction</p><ol class="confusions">${listed.join('')}</ol>`,
  });
}

/** 1234567 as 1.2M: counts of pixels must fit a cell. */
function compact(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${Math.round(value / 1e3)}k`;
  return String(value);
}

// --- reliability ---

/** What predictions of about the same confidence are worth. */
export interface ConfidenceBin {
  readonly pictures: number;
  /** Means, 0..1; 0 in an empty bin. */
  readonly confidence: number;
  readonly accuracy: number;
}

/** Bins of equal width over 0..1; a confidence of 1 belongs to the last. */
export function confidenceBins(
  confidence: ArrayLike<number>,
  correct: ArrayLike<number>,
  bins = CONFIDENCE_BINS,
): ConfidenceBin[] {
  const sums = Array.from({ length: bins }, () => ({ pictures: 0, confidence: 0, accuracy: 0 }));
  for (let i = 0; i < confidence.length; i++) {
    const bin = sums[Math.min(Math.max(Math.floor(confidence[i] * bins), 0), bins - 1)];
    bin.pictures++;
    bin.confidence += confidence[i];
    bin.accuracy += correct[i] ? 1 : 0;
  }
  return sums.map(({ pictures, confidence, accuracy }) => ({
    pictures,
    confidence: pictures > 0 ? confidence / pictures : 0,
    accuracy: pictures > 0 ? accuracy / pictures : 0,
  }));
}

/** Expected calibration error, 0..1: the mean distance between confidence and accuracy over pictures (Guo et al. 2017). */
export function calibrationError(bins: readonly ConfidenceBin[]): number {
  const pictures = bins.reduce((sum, bin) => sum + bin.pictures, 0);
  if (pictures === 0) return 0;
  return bins.reduce((sum, bin) => sum + bin.pictures * Math.abs(bin.confidence - bin.accuracy), 0) / pictures;
}

function reliabilityCurve({ title, confidence, correct }: FigureOf<'reliability'>): string {
  const bins = confidenceBins(confidence, correct);
  const [left, top, side, histogram] = [46, 8, 270, 44];
  const x = (value: number): number => left + value * side;
  const y = (value: number): number => top + (1 - value) * side;
  const content: string[] = [];
  const axis = [0, 0.25, 0.5, 0.75, 1];
  const floor = top + side + 10 + histogram;
  for (const tick of axis) {
    content.push(line(left, y(tick), left + side, y(tick)));
    content.push(text(left - 6, y(tick) + 3.5, `${100 * tick}`, { anchor: 'end' }));
    content.push(text(x(tick), floor + 14, `${100 * tick}`, { anchor: 'middle' }));
  }
  const most = Math.max(...bins.map(({ pictures }) => pictures), 1);
  const width = side / bins.length;
  bins.forEach((bin, i) => {
    if (bin.pictures === 0) return;
    const words = `${Math.round((100 * i) / bins.length)} to ${Math.round((100 * (i + 1)) / bins.length)} % sure: ${bin.pictures} predictions, ${(100 * bin.accuracy).toFixed(1)} % right`;
    const height = (histogram * bin.pictures) / most;
    const [at, wide] = [round(left + i * width + 1), round(width - 2)];
    content.push(
      `<rect x="${at}" y="${round(floor - height)}" width="${wide}" height="${round(height)}" fill="var(--soft)" opacity="0.45"><title>${words}</title></rect>`,
      `<rect x="${at}" y="${round(y(bin.accuracy))}" width="${wide}" height="${round(side * bin.accuracy)}" fill="var(--series-1)" opacity="0.28"><title>${words}</title></rect>`,
    );
  });
  content.push(line(x(0), y(0), x(1), y(1), 'reference'));
  const curve = bins.filter(({ pictures }) => pictures > 0);
  const points = curve.map((bin) => `${round(x(bin.confidence))},${round(y(bin.accuracy))}`).join(' ');
  content.push(`<polyline points="${points}" fill="none" stroke="var(--series-1)" stroke-width="1.6"/>`);
  for (const bin of curve) {
    content.push(
      `<circle cx="${round(x(bin.confidence))}" cy="${round(y(bin.accuracy))}" r="2.6" fill="var(--series-1)"/>`,
    );
  }
  content.push(text(left + side / 2, floor + 29, 'confidence, % (grey: how many predictions)', { anchor: 'middle' }));
  content.push(text(12, top + side / 2, 'right, %', { anchor: 'middle', rotate: -90 }));
  const error = `ECE ${(100 * calibrationError(bins)).toFixed(1)} %`;
  return chart({
    title,
    latest: `<b>${error}</b>`,
    width: left + side + 14,
    height: floor + 36,
    label: `${title}: ${error} over ${confidence.length} predictions`,
    content,
  });
}

// --- bars ---

function barChart({ title, unit, bars }: FigureOf<'bars'>): string {
  const finite = bars.filter(({ value }) => Number.isFinite(value));
  if (finite.length === 0) return '';
  const mean = finite.reduce((sum, { value }) => sum + value, 0) / finite.length;
  const latest = `mean <b>${valueText(mean, unit)}</b>${unit === '' ? '' : ` ${unit}`}`;
  if (bars.length <= MOST_BARS) return barRows(title, latest, unit, bars, finite);
  const sorted = [...finite].sort((a, b) => b.value - a.value);
  const list = sorted.map(({ label, value }) => `<li>${escapeHtml(label)} <b>${valueText(value, unit)}</b></li>`);
  const all = `<details><summary>all ${bars.length}</summary><ol class="confusions">${list.join('')}</ol></details>`;
  const ends = [sorted.slice(0, BARS_OF_AN_END), sorted.slice(-BARS_OF_AN_END)];
  return (
    barRows(`${title}: highest ${BARS_OF_AN_END} of ${bars.length}`, latest, unit, ends[0], finite) +
    barRows(`${title}: lowest ${BARS_OF_AN_END} of ${bars.length}`, '', unit, ends[1], finite, all)
  );
}

type Bar = FigureOf<'bars'>['bars'][number];

function barRows(
  title: string,
  latest: string,
  unit: Metric['unit'],
  bars: readonly Bar[],
  scale: readonly Bar[],
  after = '',
): string {
  const [width, step, top, right] = [340, 17, 4, 44];
  const left = 14 + Math.min(Math.max(...bars.map(({ label }) => label.length)), 22) * 6.2;
  const [low, high] = [
    Math.min(0, ...scale.map(({ value }) => value)),
    // Percentages keep their full range, so that charts compare.
    Math.max(unit === '%' ? 100 : 0, ...scale.map(({ value }) => value)),
  ];
  const x = (value: number): number => left + ((value - low) / (high - low || 1)) * (width - left - right);
  const content = bars.flatMap(({ label, value }, i) => {
    const y = top + i * step;
    const name = text(left - 6, y + 12, shortened(label, 22), { anchor: 'end' });
    if (!Number.isFinite(value)) return [name, text(left + 4, y + 12, '–')];
    const [from, to] = [x(Math.min(value, 0)), x(Math.max(value, 0))];
    return [
      name,
      `<rect x="${round(left)}" y="${y + 2}" width="${round(width - left - right)}" height="${step - 5}" class="track"/>`,
      `<rect x="${round(from)}" y="${y + 2}" width="${round(to - from)}" height="${step - 5}" rx="1.5" fill="var(--series-1)"/>`,
      text(width - right + 6, y + 12, valueText(value, unit)),
    ];
  });
  const label = bars.map((bar) => `${bar.label} ${valueText(bar.value, unit)}`).join('; ');
  return chart({
    title,
    latest,
    width,
    height: top + bars.length * step + 4,
    label: `${title}: ${label}`,
    content,
    after,
  });
}

// --- scatter ---

function scatterPlot({ title, xLabel, yLabel, points, diagonal }: FigureOf<'scatter'>): string {
  const finite = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
  if (finite.length === 0) return '';
  const stride = Math.ceil(finite.length / MOST_POINTS);
  const shown = finite.filter((_, i) => i % stride === 0);
  const [left, top, width, height] = [46, 8, 280, 260];
  const range = (axis: 0 | 1): [number, number] => {
    const values = finite.map((point) => point[axis]);
    return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  };
  const [xRange, yRange] = [range(0), range(1)];
  // With y = x to compare with, both axes have one scale.
  const both: [number, number] = [Math.min(xRange[0], yRange[0]), Math.max(xRange[1], yRange[1])];
  const xTicks = ticks(...(diagonal ? both : xRange), 4);
  const yTicks = ticks(...(diagonal ? both : yRange), 4);
  const x = (value: number): number => left + ((value - xTicks[0]) / (xTicks.at(-1)! - xTicks[0])) * width;
  const y = (value: number): number => top + (1 - (value - yTicks[0]) / (yTicks.at(-1)! - yTicks[0])) * height;
  const content = [
    ...yTicks.flatMap((tick) => [
      line(left, y(tick), left + width, y(tick)),
      text(left - 6, y(tick) + 3.5, tickLabel(tick, yTicks), { anchor: 'end' }),
    ]),
    ...xTicks.flatMap((tick) => [
      line(x(tick), top, x(tick), top + height),
      text(x(tick), top + height + 14, tickLabel(tick, xTicks), { anchor: 'middle' }),
    ]),
  ];
  if (diagonal) content.push(line(x(xTicks[0]), y(yTicks[0]), x(xTicks.at(-1)!), y(yTicks.at(-1)!), 'reference'));
  // Points of one path do not add up where they overlap; those of several paths do.
  const layers = Array.from({ length: SCATTER_LAYERS }, (_, layer) =>
    shown
      .filter((__, i) => i % SCATTER_LAYERS === layer)
      .map((point) => `M${round(x(point[0]))} ${round(y(point[1]))}h0`)
      .join(''),
  ).filter((dots) => dots !== '');
  const opacity = shown.length > 500 ? 0.35 : 0.7;
  content.push(
    ...layers.map(
      (dots) =>
        `<path d="${dots}" fill="none" stroke="var(--series-1)" stroke-width="3.2" stroke-linecap="round" opacity="${opacity}"/>`,
    ),
    text(left + width / 2, top + height + 29, xLabel, { anchor: 'middle' }),
    text(11, top + height / 2, yLabel, { anchor: 'middle', rotate: -90 }),
  );
  const latest = stride > 1 ? `${shown.length} of ${finite.length} points` : `${finite.length} points`;
  const label = `${title}: ${yLabel} against ${xLabel}, ${finite.length} points`;
  return chart({ title, latest, width: left + width + 14, height: top + height + 36, label, content });
}

// --- gallery ---

async function gallery({ title, rows }: FigureOf<'gallery'>): Promise<string> {
  const lines: string[] = [];
  for (const { caption, pictures } of rows) {
    const cells: string[] = [];
    for (const { caption: name, picture } of pictures) {
      const { width, height } = picture;
      cells.push(
        `<figure><img src="${await pngUrl(picture, 3)}" alt="${escapeHtml(`${caption} ${name}`.trim())}" loading="lazy" style="aspect-ratio: ${width} / ${height}"><figcaption>${escapeHtml(name)}</figcaption></figure>`,
      );
    }
    lines.push(`<div class="sample"><p>${escapeHtml(caption)}</p><div class="pictures">${cells.join('')}</div></div>`);
  }
  return `<figure class="chart gallery"><figcaption><span class="title">${escapeHtml(title)}</span></figcaption>${lines.join('')}</figure>`;
}

async function pngUrl({ width, height, data }: Picture, channels: 3 | 4): Promise<string> {
  let image = sharp(data, { raw: { width, height, channels } });
  if (channels === 3)
    image = image.resize({ width: GALLERY_SIDE, height: GALLERY_SIDE, fit: 'inside', withoutEnlargement: true });
  return `data:image/png;base64,${(await image.png({ compressionLevel: 9 }).toBuffer()).toString('base64')}`;
}

/** What these figures need beside the common style of a page. */
export const FIGURE_STYLE = `
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); gap: 14px; align-items: start; grid-auto-flow: dense; }
.figures .matrix { grid-column: span 2; grid-row: span 2; }
.figures .gallery, .figures .wide { grid-column: 1 / -1; }
.chart text.small { font-size: 9px; }
.chart text.strong { fill: var(--ink); font-weight: 600; }
.chart text.count { fill: var(--ink); font-size: 12px; }
.chart .reference { stroke: var(--soft); stroke-dasharray: 4 3; }
.chart .frame { fill: none; stroke: var(--line); }
.chart .track { fill: var(--grid); }
.chart .pixels { image-rendering: pixelated; }
.chart .latest { color: var(--soft); font-size: 13px; }
.chart .latest b { color: var(--ink); }
.wide svg { max-width: 820px; }
.wide text { font-size: 12.5px; }
.confusions { columns: 260px; margin: 4px 0 0; padding-left: 24px; font-size: 13px; }
.sample + .sample { border-top: 1px solid var(--line); margin-top: 10px; padding-top: 6px; }
.sample p { margin: 2px 0 6px; font-size: 13px; color: var(--soft); overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 10px; }
.pictures figure { margin: 0; flex: 1 1 120px; max-width: 240px; }
.pictures img { display: block; width: 100%; border-radius: 4px; image-rendering: auto; }
.pictures figcaption { font-size: 12px; color: var(--soft); margin-top: 3px; overflow-wrap: anywhere; }
@media (max-width: 760px) { .figures .matrix { grid-column: 1 / -1; } }
`;
