/** What every evaluation is given beside its own options, so that one command line, `eval all` and tests can run them alike. */

import type { Gpu } from '../gpu/device.js';
import type { FrozenModel } from './frozen_model.js';

export interface EvaluationContext {
  readonly gpu: Gpu;
  /** The model in question first, then what it is compared with, then the floors. */
  readonly models: readonly FrozenModel[];
  /** Of initial heads, shuffles, augmentation and bootstrap. */
  readonly seed: number;
  /** Draws behind each interval. */
  readonly bootstrapDraws: number;
  /** Pixels: centre crop, and shorter side before it. */
  readonly crop: number;
  readonly resize: number;
  /** Most pictures a pass through the network. */
  readonly batch: number;
  /** An existing folder for cached features; its owner removes it. */
  readonly cacheFolder: string;
  /** A line that a person should read. */
  note(text: string): void;
  /** How far the step named `what` is. */
  progress(what: string, done: number, total: number): void;
}
