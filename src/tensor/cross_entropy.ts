/** The cross-entropy of DINO and iBOT: a tile of student rows against teacher rows (spec §2.4, §2.5). */

import * as crossEntropyKernel from '../../kernels/cross_entropy.js';
import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';

export interface CrossEntropyTile {
  /** Student logits of the tile, float32 [rows, K]. A row with weight 0 may hold anything: it adds exactly 0. */
  readonly logits: Tensor;
  /** Teacher probabilities [T, K]; no gradient flows to them. A row need not sum to 1. */
  readonly targets: Tensor;
  /** Row r of the tile is compared with target row (r + targetShift) mod T; 0 by default. */
  readonly targetShift?: number;
  /** [R], R the rows of all tiles: what the cross-entropy of a row counts, such as 1 / (2B) or 1 / (2B m_i). */
  readonly weights: Tensor;
  /** Rows of all tiles before this one: where its weights and losses begin. */
  readonly before: number;
  /** Student temperature, a constant of the recipe (0.1). */
  readonly temperature: number;
  /** [R]: the tile's part of it is written. */
  readonly loss: Tensor;
  /** What the gradient of the rows' losses is multiplied by, upstream[term], and where that in the logits is written. */
  readonly gradient?: { readonly upstream: Tensor; readonly term: number; readonly into: Tensor };
}

/**
 * Records loss[r] = weights[r] CE(target row, student row), CE(p, s) = -sum_k p_k log_softmax(s / temperature)_k, and its
 * gradient in the same visit: both need the logits, which are not kept. All in float32, but the gradient's storage.
 * @throws GpuError when shapes do not fit, or K is not a multiple of 4
 */
export function crossEntropyTile(program: Program, tile: CrossEntropyTile): void {
  const { logits, targets, targetShift = 0, weights, before, temperature, loss, gradient } = tile;
  const { rows, columns } = logits;
  if (targets.columns !== columns) {
    throw new GpuError(`crossEntropy: student [${logits.shape}] and targets [${targets.shape}] differ in prototypes`);
  }
  if (weights.elements !== loss.elements || before + rows > weights.elements) {
    throw new GpuError(
      `crossEntropy: weights [${weights.shape}] and losses [${loss.shape}] must hold rows ${before} to ${before + rows - 1}`,
    );
  }
  if (gradient && gradient.into.elements !== logits.elements) {
    throw new GpuError(
      `crossEntropy: the gradient [${gradient.into.shape}] has not the shape of the logits [${logits.shape}]`,
    );
  }
  const plan = crossEntropyKernel.plan({
    rows,
    before,
    columns,
    targetRows: targets.rows,
    targetShift,
    term: gradient?.term ?? 0,
    temperature,
    gradient: gradient?.into.storage,
  });
  program.dispatch(plan, [logits, targets, weights, loss, ...(gradient ? [gradient.upstream, gradient.into] : [])]);
}
