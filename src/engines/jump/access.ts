/**
 * Memory that a program reads: every pointer of a record in one `process_vm_readv` of the process on
 * itself, which cannot fault or signal. Only if that comes back short is each read on its own, to
 * tell which one failed. The record itself is the buffer; what is left of it is given back.
 */

import { ensure } from '../../base/errors.ts';
import { ContextHeader, PAGE_BYTES, type RecordField } from '../../events/layout.ts';
import { MAX_STRING_BYTES, type Fetch, type ProgramArgument } from '../../probe/program.ts';
import { mem, type Memory } from '../../x64/operands.ts';
import type { EmitContext } from './compile.ts';
import { PR_GET_NAME, StubCall } from './runtime.ts';

/** sizeof(struct iovec). */
const IOVEC_BYTES = 16;
/** TASK_COMM_LEN. */
const COMM_BYTES = 16;

/** One field read through a pointer. */
interface Access {
  readonly argument: ProgramArgument;
  readonly field: RecordField;
  /** Bytes asked for; a string may give less. */
  readonly bytes: number;
  /** Where in the record the bytes arrive. */
  readonly arrivesAt: number;
  /** Of its local iovec, from the record's start; its length becomes the bytes that arrived. */
  readonly local: number;
  /** Of its first remote iovec; a string has two, split at the page's end. */
  readonly remote: number;
  readonly remoteCount: number;
}

/** A string's bytes in the record, before they are moved together. */
interface StringArea {
  readonly field: RecordField;
  readonly at: number;
  readonly capacity: number;
  /** Undefined for the task's name, which always arrives. */
  readonly access: Access | undefined;
}

/** Emits everything between the plain fields and the commit of a record of variable size. */
export function emitAccesses(context: EmitContext): void {
  const plan = planAccesses(context);
  for (const access of plan.accesses) emitVectors(context, access);
  emitFaultMaskReset(context);
  if (plan.accesses.length > 0) emitRead(context, plan.accesses);
  for (const area of plan.strings) if (area.access === undefined) emitTaskName(context, area);
  for (const access of plan.accesses) {
    if (access.argument.type !== 'string') emitCheck(context, access);
  }
  emitStrings(context, plan.strings);
  emitShrink(context);
}

/** rsi is the record throughout. */
function inRecord(displacement: number, width?: 1 | 2 | 4 | 8): Memory {
  return mem({ base: 'rsi', displacement, ...(width === undefined ? {} : { width }) });
}

function planAccesses(context: EmitContext): { accesses: Access[]; strings: StringArea[] } {
  const { program, record } = context.parts;
  const accesses: Access[] = [];
  const strings: StringArea[] = [];
  const pairs = program.arguments.map((argument, index) => {
    const field = record.fields[index];
    ensure(field !== undefined, `argument ${argument.name} has no field`);
    return { argument, field };
  });
  const reading = pairs.filter(({ field }) => field.faultBit !== undefined);
  // Integers first: in the one call for all, a short string would end it for what comes behind.
  const ordered = [
    ...reading.filter(({ argument }) => argument.type !== 'string'),
    ...reading.filter(({ argument }) => argument.type === 'string'),
  ];
  let stringAt = record.fixedBytes;
  let remote = record.scratchOffset + ordered.length * IOVEC_BYTES;
  ordered.forEach(({ argument, field }, index) => {
    const isString = argument.type === 'string';
    const bytes = isString ? MAX_STRING_BYTES : widthOf(argument);
    const remoteCount = isString ? 2 : 1;
    const arrivesAt = isString ? stringAt : field.offset;
    const local = record.scratchOffset + index * IOVEC_BYTES;
    const access = { argument, field, bytes, arrivesAt, local, remote, remoteCount };
    accesses.push(access);
    remote += remoteCount * IOVEC_BYTES;
    if (isString) {
      strings.push({ field, at: stringAt, capacity: bytes, access });
      stringAt += bytes;
    }
  });
  for (const { argument, field } of pairs) {
    if (argument.fetch.kind !== 'comm') continue;
    strings.push({ field, at: stringAt, capacity: COMM_BYTES, access: undefined });
    stringAt += COMM_BYTES;
  }
  return { accesses, strings };
}

