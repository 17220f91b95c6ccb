import test from 'tape';
import { headParameters } from '../../src/dinov2/head.js';
import { dropPathRates, keptSequences } from '../../src/dinov2/ssl.js';
import {
  feedForwardNamed,
  finalNorm,
  swigluHidden,
  VIT_SIZES,
  type VitConfig,
  vitForward,
  vitParameters,
  weightsOf,
} from '../../src/dinov2/vit.js';
import { Program } from '../../src/gpu/program.js';
import { goldenParameter } from '../../src/io/golden_hash.js';
import { Graph } from '../../src/tensor/graph.js';
import { type ParameterSpec, ParameterStore } from '../../src/tensor/parameters.js';
import { allClose, noise, testGpu } from '../fixture.js';

const BASE: VitConfig = {
  imageSize: 518,
  patchSize: 14,
  ...VIT_SIZES.vit_small,
  feedForward: 'mlp',
  qkvBias: true,
  projBias: true,
  ffnBias: true,
  layerScale: 1,
  registers: 0,
  interpolateOffset: 0.1,
  interpolateAntialias: false,
};

const count = (specs: readonly ParameterSpec[]): number =>
  specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

test('parameter counts of the published models', (t) => {
  const of = (size: keyof typeof VIT_SIZES, more: Partial<VitConfig> = {}): number =>
    count(vitParameters({ ...BASE, ...VIT_SIZES[size], ...more }));
  t.equal(of('vit_small'), 22_056_576);
  t.equal(of('vit_small', { registers: 4 }), 22_058_112);
  t.equal(of('vit_base'), 86_580_480);
  t.equal(of('vit_base', { registers: 4 }), 86_583_552);
  t.equal(of('vit_large'), 304_368_640);
  t.equal(of('vit_large', { feedForward: 'swiglu' }), 304_794_880);
  t.equal(of('vit_giant2', { feedForward: 'swiglu' }), 1_136_480_768);
  t.equal(of('vit_small', { imageSize: 224 }), 21_629_184);
  t.equal(of('vit_large', { imageSize: 224, feedForward: 'swiglu' }), 303_655_168);
  t.end();
});

test('head sizes, SwiGLU widths, names', (t) => {
  const head = (prototypes: number, bottleneck: number): number =>
    count(headParameters({ inputs: 1024, hidden: 2048, bottleneck, prototypes, layers: 3 }, 'dino_head.'));
  t.equal(head(131072, 384), 57_545_088);
  t.equal(head(131072, 256), 40_505_600);
  t.equal(head(65536, 256), 23_662_848);
  t.deepEqual(
    (['vit_small', 'vit_base', 'vit_large', 'vit_giant2'] as const).map((size) =>
      swigluHidden({ ...BASE, ...VIT_SIZES[size] }),
    ),
    [1024, 2048, 2736, 4096],
  );
  t.deepEqual(
    headParameters({ inputs: 4, hidden: 8, bottleneck: 2, prototypes: 3, layers: 1 }, 'h.').map((s) => s.name),
    ['h.mlp.weight', 'h.mlp.bias', 'h.last_layer.weight_g', 'h.last_layer.weight_v'],
    'one layer has no Sequential around it',
  );
  t.equal(feedForwardNamed('swiglufused'), 'swiglu');
  t.throws(() => feedForwardNamed('relu'), /use mlp, swiglu, swiglufused or identity/);
  t.end();
});

test('stochastic depth: rates of the blocks and sizes of the subsets', (t) => {
  t.deepEqual(dropPathRates({ dropPathRate: 0.3, dropPathUniform: true, depth: 3 }), [0.3, 0.3, 0.3]);
  t.deepEqual(
    dropPathRates({ dropPathRate: 0.3, dropPathUniform: false, depth: 4 }).map((r) => Math.round(r * 100)),
    [0, 10, 20, 30],
  );
  const table: Record<number, number[]> = {
    4: [3, 2, 2],
    5: [4, 3, 3],
    10: [9, 7, 6],
    12: [10, 8, 7],
    64: [57, 44, 38],
    96: [86, 67, 57],
  };
  for (const [b, kept] of Object.entries(table)) {
    t.deepEqual(
      [0.1, 0.3, 0.4].map((p) => keptSequences(Number(b), p)),
      kept,
      `of ${b}`,
    );
  }
  t.equal(keptSequences(1, 0.9), 1, 'at least one is kept');
  t.end();
});

for (const feedForward of ['mlp', 'swiglu', 'identity'] as const) {
  test(`packed crops of two sizes equal separate passes (${feedForward})`, async (t) => {
    const gpu = await testGpu();
    const config: VitConfig = {
      ...BASE,
      imageSize: 28,
      patchSize: 7,
      embedDim: 48,
      depth: 2,
      numHeads: 2,
      feedForward,
      registers: 1,
      qkvBias: feedForward !== 'identity',
      layerScale: feedForward === 'identity' ? undefined : 1,
    };
    const specs = vitParameters(config);
    const store = new ParameterStore(gpu, 'vit', specs);
    for (const { name, shape } of specs) await store.write(name, goldenParameter(name, shape, 3));
    const groups = [
      { count: 2, height: 28, width: 28 },
      { count: 3, height: 14, width: 21 },
    ];
    const images = groups.map(({ count: n, height, width }, i) => noise(n * 3 * height * width, i + 1));
    const forward = async (which: readonly number[]): Promise<Float32Array> => {
      const program = new Program(gpu, 'packed');
      const graph = new Graph(program);
      const crops = which.map((i) => ({
        ...groups[i],
        pixels: program.constant(`images ${i}`, [groups[i].count, 3, groups[i].height, groups[i].width], images[i]),
      }));
      const out = program.keep(
        finalNorm(graph, weightsOf(store), vitForward(graph, config, weightsOf(store), crops).tokens),
      );
      await program.compile({ guard: true });
      program.run();
      const result = (await program.read(out)) as Float32Array;
      t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
      program.dispose();
      return result;
    };
    const packed = await forward([0, 1]);
    const separate = [await forward([0]), await forward([1])];
    t.ok(packed.every(Number.isFinite), 'finite');
    allClose(t, packed, Float32Array.from([...separate[0], ...separate[1]]), 'packed against separate', {
      absolute: 1e-5,
    });
    store.dispose();
  });
}
