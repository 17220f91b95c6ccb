/**
 * What to install so that WebGPU works, or works faster, on the machine at hand: one line to paste a piece of advice.
 * `readHost` looks; `advise` is a pure function of what it saw, so every system's line can be tested on any other.
 */

import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';

export type GpuVendor = 'nvidia' | 'amd' | 'intel';

export interface Host {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  readonly root: boolean;
  /** `ID`, `ID_LIKE` and `VERSION_CODENAME` of /etc/os-release; empty elsewhere. */
  readonly distribution: string;
  readonly distributionLike: readonly string[];
  readonly codename: string;
  /** Makers of the display controllers on the PCI bus; empty where that cannot be seen. */
  readonly gpuVendors: readonly GpuVendor[];
  /** A render node exists that this user may not open. */
  readonly renderNodeForbidden: boolean;
  readonly container: boolean;
}

export interface Advice {
  readonly why: string;
  /** To be pasted into a shell; absent where no single line does it. */
  readonly line?: string;
}

const PCI_VENDORS: Readonly<Record<string, GpuVendor>> = { '0x10de': 'nvidia', '0x1002': 'amd', '0x8086': 'intel' };

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Reads `KEY=value` and `KEY="value"` lines (os-release(5)). */
export function parseOsRelease(text: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const match = /^([A-Z_]+)=(?:"(.*)"|'(.*)'|(.*))$/.exec(line.trim());
    if (match) fields[match[1]] = match[2] ?? match[3] ?? match[4];
  }
  return fields;
}

export function readHost(): Host {
  const release = parseOsRelease(textOf('/etc/os-release'));
  const gpuVendors = new Set<GpuVendor>();
  for (const device of entriesOf('/sys/bus/pci/devices')) {
    // PCI base class 03 is "display controller", data-centre cards (3D controller, 0302) included.
    if (!textOf(`/sys/bus/pci/devices/${device}/class`).startsWith('0x03')) continue;
    const vendor = PCI_VENDORS[textOf(`/sys/bus/pci/devices/${device}/vendor`)];
    if (vendor) gpuVendors.add(vendor);
  }
  const renderNodes = entriesOf('/dev/dri').filter((name) => name.startsWith('renderD'));
  return {
    platform: process.platform,
    arch: process.arch,
    root: process.getuid?.() === 0,
    distribution: release.ID ?? '',
    distributionLike: (release.ID_LIKE ?? '').split(/\s+/).filter(Boolean),
    codename: release.VERSION_CODENAME ?? '',
    gpuVendors: [...gpuVendors],
    renderNodeForbidden: renderNodes.some((name) => {
      try {
        accessSync(`/dev/dri/${name}`, constants.R_OK | constants.W_OK);
        return false;
      } catch {
        return true;
      }
    }),
    container: existsSync('/.dockerenv') || existsSync('/run/.containerenv'),
  };
}

/** The line that installs Mesa's Vulkan drivers: lavapipe on the CPU, and AMD's and Intel's GPUs; undefined if unknown. */
export function mesaLine(host: Host): string | undefined {
  const sudo = host.root ? '' : 'sudo ';
  const is = (name: string): boolean => host.distribution === name || host.distributionLike.includes(name);
  if (host.platform !== 'linux') return undefined;
  if (host.distribution === 'debian' && host.codename === 'bookworm') {
    // Debian 12's own Mesa 22.3 lacks what Dawn requires, so the line adds the backports suite of the mirror in use.
    return (
      `${sudo}apt-get update && echo "deb $(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Release: bookworm' | head -n 1) ` +
      `bookworm-backports main" | ${sudo}tee /etc/apt/sources.list.d/bookworm-backports.list && ${sudo}apt-get update && ` +
      `${sudo}apt-get install -y -t bookworm-backports mesa-vulkan-drivers libvulkan1`
    );
  }
  if (is('debian') || is('ubuntu')) {
    return `${sudo}apt-get update && ${sudo}apt-get install -y mesa-vulkan-drivers libvulkan1`;
  }
  if (is('fedora') || is('rhel')) return `${sudo}dnf install -y mesa-vulkan-drivers vulkan-loader`;
  if (is('arch')) return `${sudo}pacman -S --needed vulkan-swrast vulkan-icd-loader`;
  if (is('suse') || is('opensuse')) return `${sudo}zypper install -y libvulkan_lvp libvulkan1`;
  return undefined;
}

/**
 * What would make this machine faster, most rewarding first.
 * @param using what runs now; `none` where no adapter could be opened.
 */
export function advise(
  host: Host,
  using: 'hardware' | 'lavapipe' | 'swiftshader' | 'bundled' | 'software' | 'none',
): Advice[] {
  if (using === 'hardware') return [];
  const advice: Advice[] = [];
  const sudo = host.root ? '' : 'sudo ';
  const mesa = mesaLine(host);
  if (host.renderNodeForbidden) {
    advice.push({
      why: 'a GPU is there, but this user may not open it (/dev/dri/renderD*); join its group, then log in again',
      line: `${sudo}usermod -aG render,video "$USER"`,
    });
  }
  if (host.gpuVendors.includes('nvidia')) {
    advice.push(
      host.container
        ? {
            why: 'an NVIDIA GPU is there; containers get its Vulkan driver only when started with all driver capabilities',
            line: 'docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all …',
          }
        : {
            why: "an NVIDIA GPU is there without its Vulkan driver; install NVIDIA's driver with its graphics libraries",
            line: nvidiaLine(host, sudo),
          },
    );
  }
  const mesaGpu = host.gpuVendors.includes('amd')
    ? 'an AMD'
    : host.gpuVendors.includes('intel')
      ? 'an Intel'
      : undefined;
  if (mesaGpu && using !== 'lavapipe') {
    advice.push({
      why: `${mesaGpu} GPU is there; Mesa drives it (and brings lavapipe, the faster CPU adapter)`,
      line: mesa,
    });
  } else if (host.platform === 'linux' && using !== 'lavapipe') {
    advice.push({
      why:
        using === 'none'
          ? "Mesa's lavapipe runs WebGPU on the CPU"
          : "Mesa's lavapipe is 4 to 8 times as fast as SwiftShader on the CPU, and has half precision",
      line: mesa,
    });
  }
  if (host.platform === 'linux' && host.gpuVendors.length === 0) {
    advice.push({
      why: 'no GPU was found; any Vulkan GPU (NVIDIA, AMD or Intel, with its driver) is hundreds of times as fast as a CPU',
    });
  }
  if (host.platform === 'win32' || host.platform === 'darwin') {
    advice.push({ why: "install this machine's current graphics driver (it comes with the system's updates)" });
  }
  return advice;
}

function nvidiaLine(host: Host, sudo: string): string | undefined {
  if (host.distribution === 'ubuntu') return `${sudo}ubuntu-drivers install`;
  if (host.distribution === 'debian') return `${sudo}apt-get install -y nvidia-driver   # needs the component non-free`;
  return undefined;
}
