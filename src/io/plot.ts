/**
 * Small line charts as inline SVG text: one question a chart, linear axes (KoLeo goes below zero, a logarithm would
 * break on it), colours from the page's CSS variables so that light and dark both work. No script is needed to read them.
 */

/** One line of a chart. */
export interface Series {
  label: string;
  /** `[x, y]`, x rising; points that are not finite break the line. */
  points: (readonly [number, number])[];
}

/** A horizontal mark to compare with. */
export interface Reference {
  label: string;
  y: number;
}

/** What a chart shows. */
export interface Chart {
  title: string;
  unit?: string;
  /** One sentence under the chart: what to expect. */
  note?: string;
  /** At most {@link MAX_SERIES}. */
  series: Series[];
  references?: Reference[];
}

/** Lines that can still be told apart in one small chart. */
export const MAX_SERIES = 4;

const WIDTH = 340;
const HEIGHT = 170;
const MARGIN = { left: 46, right: 14, top: 10, bottom: 24 };

/** Longer lines are averaged into this many groups, with a band from each group's minimum to its maximum. */
const MAX_POINTS = 200;

interface Thinned {
  points: (readonly [number, number])[];
  /** Minimum and maximum of each group; empty where nothing was averaged. */
  band: [number, number][];
  /** First and last x of the line as given. */
  extent: [number, number];
  /** Last value as given. */
  latest: number;
}

/** A chart as an HTML `<figure>`; empty text when no series has a finite point. */
export function lineChart({ title, unit = '', note, series, references = [] }: Chart): string {
  const lines = series
    .slice(0, MAX_SERIES)
    .map(({ label, points }) => ({
      label,
      ...thin(points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))),
    }))
    .filter(({ points }) => points.length > 0);
  if (lines.length === 0) return '';
  const xs = lines.flatMap(({ extent }) => extent);
  const ys = lines
    .flatMap(({ points, band }) => [...points.map(([, y]) => y), ...band.flat()])
    .concat(references.map(({ y }) => y));
  const xTicks = ticks(Math.min(...xs), Math.max(...xs), 4);
  const yTicks = ticks(Math.min(...ys), Math.max(...ys), 4);
  const [x0, x1] = spread(Math.min(...xs), Math.max(...xs));
  const [y0, y1] = spread(Math.min(yTicks[0], ...ys), Math.max(yTicks.at(-1)!, ...ys));
  const px = (x: number) => MARGIN.left + ((x - x0) / (x1 - x0)) * (WIDTH - MARGIN.left - MARGIN.right);
  const py = (y: number) => HEIGHT - MARGIN.bottom - ((y - y0) / (y1 - y0)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const place = (x: number, y: number) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`;

  const parts: string[] = [];
  for (const y of yTicks) {
    parts.push(
      `<line class="grid" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${py(y).toFixed(1)}" y2="${py(y).toFixed(1)}"/>`,
      `<text x="${MARGIN.left - 6}" y="${(py(y) + 3.5).toFixed(1)}" text-anchor="end">${tickLabel(y, yTicks)}</text>`,
    );
  }
  for (const x of xTicks.filter((tick) => tick >= x0 && tick <= x1)) {
    parts.push(`<text x="${px(x).toFixed(1)}" y="${HEIGHT - 7}" text-anchor="middle">${tickLabel(x, xTicks)}</text>`);
  }
  for (const { label, y } of references) {
    parts.push(
      `<line class="reference" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${py(y).toFixed(1)}" y2="${py(y).toFixed(1)}"/>`,
      `<text class="reference" x="${WIDTH - MARGIN.right}" y="${(py(y) - 4).toFixed(1)}" text-anchor="end">${escapeHtml(label)}</text>`,
    );
  }
  lines.forEach(({ points, band }, i) => {
    const colour = `var(--series-${i + 1})`;
    if (band.length > 0) {
      const upper = points.map(([x], j) => place(x, band[j][1]));
      const lower = points.map(([x], j) => place(x, band[j][0])).reverse();
      parts.push(`<polygon points="${[...upper, ...lower].join(' ')}" fill="${colour}" opacity="0.18"/>`);
    }
    parts.push(`<polyline points="${points.map(([x, y]) => place(x, y)).join(' ')}" stroke="${colour}"/>`);
    const [lastX, lastY] = points.at(-1)!;
    parts.push(`<circle cx="${px(lastX).toFixed(1)}" cy="${py(lastY).toFixed(1)}" r="2.5" fill="${colour}"/>`);
  });

  const labels = lines.map(({ label, latest }, i) => {
    const value = `<b>${valueLabel(latest)}</b>${unit ? ' ' + escapeHtml(unit) : ''}`;
    return lines.length > 1
      ? `<span class="key" style="--key: var(--series-${i + 1})">${escapeHtml(label)} ${value}</span>`
      : value;
  });
  const summary = lines.map(({ label, latest }) => `${label} ends at ${valueLabel(latest)} ${unit}`.trim()).join('; ');
  // What the page's script needs to name the value under the pointer.
  const data = escapeHtml(
    JSON.stringify({
      x: [x0, x1],
      left: MARGIN.left,
      right: MARGIN.right,
      unit,
      lines: lines.map(({ label, points }) => ({
        label,
        points: points.map(([x, y]) => [x, Number(y.toPrecision(4))]),
      })),
    }),
  );
  return (
    `<figure class="chart"><figcaption><span class="title">${escapeHtml(title)}</span><span class="latest">${labels.join(' ')}</span></figcaption>` +
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(`${title}: ${summary}`)}" data-chart="${data}">${parts.join('')}</svg>` +
    `${note ? `<p class="note">${escapeHtml(note)}</p>` : ''}</figure>`
  );
}

