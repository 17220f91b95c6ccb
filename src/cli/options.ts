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

/** Of verbs that begin a run. */
export function newRunOptions(command: Command): Command {
  return command
    .option('--data <source>', 'folder, .zip or .tar of pictures, or mnist:split=TRAIN')
    .option('--out <folder>', 'folder of the run: checkpoints, metrics.jsonl, config.yaml, report.html')
    .option('--config <file>', 'YAML; keys are those of the official configurations')
    .option('--preset <name>', 'start from a named configuration; see webdino presets')
    .option('--set <key=value...>', 'keys of the configuration')
    .option('--steps <n>', 'total steps; warm-up and the like are compressed to fit')
    .option('--seed <n>', 'two runs of one seed give the same bytes')
    .option('--overwrite', 'replace a run that lies in the folder')
    .option('--dry-run', 'print parameters, memory, dispatches and steps, and exit');
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

/** Of verbs that judge frozen features. */
export function evaluationOptions(command: Command): Command {
  return modelOptions(command)
    .option('--train <source>', 'what heads learn from')
    .option('--test <source>', 'what is reported')
    .option('--compare <path>', 'another model beside it, given like --model')
    .option('--no-floors', 'without random weights, raw pixels and colour histograms')
    .option('--seed <n>', 'of heads, shuffles and intervals (0)')
    .option('--draws <n>', 'bootstrap draws behind each interval (1000)')
    .option('--out <folder>', 'writes results.json, results.csv and report.html')
    .option('--json', 'print the result as JSON');
}
