/** How fast is what linear probes and fine-tuning add: cross-entropy with labels, SGD with momentum, pooled tokens. */

import type { Capabilities } from '../src/gpu/capabilities.js';
import { classPitch, labelCrossEntropy } from '../src/tensor/label_cross_entropy.js';
import { ParameterStore } from '../src/tensor/parameters.js';
import { poolTokens } from '../src/tensor/pool_tokens.js';
import { recordSgdMomentum } from '../src/tensor/sgd.js';
import { noise } from '../test/fixture.js';
import * as oracle from '../test/oracle/probes.js';
import { type BenchCase, type BenchSection, operatorCase } from './checked_bench.js';
import { compare } from './comparison.js';
import { forwardAndBackward } from './differentiable.js';

const MOMENTUM = 0.9;

function labelCrossEntropyCases(samples: number, heads: number, classes: number): BenchCase[] {
  const pitch = classPitch(classes);
  const labels = Uint32Array.from({ length: samples }, (_, i) => (7 * i) % classes);
  const sizes = { classes, pitch, heads, smoothing: 0.1 };
  return forwardAndBackward({
    operator: 'label_cross_entropy',
    shape: `${samples} × ${heads} heads × ${classes}`,
    inputs: { logits: { shape: [samples, heads * pitch] } },
    tables: { labels: { shape: [samples], data: labels } },
    half: true,
    build: (graph, { logits, labels: given }, upstream) =>
      labelCrossEntropy(graph, { logits, labels: given, ...sizes, upstream: upstream([samples * heads]) }).loss,
    oracle: ({ logits }) => oracle.labelCrossEntropy(logits, labels, sizes).loss,
  });
}

function poolTokensCases(count: number, length: number, first: number, columns: number): BenchCase[] {
  return forwardAndBackward({
    operator: 'pool_tokens',
    shape: `${count} × ${length} × ${columns}`,
    inputs: { x: { shape: [count * length, columns] } },
    half: true,
    build: (graph, { x }) => poolTokens(graph, x, { count, length }, first),
    oracle: ({ x }) => oracle.poolTokens(x, { count, length, first, columns }),
  });
}

/** All steps of a run have the same gradient, so that the state after any number of them is known. */
function sgdCase(heads: number, perHead: number): BenchCase {
  return operatorCase('sgd_momentum', `${heads} heads × ${perHead}`, (program) => {
    const gradient = program.input('gradient', [heads, perHead]);
    const rates = program.input('rates', [heads]);
    const weights = new ParameterStore(program.gpu, 'heads', [{ name: 'weight', shape: [heads, perHead] }]);
    const velocities = weights.like('velocity of heads');
    const [weight, velocity] = [weights, velocities].map((store) => store.get('weight'));
    const stepRates = Float32Array.from({ length: heads }, (_, h) => 0.1 / (h + 1));
    let values: { gradient: Float32Array; weight: Float32Array } = {
      gradient: new Float32Array(),
      weight: new Float32Array(),
    };
    return {
      prepare: async () => {
        values = { gradient: noise(gradient.elements, 1), weight: noise(weight.elements, 2) };
        program.write(gradient, values.gradient);
        program.write(rates, stepRates);
        await weights.write('weight', values.weight);
        await velocities.write('weight', new Float32Array(velocity.elements));
      },
      record: () => {
        recordSgdMomentum(program, { gradient, weight, velocity }, rates, MOMENTUM);
        return [weight, velocity];
      },
      check: ([found, moved], times) => {
        const expected = { weight: Float64Array.from(values.weight), velocity: new Float64Array(values.weight.length) };
        for (let i = 0; i < times; i++) {
          oracle.sgdMomentum(expected.weight, expected.velocity, values.gradient, stepRates, MOMENTUM);
        }
        return [compare('weight', found, expected.weight), compare('velocity', moved, expected.velocity)];
      },
      inPlace: true,
      dispose: () => {
        for (const store of [weights, velocities]) store.dispose();
      },
    };
  });
}

function cases({ software }: Capabilities): BenchCase[] {
  return [
    // The heads of one kind of features in the official grid, on ImageNet's classes and on few.
    ...labelCrossEntropyCases(software ? 8 : 128, 13, 1000),
    ...labelCrossEntropyCases(50, 1, 10),
    sgdCase(13, software ? 4000 : 1000 * 1920),
    ...poolTokensCases(software ? 2 : 64, 257, 1, 384),
    ...poolTokensCases(3, 21, 5, 52),
  ];
}

export const section: BenchSection = { name: 'probes', question: 'How fast are heads that learn from labels?', cases };
