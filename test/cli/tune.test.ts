/** `webdino tune`: options, the shapes of a configuration, and the table that it leaves. */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'tape';
import { readTunedTable } from '../../src/gpu/node_tuning.js';
import { formatTunedTable } from '../../src/gpu/tuning.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

function tune(...args: string[]) {
  return spawnSync(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', 'tune', ...args], {
    cwd: root,
    encoding: 'utf8',
  });
}

const TINY = ['--size', '14', '--batch', '1', '--seconds', '0.001'];

test('webdino tune: usage errors', (t) => {
  const wrong: [string[], RegExp][] = [
    [['--preset', 'small96', '--size', '224'], /--size belongs to feature extraction/],
    [['--set', 'student.arch=vit_small', '--arch', 'vit_base'], /--arch belongs to feature extraction/],
    [['--seconds', '0'], /--seconds takes a number above 0/],
    [['--dtype', 'f8'], /f8 is unknown/],
  ];
  for (const [args, message] of wrong) {
    const { status, stderr } = tune(...args);
    t.ok(status === 2 && message.test(stderr), stderr.trim());
  }
  t.end();
});

test('webdino tune --dry-run: shapes of features and of a training step', (t) => {
  const shapes = (args: string[]): string[] => {
    const { stdout, stderr } = tune('--dry-run', '--json', ...args);
    try {
      return JSON.parse(stdout).shapes.map(({ key }: { key: string }) => key);
    } catch {
      t.fail(stderr);
      return [];
    }
  };
  const features = shapes(['--arch', 'vit_small', '--size', '28', '--batch', '2', '--dtype', 'f16']);
  t.ok(features.includes('gemm NT f16 f16 10x1152x384'), features.join('; '));
  t.ok(features.includes('attention f16 6x64 2x5'));
  const training = shapes([
    '--set',
    'train.batch_size_per_gpu=2',
    'crops.global_crops_size=32',
    'crops.local_crops_size=16',
  ]);
  t.ok(
    training.some((key) => key.startsWith('gemm_split TN f32')),
    training.join('; '),
  );
  t.ok(training.some((key) => key.startsWith('attention_gradient f32')));
  t.end();
});

test('webdino tune writes a table, and keeps what others have in it', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'webdino-tune-'));
  const out = join(folder, 'tuned.json');
  writeFileSync(out, formatTunedTable(new Map([['another card', new Map([['gemm NT f32 f32 1x2x3', 'direct']])]])));
  const { status, stdout, stderr } = tune('--out', out, '--json', ...TINY);
  t.equal(status, 0, stderr.trim());
  const { adapter, shapes, table } = JSON.parse(stdout);
  t.equal(table, out);
  t.ok(shapes.length >= 5, `${adapter}: ${shapes.length} shapes`);
  const written = readTunedTable(out);
  t.equal(written.get('another card')?.get('gemm NT f32 f32 1x2x3'), 'direct', 'the other card kept its own');
  for (const { key, winner } of shapes) t.equal(written.get(adapter)?.get(key), winner, `${key}: ${winner}`);

  writeFileSync(out, '{');
  const anew = tune('--out', out, ...TINY);
  t.equal(anew.status, 0, anew.stderr.trim());
  t.ok(readTunedTable(out).has(adapter), 'a corrupt table is written anew');
  t.ok(/gemm NT f32 f32 \S+ +.* ms.*: \w+/.test(anew.stdout) && existsSync(out), anew.stdout.split('\n')[1]);
  t.ok(readFileSync(out, 'utf8').startsWith('{\n  "format"'), 'JSON that people can read');
  rmSync(folder, { recursive: true });
  t.end();
});
