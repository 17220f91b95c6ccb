/**
 * The test runner behind `npm test`: `node --import tsx test/run.ts [FILTER…]`.
 *
 * Finds every *.test.ts below test/ and runs each file in a Node process of its own, a few at a time, so that a driver which crashes
 * takes one file with it and no other. A line a file while it goes; the whole output of a file only when it failed. A file
 * fails by a failed assertion, a bad exit, the time limit, a TAP plan that was not kept, or no assertion at all.
 * The last line is `N passed, N failed`, with `, N skipped` where something was: assertions, plus one failure for every
 * file that failed without one. Exit code: 0 all passed, 1 something failed, 2 the filters match no file.
 *
 * A FILTER is a part of the file's path, such as `gpu/` or `kernels/gemm`. Environment: WEBDINO_TEST_TIMEOUT_S, the time
 * limit of one file in seconds (default 300); WEBDINO_TEST_JOBS, how many files at a time (default: the machine's
 * processors, 4 at most).
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

interface Outcome {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Why the file failed apart from its assertions. */
  readonly problem?: string;
  readonly seconds: number;
  readonly output: string;
}

const root = fileURLToPath(new URL('..', import.meta.url));
const timeoutS = positive('WEBDINO_TEST_TIMEOUT_S', 300);
const jobs = positive('WEBDINO_TEST_JOBS', Math.min(4, availableParallelism()));

function positive(variable: string, otherwise: number): number {
  const value = Number(process.env[variable] || otherwise);
  if (value > 0) return value;
  console.error(`${variable} is '${process.env[variable]}'; set it to a positive number`);
  process.exit(2);
}

function testFiles(filters: readonly string[]): string[] {
  return readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map((path) => `test/${path.split(sep).join('/')}`)
    .filter((path) => path.endsWith('.test.ts'))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort();
}

/** Counts assertions in TAP as tape writes it: skipped ones carry `# SKIP`, on their line or instead of a test's name. */
function countTap(output: string): { passed: number; failed: number; skipped: number; planned: number | undefined } {
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  let planned: number | undefined;
  for (const line of output.split('\n')) {
    const assertion = /^(not )?ok \d+\b(.*)$/.exec(line);
    if (assertion) {
      if (/# SKIP\b/i.test(assertion[2])) skipped++;
      else if (!assertion[1]) passed++;
      else if (!/# TODO\b/i.test(assertion[2])) failed++;
    } else if (/^# SKIP\b/.test(line)) {
      skipped++;
    } else {
      const plan = /^1\.\.(\d+)$/.exec(line);
      if (plan) planned = Number(plan[1]);
    }
  }
  return { passed, failed, skipped, planned };
}

/** Every file leads a process group of its own, so that what a test started ends with it. */
const running = new Set<ChildProcess>();

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(process.platform === 'win32' ? child.pid : -child.pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    for (const child of running) killGroup(child);
    process.exit(signal === 'SIGINT' ? 130 : 143);
  });
}

function runFile(file: string): Promise<Outcome> {
  return new Promise((resolve) => {
    const start = performance.now();
    const child = spawn(process.execPath, ['--import', 'tsx', file], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      // Plans by their rules: a test must not depend on what was tuned on this machine.
      env: { WEBDINO_TUNED: 'off', ...process.env },
      detached: true,
    });
    running.add(child);
    const chunks: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      killGroup(child);
    }, timeoutS * 1000);
    child.on('error', (error) => chunks.push(Buffer.from(`${error}\n`)));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      const output = Buffer.concat(chunks).toString('utf8');
      const counts = countTap(output);
      const assertions = counts.passed + counts.failed;
      let problem: string | undefined;
      if (late) problem = `still running after ${timeoutS} s`;
      else if (signal) problem = `crashed (${signal})`;
      else if (counts.planned === undefined && code === 0) problem = 'ended without a TAP plan';
      else if (code !== 0 && counts.failed === 0) problem = `exit code ${code} without a failed assertion`;
      else if (assertions + counts.skipped === 0) problem = 'ran no assertion';
      resolve({
        file,
        passed: counts.passed,
        failed: counts.failed + (problem ? 1 : 0),
        skipped: counts.skipped,
        problem,
        seconds: (performance.now() - start) / 1000,
        output,
      });
    });
  });
}

function print({ file, passed, failed, skipped, problem, seconds, output }: Outcome): void {
  const counts = `${passed} passed${failed ? `, ${failed} FAILED` : ''}${skipped ? `, ${skipped} skipped` : ''}`;
  const note = problem ? `  (${problem})` : '';
  console.log(`${failed ? 'FAIL' : 'ok  '} ${file.padEnd(48)} ${seconds.toFixed(1).padStart(6)} s  ${counts}${note}`);
  if (failed) console.log(output.replace(/^/gm, '     | ').trimEnd());
  // What was left out, and why, is said even when all went well.
  else for (const line of output.split('\n')) if (/# SKIP\b/.test(line)) console.log(`     | ${line}`);
}

const filters = process.argv.slice(2);
const files = testFiles(filters);
if (files.length === 0) {
  console.error(`no test/**/*.test.ts matches ${filters.join(' ') || 'at all'}`);
  process.exit(2);
}

const start = performance.now();
const outcomes: Outcome[] = [];
const waiting = [...files];
async function worker(): Promise<void> {
  for (let file = waiting.shift(); file; file = waiting.shift()) {
    const outcome = await runFile(file);
    outcomes.push(outcome);
    print(outcome);
  }
}
await Promise.all(Array.from({ length: Math.min(jobs, files.length) }, worker));

const total = (key: 'passed' | 'failed' | 'skipped'): number =>
  outcomes.reduce((sum, outcome) => sum + outcome[key], 0);
const failures = outcomes.filter(({ failed }) => failed > 0);
console.log(`\n${files.length} files in ${((performance.now() - start) / 1000).toFixed(1)} s`);
if (failures.length > 0) console.log(`failed: ${failures.map(({ file }) => file).join(' ')}`);
console.log(
  `${total('passed')} passed, ${total('failed')} failed${total('skipped') ? `, ${total('skipped')} skipped` : ''}`,
);
process.exitCode = failures.length > 0 ? 1 : 0;
