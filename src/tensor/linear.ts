/**
 * Linear layers in PyTorch's layout, y = x Wᵀ + b, with the activations and residuals that their gemm can carry.
 * Backward: dx = dy W (NN), dW = dyᵀ x (TN, split over rows, parts added in order), db = column sums of dy.
 */

import * as columnSum from '../../kernels/column_sum_partials.js';
import * as gemm from '../../kernels/gemm.js';
import * as sumPartials from '../../kernels/sum_partials.js';
import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

interface GemmOperands {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly bias?: Tensor;
  readonly extra?: Tensor;
  readonly gamma?: Tensor;
  readonly out: Tensor;
}

/** Records one gemm; absent operands are bound to `a`, which the epilogue then does not read. */
function dispatchGemm(program: Program, params: gemm.GemmParams, { a, b, bias, extra, gamma, out }: GemmOperands): void {
  const plan = gemm.plan({ ...params, bias: bias !== undefined }, program.gpu.capabilities);
  program.dispatch(plan, [a, b, bias ?? a, extra ?? a, gamma ?? a, out]);
}

/** dW [N, K] = dyᵀ x over the rows of dy [R, N] and x [R, K]. */
function weightGradient(program: Program, dy: Tensor, x: Tensor, into: Tensor): void {
  const params = { layout: 'TN', M: dy.columns, N: x.columns, K: dy.rows } as const;
  const parts = gemm.splitK(params, program.gpu.capabilities);
  if (parts === 1) {
    dispatchGemm(program, params, { a: dy, b: x, out: into });
    return;
  }
  const partial = program.intermediate('weight_gradient_parts', [parts, params.M, params.N]);
  dispatchGemm(program, { ...params, parts }, { a: dy, b: x, out: partial });
  program.dispatch(sumPartials.plan({ parts, elements: into.elements }), [partial, into]);
}

/** db [N]: the column sums of dy [R, N]. */
export function columnSums(program: Program, dy: Tensor, into: Tensor): void {
  const { parts, rowsPerPart } = sumPartials.splitRows(dy.rows, dy.columns);
  const partial = program.intermediate('column_sum_parts', [parts, dy.columns]);
  program.dispatch(columnSum.plan({ rows: dy.rows, columns: dy.columns, parts, rowsPerPart }), [dy, partial]);
  program.dispatch(sumPartials.plan({ parts, elements: dy.columns }), [partial, into]);
}

function contributeWeights(graph: Graph, x: Tensor, weight: Tensor, bias: Tensor | undefined, dy: Tensor): void {
  graph.contribute(weight, (into) => weightGradient(graph.program, dy, x, into));
  if (bias) graph.contribute(bias, (into) => columnSums(graph.program, dy, into));
}

function checkShapes(x: Tensor, weight: Tensor, bias?: Tensor): void {
  const inputs = weight.elements / weight.shape[0];
  if (x.columns !== inputs || (bias && bias.elements !== weight.shape[0])) {
    throw new GpuError(`linear: ${x.name} [${x.shape}] does not fit ${weight.name} [${weight.shape}]${bias ? ` with ${bias.name} [${bias.shape}]` : ''}`);
  }
}

/**
 * @param x [R, K]
 * @param weight [N, K]
 * @param bias [N]
 * @returns [R, N]
 */
export function linear(graph: Graph, x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  checkShapes(x, weight, bias);
  const { program } = graph;
  const [M, N, K] = [x.rows, weight.shape[0], x.columns];
  const y = program.intermediate('linear', [M, N]);
  dispatchGemm(program, { layout: 'NT', M, N, K }, { a: x, b: weight, bias, out: y });
  if (!graph.needsGradient(x, weight, bias)) return y;
  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    contributeWeights(graph, x, weight, bias, dy);
    graph.contribute(x, (into) => {
      dispatchGemm(program, { layout: 'NN', M, N: K, K: N }, { a: dy, b: weight, out: into });
    });
  });
  return y;
}

/**
 * The MLP of a block or a head's hidden layer: gelu(x W1ᵀ + b1) W2ᵀ + b2 with the exact GELU (spec §1.3).
 * The GELU rides in the first gemm's epilogue and its derivative in the gemm that brings the gradient back.
 *
 * @param x [R, K]
 * @param first weight [H, K] and bias [H]
 * @param second weight [N, H] and bias [N]
 * @returns [R, N]
 */
export function geluMlp(
  graph: Graph,
  x: Tensor,
  first: { weight: Tensor; bias?: Tensor },
  second: { weight: Tensor; bias?: Tensor },
): Tensor {
  checkShapes(x, first.weight, first.bias);
  const { program } = graph;
  const [R, H, K, N] = [x.rows, first.weight.shape[0], x.columns, second.weight.shape[0]];
  const parameters = [first.weight, first.bias, second.weight, second.bias];
  const follow = graph.needsGradient(x, ...parameters);
  const offset = gemm.preActivationOffset(R, H);
  const stored = program.intermediate('gelu', [follow ? offset + R * H : R * H]);
  const hidden = stored.slice(0, [R, H], 'gelu');
  dispatchGemm(
    program,
    { layout: 'NT', M: R, N: H, K, epilogue: follow ? 'geluKeep' : 'gelu' },
    { a: x, b: first.weight, bias: first.bias, out: stored },
  );
  checkShapes(hidden, second.weight, second.bias);
  const y = program.intermediate('mlp', [R, N]);
  dispatchGemm(program, { layout: 'NT', M: R, N, K: H }, { a: hidden, b: second.weight, bias: second.bias, out: y });
  if (!follow) return y;
  const preActivation = stored.slice(offset, [R, H], 'pre_activation');
  graph.onBackward([y], ([dy]) => {
    if (!dy) return;
    contributeWeights(graph, hidden, second.weight, second.bias, dy);
    const dPreActivation = program.intermediate('d_pre_activation', [R, H]);
    dispatchGemm(
      program,
      { layout: 'NN', M: R, N: H, K: N, epilogue: 'geluBackward' },
      { a: dy, b: second.weight, extra: preActivation, out: dPreActivation },
    );
    contributeWeights(graph, x, first.weight, first.bias, dPreActivation);
    graph.contribute(x, (into) => {
      dispatchGemm(program, { layout: 'NN', M: R, N: K, K: H }, { a: dPreActivation, b: first.weight, out: into });
    });
  });
  return y;
}

/**
 * x Wᵀ + b, scaled and added to the residual stream in the gemm's epilogue: out = residual + gamma (x Wᵀ + b).
 * For passes without gradient (teacher, evaluation); training keeps the branch, whose values gamma's gradient needs.
 */
export function linearResidual(
  graph: Graph,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  residual: Tensor,
  gamma: Tensor,
): Tensor {
  checkShapes(x, weight, bias);
  if (graph.needsGradient(x, weight, residual, gamma)) throw new GpuError('linearResidual has no gradient: use linear and scaledResidual');
  const { program } = graph;
  const out = program.intermediate('residual', residual.shape);
  const params = { layout: 'NT', M: x.rows, N: weight.shape[0], K: x.columns, epilogue: 'residual' } as const;
  dispatchGemm(program, params, { a: x, b: weight, bias, extra: residual, gamma, out });
  return out;
}
