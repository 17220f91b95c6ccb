/**
 * Multinomial logistic regression with an L2 penalty (spec §6.4), for many strengths at once.
 *
 * Each C minimises C Σ cross-entropy + 1/2 |W|², the intercepts free, as scikit-learn and cuML define it (of two classes, over
 * one vector of weights: the difference of two). All C see the same rows, so their weights are stacked and a step of all is two
 * wide gemms; L-BFGS keeps their vectors on the GPU (lbfgs_step.wgsl), and a line search for each reads a few numbers back.
 * A C that has converged leaves the batch. C a decade apart start from zero, the others between their solutions.
 *
 * The features are centred and divided by one number, and the penalty is scaled to match: with free intercepts that changes
 * the way to the minimum, not the minimum. Everything is float32 but the sums of losses and the line search.
 */

import * as addInPlace from '../../kernels/add_in_place.js';
import { splitRows } from '../../kernels/column_lanes.js';
import * as columnSum from '../../kernels/column_sum_partials.js';
import * as crossEntropy from '../../kernels/grouped_cross_entropy.js';
import * as lbfgsSlope from '../../kernels/lbfgs_slope.js';
import { ACTIONS, HISTORY, type LbfgsParams, plan as planStep, STATE_VALUES } from '../../kernels/lbfgs_step.js';
import { DataError, UsageError, WebdinoError } from '../errors.js';
import { alignUp } from '../gpu/constants.js';
import type { Gpu } from '../gpu/device.js';
import { Program } from '../gpu/program.js';
import { type DType, Tensor } from '../gpu/tensor.js';
import { Graph } from '../tensor/graph.js';
import { dispatchGemm, dispatchSplitGemm, linear } from '../tensor/linear.js';
import { LineSearch } from './line_search.js';
import type { RowReader } from './nearest_rows.js';

/** The official strengths: 10^-6 … 10^5, four a decade (spec §6.4). */
export const LOGISTIC_STRENGTHS: readonly number[] = Array.from({ length: 45 }, (_, i) => 10 ** (-6 + i / 4));

export const LOGISTIC_ITERATIONS = 1000;

/** Steps in a row without a new low, after which a problem counts as converged. */
const STALLED_STEPS = 8;
/** Relative decrease of the objective that makes a new low. */
export const LOGISTIC_TOLERANCE = 1e-9;

/** Most bytes of logits, of one side of the history, and of a tile of rows. */
const TILE_BYTES = 256 * 2 ** 20;

/** A batch is packed anew when no more than this share of it is left. */
const PACKED_SHARE = 0.75;

export interface LogisticProblem {
  readonly features: RowReader;
  /** [rows], integers from 0. */
  readonly labels: ArrayLike<number>;
}

export interface LogisticOptions {
  /** Strengths of the data against the penalty: larger ones penalise less. */
  readonly c: readonly number[];
  /** Default 1000. */
  readonly maxIterations?: number;
  /** Relative decrease that counts as one. Default 1e-9, about what sums of float32 losses resolve. */
  readonly tolerance?: number;
  /** Where to begin, a model of the same classes for each C. Default: zero. */
  readonly start?: readonly LogisticModel[];
  /** Called with the problems that are done. */
  readonly onProgress?: (done: number) => void;
}

/** A classifier: scores of row x are weights x + bias; a softmax of them are probabilities. */
export interface LogisticModel {
  readonly c: number;
  /** Which label each row of the weights stands for: those that occur, rising. */
  readonly classes: readonly number[];
  /** f64 [classes, columns] */
  readonly weights: Float64Array;
  /** f64 [classes] */
  readonly bias: Float64Array;
  /** C Σ cross-entropy + 1/2 |W|² at the end, of two classes with the difference of the weights as W. */
  readonly objective: number;
  readonly iterations: number;
  /** False where `maxIterations` ended it. */
  readonly converged: boolean;
}

