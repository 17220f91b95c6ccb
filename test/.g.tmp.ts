import { runParity } from '../src/eval/parity.js';
import { openGpu } from '../src/node.js';
const t0 = performance.now();
const gpu = await openGpu();
console.log('open', performance.now() - t0);
const r = await runParity(gpu, process.argv[2]);
for (const c of r) {
  console.log(c.name, c.status, c.reason, c.seconds);
  for (const x of c.comparisons)
    if (process.argv[3]) console.log(x.pass, x.name, x.maxError.toExponential(1), x.cosine.toFixed(6));
}
gpu.close();
