import test from 'tape';
import * as addInPlace from '../../kernels/add_in_place.js';
import * as copyRows from '../../kernels/copy_rows.js';
import { planArenas } from '../../src/gpu/arena.js';
import { BASELINE_CAPABILITIES } from '../../src/gpu/capabilities.js';
import { Gpu } from '../../src/gpu/device.js';
import { openAdapter } from '../../src/gpu/node_adapter.js';
import { nodeShaders } from '../../src/gpu/node_shaders.js';
import { Program } from '../../src/gpu/program.js';
import type { TypedData } from '../../src/gpu/tensor.js';
import { assembleShader } from '../../src/gpu/shaders.js';
import { layerNorm } from '../../src/tensor/layer_norm.js';
import { linear } from '../../src/tensor/linear.js';
import { Graph } from '../../src/tensor/graph.js';
import { allClose, noise, sameBits, testGpu } from '../fixture.js';

test('arenas: disjoint lifetimes share memory, conflicting tensors do not share a buffer', (t) => {
  const item = (name: string, sizeBytes: number, first: number, last: number) => ({ name, sizeBytes, first, last });
  const items = [item('a', 1024, 0, 1), item('b', 512, 1, 2), item('c', 1024, 2, 3), item('d', 256, 0, 3)];
  const conflicts = [new Set([1]), new Set([0, 2]), new Set([1]), new Set<number>()];
  const { places, arenaBytes } = planArenas(items, conflicts, 2 ** 20);
  t.notEqual(places[0].arena, places[1].arena, 'a is read while b is written');
  t.notEqual(places[1].arena, places[2].arena, 'b is read while c is written');
  t.equal(
    arenaBytes.reduce((a, b) => a + b, 0),
    1024 + 256 + 512,
    'a and c take turns in one place',
  );
  for (const [i, x] of items.entries()) {
    for (const [j, y] of items.entries()) {
      if (i >= j || places[i].arena !== places[j].arena || x.last < y.first || y.last < x.first) continue;
      const [p, q] = [places[i].offsetBytes, places[j].offsetBytes];
      t.ok(p + x.sizeBytes <= q || q + y.sizeBytes <= p, `${x.name} and ${y.name} do not overlap`);
    }
  }
  t.throws(() => planArenas([item('huge', 2048, 0, 0)], [new Set()], 1024), /huge needs 2048 bytes.*maxBufferSize/);
  const split = planArenas([item('x', 768, 0, 1), item('y', 768, 0, 1)], [new Set(), new Set()], 1024);
  t.equal(split.arenaBytes.length, 2, 'a colour that outgrows a buffer continues in another');
  t.end();
});

test('a recorded program replays with new data and no new memory', async (t) => {
  const gpu = await testGpu();
  const before = gpu.memory;
  const program = new Program(gpu, 'replay');
  const graph = new Graph(program);
  const x = program.input('x', [5, 8]);
  const w = program.constant(
    'w',
    [8, 8],
    Float32Array.from({ length: 64 }, (_, i) => (i % 9 === 0 ? 2 : 0)),
  );
  const y = program.keep(linear(graph, linear(graph, linear(graph, x, w), w), w));
  await program.compile();
  const running = gpu.memory;
  for (const seed of [1, 2, 3]) {
    const data = noise(40, seed);
    program.write(x, data);
    program.run();
    allClose(
      t,
      await program.read(y),
      data.map((v) => 8 * v),
      `run ${seed} sees its own input`,
    );
  }
  t.deepEqual(gpu.memory, running, 'runs allocate nothing');
  t.ok(program.cost.arenaBytes < program.cost.unsharedBytes, 'lifetimes are shared');
  program.dispose();
  t.deepEqual(gpu.memory, before, 'dispose frees everything: no leak');
});

test('shared arenas give the same bits as separate ones', async (t) => {
  const gpu = await testGpu();
  const results: TypedData[][] = [];
  for (const guard of [false, true]) {
    const program = new Program(gpu, 'chain');
    const graph = new Graph(program);
    let x = program.constant('x', [33, 24], noise(33 * 24, 1));
    x.requiresGrad = true;
    const first = x;
    const weight = program.constant('w', [24, 24], noise(576, 2));
    const [g, b] = [program.constant('g', [24], noise(24, 3)), program.constant('b', [24], noise(24, 4))];
    for (const tensor of [weight, g, b]) tensor.requiresGrad = true;
    for (let i = 0; i < 4; i++) x = linear(graph, layerNorm(graph, x, g, b), weight);
    graph.backward([[x, program.constant('seed', x.shape, noise(x.elements, 5))]]);
    const gradients = [first, weight, g, b].map((tensor) => program.keep(graph.gradientOf(tensor)!));
    await program.compile({ guard });
    program.run();
    results.push(await program.readAll([...gradients]));
    program.dispose();
  }
  for (const [i, gradient] of results[0].entries()) sameBits(t, gradient, results[1][i], `gradient ${i}`);
});

