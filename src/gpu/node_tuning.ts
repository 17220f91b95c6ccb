/** Where the tables of tuned variants lie: one ships with this package, one is this user's. Node only. */

import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { packageRoot } from './node_shaders.js';
import { mergeTuned, parseTunedTable, type TunedTable } from './tuning.js';

/** The table that ships. */
export function shippedTablePath(): string {
  return join(packageRoot(), 'kernels', 'tuned.json');
}

/** The table that `webdino tune` writes: `tuned.json` in the folder `webdino` of this user's caches. */
export function userTablePath(
  environment: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  home = homedir(),
): string {
  const { XDG_CACHE_HOME: named, LOCALAPPDATA: local } = environment;
  // The XDG specification has relative paths ignored.
  if (named && isAbsolute(named)) return join(named, 'webdino', 'tuned.json');
  if (platform === 'win32') return join(local || join(home, 'AppData', 'Local'), 'webdino', 'tuned.json');
  if (platform === 'darwin') return join(home, 'Library', 'Caches', 'webdino', 'tuned.json');
  return join(home, '.cache', 'webdino', 'tuned.json');
}

/** Empty where there is no file. @throws DataError for another content, or Node's error where the file cannot be read */
export function readTunedTable(path: string): TunedTable {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw error;
  }
  return parseTunedTable(text);
}

/** Paths that were warned of: a process may open many GPUs. */
const warned = new Set<string>();

export interface LoadTunedOptions {
  /** With WEBDINO_TUNED=off no table is read. */
  readonly environment?: NodeJS.ProcessEnv;
  readonly shipped?: string;
  readonly user?: string;
  /** Told of a table that cannot be used; once a path. */
  readonly warn?: (message: string) => void;
}

/** What ships, then what was measured here, which wins. A table that cannot be used is warned of and left out. */
export function loadTuned(options: LoadTunedOptions = {}): TunedTable {
  const { environment = process.env, warn = console.error } = options;
  if (environment.WEBDINO_TUNED === 'off') return new Map();
  const user = options.user ?? userTablePath(environment);
  const shipped = options.shipped ?? shippedTablePath();
  const tables = [shipped, user].map((path) => {
    try {
      return readTunedTable(path);
    } catch (error) {
      const cure = path === user ? 'webdino tune writes it anew, or delete it' : 'install webdino again';
      if (!warned.has(path)) {
        warn(`webdino: ${path} is no table of tuned variants: ${(error as Error).message}. It is not used; ${cure}.`);
      }
      warned.add(path);
      return new Map();
    }
  });
  return mergeTuned(...tables);
}
