import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import type { Diagnosis } from '../../src/cli/doctor.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

function runDoctor(
  options: string,
  environment: Record<string, string> = {},
): { status: number | null; output: string } {
  const script = `import { doctor } from './src/cli/doctor.ts'; process.exitCode = await doctor(${options});`;
  const flags = ['--import', 'tsx', '--input-type=module', '-e', script];
  const env = { ...process.env, ...environment };
  const { status, stdout } = spawnSync(process.execPath, flags, { cwd: root, encoding: 'utf8', env });
  return { status, output: stdout };
}

test('doctor --json: one object with the adapter, its capabilities, the self-test and the speed', (t) => {
  const { status, output } = runDoctor('{ json: true }');
  t.equal(status, 0, 'exit code 0');
  const diagnosis: Diagnosis = JSON.parse(output);
  t.ok(diagnosis.ok && !diagnosis.problem);
  t.ok(diagnosis.adapter!.reason.includes(diagnosis.adapter!.name), diagnosis.adapter!.reason);
  t.ok(diagnosis.capabilities!.maxBindingSizeBytes >= 128 * 2 ** 20);
  t.ok(diagnosis.selfTest!.length >= 3 && diagnosis.selfTest!.every(({ passed }) => passed));
  t.ok(diagnosis.speed!.gemmGflops > 0 && diagnosis.speed!.copyGigabytesPerSecond > 0);
  t.end();
});

test('doctor: for people, and exit code 3 with the line to run where nothing opens', (t) => {
  const { status, output } = runDoctor('{}');
  t.equal(status, 0);
  for (const label of ['adapter', 'tried', 'features', 'limits', 'memory', 'self-test', 'speed']) {
    t.ok(new RegExp(`^${label} `, 'm').test(output), label);
  }
  t.ok(output.includes('webdino can run here.'));

  if (process.platform !== 'linux') return t.end();
  const nothing = runDoctor('{}', { VK_DRIVER_FILES: '/nowhere/icd.json', WEBDINO_ADAPTER: 'auto' });
  t.equal(nothing.status, 3, 'exit code 3');
  t.ok(/PROBLEM: .*run: unset VK_DRIVER_FILES/.test(nothing.output), nothing.output.split('\n').at(-1));
  const json = runDoctor('{ json: true }', { VK_DRIVER_FILES: '/nowhere/icd.json', WEBDINO_ADAPTER: 'auto' });
  t.equal(json.status, 3);
  t.equal((JSON.parse(json.output) as Diagnosis).ok, false);
  t.end();
});
