/** Softmax cross-entropy with integer labels: linear probes (many heads at once, spec §6.3) and fine-tuning. */

import * as kernel from '../../kernels/label_cross_entropy.js';
import { GpuError } from '../errors.js';
import { alignUp } from '../gpu/constants.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';

/** A label that is none: the row has loss 0, gradient 0 and the last rank. Pads batches. */
export const NO_LABEL = 0xffffffff;

/** Columns of a head's logits: whole quads, so that every gemm can read them four at a time. */
export function classPitch(classes: number): number {
  return alignUp(classes, 4);
}

export interface LabelCrossEntropyOptions {
  /** [samples, heads * pitch] or any shape of as many elements: the heads of a sample side by side. */
  readonly logits: Tensor;
  /** u32 [samples], data: from 0; `classes` or more means none. */
  readonly labels: Tensor;
  readonly classes: number;
  /** Default 1. */
  readonly heads?: number;
  /** Share of the target that is spread evenly over all classes (0), as PyTorch's `label_smoothing`. */
  readonly smoothing?: number;
  /** f32 [samples * heads]: the gradient that will reach the losses. Needed where the logits' gradient is. */
  readonly upstream?: Tensor;
}

export interface LabelLoss {
  /** f32 [samples * heads]; infinite where a logit is not finite. */
  readonly loss: Tensor;
  /** u32 [samples * heads]: classes that score above the truth; `classes` where there is none or a logit is not finite. */
  readonly rank: Tensor;
  /** [samples, heads * pitch]: the gradient in the logits, with `upstream`. */
  readonly gradient?: Tensor;
}

/**
 * Loss and rank of every (sample, head), and, with `upstream`, the gradient in the same visit: the logits are read once
 * for all three.
 * @throws GpuError when shapes do not fit, or a gradient is wanted without `upstream`
 */
export function labelCrossEntropy(graph: Graph, options: LabelCrossEntropyOptions): LabelLoss {
  const { program } = graph;
  const { logits, labels, classes, heads = 1, smoothing = 0, upstream } = options;
  const samples = labels.elements;
  const rows = samples * heads;
  const pitch = classPitch(classes);
  if (logits.elements !== rows * pitch) {
    throw new GpuError(
      `labelCrossEntropy: ${logits.name} [${logits.shape}] must hold ${samples} samples of ${heads} heads of ${pitch} logits`,
    );
  }
  if (upstream && upstream.elements !== rows) {
    throw new GpuError(
      `labelCrossEntropy: upstream [${upstream.shape}] must hold one number for each of ${rows} losses`,
    );
  }
  const follow = graph.needsGradient(logits);
  if (follow && !upstream) throw new GpuError('labelCrossEntropy: a gradient is wanted, so give upstream');
  const loss = program.intermediate('label_loss', [rows]);
  const rank = program.intermediate('label_rank', [rows], 'u32');
  const gradient = upstream && program.intermediate('d_logits', logits.shape, logits.dtype);
  const { storage } = logits;
  program.dispatch(
    kernel.plan(
      { rows, heads, classes, pitch, smoothing, gradient: gradient !== undefined, storage },
      program.gpu.capabilities,
    ),
    [logits, labels, loss, rank, ...(upstream && gradient ? [upstream, gradient] : [])],
  );
  if (follow && gradient) graph.onBackward([loss], () => graph.passThrough(logits, gradient));
  return { loss, rank, gradient };
}
