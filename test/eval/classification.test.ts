import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import {
  classificationReport,
  multiLabelHits,
  type Predictions,
  predictionsFromScores,
  topHits,
} from '../../src/eval/classification.js';
import { datasetName, openLabelledPair } from '../../src/eval/labelled_pair.js';
import { writePictures } from '../cli/model_fixture.js';
import { withFolder, writeFolder } from '../data/archives.js';
import { noise } from '../fixture.js';

const places = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

test('predictionsFromScores: the best five, lower classes first among equals', (t) => {
  const classes = 9;
  const n = 60;
  const scores = noise(n * classes, 1).map((v) => Math.round(4 * v));
  const labels = Int32Array.from({ length: n }, (_, i) => i % classes);
  const { top, confidence } = predictionsFromScores({
    scores,
    classes,
    labels,
    indices: places(n),
    confidence: 'softmax',
  });
  const orders = places(n).map((i) => {
    const row = [...scores.subarray(i * classes, (i + 1) * classes)];
    return { row, order: places(classes).sort((a, b) => row[b] - row[a] || a - b) };
  });
  t.deepEqual(
    [...top],
    orders.flatMap(({ order }) => order.slice(0, 5)),
    'the same as sorting all of them',
  );
  const worst = Math.max(
    ...orders.map(({ row, order }, i) => {
      const sum = row.reduce((a, v) => a + Math.exp(v), 0);
      return Math.abs(confidence![i] - Math.exp(row[order[0]]) / sum);
    }),
  );
  t.ok(worst < 1e-6, 'confidence is the softmax of the first');

  const among = [7, 2];
  const some = predictionsFromScores({ scores, classes, labels, indices: places(n), among });
  t.deepEqual(
    [...some.top],
    orders.flatMap(({ order }) => order.filter((c) => among.includes(c))),
    'only the classes that may be predicted, as many as there are',
  );
  const votes = predictionsFromScores({
    scores: Float32Array.of(0, 3, 1, 0, 0, 0),
    classes: 3,
    labels: Int32Array.of(1, 1),
    indices: [4, 5],
    confidence: 'share',
  });
  t.deepEqual([...votes.confidence!], [0.75, 0], 'shares of votes; none where nobody voted');
  const broken = predictionsFromScores({
    scores: Float32Array.of(Number.NaN, -5, -7),
    classes: 3,
    labels: Int32Array.of(0),
    indices: [0],
    confidence: 'softmax',
  });
  t.deepEqual([...broken.top], [1, 2, 0], 'a score that is no number is the lowest');
  t.end();
});

test('predictionsFromScores refuses what does not fit', (t) => {
  const good = { scores: new Float32Array(6), classes: 3, labels: Int32Array.of(0, 2), indices: [0, 1] };
  t.throws(() => predictionsFromScores({ ...good, classes: 4 }), /6 scores and 2 places for 2 pictures of 4 classes/);
  t.throws(
    () => predictionsFromScores({ ...good, labels: Int32Array.of(0, 3) }),
    /picture 1 has the label 3; classes are 0 to 2/,
  );
  t.throws(() => predictionsFromScores({ ...good, labels: Int32Array.of(-1, 0) }), /picture 0 has the label -1/);
  t.throws(() => predictionsFromScores({ ...good, among: [1, 1] }), /at most once/);
  t.end();
});

/** Predictions of given first classes, of three. */
function given(labels: number[], first: number[], confidence?: number[]): Predictions {
  return {
    indices: places(labels.length),
    labels: Int32Array.from(labels),
    top: Int32Array.from(first.flatMap((c) => [c, (c + 1) % 3, (c + 2) % 3])),
    ...(confidence ? { confidence: Float32Array.from(confidence) } : {}),
  };
}

test('multi-label accuracy: any valid class counts, pictures without one do not', (t) => {
  const predictions = given([0, 1, 2, 0], [1, 1, 0, 2]);
  const valid = [[0, 1, -1], [2, -1, -1], [-1, -1, -1], []];
  t.deepEqual([...multiLabelHits(predictions, valid, 1)], [1, 0, -1, -1], 'the first prediction');
  t.deepEqual([...multiLabelHits(predictions, valid, 2)], [1, 1, -1, -1], 'the first two');
  t.deepEqual([...topHits(predictions, 1)], [0, 1, 0, 0]);
  t.deepEqual([...topHits(predictions, 2)], [0, 1, 0, 1]);
  t.throws(() => multiLabelHits(predictions, [[1]], 1), /valid classes of 1 pictures for predictions of 4/);
  t.end();
});

