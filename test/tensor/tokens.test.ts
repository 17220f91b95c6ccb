import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { resampleMatrix, resizePosition } from '../../src/tensor/position.js';
import { scaledResidual } from '../../src/tensor/residual.js';
import { NO_ROW } from '../../src/tensor/rows.js';
import { swiglu } from '../../src/tensor/swiglu.js';
import { embedPatches, packTokens } from '../../src/tensor/tokens.js';
import { allClose, checkOperator, noise, testGpu } from '../fixture.js';
import * as oracle from '../oracle/tokens.js';

for (const [rows, hidden] of [
  [1, 1],
  [50, 24],
  [257, 40],
]) {
  test(`swiglu ${rows} x ${hidden}`, async (t) => {
    await checkOperator(t, {
      name: `swiglu ${rows}x${hidden}`,
      inputs: { x: { shape: [rows, 2 * hidden], data: noise(2 * rows * hidden, 1).map((v) => 4 * v) } },
      build: (graph, { x }) => swiglu(graph, x),
      oracle: ({ x }) => oracle.swiglu(x, hidden),
    });
  });
}

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
    const D = 12;
    const masks = [0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0];
    await checkOperator(t, {
      name: 'pack tokens',
      inputs: {
        embedded: { shape: [3 * 4 + 5 * 3, D], data: noise(27 * D, 1) },
        cls: { shape: [1, 1, D], data: noise(D, 2) },
        ...(registers ? { registers: { shape: [1, registers, D], data: noise(registers * D, 3) } } : {}),
        mask: { shape: [1, D], data: noise(D, 4) },
        position: { shape: [5, D], data: noise(5 * D, 5) },
        small: { shape: [4, D], data: noise(4 * D, 6) },
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
    });
  });
}

test('one position table used by two groups gets both gradients', async (t) => {
  const D = 8;
  await checkOperator(t, {
    name: 'shared position',
    inputs: {
      embedded: { shape: [12, D], data: noise(12 * D, 1) },
      cls: { shape: [D], data: noise(D, 2) },
      mask: { shape: [D], data: noise(D, 3), constant: true },
      position: { shape: [5, D], data: noise(5 * D, 4) },
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
  });
});

for (const gamma of [true, false]) {
  test(`residual of kept rows, ${gamma ? 'with' : 'without'} LayerScale`, async (t) => {
    const [N, D] = [37, 20];
    const kept = [5, 36, 0, 11];
    const scale = [1.5, 1.5, 2, 2];
    const inverse = new Uint32Array(N).fill(NO_ROW);
    kept.forEach((row, r) => {
      inverse[row] = r;
    });
    await checkOperator(t, {
      name: 'scaled residual',
      inputs: {
        x: { shape: [N, D], data: noise(N * D, 1) },
        branch: { shape: [kept.length, D], data: noise(kept.length * D, 2) },
        ...(gamma ? { gamma: { shape: [D], data: noise(D, 3) } } : {}),
      },
      build: (graph, { x, branch, gamma: g }) =>
        scaledResidual(graph, x, branch, g, {
          subset: {
            index: graph.program.constant('index', [kept.length], Uint32Array.from(kept)),
            inverse: graph.program.constant('inverse', [N], inverse),
          },
          scale: graph.program.constant('scale', [kept.length], Float32Array.from(scale)),
        }),
      oracle: ({ x, branch, gamma: g }) =>
        x.map((v, i) => {
          const r = kept.indexOf(Math.floor(i / D));
          return r < 0 ? v : v + scale[r] * (g ? g[i % D] : 1) * branch[r * D + (i % D)];
        }),
    });
  });
}

test('residual of all rows with LayerScale', async (t) => {
  await checkOperator(t, {
    name: 'residual',
    inputs: {
      x: { shape: [261, 24], data: noise(261 * 24, 1) },
      branch: { shape: [261, 24], data: noise(261 * 24, 2) },
      gamma: { shape: [24], data: noise(24, 3) },
    },
    build: (graph, { x, branch, gamma }) => scaledResidual(graph, x, branch, gamma),
    oracle: ({ x, branch, gamma }) => x.map((v, i) => v + gamma[i % 24] * branch[i]),
  });
});

test('gradient of a patch embedding whose columns are no multiple of four', async (t) => {
  const [count, side, P, D] = [2, 6, 3, 8];
  const images = noise(count * 3 * side * side, 1);
  await checkOperator(t, {
    name: 'embed patches',
    inputs: {
      weight: { shape: [D, 3, P, P], data: noise(D * 27, 2) },
      bias: { shape: [D], data: noise(D, 3) },
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
  });
});

test('patches of bytes and of floats: cut, normalised and embedded alike', async (t) => {
  const gpu = await testGpu();
  const [count, height, width, P, D] = [3, 14, 21, 7, 10];
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
  for (const kind of ['bytes', 'floats'] as const) {
    const program = new Program(gpu, 'patches');
    const words = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
    words.set(bytes);
    const pixels =
      kind === 'bytes'
        ? program.constant('pixels', [words.length / 4], new Uint32Array(words.buffer))
        : program.constant('pixels', [count, 3, height, width], floats);
    const out = program.keep(
      embedPatches(
        new Graph(program),
        [{ pixels, bytes: kind === 'bytes', count, height, width }],
        program.constant('weight', [D, 3, P, P], weight),
        program.constant('bias', [D], bias),
        P,
      ),
    );
    await program.compile({ guard: true });
    program.run();
    allClose(t, await program.read(out), expected, `patches of ${kind}`, { relative: 1e-5, absolute: 1e-4 });
    t.deepEqual(await program.checkGuards(), [], 'nothing written past a tensor');
    program.dispose();
  }
  const program = new Program(gpu, 'patches');
  t.throws(
    () =>
      embedPatches(
        new Graph(program),
        [{ pixels: program.input('p', [1, 3, 15, 14]), count: 1, height: 15, width: 14 }],
        program.input('w', [2, 3, 7, 7]),
        undefined,
        7,
      ),
    /15 x 14 do not divide into patches of 7/,
  );
});