/**
 * Fits a model for every C.
 * @returns in the order of `c`
 * @throws UsageError for no positive C or labels that do not fit; DataError for a single class; WebdinoError for features that
 * are not finite
 */
export async function fitLogistic(
  gpu: Gpu,
  problem: LogisticProblem,
  options: LogisticOptions,
): Promise<LogisticModel[]> {
  const {
    c: strengths,
    maxIterations = LOGISTIC_ITERATIONS,
    tolerance = LOGISTIC_TOLERANCE,
    start,
    onProgress,
  } = options;
  checkProblem(problem, strengths);
  const { features } = problem;
  const classes = [...new Set(Array.from(problem.labels))].sort((a, b) => a - b);
  if (classes.length < 2) {
    throw new DataError(`logistic regression needs two classes; all ${features.rows} rows are of class ${classes[0]}`);
  }
  const scaling = await scalingOf(features);
  const data = await DataTiles.upload(gpu, problem, classes, scaling, strengths.length);
  try {
    const { columns } = data;
    const variables = classes.length * columns;
    const most = Math.max(1, Math.floor(TILE_BYTES / (4 * HISTORY * variables)));
    const models: LogisticModel[] = [];
    let done = 0;
    const ended = (): void => onProgress?.(++done);
    const solve = async (members: readonly number[], starts: readonly (LogisticModel | undefined)[]): Promise<void> => {
      for (let from = 0; from < members.length; from += most) {
        const indices = members.slice(from, from + most);
        const group = indices.map((member, i) => ({
          // Of two opposite vectors of weights, the penalty is that of their difference.
          strength: ((classes.length === 2 ? 2 : 1) * scaling.scale ** 2) / (strengths[member] * features.rows),
          start: starts[from + i],
        }));
        const limits = { maxIterations, tolerance };
        const ends = await minimise(gpu, data, scaling, group, limits, ended);
        ends.forEach((end, i) => {
          models[indices[i]] = modelOf(end, strengths[indices[i]], classes, features, scaling, columns);
        });
      }
    };
    if (start) await solve([...strengths.keys()], start);
    else {
      for (const wave of wavesOf(strengths)) {
        await solve(
          wave.map(({ member }) => member),
          wave.map(({ member, neighbours }) =>
            between(
              strengths[member],
              neighbours.map((solved) => models[solved]),
            ),
          ),
        );
      }
    }
    return models;
  } finally {
    data.dispose();
  }
}

/** A strength of a wave, and the nearest ones of earlier waves, below and above; none in the first wave. */
interface WaveMember {
  readonly member: number;
  readonly neighbours: readonly [below: number, above: number] | readonly [];
}

/** Strengths of the first wave, which start from zero, are about this factor apart. */
const FIRST_GAP = 10;

/**
 * Strengths in waves: some a decade apart, then each time those in the middle of what is left. Weights change smoothly along
 * the path of C, so a start between two near solutions saves most of the steps, and batches are still wide.
 */
export function wavesOf(strengths: readonly number[]): WaveMember[][] {
  const order = [...strengths.keys()].sort((a, b) => strengths[a] - strengths[b]);
  const last = order.length - 1;
  const first = [0];
  for (let place = 1; place <= last; place++) {
    const next = place === last ? Infinity : strengths[order[place + 1]];
    // A hair more, because powers of ten are rounded.
    if (next > FIRST_GAP * 1.001 * strengths[order[first.at(-1)!]]) first.push(place);
  }
  const waves = [first.map((place): WaveMember => ({ member: order[place], neighbours: [] }))];
  let gaps = first.slice(1).map((above, i) => [first[i], above]);
  for (;;) {
    gaps = gaps.filter(([below, above]) => above - below > 1);
    if (gaps.length === 0) return waves;
    const middles = gaps.map(([below, above]) => [below, (below + above) >> 1, above]);
    waves.push(
      middles.map(([below, middle, above]) => ({ member: order[middle], neighbours: [order[below], order[above]] })),
    );
    gaps = middles.flatMap(([below, middle, above]) => [
      [below, middle],
      [middle, above],
    ]);
  }
}

