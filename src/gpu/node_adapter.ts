/**
 * How webdino finds a GPU on Node: Dawn (npm package `webgpu`), asked in this order for
 *
 *   1. a hardware adapter;
 *   2. an installed adapter that runs on the CPU: Mesa's lavapipe, then the SwiftShader of an installed Chromium;
 *   3. the SwiftShader that comes through npm, which needs neither root nor any installed Vulkan.
 *
 * On Linux a candidate is a Vulkan driver. The Vulkan loader is pointed to it through the environment while Dawn makes
 * its instance, and the environment is put back afterwards; a candidate that fails leaves no trace, so the next one opens
 * in the same process (tried with webgpu 0.6.2). Elsewhere only Dawn's own choice exists (Metal, Direct3D 12).
 */

import { closeSync, existsSync, readSync } from 'node:fs';
import { NoGpuError, UsageError } from '../errors.js';
import { advise, mesaLine, readHost } from './driver_advice.js';
import { findLavapipe, findSwiftShader, unpackBundledSwiftShader } from './software_adapter.js';

export const ADAPTER_CHOICES = ['auto', 'hardware', 'lavapipe', 'swiftshader', 'bundled'] as const;
export type AdapterChoice = (typeof ADAPTER_CHOICES)[number];

/** `software` is a CPU adapter of another make, such as Windows' WARP. */
export type AdapterKind = 'hardware' | 'lavapipe' | 'swiftshader' | 'bundled' | 'software';

export interface OpenAdapterOptions {
  /** Default: the environment variable WEBDINO_ADAPTER, else `auto`. `swiftshader` falls back on the one from npm. */
  readonly choice?: AdapterChoice;
  /** Leaves out Dawn's validation and bounds checks: faster, but a mistake then crashes instead of being reported. */
  readonly fast?: boolean;
}

export interface Attempt {
  readonly candidate: string;
  readonly outcome: string;
}

export interface OpenedAdapter {
  readonly adapter: GPUAdapter;
  readonly kind: AdapterKind;
  /** For people: what was taken and why. */
  readonly reason: string;
  readonly tried: readonly Attempt[];
}

/** No adapter could be opened. The message holds the line to run, `tried` what was looked at. */
export class NoAdapterError extends NoGpuError {
  constructor(
    message: string,
    readonly tried: readonly Attempt[],
  ) {
    super(message);
  }
}

type CreateGpu = (flags: string[]) => GPU;

interface SoftwareSource {
  readonly kind: 'lavapipe' | 'swiftshader' | 'bundled';
  readonly name: string;
  /** The choices that this source answers. */
  readonly choices: readonly AdapterChoice[];
  /** Manifests of its drivers, best first. */
  readonly manifests: () => readonly string[];
}

const SOFTWARE_SOURCES: readonly SoftwareSource[] = [
  { kind: 'lavapipe', name: "Mesa's lavapipe", choices: ['auto', 'lavapipe'], manifests: findLavapipe },
  {
    kind: 'swiftshader',
    name: "an installed Chromium's SwiftShader",
    choices: ['auto', 'swiftshader'],
    manifests: findSwiftShader,
  },
  {
    kind: 'bundled',
    name: 'the SwiftShader that comes through npm',
    choices: ['auto', 'swiftshader', 'bundled'],
    manifests: () => [unpackBundledSwiftShader().manifest],
  },
];

/** Where container platforms mount a GPU's driver without telling the Vulkan loader. */
const MOUNTED_HARDWARE_MANIFESTS = ['/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json'];

/** The environment variables by which the Vulkan loader takes drivers; the last one only adds. */
const DRIVER_VARIABLES = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES', 'VK_ADD_DRIVER_FILES'];

const DAWN_ON = [
  // Subgroup matrices, and timestamps to the nanosecond.
  'allow_unsafe_apis',
  // Dawn hides shader-f16 on NVIDIA's Vulkan driver without it.
  'vulkan_enable_f16_on_nvidia',
];
const DAWN_ON_FAST = [
  'disable_robustness',
  'disable_workgroup_init',
  'disable_polyfills_on_integer_div_and_mod',
  'skip_validation',
];
const DAWN_OFF = ['timestamp_quantization'];

/**
 * Everything that Dawn's `create()` and the loaded Vulkan loader returned. The garbage collector must not take them:
 * it would free the GPU under its adapters and devices, and the process crashes.
 */
