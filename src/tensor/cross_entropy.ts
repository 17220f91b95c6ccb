/** The cross-entropy of DINO and iBOT: student rows against teacher rows, summed to named terms (spec §2.4, §2.5). */

import * as crossEntropyKernel from '../../kernels/cross_entropy.js';
import * as backwardKernel from '../../kernels/cross_entropy_backward.js';
import * as sumRanges from '../../kernels/sum_ranges.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

/** A number in the loss: a name and how many consecutive student rows it adds up. */
export interface CrossEntropyTerm {
  readonly name: string;
  readonly rows: number;
}

export interface CrossEntropyOptions {
  /** Student logits [R, K]. A row with weight 0 may hold anything: it adds exactly 0 and its gradient is exactly 0. */
  readonly student: Tensor;
  /** Teacher probabilities [T, K]; no gradient flows to them. */
  readonly targets: Tensor;
  /** u32 [R, P], P 1 or 2: the target rows of each student row, or NO_ROW. */
  readonly pairs: Tensor;
  /** [R]: what the cross-entropy of a row counts, such as 1 / (2B) or 1 / (2B m_i). */
  readonly weights: Tensor;
  /** Student temperature, a constant of the recipe (0.1). */
  readonly temperature: number;
  /** Cover the R rows in their order. */
  readonly terms: readonly CrossEntropyTerm[];
}

/**
 * Term t is the sum over its rows r of weights[r] times the sum over p of CE(targets[pairs[r, p]], student[r]), with
 * CE(p, s) = -sum_k p_k log_softmax(s / temperature)_k, all in float32.
 * @returns [terms.length], in the order of the terms
 * @throws GpuError when shapes do not fit, naming both
 */
export function crossEntropy(graph: Graph, options: CrossEntropyOptions): Tensor {
  const { program } = graph;
  const { student, targets, pairs, weights, temperature, terms } = options;
  const { rows, columns } = student;
  if (targets.columns !== columns) {
    throw new GpuError(`crossEntropy: student [${student.shape}] and targets [${targets.shape}] differ in prototypes`);
  }
  if (pairs.rows !== rows || pairs.dtype !== 'u32') {
    throw new GpuError(`crossEntropy: pairs must be u32 [${rows}, P], not ${pairs.dtype} [${pairs.shape}]`);
  }
  if (weights.elements !== rows) {
    throw new GpuError(
      `crossEntropy: weights [${weights.shape}] must hold one number for each of ${rows} student rows`,
    );
  }
  const starts = new Uint32Array(terms.length + 1);
  terms.forEach((term, t) => {
    starts[t + 1] = starts[t] + term.rows;
  });
  if (starts[terms.length] !== rows) {
    const sizes = terms.map((term) => `${term.name} ${term.rows}`).join(', ');
    throw new GpuError(`crossEntropy: the terms (${sizes}) must cover the ${rows} student rows`);
  }

  const size = { rows, columns, targetRows: targets.rows, pairs: pairs.columns, temperature };
  const rowLoss = program.intermediate('cross_entropy_rows', [rows]);
  const statistics = program.intermediate('cross_entropy_statistics', [rows, 2]);
  program.dispatch(crossEntropyKernel.plan(size), [student, targets, pairs, weights, rowLoss, statistics]);
  const loss = program.intermediate('cross_entropy', [terms.length]);
  const termStarts = program.constant('term_starts', [terms.length + 1], starts);
  program.dispatch(sumRanges.plan({ rows, terms: terms.length }), [rowLoss, termStarts, loss]);
  if (!graph.needsGradient(student)) return loss;

  graph.onBackward([loss], ([upstream]) => {
    if (!upstream) return;
    const termOfRow = new Uint32Array(rows);
    terms.forEach((_, t) => {
      termOfRow.fill(t, starts[t], starts[t + 1]);
    });
    const termRows = program.constant('term_of_row', [rows], termOfRow);
    graph.contribute(student, (into) => {
      const tensors = [student, targets, pairs, weights, statistics, termRows, upstream, into];
      program.dispatch(backwardKernel.plan(size), tensors);
    });
  });
  return loss;
}
