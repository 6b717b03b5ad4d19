/** Text in a record: where each ends, and how all are moved together behind the fixed part. */

import { ensure } from '../../base/errors.ts';
import { ContextHeader } from '../../events/layout.ts';
import { mem, type Label } from '../../x64/operands.ts';
import { emitFault, emitTaskName, inRecord } from './access.ts';
import type { EmitContext } from './emit-context.ts';
import type { TextPlace } from './reads.ts';
import { emitScan } from './scan-code.ts';

/** Puts what is not read through a pointer where it belongs: the task's name, constants. */
export function emitConstantTexts(context: EmitContext, texts: readonly TextPlace[]): void {
  for (const { argument, at } of texts) {
    if (argument.fetch.kind === 'comm') emitTaskName(context, at);
    if (argument.fetch.kind === 'text') emitText(context, at, Buffer.from(argument.fetch.text));
  }
}

function emitText({ code }: EmitContext, at: number, bytes: Buffer): void {
  bytes.forEach((byte, index) => code.mov(inRecord(at + index, 1), byte));
}

/**
 * Finds each string's end and moves the strings together behind the fixed part. Leaves in rdx the end
 * of the last one, from the record's start. A string is whole if its NUL arrived or the limit was
 * reached; otherwise what lies behind the readable part is unknown, and it is a fault.
 */
export function emitStrings(context: EmitContext, texts: readonly TextPlace[]): void {
  const { code, parts } = context;
  code.mov('edx', parts.record.fixedBytes);
  for (const text of texts) {
    const unended = code.label('unended');
    const found = code.label('found');
    const place = code.label('place');
    // rdi: bytes that arrived, rax: bytes looked at, r11: the area
    if (text.read === undefined) code.mov('edi', text.capacity);
    else code.mov('rdi', inRecord(text.read.local + 8));
    code.lea('r11', inRecord(text.at));
    emitScan(code, found, unended);
    code.bind(unended).cmp('rax', text.capacity).jcc('e', found);
    if (text.read !== undefined) {
      emitFault(context, text.field, text.element);
      code.xor('eax', 'eax');
    }
    code.bind(found);
    // The slot: where the string is now, and its length above.
    code.mov('edi', 'eax').shl('rdi', 32).or('rdi', 'rdx');
    code.mov(inRecord(text.field.offset + text.element * 8), 'rdi');
    emitMove(context, place);
    code.bind(place).add('rdx', 'rax');
  }
}

/** Moves rax bytes from r11 to the record's offset rdx, downwards; keeps rax, rcx, rdx, rsi. */
function emitMove({ code }: EmitContext, skip: Label): void {
  code.lea('rdi', mem({ base: 'rsi', index: 'rdx' }));
  code.cmp('rdi', 'r11').jcc('e', skip, 'near');
  const again = code.label('again');
  const end = code.label('end');
  // By hand: `rep movsb` would go backwards if the program under test has set the direction flag.
  code.push('rcx').push('rdx').xor('ecx', 'ecx');
  code.bind(again).cmp('rcx', 'rax').jcc('ae', end);
  code.mov('dl', mem({ base: 'r11', index: 'rcx' }));
  code
    .mov(mem({ base: 'rdi', index: 'rcx' }), 'dl')
    .inc('rcx')
    .jmp(again);
  code.bind(end).pop('rdx').pop('rcx');
}

/**
 * Gives back what the record does not need, unless a nested hit has reserved behind it already; writes
 * the record's size. In: rdx the end of the last string. r8 is the record's position.
 */
export function emitShrink({ code, parts }: EmitContext): void {
  const { sizeOffset, maxBytes } = parts.record;
  ensure(sizeOffset !== undefined, 'a fixed record is not shrunk');
  const shrunk = code.label('shrunk');
  code.add('rdx', 7).and('rdx', -8);
  code.lea('rax', mem({ base: 'r8', displacement: maxBytes }));
  code.lea('rdi', mem({ base: 'r8', index: 'rdx' }));
  code.cmpxchg(mem({ base: 'rcx', displacement: ContextHeader.head, width: 8 }), 'rdi');
  code.jcc('e', shrunk);
  code.mov('edx', maxBytes);
  code.bind(shrunk).mov(inRecord(sizeOffset), 'rdx');
}
