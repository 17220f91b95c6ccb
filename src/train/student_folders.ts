/**
 * Several students of one teacher pass: OUT/students.json names their folders, each of which is a run of its own.
 * A folder without that file is a run itself. Node only.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DataError, UsageError } from '../errors.js';
import { writeFileAtomic } from '../io/atomic.js';
import { checkpointName, checkpointSteps, checkpointsFolder } from './checkpoint.js';

const FILE = 'students.json';

/** @throws UsageError for a folder that holds one run where several are to lie, or the other way round */
export function assertFolderFor(out: string, students: number): void {
  const several = existsSync(join(out, FILE));
  const one = existsSync(checkpointsFolder(out));
  if (students > 1 ? one : several) {
    throw new UsageError(
      `${out} holds ${several ? 'several students' : 'a run of one student'} already: choose another --out`,
    );
  }
}

/** @param names folders below `out` */
export async function writeStudentFolders(out: string, names: readonly string[]): Promise<void> {
  await writeFileAtomic(join(out, FILE), `${JSON.stringify({ students: names }, null, 2)}\n`);
}

/** The runs that a folder holds: its students, or itself. @throws DataError for a file that names none */
export function studentFolders(out: string): string[] {
  const path = join(out, FILE);
  if (!existsSync(path)) return [out];
  let names: unknown;
  try {
    names = (JSON.parse(readFileSync(path, 'utf8')) as { students?: unknown }).students;
  } catch (cause) {
    throw new DataError(`${path} is not JSON: go on with one student, webdino resume ${out}/NAME`, { cause });
  }
  if (!Array.isArray(names) || names.length === 0 || !names.every((name) => typeof name === 'string')) {
    throw new DataError(`${path} names no students: go on with one of them, webdino resume ${out}/NAME`);
  }
  return names.map((name: string) => join(out, name));
}

/**
 * The newest checkpoint that all of the runs have: a stop between two of them leaves one a checkpoint ahead.
 * @throws DataError where there is none
 */
export async function commonCheckpoint(folders: readonly string[]): Promise<string> {
  const steps = await Promise.all(folders.map((folder) => checkpointSteps(folder)));
  const common = steps[0].find((step) => steps.every((others) => others.includes(step)));
  if (common === undefined) {
    throw new DataError(`${folders.join(', ')} have no checkpoint in common; go on with them one by one`);
  }
  return checkpointName(common);
}
