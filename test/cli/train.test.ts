import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import test from 'tape';
import { loadConfig } from '../../src/train/config.js';
import { readMetrics } from '../../src/train/metrics.js';
import { differingFiles, inTemporaryFolder, TINY, tinySource } from '../train/tiny_run.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const COMMAND = ['--import', 'tsx', 'src/cli/main.ts'];
const TINY_OPTIONS = TINY.flatMap((text) => ['--set', text]);

function webdino(args: readonly string[], environment: Record<string, string> = {}) {
  const env = { ...process.env, ...environment };
  const { status, stdout, stderr } = spawnSync(process.execPath, [...COMMAND, ...args], {
    cwd: root,
    encoding: 'utf8',
    env,
  });
  return { status, stdout, stderr };
}

/** Writes generated pictures as PNG files, one of them cut off. */
async function writePictures(folder: string, count: number): Promise<void> {
  const source = tinySource(count);
  for (let i = 0; i < count; i++) {
    const { width, height, data } = source.pixels!(i);
    const png = await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer();
    mkdirSync(join(folder, source.name(i)[0]), { recursive: true });
    writeFileSync(join(folder, source.name(i)), i === 3 ? png.subarray(0, 200) : png);
  }
}

test('every verb has a help that ends with two examples, and a mistake is one line and exit code 2', (t) => {
  const help = webdino(['--help']);
  t.equal(help.status, 0);
  for (const verb of [
    'doctor',
    'train',
    'distill',
    'resume',
    'eval',
    'embed',
    'parity',
    'quickstart',
    'presets',
    'schema',
  ]) {
    t.match(help.stdout, new RegExp(`^  ${verb}\\b`, 'm'), verb);
  }
  for (const verb of [['train'], ['distill'], ['eval', 'knn']]) {
    const { status, stdout } = webdino([...verb, '--help']);
    t.ok(
      status === 0 && /\nExamples:\n {2}\$ webdino .*\n {2}\$ webdino .*\n$/.test(stdout),
      `${verb.join(' ')} --help`,
    );
  }
  const mistakes: [string[], RegExp][] = [
    [['trian'], /unknown command 'trian'/],
    [['train', '--dat', 'x'], /unknown option '--dat'.*--data/],
    [['train', '--out', 'x'], /--data is missing/],
    [['train', '--data', 'mnist'], /--out is missing/],
    [['train', '--data', 'mnist', '--out', 'x', '--set', 'optim.lrr=1'], /no key optim.lrr. Did you mean optim.lr\?/],
    [['train', '--data', 'mnist', '--out', 'x', '--preset', 'tiny'], /no preset tiny. Presets: .*quickstart/],
    [['train', '--data', 'mnist', '--out', 'x', '--steps', 'many'], /--steps takes a whole number from 1/],
    [['--adapter', 'none', 'train', '--data', 'mnist', '--out', 'x', '--preset', 'quickstart'], /none/],
  ];
  for (const [args, pattern] of mistakes) {
    const { status, stderr } = webdino(args);
    t.ok(
      status === 2 && pattern.test(stderr) && stderr.trim().split('\n').length === 1,
      `${args.join(' ')}: ${stderr.trim()}`,
    );
  }
  t.end();
});

test('presets and schema', (t) => {
  t.match(webdino(['presets']).stdout, /^quickstart\n {4}Two minutes/m);
  t.equal((JSON.parse(webdino(['schema']).stdout) as { type: string }).type, 'object');
  t.end();
});

