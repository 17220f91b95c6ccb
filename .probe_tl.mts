import { openGpu } from './src/node.js';
import { loadConfig } from './src/train/config.js';
import { sslConfig, maskSettings, cropSettings } from './src/train/ssl_config.js';
import { SslTrainer } from './src/dinov2/ssl.js';
import { initializeStore } from './src/dinov2/initialize.js';
import { openMnist } from './src/data/mnist_source.js';
import { MultiCropLoader } from './src/data/loader.js';
import { collateMasks, collateFromMasks } from './src/dinov2/masking.js';
import { CounterRandom, RandomPurpose } from './src/data/random.js';
const gpu = await openGpu();
console.log(gpu.reason);
const config = loadConfig({ preset: 'quickstart', set: process.argv.slice(2) });
let t = performance.now();
const lap = (s: string) => { console.log(s, (performance.now() - t).toFixed(0), 'ms'); t = performance.now(); };
const source = openMnist('TRAIN'); lap('digits ' + source.length);
const c = sslConfig(config);
const ssl = new SslTrainer(gpu, c); lap('record');
await ssl.compile(); lap('compile');
console.log(ssl.program.cost);
await initializeStore(gpu, ssl.student, { seed: 0, layerScale: config.student.layerscale }); ssl.teacher.copyFrom(ssl.student); await gpu.finish(); lap('init');
const loader = new MultiCropLoader(source, { settings: cropSettings(config), batchSize: c.batch, seed: 0, workers: 1 });
for (let step = 0; step < 6; step++) {
  const b = await loader.next(); lap('data');
  const m = collateMasks(maskSettings(config), new CounterRandom(0, RandomPurpose.masks, step));
  ssl.run({ globalCrops: b.globalCrops, localCrops: b.localCrops, masks: m, learningRate: 1e-3, lastLayerLearningRate: 1e-3, weightDecay: 0.04, teacherMomentum: 0.99, teacherTemperature: 0.05, clipGrad: 3, step, seed: 0 });
  const log = await ssl.log(); lap('step ' + step);
  if (step % 5 === 0) console.log(log);
}
await loader.close();
for (const [k, v] of ssl.program.kernelCounts) console.log(k, v.dispatches, (v.flops/1e6).toFixed(1));
try { const tr = await ssl.trace(); const by = new Map<string, number>(); for (const e of tr) by.set(e.kernel, (by.get(e.kernel) ?? 0) + e.timeMs); console.log([...by].sort((a, b) => b[1] - a[1]).slice(0, 12)); } catch (e) { console.log(String(e)); }
gpu.close();
