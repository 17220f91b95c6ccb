import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { DataError } from '../../src/errors.js';
import { encodeSafetensors, readSafetensors } from '../../src/io/safetensors.js';
import { LOSS_SCALE, lossScaleState, readLossScale } from '../../src/tensor/loss_scale.js';
import { type ParameterSpec, ParameterStore } from '../../src/tensor/parameters.js';
import {
  type CheckpointState,
  type CheckpointStores,
  checkpointSteps,
  loadBackbone,
  loadCheckpoint,
  openCheckpoint,
  writeCheckpoint,
} from '../../src/train/checkpoint.js';
import { noise, testGpu } from '../fixture.js';

const SPECS: ParameterSpec[] = [
  { name: 'backbone.cls_token', shape: [1, 1, 5] },
  { name: 'backbone.blocks.10.norm1.bias', shape: [5] },
  { name: 'backbone.blocks.2.norm1.bias', shape: [5] },
  { name: 'dino_head.last_layer.weight_v', shape: [70, 3] },
];

const CONFIG = 'train:\n  seed: 3\n';

async function stores(specs = SPECS, seed = 0): Promise<CheckpointStores & { dispose(): void }> {
  const gpu = await testGpu();
  const student = new ParameterStore(gpu, 'student', specs);
  const all = {
    student,
    teacher: student.like('teacher'),
    firstMoment: student.like('first moment'),
    secondMoment: student.like('second moment'),
    centers: new ParameterStore(gpu, 'centers', [{ name: 'dino_loss.center', shape: [1, 7] }]),
    lossScale: new ParameterStore(gpu, 'loss scale', [LOSS_SCALE]),
  };
  let n = seed;
  for (const store of Object.values(all)) {
    const values = store.names.map((name): [string, Float32Array] => [
      name,
      noise(store.get(name).elements, 100 * seed + n++),
    ]);
    if (seed > 0) await store.writeAll(new Map(values));
  }
  await all.lossScale.write(LOSS_SCALE.name, lossScaleState({ scale: 2 ** seed, cleanSteps: 5, skippedSteps: seed }));
  const dispose = (): void => {
    for (const store of Object.values(all)) store.dispose();
  };
  return { ...all, dispose };
}

function state(step: number): CheckpointState {
  const data = { path: 'pictures', length: 12, names: 'ab' };
  return { step, totalSteps: 100, seed: 3, schedule: { lr: 0.5 }, data };
}

async function contents(all: CheckpointStores): Promise<string> {
  const { student, teacher, firstMoment, secondMoment, centers, lossScale } = all;
  const maps = await Promise.all(
    [student, teacher, firstMoment, secondMoment, centers, lossScale].map((store) => store.readAll()),
  );
  return JSON.stringify(maps.map((map) => [...map].map(([name, values]) => [name, [...values]])));
}

async function message(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return error instanceof DataError ? error.message : `not a DataError: ${error}`;
  }
}

