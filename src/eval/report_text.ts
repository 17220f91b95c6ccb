/** An evaluation as text: the table and sentences that a terminal shows, and CSV. */

import type { EvaluationReport, Margin, Metric, ModelResult } from './result.js';

const DECIMALS = { '%': 1, m: 3, '': 3 } as const satisfies Record<Metric['unit'], number>;

/** `54.2`, `0.731`; a dash for a value that there is none of. */
export function valueText(value: number, unit: Metric['unit']): string {
  return Number.isFinite(value) ? value.toFixed(DECIMALS[unit]) : '–';
}

/** `54.2 [47.6, 60.9]`; without brackets where there is no interval. */
export function metricText({ value, unit, interval }: Metric): string {
  const text = valueText(value, unit);
  return interval ? `${text} [${valueText(interval[0], unit)}, ${valueText(interval[1], unit)}]` : text;
}

/** `top1, %`; the name alone where there is no unit. */
export function metricHeading({ name, unit }: Pick<Metric, 'name' | 'unit'>): string {
  return unit === '' ? name : `${name}, ${unit}`;
}

/** All metrics of a report, each once, in the order in which models have them. */
export function metricsOf(models: readonly ModelResult[]): Metric[] {
  const byName = new Map<string, Metric>();
  for (const { metrics } of models)
    for (const metric of metrics) if (!byName.has(metric.name)) byName.set(metric.name, metric);
  return [...byName.values()];
}

/** Models as rows, metrics as columns. */
export function reportTable({ task, dataset, models }: EvaluationReport): string {
  const columns = metricsOf(models);
  const cells = [
    [`${task} on ${dataset}`, ...columns.map(metricHeading)],
    ...models.map(({ model, metrics }) => [
      model,
      ...columns.map(({ name }) => {
        const metric = metrics.find((one) => one.name === name);
        return metric ? metricText(metric) : '–';
      }),
    ]),
  ];
  return alignedTable(cells, 1);
}

/** Columns of one width each: the first `names` to the left, numbers to the right. */
export function alignedTable(cells: readonly (readonly string[])[], names: number): string {
  const widths = cells[0].map((_, column) => Math.max(...cells.map((line) => line[column].length)));
  const pad = (text: string, column: number): string =>
    column < names ? text.padEnd(widths[column]) : text.padStart(widths[column]);
  return cells.map((line) => line.map(pad).join('  ').trimEnd()).join('\n');
}

/**
 * `teacher of runs/a is ahead of raw pixels by 12.1 points [8.0, 16.3]`, and in words where it is not: behind, or with an
 * interval that leaves the order open.
 * @param floor whether `against` is there to be beaten
 */
export function marginText({ model, against, metric, unit, difference, interval }: Margin, floor: boolean): string {
  const [low, high] = interval;
  const name = unit === '%' ? 'points' : unit;
  const amount = (value: number): string => `${valueText(value, unit)}${name === '' ? '' : ` ${name}`}`;
  const open = !(low > 0 || high < 0);
  if (difference > 0) {
    const range = `[${valueText(low, unit)}, ${valueText(high, unit)}]`;
    const text = `${model} is ahead of ${against} by ${amount(difference)} ${range} in ${metric}`;
    if (!open) return text;
    return `${text}: these test pictures do not show that it is better${floor ? ' than this floor' : ''}`;
  }
  const range = `[${valueText(-high, unit)}, ${valueText(-low, unit)}]`;
  const text =
    difference < 0
      ? `${model} is behind ${against} by ${amount(-difference)} ${range} in ${metric}`
      : `${model} is level with ${against} ${range} in ${metric}`;
  if (floor) return `${text}: it does not beat this floor`;
  return open ? `${text}: these test pictures leave open which is better` : text;
}

/** The margins of a report, a sentence each. */
export function marginLines({ models, margins }: EvaluationReport): string[] {
  return margins.map((margin) =>
    marginText(margin, models.find(({ model }) => model === margin.against)?.floor === true),
  );
}

/** One header line, one line a model: value, low and high of every metric, at full precision. */
export function reportCsv({ task, dataset, models }: EvaluationReport): string {
  const columns = metricsOf(models);
  const header = [
    'task',
    'dataset',
    'model',
    'floor',
    ...columns.flatMap(({ name }) => [name, `${name} low`, `${name} high`]),
  ];
  const lines = models.map(({ model, floor, metrics }) => [
    task,
    dataset,
    model,
    String(floor),
    ...columns.flatMap(({ name }) => {
      const metric = metrics.find((one) => one.name === name);
      return [metric?.value, metric?.interval?.[0], metric?.interval?.[1]].map((value) =>
        value === undefined ? '' : String(value),
      );
    }),
  ]);
  return csvLines([header, ...lines]);
}

/** A line each, as RFC 4180 has it. */
export function csvLines(lines: readonly (readonly string[])[]): string {
  return lines.map((line) => line.map(csvCell).join(',') + '\n').join('');
}

function csvCell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
