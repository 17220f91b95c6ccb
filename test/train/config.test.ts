/** Configuration: official values, the order of sources, round trips, and what wrong input is answered with. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import test from 'tape';
import { UsageError } from '../../src/errors.js';
import { configKeys, configToYaml, loadConfig } from '../../src/train/config.js';
import { PRESETS } from '../../src/train/presets.js';

/** Calls `body` with the path of a file `run.yaml` that holds `text`. */
function withYaml<T>(text: string, body: (path: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'webdino-config-'));
  try {
    const path = join(folder, 'run.yaml');
    writeFileSync(path, text);
    return body(path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function refusal(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  return 'accepted';
}

test('config: the official defaults', async (t) => {
  const config = loadConfig();
  t.deepEqual(config.dino, {
    loss_weight: 1,
    head_n_prototypes: 65536,
    head_bottleneck_dim: 256,
    head_nlayers: 3,
    head_hidden_dim: 2048,
    koleo_loss_weight: 0.1,
  });
  t.deepEqual(config.ibot.mask_ratio_min_max, [0.1, 0.5]);
  t.equal(config.train.centering, 'centering');
  t.deepEqual(
    [config.student.arch, config.student.patch_size, config.student.drop_path_rate, config.student.layerscale],
    ['vit_large', 16, 0.3, 1e-5],
  );
  t.deepEqual(
    [config.student.embed_dim, config.student.depth, config.student.num_heads],
    [1024, 24, 16],
    'sizes follow from the name',
  );
  t.deepEqual(config.teacher, {
    momentum_teacher: 0.992,
    final_momentum_teacher: 1,
    warmup_teacher_temp: 0.04,
    teacher_temp: 0.07,
    warmup_teacher_temp_epochs: 30,
  });
  t.deepEqual(config.crops.blur, [0, 0.9, 0.5], 'the blur that the released weights were trained with');
  t.equal(config.compute_precision.student.dino_head.mixed_precision.reduce_dtype, 'fp32');
  t.equal(config.compute_precision.teacher.dino_head.mixed_precision.reduce_dtype, 'fp16');
  t.ok(Math.abs(config.optim.lr - 0.004 * Math.sqrt(64 / 1024)) < 1e-18);
});

test('config: learning rates of the official runs', async (t) => {
  t.equal(loadConfig({ preset: 'vitl16_short', worldSize: 32 }).optim.lr.toFixed(6), '0.005657');
  t.equal(loadConfig({ preset: 'vitl14', worldSize: 96 }).optim.lr.toExponential(3), '3.464e-4');
  t.equal(loadConfig({ preset: 'vitg14', worldSize: 256 }).optim.lr.toExponential(3), '3.464e-4');
});

test('config: official files load as they are', async (t) => {
  const text = `
dino:
  head_n_prototypes: 131072
  head_bottleneck_dim: 384
ibot:
  separate_head: true
  head_n_prototypes: 131072
train:
  batch_size_per_gpu: 12
  dataset_path: ImageNet22k
  centering: sinkhorn_knopp
student:
  arch: vit_giant2
  patch_size: 14
  drop_path_rate: 0.4
  ffn_layer: swiglufused
  block_chunks: 4
teacher:
  momentum_teacher: 0.994
optim:
  epochs: 500
  weight_decay_end: 0.2
  base_lr: 2.0e-04  # learning rate for a batch size of 1024
  warmup_epochs: 80
  layerwise_decay: 1.0
crops:
  local_crops_size: 98
`;
  const config = withYaml(text, (file) => loadConfig({ file }));
  t.deepEqual(config, loadConfig({ preset: 'vitg14' }));
  const precision =
    'compute_precision:\n  student:\n    backbone:\n      sharding_strategy: NO_SHARD\n      mixed_precision:\n        param_dtype: bf16\n';
  t.equal(
    withYaml(precision, (file) => loadConfig({ file })).compute_precision.student.backbone.mixed_precision.param_dtype,
    'bf16',
  );
  t.equal(withYaml('student:\n  arch: vit_small_memeff\n', (file) => loadConfig({ file })).student.embed_dim, 384);
  t.deepEqual(
    withYaml('', (file) => loadConfig({ file })),
    loadConfig(),
    'an empty file says nothing',
  );
  t.deepEqual(
    withYaml('dino:\n', (file) => loadConfig({ file })),
    loadConfig(),
    'an empty section says nothing',
  );
});

test('config: default ← preset ← file ← set ← flags', async (t) => {
  const text = 'optim:\n  epochs: 7\n  warmup_epochs: 2\n  min_lr: 1e-5\n';
  const config = withYaml(text, (file) =>
    loadConfig({
      preset: 'quickstart',
      file,
      set: ['optim.warmup_epochs=3', 'train.seed=4'],
      overrides: { train: { seed: 5 } },
    }),
  );
  t.equal(config.student.embed_dim, 64, 'from the preset');
  t.deepEqual([config.optim.epochs, config.optim.min_lr], [7, 1e-5], 'from the file');
  t.equal(config.optim.warmup_epochs, 3, 'from --set');
  t.equal(config.train.seed, 5, 'from a flag');
});

for (const preset of Object.keys(PRESETS)) {
  test(`config: preset ${preset} is valid and its file loads to the same values`, async (t) => {
    const config = loadConfig({ preset });
    const yaml = configToYaml(config);
    const again = withYaml(yaml, (file) => loadConfig({ file }));
    t.deepEqual(again, config);
    t.equal(configToYaml(again), yaml, 'the same text');
    t.ok(PRESETS[preset].description.length > 80);
    t.equal(config.crops.global_crops_size % config.student.patch_size, 0);
  });
}

test('config: any numbers survive the file', async (t) => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.double({ min: 1e-300, max: 1e300, noNaN: true }),
      fc.string(),
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 }),
      (probability, rate, path, seed) => {
        const config = loadConfig({
          overrides: {
            crops: { grayscale: probability },
            optim: { base_lr: rate },
            train: { dataset_path: path, seed },
          },
        });
        const again = withYaml(configToYaml(config), (file) => loadConfig({ file }));
        return (
          again.crops.grayscale === config.crops.grayscale &&
          again.optim.base_lr === rate &&
          again.optim.lr === config.optim.lr &&
          again.train.dataset_path === path &&
          again.train.seed === seed
        );
      },
    ),
    { numRuns: 40 },
  );
  t.pass('40 random configurations');
});

