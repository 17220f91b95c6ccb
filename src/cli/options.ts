/** Options that several verbs share. */

import type { Command } from 'commander';

/** Every verb's help ends with two lines to try. */
export function examples(first: string, second: string): string {
  return `\nExamples:\n  $ ${first}\n  $ ${second}`;
}

/** Of verbs that train. */
export function runOptions(command: Command): Command {
  return command
    .option('--trace <file>', 'write what a step consists of (dispatches, bytes, FLOPs, times) as JSON')
    .option('--json', 'print the result as JSON')
    .option('--quiet', 'no progress; warnings are shown all the same');
}

/** Of verbs that use a trained model. */
export function modelOptions(command: Command): Command {
  return command
    .requiredOption('--model <path>', 'run folder, checkpoint folder or .safetensors file')
    .option('--student', 'the student in place of the teacher')
    .option('--heads <n>', 'attention heads, where nothing else tells')
    .option('--size <px>', 'side of the centre crop')
    .option('--resize <px>', 'shorter side before the crop')
    .option('--batch <n>', 'pictures at a time')
    .option('--dtype <type>', 'how activations are stored: f32 or f16 (f32)');
}
