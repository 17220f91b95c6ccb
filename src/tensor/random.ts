/**
 * Counter-based random numbers on the GPU, and their twin on the CPU (Philox-4x32-10). A number is a function of
 * (seed, step, stream, index) and of nothing else, so it does not depend on what was drawn before it, and a resumed run
 * draws what the uninterrupted one would have.
 */

import * as randomFillKernel from '../../kernels/random_fill.js';
import * as randomRankKernel from '../../kernels/random_rank.js';
import { philox4x32 as philoxRounds } from '../data/random.js';
import { GpuError } from '../errors.js';
import { alignUp } from '../gpu/constants.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

/** Philox-4x32-10: four random words from a counter and a key. */
export function philox4x32(
  [c0, c1, c2, c3]: readonly [number, number, number, number],
  [k0, k1]: readonly [number, number],
): Uint32Array {
  const words = new Uint32Array(4);
  philoxRounds(c0, c1, c2, c3, k0, k1, words);
  return words;
}

/** Shape of a `seed` input. */
export const SEED_SHAPE: readonly number[] = [3];

/**
 * The `seed` input of one step: low and high word of the seed, then the step.
 * @param seed integer in [0, 2^53)
 * @param step integer in [0, 2^32)
 */
export function seedWords(seed: number, step: number): Uint32Array {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new GpuError(`the seed ${seed} must be a whole number from 0 to 2^53 - 1`);
  if (!Number.isInteger(step) || step < 0 || step >= 2 ** 32) {
    throw new GpuError(`the step ${step} must be a whole number from 0 to 2^32 - 1`);
  }
  return Uint32Array.of(seed % 2 ** 32, Math.floor(seed / 2 ** 32), step);
}

/** What to draw. Uniform numbers lie in [low, high), up to float32 rounding of `high`. */
export type Distribution =
  | { readonly distribution: 'uniform'; readonly low: number; readonly high: number }
  | { readonly distribution: 'normal'; readonly mean: number; readonly std: number };

/** Both distributions are centre + scale · z, with z uniform over [-1, 1) or standard normal. */
function centreAndScale(drawn: Distribution): Float32Array {
  return drawn.distribution === 'normal'
    ? Float32Array.of(drawn.mean, drawn.std)
    : Float32Array.of((drawn.low + drawn.high) / 2, (drawn.high - drawn.low) / 2);
}

/**
 * Fills `into` (f32, any shape) with random numbers: element i depends on (seed, step, stream, i).
 * @param seed u32 [3], data, made by `seedWords`
 * @param stream what the numbers are for, a u32: different streams are independent
 */
export function randomFill(program: Program, into: Tensor, seed: Tensor, stream: number, drawn: Distribution): void {
  const range = new Uint32Array(centreAndScale(drawn).buffer);
  const parameters = program.constant('random fill', [3], Uint32Array.of(stream, ...range));
  const plan = randomFillKernel.plan({ elements: into.elements, normal: drawn.distribution === 'normal' });
  program.dispatch(plan, [seed, parameters, into]);
}

/**
 * The numbers that `randomFill` writes, on the CPU. Uniform numbers have the same bits where low = -high or low = 0;
 * otherwise, and for normal numbers, the last bits may differ, since a GPU may fuse a multiply-add and has its own logarithm.
 * @param seed the three words of `seedWords`
 */
export function randomValues(elements: number, seed: Uint32Array, stream: number, drawn: Distribution): Float32Array {
  const [centre, scale] = centreAndScale(drawn);
  const values = new Float32Array(elements);
  for (let block = 0; 4 * block < elements; block++) {
    const words = philox4x32([block, 0, seed[2], stream], [seed[0], seed[1]]);
    const z = Float64Array.from(words, (word) => ((word >>> 8) - 2 ** 23) / 2 ** 23);
    if (drawn.distribution === 'normal') {
      for (const j of [0, 2]) {
        const radius = Math.sqrt(Math.max(-2 * Math.log(words[j] / 2 ** 32 + 2 ** -33), 0));
        const angle = Math.PI * z[j + 1];
        z[j] = radius * Math.cos(angle);
        z[j + 1] = radius * Math.sin(angle);
      }
    }
    for (let j = 0; j < 4 && 4 * block + j < elements; j++) values[4 * block + j] = centre + Math.fround(scale * z[j]);
  }
  return values;
}

export interface RandomRanksOptions {
  /** Independent permutations of every group: one a residual branch. */
  readonly branches: number;
  /** Items of each group: sequences of each kind of crop. */
  readonly sizes: readonly number[];
  readonly stream: number;
}

/** Elements from one branch's ranks to the next's: the items of all groups, up to a multiple of 64. */
export function rankPitch(sizes: readonly number[]): number {
  return alignUp(
    sizes.reduce((a, b) => a + b, 0),
    64,
  );
}

/**
 * Uniform random permutations, one a branch and group, all independent, as ranks.
 * @param seed u32 [3], data, made by `seedWords`
 * @returns u32 [branches, pitch], groups one after the other: the position of each item in its group's permutation;
 *   0xffffffff in the padding
 */
export function randomRanks({ program }: Graph, seed: Tensor, { branches, sizes, stream }: RandomRanksOptions): Tensor {
  if (branches < 1 || sizes.length < 1 || sizes.some((size) => !Number.isInteger(size) || size < 1)) {
    throw new GpuError(`no permutations of groups of [${sizes}] for ${branches} branches: every group needs an item`);
  }
  const pitch = rankPitch(sizes);
  const table = randomRankKernel.groupTable({ sizes, pitch });
  const ranks = program.intermediate('ranks', [branches, pitch], 'u32');
  program.dispatch(randomRankKernel.plan({ branches, sizes, pitch, stream }), [
    seed,
    program.constant('rank groups', [sizes.length, 4], table),
    ranks,
  ]);
  return ranks;
}
