/**
 * A signal at any instruction of a stub, whose handler hits the same site: the processor's trap flag counts the
 * instructions, and the handler of SIGTRAP calls the site behind the one that was asked for.
 */

import koffi from 'koffi';
import { address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { mem } from '../../../src/x64/operands.ts';
import { assembleHarness, mapRegion, STATE_WORDS } from '../x64/executable.ts';

const sigaction = koffi
  .load('libc.so.6')
  .func('int sigaction(int signal, const void *action, void *old)');
const SIGTRAP = 5;
/** EFLAGS.TF (SDM 3A, 2.3). */
const TRAP_FLAG = 0x100;
/** uc_mcontext.eflags of a ucontext_t (asm/sigcontext.h): 40 bytes, then r8 to r15, eight more, rip. */
const SAVED_FLAGS = 40 + 17 * 8;
/** sizeof(struct sigaction): the handler, 128 bytes of mask, flags, glibc's own restorer. */
const ACTION_BYTES = 152;

const PLACE = 0x4_0000_0000n;
const At = { enter: 0n, handler: 0x100n, harness: 0x200n, words: 0x800n, state: 0x900n } as const;

/** Hits within hits. Dispose it before anything else may get a SIGTRAP. */
export interface Nesting extends Disposable {
  /** What to call instead of the site: the same, one trap behind each instruction. */
  readonly goal: bigint;
  /** The next call of `goal` calls the site with this state behind so many instructions. */
  arm(state: readonly bigint[], instruction: number): void;
  /** Instructions since then, of the site and a few around it. */
  readonly instructions: number;
}

let used = 0n;

/** Makes a way to hit a site within hits of it. */
export function makeNesting(site: bigint): Nesting {
  const region = mapRegion(PLACE + used, 4096);
  used += 4096n;
  const base = region.address;
  const put = (at: bigint, bytes: Uint8Array): void => region.bytes.set(bytes, Number(at));
  put(At.enter, assembleEnter(base + At.enter, site));
  put(At.handler, assembleHandler(base, site));
  // One of its own: it keeps what it was called with within its code.
  put(At.harness, assembleHarness(base + At.harness));
  const words = new BigUint64Array(region.bytes.buffer, region.bytes.byteOffset, 512);
  const wordAt = Number(At.words / 8n);
  const old = Buffer.alloc(ACTION_BYTES);
  const action = Buffer.alloc(ACTION_BYTES);
  action.writeBigUInt64LE(base + At.handler);
  if (sigaction(SIGTRAP, action, old) !== 0) throw new Error('no handler of SIGTRAP');
  return {
    goal: base + At.enter,
    arm(state, instruction) {
      words[wordAt] = 0n;
      words[wordAt + 1] = BigInt(instruction);
      words.set(state.slice(0, STATE_WORDS), Number(At.state / 8n));
    },
    get instructions() {
      return Number(words[wordAt]);
    },
    [Symbol.dispose]: () => void sigaction(SIGTRAP, old, null),
  };
}

/** Calls the site with the trap flag set, and changes no flag otherwise. */
function assembleEnter(at: bigint, site: bigint): Uint8Array {
  const flags = mem({ base: 'rsp', width: 8 });
  const code = new Assembler(address(at));
  const goal = code.label('goal');
  code
    .pushfq()
    .or(flags, TRAP_FLAG)
    .popfq()
    .call(mem({ target: goal }));
  code.pushfq().and(flags, ~TRAP_FLAG).popfq().ret();
  return code.align(8).bind(goal).u64(site).finish();
}

/**
 * Counts; behind the instruction that was asked for it calls the site, and ends the counting: each trap costs
 * microseconds. The kernel has cleared the trap flag for the handler itself.
 */
function assembleHandler(base: bigint, site: bigint): Uint8Array {
  const code = new Assembler(address(base + At.handler));
  const leave = code.label('leave');
  code.mov('rax', base + At.words).inc(mem({ base: 'rax', width: 8 }));
  code.mov('rcx', mem({ base: 'rax' })).cmp('rcx', mem({ base: 'rax', displacement: 8 }));
  code.jcc('ne', leave);
  code.and(mem({ base: 'rdx', displacement: SAVED_FLAGS, width: 8 }), ~TRAP_FLAG);
  code
    .mov('rdi', site)
    .mov('rsi', base + At.state)
    .mov('rax', base + At.harness);
  // The psABI's alignment: the handler was entered as a function is.
  code.sub('rsp', 8).call('rax').add('rsp', 8);
  return code.bind(leave).ret().finish();
}
