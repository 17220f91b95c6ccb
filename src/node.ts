/** What Node adds to the browser-safe core: an adapter found by itself, shaders read from this package's folder. */

import { Gpu } from './gpu/device.js';
import { type OpenAdapterOptions, openAdapter } from './gpu/node_adapter.js';
import { nodeShaders } from './gpu/node_shaders.js';

export * from './index.js';
export { nodeShaders, openAdapter };

/** Opens the best adapter of this machine (see `webdino doctor`). Throws NoGpuError with the line to run. */
export async function openGpu(options: OpenAdapterOptions = {}): Promise<Gpu> {
  const { adapter, reason } = await openAdapter(options);
  return Gpu.open(adapter, { shaders: nodeShaders(), reason });
}