const keptForever: unknown[] = [];

let lastSearch: Promise<unknown> = Promise.resolve();

/**
 * Opens the best adapter of this machine, or the one asked for. Drivers that the user named in VK_DRIVER_FILES or
 * VK_ICD_FILENAMES are the only ones looked at, unless a CPU adapter is asked for by name. Each call gives a fresh adapter.
 *
 * Throws UsageError for an unknown WEBDINO_ADAPTER, NoAdapterError (exit code 3) where nothing opens.
 */
export function openAdapter(options: OpenAdapterOptions = {}): Promise<OpenedAdapter> {
  // One search at a time, because a search speaks to the Vulkan loader through this process's environment.
  const search = lastSearch.then(() =>
    findAdapter(options.choice ?? adapterChoiceFromEnvironment(), options.fast === true),
  );
  lastSearch = search.catch(() => undefined);
  return search;
}

/** WEBDINO_ADAPTER, or `auto`. Throws UsageError for a word that is no choice. */
export function adapterChoiceFromEnvironment(): AdapterChoice {
  const value = process.env.WEBDINO_ADAPTER || 'auto';
  const choice = ADAPTER_CHOICES.find((name) => name === value);
  if (!choice) throw new UsageError(`WEBDINO_ADAPTER is '${value}'; set it to one of ${ADAPTER_CHOICES.join(', ')}`);
  return choice;
}

async function findAdapter(choice: AdapterChoice, fast: boolean): Promise<OpenedAdapter> {
  const dawn = new Dawn(await loadDawn(), fast);
  const tried: Attempt[] = [];
  if (process.platform === 'linux') await loadVulkanLoader(tried);

  const named = DRIVER_VARIABLES.slice(0, 2).filter((name) => process.env[name]);
  if (named.length > 0 && (choice === 'auto' || choice === 'hardware')) {
    return openNamedDrivers(dawn, choice, named, tried);
  }

  let system: { adapter: GPUAdapter; kind: AdapterKind } | undefined;
  if (choice === 'auto' || choice === 'hardware') {
    const mounted = process.platform === 'linux' ? MOUNTED_HARDWARE_MANIFESTS.filter((path) => existsSync(path)) : [];
    for (const manifest of [undefined, ...mounted]) {
      const candidate = manifest ? `hardware (${manifest})` : 'hardware';
      const { adapter, diagnosis } = await dawn.requestAdapter(manifest);
      const kind = adapter && kindOf(adapter.info);
      if (adapter && kind === 'hardware') {
        tried.push({ candidate, outcome: `taken: ${nameOf(adapter.info)}` });
        return { adapter, kind, reason: `${nameOf(adapter.info)}: a hardware adapter`, tried };
      }
      if (adapter && kind) {
        tried.push({ candidate, outcome: `none; the system's drivers give only ${nameOf(adapter.info)}` });
        system ??= { adapter, kind };
      } else {
        tried.push({ candidate, outcome: `none${diagnosis}` });
      }
    }
  }

  const why = choice === 'auto' ? 'no hardware adapter was found' : `asked for by the choice '${choice}'`;
  for (const source of SOFTWARE_SOURCES) {
    if (!source.choices.includes(choice)) continue;
    const adapter = system?.kind === source.kind ? system.adapter : await openSource(dawn, source, tried);
    if (!adapter) continue;
    const name = nameOf(adapter.info);
    tried.push({ candidate: source.name, outcome: `taken: ${name}` });
    return { adapter, kind: source.kind, reason: `${name}: ${source.name}, on the CPU; ${why}`, tried };
  }
  if (choice === 'auto' && system) {
    const reason = `${nameOf(system.adapter.info)}: the system's own adapter on the CPU; ${why}`;
    return { ...system, reason, tried };
  }
  throw new NoAdapterError(nothingOpened(choice, tried), tried);
}

/** The adapter of the drivers that the user named in the environment, and of no other. */
async function openNamedDrivers(
  dawn: Dawn,
  choice: AdapterChoice,
  named: readonly string[],
  tried: Attempt[],
): Promise<OpenedAdapter> {
  const setting = named.map((name) => `${name}=${process.env[name]}`).join(' ');
  const { adapter, diagnosis } = await dawn.requestAdapter();
  const kind = adapter && kindOf(adapter.info);
  tried.push({ candidate: setting, outcome: adapter ? nameOf(adapter.info) : `none${diagnosis}` });
  if (adapter && kind && (choice === 'auto' || kind === 'hardware')) {
    return { adapter, kind, reason: `${nameOf(adapter.info)}: from the drivers you named in ${setting}`, tried };
  }
  throw new NoAdapterError(
    `the Vulkan drivers you named in ${setting} give ${adapter ? 'only an adapter on the CPU' : `no adapter${diagnosis}`}; ` +
      `run: unset ${named.join(' ')}`,
    tried,
  );
}

