import test from 'tape';
import { GpuError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import { fromHalf, toHalf } from '../../src/gpu/half.js';
import { ParameterStore } from '../../src/tensor/parameters.js';
import { noise, sameBits, testGpu } from '../fixture.js';

const SPECS = [
  { name: 'cls_token', shape: [1, 1, 50] },
  { name: 'blocks.0.weight', shape: [257, 3] },
  { name: 'blocks.0.bias', shape: [1] },
  { name: 'blocks.1.weight', shape: [16, 64] },
  { name: 'norm.weight', shape: [65] },
];

async function message(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return error instanceof GpuError ? error.message : `not a GpuError: ${error}`;
  }
}

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
    [0, 128, 1024, 1152, 2176],
    'every parameter starts at a multiple of 128 elements',
  );
  t.equal(one.shards[0].tensor.elements, 2304, 'the shard ends on a multiple of 128 elements');
  t.equal(one.sizeBytes, 4 * 2304, 'sizeBytes counts the padding');
  t.deepEqual(one.get('blocks.0.weight').shape, [257, 3], 'tensors have the shapes given');
  t.equal(one.get('norm.weight'), one.get('norm.weight'), 'get returns the same tensor every time');
  t.equal(one.get('norm.weight').place().offsetBytes, 4 * 2176, 'a tensor lies where its segment says');
  t.ok(one.has('cls_token') && !one.has('mask_token'), 'has knows the names');
  one.dispose();

  const small = withLimit(gpu, 5120);
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
    several.shards.every(({ tensor }) => tensor.sizeBytes <= 5120),
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
  t.match(await message(store.copyFrom(other)), /student and other are laid out differently/, 'a copy between layouts');
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
    t.match(await message(store.writeAll(values)), expected, 'writeAll refuses');
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
  const small = withLimit(gpu, 5120);
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
  await teacher.copyFrom(store);
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
  t.match(await message(store.readAll()), /student is disposed/, 'a disposed store says so');
});

test('parameter store: half copies', async (t) => {
  const gpu = await testGpu();
  const before = gpu.memory;
  const small = withLimit(gpu, 5120);
  const valuesOf = (seed: number): Map<string, Float32Array> =>
    new Map(
      SPECS.map(({ name, shape }, i) => [
        name,
        noise(
          shape.reduce((a, b) => a * b),
          seed + i,
          // Large, small and subnormal halves, and one past their range.
        ).map((v, j) => v * [1, 1e-4, 1e-7, 3e4][j % 4] * (j === 7 ? 1e9 : 1)),
      ]),
    );
  const follows = async (store: ParameterStore, what: string): Promise<void> => {
    store.assertHalfCurrent();
    const [values, halves] = [await store.readAll(), await store.half!.readAll()];
    for (const name of store.names) {
      const expected = fromHalf(toHalf(values.get(name)!));
      const wrong = values.get(name)!.findIndex((v, i) => {
        const half = halves.get(name)![i];
        if (!Number.isFinite(expected[i])) return Number.isFinite(half);
        // Some adapters round a subnormal half twice: next to a tie it may be the other neighbour.
        return !Object.is(half, expected[i]) && !(Math.abs(half - v) < 0.501 * 2 ** -24);
      });
      t.equal(wrong, -1, `${what}: ${name} is the nearest half, and not finite past their range`);
    }
  };

  const store = new ParameterStore(small, 'student', SPECS);
  await store.writeAll(valuesOf(1));
  const half = store.makeHalf();
  t.equal(store.makeHalf(), half, 'it is made once');
  t.equal(store.half, half, 'and can be asked for');
  t.equal(half.shards.length, 2, 'in as many shards');
  t.ok(
    store.names.every((name) => store.get(name).half === half.get(name) && half.get(name).dtype === 'f16'),
    'every parameter knows its half copy',
  );
  t.equal(
    store.sizeBytes,
    6 * store.shards.reduce((sum, { tensor }) => sum + tensor.elements, 0),
    'sizeBytes counts it',
  );
  t.throws(() => store.assertHalfCurrent(), /half copy of student is older/, 'a new copy holds nothing yet');
  await store.refreshHalf();
  await follows(store, 'refreshed');
  await store.write('blocks.0.weight', noise(771, 40));
  await follows(store, 'after a write');
  const other = store.like('other');
  t.equal(other.half, undefined, 'like() makes none');
  await other.refreshHalf();
  await other.writeAll(valuesOf(20));
  await store.copyFrom(other);
  await follows(store, 'after a copy');
  t.match(
    await message(half.write('norm.weight', new Float32Array(65))),
    /only follows its store/,
    'it is not written',
  );
  t.match(await message(half.copyFrom(store)), /only follows its store/, 'nor copied to');
  t.match(await message(store.copyFrom(half)), /only follows its store/, 'nor from');
  t.throws(() => half.makeHalf(), /only follows its store/, 'and has no copy of its own');
  t.throws(() => store.trainable(half), /only follows its store/, 'nor holds gradients');

  const [student, teacher] = [store.like('first'), store.like('second')];
  t.throws(() => ParameterStore.pairHalf(student, store), /student has a half copy already/, 'a pair of what has one');
  ParameterStore.pairHalf(student, teacher);
  await student.writeAll(valuesOf(5));
  await teacher.writeAll(valuesOf(6));
  await follows(student, 'first of a pair');
  await follows(teacher, 'second of a pair');
  student.half!.shards.forEach(({ tensor }, i) => {
    const { base, baseOffsetBytes } = teacher.half!.shards[i].tensor;
    t.equal(base, tensor.base, 'a pair shares its buffer');
    t.deepEqual([tensor.baseOffsetBytes, baseOffsetBytes], [0, tensor.sizeBytes], 'one after the other');
  });
  for (const each of [student, store, other, teacher, teacher]) each.dispose();
  await gpu.finish();
  t.deepEqual(gpu.memory, before, 'dispose frees every buffer, once');
});
