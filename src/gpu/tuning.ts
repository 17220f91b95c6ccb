/**
 * The table of tuned variants: for an adapter, which variant of a kernel was measured to be fastest for an operator and
 * shape. `webdino tune` writes it, `Gpu.open` takes from it what belongs to its adapter, plans look their keys up in that.
 *
 * Keys and variants are words of the operators (kernels/gemm.ts, src/tensor/attention.ts); here they are only text. Who
 * looks a variant up tests that it exists and fits, so that an old table costs speed at worst.
 */

import { DataError } from '../errors.js';
import type { Capabilities } from './capabilities.js';

/** Variant by operator and shape, by adapter. */
export type TunedTable = ReadonlyMap<string, ReadonlyMap<string, string>>;

const FORMAT = 'webdino tuned variants 1';

/**
 * Under which name an adapter's measurements stand: the card, or its description where no card is told; not the driver,
 * whose every update would have all measured again. A family that was asked for leaves other variants to choose from, so it
 * is part of the name.
 */
export function adapterKey({ vendor, architecture, device, description, family }: Capabilities): string {
  return [vendor, architecture, device || description, family].filter((part) => part).join(' / ');
}

/** Reads a table. @throws DataError saying what is wrong with the text */
export function parseTunedTable(text: string): TunedTable {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new DataError(`it is no JSON (${(cause as Error).message})`, { cause });
  }
  if (!isRecord(document) || document.format !== FORMAT) throw new DataError(`its format is not '${FORMAT}'`);
  if (!isRecord(document.adapters)) throw new DataError('it has no adapters');
  return new Map(
    Object.entries(document.adapters).map(([adapter, variants]) => {
      if (!isRecord(variants)) throw new DataError(`${adapter} has no table`);
      const entries = Object.entries(variants).map(([key, variant]): [string, string] => {
        if (typeof variant !== 'string') throw new DataError(`the variant of '${key}' is no text`);
        return [key, variant];
      });
      return [adapter, new Map(entries)];
    }),
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The table as JSON, one entry a line, in an order that only depends on the entries. */
export function formatTunedTable(table: TunedTable): string {
  const sorted = <T>(map: ReadonlyMap<string, T>): [string, T][] => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
  const adapters = sorted(table).map(([adapter, variants]) => [adapter, Object.fromEntries(sorted(variants))]);
  return `${JSON.stringify({ format: FORMAT, adapters: Object.fromEntries(adapters) }, null, 2)}\n`;
}

/** All entries; of two for the same adapter and key, that of the later table. */
export function mergeTuned(...tables: readonly TunedTable[]): TunedTable {
  const merged = new Map<string, Map<string, string>>();
  for (const table of tables) {
    for (const [adapter, variants] of table) {
      merged.set(adapter, new Map([...(merged.get(adapter) ?? []), ...variants]));
    }
  }
  return merged;
}

/** The capabilities with what the table knows of this adapter. */
export function withTuned(caps: Capabilities, table: TunedTable | undefined): Capabilities {
  const tuned = table?.get(adapterKey(caps));
  return tuned ? { ...caps, tuned } : caps;
}