test('errors name the kernel, the tensor, the limit', async (t) => {
  const gpu = await testGpu();
  const program = new Program(gpu, 'bad');
  const x = program.input('x', [4]);
  t.throws(() => program.dispatch(addInPlace.plan({ elements: 4 }), [x]), /add_in_place: 1 tensors for 2 bindings/);
  t.throws(() => program.write(x, new Float32Array(3)), /x \[4\] takes 16 bytes, not 12/);
  t.throws(() => program.write('z', new Float32Array(3)), /no input z/);
  const unwritten = program.intermediate('ghost', [4]);
  const out = program.intermediate('out', [4]);
  program.dispatch(copyRows.plan({ rows: 1, columns: 4, from: 0, to: 0 }), [unwritten, out]);
  await program.compile().then(
    () => t.fail('a read of unwritten memory must not compile'),
    (error: Error) => t.match(error.message, /copy_rows.*reads ghost, which nothing has written/),
  );

  const broken = new Program(gpu, 'broken');
  const y = broken.intermediate('y', [4]);
  broken.dispatch(
    { ...copyRows.plan({ rows: 1, columns: 4, from: 0, to: 0 }), prelude: { ROWS: 1, WIDTH: 1, FROM: 0 } },
    [broken.input('x', [4]), y],
  );
  await broken.compile().then(
    () => t.fail('a shader with an unknown name must not compile'),
    (error: Error) =>
      t.match(
        error.message,
        /copy_rows does not compile:\s+copy_rows\.wgsl:\d+: unresolved value 'TO'/,
        'file and line',
      ),
  );
  gpu.check();

  const huge = new Program(gpu, 'huge');
  const limit = gpu.capabilities.maxBindingSizeBytes;
  const big = huge.intermediate('big', [limit / 4 + 64]);
  t.throws(
    () => huge.dispatch(addInPlace.plan({ elements: big.elements }), [big, huge.input('v', [4])]),
    /big.*maxStorageBufferBindingSize/,
  );
  t.throws(
    () => huge.dispatch({ ...addInPlace.plan({ elements: 4 }), grid: [70000, 1, 1] }, [x, x]),
    /a grid of \[70000,1,1\]/,
  );
});

test('a guarded run finds a write past a tensor', async (t) => {
  const gpu = await testGpu();
  const program = new Program(gpu, 'guarded');
  const out = program.intermediate('out', [4]);
  // The rows go four elements further than the tensor has, but stay within the guard only if the binding allowed it.
  program.dispatch(copyRows.plan({ rows: 1, columns: 4, from: 0, to: 0 }), [program.input('x', [4]), out]);
  program.keep(out);
  await program.compile({ guard: true });
  program.run();
  t.deepEqual(await program.checkGuards(), [], 'a well-behaved kernel leaves the guards alone');
  const { buffer, offsetBytes } = out.place();
  gpu.device.queue.writeBuffer(buffer, offsetBytes + 256, Uint32Array.of(1));
  t.deepEqual(await program.checkGuards(), ['out'], 'a changed guard is reported by the name of its tensor');
  program.dispose();
});

test('timestamps, where the adapter has them, cover every dispatch', async (t) => {
  const gpu = await testGpu();
  if (!gpu.capabilities.timestampQuery) {
    t.comment('skipped: this adapter has no timestamp-query');
    return;
  }
  const program = new Program(gpu, 'traced');
  const graph = new Graph(program);
  program.scope('outer', () => linear(graph, program.input('x', [8, 8]), program.input('w', [8, 8])));
  await program.compile();
  const entries = await program.trace();
  t.equal(entries.length, program.cost.dispatches);
  t.ok(
    entries.every((e) => e.timeMs >= 0 && e.scope === 'outer' && e.flops === 1024),
    'with scope, FLOPs and a time each',
  );
  program.dispose();
});

test('shaders: prelude first, includes once, lines traced to their files', (t) => {
  const files: Record<string, string> = {
    'k.wgsl': '// include lib/a.wgsl\n// include lib/b.wgsl\nenable f16;\nfn main() {}',
    'lib/a.wgsl': 'const A1 = 1;',
    'lib/b.wgsl': '// include lib/a.wgsl\nconst B1 = 2;',
  };
  const { code, origin } = assembleShader({ text: (f) => files[f] }, 'k.wgsl', { N: 4, FLAG: true, T: 'f32' });
  t.deepEqual(code.split('\n'), [
    'enable f16;',
    'const N = 4;',
    'const FLAG = true;',
    'alias T = f32;',
    'const A1 = 1;',
    'const B1 = 2;',
    'fn main() {}',
  ]);
  t.deepEqual(origin[6], { file: 'k.wgsl', line: 4 });
  t.throws(() => assembleShader({ text: () => '' }, 'k.wgsl', { X: Number.NaN }), /X is NaN/);
  t.equal(BASELINE_CAPABILITIES.maxWorkgroupMemoryBytes, 16384, 'the baseline is what WebGPU guarantees');
  t.end();
});

test('a lost device is an exception with a cure, not zeros', async (t) => {
  const { adapter } = await openAdapter();
  const gpu = await Gpu.open(adapter, { shaders: nodeShaders() });
  const program = new Program(gpu, 'doomed');
  const y = program.keep(linear(new Graph(program), program.input('x', [2, 4]), program.input('w', [4, 4])));
  await program.compile();
  program.run();
  await program.read(y);
  gpu.device.destroy();
  await gpu.device.lost;
  t.throws(() => program.run(), /device was lost.*resume from the last checkpoint/);
  await program.read(y).then(
    () => t.fail('a lost device must not be read'),
    (error: Error) => t.match(error.message, /device was lost/),
  );
});
