/** Reads the shaders of this package from its `wgsl/` folder. Node only; a browser build passes a map of texts instead. */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GpuError } from '../errors.js';
import type { ShaderLibrary } from './shaders.js';

/** The folder with package.json and wgsl/: the same from the sources and from `dist/`. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'wgsl', 'gemm.wgsl'))) {
    const parent = dirname(folder);
    if (parent === folder)
      throw new GpuError('the folder wgsl/ is missing from this installation of webdino: install it again');
    folder = parent;
  }
  return folder;
}

export function nodeShaders(): ShaderLibrary {
  const root = join(packageRoot(), 'wgsl');
  const texts = new Map<string, string>();
  return {
    text(file) {
      let text = texts.get(file);
      if (text === undefined) {
        text = readFileSync(join(root, file), 'utf8');
        texts.set(file, text);
      }
      return text;
    },
  };
}
