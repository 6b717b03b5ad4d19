/** Which processes could get which probes: what task filters are asked about. */

import type { MemoryMapping } from '../../process/maps.ts';
import { readProcessFacts } from '../targets/process-facts.ts';
import type { Candidate } from '../protocol.ts';
import type { WalkedProcess } from './walk.ts';
import type { WantedFile } from './wanted-file.ts';

/** A probe that is looked for. */
export interface WantedIn {
  readonly number: number;
  readonly file: WantedFile;
  /** Whether a process has it already in a mapping, or can't. */
  readonly isIn?: (process: WalkedProcess, mapping: MemoryMapping) => boolean;
}

/** The processes with a mapping of a probe's file in which they do not have it, with what task filters ask. */
export function candidatesOf(
  processes: Iterable<WalkedProcess>,
  wanted: readonly WantedIn[],
): Candidate[] {
  const found: Candidate[] = [];
  for (const walked of processes) {
    const { pid } = walked;
    const probes = wanted.filter(({ file, isIn }) =>
      file.mappingsIn(walked).some((mapping) => isIn?.(walked, mapping) !== true),
    );
    if (probes.length === 0) continue;
    const facts = readProcessFacts(pid);
    if (facts !== undefined) {
      found.push({ process: facts, probes: probes.map(({ number }) => number) });
    }
  }
  return found;
}
