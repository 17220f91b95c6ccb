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

/**
 * `mma`: subgroup matrices, halves; `mma-16` and `mma-32` with that many keys a tile of the forward kernel. `direct`: CPU
 * adapters with subgroups. `tiled`: any adapter.
 */
export type AttentionFamily = 'mma' | 'mma-16' | 'mma-32' | 'direct' | 'tiled';

type Plan = (params: tiled.AttentionParams, caps: Capabilities) => KernelPlan;

/** The kernels of a family: all have the same bindings. */
interface AttentionKernels {
  readonly forward: Plan;
  readonly backwardQ: Plan;
  readonly backwardKv: Plan;
  /** Rows that a workgroup owns, for the table of tiles. */
  readonly ownedRows: (params: tiled.AttentionParams, caps: Capabilities, direction: 'forward' | 'backward') => number;
}

function matrixKernels(met?: 16 | 32): AttentionKernels {
  return {
    forward: (params, caps) => mma.plan(params, caps, mma.layoutOf(params, caps, 'forward', { met })),
    backwardQ: (params, caps) => mmaBackwardQ.plan(params, caps),
    backwardKv: (params, caps) => mmaBackwardKv.plan(params, caps),
    ownedRows: (params, caps, direction) => mma.layoutOf(params, caps, direction).ownedRows,
  };
}

const FAMILIES: Readonly<Record<AttentionFamily, AttentionKernels>> = {
  mma: matrixKernels(),
  'mma-16': matrixKernels(16),
  'mma-32': matrixKernels(32),
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

function takesMatrices(params: tiled.AttentionParams, storage: Storage, caps: Capabilities): boolean {
  return storage === 'f16' && prefersMatrices(caps) && mma.fits(params, caps);
}

/** The family that is likely fastest for these heads in this storage on this adapter. */
export function attentionFamily(params: tiled.AttentionParams, storage: Storage, caps: Capabilities): AttentionFamily {
  if (takesMatrices(params, storage, caps)) return 'mma';
  return direct.fits(params, caps) ? 'direct' : 'tiled';
}

/** The families that take these heads in this storage on this adapter. */
export function attentionFamilies(
  params: tiled.AttentionParams,
  storage: Storage,
  caps: Capabilities,
): AttentionFamily[] {
  const list: AttentionFamily[] = [];
  if (takesMatrices(params, storage, caps)) {
    // `mma` is the first of them.
    list.push(
      'mma',
      ...mma
        .keyTiles(params, caps)
        .slice(1)
        .map((met): AttentionFamily => `mma-${met}`),
    );
  }
  if (direct.fits(params, caps)) list.push('direct');
  list.push('tiled');
  return list;
}

/** What an attention's key in the table of tuned variants tells of it. */
export interface AttentionShape {
  readonly storage: Storage;
  readonly heads: number;
  readonly headDim: number;
  readonly sequences: PackedSequences;
  /** Whether a gradient flows back through it. */
  readonly gradient: boolean;
}

/** Key in the table of tuned variants: `attention f16 6x64 128x257+512x50`, or `attention_gradient …` with backward pass. */
export function attentionKey({ storage, heads, headDim, sequences, gradient }: AttentionShape): string {
  const packed = sequences.map(({ count, length }) => `${count}x${length}`).join('+');
  return `attention${gradient ? '_gradient' : ''} ${storage} ${heads}x${headDim} ${packed}`;
}

/** What such a key stands for; undefined for other operators' keys. */
export function parseAttentionKey(key: string): AttentionShape | undefined {
  const match = /^attention(_gradient)? (f16|f32) (\d+)x(\d+) (\d+x\d+(?:\+\d+x\d+)*)$/.exec(key);
  if (!match) return undefined;
  const [, gradient, storage, heads, headDim, packed] = match;
  const sequences = packed.split('+').map((group) => {
    const [count, length] = group.split('x').map(Number);
    return { count, length };
  });
  return {
    storage: storage as Storage,
    heads: Number(heads),
    headDim: Number(headDim),
    sequences,
    gradient: gradient !== undefined,
  };
}

/** The family that `attention` takes: what was measured for this shape where that still applies, else by rule. */
export function chooseAttention(shape: AttentionShape, caps: Capabilities): AttentionFamily {
  const tuned = caps.tuned?.get(attentionKey(shape));
  const known =
    tuned === undefined ? undefined : attentionFamilies(shape, shape.storage, caps).find((family) => family === tuned);
  return known ?? attentionFamily(shape, shape.storage, caps);
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
 * @param choice a family other than the one that is held for the fastest, to compare them
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
  const gradient = graph.needsGradient(qkv);
  const family = choice ?? chooseAttention({ ...params, gradient }, caps);
  const kernels = FAMILIES[family];
  const forward = kernels.forward(params, caps);
  const tiles = tileTable(program, sequences, kernels.ownedRows(params, caps, 'forward'));
  const out = graph.activation('attention', [rows, width]);
  const lse = program.intermediate('attention_lse', [heads, rows]);
  program.dispatch(forward, [qkv, tiles, out, lse]);
  if (!gradient) return out;

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
