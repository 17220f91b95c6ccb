import test from 'tape';
import { GpuError } from '../../src/errors.js';
import { openAdapter } from '../../src/gpu/node_adapter.js';
import { measureSpeed, runSelfTest } from '../../src/gpu/self_test.js';

async function openDevice(): Promise<GPUDevice> {
  const { adapter } = await openAdapter();
  const optional = ['subgroups', 'shader-f16'] as const;
  return adapter.requestDevice({ requiredFeatures: optional.filter((name) => adapter.features.has(name)) });
}

test('runSelfTest: every test passes, and has a limit that a wrong result would exceed', async (t) => {
  const device = await openDevice();
  const results = await runSelfTest(device);
  t.ok(results.length >= 3, `${results.length} tests`);
  for (const { name, error, limit, passed } of results) {
    t.ok(passed && error <= limit, `${name}: ${error.toExponential(1)} of ${limit.toExponential(0)}`);
  }
  t.ok(
    results.some(({ error }) => error > 0),
    'float32 on a GPU is not float64: an error of exactly 0 everywhere would mean that nothing was compared',
  );
  device.destroy();
});

/** The device, with one method exchanged for one that does nothing. */
function crippled<K extends 'dispatchWorkgroups'>(device: GPUDevice, method: K): GPUDevice {
  const wrap = <T extends object>(target: T, exchanged: Partial<Record<keyof T, unknown>>): T =>
    new Proxy(target, {
      get(object, name) {
        if (name in exchanged) return exchanged[name as keyof T];
        const value: unknown = Reflect.get(object, name, object);
        return typeof value === 'function' ? value.bind(object) : value;
      },
    });
  return wrap(device, {
    createCommandEncoder: () => {
      const encoder = device.createCommandEncoder();
      return wrap(encoder, { beginComputePass: () => wrap(encoder.beginComputePass(), { [method]: () => undefined }) });
    },
  });
}

test('runSelfTest and measureSpeed: shaders that never run neither pass nor post a speed', async (t) => {
  const device = await openDevice();
  const idle = crippled(device, 'dispatchWorkgroups');
  const results = await runSelfTest(idle);
  t.ok(
    results.every(({ passed, error }) => !passed && Number.isNaN(error)),
    'every test fails',
  );
  try {
    await measureSpeed(idle);
    t.fail('a speed was measured');
  } catch (error) {
    t.ok(error instanceof GpuError && /is wrong/.test(error.message), `${error}`);
  }
  device.destroy();
});

test('runSelfTest: what the device reports becomes an exception', async (t) => {
  const device = await openDevice();
  const broken = new Proxy(device, {
    get(object, name) {
      if (name === 'createShaderModule') return () => object.createShaderModule({ code: 'fn main( {' });
      const value: unknown = Reflect.get(object, name, object);
      return typeof value === 'function' ? value.bind(object) : value;
    },
  });
  try {
    await runSelfTest(broken);
    t.fail('a broken shader passed');
  } catch (error) {
    t.ok(error instanceof GpuError && /refused the self-test/.test(error.message), `${error}`);
  }
  device.destroy();
});
