/**
 * Principal components of pixels as a floor that is fitted: what a linear compression learns from the same pictures. CLS is
 * the projection of a small picture, a patch token that of the patch, each on the leading components of its own kind.
 *
 * Scores are half whitened, each divided by the root of its standard deviation: between the plain ones, of which a few tell
 * almost everything, and equal ones, where noise counts as much as shape. As neighbours these are the better features.
 */

import { evaluationBatches } from '../data/evaluation_loader.js';
import { CounterRandom, RandomPurpose } from '../data/random.js';
import type { ImageSource } from '../data/source.js';
import { DataError } from '../errors.js';
import { pixelModel } from './floor_models.js';
import type { FrozenModel, TokenReader, Tokens } from './frozen_model.js';
import { type Pca, pca, project } from './pca.js';

export interface PcaModelOptions {
  readonly patchSize: number;
  /** Pixels: centre crop (a multiple of the patch size), and shorter side before it. */
  readonly crop: number;
  readonly resize: number;
  /** Which pictures may be fitted to. Default: all. */
  readonly indices?: readonly number[];
  readonly seed?: number;
}

/** Values of a token; fewer components leave zeros. */
const COMPONENTS = 64;
/** Pictures, and patches of them, that are fitted to. */
const MOST_PICTURES = 512;
const MOST_PATCHES = 8192;
const BATCH = 64;

/**
 * Fits to a sample of the pictures, the same for one seed.
 * @throws DataError for fewer than two usable pictures
 */
export async function pcaOfPixelsModel(source: ImageSource, options: PcaModelOptions): Promise<FrozenModel> {
  const { patchSize, crop, resize, seed = 0 } = options;
  const all = options.indices ?? Array.from({ length: source.length }, (_, i) => i);
  const random = new CounterRandom(seed, RandomPurpose.fit);
  const chosen = [...random.permutation(all.length).subarray(0, MOST_PICTURES)].sort((a, b) => a - b);
  const pixels = pixelModel(patchSize);
  const request = { size: [crop, crop], batch: BATCH, blocks: [0], norm: true, patches: true } as const;
  const reader = await pixels.open(request);
  const perPicture = Math.max(Math.floor(MOST_PATCHES / Math.max(chosen.length, 1)), 1);
  const cls: Float32Array[] = [];
  const patches: Float32Array[] = [];
  try {
    const batches = evaluationBatches(source, { resize, crop, batchSize: BATCH, indices: chosen.map((i) => all[i]) });
    for await (const { pixels: bytes, indices } of batches) {
      const tokens = await reader.read(bytes, indices.length);
      cls.push(tokens.cls[0]);
      patches.push(sampledRows(tokens.patches[0], indices.length, pixels.dim, perPicture, random));
    }
  } finally {
    reader.dispose();
    pixels.dispose();
  }
  const [ofPictures, ofPatches] = [cls, patches].map((parts) => fit(parts, pixels.dim, source.path));
  return {
    name: 'PCA of pixels',
    floor: true,
    patchSize,
    dim: COMPONENTS,
    depth: 1,
    open: async (wanted) => {
      const base = pixelModel(patchSize);
      return new PcaReader(await base.open(wanted), ofPictures, ofPatches);
    },
    dispose: () => {},
  };
}

/** Up to `count` different rows of each picture. @param tokens [pictures, rows, dim] */
function sampledRows(
  tokens: Float32Array,
  pictures: number,
  dim: number,
  count: number,
  random: CounterRandom,
): Float32Array {
  const rows = tokens.length / (pictures * dim);
  const kept = Math.min(count, rows);
  const out = new Float32Array(pictures * kept * dim);
  for (let picture = 0; picture < pictures; picture++) {
    random
      .permutation(rows)
      .subarray(0, kept)
      .forEach((row, i) => {
        const from = (picture * rows + row) * dim;
        out.set(tokens.subarray(from, from + dim), (picture * kept + i) * dim);
      });
  }
  return out;
}

/** Columns behind the last one that any row uses cost time and tell nothing. */
interface Fitted {
  readonly used: number;
  readonly pca: Pca;
  /** What each score is multiplied by; the first one gets variance 1. */
  readonly scale: Float64Array;
}

function fit(parts: readonly Float32Array[], dim: number, path: string): Fitted {
  const rows = parts.reduce((sum, part) => sum + part.length / dim, 0);
  if (rows < 2) throw new DataError(`${path}: principal components of pixels need two pictures, there are ${rows}`);
  let used = 1;
  for (const part of parts) {
    for (let i = 0; i < part.length; i++) if (part[i] !== 0) used = Math.max(used, (i % dim) + 1);
  }
  const packed = new Float32Array(rows * used);
  let row = 0;
  for (const part of parts) {
    for (let from = 0; from < part.length; from += dim) packed.set(part.subarray(from, from + used), used * row++);
  }
  const components = pca(packed, rows, used, Math.min(COMPONENTS, rows - 1));
  const [first] = components.variances;
  // A direction without variance tells nothing and must not be blown up.
  const scale = components.variances.map((variance) => (variance > 1e-8 * first ? (variance * first) ** -0.25 : 0));
  return { used, pca: components, scale };
}

class PcaReader implements TokenReader {
  readonly grid: readonly [number, number];
  readonly levels = 1;
  readonly dim = COMPONENTS;

  constructor(
    private readonly base: TokenReader,
    private readonly ofPictures: Fitted,
    private readonly ofPatches: Fitted,
  ) {
    this.grid = base.grid;
  }

  async read(pixels: Uint8Array, n: number): Promise<Tokens> {
    const { cls, patches, mean } = await this.base.read(pixels, n);
    return {
      cls: cls.map((rows) => this.projected(this.ofPictures, rows)),
      patches: patches.map((rows) => this.projected(this.ofPatches, rows)),
      // A projection is linear: that of the mean is the mean of those.
      ...(mean ? { mean: this.projected(this.ofPatches, mean) } : {}),
    };
  }

  private projected({ used, pca: components, scale }: Fitted, tokens: Float32Array): Float32Array {
    const rows = tokens.length / this.base.dim;
    const packed = new Float32Array(rows * used);
    for (let row = 0; row < rows; row++) {
      packed.set(tokens.subarray(row * this.base.dim, row * this.base.dim + used), row * used);
    }
    const count = components.variances.length;
    const scores = project(components, packed, rows);
    const out = new Float32Array(rows * COMPONENTS);
    for (let i = 0; i < scores.length; i++) {
      out[Math.floor(i / count) * COMPONENTS + (i % count)] = scores[i] * scale[i % count];
    }
    return out;
  }

  dispose(): void {
    this.base.dispose();
  }
}
