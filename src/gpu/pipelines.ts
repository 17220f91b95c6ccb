/** Compiled kernels, keyed by file and prelude. A kernel that fails to compile names its file and line. */

import { GpuError } from '../errors.js';
import { ShaderStage } from './constants.js';
import type { KernelPlan } from './kernel_plan.js';
import { assembleShader, type ShaderLibrary } from './shaders.js';

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

export function kernelName(plan: KernelPlan): string {
  return plan.shader.replace(/\.wgsl$/, '');
}

export class PipelineCache {
  private readonly compiled = new Map<string, Promise<Pipeline>>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();

  constructor(
    private readonly device: GPUDevice,
    private readonly shaders: ShaderLibrary,
  ) {}

  /** Kernels compiled so far, as `file` plus prelude: what a test run can report as its WGSL coverage. */
  get keys(): string[] {
    return [...this.compiled.keys()];
  }

  /** The key under which a plan's pipeline is kept: two plans with one key share a pipeline. */
  static key(plan: KernelPlan): string {
    return `${plan.shader} ${(plan.includes ?? []).join(' ')} ${JSON.stringify(plan.prelude)} ${plan.bindings.join(' ')}`;
  }

  get(plan: KernelPlan): Promise<Pipeline> {
    const key = PipelineCache.key(plan);
    let entry = this.compiled.get(key);
    if (!entry) {
      entry = this.compile(plan);
      entry.catch(() => this.compiled.delete(key));
      this.compiled.set(key, entry);
    }
    return entry;
  }

  private layout(plan: KernelPlan): GPUBindGroupLayout {
    const key = plan.bindings.join(' ');
    let layout = this.layouts.get(key);
    if (!layout) {
      layout = this.device.createBindGroupLayout({
        label: key,
        entries: plan.bindings.map((access, binding) => ({
          binding,
          visibility: ShaderStage.COMPUTE,
          buffer: { type: access === 'read' ? ('read-only-storage' as const) : ('storage' as const) },
        })),
      });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  private async compile(plan: KernelPlan): Promise<Pipeline> {
    const label = kernelName(plan);
    const { code, origin } = assembleShader(this.shaders, plan.shader, plan.prelude, plan.includes);
    // The errors of a bad module surface through getCompilationInfo; this scope keeps them from being reported twice.
    this.device.pushErrorScope('validation');
    const module = this.device.createShaderModule({ code, label });
    const layout = this.layout(plan);
    const pipelineLayout = this.device.createPipelineLayout({ label, bindGroupLayouts: [layout] });
    const scope = this.device.popErrorScope();
    const messages = (await module.getCompilationInfo()).messages.filter((m) => m.type === 'error');
    if (messages.length > 0) {
      const text = messages.map((m) => {
        const at = origin[Math.max(m.lineNum - 1, 0)] ?? { file: plan.shader, line: m.lineNum };
        return `${at.file}:${at.line}: ${m.message}`;
      });
      await scope;
      throw new GpuError(
        `the kernel ${label} does not compile:\n  ${text.join('\n  ')}\n  prelude ${JSON.stringify(plan.prelude)}`,
      );
    }
    const error = await scope;
    if (error) throw new GpuError(`the kernel ${label} is refused: ${error.message}`);
    try {
      const pipeline = await this.device.createComputePipelineAsync({
        label,
        layout: pipelineLayout,
        compute: { module },
      });
      return { pipeline, layout };
    } catch (cause) {
      throw new GpuError(
        `the kernel ${label} cannot run here: ${(cause as Error).message}\n  prelude ${JSON.stringify(plan.prelude)}`,
        { cause },
      );
    }
  }
}
