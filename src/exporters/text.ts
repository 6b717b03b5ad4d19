/**
 * The kernel's trace line without its flags column, as `cat /sys/kernel/tracing/trace` prints it with
 * the option `noirq-info`: kernel/trace/trace_output.c, trace_print_context ("%16s-%-7d [%03d] ") and
 * trace_print_time (" %5lu.%06lu"); trace_uprobe.c, print_uprobe_event; trace_probe.c for the values.
 *
 *                 zsh-1234    [002]   5678.123456: zfree: (0x55d0c4a3b2c0) ptr=0x5581 size=16
 *
 * Two things differ: control characters in names and strings are written as `\x1b`, since a target's
 * string must not drive the terminal or break a line; and a string that was cut has `...` behind it, as gdb has it.
 */

import type { TaskIdentity } from '../events/context.ts';
import type { EventDescriptor } from '../events/descriptor.ts';
import type { EventView } from '../events/view.ts';
import { fragment, type Fragment, type LineBuffer } from './line-buffer.ts';
import type { FieldType } from '../events/layout.ts';
import { Remembered } from './remembered.ts';
import { MAX_INTEGER_BYTES, putDecimal, putHex, type SymbolLookup } from './values.ts';

const SPACE = 0x20;
const QUOTE = 0x22;
const PARENTHESIS = 0x29;
const POINT = 0x2e;
const NEWLINE = 0x0a;
const FAULT_TEXT = fragment('(fault)');
const CUT_TEXT = fragment('...');
const HEX_PREFIX = fragment('0x');
const APOSTROPHE = 0x27;
const COMMA = 0x2c;
const OPEN = 0x7b;
const CLOSE = 0x7d;
/** Every byte as `\x1b`. */
const BYTES = Array.from({ length: 256 }, (_, byte) =>
  fragment(`\\x${byte.toString(16).padStart(2, '0')}`),
);
/** An integer or `(fault)`, with quotes and a comma around it. */
const MAX_ELEMENT_BYTES = MAX_INTEGER_BYTES + 4;
/** Task, processor, time, address: at most 16 × 4 + 9, 8, 24 and 17 bytes, rounded up. */
const PREFIX_BYTES = 160;

interface EventShape {
  /** `: zfree: (0x55…)`; without address and parenthesis where the record holds the address. */
  readonly head: Fragment;
  readonly hasAddress: boolean;
  /** ` name=` by field. */
  readonly names: readonly Fragment[];
  /** Everything of a line but its strings and its task. */
  readonly bytes: number;
}

/** Writes events as lines of the kernel's trace. */
export class TextExporter {
  readonly #shapes = new Remembered(shapeOf);
  readonly #tasks = new Remembered(textOf);
  readonly #symbols: SymbolLookup;

  /** @param symbols names values of type `symbol`; the others are shown as addresses. */
  constructor(symbols: SymbolLookup = () => undefined) {
    this.#symbols = symbols;
  }

  /** Appends one event's line. */
  format(view: EventView, out: LineBuffer): void {
    const shape = this.#shapes.of(view.descriptor);
    const task = this.#tasks.of(view.task);
    out.reserve(shape.bytes + task.length);
    out.put(task);
    out.padded(view.cpu, view.cpu < 1000 ? 3 : 5);
    const time = view.convertTime();
    putTime(out, time.seconds, time.nanoseconds);
    out.put(shape.head);
    if (shape.hasAddress) {
      out.hex(view.addressLow, view.addressHigh);
      out.byte(PARENTHESIS);
    }
    const { fields } = view;
    for (let at = 0; at < fields.length; at++) {
      const field = fields[at];
      const name = shape.names[at];
      if (field === undefined || name === undefined) break;
      out.put(name);
      if (field.type === 'symbol') this.#putSymbols(out, view, at, shape.bytes);
      else if (field.count === undefined) putValue(out, view, at, field.type, shape.bytes);
      else putArray(out, view, at, field.type, field.count, shape.bytes);
    }
    out.byte(NEWLINE);
  }

