/** `webdino viz`: the verbs that make pictures of features, and their options. */

import type { Command } from 'commander';
import { examples, modelOptions } from './options.js';

/** Of verbs that show patches: here `--size` is the shorter side of whole pictures. */
function denseOptions(command: Command): Command {
  return command
    .requiredOption('--model <path>', 'run folder, checkpoint folder or .safetensors file')
    .option('--student', 'the student in place of the teacher')
    .option('--heads <n>', 'attention heads, where nothing else tells')
    .option('--size <px>', 'shorter side of the pictures, a multiple of the patch size (twice the evaluation crop)')
    .option('--batch <n>', 'pictures at a time')
    .option('--dtype <type>', 'how activations are stored: f32 or f16 (f32)')
    .option('--json', 'print the result as JSON');
}

export function addVizVerbs(program: Command): void {
  const viz = program
    .command('viz')
    .description('Pictures of what a model has learned.')
    .addHelpText(
      'after',
      examples(
        'webdino viz pca --model runs/photos --data photos --out pca',
        'webdino viz match --model runs/photos --a left.jpg --b right.jpg --out matches.png',
      ),
    );

  denseOptions(viz.command('pca').description('Patch features as colours: the same colour, the same kind of thing.'))
    .requiredOption('--data <source>', 'folder, .zip or .tar of pictures, or one picture')
    .requiredOption('--out <folder>', 'for a file a picture, sheet.png and results.json')
    .option('--limit <n>', 'at most so many pictures, evenly spread (24)')
    .option('--square', 'the central square of the evaluation in place of whole pictures')
    .option('--no-foreground', 'colour all patches, without a first PCA that finds the foreground')
    .option('--background-threshold <t>', 'where background ends, 0 to 1 of the first component (its mean)')
    .option('--flip', 'the other side of the first component is the foreground')
    .option('--clip <percent>', 'of patches at each end of a component that saturate (0.5); 0: none')
    .option('--no-smooth', 'a flat rectangle for each patch')
    .option('--save-basis <file>', 'keep the colours for later calls, as .safetensors')
    .option('--basis <file>', 'the colours of an earlier call')
    .addHelpText(
      'after',
      examples(
        'webdino viz pca --model runs/photos --data photos --out pca --save-basis colours.safetensors',
        'webdino viz pca --model runs/photos --data other.jpg --out pca2 --basis colours.safetensors',
      ),
    )
    .action(async (options) => {
      const { vizPca } = await import('./viz_pca.js');
      await vizPca(options);
    });

  denseOptions(viz.command('attention').description('What the CLS token attends to, head by head.'))
    .requiredOption('--data <source>', 'folder, .zip or .tar of pictures, or one picture')
    .requiredOption('--out <folder>', 'for a .png and a .npy a picture, sheet.png and results.json')
    .option('--limit <n>', 'at most so many pictures, evenly spread (12)')
    .option('--square', 'the central square of the evaluation in place of whole pictures')
    .option('--block <i>', 'from 0 (the last)')
    .addHelpText(
      'after',
      examples(
        'webdino viz attention --model runs/photos --data photo.jpg --out attention',
        'webdino viz attention --model runs/photos --data photos --out attention --block 5 --size 448',
      ),
    )
    .action(async (options) => {
      const { vizAttention } = await import('./viz_attention.js');
      await vizAttention(options);
    });

  modelOptions(viz.command('neighbors').description('The pictures most like each of some pictures.'))
    .requiredOption('--data <source>', 'folder, .zip or .tar of pictures to look among')
    .requiredOption('--out <folder>', 'for index.html, sheet.png and results.json')
    .option('--queries <source>', 'pictures to look for; without it, some of --data')
    .option('--k <n>', 'neighbours of a picture (8)')
    .option('--limit <n>', 'at most so many queries, evenly spread (24)')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      examples(
        'webdino viz neighbors --model runs/photos --data photos --out neighbors',
        'webdino viz neighbors --model runs/photos --data train.tar --queries val.tar --k 10 --out neighbors',
      ),
    )
    .action(async (options) => {
      const { vizNeighbors } = await import('./viz_neighbors.js');
      await vizNeighbors(options);
    });

  modelOptions(viz.command('umap').description('A map on which pictures that are alike lie together.'))
    .requiredOption('--data <source>', 'folder, .zip or .tar of pictures')
    .requiredOption('--out <folder>', 'for index.html, map.png, map.csv and results.json')
    .option('--limit <n>', 'at most so many pictures, evenly spread (2000)')
    .option('--neighbors <n>', 'that decide who lies with whom (15)')
    .option('--min-distance <d>', 'how close points may come, 0 to 1 (0.1)')
    .option('--epochs <n>', 'of the optimisation (200 to 500 by the number of pictures)')
    .option('--seed <n>', 'one seed, one map (0)')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      examples(
        'webdino viz umap --model runs/photos --data photos --out map',
        'webdino viz umap --model runs/photos --data val.tar --neighbors 30 --seed 1 --out map',
      ),
    )
    .action(async (options) => {
      const { vizUmap } = await import('./viz_umap.js');
      await vizUmap(options);
    });

  denseOptions(viz.command('match').description('Which places of two pictures show the same.'))
    .requiredOption('--a <file>', 'one picture')
    .requiredOption('--b <file>', 'the other')
    .requiredOption('--out <file>', 'the .png; all matches go beside it as .json')
    .option('--ratio <r>', 'nearest over nearest elsewhere must be below this (0.95); 1 keeps all mutual matches')
    .option('--least-similarity <c>', 'cosine that a match must have')
    .option('--no-refine', 'matches at the centres of patches')
    .option('--lines <n>', 'drawn at most (100)')
    .addHelpText(
      'after',
      examples(
        'webdino viz match --model runs/photos --a left.jpg --b right.jpg --out matches.png',
        'webdino viz match --model runs/photos --a left.jpg --b right.jpg --out matches.png --size 672 --ratio 0.9',
      ),
    )
    .action(async (options) => {
      const { vizMatch } = await import('./viz_match.js');
      await vizMatch(options);
    });
}
