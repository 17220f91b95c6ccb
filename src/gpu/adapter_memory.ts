/** How much memory there is: of the host, and of the GPU where a tool tells. */

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';

export interface AdapterMemory {
  readonly hostBytes: number;
  readonly hostFreeBytes: number;
  /** Absent where neither the driver's tool nor the kernel tells. */
  readonly gpuBytes?: number;
}

/** @param hardware whether the adapter is a GPU; one that runs on the CPU has the host's memory */
export function adapterMemory(hardware: boolean): AdapterMemory {
  // A container's own limit counts, where there is one; Node gives an absurdly large number where there is none.
  const hostBytes = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  const host = { hostBytes, hostFreeBytes: Math.min(freemem(), hostBytes) };
  return hardware ? { ...host, gpuBytes: gpuMemoryBytes() } : host;
}

/** WebGPU does not say how much memory a GPU has; NVIDIA's tool does, and for AMD's cards Linux. */
function gpuMemoryBytes(): number | undefined {
  try {
    const query = ['--query-gpu=memory.total', '--format=csv,noheader,nounits'];
    const text = execFileSync('nvidia-smi', query, {
      encoding: 'utf8',
      timeout: 5000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const mebibytes = Math.max(...text.trim().split('\n').map(Number));
    if (mebibytes > 0) return mebibytes * 2 ** 20;
  } catch {
    // No NVIDIA driver here.
  }
  try {
    const cards = readdirSync('/sys/class/drm').filter((name) => /^card\d+$/.test(name));
    const sizes = cards.flatMap((card) => {
      try {
        return [Number(readFileSync(`/sys/class/drm/${card}/device/mem_info_vram_total`, 'utf8'))];
      } catch {
        return [];
      }
    });
    return sizes.length > 0 ? Math.max(...sizes) : undefined;
  } catch {
    return undefined;
  }
}

/** A size for people, such as `2.5 GiB`. */
export function formatBytes(count: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = count > 0 ? Math.min(Math.floor(Math.log2(count) / 10), 4) : 0;
  const value = count / 1024 ** power;
  return `${value >= 10 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
