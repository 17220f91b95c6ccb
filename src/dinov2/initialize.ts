/**
 * Initial values of every parameter (spec §1.5), drawn on the GPU. A parameter's numbers depend on the seed and on its
 * name alone, so adding a block or a head leaves the others as they were. The teacher is a copy of the student.
 */

import { GpuError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import { fnv1a } from '../io/golden_hash.js';
import type { ParameterStore } from '../tensor/parameters.js';
import { type Distribution, randomFill, SEED_SHAPE, seedWords } from '../tensor/random.js';

export interface InitializeOptions {
  /** Whole number in [0, 2^53). */
  readonly seed: number;
  /** Initial value of LayerScale; not read where the store has none. */
  readonly layerScale?: number;
}

/**
 * The distribution that a parameter is drawn from, by its official name.
 * @param shapeOf shapes of all parameters of the store: a bias is drawn by its weight's fan-in
 * @throws GpuError for a name that no rule covers
 */
export function initialDistribution(
  name: string,
  shapeOf: (name: string) => readonly number[],
  layerScale: number | undefined,
): Distribution {
  const normal = (std: number): Distribution => ({ distribution: 'normal', mean: 0, std });
  const uniform = (bound: number): Distribution => ({ distribution: 'uniform', low: -bound, high: bound });
  const constant = (value: number): Distribution => ({ distribution: 'uniform', low: value, high: value });

  if (/(^|\.)(cls_token|register_tokens)$/.test(name)) return normal(1e-6);
  if (/(^|\.)mask_token$/.test(name)) return constant(0);
  if (/(^|\.)pos_embed$/.test(name)) return normal(0.02);
  const patchEmbedding = /^(.*patch_embed\.proj)\.(weight|bias)$/.exec(name);
  if (patchEmbedding) {
    // The official initialisation does not touch the convolution: what PyTorch gives it stays.
    const [, inputs, height, width] = shapeOf(`${patchEmbedding[1]}.weight`);
    return uniform(1 / Math.sqrt(inputs * height * width));
  }
  if (/\.ls[12]\.gamma$/.test(name)) {
    if (layerScale === undefined) throw new GpuError(`${name}: give the initial value of LayerScale`);
    return constant(layerScale);
  }
  if (name.endsWith('last_layer.weight_g')) return constant(1);
  if (name.endsWith('last_layer.weight_v')) return uniform(1 / Math.sqrt(shapeOf(name)[1]));
  if (/(^|\.)norm[12]?\.weight$/.test(name)) return constant(1);
  if (name.endsWith('.bias')) return constant(0);
  if (name.endsWith('.weight')) return normal(0.02);
  throw new GpuError(`there is no rule for the initial values of ${name}`);
}

/**
 * Fills all parameters of a store with their initial values: the student's, with the prefixes `backbone.`, `dino_head.`
 * and `ibot_head.`, or a backbone's without any. Two stores with one seed get the same bits.
 */
export async function initializeStore(gpu: Gpu, store: ParameterStore, options: InitializeOptions): Promise<void> {
  const shapeOf = (name: string): readonly number[] => store.get(name).shape;
  await fillStore(gpu, store, options.seed, (name) => initialDistribution(name, shapeOf, options.layerScale));
}

/** Sets every value of a store to zero: moments and centres at the start of a run. */
export async function clearStore(gpu: Gpu, store: ParameterStore): Promise<void> {
  await fillStore(gpu, store, 0, () => ({ distribution: 'uniform', low: 0, high: 0 }));
}

/** Fills all parameters of a store, each from the distribution of its name. */
export async function fillStore(
  gpu: Gpu,
  store: ParameterStore,
  seed: number,
  distributionOf: (name: string) => Distribution,
): Promise<void> {
  const program = new Program(gpu, `initial values of ${store.name}`);
  const seedInput = program.input('seed', SEED_SHAPE, 'u32');
  for (const name of store.names) randomFill(program, store.get(name), seedInput, fnv1a(name), distributionOf(name));
  try {
    await program.compile();
    program.write(seedInput, seedWords(seed, 0));
    program.run();
    await store.refreshHalf();
    await gpu.finish();
  } finally {
    program.dispose();
  }
}
