/** Plain SGD with momentum for linear heads: PyTorch's rule without dampening, Nesterov or weight decay (spec §6.3). */

import * as sgdMomentum from '../../kernels/sgd_momentum.js';
import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';

export interface SgdState {
  readonly gradient: Tensor;
  /** In place. */
  readonly weight: Tensor;
  /** In place; zeros before the first step. */
  readonly velocity: Tensor;
}

/**
 * Records velocity ← momentum · velocity + gradient, weight ← weight − rate · velocity.
 * @param state three tensors of one number of elements: the same for each head, one head after the other
 * @param rates f32 [heads], data: the learning rate of each head in this step
 * @throws GpuError when shapes do not fit
 */
export function recordSgdMomentum(
  program: Program,
  { gradient, weight, velocity }: SgdState,
  rates: Tensor,
  momentum: number,
): void {
  const heads = rates.elements;
  const perHead = weight.elements / heads;
  if (!Number.isInteger(perHead) || [gradient, velocity].some(({ elements }) => elements !== weight.elements)) {
    throw new GpuError(
      `SGD: gradient [${gradient.shape}], weight [${weight.shape}] and velocity [${velocity.shape}] must hold as many ` +
        `values, the same for each of ${heads} heads`,
    );
  }
  program.dispatch(sgdMomentum.plan({ heads, perHead, momentum }), [gradient, rates, weight, velocity]);
}
