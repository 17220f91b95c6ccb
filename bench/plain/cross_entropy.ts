/** The loss over prototypes with everything in memory: logits, log-probabilities and targets of all rows. */

import * as crossEntropyKernel from '../../kernels/plain/cross_entropy.js';
import * as crossEntropyBackward from '../../kernels/plain/cross_entropy_backward.js';
import * as logSoftmaxKernel from '../../kernels/plain/log_softmax.js';
import * as logSoftmaxBackward from '../../kernels/plain/log_softmax_backward.js';
import * as sumRanges from '../../kernels/sum_ranges.js';
import type { Tensor } from '../../src/gpu/tensor.js';
import type { Graph } from '../../src/tensor/graph.js';
import { scale } from './operators.js';

/** @param z [R, K] */
export function logSoftmax(graph: Graph, z: Tensor): Tensor {
  const { program } = graph;
  const size = { rows: z.rows, columns: z.columns };
  const l = program.intermediate('log_softmax', z.shape);
  program.dispatch(logSoftmaxKernel.plan(size), [z, l]);
  if (!graph.needsGradient(z)) return l;
  graph.onBackward([l], ([dl]) => {
    if (dl) graph.contribute(z, (into) => program.dispatch(logSoftmaxBackward.plan(size), [l, dl, into]));
  });
  return l;
}

/** A number in the loss. */
export interface LossTerm {
  /** Of the student, [rows, K]. */
  readonly logits: Tensor;
  /** Teacher probabilities [T, K]; no gradient flows to them. Row r is compared with row (r + shift) mod T. */
  readonly targets: Tensor;
  readonly shift: number;
}

/**
 * Term t is the sum over its rows of weight × cross-entropy of the target row with softmax(logits / temperature).
 * @param options.weights [R], the rows of all terms one after the other
 * @returns [terms]
 */
export function crossEntropy(
  graph: Graph,
  options: { readonly terms: readonly LossTerm[]; readonly weights: Tensor; readonly temperature: number },
): Tensor {
  const { program } = graph;
  const { terms, weights, temperature } = options;
  const rowLoss = program.intermediate('cross_entropy_rows', [weights.elements]);
  const starts = [0];
  const recorded = terms.map(({ logits, targets, shift }, term) => {
    const logProbabilities = logSoftmax(graph, scale(graph, logits, 1 / temperature));
    const before = starts[term];
    const { rows, columns } = logits;
    const params = { rows, before, term, columns, targetRows: targets.rows, targetShift: shift };
    program.dispatch(crossEntropyKernel.plan(params), [logProbabilities, targets, weights, rowLoss]);
    starts.push(before + rows);
    return { logProbabilities, targets, params };
  });
  const loss = program.intermediate('cross_entropy', [terms.length]);
  const ranges = program.constant('term_starts', [starts.length], Uint32Array.from(starts));
  program.dispatch(sumRanges.plan({ rows: weights.elements, terms: terms.length }), [rowLoss, ranges, loss]);
  if (!graph.needsGradient(...recorded.map(({ logProbabilities }) => logProbabilities))) return loss;
  graph.onBackward([loss], ([upstream]) => {
    if (!upstream) return;
    for (const { logProbabilities, targets, params } of recorded) {
      graph.contribute(logProbabilities, (into) => {
        program.dispatch(crossEntropyBackward.plan(params), [targets, weights, upstream, into]);
      });
    }
  });
  return loss;
}