function inFolder(body: (folder: string) => Promise<void>): () => Promise<void> {
  return async () => {
    const folder = mkdtempSync(join(tmpdir(), 'webdino-checkpoint-'));
    try {
      await body(folder);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

test('a checkpoint brings every value back, under official names', async (t) => {
  await inFolder(async (out) => {
    const written = await stores(SPECS, 1);
    const folder = await writeCheckpoint(out, written, state(20), CONFIG, 3);
    t.deepEqual(readdirSync(join(out, 'checkpoints')).sort(), ['last.json', 'step_0000020'], 'nothing lies beside it');
    t.deepEqual(
      readdirSync(folder).sort(),
      ['config.yaml', 'optimizer.safetensors', 'state.json', 'student.safetensors', 'teacher.safetensors'],
      'its files',
    );
    const student = readSafetensors(readFileSync(join(folder, 'student.safetensors')));
    t.deepEqual([...student.tensors.keys()].sort(), SPECS.map(({ name }) => name).sort(), 'names of the student');
    t.deepEqual(student.tensors.get('backbone.cls_token')!.shape, [1, 1, 5], 'shapes');
    const optimizer = readSafetensors(readFileSync(join(folder, 'optimizer.safetensors')));
    t.ok(
      optimizer.tensors.has('exp_avg_sq.backbone.blocks.10.norm1.bias') && optimizer.tensors.has('dino_loss.center'),
    );

    const read = await stores();
    const checkpoint = await openCheckpoint(out);
    t.deepEqual(checkpoint.state, state(20), 'the state');
    await loadCheckpoint(out, checkpoint, read);
    t.equal(await contents(read), await contents(written), 'all values');

    const again = await writeCheckpoint(join(out, 'elsewhere'), read, state(20), CONFIG, 3);
    t.ok(
      readdirSync(folder).every((file) => readFileSync(join(folder, file)).equals(readFileSync(join(again, file)))),
      'the same state gives the same bytes',
    );
    read.dispose();
    written.dispose();
  })();
});

test('only the newest checkpoints stay', async (t) => {
  await inFolder(async (out) => {
    const all = await stores(SPECS, 1);
    for (const step of [10, 20, 30]) await writeCheckpoint(out, all, state(step), CONFIG, 2);
    t.deepEqual(await checkpointSteps(out), [30, 20]);
    t.equal((await openCheckpoint(out)).state.step, 30, 'the last counts');
    t.equal((await openCheckpoint(out, 'step_0000020')).state.step, 20, 'an earlier one by its name');
    t.match(
      await message(openCheckpoint(out, 'step_0000010')),
      /holds no checkpoint step_0000010; there are step_0000030/,
    );
    await writeCheckpoint(out, all, state(25), CONFIG, 1);
    t.deepEqual(await checkpointSteps(out), [25], 'a run that was taken back leaves no later ones');
    rmSync(join(out, 'checkpoints', 'last.json'));
    t.equal((await openCheckpoint(out)).state.step, 25, 'without last.json the newest folder counts');
    all.dispose();
  })();
});

test('a damaged checkpoint is refused whole, with the way on', async (t) => {
  await inFolder(async (out) => {
    const written = await stores(SPECS, 1);
    for (const step of [10, 20, 30]) await writeCheckpoint(out, written, state(step), CONFIG, 5);
    const read = await stores(SPECS, 2);
    const before = await contents(read);
    const file = (step: number, name: string): string => join(out, 'checkpoints', `step_00000${step}`, name);
    const kept = join(out, 'kept');
    const attempt = async (name: string, damage: (path: string) => void): Promise<string> => {
      copyFileSync(file(30, name), kept);
      damage(file(30, name));
      const text = await message(openCheckpoint(out).then((checkpoint) => loadCheckpoint(out, checkpoint, read)));
      copyFileSync(kept, file(30, name));
      return text;
    };
    const flip = (path: string): void => {
      const bytes = readFileSync(path);
      bytes[bytes.length - 3] ^= 1;
      writeFileSync(path, bytes);
    };
    const goOn = `webdino resume ${out} --from step_0000020`;
    for (const name of ['student.safetensors', 'optimizer.safetensors', 'config.yaml']) {
      const text = await attempt(name, flip);
      t.ok(text.includes(file(30, name)) && text.includes('damaged') && text.endsWith(goOn), text);
    }
    t.match(
      await attempt('teacher.safetensors', (path) => truncateSync(path, 50)),
      /teacher.safetensors has 50 bytes instead of/,
    );
    t.match(await attempt('teacher.safetensors', (path) => rmSync(path)), /teacher.safetensors is missing/);
    t.match(
      await attempt('state.json', (path) => truncateSync(path, 50)),
      /state.json is missing or not JSON.*--from step_0000020$/,
    );
    t.match(await attempt('state.json', (path) => writeFileSync(path, '{}')), /no checkpoint of webdino/);
    flip(file(20, 'student.safetensors'));
    t.ok(
      (await attempt('student.safetensors', flip)).endsWith('--from step_0000010'),
      'the one before may be damaged too',
    );
    rmSync(file(10, 'student.safetensors'));
    t.match(await attempt('student.safetensors', flip), /there is no earlier checkpoint: start the run again$/);
    t.equal(await contents(read), before, 'nothing was written to the GPU');
    t.match(await message(openCheckpoint(join(out, 'nowhere'))), /holds no checkpoint; start the run again/);
    read.dispose();
    written.dispose();
  })();
});

test('a checkpoint from before there was a loss scale', async (t) => {
  await inFolder(async (out) => {
    const written = await stores(SPECS, 1);
    const folder = await writeCheckpoint(out, written, state(40), CONFIG, 5);
    const path = join(folder, 'optimizer.safetensors');
    const { tensors, float32 } = readSafetensors(readFileSync(path));
    t.ok(tensors.has(LOSS_SCALE.name), 'a new one has it');
    const others = [...tensors].filter(([name]) => name !== LOSS_SCALE.name);
    const bytes = encodeSafetensors(
      others.map(([name, { shape }]) => [name, { dtype: 'F32' as const, shape, data: float32(name) }]),
    );
    writeFileSync(path, bytes);
    const statePath = join(folder, 'state.json');
    const json = JSON.parse(readFileSync(statePath, 'utf8')) as { files: Record<string, unknown> };
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    json.files['optimizer.safetensors'] = { bytes: bytes.length, sha256 };
    writeFileSync(statePath, JSON.stringify(json));
    const read = await stores(SPECS, 3);
    await loadCheckpoint(out, await openCheckpoint(out), read);
    const contentsWithout = async (all: CheckpointStores): Promise<string> =>
      contents({ ...all, lossScale: all.centers });
    t.equal(await contentsWithout(read), await contentsWithout(written), 'the rest is loaded');
    const values = (await read.lossScale.readAll()).get(LOSS_SCALE.name)!;
    t.deepEqual(
      readLossScale(values),
      { scale: 8, cleanSteps: 0, appliedSteps: 40, skippedSteps: 0 },
      'its steps count as applied, with the scale that the run begins with',
    );
    read.dispose();
    written.dispose();
  })();
});

test('a checkpoint of another network is refused', async (t) => {
  await inFolder(async (out) => {
    const written = await stores(SPECS, 1);
    await writeCheckpoint(out, written, state(10), CONFIG, 5);
    const load = async (specs: ParameterSpec[]): Promise<string> => {
      const all = await stores(specs);
      const text = await message(openCheckpoint(out).then((checkpoint) => loadCheckpoint(out, checkpoint, all)));
      all.dispose();
      return text;
    };
    t.match(
      await load([...SPECS, { name: 'backbone.norm.bias', shape: [5] }]),
      /does not fit.*it has no backbone.norm.bias/,
    );
    t.match(await load(SPECS.slice(0, 3)), /it has dino_head.last_layer.weight_v, which the model has not/);
    t.match(
      await load([{ name: 'backbone.cls_token', shape: [1, 1, 6] }, ...SPECS.slice(1)]),
      /is \[1,1,5\] instead of \[1,1,6\]/,
    );
    written.dispose();
  })();
});

test('a backbone to start from', async (t) => {
  await inFolder(async (out) => {
    const { student, dispose } = await stores(SPECS, 1);
    const before = [...(await student.readAll())].map(([name, values]) => [name, [...values]]);
    const path = join(out, 'backbone.safetensors');
    const tensors = SPECS.filter(({ name }) => name.startsWith('backbone.')).map(
      ({ name, shape }, i) =>
        [name.slice('backbone.'.length), { dtype: 'F32' as const, shape, data: noise(5, 50 + i) }] as const,
    );
    writeFileSync(path, encodeSafetensors(tensors.slice(1)));
    t.match(await message(loadBackbone(path, student)), /has no backbone.cls_token/);
    writeFileSync(
      path,
      encodeSafetensors([['cls_token', { dtype: 'F32', shape: [5], data: noise(5, 1) }], ...tensors.slice(1)]),
    );
    t.match(await message(loadBackbone(path, student)), /cls_token is \[5\]; this network needs \[1,1,5\]/);
    writeFileSync(path, 'not a safetensors file');
    t.match(await message(loadBackbone(path, student)), /Not a valid safetensors file/);
    t.match(await message(loadBackbone(join(out, 'missing'), student)), /cannot be read/);
    t.deepEqual(
      [...(await student.readAll())].map(([name, values]) => [name, [...values]]),
      before,
      'nothing was loaded so far',
    );
    writeFileSync(path, encodeSafetensors(tensors));
    await loadBackbone(path, student);
    const after = await student.readAll();
    t.ok(
      tensors.every(
        ([name, { data }], i) => data.every((value, j) => after.get(SPECS[i].name)![j] === value) && name !== '',
      ),
      'then every value is',
    );
    t.deepEqual([...after.get('dino_head.last_layer.weight_v')!], before[3][1], 'and the head is as it was');
    dispose();
    t.notOk(existsSync(join(out, 'checkpoints')), 'reading makes no folders');
  })();
});