  #putSymbols(out: LineBuffer, view: EventView, field: number, room: number): void {
    const { count } = view.fields[field] ?? {};
    if (view.isFault(field)) {
      out.put(FAULT_TEXT);
      return;
    }
    if (count !== undefined) out.byte(OPEN);
    for (let element = 0; element < (count ?? 1); element++) {
      if (element > 0) out.byte(COMMA);
      const at = view.bigint(field, element);
      out.text(visible(this.#symbols(view.pid, at) ?? `0x${at.toString(16)}`));
      out.reserve(room);
    }
    if (count !== undefined) out.byte(CLOSE);
  }
}

function shapeOf(descriptor: EventDescriptor): EventShape {
  const { address, layout } = descriptor;
  // The kernel prints the event's name, not its group.
  const name = descriptor.name.slice(descriptor.name.indexOf(':') + 1);
  const hasAddress = layout.addressOffset !== undefined;
  const head = fragment(`: ${visible(name)}: (0x${hasAddress ? '' : `${address.toString(16)})`}`);
  const names = layout.fields.map((field) => fragment(` ${visible(field.name)}=`));
  const values = layout.fields.reduce((sum, { count = 1 }) => sum + count * MAX_ELEMENT_BYTES, 0);
  const fixed = names.reduce((sum, each) => sum + each.length, head.length + values);
  return { head, hasAddress, names, bytes: fixed + PREFIX_BYTES };
}

/** `            comm-tid     [`. */
function textOf({ comm, tid }: TaskIdentity): Fragment {
  return fragment(`${visible(comm).padStart(16)}-${String(tid).padEnd(7)} [`);
}

/** `]   5678.123456`: microseconds are rounded, as ns2usecs does. */
function putTime(out: LineBuffer, seconds: number, nanoseconds: number): void {
  let micros = Math.floor((nanoseconds + 500) / 1000);
  let whole = seconds;
  if (micros === 1_000_000) {
    micros = 0;
    whole++;
  }
  out.byte(0x5d);
  out.byte(SPACE);
  out.byte(SPACE);
  for (let limit = 10_000; limit > 1 && whole < limit; limit /= 10) out.byte(SPACE);
  out.decimal(whole);
  out.byte(POINT);
  out.padded(micros, 6);
}

/** `{1,2,3}`; one of integers that was not read whole is one fault. */
function putArray(
  out: LineBuffer,
  view: EventView,
  field: number,
  type: FieldType,
  count: number,
  room: number,
): void {
  if (type !== 'string' && view.isFault(field)) {
    out.put(FAULT_TEXT);
    return;
  }
  out.byte(OPEN);
  for (let element = 0; element < count; element++) {
    if (element > 0) out.byte(COMMA);
    putValue(out, view, field, type, room, element);
  }
  out.byte(CLOSE);
}

/** @param room what the rest of the line takes, strings aside. */
function putValue(
  out: LineBuffer,
  view: EventView,
  field: number,
  type: FieldType,
  room: number,
  element = 0,
): void {
  if (view.isFault(field, element)) {
    out.put(FAULT_TEXT);
  } else if (type === 'string') {
    putString(out, view, field, room, element);
    if (view.stringLength(field, element) === view.fields[field]?.cutAt) out.put(CUT_TEXT);
  } else if (type === 'char') {
    out.byte(APOSTROPHE);
    putCharacter(out, view.low(field, element) & 0xff);
    out.byte(APOSTROPHE);
  } else if (type.charCodeAt(0) === 0x78) {
    out.put(HEX_PREFIX);
    putHex(out, view, field, type, element);
  } else {
    putDecimal(out, view, field, type, element);
  }
}

/** One byte: what is not printable ASCII as `\x1b`. */
function putCharacter(out: LineBuffer, byte: number): void {
  if (byte >= 0x20 && byte < 0x7f) out.byte(byte);
  else out.put(BYTES[byte] ?? BYTES[0] ?? FAULT_TEXT);
}

function putString(
  out: LineBuffer,
  view: EventView,
  field: number,
  room: number,
  element: number,
): void {
  const start = view.stringOffset(field, element);
  const length = view.stringLength(field, element);
  out.reserve(length + room);
  out.byte(QUOTE);
  const from = view.batch.bytes;
  const undo = out.length;
  let at = out.length;
  const into = out.bytes;
  for (let place = start; place < start + length; place++) {
    const byte = from[place] ?? 0;
    if (byte < 0x20 || byte >= 0x7f) {
      out.length = undo;
      const text = visible(view.string(field, element));
      out.text(text);
      out.reserve(room);
      out.byte(QUOTE);
      return;
    }
    into[at++] = byte;
  }
  out.length = at;
  out.byte(QUOTE);
}

/** Text with its control characters (C0, DEL, C1) as `\xNN`. */
export function visible(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (character) => {
    const code = character.charCodeAt(0);
    return code > 0xff ? `\\u${code.toString(16)}` : `\\x${code.toString(16).padStart(2, '0')}`;
  });
}
