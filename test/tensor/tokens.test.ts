import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { resampleMatrix, resizePosition } from '../../src/tensor/position.js';
import { embedPatches, packTokens } from '../../src/tensor/tokens.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/tokens.js';

test('positions resized: the golden numbers of the specification', (t) => {
  const grid = (y: number, x: number): number => (5 * y + x) ** 2 / 10;
  const ours = (height: number, width: number, offset: number, antialias: boolean): number[] => {
    const [rows, columns] = [height, width].map((to) => resampleMatrix(5, to, { offset, antialias }));
    return Array.from({ length: height * width }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < 5; j++) {
        for (let k = 0; k < 5; k++)
          sum += rows[Math.floor(i / width) * 5 + j] * columns[(i % width) * 5 + k] * grid(j, k);
      }
      return sum;
    });
  };
  const modeA = [0.418453, 1.151273, 2.526311, 9.345453, 12.804832, 17.045328, 33.84935, 40.174191, 47.426113];
  const modeB = [0.565208, 1.550305, 3.047101, 11.212987, 14.907907, 19.114523, 34.653248, 41.057991, 47.97443];
  const modeA76 = [-0.20243, -0.21039, -0.10116, 0.1702, 0.59814, 1.08027, 0.60445, 0.97516, 1.56726, 2.30502];
  const modeB76 = [-0.14717, -0.12973, 0.01283, 0.29762, 0.75203, 1.24505, 0.87839, 1.30757, 1.93167, 2.6759];
  allClose(t, ours(3, 3, 0.1, false), modeA, 'mode A to 3 x 3', { absolute: 1e-4, relative: 0 });
  allClose(t, ours(3, 3, 0, true), modeB, 'mode B to 3 x 3', { absolute: 1e-4, relative: 0 });
  allClose(t, ours(7, 6, 0.1, false).slice(0, 10), modeA76, 'mode A to 7 x 6', { absolute: 1e-4, relative: 0 });
  allClose(t, ours(7, 6, 0, true).slice(0, 10), modeB76, 'mode B to 7 x 6', { absolute: 1e-4, relative: 0 });
  allClose(t, ours(7, 6, 0.1, false), oracle.resizeModeA(grid, 5, 7, 6, 0.1), 'mode A against its formula');
  t.end();
});

for (const [side, height, width, antialias] of [
  [5, 3, 3, false],
  [4, 7, 6, false],
  [9, 4, 5, true],
  [3, 8, 2, true],
] as const) {
  test(`position embeddings from ${side} x ${side} to ${height} x ${width}, antialias ${antialias}`, async (t) => {
    const D = 20;
    const mode = { offset: antialias ? 0 : 0.1, antialias };
    const [rows, columns] = [height, width].map((to) => resampleMatrix(side, to, mode));
    await checkOperator(t, {
      name: 'resize position',
      inputs: { position: { shape: [1, 1 + side * side, D], data: noise((1 + side * side) * D, 1) } },
      build: (graph, { position }) => resizePosition(graph, position, [height, width], mode),
      oracle: ({ position }) => {
        const out = Array.from(position.slice(0, D));
        for (let y = 0; y < height; y++) {
          for (let x = 0; x < width; x++) {
            for (let d = 0; d < D; d++) {
              let sum = 0;
              for (let j = 0; j < side; j++) {
                for (let i = 0; i < side; i++)
                  sum += rows[y * side + j] * columns[x * side + i] * position[(1 + j * side + i) * D + d];
              }
              out.push(sum);
            }
          }
        }
        return out;
      },
    });
  });
}

