import test from 'tape';
import { GpuError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import { ParameterStore } from '../../src/tensor/parameters.js';
import { noise, sameBits, testGpu } from '../fixture.js';

const SPECS = [
  { name: 'cls_token', shape: [1, 1, 50] },
  { name: 'blocks.0.weight', shape: [257, 3] },
  { name: 'blocks.0.bias', shape: [1] },
  { name: 'blocks.1.weight', shape: [16, 64] },
  { name: 'norm.weight', shape: [65] },
];

/** The same GPU with smaller buffers, so that a few parameters fill several shards. */
function withLimit(gpu: Gpu, maxBindingSizeBytes: number): Gpu {
  return Object.create(gpu, { capabilities: { value: { ...gpu.capabilities, maxBindingSizeBytes } } });
}

test('parameter store: layout', async (t) => {
  const gpu = await testGpu();
  const one = new ParameterStore(gpu, 'student', SPECS);
  t.deepEqual(
    one.names,
    SPECS.map(({ name }) => name),
    'keeps the order of the names',
  );
  t.equal(one.shards.length, 1, 'one shard where everything fits');
  t.deepEqual(
    one.shards[0].segments.map(({ offsetElements }) => offsetElements),
    [0, 64, 896, 960, 1984],
    'every parameter starts at a multiple of 64 elements',
  );
  t.equal(one.shards[0].tensor.elements, 2112, 'the shard ends on a multiple of 64 elements');
  t.equal(one.sizeBytes, 4 * 2112, 'sizeBytes counts the padding');
  t.deepEqual(one.get('blocks.0.weight').shape, [257, 3], 'tensors have the shapes given');
  t.equal(one.get('norm.weight'), one.get('norm.weight'), 'get returns the same tensor every time');
  t.equal(one.get('norm.weight').place().offsetBytes, 4 * 1984, 'a tensor lies where its segment says');
  t.ok(one.has('cls_token') && !one.has('mask_token'), 'has knows the names');
  one.dispose();

  const small = withLimit(gpu, 4608);
  const several = new ParameterStore(small, 'student', SPECS);
  t.deepEqual(
    several.shards.map(({ segments }) => segments.map(({ name }) => name)),
    [
      ['cls_token', 'blocks.0.weight', 'blocks.0.bias'],
      ['blocks.1.weight', 'norm.weight'],
    ],
    'parameters go to the next shard where they do not fit',
  );
  t.ok(
    several.shards.every(({ tensor }) => tensor.sizeBytes <= 4608),
    'no shard is larger than a binding may be',
  );
  several.dispose();
});

test('parameter store: what it refuses', async (t) => {
  const gpu = await testGpu();
  const before = gpu.memory;
  t.throws(
    () => new ParameterStore(withLimit(gpu, 1024), 'student', SPECS),
    /blocks\.0\.weight \[257,3\].*3084 bytes.*maxStorageBufferBindingSize is 1024.*fewer prototypes/,
    'a parameter larger than a binding',
  );
  t.throws(
    () => new ParameterStore(gpu, 'student', [SPECS[0], SPECS[0]]),
    /two parameters named cls_token/,
    'a name twice',
  );
  t.throws(
    () => new ParameterStore(gpu, 'student', [{ name: 'a', shape: [0, 4] }]),
    GpuError,
    'a parameter without elements',
  );
  t.deepEqual(gpu.memory, before, 'a refused store leaves no buffer behind');
  const store = new ParameterStore(gpu, 'student', SPECS);
  const other = new ParameterStore(gpu, 'other', SPECS.slice(1));
  t.throws(() => store.get('mask_token'), /student has no parameter mask_token/, 'an unknown name');
  t.throws(() => store.copyFrom(other), /student and other are laid out differently/, 'a copy between layouts');
  t.throws(() => store.trainable(other), /laid out differently/, 'gradients of another layout');
  for (const [values, expected] of [
    [
      new Map([
        ['norm.weight', new Float32Array(65)],
        ['cls_token', new Float32Array(51)],
      ]),
      /cls_token \[1,1,50\] takes 50 values, not 51/,
    ],
    [
      new Map([
        ['norm.weight', new Float32Array(65).fill(1)],
        ['head.weight', new Float32Array(1)],
      ]),
      /no parameter head.weight/,
    ],
  ] as const) {
    const error = await store.writeAll(values).then(
      () => undefined,
      (cause: Error) => cause,
    );
    t.ok(error && expected.test(error.message), `writeAll refuses: ${error?.message}`);
  }
  const values = await store.readAll();
  t.ok(
    [...values.values()].every((list) => list.every((v) => v === 0)),
    'a refused writeAll has written nothing',
  );
  store.dispose();
  other.dispose();
});

test('parameter store: writing, reading, copying, freeing', async (t) => {
  const gpu = await testGpu();
  const before = gpu.memory;
  const small = withLimit(gpu, 4608);
  const store = new ParameterStore(small, 'student', SPECS);
  const data = new Map(
    SPECS.map(({ name, shape }, i) => [
      name,
      noise(
        shape.reduce((a, b) => a * b),
        i,
      ),
    ]),
  );
  await store.writeAll(data);
  const values = await store.readAll();
  t.deepEqual([...values.keys()], store.names, 'readAll gives all parameters in their order');
  for (const [name, expected] of data) sameBits(t, values.get(name)!, expected, `${name} reads back as written`);
  const some = await store.readAll(['norm.weight', 'cls_token']);
  t.deepEqual([...some.keys()].sort(), ['cls_token', 'norm.weight'], 'readAll of some gives these');
  sameBits(t, some.get('norm.weight')!, data.get('norm.weight')!, 'with their values');

  const teacher = store.like('teacher');
  t.ok(
    [...(await teacher.readAll()).values()].every((list) => list.every((v) => v === 0)),
    'like() starts as zeros',
  );
  teacher.copyFrom(store);
  await store.write('blocks.0.bias', Float32Array.of(7));
  const copied = await teacher.readAll();
  for (const [name, expected] of data) sameBits(t, copied.get(name)!, expected, `${name} is copied`);
  t.equal((await store.readAll(['blocks.0.bias'])).get('blocks.0.bias')![0], 7, 'the original goes its own way');

  const gradients = store.like('gradients');
  store.trainable(gradients);
  t.ok(
    store.names.every((name) => store.get(name).requiresGrad && store.get(name).gradient === gradients.get(name)),
    'trainable() points every parameter to its gradient',
  );
  t.notOk(teacher.get('norm.weight').requiresGrad, 'and leaves the teacher alone');
  for (const each of [store, teacher, gradients]) each.dispose();
  store.dispose();
  await gpu.finish();
  t.deepEqual(gpu.memory, before, 'dispose frees every buffer, once');
  const error = await store.readAll().then(
    () => undefined,
    (cause: Error) => cause,
  );
  t.ok(error instanceof GpuError, 'a disposed store says so');
});
