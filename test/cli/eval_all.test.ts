import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import test from 'tape';
import { type EvalAllArguments, evalAll } from '../../src/cli/eval_all.js';
import { DataError, UsageError } from '../../src/errors.js';
import { tarEntry, withFolder, writeFolder } from '../data/archives.js';
import { TINY_VIT, tinyFile } from '../eval/tiny_model.js';
import { outputOf, writePictures, writeRun } from './model_fixture.js';

const SIDE = 32;

/** A picture that is red on the left of `edge` and blue on the right. */
function halves(edge: number): Promise<Buffer> {
  const data = Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) =>
    Math.floor(i / 3) % SIDE < edge === (i % 3 === 0) ? 200 : 40,
  );
  return sharp(data, { raw: { width: SIDE, height: SIDE, channels: 3 } })
    .png()
    .toBuffer();
}

async function tarOfHalves(edges: readonly number[]): Promise<Buffer> {
  const entries = await Promise.all(edges.map(async (edge, i) => tarEntry(`${i}.png`, await halves(edge))));
  return Buffer.concat([...entries, Buffer.alloc(1024)]);
}

test('webdino eval all: data sets of a folder, several models, and what is finished is taken over', async (t) => {
  await withFolder(async (folder) => {
    const run = writeRun(folder);
    const other = join(folder, 'other.safetensors');
    writeFolder(folder, [['other.safetensors', tinyFile(TINY_VIT, (name) => name, 9)]]);
    const data = join(folder, 'sets');
    await writePictures(join(data, 'colours', 'train'), ['red', 'green', 'blue'], 4);
    await writePictures(join(data, 'colours', 'val'), ['red', 'green', 'blue'], 2);
    writeFolder(data, [
      ['halves/dev.tar', await tarOfHalves([6, 8, 24, 26])],
      ['halves/dev.csv', 'key,group,kind\n0,left,view\n1,left,view\n2,right,view\n3,right,view\n'],
      ['broken/train/a/0.png', 'no picture'],
      ['broken/train/b/0.png', 'no picture'],
      ['broken/val/a/0.png', 'no picture'],
      ['broken/val/b/0.png', 'no picture'],
      ['alone/train/0.png', await halves(8)],
    ]);
    const out = join(folder, 'out');
    const args: EvalAllArguments = {
      model: run,
      compare: [other],
      data,
      out,
      quick: true,
      draws: 20,
      size: SIDE,
      resize: SIDE,
      tasks: 'knn,retrieval',
    };
    const codes: number[] = [];
    const first = await outputOf(async () => void codes.push(await evalAll(args)));
    const lines = first.stdout.split('\n').map((line) => line.split(/\s{2,}/));
    const models = [`teacher of ${run}`, other, 'random weights', 'raw pixels', 'colour histogram', 'PCA of pixels'];
    t.deepEqual(lines[0], ['set', 'task', 'metric', ...models], 'models side by side');
    t.deepEqual(
      lines.slice(1, 3).map(([set, task]) => [set, task]),
      [
        ['colours', 'knn'],
        ['halves', 'retrieval'],
      ],
      'a line a task',
    );
    t.ok(/^100\.0/.test(lines[1][3]) && /^100\.0/.test(lines[1][8]), 'colours are easy');
    t.equal(codes[0], 1, 'the broken set counts as a failure');
    t.ok(/^knn on broken failed: .*corrupt/m.test(first.stdout), 'which is told');
    t.ok(/alone is left out: it has pictures alone/.test(first.stderr), 'and what a set lacks');
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    for (const part of ['colours', 'halves', 'other.safetensors', 'PCA of pixels', 'What failed']) {
      t.ok(page.includes(part), `the page has ${part}`);
    }
    t.ok(existsSync(join(out, 'halves', 'retrieval', 'report.html')), 'a page each');

    const again = await outputOf(
      async () => void codes.push(await evalAll({ ...args, sets: 'colours,halves', json: true })),
    );
    t.equal(codes[1], 0, 'without the broken set');
    t.equal(again.stderr.match(/taken over from/g)?.length, 2, 'nothing is made again');
    const { reports, failures } = JSON.parse(again.stdout);
    t.deepEqual([reports.length, failures.length, reports[1].models.length], [2, 0, 6]);

    for (const [change, kind, pattern] of [
      [{ tasks: 'knn,sgement' }, UsageError, /--tasks sgement is unknown; there are knn, /],
      [{ sets: 'nowhere' }, UsageError, /--sets nowhere is unknown; there are alone, /],
      [{ sets: 'alone' }, UsageError, /no set of .* allows knn, retrieval/],
      [{ data: join(folder, 'run') }, DataError, /holds no data set/],
      [{ out: '' }, UsageError, /--out is missing/],
    ] as const) {
      try {
        await outputOf(async () => void (await evalAll({ ...args, ...change })));
        t.fail(`${JSON.stringify(change)} was taken`);
      } catch (error) {
        t.ok(error instanceof kind && pattern.test((error as Error).message), (error as Error).message);
      }
    }
  });
});
