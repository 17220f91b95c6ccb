/** Multi-head self-attention inside packed sequences (spec §1.3, §1.8). */

import * as attentionKernel from '../../kernels/attention.js';
import * as backwardKvKernel from '../../kernels/attention_backward_kv.js';
import * as backwardQKernel from '../../kernels/attention_backward_q.js';
import * as deltaKernel from '../../kernels/attention_delta.js';
import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import { type PackedSequences, totalRows } from './sequences.js';

/** One table a program and packing, not one a block. */
const tables = new WeakMap<Program, Map<string, Tensor>>();

function tileTable(program: Program, params: attentionKernel.AttentionParams): Tensor {
  const caps = program.gpu.capabilities;
  let ofProgram = tables.get(program);
  if (!ofProgram) {
    ofProgram = new Map();
    tables.set(program, ofProgram);
  }
  const key = JSON.stringify([attentionKernel.tileShape(params, caps).own, params.sequences]);
  let table = ofProgram.get(key);
  if (!table) {
    const data = attentionKernel.tileTable(params, caps);
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
 * @returns [T, D], the heads side by side
 * @throws GpuError for shapes that do not fit
 */
export function attention(graph: Graph, qkv: Tensor, heads: number, sequences: PackedSequences): Tensor {
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
  const params = { heads, headDim: width / heads, sequences };
  const caps = program.gpu.capabilities;
  const forward = attentionKernel.plan(params, caps);
  const tiles = tileTable(program, params);
  const out = program.intermediate('attention', [rows, width]);
  const lse = program.intermediate('attention_lse', [heads, rows]);
  program.dispatch(forward, [qkv, tiles, out, lse]);
  if (!graph.needsGradient(qkv)) return out;

  graph.onBackward([out], ([dOut]) => {
    if (!dOut) return;
    graph.contribute(qkv, (into) => {
      const delta = program.intermediate('attention_delta', [heads, rows]);
      program.dispatch(deltaKernel.plan({ rows, heads, headDim: params.headDim }), [out, dOut, delta]);
      const tensors = [qkv, tiles, dOut, lse, delta, into];
      program.dispatch(backwardQKernel.plan(params, caps), tensors);
      program.dispatch(backwardKvKernel.plan(params, caps), tensors);
    });
  });
  return out;
}
