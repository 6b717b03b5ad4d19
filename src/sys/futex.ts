/** futex(2) on memory that processes share. */

import type { Address } from '../base/brand.ts';
import { check, systemQuestion } from './call.ts';

const SYS_FUTEX = 202;
const FUTEX_WAKE = 1;
const EVERYBODY = 0x7fff_ffff;
/** Flags of a word of futex_waitv(2): FUTEX2_SIZE_U32; between processes, as it is without FUTEX2_PRIVATE. */
export const FUTEX_WORD = 2;

/** Wakes all that wait at a word, in whatever process. */
export function wakeAll(word: Address): void {
  // Asked of nobody in particular: it changes nothing that a death after it could leave behind.
  check(systemQuestion(SYS_FUTEX, word, FUTEX_WAKE, EVERYBODY, 0, 0, 0), 'wake who waits');
}
