/** What a kernel's pure `plan()` returns: everything needed to compile and dispatch it, and what it costs. */

import type { Prelude } from './shaders.js';

export type Access = 'read' | 'read_write';

export interface KernelPlan {
  /** File below `wgsl/`, which is also the kernel's name in errors and traces. */
  readonly shader: string;
  readonly prelude: Prelude;
  /** Files below `wgsl/` put before the shader: the alternatives it is written against, such as `lib/storage_f16.wgsl`. */
  readonly includes?: readonly string[];
  /** Workgroups in x, y, z; each at most 65,535. */
  readonly grid: readonly [number, number, number];
  /** Access of `@group(0) @binding(i)`, in order. */
  readonly bindings: readonly Access[];
  /**
   * Sizes that the shader reads at run time instead of from the prelude, as u32: one pipeline then serves every shape.
   * The program binds them as a constant, `read`, after the tensors of `bindings`.
   */
  readonly parameters?: readonly number[];
  /** Floating-point operations, a multiply-add counted as two. */
  readonly flops: number;
  /** Bytes that must move between memory and the kernel at least once. */
  readonly bytes: number;
}

/**
 * Folds a one-dimensional count of workgroups into x and y, since no dimension may exceed 65,535.
 * The shader flattens with `workgroup_id.y * num_workgroups.x + workgroup_id.x` and tests its bound.
 */
export function foldGrid(workgroups: number): [number, number, number] {
  if (workgroups <= 65535) return [Math.max(workgroups, 1), 1, 1];
  const y = Math.ceil(workgroups / 65535);
  return [Math.ceil(workgroups / y), y, 1];
}
