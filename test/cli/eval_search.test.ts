import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { evalCopy } from '../../src/cli/eval_copy.js';
import { evalRetrieval } from '../../src/cli/eval_retrieval.js';
import { croppedSource } from '../../src/data/cropped_source.js';
import { readRgb } from '../../src/data/decode.js';
import { openSource } from '../../src/data/source.js';
import { DataError, UsageError, type WebdinoError } from '../../src/errors.js';
import type { EvaluationReport } from '../../src/eval/result.js';
import { tarArchive, withFolder } from '../data/archives.js';
import { outputOf, writePictures, writeRun } from './model_fixture.js';

async function reportOf(run: () => Promise<void>): Promise<EvaluationReport> {
  const { stdout } = await outputOf(run);
  return JSON.parse(stdout) as EvaluationReport;
}

function values({ models }: EvaluationReport, model = 0): Record<string, number> {
  return Object.fromEntries(models[model].metrics.map(({ name, value }) => [name, Math.round(10 * value) / 10]));
}

/** Pictures of three colours in FOLDER/pictures, and the same as an archive FOLDER/set.tar. */
async function pictures(folder: string): Promise<{ folder: string; archive: string }> {
  const root = join(folder, 'pictures');
  await writePictures(root, ['red', 'green', 'blue'], 3);
  const archive = join(folder, 'set.tar');
  const entries = ['red', 'green', 'blue'].flatMap((colour) =>
    [0, 1, 2].map((i): [string, Buffer] => [`${colour}-${i}.png`, readFileSync(join(root, colour, `${i}.png`))]),
  );
  writeFileSync(archive, tarArchive(entries));
  return { folder: root, archive };
}

async function refusals(
  t: test.Test,
  cases: readonly (readonly [() => Promise<void>, typeof WebdinoError, RegExp])[],
): Promise<void> {
  for (const [run, kind, pattern] of cases) {
    try {
      await outputOf(run);
      t.fail(`${pattern} was taken`);
    } catch (error) {
      const { message } = error as Error;
      t.ok(error instanceof kind && pattern.test(message) && !message.includes('\n'), message);
    }
  }
}

test('webdino eval retrieval: groups by folders and by a csv', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const set = await pictures(folder);
    const out = join(folder, 'out');
    const options = { model, draws: 20, json: true };
    const byFolder = await reportOf(() => evalRetrieval({ ...options, test: set.folder, out }));
    t.equal(byFolder.task, 'retrieval');
    t.deepEqual(values(byFolder), { mAP: 100, 'P@1': 100, 'R@5': 100, 'R@10': 100 }, 'colours find each other');
    t.equal(byFolder.models.length, 4, 'floors too');
    t.equal(byFolder.margins.length, 3);
    t.equal(byFolder.test.pictures, 9, 'every picture asks');
    t.ok(readFileSync(join(out, 'report.html'), 'utf8').includes('the worst queries'), 'a gallery');

    const csv = join(folder, 'set.csv');
    const rows = ['red', 'green', 'blue'].flatMap((colour) =>
      // Of blue only two belong together, and a red one calls itself green.
      [0, 1, 2].map((i) => {
        const group = colour === 'red' && i === 0 ? 'green' : colour === 'blue' && i === 2 ? 'alone' : colour;
        return `${colour}-${i},${group},${colour === 'blue' ? 'cold' : 'warm'}`;
      }),
    );
    writeFileSync(csv, ['key,group,kind', ...rows].join('\n'));
    const grouped = await reportOf(() =>
      evalRetrieval({ ...options, test: set.archive, floors: false, global: 'cls+patch-mean' }),
    );
    t.equal(grouped.test.pictures, 8, 'a picture alone does not ask');
    t.ok(/1 of 9 pictures have no match/.test(grouped.notes[0]), grouped.notes[0]);
    t.ok(values(grouped).mAP < 100, `a wrong group costs: ${values(grouped).mAP}`);
    t.deepEqual(Object.keys(values(grouped)), ['mAP', 'P@1', 'R@5', 'R@10', 'mAP cold', 'mAP warm'], 'by kind');
    t.equal(grouped.settings.global, 'cls+patch-mean');

    writeFileSync(csv, ['key,group', ...rows.slice(1)].join('\n'));
    const alone = join(folder, 'alone.csv');
    writeFileSync(alone, ['key,group', ...rows.map((row, i) => row.replace(/,\w+,/, `,${i},`))].join('\n'));
    const { archive } = set;
    await refusals(t, [
      [() => evalRetrieval({ ...options, test: archive }), DataError, /no row for 1 of 9 pictures \(red-0/],
      [() => evalRetrieval({ ...options, test: archive, groups: alone }), DataError, /no group has two pictures/],
      [
        () => evalRetrieval({ ...options, test: archive, groups: join(folder, 'no.csv') }),
        DataError,
        /no\.csv is not there/,
      ],
      [
        () => evalRetrieval({ ...options, test: archive, global: 'mean' }),
        UsageError,
        /--global mean is unknown; use cls/,
      ],
      [() => evalRetrieval({ ...options, test: archive, groups: csv, gnd: 'x' }), UsageError, /give one/],
      [() => evalRetrieval({ ...options }), UsageError, /--test is missing/],
    ]);
  });
});

