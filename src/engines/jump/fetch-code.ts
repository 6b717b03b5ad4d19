/** Machine code for what needs no memory: registers as they were at the hit, constants. */

import { TraplineError, unreachable } from '../../base/errors.ts';
import type { Fetch, ProgramArgument, RegisterName } from '../../probe/program.ts';
import { mem } from '../../x64/operands.ts';
import type { Register64 } from '../../x64/registers.ts';
import type { EmitContext } from './emit-context.ts';
import { flagsSlot, FRAME_BYTES, savedSlot } from './frame.ts';

/** CF, PF, AF, ZF, SF of the byte that `lahf` gives. */
const LOW_FLAGS = 0xd5;
/** CF, PF, AF, ZF, SF, OF. */
const ARITHMETIC_FLAGS = 0x8d5;

/**
 * Loads a value that is not memory. Clobbers rdx where it is the flags.
 * @throws TraplineError `unsupported` for what only a return probe has.
 */
export function emitLoad(context: EmitContext, destination: Register64, fetch: Fetch): void {
  const { code, parts } = context;
  switch (fetch.kind) {
    case 'register':
      emitLoadRegister(context, destination, fetch.register);
      return;
    case 'immediate':
      code.mov(destination, fetch.value);
      return;
    case 'file':
      code.mov(destination, BigInt.asUintN(64, parts.site - parts.fileOffset + fetch.offset));
      return;
    case 'return-value':
      throw new TraplineError({
        code: 'unsupported',
        message: '$retval is not there before a function returns',
      });
    case 'load':
    case 'stack':
    case 'comm':
    case 'text':
      throw new TraplineError({
        code: 'internal',
        message: `a ${fetch.kind} is not loaded into a register`,
      });
    default:
      unreachable(fetch);
  }
}

/** Loads an argument that is not memory, zero-extended from the width of its type, its bits taken out. */
export function emitLoadArgument(context: EmitContext, argument: ProgramArgument): void {
  const { code } = context;
  const { fetch, type, bits } = argument;
  emitLoad(context, 'rax', fetch);
  if (bits !== undefined) {
    code.shl('rax', 64 - bits.offset - bits.width).shr('rax', 64 - bits.width);
  } else if (type.endsWith('16')) code.movzx('eax', 'ax');
  else if (type.endsWith('32')) code.mov('eax', 'eax');
  else if (type.endsWith('8') || type === 'char') code.movzx('eax', 'al');
}

/** A register that holds its own value now, whatever was saved. */
export function liveRegister(context: EmitContext, fetch: Fetch): Register64 | undefined {
  if (fetch.kind !== 'register') return undefined;
  const { register } = fetch;
  if (register === 'rip' || register === 'rsp' || register === 'flags') return undefined;
  return savedSlot(register, context.hasSavedMore) === undefined ? register : undefined;
}

function emitLoadRegister(
  context: EmitContext,
  destination: Register64,
  register: RegisterName,
): void {
  const { code, parts } = context;
  if (register === 'rip') {
    code.mov(destination, parts.site);
  } else if (register === 'rsp') {
    code.lea(destination, mem({ base: 'rsp', displacement: FRAME_BYTES + parts.redZone }));
  } else if (register === 'flags') {
    emitLoadFlags(context, destination);
  } else {
    code.mov(destination, savedSlot(register, context.hasSavedMore) ?? register);
  }
}

/** The flags as pushfq would have given them: the six arithmetic ones are the saved ones. */
function emitLoadFlags({ code }: EmitContext, destination: Register64): void {
  code.pushfq().pop(destination).and(destination, ~ARITHMETIC_FLAGS);
  code.mov('rdx', flagsSlot()).shr('rdx', 8).and('edx', LOW_FLAGS).or(destination, 'rdx');
  code.mov('rdx', flagsSlot()).and('edx', 1).shl('edx', 11).or(destination, 'rdx');
}
