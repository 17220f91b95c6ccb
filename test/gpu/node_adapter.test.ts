import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type Test } from 'tape';
import { NoGpuError, UsageError } from '../../src/errors.js';
import { advise, type Host, mesaLine, parseOsRelease } from '../../src/gpu/driver_advice.js';
import { type AdapterChoice, NoAdapterError, openAdapter } from '../../src/gpu/node_adapter.js';
import { findLavapipe, findSwiftShader, readTar, unpackBundledSwiftShader } from '../../src/gpu/software_adapter.js';

const VARIABLES = ['WEBDINO_ADAPTER', 'VK_DRIVER_FILES', 'VK_ICD_FILENAMES', 'XDG_CACHE_HOME'];
const onLinux = process.platform === 'linux';
const bundles = onLinux && process.arch === 'x64';

/** Runs `action` with exactly these of the variables set, and puts the environment back. */
async function withEnvironment<T>(setting: Record<string, string>, action: () => T | Promise<T>): Promise<T> {
  const before = VARIABLES.map((name) => [name, process.env[name]] as const);
  for (const name of VARIABLES) delete process.env[name];
  Object.assign(process.env, setting);
  try {
    return await action();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

function temporaryFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'webdino-adapter-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Doubles four numbers on the adapter, to see that it computes and not only that it opens. */
async function doublesNumbers(adapter: GPUAdapter): Promise<number[]> {
  const device = await adapter.requestDevice();
  const storage = device.createBuffer({ size: 16, usage: 0x80 | 0x4 | 0x8 });
  const staging = device.createBuffer({ size: 16, usage: 0x1 | 0x8 });
  device.queue.writeBuffer(storage, 0, new Float32Array([1, 2, 3, 4]));
  const module = device.createShaderModule({
    code: `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
      @compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) { x[i] *= 2; }`,
  });
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
  const layout = pipeline.getBindGroupLayout(0);
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: storage } }] }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(storage, 0, staging, 0, 16);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(1);
  const values = [...new Float32Array(staging.getMappedRange().slice(0))];
  device.destroy();
  return values;
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return undefined;
}

const choices: { choice: AdapterChoice; kinds: string[]; present: boolean }[] = [
  { choice: 'auto', kinds: ['hardware', 'lavapipe', 'swiftshader', 'bundled', 'software'], present: true },
  { choice: 'lavapipe', kinds: ['lavapipe'], present: onLinux && findLavapipe().length > 0 },
  { choice: 'swiftshader', kinds: ['swiftshader', 'bundled'], present: bundles },
  { choice: 'bundled', kinds: ['bundled'], present: bundles },
];

for (const { choice, kinds, present } of choices) {
  test(`openAdapter: ${choice} opens and computes`, async (t) => {
    if (!present) return t.skip(`${choice} is not on this machine`);
    const { adapter, kind, reason, tried } = await withEnvironment({}, () => openAdapter({ choice }));
    t.ok(kinds.includes(kind), `kind is ${kind}`);
    t.ok(reason.length > 0 && tried.some(({ outcome }) => outcome.startsWith('taken')), reason);
    t.deepEqual(await doublesNumbers(adapter), [2, 4, 6, 8]);
  });
}

test('openAdapter: WEBDINO_ADAPTER chooses, an unknown word is refused', async (t) => {
  const error = await withEnvironment({ WEBDINO_ADAPTER: 'geforce' }, () => rejection(openAdapter()));
  t.ok(error instanceof UsageError && /WEBDINO_ADAPTER is 'geforce'.*bundled/.test(error.message), `${error}`);
  if (!bundles) return t.skip('no SwiftShader from npm on this platform');
  const { kind } = await withEnvironment({ WEBDINO_ADAPTER: 'bundled' }, () => openAdapter());
  t.equal(kind, 'bundled');
});

