/**
 * Linear layers in PyTorch's layout, y = x Wᵀ + b, with the activations and residuals that their gemm can carry.
 * Backward: dx = dy W (NN), dW = dyᵀ x (TN, split over rows, parts added in order), db = column sums of dy.
 */

import { splitRows } from '../../kernels/column_lanes.js';
import * as columnSum from '../../kernels/column_sum_partials.js';
import * as raggedColumnSum from '../../kernels/column_sum_ragged.js';
import * as geluKernel from '../../kernels/gelu.js';
import * as gemm from '../../kernels/gemm.js';
import * as sumPartials from '../../kernels/sum_partials.js';
import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

export interface GemmOperands {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly bias?: Tensor;
  readonly extra?: Tensor;
  readonly gamma?: Tensor;
  readonly out: Tensor;
  readonly kept?: Tensor;
}

/**
 * Records one gemm in the storage of its tensors: a and b alike, extra and out alike. Absent operands are bound to `b`, which
 * the epilogue then does not read; with its N columns or rows it has the quad that a binding must hold, as `a` may not.
 */
export function dispatchGemm(program: Program, params: gemm.GemmParams, operands: GemmOperands): void {
  const { a, b, bias, extra, gamma, out, kept } = operands;
  if (a.dtype !== b.dtype || (extra && extra.dtype !== out.dtype)) {
    throw new GpuError(`gemm of ${a.name} (${a.dtype}) and ${b.name} (${b.dtype}) into ${out.name}: mixed storage`);
  }
  const storage = { operands: a.storage, result: out.storage };
  const plan = gemm.plan({ ...params, ...storage, bias: bias !== undefined }, program.gpu.capabilities);
  program.dispatch(plan, [a, b, bias ?? b, extra ?? b, gamma ?? b, out, ...(kept ? [kept] : [])]);
}

/** gelu(u) once more, for a backward pass: of the two only u is kept. */
function recordGelu({ program }: Graph, preActivation: Tensor): Tensor {
  const { shape, elements, dtype, storage } = preActivation;
  const activated = program.intermediate('gelu', shape, dtype);
  program.dispatch(geluKernel.plan({ elements, storage }), [preActivation, activated]);
  return activated;
}

/** A weight in the storage of the activations it is multiplied with. */
export function weightFor(x: Tensor, weight: Tensor): Tensor {
  if (x.dtype === weight.dtype) return weight;
  if (!weight.half) throw new GpuError(`${weight.name} has no half copy, which half activations are multiplied with`);
  return weight.half;
}

/** Records a gemm without epilogue. K is cut in parts where the result alone would not keep the adapter busy. */
export function dispatchSplitGemm(
  program: Program,
  params: Pick<gemm.GemmParams, 'layout' | 'M' | 'N' | 'K'>,
  { a, b, out }: Pick<GemmOperands, 'a' | 'b' | 'out'>,
): void {
  const storage = { operands: a.storage, result: out.storage };
  dispatchGemmParts(program, params, gemm.splitK({ ...params, ...storage }, program.gpu.capabilities), { a, b, out });
}

/** Records a gemm with K cut in this many parts; the float32 parts are added in their order. */
export function dispatchGemmParts(
  program: Program,
  params: Pick<gemm.GemmParams, 'layout' | 'M' | 'N' | 'K' | 'variant'>,
  parts: number,
  { a, b, out }: Pick<GemmOperands, 'a' | 'b' | 'out'>,
): void {
  if (parts === 1) {
    dispatchGemm(program, params, { a, b, out });
    return;
  }
  const partial = program.intermediate('gemm_parts', [parts, params.M, params.N]);
  dispatchGemm(program, { ...params, parts }, { a, b, out: partial });
  program.dispatch(sumPartials.plan({ parts, elements: out.elements, result: out.storage }), [partial, out]);
}

/** dW [N, K] = dyᵀ x over the rows of dy [R, N] and x [R, K]. */
function weightGradient(program: Program, dy: Tensor, x: Tensor, into: Tensor): void {
  dispatchSplitGemm(program, { layout: 'TN', M: dy.columns, N: x.columns, K: dy.rows }, { a: dy, b: x, out: into });
}

/** db [N]: the column sums of dy [R, N]; in float32 for any N. */
export function columnSums(program: Program, dy: Tensor, into: Tensor): void {
  const { capabilities } = program.gpu;
  const { rows, columns, storage } = dy;
  if (columns % 4 !== 0 && storage === 'f32') {
    const parts = raggedColumnSum.interleavedParts(rows, columns, capabilities);
    const partial = program.intermediate('column_sum_parts', [parts, columns]);
    program.dispatch(raggedColumnSum.plan({ rows, columns, parts }), [dy, partial]);
    program.dispatch(sumPartials.plan({ parts, elements: columns }), [partial, into]);
    return;
  }
  const split = splitRows(rows, columns, capabilities);
  const partial = program.intermediate('column_sum_parts', [split.parts, columns]);
  program.dispatch(columnSum.plan({ rows, columns, ...split, storage }, capabilities), [dy, partial]);
  program.dispatch(columnSum.join({ parts: split.parts, columns }, capabilities), [partial, into]);
}

