/** Multi-head self-attention inside packed sequences (spec §1.3, §1.8). */

import * as tiled from '../../kernels/attention.js';
import * as tiledBackwardKv from '../../kernels/attention_backward_kv.js';
import * as tiledBackwardQ from '../../kernels/attention_backward_q.js';
import * as deltaKernel from '../../kernels/attention_delta.js';
import * as direct from '../../kernels/attention_direct.js';
import * as directBackwardKv from '../../kernels/attention_direct_backward_kv.js';
import * as directBackwardQ from '../../kernels/attention_direct_backward_q.js';
import * as mma from '../../kernels/attention_mma.js';
import * as mmaBackwardKv from '../../kernels/attention_mma_backward_kv.js';
import * as mmaBackwardQ from '../../kernels/attention_mma_backward_q.js';
import { GpuError } from '../errors.js';
import { type Capabilities, prefersMatrices } from '../gpu/capabilities.js';
import type { KernelPlan } from '../gpu/kernel_plan.js';
import type { Program } from '../gpu/program.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import { type PackedSequences, totalRows } from './sequences.js';

/** `mma`: subgroup matrices, halves. `direct`: CPU adapters with subgroups. `tiled`: any adapter. */
export type AttentionFamily = 'mma' | 'direct' | 'tiled';

type Plan = (params: tiled.AttentionParams, caps: Capabilities) => KernelPlan;

/** The kernels of a family: all have the same bindings. */
interface AttentionKernels {
  readonly forward: Plan;
  readonly backwardQ: Plan;
  readonly backwardKv: Plan;
  /** Rows that a workgroup owns, for the table of tiles. */
  readonly ownedRows: (params: tiled.AttentionParams, caps: Capabilities, direction: 'forward' | 'backward') => number;
}

const FAMILIES: Readonly<Record<AttentionFamily, AttentionKernels>> = {
  mma: {
    forward: (params, caps) => mma.plan(params, caps),
    backwardQ: (params, caps) => mmaBackwardQ.plan(params, caps),
    backwardKv: (params, caps) => mmaBackwardKv.plan(params, caps),
    ownedRows: (params, caps, direction) => mma.layoutOf(params, caps, direction).ownedRows,
  },
  direct: {
    forward: direct.plan,
    backwardQ: directBackwardQ.plan,
    backwardKv: directBackwardKv.plan,
    ownedRows: () => direct.OWNED_ROWS,
  },
  tiled: {
    forward: tiled.plan,
    backwardQ: tiledBackwardQ.plan,
    backwardKv: tiledBackwardKv.plan,
    ownedRows: tiled.ownedRows,
  },
};

/** The fastest family that takes these heads in this storage on this adapter. */
export function attentionFamily(params: tiled.AttentionParams, storage: Storage, caps: Capabilities): AttentionFamily {
  if (storage === 'f16' && prefersMatrices(caps) && mma.fits(params, caps)) return 'mma';
  return direct.fits(params, caps) ? 'direct' : 'tiled';
}

/** One table a program, packing and number of owned rows, not one a block. */
const tables = new WeakMap<Program, Map<string, Tensor>>();

function tileTable(program: Program, sequences: PackedSequences, ownedRows: number): Tensor {
  let ofProgram = tables.get(program);
  if (!ofProgram) {
    ofProgram = new Map();
    tables.set(program, ofProgram);
  }
  const key = JSON.stringify([ownedRows, sequences]);
  let table = ofProgram.get(key);
  if (!table) {
    const data = tiled.sequenceTiles(sequences, ownedRows);
    table = program.constant('attention_tiles', [data.length / 4, 4], data);
    ofProgram.set(key, table);
  }
  return table;
}

/**
 * softmax(q kᵀ / √headDim) v, each row over the rows of its own sequence. Scores are never stored; the backward pass
 * recomputes them from the saved log-sum-exp.
 * @param qkv [T, 3 D]; a row holds all q heads, all k heads, all v heads
 * @param heads D / heads is the head dim: a multiple of 8 up to 128
 * @param sequences must tile the T rows
 * @param choice a family other than the fastest one, to compare them
 * @returns [T, D], the heads side by side
 * @throws GpuError for shapes that do not fit
 */
export function attention(
  graph: Graph,
  qkv: Tensor,
  heads: number,
  sequences: PackedSequences,
  choice?: AttentionFamily,
): Tensor {
  const { program } = graph;
  const rows = totalRows(sequences);
  const width = qkv.columns / 3;
  if (rows !== qkv.rows) {
    const packed = sequences.map(({ count, length }) => `${count} × ${length}`).join(' + ');
    throw new GpuError(`${qkv.name} [${qkv.shape}] has ${qkv.rows} rows; its sequences (${packed}) have ${rows}`);
  }
  if (!Number.isInteger(width) || !Number.isInteger(heads) || heads < 1 || width % heads !== 0) {
    throw new GpuError(`${qkv.name} [${qkv.shape}] does not divide into q, k and v of ${heads} heads`);
  }
  const { storage } = qkv;
  const params = { heads, headDim: width / heads, sequences, storage };
  const caps = program.gpu.capabilities;
  const family = choice ?? attentionFamily(params, storage, caps);
  const kernels = FAMILIES[family];
  const forward = kernels.forward(params, caps);
  const tiles = tileTable(program, sequences, kernels.ownedRows(params, caps, 'forward'));
  const out = graph.activation('attention', [rows, width]);
  const lse = program.intermediate('attention_lse', [heads, rows]);
  program.dispatch(forward, [qkv, tiles, out, lse]);
  if (!graph.needsGradient(qkv)) return out;

  graph.onBackward([out], ([dOut]) => {
    if (!dOut) return;
    graph.contribute(qkv, (into) => {
      const delta = program.intermediate('attention_delta', [heads, rows]);
      const { headDim } = params;
      program.dispatch(deltaKernel.plan({ rows, heads, headDim, storage }), [out, dOut, delta]);
      const backwardTiles = tileTable(program, sequences, kernels.ownedRows(params, caps, 'backward'));
      const tensors = [qkv, backwardTiles, dOut, lse, delta, into];
      program.dispatch(kernels.backwardQ(params, caps), tensors);
      program.dispatch(kernels.backwardKv(params, caps), tensors);
    });
  });
  return out;
}
