/**
 * Assembles a shader: a prelude of `const` and `alias` lines, then the file with its `// include lib/x.wgsl` lines
 * replaced by the files they name. Nothing else is substituted, so a .wgsl file reads as it runs.
 */

import { GpuError } from '../errors.js';

/** Where the .wgsl texts come from: a folder on Node, a bundled map in a browser. */
export interface ShaderLibrary {
  /** @param file path below `wgsl/`, such as `gemm.wgsl` or `lib/erf.wgsl`. */
  text(file: string): string;
}

/**
 * Sizes and switches of one specialisation. A number becomes an abstract `const` (it converts to u32, i32 or f32 where it
 * is used), a boolean a `const` bool, a string the target of an `alias`.
 */
export type Prelude = Readonly<Record<string, number | boolean | string>>;

const INCLUDE = /^\/\/ include (\S+)\s*$/;

function preludeLine(name: string, value: number | boolean | string): string {
  if (typeof value === 'string') return `alias ${name} = ${value};`;
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new GpuError(`prelude constant ${name} is ${value}; WGSL has no such literal`);
  }
  return `const ${name} = ${value};`;
}

export interface AssembledShader {
  readonly code: string;
  /** For each line of `code` (from 0): the file it came from and its line there (from 1). */
  readonly origin: readonly { readonly file: string; readonly line: number }[];
}

/** Puts the prelude, `includes` and the files it includes itself in front of a kernel; each file is included once. */
export function assembleShader(
  library: ShaderLibrary,
  file: string,
  prelude: Prelude,
  includes: readonly string[] = [],
): AssembledShader {
  const lines: string[] = [];
  const origin: { file: string; line: number }[] = [];
  const included = new Set<string>();
  const append = (name: string): void => {
    if (included.has(name)) return;
    included.add(name);
    library
      .text(name)
      .split('\n')
      .forEach((text, index) => {
        const include = INCLUDE.exec(text);
        if (include) append(include[1]);
        else {
          lines.push(text);
          origin.push({ file: name, line: index + 1 });
        }
      });
  };
  Object.entries(prelude).forEach(([name, value], index) => {
    lines.push(preludeLine(name, value));
    origin.push({ file: 'prelude', line: index + 1 });
  });
  for (const include of includes) append(include);
  append(file);
  // `enable` directives must precede every declaration, also those of the prelude.
  const isDirective = (text: string): boolean => /^(enable|requires|diagnostic)\b/.test(text);
  const order = lines.map((_, i) => i).sort((a, b) => Number(isDirective(lines[b])) - Number(isDirective(lines[a])));
  return { code: order.map((i) => lines[i]).join('\n'), origin: order.map((i) => origin[i]) };
}
