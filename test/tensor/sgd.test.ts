import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { recordSgdMomentum } from '../../src/tensor/sgd.js';
import { Tensor } from '../../src/gpu/tensor.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';
import * as oracle from '../oracle/probes.js';

for (const [heads, perHead] of [
  [1, 4],
  [3, 52],
  [13, 1028],
]) {
  test(`SGD with momentum, ${heads} heads of ${perHead} weights`, async (t) => {
    const gpu = await testGpu();
    const runs: Float32Array[] = [];
    for (let run = 0; run < 2; run++) {
      const program = new Program(gpu, 'sgd');
      const gradient = program.input('gradient', [heads, perHead]);
      const rates = program.input('rates', [heads]);
      // State lives between steps, so it is no input.
      const state = ['weight', 'velocity'].map((name) => {
        const tensor = new Tensor(name, [heads, perHead], 'f32', 'persistent');
        tensor.placement = { buffer: gpu.storageBuffer(tensor.sizeBytes, name), offsetBytes: 0 };
        return tensor;
      });
      const [weight, velocity] = state;
      recordSgdMomentum(program, { gradient, weight, velocity }, rates, 0.9);
      await program.compile();
      const start = noise(heads * perHead, 1);
      gpu.device.queue.writeBuffer(weight.place().buffer, 0, start.buffer as ArrayBuffer);
      const expected = { weight: Float64Array.from(start), velocity: new Float64Array(heads * perHead) };
      for (let step = 0; step < 3; step++) {
        const slopes = noise(heads * perHead, 2 + step);
        const stepRates = Float32Array.from({ length: heads }, (_, h) => 0.1 / (1 + h + step));
        program.write(gradient, slopes);
        program.write(rates, stepRates);
        program.run();
        oracle.sgdMomentum(expected.weight, expected.velocity, slopes, stepRates, 0.9);
      }
      const [w, v] = (await program.readAll(state)) as Float32Array[];
      allClose(t, w, expected.weight, 'the weights after three steps');
      allClose(t, v, expected.velocity, 'the velocity after three steps');
      runs.push(w);
      program.dispose();
      for (const tensor of state) gpu.destroyBuffer(tensor.place().buffer);
    }
    sameBits(t, runs[0], runs[1], 'the same bits twice');
  });
}

test('SGD refuses tensors that do not fit', async (t) => {
  const program = new Program(await testGpu(), 'sgd refused');
  const [gradient, weight, velocity] = [12, 12, 16].map((n, i) => program.input(`state ${i}`, [n]));
  t.throws(
    () => recordSgdMomentum(program, { gradient, weight, velocity }, program.input('rates', [3]), 0.9),
    /must hold as many values/,
  );
  program.dispose();
});
