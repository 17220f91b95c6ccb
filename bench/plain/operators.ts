/**
 * The differentiable operators of the plain step, each with kernels of its own: every one reads its operands from memory,
 * writes its result there, and keeps what its backward pass needs.
 */

import * as geluKernel from '../../kernels/gelu.js';
import * as addKernel from '../../kernels/plain/add.js';
import * as addBiasKernel from '../../kernels/plain/add_bias.js';
import * as fillZero from '../../kernels/plain/fill_zero.js';
import * as gatherRowsKernel from '../../kernels/plain/gather_rows.js';
import * as geluBackward from '../../kernels/plain/gelu_backward.js';
import * as multiply from '../../kernels/plain/multiply.js';
import * as scaleKernel from '../../kernels/plain/scale.js';
import * as scaleColumns from '../../kernels/plain/scale_columns.js';
import * as scaleSequences from '../../kernels/plain/scale_sequences.js';
import * as scatterRows from '../../kernels/plain/scatter_rows.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import type { Graph } from '../../src/tensor/graph.js';
import { columnSums, dispatchGemm, dispatchSplitGemm, type LinearLayer } from '../../src/tensor/linear.js';

/**
 * x weightᵀ by the engine's gemm, without epilogue.
 * @param x [R, K]
 * @param weight [N, K]
 * @returns [R, N]
 */
export function matmul(graph: Graph, x: Tensor, weight: Tensor): Tensor {
  const { program } = graph;
  const [R, N, K] = [x.rows, weight.shape[0], x.columns];
  const y = program.intermediate('matmul', [R, N]);
  dispatchGemm(program, { layout: 'NT', M: R, N, K }, { a: x, b: weight, out: y });
  if (!graph.needsGradient(x, weight)) return y;
  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    graph.contribute(weight, (out) => {
      dispatchSplitGemm(program, { layout: 'TN', M: N, N: K, K: R }, { a: dy, b: x, out });
    });
    graph.contribute(x, (out) => {
      dispatchSplitGemm(program, { layout: 'NN', M: R, N: K, K: N }, { a: dy, b: weight, out });
    });
  });
  return y;
}

/** x weightᵀ, then + bias in place: nobody needs the product alone. */
export function linear(graph: Graph, x: Tensor, { weight, bias }: LinearLayer): Tensor {
  const y = matmul(graph, x, weight);
  if (!bias) return y;
  const { program } = graph;
  program.dispatch(addBiasKernel.plan({ rows: y.rows, columns: y.columns }), [y, bias]);
  if (graph.needsGradient(bias)) {
    graph.onBackward([y], ([dy]) => {
      if (dy) graph.contribute(bias, (into) => columnSums(program, dy, into));
    });
  }
  return y;
}

/** The exact GELU. */
export function gelu(graph: Graph, u: Tensor): Tensor {
  const { program } = graph;
  const { elements } = u;
  const y = program.intermediate('gelu', u.shape);
  program.dispatch(geluKernel.plan({ elements }), [u, y]);
  if (!graph.needsGradient(u)) return y;
  graph.onBackward([y], ([dy]) => {
    if (dy) graph.contribute(u, (into) => program.dispatch(geluBackward.plan({ elements }), [u, dy, into]));
  });
  return y;
}

/** Linear layers with a GELU between them. */
export function mlp(graph: Graph, x: Tensor, layers: readonly LinearLayer[]): Tensor {
  return layers.reduce((input, layer, l) => linear(graph, l === 0 ? input : gelu(graph, input), layer), x);
}

/**
 * x times one number a column.
 * @param x [R, D]
 * @param gamma [D]
 */
export function layerScale(graph: Graph, x: Tensor, gamma: Tensor): Tensor {
  const { program } = graph;
  const { rows, columns, elements } = x;
  const y = program.intermediate('layer_scale', x.shape);
  program.dispatch(scaleColumns.plan({ rows, columns }), [x, gamma, y]);
  if (!graph.needsGradient(x, gamma)) return y;
  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    graph.contribute(gamma, (into) => {
      const product = program.intermediate('d_gamma_products', x.shape);
      program.dispatch(multiply.plan({ elements }), [dy, x, product]);
      columnSums(program, product, into);
    });
    graph.contribute(x, (into) => program.dispatch(scaleColumns.plan({ rows, columns }), [dy, gamma, into]));
  });
  return y;
}

/** One factor for each of some sequences. */
export interface SequenceMask {
  /** [first + sequences or more]; no gradient flows to it. */
  readonly factors: Tensor;
  readonly first: number;
}

/**
 * Every sequence times its factor.
 * @param x [sequences length, D]
 * @param length rows of a sequence
 */
export function dropPath(graph: Graph, x: Tensor, { factors, first }: SequenceMask, length: number): Tensor {
  const { program } = graph;
  const plan = scaleSequences.plan({ rows: x.rows, columns: x.columns, length, first });
  const y = program.intermediate('drop_path', x.shape);
  program.dispatch(plan, [x, factors, y]);
  if (!graph.needsGradient(x)) return y;
  graph.onBackward([y], ([dy]) => {
    if (dy) graph.contribute(x, (into) => program.dispatch(plan, [dy, factors, into]));
  });
  return y;
}

/**
 * stream + branch. All other uses of both must come before in the recording: on the way back the two share one gradient.
 * @returns [R, D], as both
 */
export function add(graph: Graph, stream: Tensor, branch: Tensor): Tensor {
  const { program } = graph;
  const sum = program.intermediate('residual', stream.shape);
  program.dispatch(addKernel.plan({ elements: stream.elements }), [stream, branch, sum]);
  if (!graph.needsGradient(stream, branch)) return sum;
  graph.onBackward([sum], ([dsum]) => {
    if (!dsum) return;
    graph.passThrough(branch, dsum);
    graph.passThrough(stream, dsum);
  });
  return sum;
}

/** A constant times x. */
export function scale(graph: Graph, x: Tensor, factor: number): Tensor {
  const { program } = graph;
  const plan = scaleKernel.plan({ elements: x.elements, factor });
  const y = program.intermediate('scaled', x.shape);
  program.dispatch(plan, [x, y]);
  if (!graph.needsGradient(x)) return y;
  graph.onBackward([y], ([dy]) => {
    if (dy) graph.contribute(x, (into) => program.dispatch(plan, [dy, into]));
  });
  return y;
}

export interface GatheredRows {
  /** u32 [from + rows or more]: the row of x that each row of the result is; no row twice among the live ones. */
  readonly index: Tensor;
  /** The first entry used; 0 by default. */
  readonly from?: number;
  /** Rows of the result; all entries behind `from` by default. */
  readonly rows?: number;
  /** u32 [1], data: how many rows are live. The others hold copies of something and bring no gradient back. */
  readonly count?: Tensor;
}

/**
 * Some rows of x. The gradient is as tall as x, zeros where no row was taken.
 * @param x [N, D]
 * @returns [rows, D]
 */
export function gatherRows(graph: Graph, x: Tensor, options: GatheredRows): Tensor {
  const { program } = graph;
  const { index, from = 0, rows = index.elements - from, count } = options;
  const size = { rows, columns: x.columns, from };
  const y = program.intermediate('rows', [rows, x.columns]);
  program.dispatch(gatherRowsKernel.plan(size), [x, index, y]);
  if (!graph.needsGradient(x)) return y;
  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    graph.contribute(x, (into) => {
      program.dispatch(fillZero.plan({ elements: x.elements }), [into]);
      const plan = scatterRows.plan({ ...size, counted: count !== undefined });
      program.dispatch(plan, [dy, index, count ?? index, into]);
    });
  });
  return y;
}
