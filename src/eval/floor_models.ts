/**
 * Floors as frozen models: what a picture and its patches look like, with nothing learned. A feature that does not beat
 * them on a set has learned nothing that helps there.
 *
 * - Random weights: the same network, never trained.
 * - Raw pixels: CLS is the picture averaged down to at most 12 × 12 cells, without its mean; a patch token is the same of
 *   the patch, at most 8 × 8 cells, with its mean (segments and depths need to know how bright a patch is).
 * - Colour histograms: the share of pixels in each of 4 × 4 × 4 cells of RGB, square roots (so that a dot product is the
 *   Bhattacharyya coefficient), of the picture and of each patch with its eight neighbours.
 */

import { initializeStore } from '../dinov2/initialize.js';
import { type VitConfig, vitParameters } from '../dinov2/vit.js';
import type { Gpu } from '../gpu/device.js';
import { ParameterStore } from '../tensor/parameters.js';
import type { FrozenModel, TokenReader, TokenRequest, Tokens } from './frozen_model.js';
import { checkPixels, checkTokenSize, networkModel } from './network_model.js';

/** Initial LayerScale of a network that is never trained: with the recipes' 1e-5 its blocks would do nothing yet. */
const UNTRAINED_LAYER_SCALE = 1;

const PICTURE_CELLS = 12;
const PATCH_CELLS = 8;
const BINS = 4;

/** Fills one token from the pixels of a rectangle. */
type Describe = (
  pixels: Uint8Array,
  picture: { readonly offset: number; readonly width: number },
  rectangle: { readonly top: number; readonly left: number; readonly height: number; readonly width: number },
  into: Float32Array,
) => void;

interface Floor {
  readonly name: string;
  readonly dim: number;
  /** Patches around a patch that count as its own. */
  readonly border: number;
  readonly describePicture: Describe;
  readonly describePatch: Describe;
}

/** Means over `cells` × `cells` cells of each channel; their mean over all cells is taken away where `centred`. */
function cellMeans(cells: number, centred: boolean): Describe {
  return (pixels, { offset, width }, rectangle, into) => {
    into.fill(0);
    for (let row = 0; row < cells; row++) {
      for (let column = 0; column < cells; column++) {
        const top = rectangle.top + Math.floor((row * rectangle.height) / cells);
        const left = rectangle.left + Math.floor((column * rectangle.width) / cells);
        const bottom = Math.max(rectangle.top + Math.floor(((row + 1) * rectangle.height) / cells), top + 1);
        const right = Math.max(rectangle.left + Math.floor(((column + 1) * rectangle.width) / cells), left + 1);
        const share = 1 / (255 * (bottom - top) * (right - left));
        const at = 3 * (row * cells + column);
        for (let y = top; y < bottom; y++) {
          for (let x = left; x < right; x++) {
            const pixel = offset + 3 * (y * width + x);
            for (let c = 0; c < 3; c++) into[at + c] += share * pixels[pixel + c];
          }
        }
      }
    }
    if (!centred) return;
    const values = 3 * cells * cells;
    const mean = into.subarray(0, values).reduce((a, b) => a + b, 0) / values;
    for (let i = 0; i < values; i++) into[i] -= mean;
  };
}

const histogram: Describe = (pixels, { offset, width }, { top, left, height, width: across }, into) => {
  into.fill(0);
  const share = 1 / (height * across);
  for (let y = top; y < top + height; y++) {
    for (let x = left; x < left + across; x++) {
      const pixel = offset + 3 * (y * width + x);
      let bin = 0;
      for (let c = 0; c < 3; c++) bin = bin * BINS + ((pixels[pixel + c] * BINS) >> 8);
      into[bin] += share;
    }
  }
  for (let i = 0; i < into.length; i++) into[i] = Math.sqrt(into[i]);
};

/** The same network with fresh weights, drawn from the seed. */
export async function randomModel(gpu: Gpu, vit: VitConfig, seed = 0): Promise<FrozenModel> {
  const weights = new ParameterStore(gpu, 'random weights', vitParameters(vit));
  await initializeStore(gpu, weights, { seed, layerScale: UNTRAINED_LAYER_SCALE });
  return networkModel(gpu, { name: 'random weights', vit, weights, floor: true });
}

export function pixelModel(patchSize: number): FrozenModel {
  const cells = Math.min(patchSize, PATCH_CELLS);
  return floorModel(patchSize, {
    name: 'raw pixels',
    dim: 3 * PICTURE_CELLS ** 2,
    border: 0,
    describePicture: cellMeans(PICTURE_CELLS, true),
    describePatch: cellMeans(cells, false),
  });
}

export function histogramModel(patchSize: number): FrozenModel {
  return floorModel(patchSize, {
    name: 'colour histogram',
    dim: BINS ** 3,
    border: 1,
    describePicture: histogram,
    describePatch: histogram,
  });
}

function floorModel(patchSize: number, floor: Floor): FrozenModel {
  return {
    name: floor.name,
    floor: true,
    patchSize,
    dim: floor.dim,
    depth: 1,
    open: async (request) => floorReader(patchSize, floor, request),
    dispose: () => {},
  };
}

/** [n, dim]: the mean over the patches of each picture. */
function patchMeans(patches: Float32Array, n: number, dim: number): Float32Array {
  const means = new Float32Array(n * dim);
  const perPicture = patches.length / (n * dim);
  for (let i = 0; i < n; i++) {
    for (let p = 0; p < perPicture; p++) {
      for (let c = 0; c < dim; c++) means[i * dim + c] += patches[(i * perPicture + p) * dim + c] / perPicture;
    }
  }
  return means;
}

function floorReader(patchSize: number, floor: Floor, request: TokenRequest): TokenReader {
  checkTokenSize(patchSize, request.size);
  const [height, width] = request.size;
  const [rows, columns] = [height / patchSize, width / patchSize];
  const { dim, border } = floor;
  return {
    grid: [rows, columns],
    levels: 1,
    dim,
    read: async (pixels, n): Promise<Tokens> => {
      checkPixels(request, pixels, n);
      const cls = new Float32Array(n * dim);
      const wanted = request.patches || request.mean === true;
      const patches = new Float32Array(wanted ? n * rows * columns * dim : 0);
      for (let i = 0; i < n; i++) {
        const picture = { offset: i * height * width * 3, width };
        const whole = { top: 0, left: 0, height, width };
        floor.describePicture(pixels, picture, whole, cls.subarray(i * dim, (i + 1) * dim));
        if (!wanted) continue;
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < columns; column++) {
            const top = Math.max(row - border, 0) * patchSize;
            const left = Math.max(column - border, 0) * patchSize;
            const bottom = Math.min(row + 1 + border, rows) * patchSize;
            const right = Math.min(column + 1 + border, columns) * patchSize;
            const at = ((i * rows + row) * columns + column) * dim;
            const rectangle = { top, left, height: bottom - top, width: right - left };
            floor.describePatch(pixels, picture, rectangle, patches.subarray(at, at + dim));
          }
        }
      }
      return {
        cls: [cls],
        patches: request.patches ? [patches] : [],
        mean: request.mean ? patchMeans(patches, n, dim) : undefined,
      };
    },
    dispose: () => {},
  };
}