/** A start for strength c: on the line between two models in log c. */
function between(c: number, [below, above]: readonly LogisticModel[]): LogisticModel | undefined {
  if (!above || below.c === above.c) return below; // None, or strengths given twice.
  const share = Math.log(c / below.c) / Math.log(above.c / below.c);
  const mix = (a: Float64Array, b: Float64Array): Float64Array => a.map((value, i) => value + share * (b[i] - value));
  return { ...below, weights: mix(below.weights, above.weights), bias: mix(below.bias, above.bias) };
}

function checkProblem({ features, labels }: LogisticProblem, strengths: readonly number[]): void {
  if (strengths.length === 0 || strengths.some((c) => !(c > 0 && Number.isFinite(c)))) {
    throw new UsageError(`C is ${strengths.join(', ') || 'empty'}; give positive numbers`);
  }
  if (labels.length !== features.rows || labels.length === 0) {
    throw new UsageError(`${labels.length} labels for ${features.rows} rows of features`);
  }
  const wrong = Array.from(labels).find((label) => !Number.isInteger(label) || label < 0);
  if (wrong !== undefined) throw new UsageError(`${wrong} is not a label; labels are integers from 0`);
}

// --- Data ------------------------------------------------------------------------------------------------------------

/** Features as the solver sees them: (x - mean) times `scale`. */
interface Scaling {
  readonly mean: Float64Array;
  readonly scale: number;
}

/** Rows read at a time. */
const READ_ROWS = 4096;

async function scalingOf(features: RowReader): Promise<Scaling> {
  const { rows, columns } = features;
  const mean = new Float64Array(columns);
  const blocks = Math.ceil(rows / READ_ROWS);
  const each = async (visit: (value: number, column: number) => void): Promise<void> => {
    for (let b = 0; b < blocks; b++) {
      const values = await features.readRange(b * READ_ROWS, Math.min(READ_ROWS, rows - b * READ_ROWS));
      for (let i = 0, column = 0; i < values.length; i++) {
        visit(values[i], column);
        column = column + 1 === columns ? 0 : column + 1;
      }
    }
  };
  await each((value, column) => {
    mean[column] += value;
  });
  for (let column = 0; column < columns; column++) mean[column] /= rows;
  if (mean.some((value) => !Number.isFinite(value))) {
    throw new WebdinoError('a feature is not finite: the model has diverged or its file is damaged');
  }
  let squares = 0;
  await each((value, column) => {
    squares += (value - mean[column]) ** 2;
  });
  const deviation = Math.sqrt(squares / (rows * columns));
  return { mean, scale: deviation > 0 ? 1 / deviation : 1 };
}

/** Rows in tiles on the GPU: centred and scaled features, a column of ones for the intercept, zeros up to whole quads. */
class DataTiles {
  private constructor(
    private readonly gpu: Gpu,
    readonly rows: number,
    readonly features: number,
    readonly columns: number,
    readonly classes: number,
    readonly tiles: readonly { readonly rows: Tensor; readonly labels: Tensor }[],
  ) {}

