/** Depth from logits over bins, with its gradient (spec §6.5.2: uniform bins, linear normalisation). */

import * as depthBinsKernel from '../../kernels/depth_bins.js';
import * as backwardKernel from '../../kernels/depth_bins_backward.js';
import { UsageError } from '../errors.js';
import type { Tensor } from '../gpu/tensor.js';
import { assertFloat32 } from './feature_map.js';
import type { Graph } from './graph.js';

/** In metres. */
export interface DepthRange {
  readonly min: number;
  readonly max: number;
}

/** Depths of uniform bins, both ends included. @throws UsageError for a range or a number of bins that spans nothing */
export function binCentres(bins: number, { min, max }: DepthRange): Float32Array {
  if (!(bins >= 2 && max > min)) {
    throw new UsageError(
      `${bins} depth bins from ${min} to ${max}: give at least 2 bins, and a maximum above the minimum`,
    );
  }
  return Float32Array.from({ length: bins }, (_, k) => min + ((max - min) * k) / (bins - 1));
}

/**
 * r = relu(logit) + 0.1, depth = sum of r_k b_k / sum of r, with b = linspace(min, max, bins).
 * @param logits f32 [R, bins], any number of bins
 * @returns f32 [R, 1], in metres, within the range
 */
export function depthBins(graph: Graph, logits: Tensor, range: DepthRange): Tensor {
  const { program } = graph;
  const { rows, columns: bins } = logits;
  assertFloat32('depthBins', logits);
  const centres = program.constant('bin_centres', [bins], binCentres(bins, range));
  const depth = program.intermediate('depth', [rows, 1]);
  const sums = program.intermediate('bin_sums', [rows]);
  program.dispatch(depthBinsKernel.plan({ rows, bins }, program.gpu.capabilities), [logits, centres, depth, sums]);
  if (!graph.needsGradient(logits)) return depth;
  graph.onBackward([depth], ([ddepth]) => {
    if (!ddepth) return;
    graph.contribute(logits, (into) => {
      program.dispatch(backwardKernel.plan({ rows, bins }), [logits, centres, depth, sums, ddepth, into]);
    });
  });
  return depth;
}
