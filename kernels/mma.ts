/** What the kernels on subgroup matrices (lib/mma.wgsl) know of the adapter. */

import { GpuError } from '../src/errors.js';
import { type Capabilities, matrixConfig } from '../src/gpu/capabilities.js';

/** Sizes of the matrices (left M x K, right K x N, result M x N) and of the subgroups that compute them. */
export interface MmaConstants {
  readonly MMA_M: number;
  readonly MMA_N: number;
  readonly MMA_K: number;
  readonly SUBGROUP: number;
}

/** For the prelude. @throws GpuError where the adapter has no such matrices: ask `matrixConfig` first */
export function mmaConstants(caps: Capabilities): MmaConstants {
  const config = matrixConfig(caps);
  if (!config) throw new GpuError(`${caps.description} has no subgroup matrices of halves with float32 results`);
  return { MMA_M: config.M, MMA_N: config.N, MMA_K: config.K, SUBGROUP: caps.subgroupMaxSize };
}