/** Text made safe between tags and inside quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Round numbers (1, 2, 2.5, 5 times a power of ten) that cover `low … high`, about `count` of them. */
export function ticks(low: number, high: number, count: number): number[] {
  const [from, to] = spread(low, high);
  const rough = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999)!;
  const first = Math.floor(from / step + 1e-9);
  const last = Math.ceil(to / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** The range itself, widened where it has no extent so that it can be divided by. */
function spread(low: number, high: number): [number, number] {
  if (high - low > 1e-12 * Math.max(Math.abs(low), Math.abs(high))) return [low, high];
  const half = Math.abs(low) > 0 ? Math.abs(low) * 0.1 : 0.5;
  return [low - half, high + half];
}

function thin(points: (readonly [number, number])[]): Thinned {
  const extent: [number, number] = points.length > 0 ? [points[0][0], points.at(-1)![0]] : [0, 0];
  const latest = points.at(-1)?.[1] ?? 0;
  if (points.length <= MAX_POINTS) return { points: [...points], band: [], extent, latest };
  const thinned: Thinned = { points: [], band: [], extent, latest };
  for (let group = 0; group < MAX_POINTS; group++) {
    const from = Math.floor((group * points.length) / MAX_POINTS);
    const members = points.slice(from, Math.floor(((group + 1) * points.length) / MAX_POINTS));
    const values = members.map(([, y]) => y);
    const middle = (members[0][0] + members.at(-1)![0]) / 2;
    thinned.points.push([middle, values.reduce((sum, y) => sum + y, 0) / values.length]);
    thinned.band.push([Math.min(...values), Math.max(...values)]);
  }
  return thinned;
}

/** A tick with as many decimals as tells it from its neighbours; thousands as k, millions as M. */
export function tickLabel(value: number, all: number[]): string {
  if (value === 0) return '0';
  const step = all.length > 1 ? all[1] - all[0] : Math.abs(value);
  const largest = Math.max(...all.map(Math.abs));
  if (largest >= 1e6) return `${Number((value / 1e6).toFixed(2))}M`;
  if (largest >= 10_000) return `${Number((value / 1e3).toFixed(1))}k`;
  if (largest < 1e-3) return value.toExponential(1).replace('.0e', 'e').replace('e+', 'e');
  const decimals = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (/^[^1-9]*25/.test(step.toPrecision(3)) ? 1 : 0));
  return value.toFixed(Math.min(decimals, 8));
}

function valueLabel(value: number): string {
  if (value === 0) return '0';
  const magnitude = Math.abs(value);
  if (magnitude < 1e-3 || magnitude >= 1e6) return value.toExponential(1).replace('e+', 'e');
  return String(magnitude >= 1000 ? Math.round(value) : Number(value.toPrecision(3)));
}