test('openAdapter: drivers named by the user are the only ones, and the environment stays as it was', async (t) => {
  if (!bundles) return t.skip('needs the SwiftShader from npm');
  const { manifest } = unpackBundledSwiftShader();
  await withEnvironment({ VK_DRIVER_FILES: manifest }, async () => {
    const { kind, reason } = await openAdapter({ choice: 'auto' });
    t.equal(kind, 'swiftshader');
    t.ok(reason.includes(`VK_DRIVER_FILES=${manifest}`), reason);
    t.ok((await openAdapter({ choice: 'bundled' })).adapter, 'a CPU adapter asked for by name opens all the same');
    t.equal(process.env.VK_DRIVER_FILES, manifest);
    t.equal(process.env.VK_ICD_FILENAMES, undefined);
  });
  const missing = '/nowhere/icd.json';
  const error = await withEnvironment({ VK_DRIVER_FILES: missing }, () => rejection(openAdapter({ choice: 'auto' })));
  t.ok(error instanceof NoAdapterError && error instanceof NoGpuError);
  t.equal((error as NoGpuError).exitCode, 3);
  t.ok(/run: unset VK_DRIVER_FILES$/.test((error as Error).message), (error as Error).message);
  t.ok(
    (await withEnvironment({}, () => openAdapter({ choice: 'auto' }))).adapter,
    'a failed search does not spoil the next',
  );
});

test('openAdapter: searches at the same time do not mix up their drivers', async (t) => {
  if (!bundles) return t.skip('needs the SwiftShader from npm');
  const wanted: AdapterChoice[] = ['bundled', 'auto', 'bundled', 'swiftshader'];
  const opened = await withEnvironment({}, () => Promise.all(wanted.map((choice) => openAdapter({ choice }))));
  const devices = opened.map(({ adapter }) => adapter.info.description);
  t.equal(opened[0].kind, 'bundled');
  t.ok(/swiftshader/i.test(devices[0]) && devices[0] === devices[2], devices.join(' | '));
  t.ok(/swiftshader/i.test(devices[3]), devices[3]);
});

test('openAdapter: the garbage collector does not take the GPU away', (t) => {
  const script = `
    const { openAdapter } = await import('./src/gpu/node_adapter.ts');
    const collect = async () => {
      for (let i = 0; i < 60; i++) { globalThis.gc(); await new Promise((done) => setTimeout(done, 2)); }
    };
    const { adapter } = await openAdapter();
    await collect();
    const device = await adapter.requestDevice();
    await collect();
    device.createBuffer({ size: 16, usage: 0x80 });
    await device.queue.onSubmittedWorkDone();
    console.log('alive');`;
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const flags = ['--expose-gc', '--import', 'tsx', '--input-type=module', '-e', script];
  // Without the references that openAdapter keeps, Node crashes or waits for ever.
  const { stdout, signal } = spawnSync(process.execPath, flags, { cwd: root, encoding: 'utf8', timeout: 60_000 });
  t.equal(stdout.trim(), 'alive', signal ?? undefined);
  t.end();
});

test('unpackBundledSwiftShader: unpacks once, repairs what is damaged, leaves nothing beside', (t) => {
  if (!bundles) {
    t.skip('no SwiftShader from npm on this platform');
    return t.end();
  }
  const cache = temporaryFolder(t);
  const { manifest, loader } = unpackBundledSwiftShader(cache);
  const library = manifest.replace('vk_swiftshader_icd.json', 'libvk_swiftshader.so');
  const [whole, wholeLoader] = [readFileSync(library), readFileSync(loader)];
  t.equal(whole.toString('latin1', 1, 4), 'ELF');

  truncateSync(library, 1000);
  unpackBundledSwiftShader(cache);
  t.ok(readFileSync(library).equals(whole), 'a cut file is whole again');

  const changed = Buffer.from(wholeLoader);
  changed[5000] ^= 1;
  writeFileSync(loader, changed);
  unpackBundledSwiftShader(cache);
  t.ok(readFileSync(loader).equals(wholeLoader), 'a changed byte is seen');

  t.equal(readdirSync(cache).length, 1, 'one folder in the cache');
  t.end();
});

