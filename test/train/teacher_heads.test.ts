/** Heads for a backbone that comes without: trained on it while it stays as it is, they must mean something. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { MultiCropLoader } from '../../src/data/loader.js';
import type { ImageSource } from '../../src/data/source.js';
import { FrozenTeacher } from '../../src/dinov2/distill.js';
import { readSafetensors } from '../../src/io/safetensors.js';
import { distillationConfig, headStageConfig } from '../../src/train/distillation.js';
import { cropSettings, sslConfig } from '../../src/train/ssl_config.js';
import { findTeacher, loadTeacher } from '../../src/train/teacher_files.js';
import { train } from '../../src/train/trainer.js';
import { TINY_VIT, tinyFile } from '../eval/tiny_model.js';
import { testGpu } from '../fixture.js';
import { inTemporaryFolder, tinyConfig, tinySource } from './tiny_run.js';

/** Pictures that differ in colour and in the direction of their stripes. */
function stripedSource(length: number): ImageSource {
  const side = 40;
  const pixels = (index: number) => {
    const [hue, turn] = [(2 * Math.PI * index) / length, (Math.PI * index) / length];
    const data = Uint8Array.from({ length: side * side * 3 }, (_, i) => {
      const [channel, x, y] = [i % 3, Math.floor(i / 3) % side, Math.floor(i / 3 / side)];
      const wave = Math.sin((x * Math.cos(turn) + y * Math.sin(turn)) / 2);
      return 128 + 80 * Math.cos(hue + (2 * Math.PI * channel) / 3) + 40 * wave;
    });
    return { width: side, height: side, data };
  };
  return { ...tinySource(length), pixels };
}

/** Index of the largest value of each row. */
function largest(rows: Float32Array, columns: number): number[] {
  return Array.from({ length: rows.length / columns }, (_, r) => {
    const row = rows.subarray(r * columns, (r + 1) * columns);
    return row.indexOf(row.reduce((a, b) => Math.max(a, b)));
  });
}

test('heads trained on a frozen backbone sort pictures, and two views of one alike', async (t) => {
  await inTemporaryFolder(async (folder) => {
    const gpu = await testGpu();
    const source = stripedSource(16);
    // A backbone alone, as published ones come.
    const backbone = join(folder, 'backbone.safetensors');
    writeFileSync(backbone, tinyFile({ ...TINY_VIT, embedDim: 32, numHeads: 2 }));
    const config = tinyConfig(
      'student={embed_dim: 16, depth: 1}',
      'train={batch_size_per_gpu: 8, log_period: 10, checkpoint_period: 0}',
      'teacher={momentum_teacher: 0.9, warmup_teacher_temp: 0.04, teacher_temp: 0.04}',
      'distill={teacher_num_heads: 2, head_steps: 60}',
      'optim={base_lr: 0.1, warmup_epochs: 0}',
      // Colour is what these pictures have.
      'crops={color_jitter: 0, grayscale: 0, horizontal_flip: 0, blur: [0, 0, 0], solarize: [0, 0, 0]}',
      'crops={global_crops_scale: [0.6, 1], local_crops_scale: [0.3, 0.6]}',
      `distill.teacher=${backbone}`,
    );
    const found = await findTeacher(config);
    t.deepEqual([found.dinoHead, found.ibotHead, found.vit.embedDim], [undefined, undefined, 32], 'it has no heads');
    const early = train({ gpu, config: distillationConfig(config, found), source, out: join(folder, 'early') });
    const headless = await early.then(
      () => new Error('no error'),
      (error: Error) => error,
    );
    t.match(headless.message, /has no heads: train them first with webdino distill --train-heads/);

    const out = join(folder, 'teacher_heads');
    const result = await train({ gpu, config: headStageConfig(config, found, out), source, out });
    const heads = join(result.checkpoint, 'teacher.safetensors');
    const trained = readSafetensors(readFileSync(heads));
    t.ok(
      [...trained.tensors.keys()].every((name) => name.startsWith('dino_head.')),
      'heads, and nothing of the backbone, are trained and kept',
    );

    const whole = { ...config, distill: { ...config.distill, heads } };
    const teacher = await findTeacher(whole);
    t.notEqual(teacher.sha256, found.sha256, 'the hash is of the heads too');
    const ssl = sslConfig(distillationConfig(whole, teacher));
    const { vit, dinoHead } = teacher;
    const frozen = new FrozenTeacher(gpu, { ...ssl, network: { vit, dinoHead: dinoHead! } });
    await frozen.compile();
    await loadTeacher(teacher, frozen.weights);
    const settings = { settings: cropSettings(config), batchSize: 8, seed: 9, workers: 0, prefetch: 0 };
    const loader = new MultiCropLoader(source, settings);
    const K = ssl.dinoHead.prototypes;
    let [agreed, chance, used, entropy] = [0, 0, new Set<number>(), 0];
    const batches = 6;
    for (let i = 0; i < batches; i++) {
      const { globalCrops } = await loader.next();
      frozen.run({ globalCrops, teacherTemperature: 0.04 });
      const { buffer } = frozen.outputs.cls.place();
      const targets = new Float32Array(await gpu.readBuffer(buffer, 0, 4 * 16 * K));
      entropy -= targets.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0) / 16 / batches;
      const best = largest(targets, K);
      const [first, second] = [best.slice(0, 8), best.slice(8)];
      agreed += first.filter((prototype, r) => prototype === second[r]).length / 8 / batches;
      chance +=
        first.reduce((sum, prototype) => sum + second.filter((other) => other === prototype).length, 0) / 64 / batches;
      used = new Set([...used, ...best]);
    }
    await loader.close();
    frozen.dispose();
    t.ok(
      entropy > 0.02 * Math.log(K) && entropy < 0.9 * Math.log(K),
      `entropy ${entropy.toFixed(2)} of ${Math.log(K).toFixed(2)}`,
    );
    t.ok(used.size >= 8, `${used.size} prototypes are in use`);
    t.ok(
      agreed > 2 * chance,
      `two views agree in ${(100 * agreed).toFixed(0)} %, by chance in ${(100 * chance).toFixed(0)} %`,
    );

    const config2 = distillationConfig({ ...whole, train: { ...whole.train, steps: 1 } }, teacher);
    const distilled = await train({ gpu, config: config2, source, out: join(folder, 'student') });
    t.equal(distilled.step, 1, 'and a student can be distilled with them');
  });
});
