/**
 * Gradient norms, clipping by sub-module, and AdamW with the teacher's moving average and half copies (spec §2.8, §3.1,
 * §4.1); sums of gradients over micro-batches.
 *
 * All of them walk the flat shards of a ParameterStore in chunks. A chunk lies in one parameter and belongs to one
 * workgroup, so what depends on the parameter (multipliers, sub-module) is looked up once a chunk, and the partial sums of
 * a parameter are neighbours. The chunk tables are constants of the program. The step's rates are data; `recordClip` joins
 * them on the GPU with what the gradients and the loss scale decide, and `recordAdamW` reads the result.
 */

import * as accumulateGradients from '../../kernels/accumulate_gradients.js';
import * as adamw from '../../kernels/adamw.js';
import * as normPartials from '../../kernels/norm_partials.js';
import * as optimizerStep from '../../kernels/optimizer_step.js';
import * as parameterNorms from '../../kernels/parameter_norms.js';
import { GpuError, UsageError } from '../errors.js';
import { alignUp } from '../gpu/constants.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import { type ParameterStore, recordHalfCopies, type Shard } from './parameters.js';

/** Elements of a full chunk: four quads for each of the 256 invocations of adamw.wgsl. */
const CHUNK_ELEMENTS = 4096;

/** Chunk sums are pairs, and a slice of them starts at a multiple of 64 elements. */
const CHUNK_ALIGNMENT = 32;

interface Chunk {
  readonly parameter: string;
  /** In quads (4 elements) of the shard. The end may reach into a parameter's padding, which is zero. */
  readonly firstQuad: number;
  readonly endQuad: number;
}

function chunksOf({ segments }: Shard): Chunk[] {
  return segments.flatMap(({ name, offsetElements, elements }) =>
    Array.from({ length: Math.ceil(elements / CHUNK_ELEMENTS) }, (_, k) => ({
      parameter: name,
      firstQuad: (offsetElements + k * CHUNK_ELEMENTS) / 4,
      endQuad: Math.ceil((offsetElements + Math.min((k + 1) * CHUNK_ELEMENTS, elements)) / 4),
    })),
  );
}

function quadElements(chunks: readonly Chunk[]): number {
  return chunks.reduce((sum, { firstQuad, endQuad }) => sum + 4 * (endQuad - firstQuad), 0);
}

export interface ParameterNorms {
  /** f32 [parameters], in the order of `gradients.names`: the L2 norm of each parameter's gradient, loss scale divided out. */
  readonly norms: Tensor;
  /** u32 [parameters]: 1 where an element is NaN, infinite, or 2^48 and more (left out of the norm), else 0. */
  readonly unusable: Tensor;
}

/**
 * The L2 norm of every parameter's gradient, in two stages of fixed order. Both results are kept for reading.
 * @param lossScale the state's tensor (loss_scale.ts)
 */
export function recordParameterNorms({ program }: Graph, gradients: ParameterStore, lossScale: Tensor): ParameterNorms {
  const shards = gradients.shards.map((shard) => ({ shard, chunks: chunksOf(shard) }));
  const starts: number[] = [];
  let total = 0;
  for (const { chunks } of shards) {
    starts.push(total);
    total = alignUp(total + chunks.length, CHUNK_ALIGNMENT);
  }
  const partial = program.intermediate('norm_partial', [total, 2]);
  const ranges = new Map<string, [number, number]>();
  shards.forEach(({ shard, chunks }, s) => {
    chunks.forEach(({ parameter }, k) => {
      const range = ranges.get(parameter);
      if (range) range[1]++;
      else ranges.set(parameter, [starts[s] + k, starts[s] + k + 1]);
    });
    const table = Uint32Array.from(chunks.flatMap(({ firstQuad, endQuad }) => [firstQuad, endQuad]));
    program.dispatch(normPartials.plan({ chunks: chunks.length, elements: quadElements(chunks) }), [
      shard.tensor,
      program.constant('norm chunks', [chunks.length, 2], table),
      partial.slice(2 * starts[s], [chunks.length, 2]),
    ]);
  });
  const { names } = gradients;
  const parameters = names.length;
  const table = Uint32Array.from(names.flatMap((name) => ranges.get(name)!));
  const norms = program.keep(program.intermediate('parameter_norms', [parameters]));
  const unusable = program.keep(program.intermediate('parameter_unusable', [parameters], 'u32'));
  program.dispatch(parameterNorms.plan({ parameters, chunks: total }), [
    partial,
    program.constant('norm parameters', [parameters, 2], table),
    lossScale,
    norms,
    unusable,
  ]);
  return { norms, unusable };
}

