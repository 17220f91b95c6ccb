/** The two losses of depth maps: scale-invariant in the logarithm, and its gradient over the picture (spec §6.5.4). */

import * as gradientLossKernel from '../../kernels/gradient_loss.js';
import * as gradientBackwardKernel from '../../kernels/gradient_loss_backward.js';
import * as gradientPartsKernel from '../../kernels/gradient_loss_parts.js';
import * as sigLossKernel from '../../kernels/sig_loss.js';
import * as sigBackwardKernel from '../../kernels/sig_loss_backward.js';
import * as sigMomentsKernel from '../../kernels/sig_loss_moments.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import { assertFloat32, assertMap, type FeatureMap } from './feature_map.js';
import type { Graph } from './graph.js';

/** Steps from the start of training that take the loss without its variance. */
export const WARM_UP_STEPS = 100;

/** What the gradient loss counts beside the scale-invariant one: a seed for `Graph.backward`. */
export const GRADIENT_LOSS_WEIGHT = 0.5;

/** Added to depths before the logarithm, which keeps the gradient of small ones finite. */
const EPSILON = 1e-3;
const MEAN_WEIGHT = 0.15;

export interface DepthValidity {
  /** Pixels with a greater true depth do not count; the unit of the maps, metres as a rule. */
  readonly maxDepth?: number;
}

function assertTruth(loss: string, prediction: Tensor, truth: Tensor): void {
  assertFloat32(loss, prediction, truth);
  if (prediction.elements !== truth.elements) {
    throw new GpuError(
      `${loss}: ${prediction.name} [${prediction.shape}] and ${truth.name} [${truth.shape}] differ in pixels`,
    );
  }
}

/**
 * g = ln(prediction + 1e-3) - ln(truth + 1e-3) over the pixels that count; sqrt(var(g) + 0.15 mean(g)²) with the unbiased
 * variance. A pixel counts where its true depth is finite, above 0 and at most `maxDepth`. Where none does, and where the
 * prediction is right everywhere, loss and gradients are exactly 0; a single pixel has no variance.
 * @param prediction f32 [R, 1]; values below 0 count as 0, without a gradient
 * @param truth f32 [R]
 * @param warmUp u32 [1], an input of the program: not 0 during the first `WARM_UP_STEPS` steps, which leave the variance out
 * @returns f32 [1]
 */
export function sigLoss(
  graph: Graph,
  prediction: Tensor,
  truth: Tensor,
  warmUp: Tensor,
  { maxDepth }: DepthValidity = {},
): Tensor {
  const { program } = graph;
  assertTruth('sigLoss', prediction, truth);
  if (warmUp.dtype !== 'u32') throw new GpuError(`sigLoss: the flag ${warmUp.name} must be u32`);
  const params = { rows: prediction.elements, epsilon: EPSILON, maxDepth };
  const { parts } = sigMomentsKernel.pixelParts(params.rows);
  const partial = program.intermediate('sig_loss_parts', [parts, 3]);
  program.dispatch(sigMomentsKernel.plan(params), [prediction, truth, partial]);
  const statistics = program.intermediate('sig_loss_statistics', [4]);
  const loss = program.intermediate('sig_loss', [1]);
  program.dispatch(sigLossKernel.plan({ parts, meanWeight: MEAN_WEIGHT }), [partial, warmUp, statistics, loss]);
  if (!graph.needsGradient(prediction)) return loss;
  graph.onBackward([loss], ([upstream]) => {
    if (!upstream) return;
    graph.contribute(prediction, (into) => {
      program.dispatch(sigBackwardKernel.plan(params), [prediction, truth, statistics, upstream, into]);
    });
  });
  return loss;
}

/**
 * Differences of the logarithmic error between pixels two steps apart, down and across, on grids of every, every second,
 * fourth and sixth line and column: at each scale the sum of |d - d'| over pairs that both count, divided by the number of
 * pixels that do; the four are added. Unweighted: see `GRADIENT_LOSS_WEIGHT`. The official code slices the first two
 * dimensions of [B, 1, H, W] instead of height and width (spec §13).
 * @param prediction one channel; values below 0 count as 0, without a gradient
 * @param truth f32 [R], R the pixels of the maps; which of them count: see `sigLoss`
 * @returns f32 [1]; exactly 0, with zero gradients, where no pixel counts
 */
export function gradientLoss(
  graph: Graph,
  prediction: FeatureMap,
  truth: Tensor,
  { maxDepth }: DepthValidity = {},
): Tensor {
  const { program } = graph;
  const { values, pictures, height, width } = prediction;
  assertMap('gradientLoss', prediction);
  assertTruth('gradientLoss', values, truth);
  const params = { pictures, height, width, epsilon: EPSILON, maxDepth };
  const { parts } = sigMomentsKernel.pixelParts(values.elements);
  const partial = program.intermediate('gradient_loss_parts', [parts, 2, 4]);
  program.dispatch(gradientPartsKernel.plan(params), [values, truth, partial]);
  const weights = program.intermediate('gradient_loss_weights', [4]);
  const loss = program.intermediate('gradient_loss', [1]);
  program.dispatch(gradientLossKernel.plan({ parts }), [partial, weights, loss]);
  if (!graph.needsGradient(values)) return loss;
  graph.onBackward([loss], ([upstream]) => {
    if (!upstream) return;
    graph.contribute(values, (into) => {
      program.dispatch(gradientBackwardKernel.plan(params), [values, truth, weights, upstream, into]);
    });
  });
  return loss;
}
