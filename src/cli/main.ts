#!/usr/bin/env node
/** `webdino`: the verbs and their options. What a verb does is loaded when it is called, so that `--help` is quick. */

import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { addEvaluationVerbs } from './evaluation_verbs.js';
import { reportFailure } from './failure.js';
import { examples, modelOptions, newRunOptions, runOptions } from './options.js';

/** Exit code for a wrong option or verb. */
const USAGE = 2;

/** package.json lies one folder higher seen from src/cli than from dist/src/cli. */
function version(): string {
  for (const path of ['../../package.json', '../../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      // The other place.
    }
  }
  return 'unknown';
}

function build(): Command {
  const program = new Command('webdino')
    .description('DINOv2 on any GPU: training, evaluation and features.')
    .version(version())
    .option('--adapter <name>', 'auto, hardware, lavapipe, swiftshader or bundled; the same as WEBDINO_ADAPTER')
    .option('--family <name>', 'kernels: f32, f16 or mma (tensor cores); the same as WEBDINO_FAMILY')
    .option('--fast', "without Dawn's validation and bounds checks; the same as WEBDINO_FAST=1")
    .hook('preAction', (command) => {
      const { adapter, family, fast } = command.opts<{ adapter?: string; family?: string; fast?: boolean }>();
      if (adapter !== undefined) process.env.WEBDINO_ADAPTER = adapter;
      if (family !== undefined) process.env.WEBDINO_FAMILY = family;
      if (fast) process.env.WEBDINO_FAST = '1';
    })
    .addHelpText('after', examples('webdino doctor', 'webdino train --data photos --out runs/photos --preset small96'));

  program
    .command('doctor')
    .description('Which GPU there is, whether it computes right, and the line that would make it faster.')
    .option('--json', 'print the diagnosis as JSON')
    .addHelpText('after', examples('webdino doctor', 'webdino --adapter lavapipe doctor --json'))
    .action(async (options) => {
      const { doctor } = await import('./doctor.js');
      process.exitCode = await doctor(options);
    });

  runOptions(
    newRunOptions(
      program
        .command('train')
        .description('Trains DINOv2 on pictures, from scratch or from a backbone (student.pretrained_weights).'),
    ),
  )
    .addHelpText(
      'after',
      examples(
        'webdino train --data photos --out runs/photos --preset small96',
        'webdino train --data cifar.tar --out runs/cifar --preset cifar --set optim.lr=1e-3 --steps 2000',
      ),
    )
    .action(async (options) => {
      const { train } = await import('./train.js');
      await train(options);
    });

  runOptions(
    newRunOptions(
      program.command('distill').description('Distils a frozen, larger teacher into one student or several.'),
    )
      .option('--teacher <path>', 'run, checkpoint or .safetensors; its heads too, or they are trained first')
      .option('--student <preset-or-yaml...>', 'several students of one teacher pass, each in a folder of --out')
      .option(
        '--train-heads <n>',
        'train projection heads on the teacher for n steps first; done by itself where it has none',
      )
      .option('--teacher-heads <path>', 'projection heads trained before: a teacher_heads folder or .safetensors')
      .option('--heads <n>', 'attention heads of the teacher, where nothing else tells'),
  )
    .addHelpText(
      'after',
      examples(
        'webdino distill --teacher runs/large --preset small96 --data photos --out runs/small',
        'webdino distill --teacher dinov2_vitl14.safetensors --preset vits14_224 --data photos --out runs/vits --train-heads 2000',
      ),
    )
    .action(async (options) => {
      const { distill } = await import('./distill.js');
      await distill(options);
    });

  runOptions(
    program
      .command('resume <folder>')
      .description('Goes on with a run that was stopped, bit for bit as if it had not been.')
      .option('--from <checkpoint>', 'an earlier checkpoint, such as step_0001000')
      .option('--set <key=value...>', 'keys of the configuration to change'),
  )
    .addHelpText(
      'after',
      examples('webdino resume runs/photos', 'webdino resume runs/photos --from step_0001000 --set optim.lr=5e-4'),
    )
    .action(async (folder: string, options) => {
      const { resume } = await import('./train.js');
      await resume(folder, options);
    });

  addEvaluationVerbs(program);

  modelOptions(program.command('embed').description('Features of every picture as a NumPy file.'))
    .requiredOption('--data <source>', 'folder, .zip or .tar of pictures')
    .requiredOption('--out <file>', 'the .npy file; names and labels go beside it')
    .option('--tokens <which>', 'cls, patch-mean or cls+patch-mean')
    .addHelpText(
      'after',
      examples(
        'webdino embed --model runs/photos --data photos --out features.npy',
        'webdino embed --model runs/photos --data photos.zip --out features.npy --tokens cls+patch-mean',
      ),
    )
    .action(async (options) => {
      const { embed } = await import('./embed.js');
      await embed(options);
    });

  program
    .command('parity <folder>')
    .description('Runs golden cases, outputs and gradients of the reference PyTorch modules.')
    .option('--dtype <type>', 'how activations are stored: f32 or f16, each with its tolerance')
    .option('--max-params <n>', 'leave out larger models')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', examples('webdino parity goldens', 'webdino parity goldens --max-params 1e6 --json'))
    .action(async (folder: string, options) => {
      const { parity } = await import('./parity.js');
      process.exitCode = await parity(folder, options);
    });

  runOptions(
    program
      .command('quickstart')
      .description('Trains a tiny DINOv2 on handwritten digits for about two minutes, then compares its features.')
      .option('--out <folder>', 'folder of the run (runs/quickstart)')
      .option('--steps <n>', 'this many steps instead of what fits in the time')
      .option('--seed <n>', 'two runs of one seed and number of steps give the same bytes')
      .option('--overwrite', 'replace a run that lies in another folder than runs/quickstart'),
  )
    .addHelpText('after', examples('npm start', 'webdino quickstart --steps 300 --out runs/digits'))
    .action(async (options) => {
      const { quickstart } = await import('./quickstart.js');
      await quickstart(options);
    });

  program
    .command('bench [suite]')
    .description('Checks, then times: gemm, attention, layernorm, loss, adamw, step, features or all.')
    .option('--json', 'print the result as JSON')
    .option('--html <file>', 'also draw it: bars, roofline, tables on one page')
    .option('--shapes <which>', 'full (training on a GPU) or small (what a CPU does in a moment)')
    .option('--seconds <s>', 'measure each case for at least this long')
    .option('--arch <name>', 'step, features: vit_small, vit_base, vit_large or vit_giant2')
    .option('--patch <px>', 'step, features: side of a patch')
    .option('--batch <n>', 'step, features: pictures at a time')
    .option('--dtype <type>', 'step, features: how activations are stored, f32 or f16')
    .option('--size <px>', 'features: side of a picture')
    .option('--global <px>', 'step: side of the two global crops')
    .option('--local <px>', 'step: side of the local crops')
    .option('--n-local <n>', 'step: local crops of a picture')
    .option('--prototypes <n>', 'step: prototypes of each head')
    .option('--drop-path <rate>', 'step: stochastic depth')
    .option('--steps <n>', 'step: how many are timed')
    .option('--plain', 'step: the one without fusion, packing and recompute instead, to compare with')
    .option('--dry-run', 'step: count memory and work, run nothing')
    .addHelpText(
      'after',
      examples(
        'webdino bench all --html bench.html',
        'webdino bench step --arch vit_small --batch 64 --dtype f16 --steps 10 --json',
      ),
    )
    .action(async (suite: string | undefined, options) => {
      const { bench } = await import('./bench.js');
      process.exitCode = await bench(suite ?? 'all', options);
    });

  program
    .command('tune')
    .description(
      'Times the variants of the kernels for the shapes of a configuration and keeps the winners for this adapter.',
    )
    .option('--preset <name>', 'shapes of a training step: of a named configuration')
    .option('--config <file>', 'shapes of a training step: of this YAML')
    .option('--set <key=value...>', 'shapes of a training step: keys of the configuration')
    .option('--arch <name>', 'shapes of features: vit_small, vit_base, vit_large or vit_giant2')
    .option('--patch <px>', 'features: side of a patch (14)')
    .option('--size <px>', 'features: side of a picture (224)')
    .option('--batch <n>', 'pictures at a time')
    .option('--dtype <type>', 'how activations are stored: f32 or f16')
    .option('--seconds <s>', 'measure each shape for at least this long')
    .option('--out <file>', 'the table to write, instead of tuned.json among the caches of this user')
    .option('--json', 'print the result as JSON')
    .option('--dry-run', 'print shapes and variants, time nothing')
    .addHelpText(
      'after',
      examples(
        'webdino tune --preset small96 --dtype f16',
        'webdino tune --arch vit_small --size 224 --batch 64 --dtype f16 --seconds 2',
      ),
    )
    .action(async (options) => {
      const { tune } = await import('./tune.js');
      process.exitCode = await tune(options);
    });

  program
    .command('presets')
    .description('Lists the named configurations.')
    .option('--json', 'print them as JSON, with what each changes')
    .addHelpText('after', examples('webdino presets', 'webdino presets --json'))
    .action(async ({ json }: { json?: boolean }) => {
      const { PRESETS } = await import('../train/presets.js');
      const lines = Object.entries(PRESETS).map(([name, { description }]) => `${name}\n    ${description}`);
      console.log(json ? JSON.stringify(PRESETS, null, 2) : lines.join('\n'));
    });

  program
    .command('schema')
    .description('Prints the JSON Schema of the configuration, for completion in editors.')
    .addHelpText('after', examples('webdino schema > webdino.schema.json', 'webdino schema | less'))
    .action(async () => {
      const { configJsonSchema } = await import('../train/config.js');
      console.log(JSON.stringify(configJsonSchema(), null, 2));
    });

  return program;
}

/** commander's errors in one line each, as all others; settings are taken over by each verb. */
function prepare(command: Command): Command {
  command.exitOverride().configureOutput({
    outputError: (text, write) =>
      write(
        `${text
          .trim()
          .replace(/^error: /, 'webdino: ')
          .replace(/\s*\n\s*/g, ' ')}\n`,
      ),
  });
  command.commands.forEach((one) => {
    prepare(one);
  });
  return command;
}

try {
  await prepare(build()).parseAsync();
} catch (error) {
  // Help and version are "errors" with exit code 0.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : USAGE;
  else process.exitCode = reportFailure(error);
}
