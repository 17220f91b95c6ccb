/** `webdino eval`, `predict` and `viz`: the verbs that use a frozen model, and their options. */

import type { Command } from 'commander';
import { examples, modelOptions } from './options.js';

export function addEvaluationVerbs(program: Command): void {
  const evaluate = program
    .command('eval')
    .description('Evaluates frozen features.')
    .addHelpText(
      'after',
      examples(
        'webdino eval knn --model runs/photos --train labelled/train --test labelled/val',
        'webdino eval knn --help',
      ),
    );
  modelOptions(evaluate.command('knn').description('k-nearest-neighbour accuracy, the official protocol.'))
    .requiredOption('--train <source>', 'labelled pictures that vote')
    .requiredOption('--test <source>', 'labelled pictures that are classified')
    .option('--k <list>', 'numbers of neighbours, such as 10,20,100,200')
    .option('--temperature <t>', 'of the votes (0.07)')
    .option('--n-per-class <n>', 'few-shot: training pictures of each class')
    .option('--n-tries <n>', 'few-shot: draws to average over')
    .option('--baselines', 'also raw pixels and an untrained network')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      examples(
        'webdino eval knn --model runs/photos --train labelled/train --test labelled/val --baselines',
        'webdino eval knn --model dinov2_vits14.safetensors --train train.tar --test val.tar --k 20 --json',
      ),
    )
    .action(async (options) => {
      const { evalKnn } = await import('./eval.js');
      await evalKnn(options);
    });
}
