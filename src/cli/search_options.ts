/** What the verbs that search share. */

import { UsageError } from '../errors.js';
import { type Pooling, POOLINGS } from '../eval/features.js';

/** What of a picture is compared. @throws UsageError for anything unknown */
export function globalNamed(name = 'cls'): Pooling {
  const pooling = POOLINGS.find((known) => known === name);
  if (!pooling) throw new UsageError(`--global ${name} is unknown; use ${POOLINGS.join(', ')}`);
  return pooling;
}