for (const registers of [0, 2]) {
  test(`tokens of two groups packed, ${registers} registers, one group masked`, async (t) => {
    const D = 24;
    const masks = [0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0];
    await checkOperator(t, {
      name: 'pack tokens',
      inputs: {
        embedded: { shape: [3 * 4 + 5 * 3, D], data: noise(27 * D, 1) },
        cls: { shape: [1, 1, D], data: noise(D, 2), weight: true },
        ...(registers ? { registers: { shape: [1, registers, D], data: noise(registers * D, 3), weight: true } } : {}),
        mask: { shape: [1, D], data: noise(D, 4), weight: true },
        position: { shape: [5, D], data: noise(5 * D, 5), weight: true },
        small: { shape: [4, D], data: noise(4 * D, 6), weight: true },
      },
      build: (graph, { embedded, cls, registers: reg, mask, position, small }) =>
        packTokens(
          graph,
          embedded,
          [
            { count: 3, patches: 4, position, mask: graph.program.constant('masks', [3, 4], Uint32Array.from(masks)) },
            { count: 5, patches: 3, position: small },
          ],
          { cls, registers: reg, mask },
        ),
      oracle: ({ embedded, cls, registers: reg, mask, position, small }) =>
        oracle.packTokens(
          embedded,
          [
            { count: 3, patches: 4, position, mask: masks },
            { count: 5, patches: 3, position: small },
          ],
          cls,
          reg ?? [],
          mask,
          D,
        ),
      half: true,
    });
  });
}

test('one position table used by two groups gets both gradients', async (t) => {
  const D = 8;
  await checkOperator(t, {
    name: 'shared position',
    inputs: {
      embedded: { shape: [12, D], data: noise(12 * D, 1) },
      cls: { shape: [D], data: noise(D, 2), weight: true },
      mask: { shape: [D], data: noise(D, 3), constant: true, weight: true },
      position: { shape: [5, D], data: noise(5 * D, 4), weight: true },
    },
    build: (graph, { embedded, cls, mask, position }) =>
      packTokens(
        graph,
        embedded,
        [
          { count: 1, patches: 4, position },
          { count: 2, patches: 4, position },
        ],
        { cls, mask },
      ),
    oracle: ({ embedded, cls, mask, position }) =>
      oracle.packTokens(embedded, [{ count: 3, patches: 4, position }], cls, [], mask, D),
    half: true,
  });
});

test('sequences summed by several invocations each, as on hardware', async (t) => {
  const [D, count, patches] = [264, 70, 2];
  const masks = Array.from(noise(count * patches, 8), (v) => Number(v < 0));
  await checkOperator(t, {
    name: 'many sequences',
    inputs: {
      embedded: { shape: [count * patches, D], data: noise(count * patches * D, 1) },
      cls: { shape: [D], data: noise(D, 2), weight: true },
      mask: { shape: [D], data: noise(D, 3), weight: true },
      position: { shape: [1 + patches, D], data: noise((1 + patches) * D, 4), weight: true },
    },
    build: (graph, { embedded, cls, mask, position }) => {
      const masked = graph.program.constant('masks', [count, patches], Uint32Array.from(masks));
      return packTokens(graph, embedded, [{ count, patches, position, mask: masked }], { cls, mask });
    },
    oracle: ({ embedded, cls, mask, position }) =>
      oracle.packTokens(embedded, [{ count, patches, position, mask: masks }], cls, [], mask, D),
    half: true,
    hardwareToo: true,
  });
});

test('gradient of a patch embedding whose columns are no multiple of four', async (t) => {
  const [count, side, P, D] = [2, 6, 3, 8];
  // Values that halves hold exactly: pixels are rounded in the graph, not before it.
  const images = noise(count * 3 * side * side, 1).map((v) => Math.round(64 * v) / 64);
  await checkOperator(t, {
    name: 'embed patches',
    inputs: {
      weight: { shape: [D, 3, P, P], data: noise(D * 27, 2), weight: true },
      bias: { shape: [D], data: noise(D, 3), weight: true },
    },
    build: (graph, { weight, bias }) => {
      const pixels = graph.program.constant('images', [count, 3, side, side], images);
      return embedPatches(graph, [{ pixels, count, height: side, width: side }], weight, bias, P);
    },
    oracle: ({ weight, bias }) => {
      const out: number[] = [];
      for (let n = 0; n < count; n++) {
        for (let patch = 0; patch < 4; patch++) {
          for (let d = 0; d < D; d++) {
            let sum = bias[d];
            for (let k = 0; k < 27; k++) {
              const [c, y, x] = [
                Math.floor(k / 9),
                Math.floor(patch / 2) * P + Math.floor((k % 9) / 3),
                (patch % 2) * P + (k % 3),
              ];
              sum += weight[d * 27 + k] * images[((n * 3 + c) * side + y) * side + x];
            }
            out.push(sum);
          }
        }
      }
      return out;
    },
    half: true,
  });
});

