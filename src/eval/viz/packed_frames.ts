/**
 * Pictures of any shapes through a network, packed: one program takes many sizes at once (spec §1.8), so that its kernels are
 * compiled once and not for every shape of picture.
 */

import { type VitConfig, vitForward, type Weights, weightsOf } from '../../dinov2/vit.js';
import type { Gpu } from '../../gpu/device.js';
import { Program } from '../../gpu/program.js';
import type { Storage, Tensor } from '../../gpu/tensor.js';
import { Graph } from '../../tensor/graph.js';
import type { PackedSequences } from '../../tensor/sequences.js';
import type { LoadedModel } from '../model_file.js';
import type { Frame } from './frames.js';

export interface DenseOptions {
  readonly dtype: Storage;
  /** Most tokens at a time, more only where one picture has them. */
  readonly tokens: number;
  readonly onProgress?: (done: number) => void;
}

/** What is recorded behind the network. */
export interface PackedRecording {
  /** Blocks that are run. Default: all. */
  readonly depth?: number;
  /** @returns the result of each group of `sequences`, [count of the group, values of a picture] */
  readonly record: (graph: Graph, weights: Weights, tokens: Tensor, sequences: PackedSequences) => readonly Tensor[];
}

/** Frames of one size in a chunk, by their places. */
interface SizeGroup {
  readonly height: number;
  readonly width: number;
  readonly members: number[];
}

/**
 * @returns the values of each frame, in the order of the frames
 */
export async function runPacked(
  gpu: Gpu,
  model: LoadedModel,
  frames: readonly Frame[],
  options: DenseOptions,
  recording: PackedRecording,
): Promise<Float32Array[]> {
  const results: Float32Array[] = new Array(frames.length);
  let network: PackedNetwork | undefined;
  let done = 0;
  try {
    for (const chunk of chunks(frames, model.vit, options.tokens)) {
      if (!network?.holds(chunk)) {
        network?.dispose();
        network = new PackedNetwork(gpu, model, chunk, options.dtype, recording);
        await network.compile();
      }
      await network.run(chunk, frames, results);
      done += chunk.reduce((sum, { members }) => sum + members.length, 0);
      options.onProgress?.(done);
    }
  } finally {
    network?.dispose();
  }
  return results;
}

/** Frames in their order, as many as `most` tokens hold; those of a chunk by size. */
function chunks(frames: readonly Frame[], vit: VitConfig, most: number): SizeGroup[][] {
  const all: SizeGroup[][] = [];
  let tokens = Number.POSITIVE_INFINITY;
  frames.forEach(({ image: { height, width } }, i) => {
    const own = 1 + vit.registers + (height * width) / vit.patchSize ** 2;
    tokens += own;
    if (tokens > most) {
      all.push([]);
      tokens = own;
    }
    const chunk = all[all.length - 1];
    const group = chunk.find((one) => one.height === height && one.width === width);
    if (group) group.members.push(i);
    else chunk.push({ height, width, members: [i] });
  });
  return all;
}

/** One program for certain numbers of pictures of certain sizes. */
class PackedNetwork {
  private readonly program: Program;
  private readonly pixels: readonly Tensor[];
  private readonly outputs: readonly Tensor[];

  constructor(
    gpu: Gpu,
    private readonly model: LoadedModel,
    private readonly groups: readonly SizeGroup[],
    dtype: Storage,
    { depth = model.vit.depth, record }: PackedRecording,
  ) {
    const { vit, weights } = model;
    if (dtype === 'f16') weights.makeHalf();
    const program = new Program(gpu, 'packed pictures');
    this.program = program;
    this.pixels = groups.map(({ height, width, members }, g) =>
      program.input(`pixels ${g}`, [Math.ceil((members.length * height * width * 3) / 4)], 'u32'),
    );
    const graph = new Graph(program, dtype);
    const backbone = weightsOf(weights);
    this.outputs = graph.withoutGradient(() => {
      const crops = groups.map(({ height, width, members }, g) => {
        return { pixels: this.pixels[g], bytes: true, count: members.length, height, width };
      });
      const { tokens, sequences } = vitForward(graph, { ...vit, depth }, backbone, crops);
      return record(graph, backbone, tokens, sequences).map((output) => program.keep(output));
    });
  }

  async compile(): Promise<void> {
    await this.model.weights.refreshHalf();
    await this.program.compile();
  }

  /** The group of this program that takes one of a chunk. */
  private placeOf({ height, width, members }: SizeGroup): number {
    return this.groups.findIndex(
      (own) => own.height === height && own.width === width && own.members.length >= members.length,
    );
  }

  /** Whether a chunk goes through this program, padded where it is smaller. */
  holds(chunk: readonly SizeGroup[]): boolean {
    return chunk.every((group) => this.placeOf(group) >= 0);
  }

  async run(chunk: readonly SizeGroup[], frames: readonly Frame[], results: Float32Array[]): Promise<void> {
    const places = chunk.map((group) => this.placeOf(group));
    chunk.forEach(({ height, width, members }, c) => {
      const input = this.pixels[places[c]];
      const bytes = new Uint8Array(input.sizeBytes);
      members.forEach((frame, i) => {
        bytes.set(frames[frame].image.data, i * height * width * 3);
      });
      this.program.write(input, bytes);
    });
    this.program.run();
    const read = (await this.program.readAll(places.map((place) => this.outputs[place]))) as Float32Array[];
    chunk.forEach(({ members }, c) => {
      const values = this.outputs[places[c]].elements / this.groups[places[c]].members.length;
      members.forEach((frame, i) => {
        results[frame] = read[c].slice(i * values, (i + 1) * values);
      });
    });
  }

  dispose(): void {
    this.program.dispose();
  }
}
