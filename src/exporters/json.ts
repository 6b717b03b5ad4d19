/**
 * JSON lines, one object an event:
 *
 *     {"ts":"5678123456789","pid":1234,"tid":1234,"cpu":2,"comm":"zsh","event":"probe_zsh:zfree",
 *      "address":"0x55d0c4a3b2c0","args":{"ptr":93973,"size":"18446744073709551615"}}
 *
 * `ts` is CLOCK_MONOTONIC in nanoseconds, a string. Integers that a double doesn't hold exactly (beyond
 * ±2^53) are strings in decimal; a `char` is a string of one character; a value that could not be read is null. What is not UTF-8 in a string
 * becomes U+FFFD. `"late":true` is there only where an event is older than one before it.
 */

import { jsonText } from '../base/text.ts';
import type { TaskIdentity } from '../events/context.ts';
import type { EventDescriptor } from '../events/descriptor.ts';
import type { FieldType } from '../events/layout.ts';
import { widthOf, type EventView } from '../events/view.ts';
import { fragment, type Fragment, type LineBuffer } from './line-buffer.ts';
import { Remembered } from './remembered.ts';
import { MAX_INTEGER_BYTES, putDecimal } from './values.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const START = fragment('{"ts":"');
const CPU = fragment(',"cpu":');
const ARGUMENTS = fragment('","args":{');
const NULL = fragment('null');
const COMMA = 0x2c;
const OPEN = 0x5b;
const CLOSE = 0x5d;
/** Every byte as a string of one character. */
const CHARACTERS = Array.from({ length: 256 }, (_, byte) =>
  fragment(jsonText(String.fromCharCode(byte))),
);
const LATE = fragment('},"late":true}\n');
const END = fragment('}}\n');
/** Braces, time, processor, an address that the record holds. */
const FIXED_BYTES = 160;
/** The high half of 2^53: from here on an integer is written as a string. */
const EXACT_HIGH = 0x20_0000;

interface EventShape {
  /** `,"event":"…","address":"…","args":{`; up to the address's digits where the record holds it. */
  readonly head: Fragment;
  readonly hasAddress: boolean;
  /** `"name":`, with a comma in front from the second on. */
  readonly names: readonly Fragment[];
  readonly bytes: number;
}

interface TaskText {
  /** `","pid":…,"tid":…`, what follows the time. */
  readonly ids: Fragment;
  /** `,"comm":"…"`. */
  readonly comm: Fragment;
}

/** Writes events as JSON lines. */
export class JsonExporter {
  readonly #shapes = new Remembered(shapeOf);
  readonly #tasks = new Remembered(textOf);

  /** Appends one event's line. */
  format(view: EventView, out: LineBuffer): void {
    const shape = this.#shapes.of(view.descriptor);
    const task = this.#tasks.of(view.task);
    out.reserve(shape.bytes + task.ids.length + task.comm.length);
    out.put(START);
    const time = view.convertTime();
    if (time.seconds > 0) {
      out.decimal(time.seconds);
      out.padded(time.nanoseconds, 9);
    } else {
      out.decimal(time.nanoseconds);
    }
    out.put(task.ids);
    out.put(CPU);
    out.decimal(view.cpu);
    out.put(task.comm);
    out.put(shape.head);
    if (shape.hasAddress) {
      out.hex(view.addressLow, view.addressHigh);
      out.put(ARGUMENTS);
    }
    const { fields } = view;
    for (let at = 0; at < fields.length; at++) {
      const field = fields[at];
      const name = shape.names[at];
      if (field === undefined || name === undefined) break;
      out.put(name);
      if (field.count === undefined) putValue(out, view, at, field.type, shape.bytes);
      else putArray(out, view, at, field.type, field.count, shape.bytes);
    }
    out.put(view.late ? LATE : END);
  }
}

function shapeOf({ name, address, layout }: EventDescriptor): EventShape {
  const hasAddress = layout.addressOffset !== undefined;
  const shown = hasAddress ? '' : `${address.toString(16)}","args":{`;
  const head = fragment(`,"event":${jsonText(name)},"address":"0x${shown}`);
  const names = layout.fields.map((field, at) =>
    fragment(`${at > 0 ? ',' : ''}${jsonText(field.name)}:`),
  );
  // An integer may stand in quotes, a character as `\u0000`, with a comma behind.
  const each = MAX_INTEGER_BYTES + 3;
  const values = layout.fields.reduce((sum, { count = 1 }) => sum + count * each + 2, 0);
  const fixed = names.reduce((sum, text) => sum + text.length, head.length + values);
  return { head, hasAddress, names, bytes: fixed + FIXED_BYTES };
}

function textOf({ pid, tid, comm }: TaskIdentity): TaskText {
  return {
    ids: fragment(`","pid":${pid},"tid":${tid}`),
    comm: fragment(`,"comm":${jsonText(comm)}`),
  };
}

/** An array; one of integers that was not read whole is null. */
function putArray(
  out: LineBuffer,
  view: EventView,
  field: number,
  type: FieldType,
  count: number,
  room: number,
): void {
  if (type !== 'string' && view.isFault(field)) {
    out.put(NULL);
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
  if (view.isFault(field, element)) out.put(NULL);
  else if (type === 'string') putString(out, view, field, room, element);
  else if (type === 'char') out.put(CHARACTERS[view.low(field, element) & 0xff] ?? NULL);
  else putInteger(out, view, field, type, element);
}

function putInteger(
  out: LineBuffer,
  view: EventView,
  field: number,
  type: FieldType,
  element: number,
): void {
  if (widthOf(type) < 64 || isExact(view.high(field, element), view.low(field, element), type)) {
    putDecimal(out, view, field, type, element);
    return;
  }
  out.byte(QUOTE);
  putDecimal(out, view, field, type, element);
  out.byte(QUOTE);
}

/** Whether a 64-bit number is a safe integer: below 2^53, or above -2^53. */
function isExact(high: number, low: number, type: FieldType): boolean {
  if (type !== 's64' || high < 0x8000_0000) return high < EXACT_HIGH;
  const least = 0xffff_ffff - EXACT_HIGH + 1;
  return high > least || (high === least && low > 0);
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
  const from = view.batch.bytes;
  const undo = out.length;
  const into = out.bytes;
  let at = out.length;
  into[at++] = QUOTE;
  for (let place = start; place < start + length; place++) {
    const byte = from[place] ?? 0;
    if (byte < 0x20 || byte >= 0x7f || byte === QUOTE || byte === BACKSLASH) {
      out.length = undo;
      out.text(jsonText(view.string(field, element)));
      out.reserve(room);
      return;
    }
    into[at++] = byte;
  }
  out.length = at;
  out.byte(QUOTE);
}