test('classificationReport: metrics, margins, figures', async (t) => {
  await withFolder(async (folder) => {
    const [train, testFolder] = [join(folder, 'colours', 'train'), join(folder, 'colours', 'test')];
    await writePictures(train, ['blue', 'green', 'red'], 2);
    await writePictures(testFolder, ['green', 'red'], 4);
    const pair = await openLabelledPair(train, testFolder);
    t.equal(pair.classes, 3);
    t.deepEqual(pair.classNames, ['blue', 'green', 'red']);
    const labels = places(pair.test.length).map((i) => pair.labelOf(pair.test.label(i)!));
    t.deepEqual(labels, [1, 1, 1, 1, 2, 2, 2, 2], 'test labels in the training numbering');

    const good = given(labels, [1, 1, 1, 2, 2, 2, 2, 2], [0.9, 0.9, 0.9, 0.7, 0.9, 0.9, 0.9, 0.9]);
    const bad = given(labels, [0, 0, 1, 1, 2, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]);
    const context = { seed: 3, bootstrapDraws: 200, crop: 16, resize: 18 };
    const request = {
      task: 'knn',
      pair,
      models: [
        { model: { name: 'good', floor: false }, predictions: good, chosen: { k: 10 } },
        { model: { name: 'bad', floor: true }, predictions: bad },
      ],
      settings: { k: 10 },
      notes: ['a note'],
      startMs: performance.now(),
      multiLabels: (index: number) => (index === 0 ? [-1] : [1]),
    };
    const report = await classificationReport(context, request);
    t.equal(report.dataset, 'colours');
    t.deepEqual([report.train.pictures, report.test.pictures], [6, 8]);
    const [first, second] = report.models;
    const values = (metrics: typeof first.metrics) =>
      metrics.map(({ name, value }) => [name, Number(value.toFixed(2))]);
    t.deepEqual(
      values(first.metrics),
      [
        ['top1', 87.5],
        ['meanPerClass', 87.5],
        ['real', 28.57],
        ['ece', 17.5],
      ],
      'without top-5, which three classes do not have',
    );
    t.deepEqual(values(second.metrics)[0], ['top1', 37.5]);
    t.deepEqual(first.chosen, { k: 10 });
    for (const { interval, value, name } of first.metrics) {
      if (name === 'ece') t.equal(interval, undefined, 'resampling adds to the error: no interval');
      else t.ok(interval![0] <= value && value <= interval![1], `${name} [${interval}] about ${value}`);
    }
    t.equal(report.margins.length, 1);
    t.equal(report.margins[0].difference, 50);
    t.ok(report.margins[0].interval[0] >= 0, 'no draw turns it round');
    t.deepEqual(
      report.figures.map(({ kind }) => kind),
      ['bars', 'confusion', 'reliability', 'gallery'],
    );
    const [bars, confusion, , gallery] = report.figures;
    t.deepEqual(bars.kind === 'bars' && bars.bars, [
      { label: 'green', value: 75 },
      { label: 'red', value: 100 },
    ]);
    t.deepEqual(confusion.kind === 'confusion' && [...(confusion.counts as Float64Array)], [0, 0, 0, 0, 3, 1, 0, 0, 4]);
    t.ok(
      gallery.kind === 'gallery' &&
        gallery.rows.length === 1 &&
        gallery.rows[0].caption === 'green, taken for red, 70 %',
    );
    t.ok(
      gallery.kind === 'gallery' && gallery.rows[0].pictures[0].picture.data.length === 16 * 16 * 3,
      'as the model saw it',
    );
    t.deepEqual(report.notes, [
      'a note',
      '1 of 3 classes have no test picture (blue): means over classes leave them out',
    ]);
    const byClass = await classificationReport(context, { ...request, headline: 'meanPerClass' });
    t.equal(byClass.models[0].metrics[0].name, 'meanPerClass', 'another headline');
    t.equal(byClass.margins[0].metric, 'meanPerClass');

    const other = { ...bad, indices: places(8).reverse() };
    const models = [request.models[0], { ...request.models[1], predictions: other }];
    try {
      await classificationReport(context, { ...request, models });
      t.fail('different pictures were compared');
    } catch (error) {
      t.ok(/good and bad were asked about different pictures/.test((error as Error).message));
    }
    await pair.close();
  });
});

test('labelled pairs: classes that only the test set has, pictures without class, names of data', async (t) => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await writePictures(at('train'), ['red', 'green'], 1);
    await writePictures(at('test'), ['red', 'grey'], 1);
    writeFolder(at('flat'), [['a.png', readFileSync(join(at('train'), 'red', '0.png'))]]);
    const refused = async (train: string, tested: string, pattern: RegExp): Promise<void> => {
      try {
        await openLabelledPair(at(train), at(tested));
        t.fail(`${train} and ${tested} were taken`);
      } catch (error) {
        t.ok(pattern.test((error as Error).message), (error as Error).message);
      }
    };
    await refused('train', 'test', /1 of 2 classes that .* has not: "grey"/);
    await refused('flat', 'test', /--train .*flat: its pictures have no class/);
    await refused('train', 'nowhere', /nowhere cannot be opened/);
  });
  t.equal(datasetName('/data/caltech101/train.tar'), 'caltech101');
  t.equal(datasetName('data/birds'), 'birds');
  t.equal(datasetName('train'), 'train');
});
