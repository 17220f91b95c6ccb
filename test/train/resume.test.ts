import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { DataError } from '../../src/errors.js';
import { readMetrics } from '../../src/train/metrics.js';
import { prepareResume, train } from '../../src/train/trainer.js';
import { testGpu } from '../fixture.js';
import { differingFiles, inTemporaryFolder, tinyConfig, tinySource } from './tiny_run.js';

/** Both centrings: Sinkhorn-Knopp has no state, softmax centring has the centres. */
for (const centering of ['sinkhorn_knopp', 'centering']) {
  test(`${centering}: stopped at step 3 and resumed, a run ends with the bytes of one that was not`, async (t) => {
    await inTemporaryFolder(async (folder) => {
      const gpu = await testGpu();
      const source = tinySource();
      const out = (name: string): string => join(folder, name);
      const config = (name: string, ...changes: string[]) =>
        tinyConfig(
          `train.centering=${centering}`,
          'train.checkpoint_period=4',
          `train.output_dir=${out(name)}`,
          ...changes,
        );

      const whole = await train({ gpu, config: config('whole'), source, out: out('whole') });
      t.deepEqual([whole.step, whole.totalSteps], [6, 6], 'the uninterrupted run takes all steps');
      const again = await train({ gpu, config: config('again'), source, out: out('again') });
      t.deepEqual(
        differingFiles(whole.checkpoint, again.checkpoint),
        { compared: 5, differing: [] },
        'one seed, one result',
      );
      const other = await train({ gpu, config: config('other', 'train.seed=6'), source, out: out('other') });
      t.deepEqual(
        differingFiles(whole.checkpoint, other.checkpoint).differing.filter((name) => name.endsWith('.safetensors')),
        ['optimizer.safetensors', 'student.safetensors', 'teacher.safetensors'],
        'another seed, another result',
      );

      const stop = new AbortController();
      const first = await train({
        gpu,
        config: config('stopped'),
        source,
        out: out('stopped'),
        signal: stop.signal,
        onStep: (step) => {
          if (step === 1) stop.abort();
        },
      });
      t.equal(first.step, 3, 'the steps under way are finished, then it stops');
      t.ok(first.checkpoint.endsWith('step_0000003'), 'at a checkpoint');
      const { checkpoint, config: resumed, changed } = await prepareResume(out('stopped'));
      t.deepEqual([checkpoint.state.step, changed], [3, []]);
      const second = await train({ gpu, config: resumed, source, out: out('stopped'), resume: checkpoint });
      t.equal(second.step, 6);
      t.deepEqual(differingFiles(whole.checkpoint, second.checkpoint), { compared: 5, differing: [] }, 'equal bytes');
      t.deepEqual(
        readMetrics(join(out('stopped'), 'metrics.jsonl')).map(({ step, total_loss: loss }) => [step, loss]),
        readMetrics(join(out('whole'), 'metrics.jsonl')).map(({ step, total_loss: loss }) => [step, loss]),
        'and equal losses in one metrics.jsonl',
      );

      const back = await prepareResume(out('stopped'), { from: 'step_0000004' });
      const third = await train({ gpu, config: back.config, source, out: out('stopped'), resume: back.checkpoint });
      t.deepEqual(
        differingFiles(whole.checkpoint, third.checkpoint),
        { compared: 5, differing: [] },
        'from an earlier one too',
      );
    });
  });
}

test('a resume says what is not as it was', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const gpu = await testGpu();
    const source = tinySource();
    const out = join(folder, 'run');
    const config = tinyConfig(`train.output_dir=${out}`);
    await train({ gpu, config, source, out });

    const { changed } = await prepareResume(out, { set: ['optim.lr=0.5', 'train.log_period=1'] });
    t.deepEqual(changed, ['optim.lr'], 'changed keys, but not those that only watch');
    const { checkpoint, config: same } = await prepareResume(out, { from: 'step_0000004' });
    const resume = async (changes: readonly string[], pictures = source): Promise<string> => {
      const base = changes.length > 0 ? tinyConfig(`train.output_dir=${out}`, ...changes) : same;
      try {
        await train({ gpu, config: base, source: pictures, out, resume: checkpoint });
        return 'no error';
      } catch (error) {
        return error instanceof DataError ? error.message : String(error);
      }
    };
    t.match(
      await resume([], tinySource(11)),
      /generated has 11 pictures; there were 12 when this run began.*start a new run$/,
    );
    t.match(
      await resume(['student.embed_dim=48']),
      /student.safetensors does not fit the configuration: backbone.cls_token is \[1,1,32\] instead of \[1,1,48\]/,
    );
    writeFileSync(join(checkpoint.folder, 'teacher.safetensors'), 'broken');
    t.match(await resume([]), /teacher.safetensors has 6 bytes instead of .* --from step_0000002$/);
    t.equal(readMetrics(join(out, 'metrics.jsonl')).at(-1)!.step, 5, 'and left the run as it was');
  });
});
