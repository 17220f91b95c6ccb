/**
 * `node --import tsx bench/eval/sklearn.ts [--rows N] [--test N] [--dim D] [--classes K] [--python PATH]`: exact nearest
 * neighbours and logistic regression at the official 45 strengths, side by side with scikit-learn on the same features and
 * machine. Both results are compared before any time is printed. Three classes or more.
 *
 * CPU seconds are of all threads of a process: on a machine that others use too they tell more than the wall clock. Ours
 * include compiling the kernels.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import {
  fitLogistic,
  LOGISTIC_ITERATIONS,
  LOGISTIC_STRENGTHS,
  logisticScores,
} from '../../src/eval/logistic_regression.js';
import { nearestRows, rowsOf } from '../../src/eval/nearest_rows.js';
import { openGpu } from '../../src/node.js';
import { noise } from '../../test/fixture.js';

const K_NEAREST = 20;

interface Times {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

interface Peer {
  readonly version: string;
  readonly neighbours: Times & { readonly rows: readonly (readonly number[])[] };
  readonly logistic: Times & {
    readonly fits: readonly { readonly objective: number; readonly accuracy: number; readonly iterations: number }[];
  };
}

async function timed<T>(body: () => Promise<T>): Promise<[T, Times]> {
  const [wall, cpu] = [performance.now(), process.cpuUsage()];
  const result = await body();
  const { user, system } = process.cpuUsage(cpu);
  return [result, { wallSeconds: (performance.now() - wall) / 1e3, cpuSeconds: (user + system) / 1e6 }];
}

/** Classes that overlap, in directions of falling variance, as features have them. */
function samples(rows: number, dim: number, classes: number, seed: number) {
  const centres = noise(classes * dim, 7);
  const labels = Array.from({ length: rows }, (_, i) => (i * 7 + (i >> 3)) % classes);
  const features = noise(rows * dim, seed).map((value, i) => {
    const d = i % dim;
    return (2 * value + 0.35 * centres[labels[Math.floor(i / dim)] * dim + d]) * (0.2 + 3 / (1 + 0.2 * d));
  });
  return { features, labels };
}

const command = new Command('sklearn')
  .option('--rows <n>', 'training rows', '6000')
  .option('--test <n>', 'test rows', '1000')
  .option('--dim <n>', 'values of a row', '192')
  .option('--classes <n>', 'classes', '10')
  .option('--python <path>', 'a Python that has scikit-learn', 'python3')
  .parse();
const options = command.opts<Record<'rows' | 'test' | 'dim' | 'classes' | 'python', string>>();
const [rows, testRows, dim, classes] = [options.rows, options.test, options.dim, options.classes].map(Number);
const train = samples(rows, dim, classes, 8);
const test = samples(testRows, dim, classes, 9);
const c = LOGISTIC_STRENGTHS;

const folder = mkdtempSync(join(tmpdir(), 'webdino-sklearn-'));
let peer: Peer;
try {
  for (const [name, { features }] of Object.entries({ train, test })) {
    writeFileSync(
      join(folder, `${name}.f32`),
      new Uint8Array(features.buffer, features.byteOffset, features.byteLength),
    );
  }
  const problem = {
    dim,
    labels: train.labels,
    testLabels: test.labels,
    k: K_NEAREST,
    c,
    maxIterations: LOGISTIC_ITERATIONS,
  };
  writeFileSync(join(folder, 'problem.json'), JSON.stringify(problem));
  const script = join(dirname(fileURLToPath(import.meta.url)), 'sklearn_peer.py');
  peer = JSON.parse(execFileSync(options.python, [script, folder], { encoding: 'utf8', maxBuffer: 2 ** 28 })) as Peer;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const gpu = await openGpu();
const [database, queries] = [rowsOf(train.features, dim), rowsOf(test.features, dim)];
const [nearest, searchTime] = await timed(() => nearestRows(gpu, queries, database, K_NEAREST));
const [models, fitTime] = await timed(() => fitLogistic(gpu, { features: database, labels: train.labels }, { c }));
const right = models.map(() => 0);
await logisticScores(gpu, models, queries, (row, scores) => {
  models.forEach((model, m) => {
    const own = scores.subarray(m * classes, (m + 1) * classes);
    if (model.classes[own.indexOf(Math.max(...own))] === test.labels[row]) right[m]++;
  });
});
gpu.close();

let same = 0;
peer.neighbours.rows.forEach((found, q) => {
  const own = new Set(nearest.indices.subarray(q * K_NEAREST, (q + 1) * K_NEAREST));
  same += found.filter((row) => own.has(row)).length;
});
const agreement = same / (testRows * K_NEAREST);
if (agreement < 0.999) throw new Error(`only ${(100 * agreement).toFixed(2)} % of the neighbours agree`);
const cpus = readFileSync('/proc/loadavg', 'utf8').split(' ')[0];
console.log(`${gpu.capabilities.description}; scikit-learn ${peer.version}; load ${cpus}`);
console.log(`${rows} training rows, ${testRows} test rows, ${dim} values, ${classes} classes\n`);
const line = (name: string, own: Times, other: Times): void => {
  const seconds = ({ wallSeconds, cpuSeconds }: Times): string =>
    `${wallSeconds.toFixed(2)} s (CPU ${cpuSeconds.toFixed(2)} s)`;
  const ratio = `${(other.wallSeconds / own.wallSeconds).toFixed(1)} (CPU ${(other.cpuSeconds / own.cpuSeconds).toFixed(1)})`;
  console.log(`${name.padEnd(34)} here ${seconds(own)}, scikit-learn ${seconds(other)}: ratio ${ratio}`);
};
line(`${K_NEAREST} nearest neighbours, exact`, searchTime, peer.neighbours);
line(`logistic regression, ${c.length} values of C`, fitTime, peer.logistic);
const differences = peer.logistic.fits.map(({ accuracy }, i) => Math.abs(accuracy - right[i] / testRows));
const better = peer.logistic.fits.filter(({ objective }, i) => models[i].objective <= objective * (1 + 1e-6)).length;
const cut = peer.logistic.fits.filter(({ iterations }) => iterations >= LOGISTIC_ITERATIONS).length;
console.log(
  `\nneighbours agree in ${(100 * agreement).toFixed(3)} %; accuracies differ by ${Math.max(...differences).toFixed(4)} at most; ` +
    `objective as low or lower here for ${better} of ${c.length} C`,
);
console.log(
  `cut short at ${LOGISTIC_ITERATIONS} iterations: scikit-learn ${cut}, here ${models.filter((m) => !m.converged).length}`,
);
