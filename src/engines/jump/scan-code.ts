/** Machine code that looks for the end of a text. */

import type { Assembler } from '../../x64/assembler.ts';
import { mem, type Label } from '../../x64/operands.ts';

/** Looks for a NUL in rdi bytes at r11: goes to `found` with its index in rax, else to `unended` with rdi's. */
export function emitScan(code: Assembler, found: Label, unended: Label): void {
  const scan = code.label('scan');
  code.xor('eax', 'eax');
  code.bind(scan).cmp('rax', 'rdi').jcc('ae', unended);
  code.cmp(mem({ base: 'r11', index: 'rax', width: 1 }), 0).jcc('e', found);
  code.inc('rax').jmp(scan);
}
