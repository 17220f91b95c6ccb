import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import test from 'tape';
import { DataError } from '../../src/errors.js';
import { type AllRequest, evaluateAll, outcomesText, type SetTask, tasksOf } from '../../src/eval/all.js';
import { findDataSets } from '../../src/eval/data_sets.js';
import { pixelModel } from '../../src/eval/floor_models.js';
import type { FrozenModel } from '../../src/eval/frozen_model.js';
import type { EvaluationReport } from '../../src/eval/result.js';
import type { EvaluationContext } from '../../src/eval/task.js';
import { tarEntry, withFolder, writeFolder } from '../data/archives.js';
import { testGpu } from '../fixture.js';

const png = (): Promise<Buffer> =>
  sharp({ create: { width: 8, height: 8, channels: 3, background: '#456' } })
    .png()
    .toBuffer();

/** A folder of sets of all kinds. */
async function writeSets(folder: string): Promise<void> {
  const picture = await png();
  const tar = (...names: string[]): Buffer =>
    Buffer.concat([...names.map((name) => tarEntry(name, name.endsWith('.cls') ? '0' : picture)), Buffer.alloc(1024)]);
  writeFolder(folder, [
    ['pets/train/cat/0.png', picture],
    ['pets/train/dog/0.png', picture],
    ['pets/val/cat/1.png', picture],
    ['pets/test/cat/2.png', picture],
    ['street/train.tar', tar('a.png', 'a.seg.png', 'b.png', 'b.seg.png')],
    ['street/val.tar', tar('c.png', 'c.seg.png')],
    ['rooms/train.tar', tar('a.png', 'a.seg.png', 'a.depth.png')],
    ['rooms/val.tar', tar('c.png', 'c.seg.png', 'c.depth.png')],
    ['trees/train.tar', tar('a.png', 'a.chm.png', 'a.chm50.png')],
    ['places/dev.tar', tar('a.png', 'b.png', 'c.png')],
    ['places/dev.csv', 'key,group,kind,role\na,tower,multiview,query\nb,tower,multiview,\nc,x,copy,ref\n'],
    ['plain/train/0.png', picture],
    ['plain/val/1.png', picture],
    ['notes/readme.txt', 'nothing'],
  ]);
}

test('findDataSets: parts and what they allow', async (t) => {
  await withFolder(async (folder) => {
    await writeSets(folder);
    const sets = await findDataSets(folder);
    t.deepEqual(
      sets.map(({ name, annotations }) => [name, [...annotations].join()]),
      [
        ['pets', 'classes'],
        ['places', 'groups,copies'],
        ['plain', ''],
        ['rooms', 'labels,depth'],
        ['street', 'labels'],
        ['trees', 'height'],
      ],
      'sets by name; a folder without parts is none',
    );
    const [pets] = sets;
    t.equal(pets.train, join(folder, 'pets', 'train'));
    t.equal(pets.test, join(folder, 'pets', 'val'), 'val, while test is kept');
    t.equal((await findDataSets(join(folder, 'pets')))[0].name, 'pets', 'a set by itself');
    const before = pets.stamp;
    writeFolder(folder, [['pets/train/dog/9.png', await png()]]);
    t.notEqual((await findDataSets(folder))[0].stamp, before, 'another file, another stamp');
    for (const path of [join(folder, 'notes'), join(folder, 'nowhere')]) {
      try {
        await findDataSets(path);
        t.fail(`${path} was taken`);
      } catch (error) {
        t.ok(error instanceof DataError, (error as Error).message);
      }
    }
  });
});

/** Counts its runs; every model scores the length of its name. */
function countingTask(name: string, on: SetTask['on'], settings = {}): SetTask & { runs: number } {
  const task = {
    name,
    on,
    settings,
    runs: 0,
    run: async ({ models }: EvaluationContext): Promise<EvaluationReport> => {
      task.runs++;
      const value = (model: FrozenModel): number => model.name.length;
      return {
        task: name,
        dataset: 'any',
        train: { path: 'train', pictures: 2 },
        test: { path: 'val', pictures: 1 },
        settings,
        models: models.map((model) => ({
          model: model.name,
          floor: model.floor,
          metrics: [{ name: 'score', value: value(model), unit: '%', better: 'higher', interval: [0, 50] }],
        })),
        margins: models.slice(1).map((other) => ({
          model: models[0].name,
          against: other.name,
          metric: 'score',
          unit: '%',
          difference: value(models[0]) - value(other),
          interval: [value(models[0]) - value(other) - 0.5, value(models[0]) - value(other) + 0.5],
        })),
        figures: [{ kind: 'bars', title: 'classes', unit: '%', bars: [{ label: 'cat', value: 1 }] }],
        notes: [],
        seconds: 1,
      };
    },
  };
  return task;
}

