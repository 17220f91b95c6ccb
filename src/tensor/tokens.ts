/**
 * From images to packed token sequences and back (spec §1.2, steps 1 to 5): patch embedding, mask token, CLS and register
 * tokens, positions. Several crop groups of different sizes become one packed matrix of tokens.
 */

import * as assembleTokens from '../../kernels/assemble_tokens.js';
import * as assembleBackward from '../../kernels/assemble_tokens_backward.js';
import * as copyRows from '../../kernels/copy_rows.js';
import * as patchify from '../../kernels/patchify.js';
import * as resizeColumns from '../../kernels/resize_columns.js';
import * as sumPartials from '../../kernels/sum_partials.js';
import * as tokenSums from '../../kernels/token_sums.js';
import { GpuError } from '../errors.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import { linear } from './linear.js';

/**
 * Activations are held four neighbours to a quad, and matrix units load halves 16 bytes at a time.
 * @param width columns of the tokens, D
 * @throws GpuError for a width that activations of this storage cannot have
 */
export function checkWidth(width: number, storage: Storage): void {
  const multiple = storage === 'f16' ? 8 : 4;
  if (width % multiple === 0) return;
  const [kind, cure] =
    storage === 'f16'
      ? ['half-precision', 'choose such a width, or float32 (train.dtype f32, --dtype f32)']
      : ['float32', 'choose such a width'];
  throw new GpuError(`tokens of ${width} columns: ${kind} activations need a multiple of ${multiple}: ${cure}`);
}

/** Crops of one size. */
export interface ImageGroup {
  /** f32 [count, 3, height, width], or u32 words of u8 [count, height, width, 3] with `bytes`. */
  readonly pixels: Tensor;
  readonly bytes?: boolean;
  readonly count: number;
  readonly height: number;
  readonly width: number;
}

/**
 * The patch convolution as one gemm over the patches of all groups.
 * @param weight [D, 3, patch, patch]
 * @param bias [D]
 * @returns [patches of all groups, D] in the graph's storage, groups one after the other
 * @throws GpuError for pictures that patches do not divide, or a width D that activations cannot have
 */
export function embedPatches(
  graph: Graph,
  groups: readonly ImageGroup[],
  weight: Tensor,
  bias: Tensor | undefined,
  patch: number,
): Tensor {
  const { program, activations: storage } = graph;
  checkWidth(weight.shape[0], storage);
  const columns = patchify.patchPitch(patch, storage);
  let rows = 0;
  const starts = groups.map(({ count, height, width }) => {
    if (height % patch !== 0 || width % patch !== 0) {
      throw new GpuError(
        `pictures of ${height} x ${width} do not divide into patches of ${patch}: crop or resize them to multiples of ${patch}`,
      );
    }
    const start = rows;
    rows += (count * height * width) / (patch * patch);
    return start;
  });
  const patches = graph.activation('patches', [rows, columns]);
  groups.forEach(({ pixels, bytes = false, count, height, width }, g) => {
    const plan = patchify.plan({ count, height, width, patch, bytes, firstRow: starts[g], storage });
    program.dispatch(plan, [pixels, patches]);
  });
  return linear(
    graph,
    patches,
    patchWeight(graph, weight.reshape([weight.shape[0], 3 * patch * patch]), columns),
    bias,
  );
}

/**
 * The weight with zero columns added up to `to`, in the storage of the patches it is multiplied with: of the float32 master
 * in one pass, so that a half copy of its own would serve nobody. The master itself where nothing would change.
 */
function patchWeight(graph: Graph, matrix: Tensor, to: number): Tensor {
  const { rows, columns: from } = matrix;
  const { program, activations: storage } = graph;
  if (from === to && storage === matrix.dtype) return matrix;
  const padded = graph.activation('padded', [rows, to]);
  padded.gradientDtype = 'f32';
  program.dispatch(resizeColumns.plan({ rows, from, to, result: storage }), [matrix, padded]);
  if (graph.needsGradient(matrix)) {
    graph.onBackward([padded], ([gradient]) => {
      if (!gradient) return;
      graph.contribute(matrix, (into) => {
        program.dispatch(resizeColumns.plan({ rows, from: to, to: from }), [gradient, into]);
      });
    });
  }
  return padded;
}

/** One crop group on its way from patch embeddings to tokens. */
export interface TokenGroup {
  readonly count: number;
  /** Patches of one sequence. */
  readonly patches: number;
  /** f32 [1 + patches, D] */
  readonly position: Tensor;
  /** u32 [count, patches], not 0 where the mask token stands. */
  readonly mask?: Tensor;
}

/** All float32. */
export interface SpecialTokens {
  /** [D] or [1, 1, D] */
  readonly cls: Tensor;
  /** [1, registers, D] */
  readonly registers?: Tensor;
  /** [1, D] */
  readonly mask: Tensor;
}

/**
 * @param embedded [patches of all groups, D] in the graph's storage
 * @returns [tokens of all groups, D] in the graph's storage: every sequence is CLS, registers, patches
 * @throws GpuError for a width D that activations cannot have
 */
export function packTokens(
  graph: Graph,
  embedded: Tensor,
  groups: readonly TokenGroup[],
  special: SpecialTokens,
): Tensor {
  const { program } = graph;
  const { columns, storage } = embedded;
  checkWidth(columns, storage);
  const registers = special.registers ? special.registers.elements / columns : 0;
  let firstRow = 0;
  let firstPatch = 0;
  const params = groups.map(({ count, patches, mask }) => {
    const at = { count, patches, registers, columns, firstRow, firstPatch, masked: mask !== undefined, storage };
    firstRow += count * (1 + registers + patches);
    firstPatch += count * patches;
    return at;
  });
  const tokens = graph.activation('tokens', [firstRow, columns]);
  groups.forEach(({ position, mask }, g) => {
    program.dispatch(assembleTokens.plan(params[g]), [
      embedded,
      position,
      special.cls,
      special.registers ?? special.cls,
      special.mask,
      mask ?? embedded,
      tokens,
    ]);
  });
  const positions = groups.map((group) => group.position);
  if (!graph.needsGradient(embedded, special.cls, special.registers, special.mask, ...positions)) return tokens;

  graph.onBackward([tokens], ([dtokens]) => {
    if (!dtokens) return;
    graph.contribute(embedded, (into) => {
      groups.forEach(({ mask }, g) => {
        program.dispatch(assembleBackward.plan(params[g]), [dtokens, mask ?? dtokens, into]);
      });
    });
    groups.forEach(({ position, mask, patches }, g) => {
      const length = 1 + registers + patches;
      const sums = program.intermediate('token_sums', [mask ? 2 : 1, length, columns]);
      program.dispatch(tokenSums.plan(params[g], program.gpu.capabilities), [dtokens, mask ?? dtokens, sums]);
      const copy = (from: number, rows: number, to: number, into: Tensor): void =>
        program.dispatch(copyRows.plan({ rows, columns, from, to }), [sums, into]);
      graph.contribute(special.cls, (into) => copy(0, 1, 0, into));
      if (special.registers) graph.contribute(special.registers, (into) => copy(1, registers, 0, into));
      graph.contribute(position, (into) => {
        copy(0, 1, 0, into);
        copy(1 + registers, patches, 1, into);
      });
      if (mask) {
        graph.contribute(special.mask, (into) => {
          program.dispatch(sumPartials.plan({ parts: length, elements: columns, from: length * columns }), [
            sums,
            into,
          ]);
        });
      }
    });
  });
  return tokens;
}