  static async upload(
    gpu: Gpu,
    { features, labels }: LogisticProblem,
    classes: readonly number[],
    scaling: Scaling,
    problems: number,
  ): Promise<DataTiles> {
    const columns = alignUp(features.columns + 1, 4);
    const place = new Map(classes.map((label, row) => [label, row]));
    const widest = Math.max(columns, Math.min(problems * classes.length, 2 ** 14));
    const most = Math.max(1, Math.floor(Math.min(TILE_BYTES, gpu.capabilities.maxBindingSizeBytes) / (4 * widest)));
    // Tiles of one height share their memory.
    const height = Math.ceil(features.rows / Math.ceil(features.rows / most));
    const tiles: { rows: Tensor; labels: Tensor }[] = [];
    const data = new DataTiles(gpu, features.rows, features.columns, columns, classes.length, tiles);
    try {
      for (let first = 0; first < features.rows; first += height) {
        const count = Math.min(height, features.rows - first);
        const values = await standardRows(features, first, count, scaling, columns);
        const tile = {
          rows: persistent(gpu, 'rows', [count, columns], 'f32'),
          labels: persistent(gpu, 'labels', [count], 'u32'),
        };
        tiles.push(tile);
        gpu.device.queue.writeBuffer(tile.rows.place().buffer, 0, values.buffer as ArrayBuffer);
        const numbers = Uint32Array.from({ length: count }, (_, i) => place.get(labels[first + i])!);
        gpu.device.queue.writeBuffer(tile.labels.place().buffer, 0, numbers);
        await gpu.finish();
      }
    } catch (error) {
      data.dispose();
      throw error;
    }
    return data;
  }

  dispose(): void {
    for (const { rows, labels } of this.tiles) {
      for (const tensor of [rows, labels]) this.gpu.destroyBuffer(tensor.place().buffer);
    }
  }
}

async function standardRows(
  features: RowReader,
  first: number,
  count: number,
  { mean, scale }: Scaling,
  columns: number,
): Promise<Float32Array> {
  const D = features.columns;
  const values = await features.readRange(first, count);
  const rows = new Float32Array(count * columns);
  for (let r = 0; r < count; r++) {
    for (let c = 0; c < D; c++) rows[r * columns + c] = scale * (values[r * D + c] - mean[c]);
    rows[r * columns + D] = 1;
  }
  return rows;
}

/** A tensor with a buffer of its own, zero at first. */
function persistent(gpu: Gpu, name: string, shape: readonly number[], dtype: DType): Tensor {
  const tensor = new Tensor(name, shape, dtype, 'persistent');
  tensor.placement = { buffer: gpu.storageBuffer(tensor.sizeBytes, name), offsetBytes: 0 };
  return tensor;
}

// --- The solver ------------------------------------------------------------------------------------------------------

interface Member {
  readonly strength: number;
  readonly start?: LogisticModel;
}

/** Where a problem ended. */
interface End {
  /** f32 [classes, columns], of standardised features. */
  readonly variables: Float32Array;
  /** Mean cross-entropy. */
  readonly loss: number;
  readonly iterations: number;
  readonly converged: boolean;
}

/** A problem on its way. */
interface Descent {
  readonly member: number;
  readonly search: LineSearch;
  action: number;
  pairs: number;
  newest: number;
  iterations: number;
  stalled: number;
  /** At the point, and the lowest that any step has brought. */
  value: number;
  lowest: number;
  loss: number;
}

