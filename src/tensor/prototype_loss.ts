/**
 * The loss over prototypes: last layer, cross-entropy and both gradients, a tile of rows at a time, so that no more than a
 * few buffers of [tile rows, K] exist whatever the number of rows.
 *
 * This operator is an exception to the tape's convention. The logits of a tile are gone when the tape walks back, so the
 * gradients are computed in the recording of the forward pass, where each tile is visited once: the loss must be the end
 * of the graph, and what its gradient is multiplied by (loss weights times loss scale) is an argument, `upstream`, that
 * must be the seed of the result as well. On the way back the finished gradients are only handed on.
 */

import * as sumPartials from '../../kernels/sum_partials.js';
import * as sumRanges from '../../kernels/sum_ranges.js';
import { GpuError } from '../errors.js';
import type { Program } from '../gpu/program.js';
import type { Tensor } from '../gpu/tensor.js';
import { crossEntropyTile } from './cross_entropy.js';
import type { Graph } from './graph.js';
import { dispatchGemm, dispatchSplitGemm, weightFor } from './linear.js';
import { logitsOfRows, logitTileRows } from './prototype_logits.js';
import { putRows, type RowTile, rowTiles, takeRows } from './row_tiles.js';
import type { TeacherTargets } from './teacher_targets.js';

/** Targets that exist for all rows: row r of the term has the target row (r + shift) mod T. */
export interface TargetMatrix {
  /** [T, K] */
  readonly matrix: Tensor;
  readonly shift: number;
}

/** A number in the loss: consecutive student rows, and what they are compared with. */
export interface PrototypeLossTerm {
  readonly name: string;
  readonly rows: number;
  /** A matrix, or as many rows as the term has, made by tiles: row r of the one belongs to row r of the other. */
  readonly targets: TargetMatrix | TeacherTargets;
}

export interface PrototypeLossOptions {
  /** Unit rows of the student [R, d]. */
  readonly features: Tensor;
  /** The normalised last layer [K, d]: a result of this graph (its gradient is handed on, not written to a parameter). */
  readonly weight: Tensor;
  /** [R]: what the cross-entropy of a row counts; a row of weight 0 adds exactly 0 and has a gradient of exactly 0. */
  readonly weights: Tensor;
  /** Cover the R rows in their order. */
  readonly terms: readonly PrototypeLossTerm[];
  /** Student temperature, a constant of the recipe (0.1). */
  readonly temperature: number;
  /** [terms]: the gradient that will reach the result, as the seed given to `Graph.backward`. */
  readonly upstream: Tensor;
  /** Most bytes of a float32 tile of logits; `LOSS_TILE_BYTES` by default. */
  readonly tileBytes?: number;
}

/** Where the gradients of a step go while its tiles are visited. */
interface Gradients {
  readonly features: Tensor | undefined;
  readonly weight: Tensor | undefined;
}

/**
 * Term t is the sum over its rows r of weights[r] CE(target of r, features[r] weightᵀ), with CE(p, s) = -sum_k p_k
 * log_softmax(s / temperature)_k. Logits, softmax and loss are float32 whatever the storage of the features; the logits'
 * gradient has that storage, the weight's is a float32 sum over tiles in their order.
 * @returns [terms.length], in the order of the terms
 * @throws GpuError when shapes do not fit
 */
