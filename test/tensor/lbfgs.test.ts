import test from 'tape';
import * as crossEntropy from '../../kernels/grouped_cross_entropy.js';
import * as lbfgsSlope from '../../kernels/lbfgs_slope.js';
import { ACTIONS, HISTORY, plan as planStep, STATE_VALUES } from '../../kernels/lbfgs_step.js';
import { BASELINE_CAPABILITIES } from '../../src/gpu/capabilities.js';
import type { Gpu } from '../../src/gpu/device.js';
import { Program } from '../../src/gpu/program.js';
import { Tensor } from '../../src/gpu/tensor.js';
import { allClose, noise, plannedAsHardware, sameBits, testGpu } from '../fixture.js';
import { groupedCrossEntropy } from '../oracle/grouped_cross_entropy.js';
import { lbfgsDirection, type Pair } from '../oracle/lbfgs.js';

async function adapters(): Promise<[Gpu, string][]> {
  const gpu = await testGpu();
  return gpu.capabilities.software
    ? [
        [gpu, ''],
        [plannedAsHardware(gpu), ', as on hardware'],
      ]
    : [[gpu, '']];
}

/** A tensor with a buffer of its own, which keeps what kernels write from run to run. */
function stored(gpu: Gpu, name: string, shape: readonly number[], data?: Float32Array): Tensor {
  const tensor = new Tensor(name, shape, 'f32', 'persistent');
  tensor.placement = { buffer: gpu.storageBuffer(tensor.sizeBytes, name), offsetBytes: 0 };
  if (data) gpu.device.queue.writeBuffer(tensor.place().buffer, 0, data.buffer as ArrayBuffer);
  return tensor;
}

for (const [rows, groups, classes] of [
  [1, 1, 2],
  [50, 3, 10],
  [261, 5, 7],
  [17, 2, 261],
]) {
  test(`grouped cross-entropy, ${rows} rows, ${groups} classifiers of ${classes} classes`, async (t) => {
    const pitch = crossEntropy.logitColumns({ groups, classes });
    const lossPitch = crossEntropy.lossColumns({ groups });
    const logits = noise(rows * pitch, 1).map((value) => 9 * value);
    const labels = Uint32Array.from({ length: rows }, (_, r) => (r * 7) % classes);
    const expected = groupedCrossEntropy({ logits, labels, groups, classes, pitch });
    for (const [gpu, how] of await adapters()) {
      const program = new Program(gpu, 'grouped cross-entropy');
      const [z, y] = [stored(gpu, 'logits', [rows, pitch], logits), program.constant('labels', [rows], labels)];
      const losses = program.keep(program.intermediate('losses', [rows, lossPitch]));
      program.dispatch(crossEntropy.plan({ rows, groups, classes, scale: 0.25 }, gpu.capabilities), [z, y, losses]);
      await program.compile({ guard: true });
      program.run();
      const [loss, gradient] = await program.readAll([losses, z]);
      const found = Array.from(
        { length: rows * groups },
        (_, i) => loss[Math.floor(i / groups) * lossPitch + (i % groups)],
      );
      allClose(t, found, expected.losses, `losses${how}`);
      const classColumns = (values: ArrayLike<number>, scale: number): number[] =>
        Array.from(values, (value, i) => (i % pitch < groups * classes ? scale * value : 0));
      allClose(t, classColumns(gradient, 1), classColumns(expected.gradient, 0.25), `gradient${how}`);
      t.ok(
        gradient.every((value, i) => i % pitch < groups * classes || value === logits[i]),
        `what fills a row up is not touched${how}`,
      );
      t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
      program.dispose();
      gpu.destroyBuffer(z.place().buffer);
    }
  });
}

test('grouped cross-entropy: tiny losses keep their digits', async (t) => {
  const gpu = await testGpu();
  const logits = Float32Array.of(20, 0, -1, 0, 3, 3.5, -40, 0);
  const labels = Uint32Array.of(0, 1);
  const expected = groupedCrossEntropy({ logits, labels, groups: 1, classes: 3, pitch: 4 });
  const program = new Program(gpu, 'tiny losses');
  const z = stored(gpu, 'logits', [2, 4], logits);
  const losses = program.keep(program.intermediate('losses', [2, 4]));
  program.dispatch(crossEntropy.plan({ rows: 2, groups: 1, classes: 3, scale: 1 }, gpu.capabilities), [
    z,
    program.constant('labels', [2], labels),
    losses,
  ]);
  await program.compile();
  program.run();
  const [loss, gradient] = await program.readAll([losses, z]);
  t.ok(expected.losses[0] < 3e-9, `a loss of ${expected.losses[0]}`);
  t.ok(Math.abs(loss[0] / expected.losses[0] - 1) < 1e-5, 'to five digits');
  t.ok(Math.abs(gradient[0] / expected.gradient[0] - 1) < 1e-5, 'and so is its gradient');
  t.ok(Math.abs(loss[4] / expected.losses[1] - 1) < 1e-6, 'a middling one');
  program.dispose();
  gpu.destroyBuffer(z.place().buffer);
});

