/**
 * Memory that a program reads: the pointers of a round in one `process_vm_readv` of the process on itself,
 * which cannot fault or signal. Only if that comes back short is each read on its own, to tell which one
 * failed. The record itself is the buffer; what is left of it is given back.
 */

import { ensure } from '../../base/errors.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import { ContextHeader, type RecordField } from '../../events/layout.ts';
import { mem, type Label, type Memory } from '../../x64/operands.ts';
import type { EmitContext } from './emit-context.ts';
import { GAP_BYTES, type ReadGroup, type Span } from './read-groups.ts';
import { pointerOf, type Read } from './read.ts';
import type { IntegerPlace } from './reads.ts';
import { emitScan } from './scan-code.ts';
import { PR_GET_NAME, StubCall } from './runtime.ts';

/** No pointer of a program: the kernel refuses to read there, whatever is mapped (SDM 1, 3.3.7.1). */
const NOWHERE = 0x8000_0000_0000_0000n;

/** rsi is the record throughout. */
export function inRecord(displacement: number, width?: 1 | 2 | 4 | 8): Memory {
  return mem({ base: 'rsi', displacement, ...(width === undefined ? {} : { width }) });
}

/** Emits the reading of one group. Clobbers rax, rdx, rdi, r11. */
export function emitGroup(context: EmitContext, group: ReadGroup, spare: number): void {
  for (const span of group.spans) emitSpan(context, span);
  for (const gap of group.gaps) emitLocal(context, gap.local, spare, gap.bytes);
  for (const { read, remote } of group.partial) emitPartialVectors(context, read, remote);
  emitRead(context, group, spare);
}

/** Writes the iovecs of integers side by side, and zeros to their slots: what arrives may be narrower. */
function emitSpan(context: EmitContext, { parts, remote, bytes }: Span): void {
  const { code } = context;
  const first = parts[0];
  ensure(first !== undefined, 'a span has parts');
  emitAddress(context, first.read);
  code.mov(inRecord(remote), 'rax').mov(inRecord(remote + 8, 8), bytes);
  for (const { read } of parts) {
    if (read.bytes % 8 !== 0) code.mov(inRecord(read.arrivesAt + (read.bytes & ~7), 8), 0);
    emitLocal(context, read.local, read.arrivesAt, read.bytes);
  }
}

function emitLocal({ code }: EmitContext, local: number, at: number, bytes: number): void {
  code
    .lea('rdx', inRecord(at))
    .mov(inRecord(local), 'rdx')
    .mov(inRecord(local + 8, 8), bytes);
}

function emitPartialVectors(context: EmitContext, read: Read, remote: number): void {
  const { code } = context;
  emitAddress(context, read);
  emitLocal(context, read.local, read.arrivesAt, read.bytes);
  code.mov(inRecord(remote), 'rax');
  // The kernel may refuse a whole iovec for its last page: the first ends where the page does.
  code
    .mov('edx', 'eax')
    .and('edx', PAGE_BYTES - 1)
    .neg('rdx')
    .add('rdx', PAGE_BYTES);
  if (read.bytes < PAGE_BYTES) {
    const within = code.label('within');
    code.cmp('rdx', read.bytes).jcc('be', within).mov('edx', read.bytes).bind(within);
  }
  code.mov(inRecord(remote + 8), 'rdx').add('rax', 'rdx');
  code.mov(inRecord(remote + 16), 'rax');
  code
    .neg('rdx')
    .add('rdx', read.bytes)
    .mov(inRecord(remote + 24), 'rdx');
}

/** Puts the address of a read into rax; behind a pointer that did not arrive, one that nobody can read. */
function emitAddress(context: EmitContext, read: Read): void {
  const { code } = context;
  const { base, offset } = read;
  if ('fetch' in base) context.load('rax', base.fetch);
  else code.mov('rax', inRecord(base.pointer.at));
  if (BigInt.asIntN(32, offset) === offset) {
    if (offset !== 0n) code.add('rax', Number(offset));
  } else {
    code.mov('rdx', BigInt.asUintN(64, offset)).add('rax', 'rdx');
  }
  const pointer = pointerOf(read);
  if (pointer === undefined) return;
  code.mov('rdx', NOWHERE);
  code.cmp(inRecord(pointer.read.local + 8, 8), pointer.needs).cmov('b', 'rax', 'rdx');
}

/**
 * Reads everything; afterwards each local iovec's length is what arrived for it, or that of a text whose end
 * has arrived.
 */
function emitRead(context: EmitContext, group: ReadGroup, spare: number): void {
  const { code } = context;
  const done = code.label('done');
  // A system call clobbers rcx and r11 and takes its arguments in rdi rsi rdx r10 r8 r9.
  code.push('r9').push('r10').push('rcx').push('r8').push('rsi');
  emitTogether(context, group, done);
  for (const { parts, remote } of group.spans) {
    for (const { read, distance } of parts)
      emitPart(context, read, remote, distance, parts.length, spare);
  }
  for (const { read, remote } of group.partial) emitAlone(context, read, remote, 2);
  code.bind(done);
  code.pop('rsi').pop('r8').pop('rcx').pop('r10').pop('r9');
}

/**
 * All in one call, but for what the last read may want of a next page: each stretch costs, and a text mostly
 * ends before. Goes to `done` when everything is there; falls through, all as it was, when something is missing.
 */