function contributeWeights(graph: Graph, x: Tensor, weight: Tensor, bias: Tensor | undefined, dy: Tensor): void {
  graph.contribute(weight, (into) => weightGradient(graph.program, dy, x.recompute?.() ?? x, into));
  if (bias) graph.contribute(bias, (into) => columnSums(graph.program, dy, into));
}

function checkShapes(x: Tensor, weight: Tensor, bias?: Tensor): void {
  const inputs = weight.elements / weight.shape[0];
  if (x.columns !== inputs || (bias && bias.elements !== weight.shape[0])) {
    throw new GpuError(
      `linear: ${x.name} [${x.shape}] does not fit ${weight.name} [${weight.shape}]${bias ? ` with ${bias.name} [${bias.shape}]` : ''}`,
    );
  }
}

export interface LinearLayer {
  /** [N, K] */
  readonly weight: Tensor;
  /** [N] */
  readonly bias?: Tensor;
}

/** Where a branch goes when no gradient is wanted: out = stream + gamma * branch, in the last gemm's epilogue. */
export interface ResidualInto {
  readonly stream: Tensor;
  /** LayerScale [D]. */
  readonly gamma: Tensor;
}

/**
 * Linear layers with the exact GELU between them: a block's MLP (two layers, spec §1.3) or a head's (three, spec §2.1).
 * A GELU rides in the epilogue of the gemm before it, and its derivative in the gemm that brings the gradient back.
 *
 * @param x [R, K]
 * @param residual only without gradient: training keeps the branch, whose values LayerScale's gradient needs
 * @returns [R, outputs of the last layer]
 */
export function mlp(graph: Graph, x: Tensor, layers: readonly LinearLayer[], residual?: ResidualInto): Tensor {
  const { program } = graph;
  const R = x.rows;
  const follow = graph.needsGradient(x, ...layers.flatMap((layer) => [layer.weight, layer.bias]));
  if (follow && residual) throw new GpuError('mlp: a residual in the epilogue has no gradient');
  /** Input of each layer, and what its GELU was taken of. */
  const inputs: Tensor[] = [x];
  const preActivations: (Tensor | undefined)[] = [undefined];
  let y = x;
  layers.forEach(({ weight, bias }, l) => {
    const input = inputs[l];
    checkShapes(input, weight, bias);
    const [N, K] = [weight.shape[0], input.columns];
    if (l === layers.length - 1) {
      y = graph.activation('mlp', [R, N]);
      dispatchGemm(
        program,
        { layout: 'NT', M: R, N, K, epilogue: residual ? 'residual' : 'none' },
        { a: input, b: weightFor(input, weight), bias, extra: residual?.stream, gamma: residual?.gamma, out: y },
      );
      return;
    }
    const activated = graph.activation('gelu', [R, N]);
    const kept = follow ? graph.activation('pre_activation', [R, N]) : undefined;
    dispatchGemm(
      program,
      { layout: 'NT', M: R, N, K, epilogue: follow ? 'geluKeep' : 'gelu' },
      { a: input, b: weightFor(input, weight), bias, out: activated, kept },
    );
    if (kept) activated.recompute = () => recordGelu(graph, kept);
    inputs.push(activated);
    preActivations.push(kept);
  });
  if (!follow) return y;

  graph.onBackward([y], ([dy]) => {
    let gradient = dy;
    for (let l = layers.length - 1; gradient && l >= 0; l--) {
      const { weight, bias } = layers[l];
      const [N, K] = [weight.shape[0], inputs[l].columns];
      const d = gradient;
      contributeWeights(graph, inputs[l], weight, bias, d);
      const extra = preActivations[l];
      if (extra) {
        gradient = graph.activation('d_pre_activation', [R, K]);
        dispatchGemm(
          program,
          { layout: 'NN', M: R, N: K, K: N, epilogue: 'geluBackward' },
          { a: d, b: weightFor(d, weight), extra, out: gradient },
        );
      } else {
        graph.contribute(x, (into) => {
          dispatchGemm(program, { layout: 'NN', M: R, N: K, K: N }, { a: d, b: weightFor(d, weight), out: into });
        });
      }
    }
  });
  return y;
}

/**
 * @param x [R, K]
 * @param weight [N, K]
 * @param bias [N]
 * @param residual only without gradient
 * @returns [R, N]
 */
export function linear(graph: Graph, x: Tensor, weight: Tensor, bias?: Tensor, residual?: ResidualInto): Tensor {
  return mlp(graph, x, [{ weight, bias }], residual);
}
