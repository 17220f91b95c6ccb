/** The table of tuned variants: reading, merging, whose entries apply, and what becomes of a broken one. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tape';
import { DataError } from '../../src/errors.js';
import { BASELINE_CAPABILITIES } from '../../src/gpu/capabilities.js';
import { loadTuned, readTunedTable, shippedTablePath, userTablePath } from '../../src/gpu/node_tuning.js';
import {
  adapterKey,
  formatTunedTable,
  mergeTuned,
  parseTunedTable,
  type TunedTable,
  withTuned,
} from '../../src/gpu/tuning.js';
import { openGpu } from '../../src/node.js';
import { parseAttentionKey } from '../../src/tensor/attention.js';
import { parseKey } from '../../kernels/gemm.js';

const CARD = {
  ...BASELINE_CAPABILITIES,
  vendor: 'acme',
  architecture: 'one',
  device: 'Acme 9',
  description: 'driver 1',
};

function table(entries: Record<string, Record<string, string>>): TunedTable {
  return new Map(Object.entries(entries).map(([adapter, variants]) => [adapter, new Map(Object.entries(variants))]));
}

test('an adapter is named by its card, and by the family that was asked for', (t) => {
  t.equal(adapterKey(CARD), 'acme / one / Acme 9');
  t.equal(adapterKey({ ...CARD, description: 'driver 2' }), adapterKey(CARD), 'another driver is the same card');
  t.equal(adapterKey({ ...CARD, device: '' }), 'acme / one / driver 1', 'without a card, what there is');
  t.equal(adapterKey({ ...CARD, family: 'f16' }), 'acme / one / Acme 9 / f16');
  t.end();
});

test('a table survives being written and read', (t) => {
  const tuned = table({ 'acme / two': { 'gemm b': 'tiled', 'gemm a': 'direct' }, 'acme / one': {} });
  const text = formatTunedTable(tuned);
  t.deepEqual(
    parseTunedTable(text),
    table({ 'acme / one': {}, 'acme / two': { 'gemm a': 'direct', 'gemm b': 'tiled' } }),
  );
  t.equal(formatTunedTable(parseTunedTable(text)), text, 'the same bytes');
  t.ok(text.indexOf('gemm a') < text.indexOf('gemm b'), 'sorted');
  t.end();
});

test('tables that are none are refused', (t) => {
  const adapters = (value: unknown): string => JSON.stringify({ format: 'webdino tuned variants 1', adapters: value });
  const broken: [string, RegExp][] = [
    ['{ "format"', /no JSON/],
    ['[]', /format/],
    ['{ "format": "webdino tuned variants 2", "adapters": {} }', /format/],
    [adapters([]), /no adapters/],
    [adapters({ card: 'direct' }), /card has no table/],
    [adapters({ card: { 'gemm a': 3 } }), /'gemm a' is no text/],
  ];
  for (const [text, message] of broken) {
    try {
      parseTunedTable(text);
      t.fail(`${text} was read`);
    } catch (error) {
      t.ok(error instanceof DataError && message.test(error.message), (error as Error).message);
    }
  }
  t.end();
});

test('later tables win, entry by entry', (t) => {
  const merged = mergeTuned(
    table({ a: { x: 'shipped', y: 'shipped' }, b: { x: 'shipped' } }),
    table({ a: { x: 'user' }, c: { x: 'user' } }),
  );
  t.deepEqual(merged, table({ a: { x: 'user', y: 'shipped' }, b: { x: 'shipped' }, c: { x: 'user' } }));
  t.end();
});

test('only the entries of the same adapter apply', (t) => {
  const tuned = table({ 'acme / one / Acme 9': { x: 'fast' }, 'acme / one / Acme 8': { x: 'slow' } });
  t.equal(withTuned(CARD, tuned).tuned?.get('x'), 'fast');
  t.equal(withTuned({ ...CARD, device: 'Acme 7' }, tuned).tuned, undefined, 'another card');
  t.equal(withTuned({ ...CARD, family: 'f16' }, tuned).tuned, undefined, 'another family');
  t.equal(withTuned(CARD, undefined).tuned, undefined, 'no table');
  t.end();
});

test("the user's table lies among the caches", (t) => {
  t.equal(userTablePath({}, 'linux', '/home/me'), '/home/me/.cache/webdino/tuned.json');
  t.equal(userTablePath({ XDG_CACHE_HOME: '/big' }, 'linux', '/home/me'), '/big/webdino/tuned.json');
  t.equal(userTablePath({ XDG_CACHE_HOME: 'big' }, 'linux', '/home/me'), '/home/me/.cache/webdino/tuned.json');
  t.equal(userTablePath({}, 'darwin', '/Users/me'), '/Users/me/Library/Caches/webdino/tuned.json');
  t.equal(userTablePath({ LOCALAPPDATA: '/local' }, 'win32', '/me'), join('/local', 'webdino', 'tuned.json'));
  t.equal(userTablePath({}, 'win32', '/me'), join('/me', 'AppData', 'Local', 'webdino', 'tuned.json'));
  t.end();
});

test('tables are read from files: what ships, then what was measured here', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'webdino-tuned-'));
  const [shipped, user] = [join(folder, 'shipped.json'), join(folder, 'user.json')];
  const warnings: string[] = [];
  const load = (environment: NodeJS.ProcessEnv = {}) =>
    loadTuned({ environment, shipped, user, warn: (message) => warnings.push(message) });
  t.deepEqual(load(), new Map(), 'no files, no table');
  writeFileSync(shipped, formatTunedTable(table({ card: { x: 'shipped', y: 'shipped' } })));
  writeFileSync(user, formatTunedTable(table({ card: { x: 'user' } })));
  t.deepEqual(load(), table({ card: { x: 'user', y: 'shipped' } }));
  t.deepEqual(load({ WEBDINO_TUNED: 'off' }), new Map(), 'WEBDINO_TUNED=off ignores both');
  t.deepEqual(warnings, [], 'no warning so far');

  writeFileSync(user, '{ "format": "webdino');
  t.deepEqual(load(), table({ card: { x: 'shipped', y: 'shipped' } }), "without the user's, which is corrupt");
  load();
  t.equal(warnings.length, 1, 'one warning');
  t.ok(warnings[0].includes(user) && /webdino tune writes it anew, or delete it/.test(warnings[0]), warnings[0]);
  writeFileSync(shipped, '');
  t.deepEqual(load(), new Map());
  t.ok(
    warnings.length === 2 && warnings[1].includes(shipped) && /install webdino again/.test(warnings[1]),
    warnings[1],
  );
  t.throws(() => readTunedTable(folder), /EISDIR/, 'what cannot be read at all is said as well');
  rmSync(folder, { recursive: true });
  t.end();
});

test('the table that ships is whole and has keys that plans ask for', (t) => {
  const shipped = readTunedTable(shippedTablePath());
  t.ok(shipped.size > 0, `${[...shipped.keys()]}`);
  for (const [adapter, variants] of shipped) {
    const strangers = [...variants.keys()].filter((key) => !parseKey(key) && !parseAttentionKey(key));
    t.deepEqual(strangers, [], `${adapter}: ${variants.size} entries`);
  }
  t.end();
});

test('openGpu takes what was measured for its adapter', async (t) => {
  const { WEBDINO_TUNED: setting, XDG_CACHE_HOME: caches } = process.env;
  const folder = mkdtempSync(join(tmpdir(), 'webdino-tuned-'));
  const open = async (): Promise<string | undefined> => {
    const gpu = await openGpu();
    const { tuned } = gpu.capabilities;
    const key = adapterKey(gpu.capabilities);
    gpu.close();
    mkdirSync(join(folder, 'webdino'), { recursive: true });
    writeFileSync(userTablePath(), formatTunedTable(table({ [key]: { 'a key': 'fast' } })));
    return tuned?.get('a key');
  };
  try {
    process.env.XDG_CACHE_HOME = folder;
    process.env.WEBDINO_TUNED = '';
    t.equal(await open(), undefined, 'nothing was measured');
    t.equal(await open(), 'fast', 'the entry of this adapter');
    process.env.WEBDINO_TUNED = 'off';
    t.equal(await open(), undefined, 'unless it is turned off');
  } finally {
    for (const [name, value] of Object.entries({ WEBDINO_TUNED: setting, XDG_CACHE_HOME: caches })) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    rmSync(folder, { recursive: true });
  }
});