function emitTogether(context: EmitContext, group: ReadGroup, done: Label): void {
  const { code } = context;
  const { firstLocal, locals, firstRemote, remotes, bytes } = group;
  const last = group.partial.at(-1);
  if (last === undefined) {
    if (locals === 1) return; // read on its own at once
    emitCall(context, firstLocal, locals, firstRemote, remotes);
    code.cmp('rax', bytes).jcc('e', done, 'near');
    return;
  }
  const { read, remote } = last;
  const short = code.label('short');
  const ended = code.label('ended');
  emitCall(context, firstLocal, locals, firstRemote, remotes - 1);
  // rdi: the last one's bytes within its first page
  code
    .mov('rdi', inRecord(remote + 8))
    .lea('rdx', mem({ base: 'rdi', displacement: bytes - read.bytes }));
  code.cmp('rax', 'rdx').jcc('ne', short, 'near');
  code.cmp('rdi', read.bytes).jcc('e', done, 'near');
  if (read.isText) {
    const unended = code.label('unended');
    code.lea('r11', inRecord(read.arrivesAt));
    emitScan(code, ended, unended);
    code.bind(unended);
  }
  // All of it again: what was there before may have changed.
  emitAlone(context, read, remote, 2);
  code.bind(ended).jmp(done, 'near');
  code.bind(short);
}

/** One integer on its own, which may lie within a longer stretch. */
function emitPart(
  context: EmitContext,
  read: Read,
  remote: number,
  distance: number,
  parts: number,
  spare: number,
): void {
  const { code } = context;
  if (parts === 1) {
    emitAlone(context, read, remote, 1);
    return;
  }
  const own = spare + GAP_BYTES;
  code.mov('rax', inRecord(remote));
  if (distance > 0) code.add('rax', distance);
  code.mov(inRecord(own), 'rax').mov(inRecord(own + 8, 8), read.bytes);
  emitAlone(context, read, own, 1);
}

function emitAlone(context: EmitContext, read: Read, remote: number, remotes: number): void {
  const { code } = context;
  const arrived = code.label('arrived');
  emitCall(context, read.local, 1, remote, remotes);
  code.test('rax', 'rax').jcc('ns', arrived, 'short');
  code.xor('eax', 'eax');
  code.bind(arrived).mov(inRecord(read.local + 8), 'rax');
}

/** process_vm_readv(2) on ourselves; rsi, the record, is there again afterwards. */
function emitCall(
  { code }: EmitContext,
  local: number,
  locals: number,
  remote: number,
  remotes: number,
): void {
  code.mov('rcx', mem({ base: 'rsp', displacement: 16 }));
  code.mov('edi', mem({ base: 'rcx', displacement: ContextHeader.pid }));
  code.lea('r10', inRecord(remote)).lea('rsi', inRecord(local));
  code.mov('edx', locals).mov('r8d', remotes).xor('r9d', 'r9d');
  code.mov('eax', StubCall.processVmReadv).syscall();
  code.mov('rsi', mem({ base: 'rsp' }));
}

/** prctl(PR_GET_NAME) to a place of the record. Clobbers rax, rdx, rdi, r11. */
export function emitTaskName({ code }: EmitContext, at: number): void {
  code.push('rcx').push('rsi');
  code.lea('rsi', inRecord(at)).mov('edi', PR_GET_NAME);
  code.mov('eax', StubCall.prctl).syscall();
  code.pop('rsi').pop('rcx');
}

/** Marks an integer that did not arrive whole, and takes its bits out of one that did. */
export function emitInteger(context: EmitContext, place: IntegerPlace): void {
  const { code } = context;
  const { argument, field, read } = place;
  const whole = code.label('whole');
  code.cmp(inRecord(read.local + 8, 8), read.bytes).jcc('e', whole);
  emitFault(context, field, 0);
  if (argument.count === undefined) code.mov(inRecord(field.offset, 8), 0);
  code.bind(whole);
  const { bits } = argument;
  if (bits === undefined) return;
  const width = Number(argument.type.slice(1));
  for (let element = 0; element < (argument.count ?? 1); element++) {
    const at = inRecord(field.offset + (element * width) / 8);
    emitElement(context, at, width, bits.offset, bits.width);
  }
}

/** One element of an integer type, in place: what its bits say. */
function emitElement(
  { code }: EmitContext,
  at: Memory,
  width: number,
  offset: number,
  bits: number,
): void {
  const part = width === 8 ? 'al' : width === 16 ? 'ax' : width === 32 ? 'eax' : 'rax';
  code.mov(part, at);
  code.shl('rax', 64 - offset - bits).shr('rax', 64 - bits);
  code.mov(at, part);
}

/** Marks a field, or one string of an array, as not read. Clobbers rax. */
export function emitFault({ code, parts }: EmitContext, field: RecordField, element: number): void {
  const { faultOffset } = parts.record;
  ensure(faultOffset !== undefined && field.faultBit !== undefined, `${field.name} cannot fault`);
  const bit = field.faultBit + element;
  const word = faultOffset + Math.floor(bit / 64) * 8;
  code.mov('rax', 1n << BigInt(bit % 64)).or(inRecord(word), 'rax');
}

/** Clears the fault mask: the record lies where others lay. */
export function emitFaultMaskReset({ code, parts }: EmitContext): void {
  const { faultOffset, fields } = parts.record;
  if (faultOffset === undefined) return;
  const bits = fields.reduce((most, { faultBit = -1, type, count = 1 }) => {
    return Math.max(most, faultBit + (type === 'string' ? count : 1));
  }, 0);
  for (let word = 0; word < Math.ceil(bits / 64); word++) {
    code.mov(inRecord(faultOffset + word * 8, 8), 0);
  }
}
