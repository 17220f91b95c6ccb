/**
 * The pages of evaluations: one report with its table, margins, notes and figures, or many of them under one table that
 * sets the models side by side. One file each; charts are inline SVG, pictures lie inside the page, nothing is loaded.
 */

import { htmlPage, pageHeader, section } from '../io/page.js';
import { escapeHtml } from '../io/plot.js';
import { formatDuration } from '../io/progress.js';
import { FIGURE_STYLE, figureHtml, intervalChart } from './figure_charts.js';
import { marginText, metricHeading, metricsOf, metricText, valueText } from './report_text.js';
import type { EvaluationReport, Margin, Metric, ModelResult } from './result.js';

/** One finished or failed task of a page with many. */
export type PageEntry =
  | {
      readonly report: EvaluationReport;
      /** Of {@link figuresHtml}. */
      readonly figures: string;
      /** The report's own page, relative to this one. */
      readonly link?: string;
    }
  | { readonly task: string; readonly dataset: string; readonly failure: string };

/** @returns a whole HTML document */
export async function evaluationPage(report: EvaluationReport): Promise<string> {
  const { task, dataset, models, train, test, seconds } = report;
  const headline = models[0].metrics[0];
  const facts: [string, string][] = [];
  if (headline) facts.push([`${headline.name}, ${models[0].model}`, withUnit(headline)]);
  const floor = bestOf(models.filter((one) => one.floor));
  if (floor) facts.push([`${floor.metric.name}, best floor (${floor.model})`, withUnit(floor.metric)]);
  const [learned, asked] = roles(task);
  facts.push([learned, count(train.pictures)], [asked, count(test.pictures)]);
  facts.push(['time', formatDuration(1000 * seconds)]);
  const title = `${task} on ${dataset}`;
  return htmlPage({
    title,
    body: [
      pageHeader(title, `${train.path} → ${test.path}`, facts),
      notesHtml(report.notes),
      section('Results', resultsHtml(report) + chosenHtml(models)),
      marginsSection(report),
      section('Figures', await figuresHtml(report)),
      settingsSection(report),
    ],
    style: PAGE_STYLE,
  });
}

/**
 * @param entries in the order of the page
 * @returns a whole HTML document
 */
export function comparisonPage(title: string, subtitle: string, entries: readonly PageEntry[]): string {
  const done = entries.filter((entry) => 'report' in entry);
  const reports = done.map(({ report }) => report);
  const models = new Set(reports.flatMap((report) => report.models.map(({ model }) => model)));
  const seconds = reports.reduce((sum, report) => sum + report.seconds, 0);
  const failed = entries.length - done.length;
  const facts: [string, string][] = [
    ['models and floors', String(models.size)],
    ['evaluations', String(reports.length)],
    ...(failed > 0 ? ([['failed', String(failed)]] as [string, string][]) : []),
    ['time', formatDuration(1000 * seconds)],
  ];
  const failures = entries.flatMap((entry) => ('failure' in entry ? [entry] : []));
  const listed = failures.map(
    ({ task, dataset, failure }) =>
      `<li><b>${escapeHtml(`${task} on ${dataset}`)}</b> failed: ${escapeHtml(failure)}</li>`,
  );
  return htmlPage({
    title,
    body: [
      pageHeader(title, subtitle, facts),
      listed.length > 0 ? section('What failed', `<ul class="warnings">${listed.join('')}</ul>`) : '',
      reports.length > 0 ? section('Overview', overviewHtml(reports)) : '',
      ...done.map(entrySection),
    ],
    style: PAGE_STYLE,
  });
}

/**
 * The figures of a report: its headline metric with intervals first, then its own.
 * @param pictures false leaves galleries out, which would make a page of many reports too large
 */
export async function figuresHtml({ models, figures }: EvaluationReport, pictures = true): Promise<string> {
  const headline = models[0].metrics[0];
  const parts = headline ? [intervalChart(models, headline)] : [];
  for (const figure of figures) if (pictures || figure.kind !== 'gallery') parts.push(await figureHtml(figure));
  return `<div class="figures">${parts.join('')}</div>`;
}

