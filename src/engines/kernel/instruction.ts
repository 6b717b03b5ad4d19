/**
 * Instructions that the kernel can't probe, known before it is asked: a refusal by it spoils a whole event; and
 * those that it takes for others. It looks at the opcode of an AVX instruction as if there were no VEX prefix:
 * `vzeroupper` (c5 f8 77) passes for a `ja`, is emulated as one, and never executed (tried on Linux 6.18).
 */

/** Prefixes that do no harm: operand and address size, repetition, fs and gs, REX. */
const HARMLESS: ReadonlySet<number> = new Set([0x66, 0x67, 0xf2, 0xf3, 0x64, 0x65]);
/** `lock` and the segments es, cs, ss, ds (which `notrack` is): is_prefix_bad. */
const BAD: ReadonlySet<number> = new Set([0xf0, 0x26, 0x2e, 0x36, 0x3e]);
/** Where VEX and EVEX encodings begin. */
const VECTOR: ReadonlySet<number> = new Set([0xc4, 0xc5, 0x62]);
/** An instruction has no more bytes than this. */
const MOST_BYTES = 15;

/**
 * Why the kernel refuses an instruction (arch/x86/kernel/uprobes.c, uprobe_init_insn). What is not said
 * here it may still refuse.
 * @param code the file's bytes, from the instruction on
 */
export function refuseInstruction(code: Uint8Array): string | undefined {
  for (let at = 0; at < Math.min(code.length, MOST_BYTES); at++) {
    const byte = code[at] ?? 0;
    if (BAD.has(byte))
      return 'the kernel can not probe an instruction with a lock or segment prefix';
    if (VECTOR.has(byte)) return 'the kernel can not probe an AVX instruction';
    if (!HARMLESS.has(byte)) return undefined;
  }
  return undefined;
}

/**
 * What the kernel does for an instruction that it probed, cheapest and dearest far apart: a nop, a jump or a call
 * is emulated, a nop of several bytes too (from Linux 6.17 on); one of five bytes is patched and costs no trap; a
 * push of a register is emulated; everything else is executed elsewhere, by a single step.
 */
export type StandIn = 'nop' | 'long-nop' | 'patched-nop' | 'push' | 'stepped';

/** `nopl 0(%rax,%rax,1)`, which Linux 6.18 and later make a call (arch/x86/kernel/uprobes.c, can_optimize). */
const PATCHED_NOP = Buffer.from('0f1f440000', 'hex');

/** Whether an instruction is the nop that the kernel makes a call. */
export function isPatchedNop(code: Uint8Array): boolean {
  return PATCHED_NOP.equals(code.subarray(0, PATCHED_NOP.length));
}

/**
 * Which kind an instruction is that the kernel can probe (branch_setup_xol_ops, push_setup_xol_ops).
 * @param code the file's bytes, from the instruction on
 */
export function standInFor(code: Uint8Array): StandIn {
  if (isPatchedNop(code)) return 'patched-nop';
  const at = code.findIndex((byte) => !HARMLESS.has(byte));
  const [opcode = 0, second = 0] = code.subarray(at);
  if (opcode === 0x90 || opcode === 0xeb || opcode === 0xe9 || opcode === 0xe8) return 'nop';
  if (opcode >= 0x70 && opcode <= 0x7f) return 'nop';
  if (opcode === 0x0f && second >= 0x80 && second <= 0x8f) return 'nop';
  if (opcode === 0x0f && second === 0x1f) return 'long-nop';
  // REX.B is the only prefix that a push may have.
  const pushed = opcode === 0x41 ? second : opcode;
  return at === 0 && pushed >= 0x50 && pushed <= 0x57 ? 'push' : 'stepped';
}
