/** Distillation as a run: its files, a stop and a resume, students together and alone. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { UsageError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import { readSafetensors } from '../../src/io/safetensors.js';
import { loadConfig, type ResolvedConfig } from '../../src/train/config.js';
import { distillationConfig } from '../../src/train/distillation.js';
import { readMetrics } from '../../src/train/metrics.js';
import { planTraining } from '../../src/train/plan.js';
import { commonCheckpoint, studentFolders, writeStudentFolders } from '../../src/train/student_folders.js';
import { findTeacher } from '../../src/train/teacher_files.js';
import { prepareResume, train, type TrainResult, trainTogether } from '../../src/train/trainer.js';
import { testGpu } from '../fixture.js';
import { differingFiles, inTemporaryFolder, tinyConfig, tinySource } from './tiny_run.js';

const SHORT = ['train.steps=4', 'train.centering=centering', 'optim={warmup_epochs: 0, freeze_last_layer_epochs: 0}'];

/** Half as wide as the teacher and one block deep. */
const SMALLER = 'student={embed_dim: 16, depth: 1}';

async function failure(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => new Error('no error'),
    (error: Error) => error,
  );
}

/** A run whose teacher is to be distilled. @returns its folder */
async function trainTeacher(gpu: Gpu, out: string, seed = 5): Promise<string> {
  const config = tinyConfig(...SHORT, 'train.steps=2', `train.seed=${seed}`, 'student.num_register_tokens=1');
  await train({ gpu, config, source: tinySource(), out });
  return out;
}

async function student(teacher: string, ...changes: string[]): Promise<ResolvedConfig> {
  const config = tinyConfig(...SHORT, SMALLER, 'dino.head_n_prototypes=32', `distill.teacher=${teacher}`, ...changes);
  return distillationConfig(config, await findTeacher(config));
}

test('students of one pass, stopped and resumed, end with the bytes that each has alone', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const gpu = await testGpu();
    const source = tinySource();
    const at = (name: string): string => join(folder, name);
    const teacher = await trainTeacher(gpu, at('teacher'));
    const configs = [await student(teacher), await student(teacher, 'student={depth: 2, num_register_tokens: 2}')];
    const [{ dino, student: sizes, distill, ibot }] = configs;
    t.deepEqual(
      [dino.head_n_prototypes, sizes.drop_path_rate, ibot.mask_sample_probability, distill.teacher_sha256.length],
      [48, 0, 0, 64],
      "the teacher's prototypes, no stochastic depth, no masks, the hash of its weights",
    );
    const memory = gpu.memory.bytes;
    const plan = await planTraining(gpu, configs[0], configs.slice(1));
    t.ok(plan.peakBytes > (await planTraining(gpu, configs[0])).peakBytes, 'a plan counts all students');
    t.equal(gpu.memory.bytes, memory, 'and takes no memory');

    const alone: TrainResult[] = [];
    for (const [i, config] of configs.entries()) alone.push(await train({ gpu, config, source, out: at(`alone${i}`) }));
    const stop = new AbortController();
    const names = ['a', 'b'];
    await writeStudentFolders(folder, names);
    const runs = configs.map((config, i) => ({
      config: { ...config, train: { ...config.train, output_dir: at(names[i]) } },
      out: at(names[i]),
      onStep: (step: number) => {
        if (step === 0) stop.abort();
      },
    }));
    const stopped = await trainTogether({ gpu, source, signal: stop.signal }, runs);
    t.deepEqual([stopped.map(({ step }) => step), gpu.memory.bytes], [[2, 2], memory], 'both stop at one step');

    const folders = studentFolders(folder);
    const from = await commonCheckpoint(folders);
    t.equal(from, 'step_0000002');
    const resumed = [];
    for (const out of folders) {
      const { checkpoint, config, changed } = await prepareResume(out, { from });
      t.deepEqual(changed, []);
      resumed.push({ config, out, resume: checkpoint });
    }
    const together = await trainTogether({ gpu, source }, resumed);
    together.forEach((result, i) => {
      t.deepEqual(
        differingFiles(result.checkpoint, alone[i].checkpoint),
        { compared: 5, differing: [] },
        `student ${names[i]}: the same bytes`,
      );
    });
    const metrics = readMetrics(join(at('b'), 'metrics.jsonl'));
    t.deepEqual(
      metrics.map(({ step }) => step),
      [0, 2, 3],
      'each has metrics of its own',
    );
    t.deepEqual(loadConfig({ file: join(at('alone0'), 'config.yaml') }), configs[0], 'config.yaml runs as it is');
    const weights = (run: string, name: string): Buffer =>
      readFileSync(join(run, 'checkpoints', name, 'teacher.safetensors'));
    const average = readSafetensors(weights(at('a'), 'step_0000004'));
    t.deepEqual(
      average.tensors.get('backbone.cls_token')!.shape,
      [1, 1, 16],
      "the run's teacher is the student's average",
    );

    const centers = (run: string, step: string) =>
      readSafetensors(readFileSync(join(run, 'checkpoints', step, 'optimizer.safetensors'))).float32(
        'dino_loss.center',
      );
    t.ok(
      centers(at('a'), 'step_0000004').some((value, i) => value !== centers(teacher, 'step_0000002')[i]),
      'centres move',
    );

    const other = await trainTeacher(gpu, at('other'), 6);
    const moved = await prepareResume(at('a'), { from, set: [`distill.teacher=${other}`] });
    t.deepEqual(moved.changed, [], 'a teacher may lie elsewhere');
    const refused = await failure(train({ gpu, config: moved.config, source, out: at('a'), resume: moved.checkpoint }));
    t.match(refused.message, /is not the teacher that this run began with .* start a new run with --teacher/);
  });
});

test('what teacher and students must have in common', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const gpu = await testGpu();
    const teacher = await trainTeacher(gpu, join(folder, 'teacher'));
    const patches = await failure(student(teacher, 'student.patch_size=16'));
    t.ok(patches instanceof UsageError, patches.message);
    t.match(patches.message, /has patches of 8 px, the student of 16.*--set student.patch_size=8/);
    const crops = await failure(student(teacher, 'crops.global_crops_size=48'));
    t.match(crops.message, /crops of 32 px, the student is to see 48.*--set crops.global_crops_size=32$/);
    const together = [await student(teacher), await student(teacher, 'teacher.teacher_temp=0.05')];
    const apart = await failure(planTraining(gpu, together[0], together.slice(1)));
    t.match(apart.message, /students of one pass share teacher.teacher_temp, and it is 0.07 and 0.05/);
    const gone = await failure(findTeacher(tinyConfig('distill.teacher=/nowhere')));
    t.match(gone.message, /\/nowhere does not exist/);
  });
});
