/** All questions, in the order in which they are asked. */

import { section as attention } from './attention.bench.js';
import type { BenchSection } from './checked_bench.js';
import { section as dense } from './dense.bench.js';
import { section as gemm } from './gemm.bench.js';
import { section as losses } from './losses.bench.js';
import { section as norms } from './norms.bench.js';
import { section as optimizer } from './optimizer.bench.js';
import { section as probes } from './probes.bench.js';
import { section as search } from './search.bench.js';
import { section as step } from './step.bench.js';
import { section as tokens } from './tokens.bench.js';

export const SECTIONS: readonly BenchSection[] = [
  gemm,
  attention,
  norms,
  tokens,
  losses,
  dense,
  optimizer,
  probes,
  search,
  step,
];
