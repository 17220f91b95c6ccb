/** The two-stage PCA against numpy, its signs, its basis as a file, and the pictures made with it. */

import { readFileSync } from 'node:fs';
import test from 'tape';
import { DataError } from '../../../src/errors.js';
import type { PatchGrid } from '../../../src/eval/viz/patch_grids.js';
import { colourGrid, decodePcaBasis, encodePcaBasis, fitPcaBasis } from '../../../src/eval/viz/pca_colours.js';
import { encodeSafetensors } from '../../../src/io/safetensors.js';
import { allClose, noise, sameBits } from '../../fixture.js';

interface Fixture {
  readonly dim: number;
  readonly grids: readonly (readonly [number, number])[];
  readonly features: readonly (readonly number[])[];
  readonly cases: readonly {
    readonly share: number | null;
    readonly clip: number;
    readonly mean: number[];
    readonly component: number[];
    readonly threshold: number;
    readonly foreground: number[];
    readonly secondMean: number[];
    readonly components: number[][];
    readonly explained: number[];
    readonly low: number[];
    readonly high: number[];
    readonly rgb: number[][];
  }[];
}

const fixture = JSON.parse(readFileSync(new URL('../../fixtures/viz.json', import.meta.url), 'utf8')) as Fixture;

function gridsOf({ grids, features }: Fixture): PatchGrid[] {
  let at = 0;
  return grids.map(([rows, columns]) => {
    const part = features.slice(at, at + rows * columns);
    at += rows * columns;
    return { rows, columns, features: Float32Array.from(part.flat()) };
  });
}

const TOLERANCE = { absolute: 1e-4, relative: 0 };

test('PCA colours: basis and colours as numpy gives them', async (t) => {
  const grids = gridsOf(fixture);
  for (const expected of fixture.cases) {
    const { share, clip } = expected;
    const name = `threshold ${share ?? 'at the mean'}, clip ${clip}`;
    const basis = fitPcaBasis(grids, fixture.dim, { backgroundThreshold: share ?? undefined, clipPercent: clip });
    const { foreground } = basis;
    allClose(t, foreground!.mean, expected.mean, `${name}: mean`, TOLERANCE);
    allClose(t, foreground!.component, expected.component, `${name}: first component and its side`, TOLERANCE);
    allClose(t, [foreground!.threshold], [expected.threshold], `${name}: threshold`, TOLERANCE);
    t.equal(basis.foregroundPatches, expected.foreground.filter(Boolean).length, `${name}: foreground`);
    allClose(t, basis.mean, expected.secondMean, `${name}: mean of the foreground`, TOLERANCE);
    allClose(t, basis.components, expected.components.flat(), `${name}: components and their signs`, TOLERANCE);
    allClose(t, basis.explained, expected.explained, `${name}: explained variance`, TOLERANCE);
    allClose(t, [...basis.low, ...basis.high], [...expected.low, ...expected.high], `${name}: ranges`, TOLERANCE);
    let at = 0;
    for (const grid of grids) {
      const patches = grid.rows * grid.columns;
      const rgb = expected.rgb.slice(at, at + patches).flat();
      const coloured = colourGrid(basis, grid, [grid.rows, grid.columns], false);
      const bytes = rgb.map((value) => 255 * value);
      allClose(t, coloured.rgb, bytes, `${name}: colours`, { absolute: 0.51, relative: 0 });
      const kept = expected.foreground.slice(at, at + patches).filter(Boolean).length;
      t.equal(coloured.foregroundShare, kept / patches, `${name}: share of foreground`);
      at += patches;
    }
  }
});

test('PCA colours: mirrored features give the mirrored basis and the same foreground', (t) => {
  const grids = gridsOf(fixture);
  const mirrored = grids.map((grid) => ({ ...grid, features: grid.features.map((value) => -value) }));
  const [basis, other] = [grids, mirrored].map((one) => fitPcaBasis(one, fixture.dim));
  t.equal(other.foregroundPatches, basis.foregroundPatches, 'the side is chosen by the borders, not by the sign');
  allClose(
    t,
    other.foreground!.component,
    basis.foreground!.component.map((value) => -value),
    'turned with them',
  );
  allClose(t, other.components, basis.components, 'colours: the largest loading is positive');
  const flipped = fitPcaBasis(grids, fixture.dim, { flip: true });
  t.equal(flipped.foregroundPatches, basis.patches - basis.foregroundPatches, '--flip keeps the other patches');
  t.end();
});

test('PCA colours: a basis is a file, whose bytes and colours are the same each time', (t) => {
  const grids = gridsOf(fixture);
  for (const foreground of [true, false]) {
    const basis = fitPcaBasis(grids, fixture.dim, { foreground });
    const bytes = encodePcaBasis(basis, { model: 'tiny' });
    sameBits(
      t,
      bytes,
      encodePcaBasis(fitPcaBasis(grids, fixture.dim, { foreground }), { model: 'tiny' }),
      'same bytes',
    );
    const read = decodePcaBasis(bytes);
    t.equal(read.foreground !== undefined, foreground, 'with or without foreground');
    const size = [24, 20] as const;
    sameBits(t, colourGrid(read, grids[0], size).rgb, colourGrid(basis, grids[0], size).rgb, 'same colours');
  }
  t.throws(() => decodePcaBasis(encodeSafetensors([])), /no PCA basis/, 'another safetensors file');
  t.throws(
    () => colourGrid(fitPcaBasis(grids, fixture.dim), { rows: 1, columns: 2, features: new Float32Array(8) }, [1, 2]),
    /basis is of 12 features, these have 4/,
    'features of another model',
  );
  t.end();
});

test('PCA colours: smooth pictures go through the values at the centres of patches', (t) => {
  const grids = gridsOf(fixture);
  const basis = fitPcaBasis(grids, fixture.dim, { foreground: false });
  const [{ rows, columns }] = grids;
  const flat = colourGrid(basis, grids[0], [rows, columns], false).rgb;
  const smooth = colourGrid(basis, grids[0], [5 * rows, 5 * columns]).rgb;
  const centres = Array.from({ length: rows * columns * 3 }, (_, i) => {
    const [patch, c] = [Math.floor(i / 3), i % 3];
    const [y, x] = [5 * Math.floor(patch / columns) + 2, 5 * (patch % columns) + 2];
    return smooth[(y * 5 * columns + x) * 3 + c];
  });
  t.deepEqual(centres, [...flat]);
  t.end();
});

test('PCA colours: what cannot be is said', (t) => {
  const grid = (patches: number, dim: number): PatchGrid[] => [
    { rows: 1, columns: patches, features: noise(patches * dim, 3) },
  ];
  t.throws(() => fitPcaBasis(grid(3, 8), 8), DataError, 'too few patches');
  t.throws(() => fitPcaBasis(grid(9, 2), 2), /no three components/, 'too few features');
  t.throws(
    () => fitPcaBasis(grid(40, 8), 8, { backgroundThreshold: 1 }),
    /lower --background-threshold, or give --no-foreground/,
    'no foreground',
  );
  t.end();
});
