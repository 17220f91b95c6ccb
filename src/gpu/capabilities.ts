/**
 * What an adapter can do, as the kernels' `plan()` functions see it. A plan is a pure function of its parameters and of
 * this record, so it can be tested without a GPU.
 */

import { GpuError, UsageError } from '../errors.js';

/**
 * The kernel families of the design. Every adapter runs `f32` and `f16` (half storage needs no feature); `mma` needs
 * subgroup matrices.
 */
export type KernelFamily = 'f32' | 'f16' | 'mma';

export interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

export interface Capabilities {
  /** The family that was asked for by name, if one was. */
  readonly family?: KernelFamily;
  readonly vendor: string;
  readonly architecture: string;
  /** The card, where the adapter tells; `description` may only be its driver. */
  readonly device: string;
  readonly description: string;
  /** True for an adapter that runs on the CPU: its best tile shapes differ from a GPU's. */
  readonly software: boolean;
  readonly shaderF16: boolean;
  readonly subgroups: boolean;
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  readonly subgroupMatrices: readonly SubgroupMatrixConfig[];
  readonly timestampQuery: boolean;
  readonly maxBufferSizeBytes: number;
  readonly maxBindingSizeBytes: number;
  readonly maxWorkgroupMemoryBytes: number;
  readonly maxInvocationsPerWorkgroup: number;
  readonly maxWorkgroupsPerDimension: number;
  readonly maxStorageBuffersPerStage: number;
  /**
   * What was measured to be fastest here: variant by operator and shape, as `webdino tune` found it (tuning.ts). Plans take
   * the entries that still apply and choose by rule where there are none.
   */
  readonly tuned?: ReadonlyMap<string, string>;
}

/** WebGPU's guaranteed minimum: what a plan may rely on everywhere. Used by tests of `plan()` that have no GPU. */
export const BASELINE_CAPABILITIES: Capabilities = {
  vendor: '',
  architecture: '',
  device: '',
  description: 'WebGPU baseline',
  software: false,
  shaderF16: false,
  subgroups: false,
  subgroupMinSize: 4,
  subgroupMaxSize: 128,
  subgroupMatrices: [],
  timestampQuery: false,
  maxBufferSizeBytes: 256 * 2 ** 20,
  maxBindingSizeBytes: 128 * 2 ** 20,
  maxWorkgroupMemoryBytes: 16384,
  maxInvocationsPerWorkgroup: 256,
  maxWorkgroupsPerDimension: 65535,
  maxStorageBuffersPerStage: 8,
};

/** Optional features the engine asks for where the adapter has them. */
export const WANTED_FEATURES = [
  'shader-f16',
  'subgroups',
  'timestamp-query',
  'chromium-experimental-subgroup-matrix',
] as const;

/** Limits the engine raises to what the adapter offers; WebGPU gives only the defaults unless asked. */
export const WANTED_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupsPerDimension',
  'maxStorageBuffersPerShaderStage',
] as const;

/**
 * The largest subgroup matrices that multiply halves into float32 sums, or undefined. Their sizes are multiples of 8, since
 * kernels hold 8 halves to a vector; and subgroups have one size only, by which kernels divide their work.
 */
export function matrixConfig(caps: Capabilities): SubgroupMatrixConfig | undefined {
  if (!caps.shaderF16 || !caps.subgroups || caps.subgroupMinSize !== caps.subgroupMaxSize) return undefined;
  return caps.subgroupMatrices
    .filter(({ componentType, resultComponentType }) => componentType === 'f16' && resultComponentType === 'f32')
    .filter(({ M, N, K }) => [M, N, K].every((size) => size % 8 === 0))
    .sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K)
    .at(0);
}

/**
 * The capabilities as a family sees them: `f32` and `f16` leave the matrices aside, `mma` demands them.
 * @throws GpuError for `mma` on an adapter without matrices of half operands and float32 sums
 */
export function restrictFamily(caps: Capabilities, family: KernelFamily | undefined): Capabilities {
  if (family === undefined) return caps;
  if (family === 'f32' || family === 'f16') return { ...caps, family, subgroupMatrices: [] };
  if (!matrixConfig(caps)) {
    throw new GpuError(
      `the adapter ${caps.description} has no subgroup matrices of f16 with f32 sums, which the family mma needs; use f16`,
    );
  }
  return { ...caps, family };
}

/**
 * Whether plans should take subgroup matrices: where there are any, but on an adapter that runs on a CPU, for which they are
 * no gain, only when asked for.
 */
export function prefersMatrices(caps: Capabilities): boolean {
  return matrixConfig(caps) !== undefined && (!caps.software || caps.family === 'mma');
}

/** A family by name. @throws UsageError for another name */
export function familyNamed(name: string | undefined): KernelFamily | undefined {
  if (name === undefined || name === '') return undefined;
  if (name === 'f32' || name === 'f16' || name === 'mma') return name;
  throw new UsageError(`the kernel family ${name} is unknown; use f32, f16 or mma`);
}

interface AdapterInfoExtras {
  readonly subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig>;
}

/** Reads the capabilities of an open device; `info` comes from its adapter. */
export function readCapabilities(device: GPUDevice, info: GPUAdapterInfo): Capabilities {
  const limits = device.limits;
  const has = (feature: string): boolean => device.features.has(feature as GPUFeatureName);
  const matrices = (info as GPUAdapterInfo & AdapterInfoExtras).subgroupMatrixConfigs;
  const words = `${info.vendor} ${info.architecture} ${info.device} ${info.description}`.toLowerCase();
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    device: info.device,
    description: info.description || info.device || info.vendor,
    software: info.isFallbackAdapter === true || /llvmpipe|lavapipe|swiftshader/.test(words),
    shaderF16: has('shader-f16'),
    subgroups: has('subgroups'),
    subgroupMinSize: info.subgroupMinSize ?? 4,
    subgroupMaxSize: info.subgroupMaxSize ?? 128,
    subgroupMatrices: has('chromium-experimental-subgroup-matrix') && matrices ? [...matrices] : [],
    timestampQuery: has('timestamp-query'),
    maxBufferSizeBytes: limits.maxBufferSize,
    maxBindingSizeBytes: limits.maxStorageBufferBindingSize,
    maxWorkgroupMemoryBytes: limits.maxComputeWorkgroupStorageSize,
    maxInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
    maxWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
    maxStorageBuffersPerStage: limits.maxStorageBuffersPerShaderStage,
  };
}
