/** Cross-entropy of rows of logits against integer labels, the rank of the truth, and the gradient in the same visit. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { foldGrid, type KernelPlan } from '../src/gpu/kernel_plan.js';
import { quadInclude, quadsOf, type Storage, storedBytes } from './storage.js';

export interface LabelCrossEntropyParams {
  /** Samples times heads. */
  readonly rows: number;
  /** Heads that judge one sample: rows with the same label. */
  readonly heads: number;
  readonly classes: number;
  /** Places of a row: a multiple of 4, at least `classes`. */
  readonly pitch: number;
  /** Share of the target that is spread evenly over all classes, 0 to 1. */
  readonly smoothing: number;
  readonly gradient: boolean;
  /** Of the logits and their gradient. */
  readonly storage?: Storage;
}

/** Invocations of a workgroup, as lib/rows.wgsl defines them. */
const THREADS = 64;
const INFINITY_BITS = 0x7f800000;

/**
 * Bindings: logits [rows, pitch], labels u32 [rows / heads], loss f32 [rows], rank u32 [rows]; with `gradient` also
 * upstream f32 [rows] and dlogits [rows, pitch].
 * @throws GpuError for a pitch that is not a multiple of 4
 */
export function plan(params: LabelCrossEntropyParams, caps: Capabilities): KernelPlan {
  const { rows, heads, classes, pitch, smoothing, gradient, storage = 'f32' } = params;
  const quads = quadsOf('label_cross_entropy', pitch);
  // On a CPU the barriers of a sum over lanes would cost more than the row.
  let lanes = caps.software ? 1 : 4;
  while (!caps.software && lanes < THREADS && lanes < quads) lanes *= 2;
  return {
    shader: 'label_cross_entropy.wgsl',
    prelude: { LANES: lanes, SIZES: gradient ? 6 : 4 },
    includes: [
      quadInclude(storage),
      gradient ? 'lib/label_cross_entropy_gradient.wgsl' : 'lib/cross_entropy_loss_only.wgsl',
    ],
    parameters: [rows, heads, classes, quads, new Uint32Array(Float32Array.of(smoothing).buffer)[0], INFINITY_BITS],
    grid: foldGrid(Math.ceil((rows * lanes) / THREADS)),
    bindings: ['read', 'read', 'read_write', 'read_write', ...(gradient ? (['read', 'read_write'] as const) : [])],
    flops: (gradient ? 12 : 7) * rows * classes,
    bytes: (gradient ? 2 : 1) * storedBytes(storage) * rows * pitch + (gradient ? 16 : 12) * rows,
  };
}