test('findLavapipe and findSwiftShader: usual folders, and a manifest where a browser has none', async (t) => {
  const folder = temporaryFolder(t);
  for (const name of ['lvp_icd.x86_64.json', 'lvp_icd.i686.json', 'radeon_icd.x86_64.json'])
    writeFileSync(join(folder, name), '{}');
  t.deepEqual(findLavapipe([folder, join(folder, 'none')]), [join(folder, 'lvp_icd.x86_64.json')]);

  const browser = join(folder, 'browser');
  mkdirSync(browser);
  writeFileSync(join(browser, 'libvk_swiftshader.so'), '');
  await withEnvironment({ XDG_CACHE_HOME: join(folder, 'cache') }, () => {
    const [manifest] = findSwiftShader([browser, join(folder, 'none')]);
    t.ok(manifest.startsWith(join(folder, 'cache', 'webdino')), manifest);
    t.equal(JSON.parse(readFileSync(manifest, 'utf8')).ICD.library_path, join(browser, 'libvk_swiftshader.so'));
  });
  writeFileSync(join(browser, 'vk_swiftshader_icd.json'), '{"ICD":{"library_path":"./libvk_swiftshader.so"}}');
  t.deepEqual(findSwiftShader([browser]), [join(browser, 'vk_swiftshader_icd.json')]);
});

test('readTar: files by name, a damaged header is refused', (t) => {
  const archive = Buffer.alloc(2560);
  archive.write('folder/hello.txt', 0);
  archive.write('00000000005\0', 124);
  archive.write('        0', 148);
  const sum = archive.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  archive.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  archive.write('world', 512);
  t.equal(Buffer.from(readTar(archive).get('hello.txt')!).toString(), 'world');
  archive[3] ^= 1;
  t.throws(() => readTar(archive), /damaged at byte 0/);
  t.throws(
    () => readTar(Buffer.concat([archive.subarray(0, 3), Buffer.from('d'), archive.subarray(4, 514)])),
    /damaged/,
  );
  t.end();
});

const BARE_HOST: Host = {
  platform: 'linux',
  arch: 'x64',
  root: false,
  distribution: '',
  distributionLike: [],
  codename: '',
  gpuVendors: [],
  renderNodeForbidden: false,
  container: false,
};

test('advise: the line for this system', (t) => {
  const debian12 = { ...BARE_HOST, distribution: 'debian', codename: 'bookworm' };
  const line = mesaLine(debian12)!;
  t.ok(line.includes('sudo apt-get install -y -t bookworm-backports mesa-vulkan-drivers'), line);
  t.notOk(line.includes('http'), 'the mirror in use is asked for, none is named');
  t.notOk(mesaLine({ ...debian12, root: true })!.includes('sudo'), 'root needs no sudo');
  t.notOk(mesaLine({ ...debian12, codename: 'trixie' })!.includes('backports'), 'Debian 13 has what it takes');
  t.ok(
    mesaLine({ ...BARE_HOST, distribution: 'linuxmint', distributionLike: ['ubuntu', 'debian'] })!.includes('apt-get'),
  );
  t.ok(mesaLine({ ...BARE_HOST, distribution: 'fedora' })!.includes('dnf'));
  t.equal(mesaLine({ ...BARE_HOST, distribution: 'unheard-of' }), undefined);
  t.equal(parseOsRelease('ID=debian\nVERSION_CODENAME="bookworm"\n# x\nNAME=\'a b\'').VERSION_CODENAME, 'bookworm');

  t.deepEqual(advise(debian12, 'hardware'), [], 'nothing is faster than hardware');
  t.equal(advise(debian12, 'bundled')[0].line, line);
  t.ok(
    advise(debian12, 'lavapipe').every((advice) => !advice.line),
    'lavapipe is the best without a GPU',
  );
  const nvidia = { ...debian12, gpuVendors: ['nvidia'] as const };
  t.ok(/nvidia-driver/.test(advise(nvidia, 'lavapipe')[0].line!));
  t.ok(/NVIDIA_DRIVER_CAPABILITIES=all/.test(advise({ ...nvidia, container: true }, 'lavapipe')[0].line!));
  t.ok(/render/.test(advise({ ...debian12, renderNodeForbidden: true }, 'lavapipe')[0].line!));
  t.end();
});
