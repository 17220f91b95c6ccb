import test from 'tape';
import { headParameters } from '../../src/dinov2/head.js';
import { clearStore, initialDistribution, initializeStore } from '../../src/dinov2/initialize.js';
import { type VitConfig, vitParameters } from '../../src/dinov2/vit.js';
import { GpuError } from '../../src/errors.js';
import { ParameterStore } from '../../src/tensor/parameters.js';
import { testGpu } from '../fixture.js';

const VIT: VitConfig = {
  imageSize: 56,
  patchSize: 14,
  embedDim: 48,
  depth: 2,
  numHeads: 2,
  mlpRatio: 4,
  feedForward: 'swiglu',
  qkvBias: true,
  projBias: true,
  ffnBias: true,
  layerScale: 1e-5,
  registers: 3,
  interpolateOffset: 0.1,
  interpolateAntialias: false,
};
const HEAD = { inputs: 48, hidden: 96, bottleneck: 32, prototypes: 200, layers: 3 };
const SPECS = [...vitParameters(VIT, 'backbone.'), ...headParameters(HEAD, 'dino_head.')];

async function initialized(seed: number): Promise<Map<string, Float32Array>> {
  const gpu = await testGpu();
  const store = new ParameterStore(gpu, 'student', SPECS);
  await initializeStore(gpu, store, { seed, layerScale: VIT.layerScale });
  const values = await store.readAll();
  store.dispose();
  return values;
}

function moments(values: Float32Array): { mean: number; std: number; largest: number } {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
  return { mean, std: Math.sqrt(variance), largest: values.reduce((a, b) => Math.max(a, Math.abs(b)), 0) };
}

test('every parameter starts as the specification says', async (t) => {
  const values = await initialized(7);
  const is = (name: string, what: (all: ReturnType<typeof moments>, n: number) => boolean): void => {
    const all = moments(values.get(name)!);
    t.ok(what(all, values.get(name)!.length), `${name}: mean ${all.mean}, std ${all.std}, largest ${all.largest}`);
  };
  const normal = (std: number) => (all: ReturnType<typeof moments>, n: number) =>
    Math.abs(all.std / std - 1) < 5 / Math.sqrt(n) &&
    Math.abs(all.mean) < (5 * std) / Math.sqrt(n) &&
    all.largest > 1.8 * std;
  const uniform = (bound: number) => (all: ReturnType<typeof moments>, n: number) =>
    all.largest <= bound * (1 + 1e-6) &&
    all.largest > 0.8 * bound &&
    Math.abs(all.std / (bound / Math.sqrt(3)) - 1) < 4 / Math.sqrt(n);
  const constant = (value: number) => (all: ReturnType<typeof moments>) => all.mean === value && all.std === 0;

  is('backbone.cls_token', normal(1e-6));
  is('backbone.register_tokens', normal(1e-6));
  is('backbone.mask_token', constant(0));
  is('backbone.pos_embed', normal(0.02));
  // 1/sqrt(3 · 14²), weight and bias, as PyTorch leaves its convolution.
  is('backbone.patch_embed.proj.weight', uniform(0.0412393));
  is('backbone.patch_embed.proj.bias', uniform(0.0412393));
  for (const layer of ['attn.qkv', 'attn.proj', 'mlp.w12', 'mlp.w3']) {
    is(`backbone.blocks.1.${layer}.weight`, normal(0.02));
    is(`backbone.blocks.1.${layer}.bias`, constant(0));
  }
  for (const norm of ['blocks.0.norm1', 'blocks.1.norm2', 'norm']) {
    is(`backbone.${norm}.weight`, constant(1));
    is(`backbone.${norm}.bias`, constant(0));
  }
  for (const gamma of ['ls1', 'ls2'])
    is(`backbone.blocks.0.${gamma}.gamma`, (all) => Math.abs(all.mean / 1e-5 - 1) < 1e-6 && all.std < 1e-12);
  is('dino_head.mlp.0.weight', normal(0.02));
  is('dino_head.mlp.4.bias', constant(0));
  is('dino_head.last_layer.weight_g', constant(1));
  is('dino_head.last_layer.weight_v', uniform(1 / Math.sqrt(32)));
  t.equal(values.size, SPECS.length, 'all parameters were read');
});

test('the numbers are a function of seed and name', async (t) => {
  const [one, again, other] = [await initialized(7), await initialized(7), await initialized(8)];
  const bits = (values: Float32Array): string =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex');
  t.ok(
    SPECS.every(({ name }) => bits(one.get(name)!) === bits(again.get(name)!)),
    'the same seed gives the same bits',
  );
  const name = 'backbone.blocks.0.attn.proj.weight';
  t.notEqual(bits(one.get(name)!), bits(other.get(name)!), 'another seed gives others');
  t.notEqual(bits(one.get(name)!), bits(one.get('backbone.blocks.1.attn.proj.weight')!), 'another block gives others');
  const gpu = await testGpu();
  const alone = new ParameterStore(gpu, 'alone', [{ name, shape: [48, 48] }]);
  await initializeStore(gpu, alone, { seed: 7 });
  t.equal(bits((await alone.readAll()).get(name)!), bits(one.get(name)!), 'whatever else the store holds');
  await clearStore(gpu, alone);
  t.ok(
    (await alone.readAll()).get(name)!.every((value) => Object.is(value, 0)),
    'and a cleared store is all zeros',
  );
  alone.dispose();
});

test('a name that no rule covers is refused', (t) => {
  const shapeOf = (): number[] => [4, 4];
  t.throws(() => initialDistribution('backbone.mystery', shapeOf, 1), GpuError);
  t.throws(() => initialDistribution('backbone.blocks.0.ls1.gamma', shapeOf, undefined), /initial value of LayerScale/);
  t.end();
});
