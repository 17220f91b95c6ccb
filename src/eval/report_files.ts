/** Reports as files. */

import { join } from 'node:path';
import { writeFileAtomic } from '../io/atomic.js';
import { evaluationPage } from './evaluation_page.js';
import { reportCsv } from './report_text.js';
import type { EvaluationReport } from './result.js';

/** The numbers of a report; figures are for the page. */
export function reportJson(report: EvaluationReport): string {
  return JSON.stringify({ ...report, figures: undefined }, null, 2);
}

/** Writes FOLDER/results.json, results.csv and report.html, each whole or not at all. */
export async function writeReport(folder: string, report: EvaluationReport): Promise<void> {
  await writeFileAtomic(join(folder, 'results.csv'), reportCsv(report));
  await writeFileAtomic(join(folder, 'report.html'), await evaluationPage(report));
  await writeFileAtomic(join(folder, 'results.json'), reportJson(report) + '\n');
}
