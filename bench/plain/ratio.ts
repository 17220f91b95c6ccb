/**
 * How much faster is our step than the plain one, by turns in one process:
 * `node --import tsx bench/plain/ratio.ts [BATCH] [--portable]`. The plain step is lent the kernels that plan() picks for this
 * adapter; with --portable it gets those that need no optional feature (the tiled gemm), as a first port would have them.
 *
 * ViT-S/14, 224 and 98 px, 65,536 prototypes, float32. For slow adapters, where `webdino bench step` with its checks takes
 * long; that both steps compute the same is test/bench/plain.test.ts's business.
 */

import type { Gpu } from '../../src/gpu/device.js';
import { openGpu } from '../../src/node.js';
import { FUSED_STEP, PLAIN_STEP, PreparedStep } from '../step_case.js';
import { STEP_DEFAULTS, stepConfig } from '../step_suite.js';

const ROUNDS = 2;

/** The same adapter, planned for as if it had no optional feature. */
function portable(gpu: Gpu): Gpu {
  const capabilities = { ...gpu.capabilities, subgroups: false, shaderF16: false, subgroupMatrices: [] };
  return Object.create(gpu, { capabilities: { value: capabilities } }) as Gpu;
}

const batch = Number(process.argv[2] ?? 4);
const withoutFeatures = process.argv.includes('--portable');
const config = stepConfig({ ...STEP_DEFAULTS.full, batch });
const contenders = [];
for (const [name, factory] of [
  ['ours', FUSED_STEP],
  ['plain', PLAIN_STEP],
] as const) {
  const opened = await openGpu();
  const gpu = name === 'plain' && withoutFeatures ? portable(opened) : opened;
  contenders.push({ name, gpu, step: await PreparedStep.open(gpu, config, factory), timesMs: [] as number[] });
}
// The first round compiles and is not counted.
for (let round = 0; round <= ROUNDS; round++) {
  for (const { name, gpu, step, timesMs } of contenders) {
    const startMs = performance.now();
    step.run();
    await gpu.finish();
    const timeMs = performance.now() - startMs;
    if (round > 0) timesMs.push(timeMs);
    const { peakBytes } = gpu;
    console.log(
      `${round === 0 ? 'first' : `round ${round}`}  ${name}  ${(timeMs / 1000).toFixed(1)} s, ${peakBytes} bytes`,
    );
  }
}
const [ours, plain] = contenders.map(({ timesMs }) => Math.min(...timesMs));
console.log(`plain takes ${(plain / ours).toFixed(2)} times as long as ours, batch ${batch}`);
for (const { gpu } of contenders) gpu.close();
