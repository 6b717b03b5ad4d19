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
