/** The progress line on a terminal, in a pipe, and quiet, with a clock of the test's own. */
import test from 'tape';
import { formatDuration, Progress, shortNumber } from '../../src/io/progress.js';

function recorder(isTTY: boolean) {
  const written: string[] = [];
  return { stream: { isTTY, columns: 100, write: (text: string) => written.push(text) }, written };
}

test('progress: in a pipe one plain line every ten seconds, and the last', async (t) => {
  const { stream, written } = recorder(false);
  let time = 0;
  const progress = new Progress({ totalSteps: 100, stream, now: () => time });
  for (let step = 1; step <= 25; step++) {
    time = step * 1000;
    progress.update({ step, imagesPerSecond: 64, values: { loss: 3.14211 } });
  }
  progress.done();
  t.deepEqual(written, [
    '1/100  1%  64 images/s  1 min 39 s left  loss 3.142\n',
    '11/100  11%  64 images/s  1 min 29 s left  loss 3.142\n',
    '21/100  21%  64 images/s  1 min 19 s left  loss 3.142\n',
    '25/100  25%  64 images/s  1 min 15 s left  loss 3.142\n',
  ]);
});

test('progress: on a terminal one line redrawn, notes above it', async (t) => {
  const { stream, written } = recorder(true);
  let time = 0;
  const progress = new Progress({ totalSteps: 10, startStep: 4, stream, now: () => time });
  time = 1000;
  progress.update({ step: 5 });
  time = 1050;
  progress.update({ step: 6 });
  progress.note('checkpoint saved');
  progress.done();
  t.equal(
    written[0],
    `${'█'.repeat(12)}${'░'.repeat(12)}  5/10  5 s left`,
    'time left counts from the step resumed at',
  );
  t.deepEqual(written.slice(1, 3), ['\r\x1b[2K', 'checkpoint saved\n']);
  t.ok(written[written.length - 2].includes('6/10'), 'the line comes back with the newest numbers');
  t.equal(written.at(-1), '\n');
});

test('progress: time left leaves out what came before the clock was started', async (t) => {
  const { stream, written } = recorder(false);
  let time = 0;
  const progress = new Progress({ totalSteps: 10, stream, now: () => time });
  time = 60_000;
  progress.startClock(1);
  progress.update({ step: 1 });
  time = 72_000;
  progress.update({ step: 4 });
  t.deepEqual(written, ['1/10  10%\n', '4/10  40%  24 s left\n']);
});

test('progress: another stage has a name, a count and a clock of its own', async (t) => {
  const { stream, written } = recorder(true);
  let time = 0;
  const progress = new Progress({ totalSteps: 10, stream, now: () => time });
  time = 1000;
  progress.update({ step: 9 });
  progress.begin('test features', 40);
  progress.note('a note between');
  time = 3000;
  progress.update({ step: 20 });
  t.deepEqual(written.slice(1, 3), ['\r\x1b[2K', 'a note between\n'], 'nothing of the former stage comes back');
  t.equal(written.at(-1), `test features  ${'█'.repeat(12)}${'░'.repeat(12)}  20/40  2 s left`);
});

test('progress: no line is wider than the terminal; quiet shows notes only', async (t) => {
  const narrow = recorder(true);
  narrow.stream.columns = 30;
  new Progress({ totalSteps: 10, stream: narrow.stream }).update({ step: 1, values: { dino: 1, ibot: 2, koleo: 3 } });
  t.equal(narrow.written.join('').length, 29);
  const quiet = recorder(false);
  const progress = new Progress({ totalSteps: 10, stream: quiet.stream, quiet: true });
  progress.update({ step: 1 });
  progress.tell('all is well');
  progress.note('a warning');
  progress.done();
  t.deepEqual(quiet.written, ['a warning\n']);
});

test('progress: durations and numbers', async (t) => {
  t.deepEqual([0, 59_000, 200_000, 3_600_000 * 5 + 120_000, 86_400_000 * 3.2].map(formatDuration), [
    '0 s',
    '59 s',
    '3 min 20 s',
    '5 h 02 min',
    '3 d 4 h',
  ]);
  t.deepEqual([0, 3.14211, 12345.6, 0.00012, 1.5e6, Number.NaN].map(shortNumber), [
    '0',
    '3.142',
    '12346',
    '1.2e-4',
    '1.5e6',
    'NaN',
  ]);
});
