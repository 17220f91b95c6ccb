/**
 * `webdino bench`: every operator checked and timed against this adapter's own ceilings, beside others where they are
 * installed; a training step divided among its kernels; features a second. Exit codes: 0 all checks held, 1 a result was
 * wrong and has no number, 2 wrong usage, 3 no GPU.
 */

import { UsageError } from '../errors.js';
import { writeFileAtomic } from '../io/atomic.js';
import { positiveInteger } from './model.js';

/** As the command line gives them. */
export interface BenchArguments {
  readonly json?: boolean;
  readonly html?: string;
  readonly shapes?: string;
  readonly seconds?: string;
  readonly arch?: string;
  readonly patch?: string;
  readonly batch?: string;
  readonly global?: string;
  readonly local?: string;
  readonly nLocal?: string;
  readonly prototypes?: string;
  readonly dropPath?: string;
  readonly steps?: string;
  readonly plain?: boolean;
  readonly size?: string;
  readonly dtype?: string;
  readonly dryRun?: boolean;
}

/** Options that only these suites read. */
const STEP_OPTIONS = [
  'arch',
  'patch',
  'batch',
  'dtype',
  'global',
  'local',
  'nLocal',
  'prototypes',
  'dropPath',
  'steps',
  'plain',
  'dryRun',
] as const;
const FEATURE_OPTIONS = ['arch', 'patch', 'batch', 'dtype', 'size'] as const;

function flagOf(option: string): string {
  return `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function refuseStrayOptions(suite: string, options: BenchArguments): void {
  const read: readonly string[] = suite === 'step' ? STEP_OPTIONS : suite === 'features' ? FEATURE_OPTIONS : [];
  for (const option of new Set([...STEP_OPTIONS, ...FEATURE_OPTIONS])) {
    if (options[option] === undefined || read.includes(option)) continue;
    const steps = (STEP_OPTIONS as readonly string[]).includes(option);
    const features = (FEATURE_OPTIONS as readonly string[]).includes(option);
    const owner = steps && features ? 'bench step and bench features' : `bench ${steps ? 'step' : 'features'}`;
    throw new UsageError(`${flagOf(option)} belongs to ${owner}`);
  }
}

function oneOf<T extends string>(option: string, value: string | undefined, choices: readonly T[]): T | undefined {
  const choice = choices.find((one) => one === value);
  if (value !== undefined && !choice) throw new UsageError(`${option} takes ${choices.join(' or ')}, not '${value}'`);
  return choice;
}

function numberFrom(option: string, value: string | undefined, least: number, below: number): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (value !== '' && number >= least && number < below) return number;
  throw new UsageError(
    `${option} takes a number from ${least}${below < Infinity ? ` to below ${below}` : ''}, not '${value}'`,
  );
}

/** Leaves out what was not given, so that defaults stay. */
function given<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/**
 * Runs a suite and prints it. Returns the exit code.
 * @throws UsageError, NoGpuError with one line that says what to do
 */
export async function bench(suite: string, options: BenchArguments): Promise<number> {
  const { json = false, html, dryRun } = options;
  refuseStrayOptions(suite, options);
  const dtype = oneOf('--dtype', options.dtype, ['f32', 'f16']);
  const shared = {
    arch: options.arch,
    patch: positiveInteger('--patch', options.patch),
    batch: positiveInteger('--batch', options.batch),
    dtype,
  };
  const settings = {
    suite,
    shapes: oneOf('--shapes', options.shapes, ['full', 'small']),
    seconds: numberFrom('--seconds', options.seconds, 0.001, Infinity),
    step: given({
      ...shared,
      global: positiveInteger('--global', options.global),
      local: positiveInteger('--local', options.local),
      nLocal: positiveInteger('--n-local', options.nLocal),
      prototypes: positiveInteger('--prototypes', options.prototypes),
      dropPath: numberFrom('--drop-path', options.dropPath, 0, 1),
      steps: positiveInteger('--steps', options.steps),
      plain: options.plain,
    }),
    features: given({ ...shared, size: positiveInteger('--size', options.size) }),
    dryRun,
  };
  const [{ refusals, runSuites }, tables] = await Promise.all([
    import('../../bench/run_suites.js'),
    import('../../bench/tables.js'),
  ]);
  // With --json, standard output is the document; the lines show that something goes on.
  const say = json ? console.error : console.log;
  const report = await runSuites(settings, {
    onStart: ({ adapter, processors, load, node }) =>
      say(`${adapter}; ${processors} processors, load ${load.toFixed(1)}; Node ${node}`),
    onCeilings: (ceilings) => say(tables.ceilingLines(ceilings).join('\n')),
    onSuite: (name, question) => say(tables.heading(name, question, name !== 'step' && name !== 'features')),
    onRow: (row) => say(tables.rowLine(row)),
    onPeer: (row) => say(tables.peerLine(row)),
    onStep: (step) => say(tables.stepLines(step).join('\n')),
    onFeatures: (features) => say(tables.featureLines(features).join('\n')),
  });
  if (json) {
    // One suite's numbers are the document's own; with `all` they stay below their names.
    const single = suite === 'step' ? report.step : suite === 'features' ? report.features : {};
    console.log(JSON.stringify({ ...report, ...single }, null, 2));
  }
  if (html !== undefined) {
    const { benchPage } = await import('../../bench/page.js');
    await writeFileAtomic(html, benchPage(report));
    say(`\nwritten: ${html}`);
  }
  const wrong = refusals(report);
  for (const line of wrong) console.error(`refused: ${line}`);
  return wrong.length > 0 ? 1 : 0;
}
