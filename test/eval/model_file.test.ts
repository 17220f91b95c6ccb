import { join } from 'node:path';
import test from 'tape';
import type { VitConfig } from '../../src/dinov2/vit.js';
import { DataError } from '../../src/errors.js';
import { inferVitConfig, loadModel, locateModel, officialName } from '../../src/eval/model_file.js';
import { encodeSafetensors, float32ToHalf, type TensorToStore } from '../../src/io/safetensors.js';
import { vitParameters } from '../../src/dinov2/vit.js';
import { withFolder, writeFolder } from '../data/archives.js';
import { sameBits, testGpu } from '../fixture.js';
import { TINY_VIT, tinyFile, tinyTensors, tinyWeights } from './tiny_model.js';

async function refused(t: test.Test, what: string, pattern: RegExp, body: () => Promise<unknown>): Promise<void> {
  try {
    await body();
    t.fail(`${what}: was taken`);
  } catch (error) {
    const { message } = error as Error;
    t.ok(error instanceof DataError && pattern.test(message) && !message.includes('\n'), `${what}: ${message}`);
  }
}

function shapesOf(vit: VitConfig): Map<string, readonly number[]> {
  return new Map(vitParameters(vit).map(({ name, shape }) => [name, shape]));
}

test('inferVitConfig: every published architecture from its shapes', (t) => {
  const published = { ...TINY_VIT, imageSize: 518, patchSize: 14, mlpRatio: 4 };
  const cases: [string, VitConfig][] = [
    ['ViT-S/14', { ...published, embedDim: 384, depth: 12, numHeads: 6 }],
    ['ViT-L/14', { ...published, embedDim: 1024, depth: 24, numHeads: 16 }],
    ['ViT-g/14', { ...published, embedDim: 1536, depth: 40, numHeads: 24, feedForward: 'swiglu' }],
    [
      'ViT-B/14 with registers',
      {
        ...published,
        embedDim: 768,
        depth: 12,
        numHeads: 12,
        registers: 4,
        interpolateOffset: 0,
        interpolateAntialias: true,
      },
    ],
    [
      'no LayerScale, no biases',
      { ...TINY_VIT, layerScale: undefined, qkvBias: false, projBias: false, ffnBias: false },
    ],
    ['no feed-forward', { ...TINY_VIT, feedForward: 'identity', mlpRatio: 4, ffnBias: false }],
  ];
  for (const [name, vit] of cases) t.deepEqual(inferVitConfig(shapesOf(vit)), vit, name);
  for (const mlpRatio of [2.67, 3.1, 1.01]) {
    for (const feedForward of ['mlp', 'swiglu'] as const) {
      const vit = { ...TINY_VIT, embedDim: 192, numHeads: 3, mlpRatio, feedForward };
      t.deepEqual(
        shapesOf(inferVitConfig(shapesOf(vit))),
        shapesOf(vit),
        `${feedForward} of ratio ${mlpRatio}: the same shapes`,
      );
    }
  }
  t.equal(inferVitConfig(shapesOf(TINY_VIT), { numHeads: 4 }).numHeads, 4, 'heads as given');
  t.throws(() => inferVitConfig(shapesOf({ ...TINY_VIT, embedDim: 96 })), /heads of 64: give the number of heads/);
  const oblong = shapesOf(TINY_VIT).set('pos_embed', [1, 16, 64]);
  t.throws(() => inferVitConfig(oblong), /16 positions, which is not 1 \+ a square/);
  t.end();
});

test('officialName: the loader’s rules', (t) => {
  t.equal(officialName('module.backbone.blocks.1.6.attn.qkv.weight'), 'blocks.6.attn.qkv.weight', 'chunked');
  t.equal(
    officialName('teacher.backbone.blocks.11.norm1.bias'),
    'blocks.11.norm1.bias',
    'flat, with the network’s name',
  );
  t.equal(officialName('backbone.module.cls_token'), 'cls_token', 'either order');
  t.end();
});

