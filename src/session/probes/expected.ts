/** Probes whose file no target maps yet. */

import { ownPid } from '../../sys/signals.ts';
import type { FileCache } from '../files/files.ts';
import { findIfThere } from '../files/find-file.ts';
import { aboutFile } from './about-file.ts';
import { aboutWritten } from './origin.ts';
import { planPlaces } from './plans.ts';
import { EVERY_PROCESS, type ProbeAddition } from './probing.ts';
import { modelOf } from '../files/whole-file.ts';

/**
 * There need be no process that maps a file where it can come, but the file has to be there, and right: what can't be
 * probed in it is refused now.
 * @returns whether the file is there; a process may still know another by this name.
 * @throws TraplineError `no-file` for a path that leads nowhere; as resolving does: `no-symbol`, `bad-elf`.
 */
export function expectInFile(addition: ProbeAddition, files: FileCache): boolean {
  const { location } = addition.definition;
  if (!('file' in location)) return false;
  const path = findIfThere(location.file);
  if (path === undefined) return false;
  const places = aboutWritten(addition.written, () => {
    const { maps } = aboutFile(addition.definition, () => modelOf(path, files));
    return addition.expect(ownPid(), maps);
  });
  const planOf = planPlaces(places);
  for (const place of places) {
    const plan = planOf(place);
    if (plan.kind === 'refused') addition.refuse(EVERY_PROCESS, place, plan.reason);
  }
  return true;
}
