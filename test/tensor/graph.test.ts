import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Gpu } from '../../src/gpu/device.js';
import { Graph } from '../../src/tensor/graph.js';
import { mlp } from '../../src/tensor/linear.js';
import { noise, sameBits, testGpu } from '../fixture.js';

const [R, D, H] = [50, 32, 64];
const BLOCKS = 4;

/** Four residual-free MLP blocks, each in a checkpoint or not; returns the program and what it leaves. */
function blocks(gpu: Gpu, checkpointed: boolean) {
  const program = new Program(gpu, 'blocks');
  const graph = new Graph(program);
  const x = program.input('x', [R, D]);
  program.write(x, noise(R * D, 1));
  x.requiresGrad = true;
  let y = x;
  for (let b = 0; b < BLOCKS; b++) {
    const weights = [
      [H, D],
      [D, H],
    ].map((shape, l) => {
      const weight = program.constant(`w${b}${l}`, shape, noise(H * D, 2 + b + 10 * l));
      weight.requiresGrad = true;
      return { weight };
    });
    const input = y;
    y = checkpointed ? graph.checkpoint(() => mlp(graph, input, weights)) : mlp(graph, input, weights);
  }
  const output = program.keep(y);
  const seed = program.constant('seed', [R, D], noise(R * D, 99));
  graph.backward([[output, seed]]);
  const gradient = program.keep(graph.gradientOf(x)!);
  return { program, output, gradient };
}

test('a checkpointed graph has the bits of a plain one, in less memory', async (t) => {
  const gpu = await testGpu();
  const runs = [];
  for (const checkpointed of [false, true]) {
    const { program, output, gradient } = blocks(gpu, checkpointed);
    await program.compile();
    program.run();
    const [y, dx] = await program.readAll([output, gradient]);
    runs.push({ y, dx, arenaBytes: program.cost.arenaBytes, flops: program.cost.flops });
    program.dispose();
  }
  sameBits(t, runs[1].y, runs[0].y, 'the result');
  sameBits(t, runs[1].dx, runs[0].dx, 'the gradient');
  t.ok(runs[1].arenaBytes < runs[0].arenaBytes, `memory: ${runs[1].arenaBytes} < ${runs[0].arenaBytes}`);
  t.ok(runs[1].flops > runs[0].flops, 'the forward pass is paid twice');
  t.end();
});

test('a dry GPU counts what the real one allocates', async (t) => {
  const gpu = await testGpu();
  const dry = Gpu.dry(gpu.capabilities, gpu.shaders);
  const planned = blocks(dry, false).program;
  await planned.compile();
  const before = gpu.memory.bytes;
  const { program } = blocks(gpu, false);
  await program.compile();
  t.equal(dry.peakBytes, gpu.memory.bytes - before, 'the same bytes');
  t.throws(() => planned.run(), /dry GPU/, 'and it cannot run');
  program.dispose();
  t.end();
});
