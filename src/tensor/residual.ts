/** The residual add of a block: LayerScale, and stochastic depth that computed the branch for some sequences only. */

import * as scaledResidualKernel from '../../kernels/scaled_residual.js';
import * as backwardKernel from '../../kernels/scaled_residual_backward.js';
import * as sumPartials from '../../kernels/sum_partials.js';
import type { Tensor } from '../gpu/tensor.js';
import type { Graph } from './graph.js';
import type { RowSubset } from './rows.js';

export interface KeptRows {
  readonly subset: RowSubset;
  /** f32 [kept]: what each kept row's branch is multiplied by, b/s of its crop group (spec §1.6). */
  readonly scale: Tensor;
}

/**
 * out = x, and out[kept] += scale * gamma * branch.
 *
 * @param x [N, D]
 * @param branch [N, D], or [kept, D] with `kept`
 * @param gamma LayerScale [D]; none means 1
 */
export function scaledResidual(graph: Graph, x: Tensor, branch: Tensor, gamma?: Tensor, kept?: KeptRows): Tensor {
  const { program } = graph;
  const columns = x.columns;
  const out = program.intermediate('residual', x.shape);
  const switches = { subset: kept !== undefined, gamma: gamma !== undefined };
  program.dispatch(scaledResidualKernel.plan({ rows: x.rows, columns, ...switches }), [
    x,
    branch,
    gamma ?? x,
    kept?.subset.inverse ?? x,
    kept?.scale ?? x,
    out,
  ]);
  if (!graph.needsGradient(x, branch, gamma)) return out;

  graph.onBackward([out], ([dout]) => {
    if (!dout) return;
    const rows = branch.rows;
    const { parts, rowsPerPart } = sumPartials.splitRows(rows, columns);
    const partial = program.intermediate('d_gamma_parts', [gamma ? parts : 1, columns]);
    graph.contribute(branch, (into) => {
      program.dispatch(backwardKernel.plan({ rows, columns, parts, rowsPerPart, ...switches }), [
        dout,
        branch,
        gamma ?? dout,
        kept?.subset.index ?? dout,
        kept?.scale ?? dout,
        into,
        partial,
      ]);
    });
    if (gamma) {
      graph.contribute(gamma, (into) => {
        program.dispatch(sumPartials.plan({ parts, elements: columns }), [partial, into]);
      });
    }
    graph.passThrough(x, dout);
  });
  return out;
}
