import test from 'tape';
import { pixelModel } from '../../src/eval/floor_models.js';
import { scaledModel } from '../../src/eval/scaled_model.js';
import { allClose } from '../fixture.js';

/** A gradient from left to right, u8 [n, side, side, 3]. */
function gradient(side: number, n: number): Uint8Array {
  return Uint8Array.from({ length: n * side * side * 3 }, (_, i) => {
    const column = Math.floor(i / 3) % side;
    return Math.round((255 * (column + 0.5)) / side);
  });
}

test('scaledModel: the model sees its own size, whole patches, the same picture', async (t) => {
  const model = pixelModel(8);
  t.equal(scaledModel(model, 1), model, 'nothing to scale');
  const half = scaledModel({ ...model, record: () => ({ cls: [], patches: [] }) }, 0.5);
  t.deepEqual([half.name, half.dim, half.patchSize, half.floor], [model.name, model.dim, 8, true]);
  t.notOk('record' in scaledModel(model, 0.5), 'no graph where the model has none');
  const request = { batch: 2, blocks: [0], norm: true, patches: true } as const;
  const graph = undefined as never;
  t.throws(() => half.record!(graph, graph, { ...request, size: [98, 98] }), /--size/, 'graphs cannot resize pixels');
  const exactly = { ...request, size: [96, 32], exactSize: true } as const;
  t.deepEqual(half.record!(graph, graph, exactly), { cls: [], patches: [] }, 'and need not for windows of dense tasks');
  const reader = await half.open({ ...request, size: [98, 98] });
  t.deepEqual(reader.grid, [6, 6], '49 pixels are nearest to 6 patches');
  const { cls, patches } = await reader.read(gradient(98, 2), 2);
  const direct = await model.open({ ...request, size: [48, 48] });
  const expected = await direct.read(gradient(48, 2), 2);
  allClose(t, cls[0], expected.cls[0], 'the picture', { absolute: 0.01 });
  allClose(t, patches[0], expected.patches[0], 'its patches', { absolute: 0.01 });
  const same = await half.open({ ...request, size: [16, 16] });
  t.deepEqual(same.grid, [1, 1], 'at least one patch');
  const exact = await half.open(exactly);
  t.deepEqual(exact.grid, [12, 4], 'they are not scaled');
});
