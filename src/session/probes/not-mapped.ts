/** That no target maps the file that a probe names, and what they map instead. */

import { basename } from 'node:path';

import type { Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { readProcessMaps } from '../../engines/jump/spaces.ts';
import type { ProbeDefinition } from '../../probe/definition.ts';
import { placeColumns } from '../../probe/place-columns.ts';
import { readTaskStatus } from '../../process/tasks.ts';
import { isFile } from '../files/files.ts';

/** The most names of files that an error lists. */
const MOST_NAMES = 12;

/**
 * The error `no-file` for a definition whose file none of these processes maps; no process, where all are meant.
 * @param untold why it is not waited for, though the file is there
 */
export function notMapped(
  { location, text }: ProbeDefinition,
  pids: readonly Pid[],
  untold?: string,
): TraplineError {
  const file = 'file' in location ? location.file : text;
  const position = { text, column: placeColumns(text).file };
  if (pids.length === 0) {
    return new TraplineError({
      code: 'no-file',
      message: `no process maps ${file}, and no program or library is called so`,
      hint: 'Give the path.',
      position,
    });
  }
  const [first] = pids;
  const isOne = first !== undefined && pids.length === 1;
  const who = isOne
    ? `${readTaskStatus(first)?.comm ?? 'process'} (${first})`
    : `any of the ${pids.length} processes`;
  return new TraplineError({
    code: 'no-file',
    message: `${file} is not mapped by ${who}`,
    hint:
      untold === undefined
        ? `Give the path, or the name as the program loads it.${isOne ? mappedFiles(first) : ''}`
        : `It can't be waited for, since the process does not tell of libraries that it loads: ${untold}.`,
    position,
  });
}

/** What a process has mapped to execute, for somebody who looks for the right name. */
function mappedFiles(pid: Pid): string {
  const paths = readProcessMaps(pid).filter((line) => line.executable && isFile(line));
  const names = [...new Set(paths.map(({ path }) => basename(path)))];
  const rest = names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : '';
  return ` It maps ${names.slice(0, MOST_NAMES).join(', ')}${rest}.`;
}
