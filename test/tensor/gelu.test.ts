import test from 'tape';
import * as geluKernel from '../../kernels/gelu.js';
import { Program } from '../../src/gpu/program.js';
import { allClose, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/linear.js';

test('gelu alone, in both storages', async (t) => {
  for (const storage of ['f32', 'f16'] as const) {
    for (const [rows, columns] of [
      [1, 4],
      [257, 40],
    ]) {
      const program = new Program(await testGpu(), 'gelu');
      const input = program.input('input', [rows, columns], storage);
      const y = program.keep(program.intermediate('y', [rows, columns], storage));
      program.dispatch(geluKernel.plan({ elements: y.elements, storage }), [input, y]);
      await program.compile({ guard: true });
      const values = noise(rows * columns, 1).map((v) => Math.round(320 * v) / 64);
      program.write(input, values);
      program.run();
      const tolerance = storage === 'f16' ? { absolute: 1e-6, relative: 5e-4 } : { absolute: 1e-6 };
      allClose(
        t,
        await program.read(y),
        Float64Array.from(values, oracle.gelu),
        `${rows} x ${columns}, ${storage}`,
        tolerance,
      );
      t.deepEqual(await program.checkGuards(), [], 'nothing written past the end');
      program.dispose();
    }
  }
  t.throws(() => geluKernel.plan({ elements: 6 }), /gelu: rows of 6 values/);
});