for (const [problems, variables, steps] of [
  [1, 4, 3],
  [3, 260, 13],
  [2, 1028, 2],
]) {
  test(`lbfgs_step: ${problems} problems of ${variables} variables, ${steps} pairs`, async (t) => {
    for (const [gpu, how] of await adapters()) {
      const gradientAt = problems * variables + 4;
      const size = { problems, variables, gradientAt };
      const program = new Program(gpu, 'lbfgs_step');
      const control = program.input('control', [problems, 4], 'u32');
      const vectors = {
        trial: stored(gpu, 'trial', [2 * gradientAt]),
        point: stored(gpu, 'point', [2 * gradientAt]),
        s: stored(gpu, 's', [HISTORY, problems, variables]),
        y: stored(gpu, 'y', [HISTORY, problems, variables]),
        d: stored(gpu, 'd', [problems, variables]),
        state: stored(gpu, 'state', [problems, STATE_VALUES]),
      };
      const { trial, point, s, y, d, state } = vectors;
      program.dispatch(planStep(size, gpu.capabilities), [trial, point, s, y, d, state, control]);
      await program.compile();

      const before: { w: Float32Array; g: Float32Array }[] = Array.from({ length: problems }, () => ({
        w: new Float32Array(variables),
        g: new Float32Array(variables),
      }));
      const pairs: Pair[][] = before.map(() => []);
      for (let step = 0; step <= steps; step++) {
        // Any points whose gradients grow along with them will do.
        const values = new Float32Array(2 * gradientAt);
        const here = before.map((_, p) => {
          const w = noise(variables, 100 * step + p);
          const g = w.map((value, i) => (1 + (i % 7)) * value + 0.05 * Math.sin(i + step));
          values.set(w, p * variables);
          values.set(g, gradientAt + p * variables);
          return { w, g };
        });
        gpu.device.queue.writeBuffer(trial.place().buffer, 0, values);
        const action = step === 0 ? ACTIONS.start : ACTIONS.accept;
        const kept = Math.min(step, HISTORY);
        const newest = step === 0 ? 0 : (step - 1) % HISTORY;
        const rate = new Uint32Array(Float32Array.of(0.5).buffer)[0];
        const words = Uint32Array.from({ length: 4 * problems }, (_, i) => [action, kept, newest, rate][i % 4]);
        program.write(control, words);
        program.run();
        const [direction, results, next] = await program.readAll([d, state, trial]);
        here.forEach(({ w, g }, p) => {
          if (step > 0) {
            pairs[p].push({
              s: w.map((value, i) => value - before[p].w[i]),
              y: g.map((value, i) => value - before[p].g[i]),
            });
          }
          const expected = lbfgsDirection(g, pairs[p].slice(-HISTORY));
          const found = direction.subarray(p * variables, (p + 1) * variables);
          if (step === steps) {
            allClose(t, found, expected, `problem ${p}: direction${how}`, { absolute: 1e-4, relative: 1e-4 });
            const slope = expected.reduce((sum, value, i) => sum + value * g[i], 0);
            const kept = p * STATE_VALUES + HISTORY;
            allClose(t, [results[kept + 1]], [slope], `problem ${p}: slope${how}`, { relative: 1e-4 });
            const square = g.reduce((sum, value) => sum + value * value, 0);
            allClose(t, [results[kept + 3]], [square], `problem ${p}: steepness${how}`, { relative: 1e-5 });
            const point = next.subarray(p * variables, (p + 1) * variables);
            allClose(
              t,
              point,
              w.map((value, i) => value + 0.5 * expected[i]),
              `problem ${p}: trial point${how}`,
              {
                absolute: 1e-4,
                relative: 1e-4,
              },
            );
          }
          before[p] = { w, g };
        });
      }

      const [kept] = await program.readAll([d]);
      const half = new Uint32Array(Float32Array.of(0.25).buffer)[0];
      program.write(
        control,
        Uint32Array.from({ length: 4 * problems }, (_, i) => [ACTIONS.retry, 1, 0, half][i % 4]),
      );
      program.run();
      const [same, nearer] = await program.readAll([d, trial]);
      sameBits(t, same, kept, `a second try keeps the direction${how}`);
      allClose(
        t,
        nearer.subarray(0, variables),
        before[0].w.map((value, i) => value + 0.25 * kept[i]),
        `and goes less far${how}`,
      );
      program.write(
        control,
        Uint32Array.from({ length: 4 * problems }, (_, i) => [ACTIONS.restart, 0, 0, half][i % 4]),
      );
      program.run();
      const [steepest] = await program.readAll([d]);
      allClose(
        t,
        steepest.subarray(0, variables),
        before[0].g.map((value) => -value),
        `a restart goes down the gradient${how}`,
      );
      program.dispose();
      for (const tensor of Object.values(vectors)) gpu.destroyBuffer(tensor.place().buffer);
    }
  });
}