test('loadModel: every naming gives the same weights', async (t) => {
  const gpu = await testGpu();
  const expected = tinyWeights();
  const namings: [string, (name: string) => string][] = [
    ['plain', (name) => name],
    ['backbone.', (name) => `backbone.${name}`],
    ['module.backbone.', (name) => `module.backbone.${name}`],
    ['chunks of one block', (name) => `teacher.backbone.${name.replace(/^blocks\.(\d+)/, 'blocks.$1.$1')}`],
  ];
  await withFolder(async (folder) => {
    const path = join(folder, 'model.safetensors');
    for (const [naming, rename] of namings) {
      const head: TensorToStore = { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) };
      const bytes = encodeSafetensors([...tinyTensors(TINY_VIT, rename), ['dino_head.mlp.0.bias', head]]);
      writeFolder(folder, [['model.safetensors', bytes]]);
      const before = gpu.memory;
      const { vit, weights } = await loadModel(gpu, path);
      t.deepEqual(vit, TINY_VIT, `${naming}: architecture`);
      const read = await weights.readAll();
      t.deepEqual([...read.keys()], [...expected.keys()], `${naming}: names`);
      t.ok(
        [...expected].every(([name, data]) => Buffer.from(data.buffer).equals(Buffer.from(read.get(name)!.buffer))),
        `${naming}: values`,
      );
      weights.dispose();
      t.deepEqual(gpu.memory, before, `${naming}: memory is given back`);
    }

    const half = tinyTensors().map(([name, tensor]): [string, TensorToStore] => [
      name,
      { ...tensor, dtype: 'F16', data: float32ToHalf(tensor.data as Float32Array) },
    ]);
    writeFolder(folder, [['model.safetensors', encodeSafetensors(half)]]);
    const model = await loadModel(gpu, path);
    const cls = (await model.weights.readAll(['cls_token'])).get('cls_token')!;
    t.ok(
      cls.every((value, i) => Math.abs(value - expected.get('cls_token')![i]) < 1e-3),
      'half precision',
    );
    model.weights.dispose();

    writeFolder(folder, [
      ['model.safetensors', tinyFile(TINY_VIT, (name) => (name === 'mask_token' ? undefined : name))],
    ]);
    const unmasked = await loadModel(gpu, path);
    const mask = (await unmasked.weights.readAll(['mask_token'])).get('mask_token')!;
    sameBits(t, mask, new Float32Array(64), 'without a mask token, which only training needs');
    unmasked.weights.dispose();
  });
});

test('loadModel: refuses a file whole, in one line', async (t) => {
  const gpu = await testGpu();
  const before = gpu.memory;
  await withFolder(async (folder) => {
    const path = join(folder, 'model.safetensors');
    const load = (bytes: Uint8Array | string) => async (): Promise<unknown> => {
      writeFolder(folder, [['model.safetensors', bytes]]);
      return loadModel(gpu, path);
    };
    const without = (pattern: RegExp): Uint8Array =>
      tinyFile(TINY_VIT, (name) => (pattern.test(name) ? undefined : name));
    const changed = (name: string, tensor: TensorToStore): Uint8Array =>
      encodeSafetensors([...tinyTensors().filter(([other]) => other !== name), [name, tensor]]);
    const zeros = (...shape: number[]): TensorToStore => ({
      dtype: 'F32',
      shape,
      data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
    });
    await refused(
      t,
      'a missing tensor',
      /model\.safetensors: 1 tensor missing: blocks\.1\.mlp\.fc2\.bias/,
      load(without(/1.mlp.fc2.bias/)),
    );
    await refused(
      t,
      'a missing block',
      /8 tensors missing: blocks\.0\.norm1\.weight, .*, \.\.\.;/,
      load(without(/^blocks\.0\.(?!attn\.(qkv|proj)\.bias|ls|mlp\.fc1)/)),
    );
    await refused(
      t,
      'a wrong shape',
      /norm\.bias is \[63\]; this architecture needs \[64\]/,
      load(changed('norm.bias', zeros(63))),
    );
    await refused(
      t,
      'another architecture',
      /would not be used: blocks\.0\.attn\.q_norm/,
      load(changed('blocks.0.attn.q_norm.weight', zeros(64))),
    );
    await refused(
      t,
      'only heads',
      /holds no backbone.*it has dino_head/,
      load(encodeSafetensors([['dino_head.last_layer.weight_g', zeros(4, 1)]])),
    );
    await refused(
      t,
      'Hugging Face',
      /as Hugging Face names them/,
      load(encodeSafetensors([['embeddings.cls_token', zeros(1, 1, 64)]])),
    );
    await refused(
      t,
      'two networks',
      /blocks\.0\.attn\.proj\.bias are both .* two networks/,
      load(encodeSafetensors([...tinyTensors(), ...tinyTensors(TINY_VIT, (name) => `teacher.${name}`)])),
    );
    const integers: TensorToStore = { dtype: 'I32', shape: [64], data: new Int32Array(64) };
    await refused(t, 'integers', /norm\.bias has type I32/, load(changed('norm.bias', integers)));
    await refused(t, 'PyTorch', /PyTorch file/, load('PK\x03\x04 and more'));
    await refused(t, 'a cut file', /truncated/, load(tinyFile().subarray(0, 5000)));
    await refused(t, 'an empty file', /0 bytes/, load(''));
    await refused(t, 'no file', /cannot be opened/, () => loadModel(gpu, join(folder, 'none')));
  });
  t.deepEqual(gpu.memory, before, 'and leaves no memory behind');
});