async function openSource(dawn: Dawn, source: SoftwareSource, tried: Attempt[]): Promise<GPUAdapter | undefined> {
  if (process.platform !== 'linux') {
    tried.push({ candidate: source.name, outcome: 'none; used on Linux only' });
    return undefined;
  }
  let manifests: readonly string[];
  try {
    manifests = source.manifests();
  } catch (error) {
    tried.push({ candidate: source.name, outcome: `none; ${(error as Error).message}` });
    return undefined;
  }
  if (manifests.length === 0)
    tried.push({ candidate: source.name, outcome: 'none; not installed in the usual folders' });
  for (const manifest of manifests) {
    const { adapter, diagnosis } = await dawn.requestAdapter(manifest);
    if (adapter) return adapter;
    tried.push({ candidate: `${source.name} (${manifest})`, outcome: `none; Dawn refuses this driver${diagnosis}` });
  }
  return undefined;
}

function nothingOpened(choice: AdapterChoice, tried: readonly Attempt[]): string {
  const seen = tried.map(({ candidate, outcome }) => `${candidate}: ${outcome}`).join('; ');
  const what =
    choice === 'auto' ? 'no WebGPU adapter could be opened' : `no adapter of the kind '${choice}' could be opened`;
  return `${what} (${seen}); ${cure(choice)}`;
}

/** The exact line to run, wherever there is one. */
function cure(choice: AdapterChoice): string {
  const host = readHost();
  if (choice === 'bundled' || choice === 'swiftshader') return 'run: npm ci';
  if (choice === 'lavapipe') return runLine(mesaLine(host));
  const line = advise(host, 'none').find((advice) => advice.line)?.line;
  if (choice === 'auto') return runLine(line);
  return host.gpuVendors.length > 0 || host.renderNodeForbidden
    ? runLine(line)
    : 'this machine shows no GPU: set WEBDINO_ADAPTER=auto to run on the CPU';
}

function runLine(line: string | undefined): string {
  return line
    ? `run: ${line}`
    : "install a Vulkan driver with your system's package manager (often named mesa-vulkan-drivers)";
}

function kindOf(info: GPUAdapterInfo): Exclude<AdapterKind, 'bundled'> {
  const words = `${info.vendor} ${info.architecture} ${info.device} ${info.description}`.toLowerCase();
  if (/llvmpipe|lavapipe/.test(words)) return 'lavapipe';
  if (/swiftshader/.test(words)) return 'swiftshader';
  return info.isFallbackAdapter || /basic render driver/.test(words) ? 'software' : 'hardware';
}

/** What people call the adapter. Dawn puts the card into `device`, and into `description` the driver or the CPU adapter. */
export function nameOf(info: GPUAdapterInfo): string {
  const software = kindOf(info) !== 'hardware';
  const parts = software ? [info.description || info.device] : [info.vendor, info.device, info.description];
  return parts.filter(Boolean).join(' ') || info.vendor || 'an unnamed adapter';
}

async function loadDawn(): Promise<CreateGpu> {
  try {
    return (await import('webgpu')).create;
  } catch (error) {
    const message = (error as Error).message.split('\n')[0];
    throw new NoAdapterError(
      `Dawn (the npm package webgpu) does not load on ${process.platform} ${process.arch}: ${message}; run: npm ci` +
        (process.platform === 'linux' ? ' (it needs glibc and libstdc++: Debian 12, Ubuntu 22.04 or newer)' : ''),
      [],
    );
  }
}

/** Dawn with its flags. */
class Dawn {
  private readonly flags: string[];

  constructor(
    private readonly create: CreateGpu,
    fast: boolean,
  ) {
    const on = fast ? [...DAWN_ON, ...DAWN_ON_FAST] : DAWN_ON;
    this.flags = [`enable-dawn-features=${on.join(',')}`, `disable-dawn-features=${DAWN_OFF.join(',')}`];
  }

