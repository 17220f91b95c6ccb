/** What Node adds to the browser-safe core: an adapter found by itself, shaders and tables read from this package's folder. */

import { familyNamed, type KernelFamily } from './gpu/capabilities.js';
import { Gpu } from './gpu/device.js';
import { type OpenAdapterOptions, openAdapter } from './gpu/node_adapter.js';
import { nodeShaders } from './gpu/node_shaders.js';
import { loadTuned } from './gpu/node_tuning.js';

export * from './index.js';
export { nodeShaders, openAdapter };

export interface OpenGpuOptions extends OpenAdapterOptions {
  /** Default: the environment variable WEBDINO_FAMILY, else the best that the adapter has. */
  readonly family?: KernelFamily;
}

/**
 * Opens the best adapter of this machine (see `webdino doctor`), with the variants that `webdino tune` found fastest on it
 * unless the environment variable WEBDINO_TUNED is `off`. Throws NoGpuError with the line to run.
 */
export async function openGpu(options: OpenGpuOptions = {}): Promise<Gpu> {
  const family = options.family ?? familyNamed(process.env.WEBDINO_FAMILY);
  const { adapter, reason } = await openAdapter({ fast: process.env.WEBDINO_FAST === '1', ...options });
  return Gpu.open(adapter, { shaders: nodeShaders(), reason, family, tuned: loadTuned() });
}