test('locateModel: run folders, checkpoint folders, files', async (t) => {
  await withFolder(async (folder) => {
    const at = (...parts: string[]): string => join(folder, ...parts);
    writeFolder(folder, [
      ['run/config.yaml', ''],
      ['run/checkpoints/last.json', '{"checkpoint": "step_0000020"}'],
      ['run/checkpoints/step_0000010/teacher.safetensors', 'x'],
      ['run/checkpoints/step_0000020/teacher.safetensors', 'x'],
      ['run/checkpoints/step_0000020/student.safetensors', 'x'],
      ['alone/dinov2_vits14.safetensors', 'x'],
      ['two/a.safetensors', 'x'],
      ['two/b.safetensors', 'x'],
      ['empty/readme.txt', 'x'],
      ['torn/checkpoints/last.json', '{"checkpoint": '],
      ['torn/checkpoints/step_0000009/teacher.safetensors', 'x'],
      ['torn/checkpoints/step_0000010/teacher.safetensors', 'x'],
      ['torn/checkpoints/step_0000010/config.yaml', ''],
      ['outside/checkpoints/last.json', '{"checkpoint": "../../alone"}'],
      ['gone/checkpoints/step_0000001/student.safetensors', 'x'],
    ]);
    const run = { configPath: at('run', 'config.yaml'), runFolder: at('run') };
    const weights = (step: string, name = 'teacher'): string => at('run', 'checkpoints', step, `${name}.safetensors`);
    t.deepEqual(
      await locateModel(at('run')),
      { ...run, weightsPath: weights('step_0000020'), step: 20 },
      'a run: its last checkpoint',
    );
    t.deepEqual(
      await locateModel(at('run'), 'student'),
      { ...run, weightsPath: weights('step_0000020', 'student'), step: 20 },
      'its student',
    );
    const earlier = at('run', 'checkpoints', 'step_0000010');
    t.deepEqual(await locateModel(earlier), { ...run, weightsPath: weights('step_0000010'), step: 10 }, 'a checkpoint');
    t.deepEqual(
      await locateModel(weights('step_0000010')),
      { ...run, weightsPath: weights('step_0000010'), step: 10 },
      'a file of it',
    );
    const file = at('alone', 'dinov2_vits14.safetensors');
    const plain = { weightsPath: file, configPath: undefined, runFolder: undefined, step: undefined };
    t.deepEqual(await locateModel(file), plain, 'a file');
    t.deepEqual(await locateModel(at('alone')), plain, 'a folder with one file');
    await refused(t, 'no student', /has no student|holds no model/, () => locateModel(earlier, 'student'));
    await refused(t, 'two files', /a\.safetensors, b\.safetensors: give one/, () => locateModel(at('two')));
    await refused(t, 'nothing', /holds no model: a run folder has checkpoints\/step_N/, () => locateModel(at('empty')));
    await refused(t, 'nowhere', /does not exist/, () => locateModel(at('nowhere')));
    const torn = at('torn', 'checkpoints', 'step_0000010');
    t.deepEqual(
      await locateModel(at('torn')),
      {
        weightsPath: join(torn, 'teacher.safetensors'),
        configPath: join(torn, 'config.yaml'),
        runFolder: at('torn'),
        step: 10,
      },
      'a torn last.json: the checkpoint of the most steps, with its own configuration',
    );
    await refused(t, 'a path in last.json', /holds no model/, () => locateModel(at('outside')));
    await refused(t, 'no teacher', /step_0000001.teacher\.safetensors does not exist/, () => locateModel(at('gone')));
  });
});
