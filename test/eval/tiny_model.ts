/** A backbone that is quick everywhere, with the weights of the golden cases, on the GPU and as a file. */

import { type VitConfig, vitParameters } from '../../src/dinov2/vit.js';
import { goldenParameter } from '../../src/io/golden_hash.js';
import { encodeSafetensors, type TensorToStore } from '../../src/io/safetensors.js';
import { ParameterStore } from '../../src/tensor/parameters.js';
import { testGpu } from '../fixture.js';

export const TINY_VIT: VitConfig = {
  imageSize: 32,
  patchSize: 8,
  embedDim: 64,
  depth: 2,
  numHeads: 1,
  mlpRatio: 2,
  feedForward: 'mlp',
  qkvBias: true,
  projBias: true,
  ffnBias: true,
  layerScale: 1,
  registers: 0,
  interpolateOffset: 0.1,
  interpolateAntialias: false,
};

const SEED = 5;

/** The weights by name. */
export function tinyWeights(vit: VitConfig = TINY_VIT, seed = SEED): Map<string, Float32Array> {
  return new Map(vitParameters(vit).map(({ name, shape }) => [name, goldenParameter(name, shape, seed)]));
}

export async function tinyStore(vit: VitConfig = TINY_VIT, seed = SEED, prefix = ''): Promise<ParameterStore> {
  const store = new ParameterStore(await testGpu(), 'tiny', vitParameters(vit, prefix));
  await store.writeAll(new Map([...tinyWeights(vit, seed)].map(([name, data]) => [prefix + name, data])));
  return store;
}

/** Entries of a file: the weights under `rename`d names; undefined leaves one out. */
export function tinyTensors(
  vit: VitConfig = TINY_VIT,
  rename: (name: string) => string | undefined = (name) => name,
  seed = SEED,
): [string, TensorToStore][] {
  const weights = tinyWeights(vit, seed);
  return vitParameters(vit).flatMap(({ name, shape }): [string, TensorToStore][] => {
    const renamed = rename(name);
    return renamed === undefined ? [] : [[renamed, { dtype: 'F32', shape, data: weights.get(name)! }]];
  });
}

export function tinyFile(
  vit: VitConfig = TINY_VIT,
  rename: (name: string) => string | undefined = (name) => name,
  seed = SEED,
): Uint8Array {
  return encodeSafetensors(tinyTensors(vit, rename, seed));
}
