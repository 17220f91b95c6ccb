/**
 * Configurations of a distillation (spec §5): what the teacher prescribes to its students, what students of one pass must
 * have in common, and the run that trains heads for a teacher that comes without.
 *
 * Heads of a published backbone are trained by the recipe that made them: the DINO and iBOT losses against the heads' own
 * moving average, with masks, local crops and Sinkhorn-Knopp, on a backbone that stays as it is. KoLeo is off (it spreads
 * features, and these do not move), and the last layer is not frozen at first (there is nothing to protect it from).
 */

import type { NetworkConfig } from '../dinov2/network.js';
import { trainingLengths } from '../dinov2/schedules.js';
import { DataError, UsageError } from '../errors.js';
import { configKeys, type ResolvedConfig, valueAt } from './config.js';
import { headConfig } from './ssl_config.js';
import type { TeacherFiles } from './teacher_files.js';

/** Fewer steps make no heads. */
const LEAST_HEAD_STEPS = 100;

/** Whether a configuration names a frozen teacher. */
export function isDistillation({ distill }: ResolvedConfig): boolean {
  return distill.teacher !== '';
}

/**
 * The teacher with its heads; where it has none, those that will be trained for it.
 * @throws UsageError where only one of two heads is there
 */
export function teacherNetwork({ vit, dinoHead, ibotHead }: TeacherFiles, config: ResolvedConfig): NetworkConfig {
  if (dinoHead) return { vit, dinoHead, ibotHead };
  if (ibotHead)
    throw new UsageError('the teacher has a head for patches and none for CLS: train both with --train-heads');
  const inputs = vit.embedDim;
  return {
    vit,
    dinoHead: { ...headConfig(config, 'dino'), inputs },
    ibotHead: config.ibot.separate_head ? { ...headConfig(config, 'ibot'), inputs } : undefined,
  };
}

/**
 * What the teacher prescribes, filled in: its numbers of prototypes, one head or two, no masks, no stochastic depth, its
 * files and their hash.
 * @throws UsageError where teacher and student see different grids of patches
 */
export function distillationConfig(config: ResolvedConfig, teacher: TeacherFiles): ResolvedConfig {
  assertOneGrid(config, teacher);
  const { dinoHead, ibotHead } = teacherNetwork(teacher, config);
  const { dino, ibot, student, distill } = config;
  return {
    ...config,
    dino: { ...dino, head_n_prototypes: dinoHead.prototypes },
    ibot: {
      ...ibot,
      separate_head: ibotHead !== undefined,
      head_n_prototypes: ibotHead?.prototypes ?? ibot.head_n_prototypes,
      mask_sample_probability: 0,
    },
    student: { ...student, drop_path_rate: 0 },
    distill: { ...distill, teacher: teacher.weightsPath, teacher_sha256: teacher.sha256, stage: 'students' },
  };
}

/** The run that trains heads on the teacher's backbone. */
export function headStageConfig(config: ResolvedConfig, teacher: TeacherFiles, out: string): ResolvedConfig {
  assertOneGrid(config, teacher);
  const { vit } = teacher;
  const quarter = Math.round(trainingLengths(config).totalIters / 4);
  const steps = config.distill.head_steps || Math.max(quarter, LEAST_HEAD_STEPS);
  return {
    ...config,
    dino: { ...config.dino, koleo_loss_weight: 0 },
    train: { ...config.train, output_dir: out, steps, eval_period: 0, centering: 'sinkhorn_knopp' },
    student: {
      ...config.student,
      arch: 'custom',
      embed_dim: vit.embedDim,
      depth: vit.depth,
      num_heads: vit.numHeads,
      mlp_ratio: vit.mlpRatio,
      drop_path_rate: 0,
      layerscale: vit.layerScale ?? 0,
      ffn_layer: vit.feedForward,
      qkv_bias: vit.qkvBias,
      proj_bias: vit.projBias,
      ffn_bias: vit.ffnBias,
      num_register_tokens: vit.registers,
      interpolate_offset: vit.interpolateOffset,
      interpolate_antialias: vit.interpolateAntialias,
      pretrained_weights: '',
    },
    optim: { ...config.optim, freeze_last_layer_epochs: 0 },
    evaluation: { ...config.evaluation, eval_period_iterations: 0 },
    distill: {
      ...config.distill,
      teacher: teacher.weightsPath,
      teacher_sha256: teacher.sha256,
      heads: '',
      head_steps: steps,
      stage: 'heads',
    },
  };
}

/** The same crops go to teacher and student, and patch belongs to patch. */
function assertOneGrid({ student, crops }: ResolvedConfig, { vit, config, weightsPath }: TeacherFiles): void {
  if (vit.patchSize !== student.patch_size) {
    throw new UsageError(
      `the teacher ${weightsPath} has patches of ${vit.patchSize} px, the student of ${student.patch_size}: each patch ` +
        `must have its counterpart. Use --set student.patch_size=${vit.patchSize} and crops that it divides`,
    );
  }
  const trained = config?.crops.global_crops_size;
  if (trained !== undefined && trained !== crops.global_crops_size) {
    throw new UsageError(
      `the teacher ${weightsPath} was trained on global crops of ${trained} px, the student is to see ` +
        `${crops.global_crops_size}: their grids of patches differ. Use --set crops.global_crops_size=${trained}`,
    );
  }
}

/** @throws DataError for another teacher than the one a run began with */
export function assertSameTeacher({ distill }: ResolvedConfig, { weightsPath, headsPath, sha256 }: TeacherFiles): void {
  if (distill.teacher_sha256 === sha256) return;
  const files = weightsPath === headsPath ? weightsPath : `${weightsPath} with the heads of ${headsPath}`;
  throw new DataError(
    `${files} is not the teacher that this run began with (SHA-256 ${sha256.slice(0, 12)}… instead of ` +
      `${distill.teacher_sha256.slice(0, 12)}…): put that one back (distill.teacher), or start a new run with --teacher`,
  );
}

/** Sections that describe pictures, targets and their schedule: one for all students of a pass. */
const COMMON = /^(train|crops|teacher|distill)\.|^student\.patch_size$|^optim\.epochs$|^ibot\.separate_head$/;

/** Students differ in these all the same. */
const OWN = new Set(['train.output_dir', 'teacher.momentum_teacher', 'teacher.final_momentum_teacher']);

/** @throws UsageError naming the first key in which students of one pass may not differ */
export function assertOnePass(configs: readonly ResolvedConfig[]): void {
  const [first, ...others] = configs;
  for (const key of configKeys().filter((name) => COMMON.test(name) && !OWN.has(name))) {
    const values = [first, ...others].map((config) => JSON.stringify(valueAt(config, key)));
    const other = values.find((value) => value !== values[0]);
    if (other !== undefined) {
      throw new UsageError(
        `students of one pass share ${key}, and it is ${values[0]} and ${other}: give it once with --set ${key}=…, or ` +
          'distil them one after the other',
      );
    }
  }
}
