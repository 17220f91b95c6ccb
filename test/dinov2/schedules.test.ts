/** Schedules against numbers of the official scheduler: the specification's, and the stored reference arrays. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import test from 'tape';
import { type CosineOptions, cosineSchedule, trainingLengths, trainingSchedules } from '../../src/dinov2/schedules.js';
import { readSafetensors } from '../../src/io/safetensors.js';
import { loadConfig } from '../../src/train/config.js';

const GOLDEN = fileURLToPath(new URL('../../../shared/goldens/schedules.safetensors', import.meta.url));

test('cosineSchedule: the ten values of the specification, then the final one', async (t) => {
  const schedule = cosineSchedule({ baseValue: 1, finalValue: 0.1, totalIters: 10, warmupIters: 4 });
  const expected = [0, 0.333333, 0.666667, 1, 1, 0.939711, 0.775, 0.55, 0.325, 0.160289, 0.1, 0.1];
  expected.forEach((value, i) => {
    t.ok(Math.abs(schedule.at(i) - value) < 1e-6, `index ${i}: ${schedule.at(i)} is ${value}`);
  });
  t.equal(schedule.length, 10);
});

test('cosineSchedule: stored reference arrays', async (t) => {
  if (!existsSync(GOLDEN)) return t.skip('no ../shared/goldens beside the project');
  const file = readSafetensors(readFileSync(GOLDEN));
  const { spec } = JSON.parse(file.metadata.case) as { spec: Record<string, number>[] };
  spec.forEach((entry, i) => {
    const options = Object.fromEntries(
      Object.entries(entry).map(([name, value]) => [
        name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase()),
        value,
      ]),
    ) as unknown as CosineOptions;
    const schedule = cosineSchedule(options);
    const expected = file.float64(`sched${i}`);
    const worst = expected.reduce((largest, value, j) => Math.max(largest, Math.abs(schedule.at(j) - value)), 0);
    t.equal(expected.length, schedule.length + 3);
    // Two libraries' cosines differ in the last bit, relative to the larger end.
    const scale = Math.max(Math.abs(options.baseValue), Math.abs(options.finalValue));
    t.ok(worst <= 4e-16 * scale, `array ${i} of ${expected.length}: largest difference ${worst}`);
  });
});

test('cosineSchedule: stays between its values and refuses parts longer than the whole', async (t) => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat(50),
      fc.nat(50),
      fc.nat(50),
      fc.nat(200),
      (baseValue, finalValue, freezeIters, warmupIters, rest, i) => {
        const totalIters = freezeIters + warmupIters + rest;
        const value = cosineSchedule({ baseValue, finalValue, totalIters, warmupIters, freezeIters }).at(i);
        return value >= 0 && value <= Math.max(baseValue, finalValue) + 1e-12;
      },
    ),
  );
  t.throws(() => cosineSchedule({ baseValue: 1, finalValue: 0, totalIters: 5, warmupIters: 6 }), /do not fit in 5/);
  t.throws(() => cosineSchedule({ baseValue: 1, finalValue: 0, totalIters: 5.5 }), /totalIters must be a whole number/);
  t.throws(() => cosineSchedule({ baseValue: 1, finalValue: 0, totalIters: 5 }).at(-1), /start at 0/);
});

test('trainingSchedules: the official vitl14 run', async (t) => {
  const config = loadConfig({ preset: 'vitl14', worldSize: 96 });
  const schedules = trainingSchedules(config);
  t.equal(schedules.lr.length, 625_000);
  t.equal(schedules.lr.at(0), 0, 'the first iteration learns nothing');
  t.ok(
    Math.abs(schedules.lr.at(99_999) - 2e-4 * Math.sqrt(3)) < 1e-18,
    'full rate at the end of 100,000 warm-up iterations',
  );
  t.equal(schedules.lastLayerLr.at(1249), 0);
  t.equal(schedules.lastLayerLr.at(1250), schedules.lr.at(1250));
  t.equal(schedules.lastLayerLr.at(700_000), 1e-6);
  t.equal(schedules.momentum.at(0), 0.994);
  t.ok(Math.abs(schedules.momentum.at(312_500) - 0.997) < 1e-12);
  t.ok(Math.abs(schedules.momentum.at(624_999) - 0.99999999999996) < 1e-14);
  t.ok(Math.abs(schedules.teacherTemp.at(1) - 0.0400008) < 1e-9);
  t.equal(schedules.teacherTemp.length, 37_500);
  t.equal(schedules.teacherTemp.at(37_500), 0.07);
  t.ok(Math.abs(schedules.weightDecay.at(0) - 0.04) < 1e-16);
  t.equal(schedules.weightDecay.at(625_000), 0.2);
});

test('train.steps compresses everything counted in epochs', async (t) => {
  const lengths = trainingLengths(loadConfig({ preset: 'vitl14', set: ['train.steps=10000'] }));
  t.deepEqual(lengths, {
    epochLength: 20,
    totalIters: 10_000,
    warmupIters: 1600,
    freezeLastLayerIters: 20,
    teacherTempWarmupIters: 600,
  });
});
