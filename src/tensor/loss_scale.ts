/**
 * Loss scaling for half-precision gradients, as PyTorch's GradScaler does it, but decided on the GPU: nothing is read back.
 *
 * The losses' seeds are multiplied by the scale (`scaledSeed`), `recordClip` divides it out of norms and coefficients and
 * then changes the state: after an overflow the step is skipped and the scale halved, after `GROWTH_INTERVAL` clean steps
 * in a row it doubles. The scale is a power of two, so that scaling changes no bits as long as nothing over- or underflows;
 * float32 training runs the same code with a scale of 1 that never grows.
 */

import * as optimizerStep from '../../kernels/optimizer_step.js';
import * as scaleSeed from '../../kernels/scale_seed.js';
import { UsageError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import type { ParameterSpec } from './parameters.js';

/** Scale at the start of mixed-precision training. */
export const INITIAL_LOSS_SCALE = 65536;

/** Clean steps in a row after which the scale doubles. */
export const GROWTH_INTERVAL = 2000;

/** The state's tensor: f32 [5], the layout of wgsl/lib/loss_scale.wgsl. It is kept in a store and saved with the optimizer. */
export const LOSS_SCALE: ParameterSpec = { name: 'loss_scale', shape: [optimizerStep.STATE_VALUES] };

export interface LossScale {
  /** A power of two from 1 to 2^40. */
  readonly scale: number;
  /** Steps in a row without an overflow since the scale last changed. */
  readonly cleanSteps: number;
  /** Steps that changed the weights: what AdamW's bias corrections count. */
  readonly appliedSteps: number;
  readonly skippedSteps: number;
}

/**
 * The values of the state's tensor.
 * @param state what is left out is 0; a scale of 1 is for float32 training
 * @throws UsageError for a scale that is no power of two in its range, or counts that are not whole
 */
export function lossScaleState(state: Partial<LossScale>): Float32Array {
  const { scale = 1, cleanSteps = 0, appliedSteps = 0, skippedSteps = 0 } = state;
  if (!(scale >= 1 && scale <= optimizerStep.MAX_SCALE && Number.isInteger(Math.log2(scale)))) {
    throw new UsageError(`a loss scale of ${scale}: it must be a power of two from 1 to 2^40`);
  }
  const counts = [cleanSteps, appliedSteps, skippedSteps];
  if (!counts.every((count) => Number.isInteger(count) && count >= 0 && count <= 2 ** 24)) {
    throw new UsageError(`the loss scale's steps ${counts.join(', ')} must be whole numbers from 0 to 2^24`);
  }
  return Float32Array.of(scale, 1 / scale, ...counts);
}

/** What the values of the state's tensor say. */
export function readLossScale([scale, , cleanSteps, appliedSteps, skippedSteps]: Float32Array): LossScale {
  return { scale, cleanSteps, appliedSteps, skippedSteps };
}

/**
 * The upstream gradient of a loss: its weights times the scale.
 * @param weights f32, of the loss's shape
 * @param state the state's tensor
 */
export function scaledSeed({ program }: Graph, weights: Tensor, state: Tensor): Tensor {
  const seed = program.intermediate('scaled_seed', weights.shape);
  program.dispatch(scaleSeed.plan({ count: weights.elements }), [weights, state, seed]);
  return seed;
}
