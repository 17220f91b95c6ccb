/** The `components` golden cases, outputs of the reference PyTorch modules, from a folder beside the project if there. */

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { readSafetensors } from '../../src/io/safetensors.js';

export const COMPONENT_CASES = ['components_small', 'components_wide'] as const;

export interface ComponentGoldens {
  /** Rows, prototypes and feature dimensions of the case. */
  readonly B: number;
  readonly K: number;
  readonly D: number;
  readonly expected: (tensor: string) => Float32Array;
}

/** undefined where the folder `../shared/goldens` is absent. */
export function componentGoldens(name: string): ComponentGoldens | undefined {
  const path = fileURLToPath(new URL(`../../../shared/goldens/${name}.safetensors`, import.meta.url));
  if (!existsSync(path)) return undefined;
  const file = readSafetensors(readFileSync(path));
  const { B, K, D } = JSON.parse(file.metadata.case) as { B: number; K: number; D: number };
  return { B, K, D, expected: (tensor) => file.float32(tensor) };
}

/** What a test that needs the goldens says when it skips. */
export const NO_GOLDENS = 'no golden cases in ../shared/goldens beside the project';

/** The bound of the golden cases: 1e-4 + 1e-3 max|reference|. */
export const GOLDEN_TOLERANCE = { absolute: 1e-4, relative: 1e-3 };
