/**
 * Every task on every data set that allows it, for the same models: what `webdino eval all` runs. Each result is written as
 * soon as it is there, with a fingerprint of everything that went into it; another run takes over those that are still true.
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../errors.js';
import { writeFileAtomic } from '../io/atomic.js';
import type { Annotation, DataSet } from './data_sets.js';
import { comparisonPage, figuresHtml, type PageEntry } from './evaluation_page.js';
import type { FrozenModel } from './frozen_model.js';
import { writeReport } from './report_files.js';
import { alignedTable, csvLines, marginText, metricHeading, metricText } from './report_text.js';
import type { EvaluationReport } from './result.js';
import type { EvaluationContext } from './task.js';

/** An evaluation with fixed settings, for any set that has what it needs. */
export interface SetTask {
  /** The verb: `knn`, `segment`. */
  readonly name: string;
  readonly on: Annotation;
  /** What another run must have equal to take the result over. */
  readonly settings: Readonly<Record<string, unknown>>;
  run(context: EvaluationContext, set: DataSet): Promise<EvaluationReport>;
}

export interface AllRequest {
  readonly sets: readonly DataSet[];
  readonly tasks: readonly SetTask[];
  /** Folder: SET/TASK/results.json and pages of each, and report.html, results.json and results.csv over all. */
  readonly out: string;
  /** Title of the page. */
  readonly title: string;
  readonly subtitle: string;
  /** Of the networks: weights, crop, storage. Part of every fingerprint. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** A floor that is fitted to the set. */
  fitFloor?(set: DataSet): Promise<FrozenModel>;
}

/** One task on one set. */
export type Outcome = {
  readonly task: string;
  readonly set: string /** From an earlier run. */;
  readonly reused: boolean;
} & ({ readonly report: EvaluationReport; readonly figures: string } | { readonly failure: string });

const RESULTS = 'results.json';
const FIGURES = 'figures.html';

/** What a set allows, in the order of the tasks. */
export function tasksOf(set: DataSet, tasks: readonly SetTask[]): SetTask[] {
  return tasks.filter(({ on }) => set.annotations.has(on));
}

/**
 * Runs what is not there yet. A task that throws is an outcome with its reason; the others go on.
 * @param context its models are those of every task; the fitted floor comes behind them
 */
export async function evaluateAll(context: EvaluationContext, request: AllRequest): Promise<Outcome[]> {
  const { sets, tasks, out } = request;
  const outcomes: Outcome[] = [];
  const total = sets.reduce((sum, set) => sum + tasksOf(set, tasks).length, 0);
  for (const set of sets) {
    let floor: FrozenModel | undefined;
    let fitted = false;
    for (const task of tasksOf(set, tasks)) {
      const name = `${task.name} on ${set.name}`;
      const at = `${outcomes.length + 1}/${total}`;
      const folder = join(out, set.name, task.name);
      const fingerprint = fingerprintOf(context, request, set, task);
      const earlier = await readEarlier(folder, fingerprint);
      if (earlier) {
        context.note(`${at} ${name}: taken over from ${folder}`);
        outcomes.push({ task: task.name, set: set.name, reused: true, ...earlier });
        continue;
      }
      context.note(`${at} ${name}`);
      try {
        if (!fitted) floor = await fittedFloor(context, request, set);
        fitted = true;
        const models = floor ? [...context.models, floor] : context.models;
        const report = { ...(await task.run({ ...context, models }, set)), dataset: set.name };
        const figures = await figuresHtml(report, false);
        await writeFileAtomic(join(folder, FIGURES), figures);
        await writeReport(folder, { ...report, settings: { ...report.settings, fingerprint } });
        outcomes.push({ task: task.name, set: set.name, reused: false, report, figures });
      } catch (error) {
        const failure = error instanceof Error ? error.message : String(error);
        context.note(`${name} failed: ${failure}`);
        outcomes.push({ task: task.name, set: set.name, reused: false, failure });
      }
      await writeAll(request, outcomes);
    }
    floor?.dispose();
  }
  await writeAll(request, outcomes);
  return outcomes;
}

/** What cannot be fitted is left out: the task itself says better what is wrong with a set. */
async function fittedFloor(
  { note }: EvaluationContext,
  { fitFloor }: AllRequest,
  set: DataSet,
): Promise<FrozenModel | undefined> {
  try {
    return await fitFloor?.(set);
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    note(`${set.name}: the floor that is fitted to it is left out: ${error.message}`);
    return undefined;
  }
}

