/** futex(2) on memory that processes share. */

import type { Address } from '../base/brand.ts';
import { check, systemCall } from './call.ts';

const SYS_FUTEX = 202;
const FUTEX_WAKE = 1;
const EVERYBODY = 0x7fff_ffff;

/** Wakes all that wait at a word, in whatever process. */
export function wakeAll(word: Address): void {
  check(systemCall(SYS_FUTEX, word, FUTEX_WAKE, EVERYBODY, 0, 0, 0), 'wake who waits');
}