async function minimise(
  gpu: Gpu,
  data: DataTiles,
  scaling: Scaling,
  members: readonly Member[],
  { maxIterations, tolerance }: { readonly maxIterations: number; readonly tolerance: number },
  onEnd: () => void,
): Promise<End[]> {
  const ends: End[] = [];
  let descents: Descent[] = members.map((_, member) => ({
    member,
    search: new LineSearch(),
    action: ACTIONS.retry,
    pairs: 0,
    newest: 0,
    iterations: 0,
    stalled: 0,
    value: Number.NaN,
    lowest: Number.NaN,
    loss: Number.NaN,
  }));
  const strengths = (): number[] => descents.map(({ member }) => members[member].strength);
  let batch = await Batch.open(gpu, data, strengths());
  try {
    members.forEach(({ start }, i) => {
      if (start) batch.setVariables(i, standardVariables(start, scaling, data));
    });
    // The first evaluation is at the start itself, along no direction.
    for (let first = true; descents.length > 0; first = false) {
      const results = await batch.round(
        descents.map(({ action, pairs, newest, search }) => ({ action, pairs, newest, rate: first ? 0 : search.rate })),
      );
      const ended = new Set<number>();
      for (const [i, descent] of descents.entries()) {
        const { loss, weightSquares, slope, startSlope, steepness } = results[i];
        const value = loss + 0.5 * members[descent.member].strength * weightSquares;
        const finish = async (from: 'trial' | 'point', converged: boolean): Promise<void> => {
          ended.add(i);
          const variables = await batch.variables(i, from);
          const { member, iterations } = descent;
          ends[member] = { variables, loss: from === 'trial' ? loss : descent.loss, iterations, converged };
          onEnd();
        };
        if (first) {
          Object.assign(descent, { action: ACTIONS.start, value, loss, lowest: value });
          descent.search.begin(value, steepness > 1 ? 1 / Math.sqrt(steepness) : 1);
          if (steepness === 0) await finish('trial', true);
          continue;
        }
        if (descent.action !== ACTIONS.retry) {
          if (!(startSlope < 0)) {
            // Rounding has spoiled the pairs: without any, the gradient alone always leads down.
            if (descent.pairs === 0) await finish('point', true);
            else {
              Object.assign(descent, { action: ACTIONS.restart, pairs: 0 });
              descent.search.begin(descent.value, 1 / Math.sqrt(results[i].startSteepness));
            }
            continue;
          }
          descent.search.slope = startSlope;
        }
        const verdict = descent.search.judge(value, slope);
        if (verdict === 'again') {
          descent.action = ACTIONS.retry;
        } else if (verdict === 'stuck') {
          if (descent.pairs === 0) await finish('point', true);
          else {
            Object.assign(descent, { action: ACTIONS.restart, pairs: 0 });
            descent.search.begin(descent.value, 1 / Math.sqrt(results[i].startSteepness));
          }
        } else {
          descent.iterations++;
          // Against the lowest so far: at the end values only go up and down by their rounding.
          if (descent.lowest - value > tolerance * Math.abs(value)) {
            descent.stalled = 0;
            descent.lowest = value;
          } else descent.stalled++;
          const converged = descent.stalled >= STALLED_STEPS || steepness === 0;
          Object.assign(descent, { value, loss });
          if (converged || descent.iterations >= maxIterations) {
            await finish('trial', converged);
            continue;
          }
          descent.action = ACTIONS.accept;
          descent.newest = descent.pairs === 0 ? 0 : (descent.newest + 1) % HISTORY;
          descent.pairs = Math.min(descent.pairs + 1, HISTORY);
          descent.search.begin(value, 1);
        }
      }
      if (ended.size === 0) continue;
      const left = descents.flatMap((_, i) => (ended.has(i) ? [] : [i]));
      if (left.length === 0) break;
      descents = left.map((i) => descents[i]);
      batch = await batch.keep(left, strengths());
    }
    return ends;
  } finally {
    batch.dispose();
  }
}

interface RoundResult {
  /** Mean cross-entropy at the trial point. */
  readonly loss: number;
  readonly weightSquares: number;
  /** Along the direction, at the trial point. */
  readonly slope: number;
  /** |gradient|² at the trial point. */
  readonly steepness: number;
  /** Along the direction, at the point it begins at; and |gradient|² there. */
  readonly startSlope: number;
  readonly startSteepness: number;
}

/** State of some problems on the GPU, and the recorded round that advances them all. */
class Batch {
  private readonly problems: number;
  private readonly variableCount: number;
  private readonly program: Program;
  private readonly control: Tensor;
  private readonly results: Tensor;
  private readonly losses: readonly Tensor[];
  /** Problems that go on; the others' places are worked on in vain until the batch is packed. */
  private live: readonly number[];

