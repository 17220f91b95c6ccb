/**
 * What an adapter can do, as the kernels' `plan()` functions see it. A plan is a pure function of its parameters and of
 * this record, so it can be tested without a GPU.
 */

/** The kernel families of the design: every adapter runs `f32`; the others need features. */
export type KernelFamily = 'f32' | 'f16' | 'mma';

export interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

export interface Capabilities {
  readonly vendor: string;
  readonly architecture: string;
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
}

/** WebGPU's guaranteed minimum: what a plan may rely on everywhere. Used by tests of `plan()` that have no GPU. */
export const BASELINE_CAPABILITIES: Capabilities = {
  vendor: '',
  architecture: '',
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
