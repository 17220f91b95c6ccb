/**
 * `webdino doctor`: which adapter this machine gives and why, what it can do, whether it computes right, roughly how fast,
 * and the line to paste that would make it faster. Exit codes: 0 all is well, 1 the GPU computes wrongly or breaks down,
 * 3 no adapter opens.
 */

import { NoGpuError, WebdinoError } from '../errors.js';
import { type AdapterMemory, adapterMemory, formatBytes } from '../gpu/adapter_memory.js';
import { type Capabilities, readCapabilities, WANTED_FEATURES, WANTED_LIMITS } from '../gpu/capabilities.js';
import { type Advice, advise, readHost } from '../gpu/driver_advice.js';
import {
  type AdapterChoice,
  type AdapterKind,
  type Attempt,
  adapterChoiceFromEnvironment,
  nameOf,
  NoAdapterError,
  openAdapter,
} from '../gpu/node_adapter.js';
import { measureSpeed, runSelfTest, type SelfTestResult, type Speed } from '../gpu/self_test.js';

export interface DoctorOptions {
  /** One JSON object on standard output, in place of the report for people. */
  readonly json?: boolean;
  readonly adapter?: AdapterChoice;
}

/** What `--json` prints. */
export interface Diagnosis {
  readonly ok: boolean;
  readonly problem?: string;
  readonly platform: string;
  readonly node: string;
  readonly adapter?: { readonly name: string; readonly kind: AdapterKind; readonly reason: string };
  readonly tried: readonly Attempt[];
  readonly capabilities?: Capabilities;
  readonly features?: readonly string[];
  readonly memory: AdapterMemory;
  readonly selfTest?: readonly SelfTestResult[];
  readonly speed?: Speed;
  readonly advice: readonly Advice[];
}

/** Examines this machine and prints what it found. Returns the exit code; throws UsageError for a wrong choice. */
export async function doctor(options: DoctorOptions = {}): Promise<number> {
  const { diagnosis, exitCode } = await diagnose(options.adapter ?? adapterChoiceFromEnvironment());
  console.log(options.json ? JSON.stringify(diagnosis, null, 2) : report(diagnosis));
  return exitCode;
}

/** Says nothing of what to install: with an adapter asked for by name, a better one may be there already. */
const LET_WEBDINO_CHOOSE: Advice = {
  why: 'this adapter was asked for by name; the one that webdino takes by itself may be faster',
  line: 'WEBDINO_ADAPTER=auto webdino doctor',
};

async function diagnose(choice: AdapterChoice): Promise<{ diagnosis: Diagnosis; exitCode: number }> {
  const host = readHost();
  const machine = { platform: `${process.platform} ${process.arch}`, node: process.version };
  let opened: Awaited<ReturnType<typeof openAdapter>>;
  try {
    opened = await openAdapter({ choice });
  } catch (error) {
    if (!(error instanceof NoGpuError)) throw error;
    const tried = error instanceof NoAdapterError ? error.tried : [];
    const diagnosis = {
      ok: false,
      problem: error.message,
      ...machine,
      tried,
      memory: adapterMemory(false),
      advice: advise(host, 'none'),
    };
    return { diagnosis, exitCode: error.exitCode };
  }

  const { adapter, kind, reason, tried } = opened;
  const found = {
    ...machine,
    adapter: { name: nameOf(adapter.info), kind, reason },
    tried,
    features: [...adapter.features].sort(),
    memory: adapterMemory(kind === 'hardware'),
    advice: choice === 'auto' ? advise(host, kind) : [LET_WEBDINO_CHOOSE],
  };
  let device: GPUDevice | undefined;
  const examined: { capabilities?: Capabilities; selfTest?: SelfTestResult[]; speed?: Speed } = {};
  try {
    device = await adapter.requestDevice({
      label: 'webdino doctor',
      requiredFeatures: WANTED_FEATURES.filter((name) =>
        adapter.features.has(name as GPUFeatureName),
      ) as GPUFeatureName[],
      requiredLimits: Object.fromEntries(WANTED_LIMITS.map((name) => [name, adapter.limits[name]])),
    });
    let lost = '';
    device.lost.then((info) => {
      lost = info.message || info.reason;
    });
    const uncaptured: string[] = [];
    device.addEventListener('uncapturederror', (event) => {
      uncaptured.push((event as GPUUncapturedErrorEvent).error.message);
    });
    examined.capabilities = readCapabilities(device, adapter.info);
    examined.selfTest = await runSelfTest(device);
    examined.speed = await measureSpeed(device);
    if (lost) uncaptured.push(`the device was lost: ${lost}`);
    const wrong = examined.selfTest.filter(({ passed }) => !passed);
    const problem =
      uncaptured[0] ??
      (wrong.length > 0
        ? `wrong results in: ${wrong.map(({ name }) => name).join('; ')}; update this driver`
        : undefined);
    return { diagnosis: { ok: !problem, problem, ...found, ...examined }, exitCode: problem ? 1 : 0 };
  } catch (error) {
    const problem = error instanceof WebdinoError ? error.message : `${error}`;
    return { diagnosis: { ok: false, problem, ...found, ...examined }, exitCode: 1 };
  } finally {
    device?.destroy();
  }
}