function widthOf(argument: ProgramArgument): 1 | 2 | 4 | 8 {
  const bits = Number(argument.type.slice(1));
  ensure(bits === 8 || bits === 16 || bits === 32 || bits === 64, `width of ${argument.type}`);
  return bits === 8 ? 1 : bits === 16 ? 2 : bits === 32 ? 4 : 8;
}

/** The pointer that a fetch follows: base and offset. */
function pointerOf(fetch: Fetch): { base: Fetch; offset: bigint } {
  if (fetch.kind === 'load') return { base: fetch.base, offset: fetch.offset };
  ensure(fetch.kind === 'stack', `a ${fetch.kind} is not read through a pointer`);
  return { base: { kind: 'register', register: 'rsp' }, offset: BigInt(fetch.index) * 8n };
}

/** Writes an access's iovecs, and zeros to an integer's slot: what arrives may be narrower. */
function emitVectors(context: EmitContext, access: Access): void {
  const { code } = context;
  const { base, offset } = pointerOf(access.argument.fetch);
  context.load('rax', base);
  if (BigInt.asIntN(32, offset) === offset) {
    if (offset !== 0n) code.add('rax', Number(offset));
  } else {
    code.mov('rdx', BigInt.asUintN(64, offset)).add('rax', 'rdx');
  }
  if (access.argument.type !== 'string') code.mov(inRecord(access.field.offset, 8), 0);
  code.lea('rdx', inRecord(access.arrivesAt)).mov(inRecord(access.local), 'rdx');
  code.mov(inRecord(access.local + 8, 8), access.bytes);
  code.mov(inRecord(access.remote), 'rax');
  if (access.remoteCount === 1) {
    code.mov(inRecord(access.remote + 8, 8), access.bytes);
    return;
  }
  // The kernel may refuse a whole iovec for its last page: the first ends where the page does.
  code
    .mov('edx', 'eax')
    .and('edx', PAGE_BYTES - 1)
    .neg('rdx')
    .add('rdx', PAGE_BYTES);
  code.mov(inRecord(access.remote + 8), 'rdx').add('rax', 'rdx');
  code.mov(inRecord(access.remote + IOVEC_BYTES), 'rax');
  code
    .neg('rdx')
    .add('rdx', access.bytes)
    .mov(inRecord(access.remote + IOVEC_BYTES + 8), 'rdx');
}

function emitFaultMaskReset({ code, parts }: EmitContext): void {
  const { faultOffset, fields } = parts.record;
  if (faultOffset === undefined) return;
  const bits = fields.filter((field) => field.faultBit !== undefined).length;
  for (let word = 0; word < Math.ceil(bits / 64); word++) {
    code.mov(inRecord(faultOffset + word * 8, 8), 0);
  }
}

/** Reads everything; afterwards each local iovec's length is what arrived for it. */
function emitRead(context: EmitContext, accesses: readonly Access[]): void {
  const { code } = context;
  const done = code.label('done');
  const first = accesses[0];
  ensure(first !== undefined, 'nothing to read');
  // A system call clobbers rcx and r11 and takes its arguments in rdi rsi rdx r10 r8 r9.
  code.push('r9').push('r10').push('rcx').push('r8').push('rsi');
  if (accesses.length > 1) {
    const remotes = accesses.reduce((sum, access) => sum + access.remoteCount, 0);
    emitCall(context, first, accesses.length, remotes);
    const total = accesses.reduce((sum, access) => sum + access.bytes, 0);
    code.cmp('rax', total).jcc('e', done, 'near');
  }
  for (const access of accesses) {
    const arrived = code.label('arrived');
    emitCall(context, access, 1, access.remoteCount);
    code.test('rax', 'rax').jcc('ns', arrived);
    code.xor('eax', 'eax');
    code.bind(arrived).mov(inRecord(access.local + 8), 'rax');
  }
  code.bind(done);
  code.pop('rsi').pop('r8').pop('rcx').pop('r10').pop('r9');
}