  /**
   * Asks a new instance for its best adapter.
   * @param manifest the only Vulkan driver to look at; without it, what the system and the environment offer.
   * @returns `diagnosis` is what Dawn and the Vulkan loader complained of, to be appended to a sentence; often empty.
   */
  async requestAdapter(manifest?: string): Promise<{ adapter: GPUAdapter | null; diagnosis: string }> {
    const before = DRIVER_VARIABLES.map((name) => [name, process.env[name]] as const);
    if (manifest) {
      process.env.VK_DRIVER_FILES = manifest;
      // The older name, for Vulkan loaders before 1.3.207.
      process.env.VK_ICD_FILENAMES = manifest;
      delete process.env.VK_ADD_DRIVER_FILES;
    }
    try {
      const { value, text } = await withNativeStderr(() => {
        const gpu = this.create(this.flags);
        keptForever.push(gpu);
        return gpu.requestAdapter({ powerPreference: 'high-performance' });
      });
      return { adapter: await value, diagnosis: complaints(text) };
    } catch (error) {
      return { adapter: null, diagnosis: `: ${(error as Error).message}` };
    } finally {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  }
}

function complaints(text: string): string {
  const lines = text
    .split('\n')
    .map((line) => /^(?:Warning|Error): (.*)$/.exec(line.trim())?.[1] ?? '')
    .filter((line) => line && !line.includes('artificially reduced'));
  return lines.length === 0 ? '' : `: ${[...new Set(lines)].join('; ').slice(0, 300)}`;
}

/**
 * Loads a Vulkan loader for Dawn where the system has none: Dawn opens `libvulkan.so.1` by name, and finds the one that
 * the process already holds under that name. (`process.dlopen` will not do: it unloads what is no Node add-on.)
 */
async function loadVulkanLoader(tried: Attempt[]): Promise<void> {
  if (keptForever.some((kept) => kept instanceof LoadedLibrary)) return;
  let koffi: typeof import('koffi').default;
  try {
    koffi = (await import('koffi')).default;
  } catch (error) {
    tried.push({
      candidate: 'koffi',
      outcome: `does not load: ${(error as Error).message.split('\n')[0]}; run npm ci`,
    });
    return;
  }
  try {
    keptForever.push(new LoadedLibrary(koffi.load('libvulkan.so.1', { global: true })));
    return;
  } catch {
    // The system has no Vulkan loader; the next lines bring one.
  }
  try {
    keptForever.push(new LoadedLibrary(koffi.load(unpackBundledSwiftShader().loader, { global: true })));
    tried.push({
      candidate: 'libvulkan.so.1',
      outcome: 'not installed; the Vulkan loader that comes through npm serves',
    });
  } catch (error) {
    tried.push({ candidate: 'libvulkan.so.1', outcome: `not installed; ${(error as Error).message}` });
  }
}

class LoadedLibrary {
  constructor(readonly handle: unknown) {}
}

/**
 * Runs something native and synchronous with the process's standard error going into memory: drivers and Dawn print
 * there, a line or two even when all is well, and what they print when nothing is well is the best diagnosis there is.
 * Linux only; elsewhere the text is empty and nothing is redirected.
 */
async function withNativeStderr<T>(action: () => T): Promise<{ value: T; text: string }> {
  const libc = await loadLibc();
  const memory = libc ? libc.memfdCreate('webdino-stderr', 1) : -1;
  if (!libc || memory < 0) return { value: action(), text: '' };
  const original = libc.dup(2);
  libc.dup2(memory, 2);
  try {
    const value = action();
    const text = Buffer.alloc(16384);
    const length = readSync(memory, text, 0, text.length, 0);
    return { value, text: text.toString('utf8', 0, length) };
  } finally {
    libc.dup2(original, 2);
    closeSync(original);
    closeSync(memory);
  }
}

interface Libc {
  dup(fd: number): number;
  dup2(from: number, to: number): number;
  memfdCreate(name: string, flags: number): number;
}

async function loadLibc(): Promise<Libc | undefined> {
  if (process.platform !== 'linux') return undefined;
  try {
    const koffi = (await import('koffi')).default;
    const libc = koffi.load('libc.so.6');
    return {
      dup: libc.func('int dup(int)'),
      dup2: libc.func('int dup2(int, int)'),
      memfdCreate: libc.func('int memfd_create(const char *, unsigned int)'),
    };
  } catch {
    return undefined;
  }
}