function report(diagnosis: Diagnosis): string {
  const { adapter, capabilities: can, selfTest, speed } = diagnosis;
  const lines: string[] = [];
  const row = (label: string, text: string): void => {
    lines.push(`${label.padEnd(11)}${text}`);
  };
  row('machine', `${diagnosis.platform}, Node ${diagnosis.node}`);
  row('adapter', adapter ? adapter.reason : 'none');
  diagnosis.tried.forEach(({ candidate, outcome }, i) => {
    row(i === 0 ? 'tried' : '', `${candidate}: ${outcome}`);
  });
  if (can) {
    const yes = (has: boolean): string => (has ? 'yes' : 'no');
    const sizes =
      can.subgroupMinSize === can.subgroupMaxSize
        ? `${can.subgroupMinSize}`
        : `${can.subgroupMinSize} to ${can.subgroupMaxSize}`;
    row(
      'features',
      `half precision (shader-f16) ${yes(can.shaderF16)}, subgroups ${can.subgroups ? `of ${sizes}` : 'no'}`,
    );
    row(
      '',
      `timestamps ${yes(can.timestampQuery)}, tensor cores (subgroup matrices)${can.subgroupMatrices.length > 0 ? ':' : ' no'}`,
    );
    for (const { componentType, resultComponentType, M, N, K } of can.subgroupMatrices) {
      row('', `  ${M} × ${N} × ${K}, ${componentType} to ${resultComponentType}`);
    }
    row(
      'limits',
      `one buffer ${formatBytes(can.maxBufferSizeBytes)}, one binding ${formatBytes(can.maxBindingSizeBytes)}`,
    );
    row(
      '',
      `a workgroup: ${formatBytes(can.maxWorkgroupMemoryBytes)} of memory, ${can.maxInvocationsPerWorkgroup} invocations`,
    );
    row(
      '',
      `${can.maxStorageBuffersPerStage} storage buffers a shader, ${can.maxWorkgroupsPerDimension} workgroups a dimension`,
    );
  }
  const { hostBytes, hostFreeBytes, gpuBytes } = diagnosis.memory;
  row(
    'memory',
    `${formatBytes(hostBytes)} in the machine, ${formatBytes(hostFreeBytes)} free${gpuBytes ? `; ${formatBytes(gpuBytes)} on the GPU` : ''}`,
  );
  selfTest?.forEach(({ name, error, limit, measure, passed }, i) => {
    const verdict = passed ? 'ok   ' : 'WRONG';
    row(
      i === 0 ? 'self-test' : '',
      `${verdict} ${name}: error ${error.toExponential(1)} ${measure} (limit ${limit.toExponential(0)})`,
    );
  });
  if (speed) {
    row('speed', `about ${gflops(speed.gemmGflops)} in an untuned float32 gemm of ${speed.gemmSize}³`);
    row(
      '',
      `about ${speed.copyGigabytesPerSecond.toFixed(1)} GB/s in a copy of ${formatBytes(speed.copyBytes)} (read plus written)`,
    );
  }
  lines.push('', diagnosis.ok ? 'webdino can run here.' : `PROBLEM: ${diagnosis.problem}`);
  if (diagnosis.advice.length > 0) {
    lines.push('', adapter ? 'To be faster:' : 'To get an adapter:');
    for (const { why, line } of diagnosis.advice) {
      lines.push(`- ${why}`);
      if (line) lines.push(`    ${line}`);
    }
  }
  return lines.join('\n');
}

function gflops(value: number): string {
  return value >= 1000 ? `${(value / 1000).toFixed(1)} TFLOP/s` : `${value.toFixed(value < 10 ? 1 : 0)} GFLOP/s`;
}