export function prototypeLoss(graph: Graph, options: PrototypeLossOptions): Tensor {
  const { program } = graph;
  const { features, weight, weights, terms, temperature, upstream } = options;
  assertShapes(options);
  const follow = graph.needsGradient(features, weight);
  const gradients: Gradients = {
    features: follow && features.requiresGrad ? gradientLike(program, features) : undefined,
    weight: follow && weight.requiresGrad ? gradientLike(program, weight) : undefined,
  };
  const rowLoss = program.intermediate('cross_entropy_rows', [features.rows]);
  const tileRows = logitTileRows(program, weight.rows, options.tileBytes);
  const starts = [0];
  let addToWeight = false;
  terms.forEach(({ rows, targets }, term) => {
    const first = starts[term];
    for (const tile of 'tiles' in targets ? targets.tiles : rowTiles(rows, tileRows)) {
      const compared =
        'tiles' in targets
          ? { targets: targets.at(tile) }
          : { targets: targets.matrix, targetShift: (tile.from + targets.shift) % targets.matrix.rows };
      const range = { from: first + tile.from, rows: tile.rows };
      const logits = logitsOfRows(program, features, weight, range);
      const dlogits = follow ? program.intermediate('d_logits', logits.shape, features.storage) : undefined;
      crossEntropyTile(program, {
        ...compared,
        logits,
        weights,
        before: range.from,
        temperature,
        loss: rowLoss,
        gradient: dlogits && { upstream, term, into: dlogits },
      });
      if (!dlogits) continue;
      recordTileGradients(program, { features, weight, range, dlogits, gradients, addToWeight });
      addToWeight = true;
    }
    starts.push(first + rows);
  });
  const loss = program.intermediate('cross_entropy', [terms.length]);
  const termStarts = program.constant('term_starts', [starts.length], Uint32Array.from(starts));
  program.dispatch(sumRanges.plan({ rows: features.rows, terms: terms.length }), [rowLoss, termStarts, loss]);
  if (follow) {
    graph.onBackward([loss], () => {
      if (gradients.features) graph.passThrough(features, gradients.features);
      if (gradients.weight) graph.passThrough(weight, gradients.weight);
    });
  }
  return loss;
}

function gradientLike(program: Program, x: Tensor): Tensor {
  return program.intermediate(`d_${x.name.split('.').pop()}`, x.shape, x.gradientDtype);
}

/** dX rows = dS W; dW += dSᵀ X. */
function recordTileGradients(
  program: Program,
  tile: {
    readonly features: Tensor;
    readonly weight: Tensor;
    readonly range: RowTile;
    readonly dlogits: Tensor;
    readonly gradients: Gradients;
    readonly addToWeight: boolean;
  },
): void {
  const { features, weight, range, dlogits, gradients, addToWeight } = tile;
  const [rows, prototypes, width] = [range.rows, weight.rows, weight.columns];
  if (gradients.features) {
    putRows(program, gradients.features, range, (out) =>
      dispatchSplitGemm(
        program,
        { layout: 'NN', M: rows, N: width, K: prototypes },
        { a: dlogits, b: weightFor(dlogits, weight), out },
      ),
    );
  }
  if (gradients.weight) {
    const operands = { a: dlogits, b: takeRows(program, features, range), out: gradients.weight };
    const params = { layout: 'TN', M: prototypes, N: width, K: rows } as const;
    if (addToWeight) dispatchGemm(program, { ...params, epilogue: 'add' }, operands);
    else dispatchSplitGemm(program, params, operands);
  }
}

function assertShapes({ features, weight, weights, terms, upstream }: PrototypeLossOptions): void {
  if (features.columns !== weight.columns) {
    throw new GpuError(`prototypeLoss: features [${features.shape}] do not fit the last layer [${weight.shape}]`);
  }
  if (weights.elements !== features.rows) {
    throw new GpuError(
      `prototypeLoss: weights [${weights.shape}] must hold one number for each of ${features.rows} student rows`,
    );
  }
  if (terms.reduce((sum, term) => sum + term.rows, 0) !== features.rows) {
    const sizes = terms.map((term) => `${term.name} ${term.rows}`).join(', ');
    throw new GpuError(`prototypeLoss: the terms (${sizes}) must cover the ${features.rows} student rows`);
  }
  if (upstream.elements !== terms.length) {
    throw new GpuError(
      `prototypeLoss: upstream [${upstream.shape}] must hold one number for each of ${terms.length} terms`,
    );
  }
  for (const { name, rows, targets } of terms) {
    const columns = 'tiles' in targets ? targets.columns : targets.matrix.columns;
    if (columns !== weight.rows || ('tiles' in targets && targets.rows !== rows)) {
      const size = 'tiles' in targets ? `${targets.rows}, ${columns}` : targets.matrix.shape;
      throw new GpuError(`prototypeLoss: targets [${size}] of ${name} do not fit logits [${rows}, ${weight.rows}]`);
    }
  }
}

/**
 * The sum of the targets of the two views, [2B, K] to [B, K]: a local crop is compared with both, and the cross-entropy is
 * linear in its target.
 */
export function sumOfViews(program: Program, targets: Tensor): Tensor {
  const sum = program.intermediate('targets_of_both_views', [targets.rows / 2, targets.columns]);
  program.dispatch(sumPartials.plan({ parts: 2, elements: sum.elements }), [targets, sum]);
  return sum;
}
