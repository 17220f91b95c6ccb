import test from 'tape';
import { fromHalf, halfBits, halfValue, toHalf } from '../../src/gpu/half.js';
import { Program } from '../../src/gpu/program.js';
import * as copyRows from '../../kernels/copy_rows.js';
import { noise, sameBits, testGpu } from '../fixture.js';

test('half precision: every half survives the way to float32 and back', (t) => {
  let wrong = 0;
  for (let bits = 0; bits < 65536; bits++) {
    const isNan = (bits & 0x7c00) === 0x7c00 && (bits & 1023) !== 0;
    if (isNan ? !Number.isNaN(halfValue(bits)) : halfBits(halfValue(bits)) !== bits) wrong++;
  }
  t.equal(wrong, 0, 'all 65,536 bit patterns');
  t.equal(halfBits(65519), 0x7bff, 'just below the rounding border: the largest half');
  t.equal(halfBits(65520), 0x7c00, 'from there: infinity');
  t.equal(halfBits(-1e9), 0xfc00, 'minus infinity');
  t.equal(halfBits(2 ** -25), 0, 'half the smallest subnormal ties to even: zero');
  t.equal(halfBits(3 * 2 ** -25), 2, 'one and a half of it ties to two');
  t.end();
});

test('half precision: the GPU packs as the CPU does, and overflow is infinity', async (t) => {
  const gpu = await testGpu();
  const values = noise(4096, 5).map((v, i) => v * 2 ** ((i % 40) - 24));
  values.set([1e6, -1e6, 65504, 65519]);
  const program = new Program(gpu, 'half');
  const input = program.input('x', [values.length], 'f16');
  const copy = program.keep(program.intermediate('copy', [values.length], 'f16'));
  program.dispatch(copyRows.plan({ rows: 1, columns: values.length, from: 0, to: 0, storage: 'f16' }), [input, copy]);
  await program.compile();
  program.write(input, values);
  program.run();
  sameBits(t, await program.read(copy), fromHalf(toHalf(values)), 'copied as halves');
  program.dispose();
  t.end();
});
