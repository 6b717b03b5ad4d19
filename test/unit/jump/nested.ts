/**
 * A signal at any instruction of a stub, whose handler hits the same site. The processor's trap flag finds the
 * instructions of one hit; a breakpoint on one of them, passed as often as it has to be, raises the signal.
 */

import koffi from 'koffi';
import { address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { mem, type Memory } from '../../../src/x64/operands.ts';
import { assembleHarness, mapRegion, STATE_WORDS, type Region } from '../x64/executable.ts';

const sigaction = koffi
  .load('libc.so.6')
  .func('int sigaction(int signal, const void *action, void *old)');
const SIGTRAP = 5;
/** EFLAGS.TF (SDM 3A, 2.3). */
const TRAP_FLAG = 0x100;
/** Of a ucontext_t (asm/sigcontext.h): 40 bytes, then r8 to r15, eight more, rip, eflags. */
const SAVED_RIP = 40 + 16 * 8;
const SAVED_FLAGS = 40 + 17 * 8;
const INT3 = 0xcc;
/** sizeof(struct sigaction): the handler, 128 bytes of mask, flags, glibc's own restorer. */
const ACTION_BYTES = 152;

const PLACE = 0x4_0000_0000n;
const At = {
  enter: 0n,
  handler: 0x100n,
  harness: 0x300n,
  words: 0x900n,
  state: 0xa00n,
  log: 0xc00n,
} as const;
/** Words that the handler looks at, by their offset. */
const Word = {
  /** The instruction with the breakpoint; 0 while instructions are found. */
  at: 0,
  /** Its first byte. */
  byte: 8,
  /** Times that it is still to be passed. */
  passes: 16,
  /** Of the log. */
  found: 24,
} as const;
const MOST_FOUND = 8192;
const BYTES = Number(At.log) + MOST_FOUND * 8;

/** An instruction that a hit comes to, the so many-th time. */
export interface Moment {
  readonly at: bigint;
  readonly passes: number;
}

/** Hits within hits. Dispose it before anything else may get a SIGTRAP. */
export interface Nesting extends Disposable {
  /** The instructions of a hit that `run` makes by calling what it is given, in their order. */
  find(run: (goal: bigint) => void): Moment[];
  /** The next hit has another within it, with this state, before it goes on at a moment. */
  arm(state: readonly bigint[], moment: Moment): void;
}

let used = 0n;

/**
 * Makes a way to hit a site within hits of it.
 * @param code holds the site, its stub and what that calls
 */
export function makeNesting(site: bigint, code: Region): Nesting {
  const region = mapRegion(PLACE + used, BYTES);
  used += 1n << 20n;
  const base = region.address;
  const put = (at: bigint, bytes: Uint8Array): void => region.bytes.set(bytes, Number(at));
  put(At.enter, assembleEnter(base + At.enter, site));
  put(At.handler, assembleHandler(base, site));
  // One of its own: it keeps what it was called with within its code.
  put(At.harness, assembleHarness(base + At.harness));
  const all = new BigUint64Array(region.bytes.buffer, region.bytes.byteOffset, BYTES / 8);
  const word = (which: number): number => (Number(At.words) + which) / 8;
  const log = Number(At.log) / 8;
  const old = Buffer.alloc(ACTION_BYTES);
  const action = Buffer.alloc(ACTION_BYTES);
  action.writeBigUInt64LE(base + At.handler);
  if (sigaction(SIGTRAP, action, old) !== 0) throw new Error('no handler of SIGTRAP');
  return {
    find(run) {
      all[word(Word.at)] = 0n;
      all[word(Word.found)] = 0n;
      run(base + At.enter);
      const found = Array.from(all.subarray(log, log + Number(all[word(Word.found)])));
      const times = new Map<bigint, number>();
      return found.filter(isIn(code)).map((at) => {
        const passes = times.get(at) ?? 0;
        times.set(at, passes + 1);
        return { at, passes };
      });
    },
    arm(state, { at, passes }) {
      const offset = Number(at - code.address);
      all[word(Word.at)] = at;
      all[word(Word.byte)] = BigInt(code.bytes[offset] ?? 0);
      all[word(Word.passes)] = BigInt(passes);
      all.set(state.slice(0, STATE_WORDS), Number(At.state) / 8);
      code.bytes[offset] = INT3;
    },
    [Symbol.dispose]: () => void sigaction(SIGTRAP, old, null),
  };
}

function isIn({ address: from, bytes }: Region): (at: bigint) => boolean {
  return (at) => at >= from && at < from + BigInt(bytes.byteLength);
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

/** A word that the handler looks at, whose place is in rax. */
function of(which: number): Memory {
  return mem({ base: 'rax', displacement: which, width: 8 });
}

/**
 * Logs where the hit goes on while instructions are found. Else: at the breakpoint, takes it out and calls the site, or
 * steps over it to put it back. The kernel has cleared the trap flag for the handler itself.
 */
function assembleHandler(base: bigint, site: bigint): Uint8Array {
  const code = new Assembler(address(base + At.handler));
  const [finding, stepped, hit] = [code.label('finding'), code.label('stepped'), code.label('hit')];
  const flags = mem({ base: 'rdx', displacement: SAVED_FLAGS, width: 8 });
  const rip = mem({ base: 'rdx', displacement: SAVED_RIP, width: 8 });
  code
    .mov('rax', base + At.words)
    .mov('rcx', of(Word.at))
    .test('rcx', 'rcx')
    .jcc('e', finding);
  code.test(flags, TRAP_FLAG).jcc('ne', stepped);
  code
    .mov(rip, 'rcx')
    .mov('rsi', of(Word.byte))
    .mov(mem({ base: 'rcx' }), 'sil');
  code.cmp(of(Word.passes), 0).jcc('e', hit);
  code.dec(of(Word.passes)).or(flags, TRAP_FLAG).ret();
  code
    .bind(stepped)
    .mov(mem({ base: 'rcx', width: 1 }), INT3)
    .and(flags, ~TRAP_FLAG)
    .ret();
  code
    .bind(hit)
    .mov('rdi', site)
    .mov('rsi', base + At.state)
    .mov('rax', base + At.harness);
  // The psABI's alignment: the handler was entered as a function is.
  code.sub('rsp', 8).call('rax').add('rsp', 8).ret();
  code
    .bind(finding)
    .mov('rcx', rip)
    .mov('rsi', of(Word.found))
    .mov('rdi', base + At.log);
  code
    .mov(mem({ base: 'rdi', index: 'rsi', scale: 8 }), 'rcx')
    .inc(of(Word.found))
    .ret();
  return code.finish();
}
