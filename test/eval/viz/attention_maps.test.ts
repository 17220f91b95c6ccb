/** Attention maps of a tiny network against the same computed in float64, and pictures of many shapes at once. */

import test from 'tape';
import { UsageError } from '../../../src/errors.js';
import { FeatureExtractor } from '../../../src/eval/features.js';
import { attentionMaps, meanMap } from '../../../src/eval/viz/attention_maps.js';
import type { Frame } from '../../../src/eval/viz/frames.js';
import { runPacked } from '../../../src/eval/viz/packed_frames.js';
import { patchGrids } from '../../../src/eval/viz/patch_grids.js';
import { layerNorm } from '../../../src/tensor/layer_norm.js';
import type { ParameterStore } from '../../../src/tensor/parameters.js';
import { startOfGroup } from '../../../src/tensor/sequences.js';
import { allClose, testGpu } from '../../fixture.js';
import * as oracle from '../../oracle/cls_attention.js';
import { TINY_VIT, tinyStore, tinyWeights } from '../tiny_model.js';

const VIT = { ...TINY_VIT, numHeads: 2, registers: 3 };

function frame(width: number, height: number, seed: number): Frame {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 31 + (i >> 4) * seed * 7 + seed) % 256);
  const image = { width, height, data };
  const box = { x: 0, y: 0, width, height };
  return { name: `${seed}.png`, index: seed, label: undefined, image, display: image, original: image, box };
}

/** The maps of each picture's block in float64, from the normalised tokens that go into its attention. */
async function exactMaps(block: number, weights: ParameterStore, frames: readonly Frame[]): Promise<Float64Array[]> {
  const name = `blocks.${block}`;
  const normed = await runPacked(
    await testGpu(),
    { vit: VIT, weights },
    frames,
    { dtype: 'f32', tokens: 1000 },
    {
      depth: block,
      record: (graph, backbone, tokens, sequences) =>
        sequences.map(({ count, length }, g) => {
          const start = startOfGroup(sequences, g);
          const rows = Uint32Array.from({ length: count * length }, (_, r) => start + r);
          const index = graph.program.constant(`rows ${g}`, [rows.length], rows);
          return layerNorm(graph, tokens, backbone.get(`${name}.norm1.weight`), backbone.get(`${name}.norm1.bias`), {
            index,
          });
        }),
    },
  );
  const D = VIT.embedDim;
  const [matrix, bias] = ['weight', 'bias'].map((part) => tinyWeights(VIT).get(`${name}.attn.qkv.${part}`)!);
  return normed.map((x) => {
    const rows = x.length / D;
    const qkv = Float64Array.from({ length: rows * 3 * D }, (_, i) => {
      const [r, o] = [Math.floor(i / (3 * D)), i % (3 * D)];
      let sum = bias[o];
      for (let c = 0; c < D; c++) sum += x[r * D + c] * matrix[o * D + c];
      return sum;
    });
    return oracle.clsAttention(qkv, VIT.numHeads, D / VIT.numHeads, 1, rows);
  });
}

test('attentionMaps: the weights of each head, for pictures of different shapes', async (t) => {
  const gpu = await testGpu();
  const frames = [frame(32, 24, 1), frame(16, 40, 2), frame(32, 24, 3)];
  const weights = await tinyStore(VIT);
  const maps = await attentionMaps(gpu, { vit: VIT, weights }, frames, { dtype: 'f32', tokens: 1000 });
  const exact = await exactMaps(1, weights, frames);
  for (const [i, { image }] of frames.entries()) {
    const { heads, rows, columns, patches, cls, registers } = maps[i];
    const area = rows * columns;
    t.deepEqual([heads, rows * 8, columns * 8], [2, image.height, image.width], 'heads and grid');
    const joined = Array.from({ length: heads }, (_, h) => [
      cls[h],
      ...registers.subarray(h * 3, (h + 1) * 3),
      ...patches.subarray(h * area, (h + 1) * area),
    ]);
    allClose(t, joined.flat(), exact[i], `picture ${i}: the last block's weights`);
    const sums = joined.map((values) => values.reduce((sum, value) => sum + value, 0));
    allClose(t, sums, [1, 1], `picture ${i}: a head's weights sum to 1`);
    const expected = Array.from({ length: area }, (_, p) => (patches[p] + patches[area + p]) / 2);
    allClose(t, meanMap(maps[i]), expected, 'mean of the heads');
  }
  try {
    await attentionMaps(gpu, { vit: VIT, weights }, frames, { dtype: 'f32', tokens: 1, block: 2 });
    t.fail('block 2 of 2 was taken');
  } catch (error) {
    t.ok(error instanceof UsageError && /blocks 0 to 1/.test(error.message), (error as Error).message);
  }
  weights.dispose();
});

test('patchGrids: packed pictures have the features that they have alone', async (t) => {
  const gpu = await testGpu();
  const weights = await tinyStore(VIT);
  const model = { vit: VIT, weights };
  const [wide, tall, other, third] = [frame(24, 16, 1), frame(16, 24, 2), frame(24, 16, 5), frame(24, 16, 6)];
  const together = await patchGrids(gpu, model, [wide, tall], { dtype: 'f32', tokens: 1000 });
  const progress: number[] = [];
  // Two pictures at a time: the last one goes through the program of the first two, padded.
  const inTwos = await patchGrids(gpu, model, [wide, other, third], {
    dtype: 'f32',
    tokens: 2 * (1 + 3 + 6),
    onProgress: (done) => progress.push(done),
  });
  t.deepEqual(progress, [2, 3], 'chunks');
  for (const [[height, width], pairs] of [
    [
      [16, 24],
      [[wide, together[0]] as const, [wide, inTwos[0]] as const, [third, inTwos[2]] as const],
    ],
    [[24, 16], [[tall, together[1]] as const]],
  ] as const) {
    const extractor = new FeatureExtractor(gpu, { vit: VIT, weights, batch: 1, size: [height, width], patches: true });
    await extractor.compile();
    for (const [{ image, name }, { rows, columns, features }] of pairs) {
      t.deepEqual([rows, columns], [height / 8, width / 8], 'grid');
      allClose(t, features, await extractor.tokens(image.data, 1), `features of ${name}`);
    }
    extractor.dispose();
  }
  weights.dispose();
});
