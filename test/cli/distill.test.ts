import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { loadConfig } from '../../src/train/config.js';
import { inTemporaryFolder, TINY } from '../train/tiny_run.js';
import { writePictures, writeRun } from './model_fixture.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

function distill(args: readonly string[]) {
  const command = ['--import', 'tsx', 'src/cli/main.ts', 'distill', ...args];
  return spawnSync(process.execPath, command, { cwd: root, encoding: 'utf8' });
}

test('distill: what it takes, heads for a teacher without, two students and how they go on', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const data = join(folder, 'pictures');
    await writePictures(data, ['red', 'blue'], 4);
    const teacher = writeRun(folder);
    const { crops, student } = loadConfig({ file: join(teacher, 'config.yaml') });
    const size = crops.global_crops_size;
    const out = join(folder, 'out');
    const options = [
      ...['--data', data, '--out', out, ...TINY.flatMap((text) => ['--set', text]), '--steps', '2', '--quiet'],
      ...['--set', 'train.batch_size_per_gpu=2', `crops={global_crops_size: ${size}, local_crops_size: 16}`],
      ...[
        'optim={warmup_epochs: 0}',
        `student.patch_size=${student.patch_size}`,
        `evaluation={resize: ${size}, crop: ${size}}`,
      ],
    ];
    const without = distill(options);
    t.ok(without.status === 2 && /--teacher is missing/.test(without.stderr), without.stderr.trim());
    const grid = distill([...options, '--teacher', teacher, '--set', `student.patch_size=${2 * student.patch_size}`]);
    t.ok(grid.status === 2 && /has patches of \d+ px, the student of/.test(grid.stderr), grid.stderr.trim());

    const plan = distill([...options, '--teacher', teacher, '--dry-run', '--json']);
    t.ok(plan.status === 0 && JSON.parse(plan.stdout).steps === 2, `a dry run counts ${plan.stderr}`);
    t.notOk(existsSync(out), 'and writes nothing');

    const file = join(folder, 'narrow.yaml');
    const wide = join(folder, 'wide.yaml');
    writeFileSync(file, 'student: {arch: custom, embed_dim: 16, depth: 1}\n');
    writeFileSync(wide, 'student: {arch: custom, embed_dim: 32, depth: 1}\n');
    // --set comes last: what students differ in must not stand there.
    const own = options.map((text) => text.replace('arch: custom, embed_dim: 32, depth: 2, ', ''));
    const both = distill([...own, '--teacher', teacher, '--train-heads', '2', '--student', file, wide, '--json']);
    t.equal(both.status, 0, both.stderr);
    const results = JSON.parse(both.stdout) as { out: string; step: number }[];
    t.deepEqual(
      results.map(({ out: at, step }) => [at, step]),
      [
        [join(out, 'narrow'), 2],
        [join(out, 'wide'), 2],
      ],
      'a run each',
    );
    t.ok(
      existsSync(join(out, 'teacher_heads/checkpoints/step_0000002/teacher.safetensors')),
      'heads were trained first',
    );
    t.equal(loadConfig({ file: join(out, 'wide/config.yaml') }).student.embed_dim, 32);
    t.deepEqual(JSON.parse(readFileSync(join(out, 'students.json'), 'utf8')), { students: ['narrow', 'wide'] });
    const one = distill([...options, '--teacher', teacher, '--teacher-heads', join(out, 'teacher_heads')]);
    t.ok(one.status === 2 && /holds several students already/.test(one.stderr), one.stderr.trim());
  });
});
