/**
 * The tape: operators record their forward dispatches into a program and, where a gradient is wanted, how to go back.
 *
 * Conventions, once for all operators:
 * - A backward step multiplies by the gradient that reaches it. Scalars (losses) have gradients of shape [1], so a loss
 *   weight or a loss scale is data that flows in through the seed.
 *   The loss over prototypes alone takes its seed as an argument and computes gradients as it goes (prototype_loss.ts).
 * - The gradient of a weight is written straight to `weight.gradient`; a second use of the same weight adds to it.
 * - Activations and their gradients have the graph's storage; gradients of weights are float32.
 * - The gradient of an intermediate is a fresh intermediate. An operator that can add a sum so far in the same pass says
 *   so (`fuse`); otherwise the tape adds.
 */

import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Storage, Tensor } from '../gpu/tensor.js';
import * as addInPlace from '../../kernels/add_in_place.js';
import * as copyRows from '../../kernels/copy_rows.js';

interface TapeEntry {
  readonly scope: string;
  readonly outputs: readonly Tensor[];
  /** Receives one gradient per output, undefined where nothing flowed back. */
  readonly backward: (gradients: readonly (Tensor | undefined)[]) => void;
}

/** A view shares its base's gradient when it covers the same elements. */
function gradientKey(tensor: Tensor): string {
  return `${tensor.base.id} ${tensor.baseOffsetBytes} ${tensor.elements}`;
}

export class Graph {
  private readonly tape: TapeEntry[] = [];
  private readonly gradients = new Map<string, Tensor>();
  private recording = true;

  /** @param activations how activations and their gradients are stored; weights, statistics and losses stay float32 */
  constructor(
    readonly program: Program,
    readonly activations: Storage = 'f32',
  ) {}

  /** A fresh activation in the graph's storage. */
  activation(name: string, shape: readonly number[]): Tensor {
    return this.program.intermediate(name, shape, this.activations);
  }

  /** Records without remembering how to go back: the teacher, evaluation. */
  withoutGradient<T>(body: () => T): T {
    const before = this.recording;
    this.recording = false;
    try {
      return body();
    } finally {
      this.recording = before;
    }
  }

  /** Whether an operator over these inputs must save what its backward needs. */
  needsGradient(...inputs: (Tensor | undefined)[]): boolean {
    return this.recording && inputs.some((t) => t?.requiresGrad === true);
  }

  /** Called by an operator for which `needsGradient` held. Marks the outputs as followed. */
  onBackward(outputs: readonly Tensor[], backward: TapeEntry['backward']): void {
    for (const output of outputs) output.requiresGrad = true;
    this.tape.push({ scope: this.program.scopePath, outputs, backward });
  }

  /**
   * Adds one contribution to the gradient of `x`.
   * @param write records the dispatch that fills `into`; with `fuse`, it also adds `sum` when one is given
   */
  contribute(
    x: Tensor,
    write: (into: Tensor, sum: Tensor | undefined) => void,
    options: { fuse?: boolean } = {},
  ): void {
    if (!x.requiresGrad) return;
    const key = gradientKey(x);
    const sum = this.gradients.get(key);
    const fresh = (): Tensor => this.program.intermediate(`d_${x.name.split('.').pop()}`, x.shape, x.gradientDtype);
    if (sum === undefined) {
      const into = x.gradient ?? fresh();
      write(into, undefined);
      this.gradients.set(key, into);
    } else if (options.fuse && !x.gradient) {
      const into = fresh();
      write(into, sum);
      this.gradients.set(key, into);
    } else {
      const part = fresh();
      write(part, undefined);
      const [target, value] = x.gradient ? [sum, part] : [part, sum];
      this.program.dispatch(addInPlace.plan({ elements: x.elements, storage: target.storage }), [target, value]);
      this.gradients.set(key, target);
    }
  }

  /**
   * Activation checkpointing: records `body` without keeping what its operators would save, and records it once more, with
   * that, when its backward pass is due. The gradients have the same bits as without; the forward pass costs twice.
   */
  checkpoint(body: () => Tensor): Tensor {
    if (!this.recording) return body();
    const before = this.tape.length;
    const output = body();
    // The operators recorded their savings on the tape; without them the planner lets those tensors go.
    const dropped = this.tape.splice(before);
    if (dropped.length === 0) return output;
    this.onBackward([output], ([gradient]) => {
      if (!gradient) return;
      const outer = this.tape.splice(0);
      const again = body();
      this.gradients.set(gradientKey(again), gradient);
      this.walkBack();
      this.tape.push(...outer);
    });
    return output;
  }

  /** Lets the gradient of a result flow on to `x` unchanged, without a copy where it is the first contribution. */
  passThrough(x: Tensor, gradient: Tensor): void {
    if (!x.requiresGrad) return;
    const key = gradientKey(x);
    const sum = this.gradients.get(key);
    if (sum === undefined && !x.gradient) {
      this.gradients.set(key, gradient);
      return;
    }
    if (sum === undefined)
      throw new GpuError(`${x.name} is a weight: its gradient must be written, not passed through`);
    if (x.gradient) {
      this.program.dispatch(addInPlace.plan({ elements: x.elements, storage: sum.storage }), [sum, gradient]);
      return;
    }
    // Of an intermediate nobody needs the old value any more; a persistent one (a seed) must keep it for the next run.
    const target = gradient.kind === 'intermediate' ? gradient : this.copyOf(sum, x);
    this.program.dispatch(addInPlace.plan({ elements: x.elements, storage: target.storage }), [
      target,
      target === gradient ? sum : gradient,
    ]);
    this.gradients.set(key, target);
  }

  private copyOf(source: Tensor, x: Tensor): Tensor {
    const copy = this.program.intermediate(`d_${x.name.split('.').pop()}`, x.shape, source.dtype);
    const plan = copyRows.plan({ rows: source.rows, columns: source.columns, from: 0, to: 0, storage: source.storage });
    this.program.dispatch(plan, [source, copy]);
    return copy;
  }

  /** The gradient of `x` after `backward()`, if any reached it. */
  gradientOf(x: Tensor): Tensor | undefined {
    return this.gradients.get(gradientKey(x));
  }

  /**
   * Walks the tape from the last operator to the first.
   * @param seeds pairs of a tensor and its upstream gradient, of the same shape
   */
  backward(seeds: readonly (readonly [Tensor, Tensor])[]): void {
    for (const [tensor, seed] of seeds) {
      if (seed.elements !== tensor.elements) {
        throw new GpuError(`the seed of ${tensor.name} [${tensor.shape}] has the shape [${seed.shape}]`);
      }
      this.gradients.set(gradientKey(tensor), seed);
    }
    this.walkBack();
  }

  private walkBack(): void {
    for (let entry = this.tape.pop(); entry; entry = this.tape.pop()) {
      const { outputs, backward, scope } = entry;
      const gradients = outputs.map((output) => this.gradients.get(gradientKey(output)));
      if (gradients.every((gradient) => gradient === undefined)) continue;
      this.program.scope(scope ? `${scope}.backward` : 'backward', () => backward(gradients));
    }
  }
}