  private constructor(
    private readonly gpu: Gpu,
    private readonly data: DataTiles,
    strengths: readonly number[],
    private readonly vectors: Readonly<Record<'trial' | 'point' | 's' | 'y' | 'd' | 'state', Tensor>>,
  ) {
    const { classes, columns, rows, features } = data;
    const problems = strengths.length;
    this.problems = problems;
    this.live = strengths.map((_, i) => i);
    this.variableCount = classes * columns;
    const stack = crossEntropy.logitColumns({ groups: problems, classes });
    const size: LbfgsParams = { problems, variables: this.variableCount, gradientAt: stack * columns };
    const program = new Program(gpu, 'logistic regression');
    this.program = program;
    this.control = program.input('control', [problems, 4], 'u32');
    const strength = program.constant('strength', [problems], Float32Array.from(strengths));
    const { trial, point, s, y, d, state } = vectors;
    const caps = gpu.capabilities;
    program.dispatch(planStep(size, caps), [trial, point, s, y, d, state, this.control]);
    const weights = trial.slice(0, [stack, columns], 'weights');
    const sums = program.intermediate('sums', [stack, columns]);
    this.losses = data.tiles.map((tile, t) => {
      const count = tile.labels.elements;
      const logits = program.intermediate('logits', [count, stack]);
      dispatchGemm(
        program,
        { layout: 'NT', M: count, N: stack, K: columns },
        { a: tile.rows, b: weights, out: logits },
      );
      const group = { rows: count, groups: problems, classes, scale: 1 / rows };
      const lossColumns = crossEntropy.lossColumns(group);
      const losses = program.intermediate('losses', [count, lossColumns]);
      program.dispatch(crossEntropy.plan(group, caps), [logits, tile.labels, losses]);
      const gradient = t === 0 ? sums : program.intermediate('sums of a tile', [stack, columns]);
      dispatchSplitGemm(
        program,
        { layout: 'TN', M: stack, N: columns, K: count },
        { a: logits, b: tile.rows, out: gradient },
      );
      if (t > 0) program.dispatch(addInPlace.plan({ elements: stack * columns }), [sums, gradient]);
      // The parts are added in float64 on the CPU: a line search sees differences of these sums.
      const split = splitRows(count, lossColumns, caps);
      const parts = program.intermediate('loss parts', [split.parts, lossColumns]);
      program.dispatch(columnSum.plan({ rows: count, columns: lossColumns, ...split }, caps), [losses, parts]);
      return program.keep(parts);
    });
    this.results = program.keep(program.intermediate('results', [problems, 4]));
    program.dispatch(lbfgsSlope.plan({ ...size, rowVariables: columns, penalised: features }, caps), [
      sums,
      d,
      strength,
      trial,
      this.results,
    ]);
  }

  static async open(gpu: Gpu, data: DataTiles, strengths: readonly number[]): Promise<Batch> {
    const problems = strengths.length;
    const stack = crossEntropy.logitColumns({ groups: problems, classes: data.classes });
    const point = [2, stack, data.columns];
    const variables = [problems, data.classes * data.columns];
    const batch = new Batch(gpu, data, strengths, {
      trial: persistent(gpu, 'trial', point, 'f32'),
      point: persistent(gpu, 'point', point, 'f32'),
      s: persistent(gpu, 's', [HISTORY, ...variables], 'f32'),
      y: persistent(gpu, 'y', [HISTORY, ...variables], 'f32'),
      d: persistent(gpu, 'direction', variables, 'f32'),
      state: persistent(gpu, 'state', [problems, STATE_VALUES], 'f32'),
    });
    try {
      await batch.program.compile();
    } catch (error) {
      batch.dispose();
      throw error;
    }
    return batch;
  }

  /** Puts a problem's point and trial point there. */
  setVariables(problem: number, values: Float32Array): void {
    for (const tensor of [this.vectors.trial, this.vectors.point]) {
      const { buffer } = tensor.place();
      const offset = 4 * problem * this.variableCount;
      this.gpu.device.queue.writeBuffer(
        buffer,
        offset,
        values.buffer as ArrayBuffer,
        values.byteOffset,
        values.byteLength,
      );
    }
  }

