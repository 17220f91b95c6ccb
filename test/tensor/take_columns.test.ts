import test from 'tape';
import { Program } from '../../src/gpu/program.js';
import { Graph } from '../../src/tensor/graph.js';
import { columnRange } from '../../src/tensor/take_columns.js';
import { noise, testGpu } from '../fixture.js';

test('columnRange: a range of columns, all of them, and ranges that are not there', async (t) => {
  const program = new Program(await testGpu(), 'columns');
  const graph = new Graph(program);
  const [rows, columns] = [261, 52];
  const x = program.input('x', [rows, columns]);
  t.equal(columnRange(graph, x, 0, columns), x, 'all of them are the matrix itself');
  t.throws(() => columnRange(graph, x, 4, columns), /no float32 columns 4 to 55 of x \[261,52\]/);
  const part = program.keep(columnRange(graph, x, 12, 20));
  await program.compile({ guard: true });
  const values = noise(rows * columns, 4);
  program.write(x, values);
  program.run();
  const expected = Float32Array.from(
    { length: rows * 20 },
    (_, i) => values[Math.floor(i / 20) * columns + 12 + (i % 20)],
  );
  t.deepEqual(await program.read(part), expected, 'the columns asked for');
  t.deepEqual(await program.checkGuards(), [], 'nothing written past them');
  program.dispose();
});