test('data that cannot be used: one line and exit code 4', async (t) => {
  await inTemporaryFolder(async (folder) => {
    mkdirSync(join(folder, 'empty'));
    writeFileSync(join(folder, 'broken.zip'), 'PK no zip at all');
    for (const [data, pattern] of [
      ['empty', /no pictures in .*empty/],
      ['broken.zip', /broken.zip/],
      ['missing', /missing cannot be opened/],
    ] as const) {
      const { status, stderr } = webdino([
        'train',
        '--data',
        join(folder, data),
        '--out',
        join(folder, 'run'),
        ...TINY_OPTIONS,
      ]);
      t.ok(status === 4 && pattern.test(stderr) && stderr.trim().split('\n').length === 1, stderr.trim());
    }
    const { status, stderr } = webdino(['resume', join(folder, 'empty')]);
    t.ok(status === 4 && /holds no checkpoint/.test(stderr), stderr.trim());
    if (process.platform === 'linux') {
      const options = ['train', '--data', 'mnist', '--out', join(folder, 'run'), ...TINY_OPTIONS];
      const nothing = webdino(options, { VK_DRIVER_FILES: '/nowhere/icd.json', WEBDINO_ADAPTER: 'auto' });
      t.equal(nothing.status, 3, 'no GPU: exit code 3');
    }
    t.notOk(existsSync(join(folder, 'run')), 'nothing was written');
  });
});

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.on('close', resolve));
}

/** Resolves once the run has logged `step`. */
async function reached(out: string, step: number): Promise<void> {
  const path = join(out, 'metrics.jsonl');
  const isThere = (): boolean =>
    existsSync(path) && readMetrics(path).some((record) => record.step >= step && record.total_loss !== undefined);
  while (!isThere()) await new Promise((resolve) => setTimeout(resolve, 20));
}

test('train, Ctrl-C, resume: the bytes of a run that was not stopped', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const data = join(folder, 'pictures');
    await writePictures(data, 12);
    const out = join(folder, 'stopped');
    const options = [
      ...['train', '--data', data, '--out', out, ...TINY_OPTIONS, '--steps', '60', '--seed', '9'],
      ...['--set', 'train.checkpoint_period=0', '--set', 'train.eval_period=1000', '--set', 'train.eval_k=[3]'],
      ...['--set', `train.eval_train_path=${data}`, '--set', `train.eval_val_path=${data}`],
    ];
    const plan = webdino([...options, '--dry-run', '--json']);
    t.equal(plan.status, 0, plan.stderr);
    const { steps, pictures, dispatches } = JSON.parse(plan.stdout) as Record<string, number>;
    t.ok(steps === 60 && pictures === 12 && dispatches > 100, 'a dry run counts');
    t.notOk(existsSync(out), 'and writes nothing');

    const child = spawn(process.execPath, [...COMMAND, ...options], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk;
    });
    child.stderr.resume();
    const exit = ended(child);
    await Promise.race([reached(out, 4), exit]);
    child.kill('SIGINT');
    t.equal(await exit, 0, 'Ctrl-C ends in good order');
    t.match(stdout, /go on with {2}webdino resume/);
    const [stop] = readdirSync(join(out, 'checkpoints')).filter((name) => name.startsWith('step_'));
    t.ok(Number(stop.slice(5)) < 60, `at ${stop}`);
    const refused = webdino(options);
    t.ok(refused.status === 2 && /holds a run already/.test(refused.stderr), 'it is not overwritten');
    const resumed = webdino(['resume', out, '--quiet']);
    t.equal(resumed.status, 0, resumed.stderr);

    const config = loadConfig({ file: join(out, 'config.yaml') });
    t.deepEqual([config.train.dataset_path, config.train.output_dir], [data, out], 'config.yaml names both ends');
    const rerun = join(folder, 'whole');
    const whole = webdino(['train', '--config', join(out, 'config.yaml'), '--out', rerun, '--json']);
    t.equal(whole.status, 0, whole.stderr);
    t.deepEqual(
      differingFiles(join(rerun, 'checkpoints/step_0000060'), join(out, 'checkpoints/step_0000060')),
      { compared: 5, differing: [] },
      'and repeats the run in one go: the bytes are equal',
    );
    const result = JSON.parse(whole.stdout) as { step: number; badPictures: number; knn: { rows: { name: string }[] } };
    t.deepEqual([result.step, result.badPictures], [60, 1], '--json tells the result');
    t.deepEqual(
      result.knn.rows.map(({ name }) => name),
      ['trained teacher', 'untrained network', 'raw pixels'],
    );
    t.match(whole.stderr, /Skipped a picture: b\/3.png .*\(1 so far\)/, 'the log names what is skipped');
    t.ok(readFileSync(join(out, 'report.html'), 'utf8').includes('raw pixels'), 'the report has the kNN table');
  });
});
