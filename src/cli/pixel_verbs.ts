/** `webdino eval segment`, `eval depth`, `eval canopy` and `predict`: their options. */

import type { Command } from 'commander';
import { evaluationOptions, examples, modelOptions } from './options.js';

/** What the three share. @param protocols the first one is the default */
function pixelOptions(command: Command, protocols: readonly string[]): Command {
  return command
    .option('--protocol <name>', `${protocols.join(', ')} (${protocols[0]})`)
    .option('--train-targets <source>', 'folder of the training targets, where they lie apart from the pictures')
    .option('--test-targets <source>', 'folder of the test targets')
    .option('--split <share>', 'without --test: share of --train that is held out (0.25)')
    .option(
      '--features <how>',
      'end-to-end: random views at every step (the default on a GPU); cached: tokens of fixed windows (on a CPU)',
    )
    .option('--iterations <n>', 'steps of the head (4000; 300 on a CPU)')
    .option('--head-lr <rate>', 'largest learning rate of the head')
    .option('--head-batch <n>', 'windows a step')
    .option('--crop <px>', 'side of a window, or HEIGHTxWIDTH; a multiple of the patch size')
    .option('--shorter-side <px>', 'what pictures are brought to before windows are cut')
    .option('--channels <n>', 'dpt: channels of the fusion blocks (256; 32 on a CPU)');
}

/** @param evaluate the command `eval` */
export function addPixelVerbs(program: Command, evaluate: Command): void {
  pixelOptions(
    evaluationOptions(
      evaluate.command('segment').description('Semantic segmentation: a linear head on frozen patch tokens, mIoU.'),
    ),
    ['linear', 'ms'],
  )
    .option('--classes <file>', 'JSON list of class names (classes.json beside the data)')
    .option('--reduce-zero-label', 'label 0 is ignored, the others count from 0 (ADE20K)')
    .option('--scales <list>', 'ms: sizes at test time (1,1.32,1.73)')
    .addHelpText(
      'after',
      examples(
        'webdino eval segment --model runs/photos --train camvid/train.tar --test camvid/val.tar --out reports/camvid',
        'webdino eval segment --model dinov2_vits14.safetensors --train images/training --train-targets annotations/training --test images/validation --test-targets annotations/validation --reduce-zero-label --protocol ms',
      ),
    )
    .action(async (options) => {
      const { evalSegment } = await import('./eval_segment.js');
      await evalSegment(options);
    });
  pixelOptions(
    evaluationOptions(evaluate.command('depth').description('Monocular depth: bins or DPT on frozen tokens, RMSE.')),
    ['linear4', 'linear1', 'dpt'],
  )
    .option('--eval-crop <name>', 'what counts of a picture: eigen (NYU), garg (KITTI) or none (eigen)')
    .option('--min-depth <m>', 'metres (0.001)')
    .option('--max-depth <m>', 'metres (10; 80 for KITTI)')
    .option('--depth-divisor <n>', 'values of a metre in depth PNGs (1000; 256 for KITTI)')
    .addHelpText(
      'after',
      examples(
        'webdino eval depth --model runs/photos --train nyuv2/train.tar --test nyuv2/val.tar --out reports/nyu',
        'webdino eval depth --model runs/photos --train rooms --protocol dpt --iterations 2000',
      ),
    )
    .action(async (options) => {
      const { evalDepth } = await import('./eval_depth.js');
      await evalDepth(options);
    });
  pixelOptions(
    evaluationOptions(evaluate.command('canopy').description('Canopy height from pictures from above: DPT, MAE.')),
    ['dpt', 'linear4', 'linear1'],
  )
    .option('--max-height <m>', 'metres: the highest tree (60)')
    .addHelpText(
      'after',
      examples(
        'webdino eval canopy --model runs/aerial --train canopy/train.tar --split 0.25 --out reports/canopy',
        'webdino eval canopy --model runs/aerial --train tiles/train --test tiles/test --protocol linear4',
      ),
    )
    .action(async (options) => {
      const { evalCanopy } = await import('./eval_canopy.js');
      await evalCanopy(options);
    });
  modelOptions(
    program
      .command('predict <task>')
      .description('segment, depth or canopy: maps of pictures by a head that webdino eval has trained.'),
  )
    .requiredOption('--head <file>', 'the head.safetensors that eval wrote')
    .requiredOption('--data <source>', 'folder, archive, picture or GeoTIFF')
    .requiredOption(
      '--out <folder>',
      'NAME.overlay.png to look at, NAME.png or .npy with the values; NAME.tif for GeoTIFF',
    )
    .option('--format <type>', 'values as png (8 bits of labels, 16 of millimetres or centimetres) or npy (png)')
    .option('--shorter-side <px>', 'what pictures are brought to; default: as in training')
    .addHelpText(
      'after',
      examples(
        'webdino predict segment --model runs/photos --head reports/camvid/head.safetensors --data photos --out maps',
        'webdino predict canopy --model runs/aerial --head reports/canopy/head.safetensors --data district.tif --out maps',
      ),
    )
    .action(async (task: string, options) => {
      const { predict } = await import('./predict.js');
      await predict(task, options);
    });
}