test('config: a filled-in learning rate follows the batch, a given one stays', async (t) => {
  const resolved = configToYaml(loadConfig({ preset: 'cifar' }));
  const follow = withYaml(resolved, (file) => loadConfig({ file, set: ['train.batch_size_per_gpu=512'] }));
  t.ok(Math.abs(follow.optim.lr - 0.002 * Math.sqrt(0.5)) < 1e-18);
  const given = withYaml('optim:\n  lr: 0.123\n', (file) =>
    loadConfig({ file, set: ['train.batch_size_per_gpu=512'] }),
  );
  t.equal(given.optim.lr, 0.123);
  const other = loadConfig({ set: ['optim.reference_batch=64'] });
  t.equal(other.optim.lr, 0.004);
});

test('config: an architecture takes its sizes with it', async (t) => {
  const resolved = configToYaml(loadConfig({ preset: 'cifar' }));
  const small = withYaml(resolved, (file) => loadConfig({ file, set: ['student.arch=vit_small'] }));
  t.deepEqual([small.student.embed_dim, small.student.depth, small.student.num_heads], [384, 12, 6]);
  const custom = loadConfig({
    set: ['student.arch=custom', 'student.embed_dim=48', 'student.depth=2', 'student.num_heads=3'],
  });
  t.equal(custom.student.mlp_ratio, 4);
});