test('evaluateAll: side by side, failures told, finished work taken over', async (t) => {
  await withFolder(async (folder) => {
    const data = join(folder, 'data');
    await writeSets(data);
    const sets = (await findDataSets(data)).filter(({ annotations }) => annotations.size > 0);
    const notes: string[] = [];
    const model = (name: string, floor = true): FrozenModel => ({ ...pixelModel(8), name, floor });
    const context: EvaluationContext = {
      gpu: await testGpu(),
      models: [model('teacher', false), model('a rival, by name', false), model('px')],
      seed: 0,
      bootstrapDraws: 10,
      crop: 8,
      resize: 8,
      batch: 2,
      cacheFolder: folder,
      note: (text) => void notes.push(text),
      progress: () => {},
    };
    const knn = countingTask('knn', 'classes');
    const segment = countingTask('segment', 'labels');
    const broken: SetTask = {
      ...countingTask('depth', 'depth'),
      run: () => Promise.reject(new DataError('no <depth>')),
    };
    const out = join(folder, 'out');
    const request: AllRequest = {
      sets,
      tasks: [knn, segment, broken],
      out,
      title: 'All',
      subtitle: 'here',
      facts: { weights: 1 },
      fitFloor: async (set) => model(`fitted to ${set.train ? 'train' : 'dev'}`),
    };
    t.deepEqual(
      sets.map((set) =>
        tasksOf(set, request.tasks)
          .map(({ name }) => name)
          .join(),
      ),
      ['knn', '', 'segment,depth', 'segment', ''],
      'what each allows',
    );
    const outcomes = await evaluateAll(context, request);
    t.deepEqual(
      outcomes.map(({ task, set, reused }) => `${task} ${set} ${reused}`),
      ['knn pets false', 'segment rooms false', 'depth rooms false', 'segment street false'],
    );
    t.ok('failure' in outcomes[2] && outcomes[2].failure === 'no <depth>', 'a failure does not stop the others');
    t.ok(
      notes.some((note) => /depth on rooms failed: no <depth>/.test(note)),
      'and is told at once',
    );
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    for (const part of ['teacher', 'a rival, by name', 'fitted to train', 'pets', 'no &#60;depth&#62;']) {
      t.ok(page.includes(part), `the page has ${part}`);
    }
    t.ok(existsSync(join(out, 'pets', 'knn', 'report.html')), 'a page each');
    const csv = readFileSync(join(out, 'results.csv'), 'utf8').trimEnd().split('\n');
    t.equal(csv.length, 1 + 3 * 4, 'a line a number');
    t.equal(csv[2], 'knn,pets,"a rival, by name",false,score,%,higher,16,0,50');
    const { reports, failures } = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'));
    t.deepEqual([reports.length, failures.length], [3, 1]);
    const text = outcomesText(outcomes);
    t.ok(/^set +task +metric +teacher +a rival, by name +px +fitted to train$/m.test(text), text);
    t.ok(
      /^knn on pets: teacher is behind fitted to train .*does not beat this floor$/m.test(text),
      'floors not beaten',
    );
    t.notOk(/ahead of px/.test(text), 'those beaten are not listed');

    const again = await evaluateAll(context, request);
    t.deepEqual(
      again.map(({ reused }) => reused),
      [true, true, false, true],
      'finished ones are taken over',
    );
    t.deepEqual([knn.runs, segment.runs], [1, 2]);
    t.equal(readFileSync(join(out, 'report.html'), 'utf8'), page, 'the page is the same');
    await evaluateAll({ ...context, seed: 1 }, request);
    t.equal(knn.runs, 2, 'another seed is another result');
    writeFileSync(join(out, 'pets', 'knn', 'results.json'), '{"settings": ');
    await evaluateAll({ ...context, seed: 1 }, request);
    t.deepEqual([knn.runs, segment.runs], [3, 4], 'a broken file is made again');
    await evaluateAll(
      { ...context, seed: 1 },
      { ...request, tasks: [countingTask('segment', 'labels', { epochs: 2 }), knn] },
    );
    t.equal(knn.runs, 3, 'other settings of another task change nothing');
  });
});
