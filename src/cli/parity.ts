/** `webdino parity`: golden cases of the reference implementation, one line a case. */

import { UsageError } from '../errors.js';
import { type CaseResult, runParity, type TensorComparison } from '../eval/parity.js';
import { openGpu } from '../node.js';
import { storageNamed } from './model.js';

export interface ParityArguments {
  readonly dtype?: string;
  readonly maxParams?: string;
  readonly json?: boolean;
}

/** The worst comparison of each group, in the order of their first appearance. */
function worstByGroup(comparisons: readonly TensorComparison[]): Map<string, TensorComparison> {
  const worst = new Map<string, TensorComparison>();
  for (const comparison of comparisons) {
    const group = comparison.judged ? comparison.group : `${comparison.group} (not judged)`;
    const known = worst.get(group);
    if (
      !known ||
      (known.pass && !comparison.pass) ||
      (known.pass === comparison.pass && comparison.share > known.share)
    ) {
      worst.set(group, comparison);
    }
  }
  return worst;
}

function describe(result: CaseResult): string {
  const lines = [`${result.status.padEnd(7)} ${result.name} (${result.kind}, ${result.seconds.toFixed(1)} s)`];
  if (result.reason) lines.push(`        ${result.reason}`);
  for (const [group, c] of worstByGroup(result.comparisons)) {
    const cosine = Number.isNaN(c.cosine) ? '' : `, cosine ${c.cosine.toFixed(7)}`;
    const verdict = c.pass || !c.judged ? '' : '  <- FAIL';
    lines.push(
      `        ${group.padEnd(34)} largest error ${c.maxError.toExponential(1)}, ${(100 * c.share).toFixed(1)} % of the bound${cosine} (${c.name})${verdict}`,
    );
  }
  return lines.join('\n');
}

/** Returns the exit code: 0 only if every case that was run passed, and at least one was. */
export async function parity(folder: string, options: ParityArguments): Promise<number> {
  const dtype = storageNamed('--dtype', options.dtype);
  const maxParams = options.maxParams === undefined ? undefined : Number(options.maxParams);
  if (maxParams !== undefined && !(maxParams >= 0))
    throw new UsageError(`--max-params takes a number, not ${options.maxParams}`);
  const gpu = await openGpu();
  try {
    const results = await runParity(gpu, folder, {
      maxParams,
      dtype,
      onCase: (result) => {
        if (!options.json) console.log(describe(result));
      },
    });
    const count = (status: CaseResult['status']): number => results.filter((r) => r.status === status).length;
    if (options.json) {
      const cases = results.map(({ comparisons, ...result }) => ({
        ...result,
        groups: Object.fromEntries(
          [...worstByGroup(comparisons)].map(([group, c]) => [
            group,
            {
              tensor: c.name,
              maxError: c.maxError,
              shareOfBound: c.share,
              cosine: Number.isNaN(c.cosine) ? null : c.cosine,
              pass: c.pass,
            },
          ]),
        ),
      }));
      console.log(JSON.stringify({ adapter: gpu.capabilities.description, dtype, cases }, null, 2));
    } else {
      console.log(
        `${count('pass')} cases pass, ${count('fail')} fail, ${count('skipped')} skipped on ${gpu.capabilities.description}`,
      );
    }
    return count('fail') === 0 && count('pass') > 0 ? 0 : 1;
  } finally {
    gpu.close();
  }
}