export interface ClipOptions {
  /** The sub-module of every parameter, from 0 to moduleCount - 1. */
  readonly modules: ReadonlyMap<string, number>;
  readonly moduleCount: number;
  /** f32 of `HYPER_SHAPE`, data, made by `adamWHyper` every step. */
  readonly hyper: Tensor;
  /**
   * The loss scale's state (loss_scale.ts), a parameter of a store of its own. It is updated: whatever uses this step's scale
   * must be recorded before.
   */
  readonly lossScale: Tensor;
  /** Clean steps in a row after which the scale doubles; 0, for float32 training: it never grows. */
  readonly growthInterval: number;
}

export interface GradientClip {
  /** f32 [modules]: the L2 norm of each sub-module's gradient before clipping, loss scale divided out. */
  readonly norms: Tensor;
  /** u32 [modules]: 1 where a gradient of the sub-module is not finite (`ParameterNorms.unusable`), else 0. */
  readonly flags: Tensor;
  /**
   * f32 [10 + modules]: the step for `recordAdamW`, rates, bias corrections and, from `STEP_COEFFICIENTS` on, what each
   * sub-module's gradients are to be multiplied by; all 0 where any flag is set.
   */
  readonly step: Tensor;
  readonly parameters: ParameterNorms;
}

/** Where a step's coefficients begin in `GradientClip.step`. */
export const { STEP_COEFFICIENTS } = optimizerStep;

/**
 * Decides the step: clips the gradient of each sub-module to a global L2 norm of its own, coefficient =
 * min(1, maxNorm / (norm + 1e-6)) / loss scale (spec §3.1), counts the steps for AdamW's bias corrections, and updates the
 * loss scale. One gradient that is not finite sets all coefficients to 0, so that `recordAdamW` skips the step, and halves
 * the scale, as PyTorch's GradScaler does; a skipped step does not count. All results are kept for reading.
 * @throws GpuError for a parameter without a sub-module, or a tensor of another shape
 */
export function recordClip(graph: Graph, gradients: ParameterStore, options: ClipOptions): GradientClip {
  const { program } = graph;
  const { modules, moduleCount, hyper, lossScale, growthInterval } = options;
  if (hyper.elements !== optimizerStep.RATE_VALUES) {
    throw new GpuError(
      `${hyper.name} [${hyper.shape}] must hold the ${optimizerStep.RATE_VALUES} values of adamWHyper()`,
    );
  }
  if (lossScale.elements !== optimizerStep.STATE_VALUES) {
    throw new GpuError(`${lossScale.name} [${lossScale.shape}] must hold the values of lossScaleState()`);
  }
  const table = gradients.names.map((name) => moduleOf(name, modules.get(name), moduleCount));
  const parameters = recordParameterNorms(graph, gradients, lossScale);
  const norms = program.keep(program.intermediate('clip_norms', [moduleCount]));
  const flags = program.keep(program.intermediate('clip_flags', [moduleCount], 'u32'));
  const step = program.keep(program.intermediate('optimizer_step', [STEP_COEFFICIENTS + moduleCount]));
  program.dispatch(optimizerStep.plan({ parameters: table.length, modules: moduleCount, growthInterval }), [
    parameters.norms,
    parameters.unusable,
    program.constant('clip modules', [table.length], Uint32Array.from(table)),
    hyper,
    lossScale,
    step,
    norms,
    flags,
  ]);
  return { norms, flags, step, parameters };
}

function moduleOf(name: string, module: number | undefined, moduleCount: number): number {
  if (module === undefined) throw new GpuError(`the parameter ${name} belongs to no sub-module: give it one`);
  if (!Number.isInteger(module) || module < 0 || module >= moduleCount) {
    throw new GpuError(`the parameter ${name} has the sub-module ${module}, which is outside 0 to ${moduleCount - 1}`);
  }
  return module;
}

/** How one parameter is optimised (spec §4.1). */
export interface OptimizerGroup {
  readonly lrMultiplier: number;
  readonly wdMultiplier: number;
  /** Whether `lastLayerLearningRate` applies instead of `learningRate`. */
  readonly isLastLayer: boolean;
  /** Index of the sub-module, whose clip coefficient applies. */
  readonly module: number;
}

/** The rates of one step. */
export interface AdamWRates {
  readonly learningRate: number;
  readonly lastLayerLearningRate: number;
  readonly weightDecay: number;
  /** The teacher's momentum, in [0, 1]. */
  readonly teacherMomentum: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Largest norm of a sub-module's gradient; 0 or less: no clipping. */
  readonly maxNorm: number;
}

/** Shape of the `hyper` input of `recordClip`. */
export const HYPER_SHAPE: readonly number[] = [optimizerStep.RATE_VALUES];

/**
 * The `hyper` input of `recordClip` for one step. Complements (1 - beta) are formed in float64: in float32, 1 - 0.999 is
 * wrong in the fifth digit.
 * @throws UsageError for a rate outside its range
 */