test('lbfgs_step: a pair without curvature plays no role', async (t) => {
  const gpu = await testGpu();
  const program = new Program(gpu, 'no curvature');
  const control = program.input('control', [1, 4], 'u32');
  const [trial, point] = [stored(gpu, 'trial', [16]), stored(gpu, 'point', [16])];
  const [s, y] = [stored(gpu, 's', [HISTORY, 4]), stored(gpu, 'y', [HISTORY, 4])];
  const [d, state] = [stored(gpu, 'd', [4]), stored(gpu, 'state', [STATE_VALUES])];
  const size = { problems: 1, variables: 4, gradientAt: 8 };
  program.dispatch(planStep(size, gpu.capabilities), [trial, point, s, y, d, state, control]);
  await program.compile();
  const at = (action: number, pairs: number, w: number[], g: number[]): void => {
    gpu.device.queue.writeBuffer(trial.place().buffer, 0, Float32Array.of(...w, 0, 0, 0, 0, ...g, 0, 0, 0, 0));
    program.write(control, Uint32Array.of(action, pairs, 0, 0));
    program.run();
  };
  at(ACTIONS.start, 0, [0, 0, 0, 0], [1, 2, 3, 4]);
  // The gradient falls where the point grew: s.y is negative.
  at(ACTIONS.accept, 1, [1, 1, 1, 1], [0.5, 1, 2, 3]);
  const [direction] = await program.readAll([d]);
  allClose(t, direction, [-0.5, -1, -2, -3], 'the gradient alone decides');
  program.dispose();
  for (const tensor of [trial, point, s, y, d, state]) gpu.destroyBuffer(tensor.place().buffer);
});

test('lbfgs_slope: penalised gradient and products', async (t) => {
  const [problems, rowsEach, rowVariables, penalised] = [3, 5, 12, 9];
  const variables = rowsEach * rowVariables;
  const gradientAt = problems * variables + 4;
  const strengths = [0.5, 2, 0];
  for (const [gpu, how] of await adapters()) {
    const program = new Program(gpu, 'lbfgs_slope');
    const point = noise(2 * gradientAt, 1);
    const trial = stored(gpu, 'trial', [2 * gradientAt], point);
    const [sums, d] = [noise(problems * variables, 2), noise(problems * variables, 3)];
    const results = program.keep(program.intermediate('results', [problems, 4]));
    program.dispatch(lbfgsSlope.plan({ problems, variables, gradientAt, rowVariables, penalised }, gpu.capabilities), [
      program.constant('sums', [problems, variables], sums),
      program.constant('d', [problems, variables], d),
      program.constant('strength', [problems], Float32Array.from(strengths)),
      trial,
      results,
    ]);
    await program.compile({ guard: true });
    program.run();
    const [found, after] = await program.readAll([results, trial]);
    const expected: number[] = [];
    const gradients: number[] = [];
    strengths.forEach((strength, p) => {
      const products = [0, 0, 0, 0];
      for (let i = 0; i < variables; i++) {
        const w = i % rowVariables < penalised ? point[p * variables + i] : 0;
        const g = sums[p * variables + i] + strength * w;
        const direction = d[p * variables + i];
        gradients.push(g);
        [w * w, g * direction, g * g, direction * direction].forEach((product, k) => {
          products[k] += product;
        });
      }
      expected.push(...products);
    });
    allClose(t, found, expected, `products${how}`);
    allClose(t, after.subarray(gradientAt, gradientAt + problems * variables), gradients, `gradients${how}`);
    sameBits(t, after.subarray(0, gradientAt), point.subarray(0, gradientAt), `the point stays${how}`);
    t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
    program.dispose();
    gpu.destroyBuffer(trial.place().buffer);
  }
});

test('plans of the logistic solver', (t) => {
  const size = { problems: 45, variables: 1960, gradientAt: 45 * 1960 };
  t.deepEqual(planStep(size, BASELINE_CAPABILITIES).grid, [45, 1, 1], 'a workgroup a problem');
  t.throws(() => planStep({ ...size, variables: 1962 }, BASELINE_CAPABILITIES), /multiple of 4/);
  const { grid } = crossEntropy.plan({ rows: 10 ** 6, groups: 45, classes: 10, scale: 1 }, BASELINE_CAPABILITIES);
  t.ok(grid[0] <= 65535 && grid[0] * grid[1] >= (10 ** 6 * 45 * 16) / 64, 'the grid is folded');
  t.end();
});
