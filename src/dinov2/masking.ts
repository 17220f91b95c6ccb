/**
 * Which patches of the global crops the student does not see: the block masks of BEiT as DINOv2 draws them (spec §3.2),
 * and the index lists the iBOT loss works on (spec §3.3). Plain arithmetic, no Node.
 */
import { WebdinoError } from '../errors.js';

/** The random numbers masks are made of; a counter-based generator makes them repeatable. */
export interface MaskRandom {
  /** Uniform over [lo, hi); spans [hi, lo] if hi < lo. */
  uniform(lo: number, hi: number): number;
  /** Uniform over the integers lo…hi, both included. */
  integer(lo: number, hi: number): number;
  /** A random order of 0…n−1. */
  permutation(n: number): Uint32Array;
}

/** Patches of a crop: rows, columns. */
export type Grid = readonly [height: number, width: number];

/** Smallest area a block is drawn for, in patches. */
const MIN_BLOCK_PATCHES = 4;

/** Tries for one block before the mask is left as it is. */
const BLOCK_ATTEMPTS = 10;

const LOG_ASPECT_LOW = Math.log(0.3);
const LOG_ASPECT_HIGH = Math.log(1 / 0.3);

/**
 * Largest block: `0.5·S // P · S // P` with the floor divisions in the official order, where S is the crop and P the
 * patch. Odd grids therefore get less than half: 37 × 37 gives 666, not 684.
 */
export function maxBlockPatches([height, width]: Grid): number {
  return Math.floor(0.5 * height) * width;
}

/** Python's `round`: halves go to the even neighbour. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/**
 * Sets cells of one rectangle in `mask` and returns how many were new; 0 if ten tries found none that fits strictly
 * inside the grid and adds between 1 and `most` cells.
 */
function addBlock(mask: Uint8Array, [height, width]: Grid, most: number, random: MaskRandom): number {
  for (let attempt = 0; attempt < BLOCK_ATTEMPTS; attempt++) {
    const area = random.uniform(MIN_BLOCK_PATCHES, most);
    const aspect = Math.exp(random.uniform(LOG_ASPECT_LOW, LOG_ASPECT_HIGH));
    const h = roundHalfEven(Math.sqrt(area * aspect));
    const w = roundHalfEven(Math.sqrt(area / aspect));
    if (w >= width || h >= height) continue;
    const top = random.integer(0, height - h);
    const left = random.integer(0, width - w);
    let masked = 0;
    for (let y = top; y < top + h; y++) for (let x = left; x < left + w; x++) masked += mask[y * width + x];
    const added = h * w - masked;
    if (added < 1 || added > most) continue;
    for (let y = top; y < top + h; y++) mask.fill(1, y * width + left, y * width + left + w);
    return added;
  }
  return 0;
}

/**
 * Draws the mask of one crop: blocks until `target` patches are masked or no further block fits, so at most `target`
 * and usually exactly that.
 * @param out `[height·width]`, zeros; set to 1 where masked
 * @returns how many patches are masked
 */
export function generateBlockMask(out: Uint8Array, grid: Grid, target: number, random: MaskRandom): number {
  const largest = maxBlockPatches(grid);
  let count = 0;
  while (count < target) {
    const added = addBlock(out, grid, Math.min(target - count, largest), random);
    if (added === 0) break;
    count += added;
  }
  return count;
}

/** How masks are spread over a batch of global crops. */
export interface MaskSettings {
  /** Global crops in the batch: 2·B. */
  readonly batch2: number;
  readonly grid: Grid;
  /** Share of the crops that get a mask (official 0.5). */
  readonly sampleProbability: number;
  /** Share of a masked crop's patches, stratified between these (official 0.1 and 0.5). */
  readonly ratioMin: number;
  readonly ratioMax: number;
}