test('patches of bytes and of floats: cut, normalised and embedded alike', async (t) => {
  const gpu = await testGpu();
  const [count, height, width, P, D] = [3, 14, 21, 7, 16];
  const bytes = Uint8Array.from({ length: count * height * width * 3 }, (_, i) => (i * 37 + (i >> 3)) % 256);
  const mean = [0.485, 0.456, 0.406];
  const std = [0.229, 0.224, 0.225];
  const floats = new Float32Array(bytes.length);
  const at = (n: number, c: number, y: number, x: number): number =>
    (bytes[((n * height + y) * width + x) * 3 + c] / 255 - mean[c]) / std[c];
  for (let n = 0, i = 0; n < count; n++) {
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) floats[i++] = at(n, c, y, x);
  }
  const weight = noise(D * 3 * P * P, 1);
  const bias = noise(D, 2);
  const expected: number[] = [];
  for (let n = 0; n < count; n++) {
    for (let py = 0; py < height / P; py++) {
      for (let px = 0; px < width / P; px++) {
        for (let d = 0; d < D; d++) {
          let sum = bias[d];
          for (let c = 0; c < 3; c++) {
            for (let y = 0; y < P; y++) {
              for (let x = 0; x < P; x++)
                sum += weight[((d * 3 + c) * P + y) * P + x] * at(n, c, py * P + y, px * P + x);
            }
          }
          expected.push(sum);
        }
      }
    }
  }
  for (const [kind, storage, tolerance] of [
    ['bytes', 'f32', { relative: 1e-5, absolute: 1e-4 }],
    ['floats', 'f32', { relative: 1e-5, absolute: 1e-4 }],
    // Pixels and weights are rounded to halves, each to 2^-11 of itself.
    ['bytes', 'f16', { relative: 2e-3 }],
    ['floats', 'f16', { relative: 2e-3 }],
  ] as const) {
    const program = new Program(gpu, 'patches');
    const words = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
    words.set(bytes);
    const pixels =
      kind === 'bytes'
        ? program.constant('pixels', [words.length / 4], new Uint32Array(words.buffer))
        : program.constant('pixels', [count, 3, height, width], floats);
    const out = program.keep(
      embedPatches(
        new Graph(program, storage),
        [{ pixels, bytes: kind === 'bytes', count, height, width }],
        program.constant('weight', [D, 3, P, P], weight),
        program.constant('bias', [D], bias),
        P,
      ),
    );
    await program.compile({ guard: true });
    program.run();
    allClose(t, await program.read(out), expected, `patches of ${kind} in ${storage}`, tolerance);
    t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
    program.dispose();
  }
  const program = new Program(gpu, 'patches');
  t.throws(
    () =>
      embedPatches(
        new Graph(program),
        [{ pixels: program.input('p', [1, 3, 15, 14]), count: 1, height: 15, width: 14 }],
        program.input('w', [4, 3, 7, 7]),
        undefined,
        7,
      ),
    /15 x 14 do not divide into patches of 7/,
  );
});

test('widths that activations cannot have are refused with the cure', async (t) => {
  const program = new Program(await testGpu(), 'widths');
  const pixels = program.input('p', [1, 3, 14, 14]);
  const embed = (width: number, storage: 'f32' | 'f16') => () => {
    const weight = program.input(`w ${width} ${storage}`, [width, 3, 7, 7]);
    embedPatches(new Graph(program, storage), [{ pixels, count: 1, height: 14, width: 14 }], weight, undefined, 7);
  };
  t.throws(embed(10, 'f32'), /tokens of 10 columns: .* a multiple of 4/);
  t.throws(embed(12, 'f16'), /tokens of 12 columns: .* a multiple of 8: .*train\.dtype f32/);
  t.doesNotThrow(embed(12, 'f32'));
  const special = { cls: program.input('cls', [12]), mask: program.input('mask', [12]) };
  const group = { count: 1, patches: 4, position: program.input('position', [5, 12]) };
  const embedded = program.input('embedded', [4, 12], 'f16');
  t.throws(() => packTokens(new Graph(program, 'f16'), embedded, [group], special), /tokens of 12 columns/);
});
