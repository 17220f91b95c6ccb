/** Initial values of dense heads: PyTorch's defaults, and the small normal weights that segmentation heads start from. */

import { GpuError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import type { ParameterStore } from '../tensor/parameters.js';
import type { Distribution } from '../tensor/random.js';
import { fillStore } from './initialize.js';

/**
 * The distribution that a parameter or a running statistic of a dense head is drawn from, by its name.
 * @param shapeOf shapes of all parameters of the store: a bias is drawn by its weight's fan-in
 * @throws GpuError for a name that no rule covers
 */
export function denseDistribution(name: string, shapeOf: (name: string) => readonly number[]): Distribution {
  const constant = (value: number): Distribution => ({ distribution: 'uniform', low: value, high: value });
  if (/\.bn\.(weight|running_var)$/.test(name)) return constant(1);
  if (/\.bn\.(bias|running_mean)$/.test(name)) return constant(0);
  if (name.endsWith('conv_seg.weight')) return { distribution: 'normal', mean: 0, std: 0.01 };
  if (name.endsWith('conv_seg.bias')) return constant(0);
  const layer = /^(.*)\.(weight|bias)$/.exec(name);
  if (!layer) throw new GpuError(`there is no rule for the initial values of ${name}`);
  // Also of a transposed convolution [in, out, k, k], where PyTorch's rule calls this the fan-in.
  const fanIn = shapeOf(`${layer[1]}.weight`)
    .slice(1)
    .reduce((a, b) => a * b, 1);
  const bound = 1 / Math.sqrt(fanIn);
  return { distribution: 'uniform', low: -bound, high: bound };
}

/**
 * Fills the parameters, or the state, of a segmentation, depth or canopy head. A parameter's numbers depend on the seed
 * and on its name alone.
 * @param seed whole number in [0, 2^53)
 */
export async function initializeDenseHead(gpu: Gpu, store: ParameterStore, seed: number): Promise<void> {
  const shapeOf = (name: string): readonly number[] => store.get(name).shape;
  await fillStore(gpu, store, seed, (name) => denseDistribution(name, shapeOf));
}