function entrySection({ report, figures, link }: Extract<PageEntry, { report: EvaluationReport }>): string {
  const { task, dataset, train, test, notes } = report;
  const title = `${task} on ${dataset}`;
  const [learned, asked] = roles(task);
  const pictures = `${count(train.pictures)} ${learned}, ${count(test.pictures)} ${asked}`;
  const own = link === undefined ? '' : ` · <a href="${escapeHtml(link)}">page of its own, with pictures</a>`;
  return (
    `<section id="${anchor(report)}"><h2>${escapeHtml(title)}</h2><p class="note">${escapeHtml(pictures)}${own}</p>` +
    `${notesHtml(notes)}${resultsHtml(report)}${marginsHtml(report)}` +
    `<details><summary>Figures</summary>${figures}</details></section>`
  );
}

/** What the pictures of the two parts are there for. */
function roles(task: string): readonly [train: string, test: string] {
  return /^(retrieval|copy)$/.test(task)
    ? ['pictures to search', 'queries']
    : ['pictures to learn from', 'test pictures'];
}

function anchor({ task, dataset }: EvaluationReport): string {
  return `${task}-${dataset}`.replace(/[^A-Za-z0-9_-]+/g, '-');
}

/** Rows of models, a column for the headline of every report. */
function overviewHtml(reports: readonly EvaluationReport[]): string {
  const rows = new Map<string, boolean>();
  for (const { models } of reports) for (const { model, floor } of models) rows.set(model, floor);
  // Floors last, each group in the order of its first report.
  const ordered = [...rows].sort(([, a], [, b]) => Number(a) - Number(b));
  const sets = [...new Set(reports.map(({ dataset }) => dataset))];
  const columns = sets.flatMap((set) => reports.filter(({ dataset }) => dataset === set));
  const groups = sets.map(
    (set) =>
      `<th scope="colgroup" colspan="${columns.filter(({ dataset }) => dataset === set).length}">${escapeHtml(set)}</th>`,
  );
  const heads = columns.map((report) => {
    const headline = report.models[0].metrics[0];
    const arrow = headline?.better === 'lower' ? ' ↓' : '';
    return `<th scope="col"><a href="#${anchor(report)}">${escapeHtml(report.task)}</a><br>${headline ? escapeHtml(metricHeading(headline)) + arrow : ''}</th>`;
  });
  const lines = ordered.map(([name, floor]) => {
    const cells = columns.map(({ models }) => {
      const headline = models[0].metrics[0];
      const metric = models.find(({ model }) => model === name)?.metrics.find((one) => one.name === headline?.name);
      return metric ? metricCell(metric, isBest(metric, models)) : '<td>–</td>';
    });
    return `<tr${floor ? ' class="floor"' : ''}><th scope="row">${escapeHtml(name)}</th>${cells.join('')}</tr>`;
  });
  return (
    '<p class="note">The headline of every task with its 95 % interval; the best of each column in bold, floors in grey. ↓ marks errors: lower is better.</p>' +
    `<div class="scroll"><table class="numbers results"><thead><tr><th></th>${groups.join('')}</tr><tr><th scope="col">model</th>${heads.join('')}</tr></thead><tbody>${lines.join('')}</tbody></table></div>`
  );
}

function resultsHtml({ models }: EvaluationReport): string {
  const columns = metricsOf(models);
  const heads = columns.map(
    (metric) => `<th scope="col">${escapeHtml(metricHeading(metric))}${metric.better === 'lower' ? ' ↓' : ''}</th>`,
  );
  const lines = models.map(({ model, floor, metrics }) => {
    const cells = columns.map(({ name }) => {
      const metric = metrics.find((one) => one.name === name);
      return metric ? metricCell(metric, isBest(metric, models)) : '<td>–</td>';
    });
    return `<tr${floor ? ' class="floor"' : ''}><th scope="row">${escapeHtml(model)}</th>${cells.join('')}</tr>`;
  });
  return `<div class="scroll"><table class="numbers results"><thead><tr><th scope="col">model</th>${heads.join('')}</tr></thead><tbody>${lines.join('')}</tbody></table></div>`;
}

function metricCell(metric: Metric, best: boolean): string {
  const { value, unit, interval } = metric;
  const range = interval
    ? `<span class="range">${valueText(interval[0], unit)} – ${valueText(interval[1], unit)}</span>`
    : '';
  return `<td${best ? ' class="best"' : ''} title="${escapeHtml(`${metric.name} ${metricText(metric)}`)}">${valueText(value, unit)}${range}</td>`;
}

