/**
 * `webdino distill`: a frozen teacher and its students. One student is a run like any other; several (`--student`) are
 * runs in folders below `--out` that share the teacher's pass. A teacher without heads gets them first, in a run of its own
 * in the folder `teacher_heads`, which a later call goes on with or takes the heads from.
 */

import { existsSync } from 'node:fs';
import { basename, extname, join, resolve } from 'node:path';
import type { ImageSource } from '../data/source.js';
import { UsageError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { locateModel } from '../eval/model_file.js';
import { type Checkpoint, checkpointSteps } from '../train/checkpoint.js';
import type { PartialConfig, ResolvedConfig } from '../train/config.js';
import { assertSameTeacher, distillationConfig, headStageConfig } from '../train/distillation.js';
import { assertFolderFor, writeStudentFolders } from '../train/student_folders.js';
import { findTeacher } from '../train/teacher_files.js';
import { prepareResume, refuseFormerRun } from '../train/trainer.js';
import {
  dryRun,
  runAll,
  runAllAndTell,
  type TrainArguments,
  trainConfig,
  wholeNumber,
  withTrainingData,
} from './train.js';

export interface DistillArguments extends TrainArguments {
  /** Run, checkpoint or .safetensors file. */
  readonly teacher?: string;
  /** Attention heads of a teacher without a run. */
  readonly heads?: string | number;
  /** Run or file that holds projection heads for the teacher. */
  readonly teacherHeads?: string;
  /** Steps to train projection heads for, also where the teacher has some. */
  readonly trainHeads?: string | number;
  /** Presets or YAML files, one a student. */
  readonly student?: readonly string[];
}

/** Where the run that trains heads lies, below the output folder. */
export const HEADS_FOLDER = 'teacher_heads';

export async function distill(args: DistillArguments): Promise<void> {
  const headSteps = wholeNumber('--train-heads', args.trainHeads, 1);
  const students = await studentConfigs(args, headSteps);
  const [{ config: first }] = students;
  const root = args.out === undefined ? first.train.output_dir : resolve(args.out);
  let teacher = await findTeacher(first);
  // A configuration that was run says which teacher it was; one named now is taken as it is.
  if (args.teacher === undefined && first.distill.teacher_sha256 !== '') assertSameTeacher(first, teacher);
  let configs = students.map(({ config }) => distillationConfig(config, teacher));
  await withTrainingData(first, async (gpu, source) => {
    if (args.dryRun) {
      await dryRun(gpu, configs, source, args);
      return;
    }
    assertFolderFor(root, students.length);
    // Before heads are trained for a run that may not begin.
    if (!args.overwrite) for (const { train } of configs) await refuseFormerRun(train.output_dir);
    if (!teacher.dinoHead || headSteps !== undefined) {
      const heads = await trainHeads(gpu, source, headStageConfig(first, teacher, join(root, HEADS_FOLDER)), args);
      if (heads === undefined) return;
      teacher = await findTeacher({ distill: { ...first.distill, heads } });
      configs = students.map(({ config }) => distillationConfig(withHeads(config, heads), teacher));
    }
    if (students.length > 1)
      await writeStudentFolders(
        root,
        students.map(({ name }) => name),
      );
    const runs = configs.map((config) => ({ config, out: config.train.output_dir }));
    await runAllAndTell(gpu, source, runs, args, args.overwrite);
  });
}

function withHeads(config: ResolvedConfig, heads: string): ResolvedConfig {
  return { ...config, distill: { ...config.distill, heads } };
}

/** The file of projection heads that the options name; a teacher named anew has its own, and so do heads that are to be trained. */
async function headsNamed({ teacher, teacherHeads, trainHeads }: DistillArguments): Promise<string | undefined> {
  if (teacherHeads === undefined) return trainHeads === undefined && teacher === undefined ? undefined : '';
  if (trainHeads !== undefined) throw new UsageError('--teacher-heads are there already: leave out --train-heads');
  return headsFile(resolve(teacherHeads));
}

/** A configuration a student; several are named after their preset or file. */
async function studentConfigs(
  args: DistillArguments,
  headSteps: number | undefined,
): Promise<{ name: string; config: ResolvedConfig }[]> {
  const distill: PartialConfig['distill'] = {
    teacher: args.teacher === undefined ? undefined : resolve(args.teacher),
    teacher_num_heads: wholeNumber('--heads', args.heads, 1),
    heads: await headsNamed(args),
    head_steps: headSteps,
  };
  const specs = args.student ?? [];
  const names = specs.map((spec) => basename(spec, extname(spec)));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new UsageError(`--student: two students are named ${twice}; rename a file`);
  const configOf = (student?: string, name?: string): ResolvedConfig => {
    const config = trainConfig(args, { overrides: { distill }, student });
    if (config.distill.teacher === '') throw new UsageError('--teacher is missing: a run, checkpoint or .safetensors');
    if (name !== undefined) config.train.output_dir = join(config.train.output_dir, name);
    return config;
  };
  if (specs.length === 0) return [{ name: '', config: configOf() }];
  return specs.map((spec, i) => ({ name: names[i], config: configOf(spec, specs.length > 1 ? names[i] : undefined) }));
}

/**
 * Trains heads for the teacher, goes on with that, or finds them done.
 * @returns the file that holds them, or undefined where the run was stopped before its end
 * @throws UsageError where the folder holds heads that were trained otherwise
 */
async function trainHeads(
  gpu: Gpu,
  source: ImageSource,
  wanted: ResolvedConfig,
  args: DistillArguments,
): Promise<string | undefined> {
  const out = wanted.train.output_dir;
  // Standard output is for the students.
  const run = async (resume?: Checkpoint): Promise<string | undefined> => {
    const options = { quiet: args.quiet };
    const [{ step, totalSteps }] = await runAll(gpu, source, [{ config: wanted, out, resume }], options, !resume);
    return step === totalSteps ? headsFile(out) : undefined;
  };
  const former = existsSync(out) && (await checkpointSteps(out)).length > 0 && !args.overwrite;
  if (!former) return run();
  const { checkpoint, changed } = await prepareResume(out, { config: wanted });
  if (changed.length > 0) {
    throw new UsageError(
      `${out} holds heads that were trained with another ${changed[0]}: take them as they are with --teacher-heads, ` +
        'choose another --out, or replace them with --overwrite',
    );
  }
  if (checkpoint.state.step === checkpoint.state.totalSteps) return headsFile(out);
  return run(checkpoint);
}

async function headsFile(path: string): Promise<string> {
  return (await locateModel(path, 'teacher')).weightsPath;
}
