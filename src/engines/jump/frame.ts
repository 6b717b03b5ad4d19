/**
 * The stub's frame: the contract between a site's prologue and epilogue and every program in its list,
 * whichever session wrote it. A change of this file is a change of CONTROL_VERSION.
 *
 *     hit's rsp - redZone - FRAME_BYTES   <- rsp while programs run
 *       +0 rax +8 rcx +16 rdx +24 rsi +32 rdi +40 r8 +48 r11 +56 flags (al: OF, ah: lahf)
 *
 * The prologue saves rax, rcx, rdx and the flags: a count needs no more, and what is saved is what a
 * probe costs. A program that needs the other four saves them to their slots and restores them before it
 * leaves. Programs change nothing else, keep rsp, and may use the stack below it. The direction flag is
 * as the program under test left it.
 */

import { ensure } from '../../base/errors.ts';
import type { Assembler } from '../../x64/assembler.ts';
import { mem, type Memory } from '../../x64/operands.ts';
import type { Register64 } from '../../x64/registers.ts';

/** Bytes of the frame. */
export const FRAME_BYTES = 64;
/** Bytes below rsp that a leaf function may use without moving it (psABI 3.2.2). */
export const RED_ZONE_BYTES = 128;

const FLAGS_OFFSET = 56;

/** The registers that the prologue saves, in the order of their slots. */
const SAVED: readonly Register64[] = ['rax', 'rcx', 'rdx'];
/** The registers that a program may save to the slots behind. */
const SAVED_BY_PROGRAMS: readonly Register64[] = ['rsi', 'rdi', 'r8', 'r11'];
const SLOTS: readonly Register64[] = [...SAVED, ...SAVED_BY_PROGRAMS];

/**
 * Where a saved register lies, or undefined for those that still hold their own value.
 * @param hasSavedMore whether {@link emitSaveMore} came before.
 */
export function savedSlot(register: Register64, hasSavedMore: boolean): Memory | undefined {
  const slot = (hasSavedMore ? SLOTS : SAVED).indexOf(register);
  return slot < 0 ? undefined : mem({ base: 'rsp', displacement: slot * 8 });
}

/** Saves what the prologue left to programs. */
export function emitSaveMore(code: Assembler): void {
  for (const register of SAVED_BY_PROGRAMS) code.mov(slotOf(register), register);
}

/** The pair of {@link emitSaveMore}. */
export function emitRestoreMore(code: Assembler): void {
  for (const register of SAVED_BY_PROGRAMS) code.mov(register, slotOf(register));
}

/** Where a program that has saved more has saved a register, in bytes from the frame's beginning. */
export function frameOffset(register: Register64): number {
  const slot = SLOTS.indexOf(register);
  ensure(slot >= 0, `a program does not save ${register}`);
  return slot * 8;
}

function slotOf(register: Register64): Memory {
  return mem({ base: 'rsp', displacement: SLOTS.indexOf(register) * 8 });
}

/** Where the saved flags lie: OF in the first byte, what `lahf` gave in the second. */
export function flagsSlot(): Memory {
  return mem({ base: 'rsp', displacement: FLAGS_OFFSET });
}

/** Steps over the red zone, saves the scratch registers and the arithmetic flags. Reads no memory. */
export function emitPrologue(code: Assembler, redZone: number): void {
  // lea, not sub: the flags are not saved yet.
  code.lea('rsp', mem({ base: 'rsp', displacement: -(redZone + FRAME_BYTES) }));
  for (const register of SAVED) code.mov(slotOf(register), register);
  code.lahf().set('o', 'al').mov(flagsSlot(), 'rax');
}

/** The pair of {@link emitPrologue}. */
export function emitEpilogue(code: Assembler, redZone: number): void {
  // al is 1 if OF was set: adding 0x7f overflows exactly then; sahf gives back the other five.
  code.mov('rax', flagsSlot()).add('al', 0x7f).sahf();
  for (const register of SAVED) code.mov(register, slotOf(register));
  code.lea('rsp', mem({ base: 'rsp', displacement: redZone + FRAME_BYTES }));
}