function fingerprintOf(context: EvaluationContext, request: AllRequest, set: DataSet, task: SetTask): string {
  const { seed, bootstrapDraws, crop, resize, models, gpu } = context;
  return JSON.stringify({
    task: task.name,
    settings: task.settings,
    data: set.stamp,
    models: models.map(({ name }) => name),
    fittedFloor: request.fitFloor !== undefined,
    facts: request.facts,
    seed,
    bootstrapDraws,
    crop,
    resize,
    // Tasks have shorter defaults on the CPU.
    software: gpu.capabilities.software,
  });
}

async function readEarlier(
  folder: string,
  fingerprint: string,
): Promise<{ report: EvaluationReport; figures: string } | undefined> {
  try {
    const report = JSON.parse(await readFile(join(folder, RESULTS), 'utf8')) as EvaluationReport;
    if (report.settings.fingerprint !== fingerprint) return undefined;
    return { report: { ...report, figures: [] }, figures: await readFile(join(folder, FIGURES), 'utf8') };
  } catch {
    // Not there, or cut off by something else than this program: it is made again.
    return undefined;
  }
}

async function writeAll({ out, title, subtitle }: AllRequest, outcomes: readonly Outcome[]): Promise<void> {
  const entries = outcomes.map((outcome): PageEntry => {
    const { task, set } = outcome;
    if ('failure' in outcome) return { task, dataset: set, failure: outcome.failure };
    return { report: outcome.report, figures: outcome.figures, link: `${set}/${task}/report.html` };
  });
  await writeFileAtomic(join(out, 'report.html'), comparisonPage(title, subtitle, entries));
  await writeFileAtomic(join(out, 'results.csv'), outcomesCsv(outcomes));
  await writeFileAtomic(join(out, 'results.json'), outcomesJson(outcomes) + '\n');
}

/** Reports without figures, and failures with their reasons. */
export function outcomesJson(outcomes: readonly Outcome[]): string {
  const reports = reportsOf(outcomes).map((report) => ({ ...report, figures: undefined }));
  const failures = outcomes.flatMap((outcome) =>
    'failure' in outcome ? [{ task: outcome.task, dataset: outcome.set, failure: outcome.failure }] : [],
  );
  return JSON.stringify({ reports, failures }, null, 2);
}

export function reportsOf(outcomes: readonly Outcome[]): EvaluationReport[] {
  return outcomes.flatMap((outcome) => ('report' in outcome ? [outcome.report] : []));
}

/** A line a number: tasks have different metrics. */
function outcomesCsv(outcomes: readonly Outcome[]): string {
  const header = ['task', 'dataset', 'model', 'floor', 'metric', 'unit', 'better', 'value', 'low', 'high'];
  const lines = reportsOf(outcomes).flatMap(({ task, dataset, models }) =>
    models.flatMap(({ model, floor, metrics }) =>
      metrics.map(({ name, unit, better, value, interval }) =>
        [task, dataset, model, floor, name, unit, better, value, interval?.[0] ?? '', interval?.[1] ?? ''].map(String),
      ),
    ),
  );
  return csvLines([header, ...lines]);
}

/** Sets and tasks as rows, models as columns, the headline of each; then the floors that are not beaten. */
export function outcomesText(outcomes: readonly Outcome[]): string {
  const reports = reportsOf(outcomes);
  const models = [...new Set(reports.flatMap((report) => report.models.map(({ model }) => model)))];
  const floors = new Set(
    reports.flatMap((report) => report.models.filter(({ floor }) => floor).map(({ model }) => model)),
  );
  const ordered = [...models.filter((name) => !floors.has(name)), ...models.filter((name) => floors.has(name))];
  const rows = reports.flatMap((report) => {
    const headline = report.models[0].metrics[0];
    if (!headline) return [];
    const cells = ordered.map((name) => {
      const metric = report.models
        .find(({ model }) => model === name)
        ?.metrics.find((one) => one.name === headline.name);
      return metric ? metricText(metric) : '–';
    });
    return [[report.dataset, report.task, metricHeading(headline), ...cells]];
  });
  const parts = rows.length > 0 ? [alignedTable([['set', 'task', 'metric', ...ordered], ...rows], 3)] : [];
  const unbeaten = reports.flatMap((report) =>
    report.margins
      .filter(({ against, interval }) => floors.has(against) && !(interval[0] > 0))
      .map((margin) => `${report.task} on ${report.dataset}: ${marginText(margin, true)}`),
  );
  if (unbeaten.length > 0) parts.push(unbeaten.join('\n'));
  const failures = outcomes.flatMap((outcome) =>
    'failure' in outcome ? [`${outcome.task} on ${outcome.set} failed: ${outcome.failure}`] : [],
  );
  if (failures.length > 0) parts.push(failures.join('\n'));
  return parts.join('\n\n');
}