test('config: wrong keys and values are named with place and cure', async (t) => {
  const file = (text: string) => refusal(() => withYaml(text, (path) => loadConfig({ file: path })));
  const set = (...texts: string[]) => refusal(() => loadConfig({ set: texts }));
  const cases: [string, RegExp][] = [
    [
      file('optim:\n  epochs: 3\n  base_Lr: 1\n'),
      /run\.yaml, line 3: there is no key optim\.base_Lr\. Did you mean optim\.base_lr\?$/,
    ],
    [file('dinno:\n  loss_weight: 1\n'), /run\.yaml, line 1: there is no key dinno\. Did you mean dino\?$/],
    [
      file('train:\n\n  batch_size_per_gpu: many\n'),
      /run\.yaml, line 3: train\.batch_size_per_gpu: "many" must be a number\.$/,
    ],
    [file('train:\n  centering: sk\n'), /line 2: train\.centering: "sk" must be one of centering, sinkhorn_knopp\.$/],
    [
      file('crops:\n  global_crops_scale: [0.3]\n'),
      /line 2: crops\.global_crops_scale: \[0\.3\] must have at least 2 elements/,
    ],
    [
      file('crops:\n  global_crops_scale: [0.3, wide]\n'),
      /line 2: crops\.global_crops_scale: element 2 of \[0\.3,"wide"\] must be a number/,
    ],
    [file('optim: 3\n'), /line 1: optim is a section with the keys epochs, /],
    [file('optim:\n  epochs:\n'), /line 2: optim\.epochs: nothing must be a number/],
    [file('optim:\n  epochs: {a: 1}\n'), /line 2: optim\.epochs: \{"a":1\} must be a number/],
    [file('a: 1\na: 2\n'), /run\.yaml, line 2: Map keys must be unique/],
    [file('- 1\n'), /run\.yaml, line 1: a configuration is a table/],
    [set('optim.epohcs=3'), /^--set optim\.epohcs=3: there is no key optim\.epohcs\. Did you mean optim\.epochs\?$/],
    [set('train.epochs=3'), /Did you mean optim\.epochs\?$/],
    [set('lr=3'), /Did you mean optim\.lr\?$/],
    [set('quite.something.else=3'), /there is no key quite\.something\.else\.$/],
    [set('optim.epochs'), /write it as key=value/],
    [set('optim.epochs=[1'), /not readable as YAML/],
    [set('optim.epochs=2.5'), /optim\.epochs: 2\.5 must be a whole number/],
    [set('student.drop_path_rate=1'), /must be less than 1/],
    [
      set('student.patch_size=14'),
      /^--set student\.patch_size=14: crops\.local_crops_size: 96 is not a multiple of student\.patch_size 14\. Try 98\.$/,
    ],
    [set('student.embed_dim=100'), /does not fit vit_large \(1024\)\. Set student\.arch to custom/],
    [set('student.arch=custom'), /custom needs student\.embed_dim/],
    [
      set('student.arch=custom', 'student.embed_dim=64', 'student.depth=2', 'student.num_heads=3'),
      /3 heads do not divide student\.embed_dim 64/,
    ],
    [set('optim.epochs=5'), /^--set optim\.epochs=5: optim\.warmup_epochs: 10 is longer than the run of 5 epochs/],
    [set('crops.local_crops_scale=[0.5, 0.1]'), /must go from small to large/],
    [set('train.batch_size_per_gpu=1'), /leaves KoLeo without neighbours/],
    [set('optim.scaling_rule=linear'), /"linear" must be "?sqrt_wrt_1024/],
    [refusal(() => loadConfig({ preset: 'tiny' })), /There is no preset tiny\. Presets: vitl16_short, vitl14, /],
    [refusal(() => loadConfig({ file: '/no/such/run.yaml' })), /Cannot read the configuration \/no\/such\/run\.yaml/],
  ];
  for (const [message, pattern] of cases) t.ok(pattern.test(message), message);
});

test('config: every key with one letter changed is answered with that key', async (t) => {
  const wrong: string[] = [];
  for (const key of configKeys()) {
    // The three networks of each side share their keys: a changed letter there is nearest to the right one all the same.
    const message = refusal(() => loadConfig({ set: [`${key}x=1`] }));
    if (!message.includes(`Did you mean ${key}?`)) wrong.push(`${key}: ${message}`);
  }
  t.deepEqual(wrong, []);
});
