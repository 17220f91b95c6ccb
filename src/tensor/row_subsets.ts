/**
 * Row subsets made on the GPU: the token rows that each residual branch keeps under stochastic depth (spec §1.6), and the
 * inverse of any index. Ranks come from `randomRanks`, or from the host where a run must repeat another's permutations.
 */

import * as dropPathRowsKernel from '../../kernels/drop_path_rows.js';
import * as invertRowsKernel from '../../kernels/invert_rows.js';
import { GpuError, UsageError } from '../errors.js';
import { alignUp } from '../gpu/constants.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import { rankPitch } from './random.js';
import { NO_ROW, type RowSubset } from './rows.js';
import type { PackedSequences } from './sequences.js';

export interface DropPathOptions {
  /** In the order in which the groups are packed. */
  readonly groups: PackedSequences;
  /** Sequences kept, a branch and group: from 1 to the group's count. */
  readonly kept: readonly (readonly number[])[];
}

/**
 * The kept rows of every branch, in one dispatch for all of them. Groups are packed one after the other in the source
 * and in the kept matrix; row k · length + t of a group's kept part is token t of the sequence with rank k.
 * @param ranks u32 [branches, pitch] as from `randomRanks` with `sizes` = the groups' counts
 * @returns one subset a branch: index u32 [kept rows], inverse u32 [rows]
 */
export function dropPathRows({ program }: Graph, ranks: Tensor, { groups, kept }: DropPathOptions): RowSubset[] {
  const branches = kept.length;
  const pitch = rankPitch(groups.map(({ count }) => count));
  if (branches < 1 || ranks.elements !== branches * pitch) {
    throw new GpuError(
      `${ranks.name} has the shape [${ranks.shape}]; ${branches} branches of these groups take [${branches},${pitch}]`,
    );
  }
  let rows = 0;
  let sequences = 0;
  const groupTable = groups.flatMap(({ count, length }) => {
    const row = [rows, sequences, length, rows + count * length];
    rows += count * length;
    sequences += count;
    return row;
  });
  const keptRows: number[] = [];
  const keptTable = kept.flatMap((perGroup, branch) => {
    if (perGroup.length !== groups.length)
      throw new GpuError(`branch ${branch} keeps of ${perGroup.length} groups; there are ${groups.length}`);
    let start = 0;
    const row = perGroup.flatMap((keep, g) => {
      const { count, length } = groups[g];
      if (!Number.isInteger(keep) || keep < 1 || keep > count) {
        throw new GpuError(
          `branch ${branch} keeps ${keep} of the ${count} sequences of group ${g}; keep 1 to ${count}`,
        );
      }
      const entry = [keep, start];
      start += keep * length;
      return entry;
    });
    keptRows.push(start);
    return row;
  });
  const indexPitch = alignUp(Math.max(...keptRows), 64);
  const inversePitch = alignUp(rows, 64);
  const index = program.intermediate('drop_path_index', [branches, indexPitch], 'u32');
  const inverse = program.intermediate('drop_path_inverse', [branches, inversePitch], 'u32');
  program.dispatch(
    dropPathRowsKernel.plan({ branches, groups: groups.length, rows, rankPitch: pitch, indexPitch, inversePitch }),
    [
      ranks,
      program.constant('drop path groups', [groups.length, 4], Uint32Array.from(groupTable)),
      program.constant('drop path kept', [branches, groups.length, 2], Uint32Array.from(keptTable)),
      index,
      inverse,
    ],
  );
  return keptRows.map((count, branch) => ({
    index: index.slice(branch * indexPitch, [count]),
    inverse: inverse.slice(branch * inversePitch, [rows]),
  }));
}

/**
 * Ranks from permutations given by the host, to be written into an input of the shape [branches, pitch].
 * @param permutations a branch and group: the items in their order
 * @throws UsageError for a list that is no permutation
 */
export function ranksOfPermutations(permutations: readonly (readonly ArrayLike<number>[])[]): Uint32Array {
  const sizes = (permutations[0] ?? []).map(({ length }) => length);
  const pitch = rankPitch(sizes);
  const ranks = new Uint32Array(permutations.length * pitch).fill(NO_ROW);
  permutations.forEach((perGroup, branch) => {
    let first = branch * pitch;
    if (perGroup.length !== sizes.length)
      throw new UsageError(`branch ${branch} has ${perGroup.length} permutations, the first has ${sizes.length}`);
    perGroup.forEach((permutation, g) => {
      for (let k = 0; k < permutation.length; k++) {
        const item = permutation[k];
        if (permutation.length !== sizes[g] || !(item >= 0 && item < sizes[g]) || ranks[first + item] !== NO_ROW) {
          throw new UsageError(`branch ${branch}, group ${g}: the list is no permutation of 0 to ${sizes[g] - 1}`);
        }
        ranks[first + item] = k;
      }
      first += sizes[g];
    });
  });
  return ranks;
}

/**
 * Where each source row went: inverse[index[r]] = r, NO_ROW where no entry names the row.
 * @param index u32 [R]; no row twice among the live entries
 * @param options.sourceRows rows of the source matrix
 * @param options.count u32 [1], data: only the first count[0] entries are live
 * @returns u32 [sourceRows]
 */
export function invertRows({ program }: Graph, index: Tensor, options: { sourceRows: number; count?: Tensor }): Tensor {
  const { sourceRows, count } = options;
  const inverse = program.intermediate('inverse_rows', [sourceRows], 'u32');
  for (const stage of ['fill', 'scatter'] as const) {
    const plan = invertRowsKernel.plan({ stage, rows: index.elements, sourceRows, counted: count !== undefined });
    program.dispatch(plan, [index, count ?? index, inverse]);
  }
  return inverse;
}
