import { openGpu } from './src/node.js';
import { loadConfig } from './src/train/config.js';
import { sslConfig } from './src/train/ssl_config.js';
import { SslTrainer } from './src/dinov2/ssl.js';
import { PipelineCache } from './src/gpu/pipelines.js';
const gpu = await openGpu();
const config = loadConfig({ preset: 'quickstart', set: process.argv.slice(2) });
const ssl = new SslTrainer(gpu, sslConfig(config));
await ssl.compile();
const p = ssl.program as any;
p.uploadInputs();
const first = new Map<string, number>(), again = new Map<string, number>(); const rows: [number, string][] = [];
for (let i = 0; i < p.dispatches.length; i++) {
  const key = PipelineCache.key(p.dispatches[i].plan);
  const e = gpu.device.createCommandEncoder(); const pass = e.beginComputePass(); p.encode(pass, i); pass.end();
  const t = performance.now(); gpu.device.queue.submit([e.finish()]); await gpu.device.queue.onSubmittedWorkDone(); const ms = performance.now() - t;
  if (first.has(key)) again.set(key, ms); else { first.set(key, ms); }
}
const sum = new Map<string, [number, number]>();
for (const [k, ms] of first) { rows.push([ms, k]); const n = k.split(' ')[0]; const s = sum.get(n) ?? [0, 0]; s[0]++; s[1] += ms; sum.set(n, s); }
console.log('pipelines', first.size, 'first-run total', rows.reduce((a, r) => a + r[0], 0));
console.log([...sum].sort((a, b) => b[1][1] - a[1][1]).slice(0, 15).map(([n, [c, ms]]) => `${n} ${c} pipelines ${ms.toFixed(0)} ms`).join('\n'));
rows.sort((a, b) => b[0] - a[0]); console.log(rows.slice(0, 12).map(([ms, k]) => ms.toFixed(0) + ' ' + k).join('\n'));
gpu.close();
