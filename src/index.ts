/** The public API of webdino. Safe in browsers: nothing here imports Node. */

export * from './errors.js';
export { BASELINE_CAPABILITIES, type Capabilities } from './gpu/capabilities.js';
export { Gpu, type GpuOptions } from './gpu/device.js';
export type { KernelPlan } from './gpu/kernel_plan.js';
export { Program, type ProgramCost, type TraceEntry } from './gpu/program.js';
export type { ShaderLibrary } from './gpu/shaders.js';
export { type DType, Tensor } from './gpu/tensor.js';
export { Graph } from './tensor/graph.js';
