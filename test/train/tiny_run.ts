/** A run small enough for a test: 2 blocks of width 32, 4 patches of 8 px, generated pictures, 6 steps. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CorruptPicture } from '../../src/data/picture.js';
import type { ImageSource } from '../../src/data/source.js';
import { loadConfig, type ResolvedConfig } from '../../src/train/config.js';
import { noise } from '../fixture.js';

/** `key=value`, as `--set` takes them. */
export const TINY: readonly string[] = [
  'dino={head_n_prototypes: 48, head_bottleneck_dim: 16, head_nlayers: 2, head_hidden_dim: 32, koleo_loss_weight: 0.1}',
  'train={batch_size_per_gpu: 4, num_workers: 0, steps: 6, centering: sinkhorn_knopp, seed: 5}',
  'train={log_period: 2, checkpoint_period: 2, checkpoint_keep: 10}',
  'student={arch: custom, embed_dim: 32, depth: 2, num_heads: 2, mlp_ratio: 2, patch_size: 8}',
  'student={drop_path_rate: 0.3, layerscale: 1}',
  'optim={epochs: 3, warmup_epochs: 1, freeze_last_layer_epochs: 1, base_lr: 0.02}',
  'crops={local_crops_number: 2, global_crops_size: 32, local_crops_size: 16}',
  'teacher={warmup_teacher_temp_epochs: 1}',
  'evaluation={eval_period_iterations: 0, resize: 32, crop: 32}',
];

export function tinyConfig(...changes: readonly string[]): ResolvedConfig {
  return loadConfig({ set: [...TINY, ...changes] });
}

/** Generated pictures of two classes; `bad` ones cannot be read. */
export function tinySource(length = 12, bad: readonly number[] = []): ImageSource {
  const side = 40;
  return {
    path: 'generated',
    length,
    classNames: ['a', 'b'],
    name: (index) => `${index % 2 ? 'b' : 'a'}/${index}.png`,
    label: (index) => index % 2,
    pixels: (index) => {
      if (bad.includes(index)) throw new CorruptPicture(`${index}.png`, 'is truncated');
      const data = Uint8Array.from(
        noise(side * side * 3, index),
        (value, i) => 128 + 90 * value * (i % 2 === index % 2 ? 1 : 0.2),
      );
      return { width: side, height: side, data };
    },
    read: () => Promise.reject(new Error('these pictures are pixels')),
    close: async () => {},
  };
}

export async function inTemporaryFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'webdino-train-'));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Names of the files of a folder whose bytes differ from those in another, and how many are compared. */
export function differingFiles(a: string, b: string): { compared: number; differing: string[] } {
  const names = [...new Set([...readdirSync(a), ...readdirSync(b)])].sort();
  const differing = names.filter((name) => !readFileSync(join(a, name)).equals(readFileSync(join(b, name))));
  return { compared: names.length, differing };
}