function isBest({ name, value, better }: Metric, models: readonly ModelResult[]): boolean {
  const values = models.flatMap(({ metrics }) => metrics.filter((one) => one.name === name).map((one) => one.value));
  const finite = values.filter(Number.isFinite);
  return (
    finite.some((other) => other !== finite[0]) &&
    value === (better === 'lower' ? Math.min(...finite) : Math.max(...finite))
  );
}

function bestOf(models: readonly ModelResult[]): { model: string; metric: Metric } | undefined {
  const found = models.flatMap(({ model, metrics }) => (metrics.length > 0 ? [{ model, metric: metrics[0] }] : []));
  return found.find(({ metric }) => isBest(metric, models)) ?? found[0];
}

function marginsSection(report: EvaluationReport): string {
  return report.margins.length === 0 ? '' : section('Margins', marginsHtml(report));
}

function marginsHtml({ models, margins }: EvaluationReport): string {
  if (margins.length === 0) return '';
  const lines = margins.map((margin) => {
    const floor = models.find(({ model }) => model === margin.against)?.floor === true;
    return `<li class="${stateOf(margin)}">${escapeHtml(marginText(margin, floor))}</li>`;
  });
  return `<ul class="margins">${lines.join('')}</ul>`;
}

function stateOf({ interval: [low, high] }: Margin): 'ahead' | 'behind' | 'open' {
  if (low > 0) return 'ahead';
  return high < 0 ? 'behind' : 'open';
}

function chosenHtml(models: readonly ModelResult[]): string {
  const keys = [...new Set(models.flatMap(({ chosen = {} }) => Object.keys(chosen)))];
  if (keys.length === 0) return '';
  const heads = keys.map((key) => `<th scope="col">${escapeHtml(key)}</th>`);
  const lines = models.map(({ model, floor, chosen = {} }) => {
    const cells = keys.map((key) => `<td>${escapeHtml(String(chosen[key] ?? '–'))}</td>`);
    return `<tr${floor ? ' class="floor"' : ''}><th scope="row">${escapeHtml(model)}</th>${cells.join('')}</tr>`;
  });
  return `<details><summary>What was chosen on the way</summary><div class="scroll"><table class="numbers"><thead><tr><th scope="col">model</th>${heads.join('')}</tr></thead><tbody>${lines.join('')}</tbody></table></div></details>`;
}

function notesHtml(notes: readonly string[]): string {
  if (notes.length === 0) return '';
  return `<ul class="notes">${notes.map((note) => `<li>${escapeHtml(note)}</li>`).join('')}</ul>`;
}

function settingsSection({ settings }: EvaluationReport): string {
  return section(
    'Settings',
    `<details><summary>Everything that gives these numbers again</summary><pre>${escapeHtml(JSON.stringify(settings, null, 2))}</pre></details>`,
  );
}

function withUnit({ value, unit }: Metric): string {
  return unit === '' ? valueText(value, unit) : `${valueText(value, unit)} ${unit}`;
}

function count(pictures: number): string {
  return pictures.toLocaleString('en-US');
}

const PAGE_STYLE = `${FIGURE_STYLE}
main { max-width: 1160px; }
.results td { padding-left: 28px; }
.results .range { display: block; font-size: 11.5px; color: var(--soft); font-weight: 400; }
.results .best { font-weight: 700; }
.results tr.floor th, .results tr.floor td { color: var(--soft); }
.results thead a { color: inherit; }
.results thead th[scope="colgroup"] { text-align: center; color: var(--ink); border-left: 1px solid var(--line); padding-left: 12px; }
.results tbody th { color: var(--ink); }
.results th:first-child { position: sticky; left: 0; background: var(--page); padding-right: 8px; min-width: min(260px, 36vw); max-width: 300px; overflow-wrap: anywhere; white-space: normal; }
.margins { list-style: none; margin: 10px 0 0; padding: 0; }
.margins li { padding: 2px 0 2px 20px; position: relative; }
.margins li::before { content: ""; position: absolute; left: 2px; top: 10px; width: 9px; height: 9px; border-radius: 50%; background: var(--soft); }
.margins li.ahead::before { background: var(--series-3); }
.margins li.behind::before { background: var(--series-2); }
.notes { margin: 12px 0 0; padding: 8px 14px 8px 30px; border-left: 3px solid var(--series-4); background: var(--card); border-radius: 0 8px 8px 0; font-size: 13.5px; }
section a { color: var(--series-1); }
details { margin-top: 12px; }
details[open] > summary { margin-bottom: 10px; }
`;
