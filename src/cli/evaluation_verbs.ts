/** `webdino eval`, `predict` and `viz`: the verbs that use a frozen model, and their options. */

import type { Command } from 'commander';
import { evaluationOptions, examples, modelOptions } from './options.js';
import { addPixelVerbs } from './pixel_verbs.js';
import { addVizVerbs } from './viz_verbs.js';

export function addEvaluationVerbs(program: Command): void {
  addVizVerbs(program);
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
  modelOptions(evaluate.command('all').description('Every task that the data sets of a folder allow, on one page.'))
    .requiredOption(
      '--data <folder>',
      'data sets, each a sub-folder with train and val (folder, .tar, .zip) or dev.tar',
    )
    .requiredOption('--out <folder>', 'report.html and all results; finished ones are not made again')
    .option('--compare <path...>', 'other models beside it, given like --model')
    .option('--tasks <list>', 'such as knn,segment (all that a set allows)')
    .option('--sets <list>', 'such as cifar10,nyuv2 (all)')
    .option('--quick', 'shorter heads and fewer draws, to see whether all works')
    .option('--no-floors', 'without random weights, raw pixels, colour histograms and PCA of pixels')
    .option('--seed <n>', 'of heads, shuffles and intervals (0)')
    .option('--draws <n>', 'bootstrap draws behind each interval (1000)')
    .option('--json', 'print the results as JSON')
    .addHelpText(
      'after',
      examples(
        'webdino eval all --model runs/photos --data sets --out reports/photos',
        'webdino eval all --model runs/a --compare runs/b dinov2_vits14.safetensors --data sets --out reports/ab --tasks knn,segment',
      ),
    )
    .action(async (options) => {
      const { evalAll } = await import('./eval_all.js');
      process.exitCode = await evalAll(options);
    });
  evaluationOptions(evaluate.command('knn').description('k-nearest-neighbour accuracy, the official protocol.'))
    .option('--k <list>', 'numbers of neighbours, such as 10,20,100,200; the smallest is the headline')
    .option('--temperature <t>', 'of the votes (0.07)')
    .option('--n-per-class <n>', 'few-shot: training pictures of each class')
    .option('--n-tries <n>', 'few-shot: draws to average over')
    .option('--baselines', 'the floors, which are there without it too')
    .addHelpText(
      'after',
      examples(
        'webdino eval knn --model runs/photos --train labelled/train --test labelled/val --out report',
        'webdino eval knn --model dinov2_vits14.safetensors --train train.tar --test val.tar --k 20 --json',
      ),
    )
    .action(async (options) => {
      const { evalKnn } = await import('./eval_knn.js');
      await evalKnn(options);
    });
  evaluationOptions(evaluate.command('linear').description('Linear classifiers on frozen features: the 52-head grid.'))
    .option('--val <source>', 'labelled pictures that choose the head; without, --test does, as in the official code')
    .option('--hold-out <share>', 'share of the training pictures that choose the head, such as 0.1')
    .option('--augment', 'random crops through the network at every step (the default on a GPU)')
    .option('--no-augment', 'features of the evaluation crops, once (the default on a CPU)')
    .option('--iterations <n>', 'steps (10 passes, at least 1250 and at most 12500)')
    .option('--train-batch <n>', 'pictures a step of the heads (128)')
    .option('--grid <name>', 'learning rates of the official code or of the paper: official, paper (official)')
    .option('--lrs <list>', 'learning rates in place of the grid, such as 0.001,0.01')
    .option('--only-test-classes', 'predict only classes that the test set has')
    .option('--real <file>', 'JSON of all valid classes of each test picture, as ImageNet-ReaL')
    .addHelpText(
      'after',
      examples(
        'webdino eval linear --model runs/photos --train labelled/train --test labelled/val',
        'webdino eval linear --model runs/photos --train train.tar --val val.tar --test test.tar --out report',
      ),
    )
    .action(async (options) => {
      const { evalLinear } = await import('./eval_linear.js');
      await evalLinear(options);
    });
  evaluationOptions(evaluate.command('finetune').description('The whole backbone trained under a linear head.'))
    .option('--iterations <n>', 'steps (30 passes, at least 300 and at most 20000)')
    .option('--train-batch <n>', 'pictures a step (64)')
    .option('--lr <rate>', 'learning rate for 256 pictures a step (0.0005; 0.015 suits a network as narrow as 96)')
    .option('--layer-decay <f>', 'learning rate of a layer against the next (0.65; 0.75 beyond 12 blocks)')
    .option('--label-smoothing <f>', 'share of the target spread over all classes (0.1)')
    .option('--drop-path <f>', 'stochastic depth of the last block (0.1)')
    .option('--weight-decay <f>', 'of matrices and embeddings (0.05)')
    .option('--real <file>', 'JSON of all valid classes of each test picture, as ImageNet-ReaL')
    .option('--save <file>', 'write the trained network and its head as .safetensors')
    .addHelpText(
      'after',
      examples(
        'webdino eval finetune --model runs/photos --train labelled/train --test labelled/val --save photos.safetensors',
        'webdino eval finetune --model runs/photos --train train.tar --test val.tar --dtype f16 --iterations 2000',
      ),
    )
    .action(async (options) => {
      const { evalFineTune } = await import('./eval_finetune.js');
      await evalFineTune(options);
    });
  evaluationOptions(
    evaluate.command('logistic').description('L2-regularised logistic regression, 45 strengths at once.'),
  )
    .option('--val <source>', 'labelled pictures that choose C; without, a tenth of the training pictures does')
    .option('--select-on-test', 'let the test pictures choose C, which is optimistic')
    .option('--c-values <list>', 'strengths such as 0.01,1,100 (10^-6 to 10^5, four a decade)')
    .option('--max-iter <n>', 'steps of L-BFGS (1000)')
    .option('--per-class', 'choose C by the mean of the accuracies of classes, and report that first')
    .addHelpText(
      'after',
      examples(
        'webdino eval logistic --model runs/photos --train labelled/train --test labelled/val',
        'webdino eval logistic --model runs/photos --train train.tar --val val.tar --test test.tar --c-values 0.01,1,100',
      ),
    )
    .action(async (options) => {
      const { evalLogistic } = await import('./eval_logistic.js');
      await evalLogistic(options);
    });
  evaluationOptions(evaluate.command('retrieval').description('Finds the same thing in other pictures, by cosine.'))
    .option('--groups <csv>', 'columns key, group, kind; without, the csv beside --test, or a folder for each group')
    .option('--gnd <json>', 'ground truth of the revisited Oxford and Paris protocol, for the pictures of --test')
    .option('--global <features>', 'what is compared: cls, patch-mean, cls+patch-mean (cls)')
    .addHelpText(
      'after',
      examples(
        'webdino eval retrieval --model runs/photos --test retrieval/dev.tar --out report',
        'webdino eval retrieval --model dinov2_vits14.safetensors --test roxford5k/jpg --gnd gnd_roxford5k.json',
      ),
    )
    .action(async (options) => {
      const { evalRetrieval } = await import('./eval_retrieval.js');
      await evalRetrieval(options);
    });
  evaluationOptions(evaluate.command('copy').description('Copy detection: finds what a picture was made from.'))
    .option('--groups <csv>', 'columns key, group, role, transform; without, the csv beside --test')
    .option('--normalise <source>', 'background pictures that scores are normalised by')
    .option('--global <features>', 'what is compared: cls, patch-mean, cls+patch-mean (cls)')
    .addHelpText(
      'after',
      examples(
        'webdino eval copy --model runs/photos --test retrieval/dev.tar --out report',
        'webdino eval copy --model runs/photos --test copies.tar --normalise pool.tar --global cls+patch-mean',
      ),
    )
    .action(async (options) => {
      const { evalCopy } = await import('./eval_copy.js');
      await evalCopy(options);
    });
  addPixelVerbs(program, evaluate);
}