test('webdino eval retrieval: the revisited protocol', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const { archive } = await pictures(folder);
    const gnd = join(folder, 'gnd.json');
    const truth = {
      qimlist: ['red-0', 'green-0'],
      imlist: ['red-1', 'red-2', 'green-1', 'green-2', 'blue-0'],
      gnd: [
        { easy: [0], hard: [1], junk: [], bbx: [2, 2.4, 40, 38] },
        { easy: [2], hard: [], junk: [3] },
      ],
    };
    const write = (change: object): void => writeFileSync(gnd, JSON.stringify({ ...truth, ...change }));
    write({});
    const options = { model, test: archive, gnd, draws: 20, json: true, floors: false };
    const report = await reportOf(() => evalRetrieval(options));
    const found = values(report);
    t.deepEqual([found['mAP Medium'], found['mAP Hard'], found['mAP Easy']], [100, 100, 100], 'colours are easy');
    t.deepEqual([found['mP@1 Medium'], found['mP@5 Medium'], found['mP@10 Hard']], [100, 100, 100], 'precisions');
    t.equal(report.models[0].metrics.length, 12, 'three difficulties, four numbers each');
    t.deepEqual([report.train.pictures, report.test.pictures], [5, 2], 'database and queries');

    const refused = async (change: object, pattern: RegExp): Promise<void> => {
      write(change);
      await refusals(t, [[() => evalRetrieval(options), DataError, pattern]]);
    };
    await refused({ imlist: ['red-1', 'nowhere'] }, /names nowhere, which .*set\.tar has not|no list of places/);
    await refused({ gnd: [truth.gnd[0]] }, /1 entries of gnd for 2 queries/);
    await refused({ gnd: [{ easy: [7] }, {}] }, /easy of red-0 is no list of places from 0 to 4/);
    await refused({ gnd: [{ bbx: [1, 2] }, {}] }, /bbx of red-0/);
    writeFileSync(gnd, '{');
    await refusals(t, [[() => evalRetrieval(options), DataError, /not valid JSON/]]);
  });
});

test('webdino eval copy: micro average precision, by transform, normalised', async (t) => {
  await withFolder(async (folder) => {
    const model = writeRun(folder);
    const set = await pictures(folder);
    const csv = join(folder, 'set.csv');
    const role = (i: number): string => (i === 0 ? 'ref' : 'query');
    const rows = ['red', 'green'].flatMap((colour) =>
      [0, 1, 2].map((i) => `${colour}-${i},${colour},copy,${role(i)},${i === 0 ? '' : `way${i}`}`),
    );
    const blue = [0, 1, 2].map((i) => `blue-${i},d${i},distractor,distractor,`);
    const table = (...more: string[]): void =>
      writeFileSync(csv, ['key,group,kind,role,transform', ...rows, ...more].join('\n'));
    table(...blue);
    const options = { model, test: set.archive, draws: 20, json: true };
    const report = await reportOf(() => evalCopy({ ...options, out: join(folder, 'out') }));
    t.deepEqual(
      values(report),
      { uAP: 100, 'R@P90': 100, 'R@1': 100, 'uAP way1': 100, 'uAP way2': 100 },
      'every copy finds its original',
    );
    t.deepEqual([report.test.pictures, report.train.pictures], [4, 5], 'queries; references with distractors');
    t.equal(report.models.length, 4, 'floors too');
    t.ok(existsSync(join(folder, 'out', 'report.html')));

    const normalised = await reportOf(() =>
      evalCopy({ ...options, floors: false, normalise: join(set.folder, 'blue') }),
    );
    t.equal(normalised.settings.backgroundNeighbours, 10);
    t.equal(values(normalised).uAP, 100, 'normalised scores rank as well');

    // A query that no reference shares its group with.
    table(...blue.slice(0, 2), 'blue-2,d2,copy,query,');
    const strangers = await reportOf(() => evalCopy({ ...options, floors: false }));
    t.ok(/1 of 5 queries are copies of nothing/.test(strangers.notes[0]), strangers.notes[0]);
    t.equal(values(strangers)['R@1'], 100, 'which have no first place to win');

    const noQueries = join(folder, 'roles.csv');
    const all = [...rows, ...blue].map((row) => row.split(',').slice(0, 2).join(','));
    writeFileSync(noQueries, ['key,group,role', ...all.map((row) => `${row},ref`)].join('\n'));
    const apart = join(folder, 'apart.csv');
    writeFileSync(
      apart,
      ['key,group,role', ...all.map((row, i) => `${row}${i},${i < 3 ? 'query' : 'ref'}`)].join('\n'),
    );
    await refusals(t, [
      [() => evalCopy({ ...options, groups: noQueries }), DataError, /has 0 queries and 9 references/],
      [() => evalCopy({ ...options, groups: apart }), DataError, /no query shares its group with a reference/],
      [() => evalCopy({ ...options, global: 'x' }), UsageError, /--global x is unknown/],
      [() => evalCopy({ ...options, test: undefined }), UsageError, /--test is missing/],
    ]);
  });
});

test('croppedSource: parts of pictures', async (t) => {
  await withFolder(async (folder) => {
    const set = await pictures(folder);
    const source = await openSource(set.archive);
    const whole = await readRgb(source, 0);
    const cropped = croppedSource(
      source,
      new Map([
        [0, [3, 4.6, 13, 9]],
        [1, [90, 90, 99, 99]],
      ]),
    );
    const part = await readRgb(cropped, 0);
    t.deepEqual([part.width, part.height], [10, 4], 'rounded to whole pixels');
    t.deepEqual(
      [...part.data.subarray(0, 3)],
      [...whole.data.subarray(3 * (5 * whole.width + 3), 3 * (5 * whole.width + 4))],
      'the pixels at the corner',
    );
    t.deepEqual((await readRgb(cropped, 2)).width, whole.width, 'without a box it stays whole');
    try {
      await readRgb(cropped, 1);
      t.fail('a box beside the picture was taken');
    } catch (error) {
      t.ok(error instanceof DataError && /none of them in the box/.test(error.message), (error as Error).message);
    }
    await source.close();
  });
});
