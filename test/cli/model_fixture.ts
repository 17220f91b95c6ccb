/** A run folder with a tiny trained model and labelled pictures, for the verbs that use a model. */

import { join } from 'node:path';
import sharp from 'sharp';
import { configToYaml, loadConfig } from '../../src/train/config.js';
import { type Entry, writeFolder } from '../data/archives.js';
import { TINY_VIT, tinyFile } from '../eval/tiny_model.js';

/** A picture of one colour with a darker stripe at row `stripe`. */
function colourPng(colour: readonly [number, number, number], stripe: number): Promise<Buffer> {
  const [width, height] = [44, 40];
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const row = Math.floor(i / (3 * width));
    return colour[i % 3] - (row === stripe ? 40 : 0);
  });
  return sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}

const COLOURS = { red: [220, 60, 50], green: [50, 200, 60], blue: [60, 70, 230], grey: [128, 128, 128] } as const;
export type Colour = keyof typeof COLOURS;

/** Writes ROOT/COLOUR/N.png, `each` of every colour. */
export async function writePictures(root: string, colours: readonly Colour[], each: number): Promise<void> {
  const entries: Entry[] = [];
  for (const colour of colours) {
    for (let i = 0; i < each; i++) {
      entries.push([`${colour}/${i}.png`, await colourPng(COLOURS[colour], 3 + ((i * 7) % 30))]);
    }
  }
  writeFolder(root, entries);
}

/** RUN/config.yaml and RUN/checkpoints/step_0000007 with a teacher and another student. Returns RUN. */
export function writeRun(folder: string): string {
  const { imageSize, patchSize, embedDim, depth, numHeads, mlpRatio } = TINY_VIT;
  const config = loadConfig({
    overrides: {
      student: {
        arch: 'custom',
        embed_dim: embedDim,
        depth,
        num_heads: numHeads,
        mlp_ratio: mlpRatio,
        patch_size: patchSize,
      },
      crops: { global_crops_size: imageSize, local_crops_size: 16 },
      evaluation: { resize: 36, crop: imageSize },
    },
  });
  const backbone = (name: string): string => `backbone.${name}`;
  writeFolder(join(folder, 'run'), [
    ['config.yaml', configToYaml(config)],
    ['checkpoints/last.json', JSON.stringify({ checkpoint: 'step_0000007' })],
    ['checkpoints/step_0000007/teacher.safetensors', tinyFile(TINY_VIT, backbone)],
    ['checkpoints/step_0000007/student.safetensors', tinyFile(TINY_VIT, backbone, 6)],
  ]);
  return join(folder, 'run');
}

/** What `body` prints on standard output; what goes to standard error is swallowed. */
export async function outputOf(body: () => Promise<void>): Promise<{ stdout: string; stderr: string }> {
  const printed: string[] = [];
  const noted: string[] = [];
  const { log } = console;
  const { write } = process.stderr;
  console.log = (...values: unknown[]) => void printed.push(values.join(' '));
  process.stderr.write = (text: string | Uint8Array) => {
    noted.push(String(text));
    return true;
  };
  try {
    await body();
  } finally {
    console.log = log;
    process.stderr.write = write;
  }
  return { stdout: printed.join('\n'), stderr: noted.join('') };
}
