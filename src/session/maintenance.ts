/** What sessions, living and dead, hold in processes; and cleaning up after dead ones. */

import { TraplineError } from '../base/errors.ts';
import type { CleanReport, ProcessStatus } from './types.ts';

/** What is held in the given processes, or in every process that may be read. */
export async function status(_pids?: readonly number[]): Promise<ProcessStatus[]> {
  throw new TraplineError({ code: 'internal', message: 'internal error: not there yet' });
}

/** Removes what dead sessions left in the given processes, or in every process that may be changed. */
export async function clean(_pids?: readonly number[]): Promise<CleanReport[]> {
  throw new TraplineError({ code: 'internal', message: 'internal error: not there yet' });
}
