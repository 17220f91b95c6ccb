/**
 * Measures the choices of a case against each other. First each one's results are compared with those of the plain choice: one
 * that is wrong has no time. Then they run in turns, burst by burst, so that a clock that drifts or a machine that others
 * use hits all of them alike.
 */

import { GpuError } from '../src/errors.js';
import type { Gpu } from '../src/gpu/device.js';
import { Program } from '../src/gpu/program.js';
import type { Tensor } from '../src/gpu/tensor.js';
import type { Calibration } from './calibration.js';
import { failures } from './checked_bench.js';
import { compare } from './comparison.js';
import { inputBytes, type TuningCase, type TuningChoice } from './tuning_cases.js';

/** FLOPs that make one run of a program long against the latency of a submit, and the most repetitions in it. */
const ENOUGH_WORK = { software: 2e7, gpu: 2e10 };
const MOST_TIMES = { software: 8, gpu: 64 };

/** Of one choice, before it is another's turn. */
const BURST_MS = 10;

const LEAST_ROUNDS = 5;

/** A choice this much slower than the best of the first round takes no part in the others. */
const OUT_OF_THE_RACE = 2;

/** What another choice must save of the rule's time to replace it: less is noise. */
const LEAST_GAIN = 0.03;

export interface TunedChoice {
  readonly name: string;
  /** Of one application, the median; absent where the results were wrong. */
  readonly ms?: number;
  /** Why there is no time. */
  readonly refused?: string;
}

export interface TuningOutcome {
  readonly key: string;
  readonly choices: readonly TunedChoice[];
  /** Name of the choice without a table. */
  readonly rule: string;
  /** Name of the best; absent where none was right. */
  readonly winner?: string;
  /** The rule's time over the winner's. */
  readonly gain?: number;
  /** For the table. */
  readonly entries: Readonly<Record<string, string>>;
}

interface Runner {
  readonly choice: TuningChoice;
  readonly program: Program;
  readonly results: readonly Tensor[];
  /** Runs of the program in a burst. */
  runs: number;
  /** Milliseconds of one application, a burst each. */
  readonly samples: number[];
}

export interface TuneOptions {
  /** At least, for all choices of a case together. */
  readonly seconds: number;
  /** Brings a GPU's clock up before the timing. */
  readonly calibration?: Calibration;
}

/** @throws GpuError when the GPU as a whole failed */
export async function tuneCase(gpu: Gpu, tuned: TuningCase, options: TuneOptions): Promise<TuningOutcome> {
  const { key, rule, plain, choices } = tuned;
  const data = new Program(gpu, `inputs of ${key}`);
  const inputs = tuned.inputs.map(({ shape, storage }, i) => data.input(`input ${i}`, shape, storage));
  const times = repetitions(gpu, tuned.flops);
  const refused = new Map<string, string>();
  const runners: Runner[] = [];
  try {
    tuned.inputs.forEach((input, i) => {
      data.write(inputs[i], inputBytes(input, i + 1));
    });
    await data.compile();
    // It has no dispatches: this only uploads.
    data.run();
    const reference = await results(gpu, tuned, inputs, plain);
    for (const choice of choices) {
      let runner: Runner | undefined;
      let problem: string;
      try {
        runner = record(gpu, choice, inputs, times);
        problem = await check(gpu, runner, reference, tuned.bound);
      } catch (error) {
        gpu.check();
        if (!(error instanceof GpuError)) throw error;
        problem = error.message;
      }
      if (runner && problem === '') {
        runners.push(runner);
      } else {
        refused.set(choice.name, problem);
        runner?.program.dispose();
      }
    }
    if (runners.length > 0) await race(gpu, runners, times, options);
    await gpu.finish();
  } finally {
    for (const { program } of runners) program.dispose();
    data.dispose();
  }
  const measured = new Map(runners.map(({ choice, samples }) => [choice.name, median(samples)]));
  const winner = winnerOf(measured, rule);
  const ruleMs = measured.get(rule);
  return {
    key,
    rule,
    choices: choices.map(({ name }) => ({ name, ms: measured.get(name), refused: refused.get(name) })),
    winner,
    gain: winner !== undefined && ruleMs !== undefined ? ruleMs / measured.get(winner)! : undefined,
    entries: choices.find(({ name }) => name === winner)?.entries ?? {},
  };
}

/**
 * The fastest, but the rule's choice where that is as good.
 * @param measured milliseconds by name, of choices whose results were right
 */
export function winnerOf(measured: ReadonlyMap<string, number>, rule: string): string | undefined {
  const [best] = [...measured].sort(([, a], [, b]) => a - b);
  const ruleMs = measured.get(rule);
  return ruleMs !== undefined && best[1] > (1 - LEAST_GAIN) * ruleMs ? rule : best?.[0];
}

function repetitions({ capabilities }: Gpu, flops: number): number {
  const kind = capabilities.software ? 'software' : 'gpu';
  return Math.min(Math.max(Math.ceil(ENOUGH_WORK[kind] / flops), 1), MOST_TIMES[kind]);
}

function record(gpu: Gpu, choice: TuningChoice, inputs: readonly Tensor[], times: number): Runner {
  const program = new Program(gpu, `tune ${choice.name}`);
  let recorded: readonly Tensor[] = [];
  for (let i = 0; i < times; i++) recorded = choice.record(program, inputs);
  for (const tensor of recorded) program.keep(tensor);
  return { choice, program, results: recorded, runs: 1, samples: [] };
}

async function results(gpu: Gpu, tuned: TuningCase, inputs: readonly Tensor[], name: string) {
  const choice = tuned.choices.find((one) => one.name === name);
  if (!choice) throw new GpuError(`${tuned.key} has no choice ${name} to compare the others with`);
  const { program, results: tensors } = record(gpu, choice, inputs, 1);
  try {
    await program.compile();
    program.run();
    await gpu.finish();
    return await program.readAll(tensors);
  } finally {
    program.dispose();
  }
}

/** What is wrong with a choice's results, or an empty text. */
async function check(
  gpu: Gpu,
  { program, results: tensors }: Runner,
  reference: readonly ArrayLike<number>[],
  bound: number,
): Promise<string> {
  await program.compile();
  program.run();
  await gpu.finish();
  const actual = await program.readAll(tensors);
  return failures(reference.map((expected, i) => compare(`result ${i}`, actual[i], expected, bound)));
}

/** Fills the runners' samples. */
async function race(gpu: Gpu, runners: readonly Runner[], times: number, options: TuneOptions): Promise<void> {
  const burst = async ({ program, runs }: Runner): Promise<number> => {
    const begin = performance.now();
    for (let i = 0; i < runs; i++) program.run();
    await gpu.device.queue.onSubmittedWorkDone();
    return performance.now() - begin;
  };
  await options.calibration?.warm();
  const first = new Map<Runner, number>();
  for (const runner of runners) {
    // The better of two: the first may still have something to set up, and an interruption must not cost the race.
    const ms = Math.min(await burst(runner), await burst(runner));
    first.set(runner, ms);
    runner.samples.push(ms / times);
    runner.runs = Math.max(1, Math.ceil(BURST_MS / ms));
  }
  const best = Math.min(...first.values());
  const racing = runners.filter((runner) => first.get(runner)! <= OUT_OF_THE_RACE * best);
  for (const { samples } of racing) samples.length = 0;
  const begin = performance.now();
  for (let round = 0; round < LEAST_ROUNDS || performance.now() - begin < 1000 * options.seconds; round++) {
    for (const runner of racing) runner.samples.push((await burst(runner)) / (runner.runs * times));
  }
}

function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}
