/** Stochastic depth (spec §1.6): each residual branch is computed for a random part of the sequences, anew every step. */

import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from '../tensor/graph.js';
import { randomRanks } from '../tensor/random.js';
import type { KeptRows } from '../tensor/residual.js';
import { dropPathRows } from '../tensor/row_subsets.js';
import type { PackedSequences } from '../tensor/sequences.js';

/** Purpose numbers of the random streams on the GPU. */
export const STREAM_DROP_PATH = 1;

/** Drop-path rate of every block (spec §1.6). */
export function dropPathRates(config: { dropPathRate: number; dropPathUniform: boolean; depth: number }): number[] {
  const { dropPathRate, dropPathUniform, depth } = config;
  return Array.from({ length: depth }, (_, i) =>
    dropPathUniform || depth === 1 ? dropPathRate : (dropPathRate * i) / (depth - 1),
  );
}

/** Sequences that a branch is computed for, of `count`, at drop rate `rate`. */
export function keptSequences(count: number, rate: number): number {
  return Math.max(Math.trunc(count * (1 - rate)), 1);
}

export interface StochasticDepthOptions {
  /** Drop rate of every block. */
  readonly rates: readonly number[];
  /** In the order in which the groups are packed. */
  readonly groups: PackedSequences;
  /** u32 [3], data: `seedWords` of the step. */
  readonly seed: Tensor;
  /** u32 [branches, pitch], data: permutations from outside in place of drawn ones. */
  readonly ranks?: Tensor;
}

/** The rows that each residual branch keeps in a step, as `VitOptions.kept` takes them. */
export function recordStochasticDepth(
  graph: Graph,
  options: StochasticDepthOptions,
): (branch: number) => (KeptRows & { readonly sequences: PackedSequences }) | undefined {
  const { program } = graph;
  const { groups, seed } = options;
  const rates = options.rates.flatMap((rate) => [rate, rate]);
  const sizes = groups.map((group) => group.count);
  const kept = rates.map((rate) => sizes.map((count) => keptSequences(count, rate)));
  const ranks = options.ranks ?? randomRanks(graph, seed, { branches: rates.length, sizes, stream: STREAM_DROP_PATH });
  const subsets = dropPathRows(graph, ranks, { groups, kept });
  const scales = new Map<string, Tensor>();
  return (branch) => {
    if (rates[branch] <= 0) return undefined;
    const counts = kept[branch];
    const key = counts.join(' ');
    let scale = scales.get(key);
    if (!scale) {
      const rows = groups.flatMap(({ count, length }, g) =>
        new Array<number>(counts[g] * length).fill(count / counts[g]),
      );
      scale = program.constant('drop path scale', [rows.length], Float32Array.from(rows));
      scales.set(key, scale);
    }
    const sequences = groups.map(({ length }, g) => ({ count: counts[g], length }));
    return { subset: subsets[branch], scale, sequences };
  };
}