/** process_vm_readv(2) on ourselves; rsi, the record, is there again afterwards. */
function emitCall({ code }: EmitContext, first: Access, locals: number, remotes: number): void {
  code.mov('rcx', mem({ base: 'rsp', displacement: 16 }));
  code.mov('edi', mem({ base: 'rcx', displacement: ContextHeader.pid }));
  code.lea('r10', inRecord(first.remote)).lea('rsi', inRecord(first.local));
  code.mov('edx', locals).mov('r8d', remotes).xor('r9d', 'r9d');
  code.mov('eax', StubCall.processVmReadv).syscall();
  code.mov('rsi', mem({ base: 'rsp' }));
}

/** prctl(PR_GET_NAME) into a string's area. */
function emitTaskName({ code }: EmitContext, area: StringArea): void {
  code.push('rcx').push('rsi');
  code.lea('rsi', inRecord(area.at)).mov('edi', PR_GET_NAME);
  code.mov('eax', StubCall.prctl).syscall();
  code.pop('rsi').pop('rcx');
}

/** Marks an integer that did not arrive whole. */
function emitCheck(context: EmitContext, access: Access): void {
  const { code } = context;
  const whole = code.label('whole');
  code.cmp(inRecord(access.local + 8, 8), access.bytes).jcc('e', whole);
  emitFault(context, access.field);
  code.mov(inRecord(access.field.offset, 8), 0);
  code.bind(whole);
}

function emitFault({ code, parts }: EmitContext, field: RecordField): void {
  const { faultOffset } = parts.record;
  ensure(faultOffset !== undefined && field.faultBit !== undefined, `${field.name} cannot fault`);
  const word = faultOffset + Math.floor(field.faultBit / 64) * 8;
  code.mov('rax', 1n << BigInt(field.faultBit % 64)).or(inRecord(word), 'rax');
}

/**
 * Finds each string's end and moves the strings together behind the fixed part. Leaves in rdx the end
 * of the last one, from the record's start. A string is whole if its NUL arrived or the limit was
 * reached; otherwise what lies behind the readable part is unknown, and it is a fault.
 */
function emitStrings(context: EmitContext, strings: readonly StringArea[]): void {
  const { code, parts } = context;
  code.mov('edx', parts.record.fixedBytes);
  for (const area of strings) {
    const scan = code.label('scan');
    const unended = code.label('unended');
    const found = code.label('found');
    const place = code.label('place');
    // rdi: bytes that arrived, rax: bytes looked at, r11: the area
    if (area.access === undefined) code.mov('edi', area.capacity);
    else code.mov('rdi', inRecord(area.access.local + 8));
    code.lea('r11', inRecord(area.at)).xor('eax', 'eax');
    code.bind(scan).cmp('rax', 'rdi').jcc('ae', unended);
    code.cmp(mem({ base: 'r11', index: 'rax', width: 1 }), 0).jcc('e', found);
    code.inc('rax').jmp(scan);
    code.bind(unended).cmp('rax', area.capacity).jcc('e', found);
    if (area.access !== undefined) {
      emitFault(context, area.field);
      code.xor('eax', 'eax');
    }
    code.bind(found);
    // The slot: where the string is now, and its length above.
    code.mov('edi', 'eax').shl('rdi', 32).or('rdi', 'rdx').mov(inRecord(area.field.offset), 'rdi');
    emitMove(context, place);
    code.bind(place).add('rdx', 'rax');
  }
}

/** Moves rax bytes from r11 to the record's offset rdx, downwards; keeps rax, rcx, rdx, rsi. */
function emitMove({ code }: EmitContext, skip: ReturnType<EmitContext['code']['label']>): void {
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
function emitShrink({ code, parts }: EmitContext): void {
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