  /** f32 [classes, columns] of a problem that goes on. */
  async variables(problem: number, from: 'trial' | 'point'): Promise<Float32Array> {
    const { buffer } = this.vectors[from].place();
    const bytes = 4 * this.variableCount;
    return new Float32Array(await this.gpu.readBuffer(buffer, this.live[problem] * bytes, bytes));
  }

  /** One evaluation of every problem that goes on, in their order. */
  async round(
    controls: readonly {
      readonly action: number;
      readonly pairs: number;
      readonly newest: number;
      readonly rate: number;
    }[],
  ): Promise<RoundResult[]> {
    const words = new Uint32Array(4 * this.problems);
    controls.forEach(({ action, pairs, newest, rate }, i) => {
      words.set([action, pairs, newest, new Uint32Array(Float32Array.of(rate).buffer)[0]], 4 * this.live[i]);
    });
    this.program.write(this.control, words);
    this.program.run();
    const [results, state, ...parts] = await this.program.readAll([this.results, this.vectors.state, ...this.losses]);
    const pitch = crossEntropy.lossColumns({ groups: this.problems });
    return this.live.map((problem) => {
      let loss = 0;
      for (const sums of parts) for (let at = problem; at < sums.length; at += pitch) loss += sums[at];
      const [weightSquares, slope, steepness] = results.subarray(4 * problem, 4 * problem + 3);
      const kept = problem * STATE_VALUES + HISTORY;
      return {
        loss: loss / this.data.rows,
        weightSquares,
        slope,
        steepness,
        startSlope: state[kept + 1],
        startSteepness: state[kept + 3],
      };
    });
  }

  /**
   * Goes on with some of the problems: in this batch, or, where many have left, in a smaller one that takes its place.
   * @param problems of those that went on so far
   */
  async keep(problems: readonly number[], strengths: readonly number[]): Promise<Batch> {
    const places = problems.map((i) => this.live[i]);
    if (places.length > PACKED_SHARE * this.problems) {
      this.live = places;
      return this;
    }
    const { gpu, data } = this;
    const smaller = await Batch.open(gpu, data, strengths);
    const encoder = gpu.device.createCommandEncoder({ label: 'packing' });
    const bytes = 4 * this.variableCount;
    const copy = (name: keyof Batch['vectors'], from: number, to: number, size: number): void => {
      const [source, target] = [this, smaller].map((batch) => batch.vectors[name].place().buffer);
      encoder.copyBufferToBuffer(source, from, target, to, size);
    };
    places.forEach((place, i) => {
      for (const name of ['trial', 'point'] as const) {
        const gradients = (batch: Batch): number => 2 * batch.vectors[name].elements;
        copy(name, place * bytes, i * bytes, bytes);
        copy(name, gradients(this) + place * bytes, gradients(smaller) + i * bytes, bytes);
      }
      for (let slot = 0; slot < HISTORY; slot++) {
        for (const name of ['s', 'y'] as const) {
          copy(name, (slot * this.problems + place) * bytes, (slot * smaller.problems + i) * bytes, bytes);
        }
      }
      copy('d', place * bytes, i * bytes, bytes);
      copy('state', 4 * STATE_VALUES * place, 4 * STATE_VALUES * i, 4 * STATE_VALUES);
    });
    gpu.device.queue.submit([encoder.finish()]);
    this.dispose();
    return smaller;
  }

  dispose(): void {
    this.program.dispose();
    for (const tensor of Object.values(this.vectors)) this.gpu.destroyBuffer(tensor.place().buffer);
  }
}

// --- From standardised features and back -----------------------------------------------------------------------------