export function adamWHyper(rates: AdamWRates): Float32Array {
  const { learningRate, lastLayerLearningRate, weightDecay, teacherMomentum, beta1, beta2, epsilon, maxNorm } = rates;
  const demand = (holds: boolean, what: string): void => {
    if (!holds) throw new UsageError(`AdamW cannot step: ${what}`);
  };
  for (const [name, value] of Object.entries(rates)) demand(Number.isFinite(value), `${name} is ${value}`);
  demand(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, `the betas ${beta1} and ${beta2} must lie in [0, 1)`);
  demand(teacherMomentum >= 0 && teacherMomentum <= 1, `the teacher's momentum ${teacherMomentum} must lie in [0, 1]`);
  demand(epsilon >= 1e-30, `epsilon ${epsilon} must be at least 1e-30, or an untouched weight would divide by zero`);
  return Float32Array.of(
    learningRate,
    lastLayerLearningRate,
    weightDecay,
    1 - teacherMomentum,
    1 - beta1,
    1 - beta2,
    epsilon,
    maxNorm,
  );
}

export interface AdamWStores {
  readonly student: ParameterStore;
  readonly gradients: ParameterStore;
  readonly firstMoment: ParameterStore;
  readonly secondMoment: ParameterStore;
  /** Follows the student by its moving average, in the same pass. Without it (training a head), there is none. */
  readonly teacher?: ParameterStore;
}

/**
 * One optimizer step, in place, one dispatch a shard: gradient × coefficient, decoupled decay θ ← θ (1 - lr · wd), PyTorch's
 * AdamW, then teacher ← m · teacher + (1 - m) · θ, and the half copies of both where they have them. Without a teacher the
 * student's half copy follows in a pass of its own.
 * Where the coefficient is 0, student and moments stay as they are and the teacher still moves, as in the official loop.
 * @param groups of every parameter
 * @param step from `recordClip`
 * @throws GpuError for a parameter without a group, stores of different layouts, or half copies that are no pair
 */
export function recordAdamW(
  { program }: Graph,
  stores: AdamWStores,
  groups: ReadonlyMap<string, OptimizerGroup>,
  step: Tensor,
): void {
  const { student, gradients, firstMoment, secondMoment, teacher } = stores;
  for (const store of [gradients, firstMoment, secondMoment, teacher]) if (store) student.assertSameLayout(store);
  const halves = teacher && halfPairs(student, teacher);
  const followers = halves ? 'teacher_and_halves' : teacher ? 'teacher' : 'none';
  student.shards.forEach((shard, s) => {
    const chunks = chunksOf(shard);
    const table = new Uint32Array(adamw.CHUNK_VALUES * chunks.length);
    const floats = new Float32Array(table.buffer);
    chunks.forEach(({ parameter, firstQuad, endQuad }, k) => {
      const group = groups.get(parameter);
      if (!group) throw new GpuError(`the parameter ${parameter} has no optimizer group: give it one`);
      const at = adamw.CHUNK_VALUES * k;
      const module = moduleOf(parameter, group.module, step.elements - STEP_COEFFICIENTS);
      table.set([firstQuad, endQuad, module, Number(group.isLastLayer)], at);
      floats.set([group.lrMultiplier, group.wdMultiplier], at + 4);
    });
    program.dispatch(adamw.plan({ chunks: chunks.length, elements: quadElements(chunks), followers }), [
      gradients.shards[s].tensor,
      program.constant('optimizer chunks', [chunks.length, adamw.CHUNK_VALUES], table),
      step,
      shard.tensor,
      firstMoment.shards[s].tensor,
      secondMoment.shards[s].tensor,
      ...(teacher ? [teacher.shards[s].tensor] : []),
      ...(halves ? [halves[s]] : []),
    ]);
  });
  if (!teacher && student.half) recordHalfCopies({ program }, student);
}

/** Of each shard the buffer that holds the student's half copy and then the teacher's; undefined where they have none. */
function halfPairs(student: ParameterStore, teacher: ParameterStore): Tensor[] | undefined {
  if (!student.half && !teacher.half) return undefined;
  return student.shards.map((_, s) => {
    const [first, second] = [student, teacher].map((store) => store.half?.shards[s].tensor);
    if (!first || !second || first.base !== second.base || first.baseOffsetBytes !== 0) {
      throw new GpuError(
        `the half copies of ${student.name} and its teacher are written together: make them with pairHalf(student, teacher)`,
      );
    }
    return first.base;
  });
}

/**
 * Adds the gradients of a micro-batch to the step's, one dispatch a shard.
 * @param first u32 [1], data: not 0 for the step's first micro-batch, which overwrites what `accumulated` holds
 * @throws GpuError for stores of different layouts
 */
export function recordAccumulate(
  { program }: Graph,
  accumulated: ParameterStore,
  gradients: ParameterStore,
  first: Tensor,
): void {
  accumulated.assertSameLayout(gradients);
  accumulated.shards.forEach(({ tensor }, s) => {
    const plan = accumulateGradients.plan({ elements: tensor.elements });
    program.dispatch(plan, [tensor, gradients.shards[s].tensor, first]);
  });
}
