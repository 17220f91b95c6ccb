import test from 'tape';
import { FineTuner, type FineTuneConfig, type FineTuneLog, usualLayerDecay } from '../../src/dinov2/finetune.js';
import { fineTuneGroups } from '../../src/dinov2/parameter_groups.js';
import { vitParameters } from '../../src/dinov2/vit.js';
import { TINY_VIT, tinyStore } from '../eval/tiny_model.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';

const CLASSES = 3;
const SIZE = 16;
const PICTURES = 6;

const CONFIG: FineTuneConfig = {
  vit: TINY_VIT,
  classes: CLASSES,
  batch: PICTURES,
  size: SIZE,
  seed: 4,
  dropPathRate: 0.3,
};

/** Noise pictures, which nothing but learning by heart can tell apart. */
const PIXELS = Uint8Array.from(noise(PICTURES * SIZE * SIZE * 3, 8), (v) => Math.round(127.5 + 127 * v));
const LABELS = [0, 1, 2, 2, 1, 0];

async function trained(config: FineTuneConfig, steps: number, learningRate: number) {
  const backbone = await tinyStore();
  const tuner = new FineTuner(await testGpu(), config);
  await tuner.compile(backbone);
  const logs: FineTuneLog[] = [];
  for (let step = 0; step < steps; step++) {
    tuner.run({ pixels: PIXELS, labels: LABELS, learningRate, step });
    if (step === 0 || step === steps - 1) logs.push(await tuner.log());
  }
  backbone.dispose();
  return { tuner, logs };
}

test('fine-tuning: learns a tiny set by heart, every parameter moves, the same bits twice', async (t) => {
  const { tuner, logs } = await trained(CONFIG, 40, 2e-3);
  const [first, last] = [logs[0], logs.at(-1)!];
  t.ok(Math.abs(first.loss - Math.log(CLASSES)) < 0.5, `it starts near a guess (loss ${first.loss.toFixed(3)})`);
  t.ok(last.loss < 0.5 * first.loss && last.accuracy === 1, `and ends knowing all (loss ${last.loss.toFixed(3)})`);
  t.ok(first.gradientNorm > 0 && !first.skipped, 'gradients flow');
  const gradients = await tuner.gradients.readAll();
  const still = [...gradients].filter(([, values]) => values.every((value) => value === 0)).map(([name]) => name);
  t.deepEqual(still, ['mask_token'], 'to every parameter but the mask token, which no picture uses');

  const scores = await tuner.scores(PIXELS, PICTURES);
  const best = LABELS.map((_, i) => {
    const row = [...scores.subarray(i * CLASSES, (i + 1) * CLASSES)];
    return row.indexOf(Math.max(...row));
  });
  t.deepEqual(best, LABELS, 'also without stochastic depth');
  const two = await tuner.scores(PIXELS.subarray(0, 2 * SIZE * SIZE * 3), 2);
  allClose(t, two, scores.subarray(0, 2 * CLASSES), 'a smaller batch gives the same');

  const weights = await tuner.readWeights();
  t.deepEqual(weights.get('head.weight')!.shape, [CLASSES, 2 * TINY_VIT.embedDim], 'the head as a file holds it');
  t.deepEqual(weights.get('head.bias')!.shape, [CLASSES]);
  t.deepEqual(
    [...weights.keys()],
    [...vitParameters(TINY_VIT).map(({ name }) => name), 'head.weight', 'head.bias'],
    'official names',
  );
  const again = await trained(CONFIG, 40, 2e-3);
  sameBits(t, await again.tuner.scores(PIXELS, PICTURES), scores, 'the same bits in another run');
  for (const one of [tuner, again.tuner]) one.dispose();
});

test('fine-tuning in halves: half copies follow the weights, the loss is scaled', async (t) => {
  const { tuner, logs } = await trained({ ...CONFIG, dtype: 'f16', dropPathRate: 0 }, 40, 2e-3);
  const [first, last] = [logs[0], logs.at(-1)!];
  t.ok(last.loss < 0.5 * first.loss && last.accuracy === 1, `loss ${first.loss.toFixed(3)} to ${last.loss.toFixed(3)}`);
  t.notOk(first.skipped || last.skipped, 'no step skipped');
  const whole = await tuner.weights.readAll(['head.weight']);
  const half = await tuner.weights.half!.readAll(['head.weight']);
  allClose(t, half.get('head.weight')!, whole.get('head.weight')!, 'the halves are those of the last step', {
    absolute: 1e-3,
  });
  tuner.dispose();
});

test('fine-tuning: a rate of 0 moves nothing; sizes and classes that cannot be', async (t) => {
  const { tuner } = await trained(CONFIG, 1, 0);
  const backbone = await tinyStore();
  const before = await backbone.readAll();
  const after = await tuner.weights.readAll();
  t.ok(
    [...before].every(([name, values]) => values.every((value, i) => value === after.get(name)![i])),
    'the backbone is the one that was given',
  );
  tuner.dispose();
  backbone.dispose();
  const gpu = await testGpu();
  t.throws(() => new FineTuner(gpu, { ...CONFIG, size: 20 }), /pictures of 20 px do not divide into patches of 8/);
  t.throws(() => new FineTuner(gpu, { ...CONFIG, classes: 1 }), /1 classes: a classifier needs two or more/);
});

test('fineTuneGroups: decay by layer, the head at full rate', (t) => {
  const vit = { ...TINY_VIT, depth: 12, registers: 4 };
  const names = [...vitParameters(vit).map(({ name }) => name), 'head.weight', 'head.bias'];
  const groups = fineTuneGroups(names, 12, 0.65);
  const rate = (name: string): number => groups.get(name)!.lrMultiplier;
  const close = (name: string, expected: number): void =>
    t.ok(Math.abs(rate(name) - expected) < 1e-12, `${name}: ${rate(name)}`);
  for (const name of ['cls_token', 'pos_embed', 'register_tokens', 'patch_embed.proj.weight']) close(name, 0.65 ** 13);
  close('blocks.0.attn.qkv.weight', 0.65 ** 12);
  close('blocks.11.mlp.fc2.bias', 0.65);
  close('norm.weight', 1);
  close('head.weight', 1);
  const decayed = (name: string): number => groups.get(name)!.wdMultiplier;
  t.deepEqual(
    ['head.weight', 'head.bias', 'blocks.3.norm1.weight', 'blocks.3.ls1.gamma', 'blocks.3.attn.proj.weight'].map(
      decayed,
    ),
    [1, 0, 0, 0, 1],
    'weight decay',
  );
  t.deepEqual([usualLayerDecay(12), usualLayerDecay(24)], [0.65, 0.75]);
  t.end();
});