function modelOf(
  { variables, loss, iterations, converged }: End,
  c: number,
  classes: readonly number[],
  features: RowReader,
  { mean, scale }: Scaling,
  columns: number,
): LogisticModel {
  const D = features.columns;
  const weights = new Float64Array(classes.length * D);
  const bias = new Float64Array(classes.length);
  for (let k = 0; k < classes.length; k++) {
    bias[k] = variables[k * columns + D];
    for (let d = 0; d < D; d++) {
      weights[k * D + d] = scale * variables[k * columns + d];
      bias[k] -= weights[k * D + d] * mean[d];
    }
  }
  let squares = 0;
  for (let d = 0; d < weights.length; d++) squares += weights[d] ** 2;
  if (classes.length === 2) {
    squares = 0;
    for (let d = 0; d < D; d++) squares += (weights[D + d] - weights[d]) ** 2;
  }
  return { c, classes, weights, bias, objective: c * loss * features.rows + 0.5 * squares, iterations, converged };
}

function standardVariables(
  { weights, bias, classes }: LogisticModel,
  { mean, scale }: Scaling,
  data: DataTiles,
): Float32Array {
  const { columns, features: D } = data;
  if (classes.length !== data.classes || weights.length !== classes.length * D) {
    throw new UsageError(
      `a start of ${classes.length} classes and ${weights.length} weights does not fit this problem`,
    );
  }
  const variables = new Float32Array(classes.length * columns);
  classes.forEach((_, k) => {
    let intercept = bias[k];
    for (let d = 0; d < D; d++) {
      variables[k * columns + d] = weights[k * D + d] / scale;
      intercept += weights[k * D + d] * mean[d];
    }
    variables[k * columns + D] = intercept;
  });
  return variables;
}

// --- Scores ----------------------------------------------------------------------------------------------------------

/** Bytes of the scores that are read back at a time. */
const SCORE_BYTES = 32 * 2 ** 20;

/**
 * Scores of rows by several models of the same classes.
 * @param visit called for every row, in order, with the scores [models, classes]; the array is reused
 */
export async function logisticScores(
  gpu: Gpu,
  models: readonly LogisticModel[],
  features: RowReader,
  visit: (row: number, scores: Float32Array) => void,
): Promise<void> {
  const { columns: D, rows: n } = features;
  const classes = models[0].classes.length;
  const outputs = models.length * classes;
  const columns = alignUp(D, 4);
  const scaling = await scalingOf(features);
  const weights = new Float32Array(outputs * columns);
  const bias = new Float32Array(outputs);
  models.forEach((model, m) => {
    for (let k = 0; k < classes; k++) {
      // Features are centred here too, so that their mean costs the scores no digits.
      let intercept = model.bias[k];
      for (let d = 0; d < D; d++) {
        weights[(m * classes + k) * columns + d] = model.weights[k * D + d];
        intercept += model.weights[k * D + d] * scaling.mean[d];
      }
      bias[m * classes + k] = intercept;
    }
  });
  const rows = Math.max(1, Math.min(n, Math.floor(SCORE_BYTES / (4 * Math.max(outputs, columns)))));
  const program = new Program(gpu, 'logistic scores');
  try {
    const block = program.input('rows', [rows, columns]);
    const scores = program.keep(
      linear(
        new Graph(program),
        block,
        program.constant('weights', [outputs, columns], weights),
        program.constant('bias', [outputs], bias),
      ),
    );
    await program.compile();
    for (let first = 0; first < n; first += rows) {
      const count = Math.min(rows, n - first);
      const values = await features.readRange(first, count);
      const centred = new Float32Array(rows * columns);
      for (let r = 0; r < count; r++) {
        for (let d = 0; d < D; d++) centred[r * columns + d] = values[r * D + d] - scaling.mean[d];
      }
      program.write(block, centred);
      program.run();
      const result = (await program.read(scores)) as Float32Array;
      for (let r = 0; r < count; r++) visit(first + r, result.subarray(r * outputs, (r + 1) * outputs));
    }
  } finally {
    program.dispose();
  }
}
