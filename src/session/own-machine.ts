/** What stubs can use on this machine, and what their hits cost here. */

import type { MachineFeatures } from '../engines/jump/features.ts';
import { measureProgram } from '../engines/jump/measure.ts';
import type { LostHit } from '../probe/engine.ts';
import type { Program } from '../probe/program.ts';
import { readMaps } from '../process/maps.ts';
import { eventClock } from '../sys/clock.ts';
import { hasProcessorFeature } from '../sys/processor.ts';
import { ownPid } from '../sys/signals.ts';
import type { FileCache } from './files/files.ts';

/** What the processor and the clock allow every stub. */
export function machineFeatures(): MachineFeatures {
  return { rdpid: hasProcessorFeature('rdpid'), clock: eventClock() };
}

/**
 * Prepares measuring in our own process, which stands for the targets.
 * @param contextCount of a target, for what a hit costs that finds them all taken
 * @returns measures nanoseconds that one hit of a program adds, which may be lost; takes milliseconds
 */
export function hitMeter(
  files: FileCache,
  contextCount = 1,
): (program: Program, lost?: LostHit) => number {
  const own = ownPid();
  const [tidOffset] = files.tidOffsets(own, readMaps(own));
  const threadPointer = tidOffset === undefined ? 'register' : 'memory';
  const features = { ...machineFeatures(), threadPointer } as const; // the literal
  return (program, lost) => measureProgram(program, { features, tidOffset, contextCount, lost });
}
