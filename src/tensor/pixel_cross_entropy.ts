/** The loss of semantic segmentation: cross-entropy of each pixel against its label (spec §6.6.1). */

import * as crossEntropyKernel from '../../kernels/pixel_cross_entropy.js';
import * as backwardKernel from '../../kernels/pixel_cross_entropy_backward.js';
import * as sumRanges from '../../kernels/sum_ranges.js';
import * as validMean from '../../kernels/valid_mean.js';
import { GpuError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import { assertFloat32 } from './feature_map.js';
import type { Graph } from './graph.js';

/** The label of pixels that no class is given to. */
export const IGNORED_LABEL = 255;

/** Rows that one workgroup adds in the first stage of a sum over all rows, and the most parts. */
const ROWS_PER_PART = 1024;
const MOST_PARTS = 1024;

/** First row of each part, for two sums over `rows` rows that lie one after the other; then the end. */
function partStarts(rows: number): Uint32Array {
  const parts = Math.min(Math.ceil(rows / ROWS_PER_PART), MOST_PARTS);
  const length = Math.ceil(rows / parts);
  const starts = [0, rows].flatMap((from) =>
    Array.from({ length: Math.ceil(rows / length) }, (_, p) => from + p * length),
  );
  return Uint32Array.from([...starts, 2 * rows]);
}

/**
 * The mean over pixels that count. A pixel labelled `IGNORED_LABEL`, or with a number that is no class, does not count;
 * where none does, the loss and all gradients are exactly 0.
 * @param logits f32 [R, classes], any number of classes
 * @param labels u32 [R]
 * @returns f32 [1]
 */
export function pixelCrossEntropy(graph: Graph, logits: Tensor, labels: Tensor): Tensor {
  const { program } = graph;
  const { rows, columns: classes } = logits;
  assertFloat32('pixelCrossEntropy', logits);
  if (labels.dtype !== 'u32' || labels.elements !== rows) {
    throw new GpuError(
      `pixelCrossEntropy: ${labels.name} (${labels.dtype} [${labels.shape}]) must hold one u32 label for each row of [${logits.shape}]`,
    );
  }
  const params = { rows, classes, ignored: IGNORED_LABEL };
  const terms = program.intermediate('pixel_terms', [2, rows]);
  const statistics = program.intermediate('pixel_statistics', [rows, 2]);
  program.dispatch(crossEntropyKernel.plan(params, program.gpu.capabilities), [logits, labels, terms, statistics]);
  const starts = program.constant('pixel_parts', [partStarts(rows).length], partStarts(rows));
  const parts = (starts.elements - 1) / 2;
  const partial = program.intermediate('pixel_part_sums', [2, parts]);
  program.dispatch(sumRanges.plan({ rows: 2 * rows, terms: 2 * parts }), [terms, starts, partial]);
  const totals = program.intermediate('pixel_totals', [2]);
  const loss = program.intermediate('pixel_cross_entropy', [1]);
  program.dispatch(validMean.plan({ parts }), [partial, totals, loss]);
  if (!graph.needsGradient(logits)) return loss;
  graph.onBackward([loss], ([upstream]) => {
    if (!upstream) return;
    graph.contribute(logits, (into) => {
      program.dispatch(backwardKernel.plan(params), [logits, labels, statistics, totals, upstream, into]);
    });
  });
  return loss;
}