/** `linspace(ratioMin, ratioMax, masked + 1)` in float32, as PyTorch spaces it: from both ends towards the middle. */
function ratioEdges({ batch2, sampleProbability, ratioMin, ratioMax }: MaskSettings): Float32Array {
  const intervals = Math.trunc(batch2 * sampleProbability);
  const edges = new Float32Array(intervals + 1);
  const low = Math.fround(ratioMin);
  const high = Math.fround(ratioMax);
  const step = Math.fround(Math.fround(high - low) / Math.max(intervals, 1));
  const halfway = Math.floor(edges.length / 2);
  for (let i = 0; i <= intervals; i++) {
    edges[i] = i < halfway ? low + Math.fround(step * i) : high - Math.fround(step * (intervals - i));
  }
  return edges;
}

/** `int(N · ratio)`, the product in float32. */
function targetPatches(patches: number, ratio: number): number {
  return Math.trunc(Math.fround(patches * Math.fround(ratio)));
}

/**
 * Most patches that a batch of these settings can have masked: the sum of each crop's upper edge. It depends on the
 * settings alone, so it is the shape that recorded steps are made for.
 */
export function maskUpperbound(settings: MaskSettings): number {
  const patches = settings.grid[0] * settings.grid[1];
  return ratioEdges(settings)
    .subarray(1)
    .reduce((sum, edge) => sum + targetPatches(patches, edge), 0);
}

/** Masks of a batch and what the iBOT loss needs of them. N is the number of patches of a crop. */
export interface MaskBatch {
  /** `[2B·N]`: 1 where masked. */
  readonly masks: Uint8Array;
  /** `[upperbound]`: places of the masked patches in `[2B·N]`, ascending; 0 beyond `count`. */
  readonly maskIndices: Uint32Array;
  /** `[upperbound]`: 1 / (masked patches of the same crop); 0 beyond `count`. */
  readonly masksWeight: Float32Array;
  /** Masked patches in the batch. */
  readonly count: number;
  readonly upperbound: number;
}

/**
 * Indices and weights of given masks.
 * @param masks `[2B·N]`, 1 where masked
 * @param patches N
 * @throws WebdinoError if more patches are masked than `upperbound`
 */
export function collateFromMasks(masks: Uint8Array, patches: number, upperbound: number): MaskBatch {
  const maskIndices = new Uint32Array(upperbound);
  const masksWeight = new Float32Array(upperbound);
  let count = 0;
  for (let start = 0; start < masks.length; start += patches) {
    const first = count;
    for (let i = start; i < start + patches; i++) {
      if (masks[i] === 0) continue;
      // Counted on past the end, so that the message below can give the number.
      if (count < upperbound) maskIndices[count] = i;
      count++;
    }
    masksWeight.fill(1 / (count - first), first, count);
  }
  if (count > upperbound) {
    throw new WebdinoError(`${count} patches are masked, but the step was recorded for at most ${upperbound}`);
  }
  return { masks, maskIndices, masksWeight, count, upperbound };
}

/**
 * No crop masked and every patch in the loss, each crop's weights summing to 1: a step of distillation (spec §5).
 * @param crops 2B
 * @param patches N
 */
export function everyPatch(crops: number, patches: number): MaskBatch {
  const count = crops * patches;
  return {
    masks: new Uint8Array(count),
    maskIndices: Uint32Array.from({ length: count }, (_, i) => i),
    masksWeight: new Float32Array(count).fill(1 / patches),
    count,
    upperbound: count,
  };
}

/**
 * Draws the masks of a batch: `int(2B · sampleProbability)` crops get one, with ratios stratified over
 * [ratioMin, ratioMax] (crop i draws from the i-th of equal intervals), the others none; which crops is random.
 */
export function collateMasks(settings: MaskSettings, random: MaskRandom): MaskBatch {
  const { batch2, grid } = settings;
  const patches = grid[0] * grid[1];
  const edges = ratioEdges(settings);
  const masks = new Uint8Array(batch2 * patches);
  const order = random.permutation(batch2);
  for (let i = 0; i + 1 < edges.length; i++) {
    const target = targetPatches(patches, random.uniform(edges[i], edges[i + 1]));
    const start = order[i] * patches;
    generateBlockMask(masks.subarray(start, start + patches), grid, target, random);
  }
  return collateFromMasks(masks, patches, maskUpperbound(settings));
}
