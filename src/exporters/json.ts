/**
 * JSON lines, one object an event:
 *
 *     {"ts":"5678123456789","pid":1234,"tid":1234,"cpu":2,"comm":"zsh","event":"probe_zsh:zfree",
 *      "address":"0x55d0c4a3b2c0","args":{"ptr":93973,"size":"18446744073709551615"}}
 *
 * `ts` is CLOCK_MONOTONIC in nanoseconds, a string. Integers that a double doesn't hold exactly (beyond
 * ±2^53) are strings in decimal; a value that could not be read is null. What is not UTF-8 in a string
 * becomes U+FFFD. `"late":true` is there only where an event is older than one before it.
 */

import type { TaskIdentity } from '../events/context.ts';
import type { EventDescriptor } from '../events/descriptor.ts';
import type { FieldType } from '../events/layout.ts';
import { widthOf, type EventView } from '../events/view.ts';
import { fragment, type Fragment, type LineBuffer } from './line-buffer.ts';
import { MAX_INTEGER_BYTES, putDecimal } from './values.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const START = fragment('{"ts":"');
const CPU = fragment(',"cpu":');
const NULL = fragment('null');
const LATE = fragment('},"late":true}\n');
const END = fragment('}}\n');
/** Braces, time, processor. */
const FIXED_BYTES = 120;
/** The high half of 2^53: from here on an integer is written as a string. */
const EXACT_HIGH = 0x20_0000;

interface EventShape {
  readonly descriptor: EventDescriptor;
  /** `,"event":"…","address":"…","args":{`. */
  readonly head: Fragment;
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
  readonly #shapes = new WeakMap<EventDescriptor, EventShape>();
  readonly #tasks = new WeakMap<TaskIdentity, TaskText>();
  #shape: EventShape | undefined;
  #task: TaskIdentity | undefined;
  #taskText: TaskText = { ids: new Uint8Array(0), comm: new Uint8Array(0) };

  /** Appends one event's line. */
  format(view: EventView, out: LineBuffer): void {
    const shape = this.#shapeOf(view.descriptor);
    const task = this.#textOf(view.task);
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
    const { fields } = view;
    for (let at = 0; at < fields.length; at++) {
      const field = fields[at];
      const name = shape.names[at];
      if (field === undefined || name === undefined) break;
      out.put(name);
      if (view.isFault(at)) out.put(NULL);
      else if (field.type === 'string') putString(out, view, at, shape.bytes);
      else putInteger(out, view, at, field.type);
    }
    out.put(view.late ? LATE : END);
  }

  #shapeOf(descriptor: EventDescriptor): EventShape {
    if (this.#shape?.descriptor === descriptor) return this.#shape;
    let shape = this.#shapes.get(descriptor);
    if (shape === undefined) {
      const address = `0x${descriptor.address.toString(16)}`;
      const head = fragment(
        `,"event":${JSON.stringify(descriptor.name)},"address":"${address}","args":{`,
      );
      const names = descriptor.layout.fields.map((field, at) =>
        fragment(`${at > 0 ? ',' : ''}${JSON.stringify(field.name)}:`),
      );
      // An integer may stand in quotes.
      const each = MAX_INTEGER_BYTES + 2;
      const fixed = names.reduce((sum, name) => sum + name.length + each, head.length);
      shape = { descriptor, head, names, bytes: fixed + FIXED_BYTES };
      this.#shapes.set(descriptor, shape);
    }
    this.#shape = shape;
    return shape;
  }

  #textOf(task: TaskIdentity): TaskText {
    if (this.#task === task) return this.#taskText;
    let text = this.#tasks.get(task);
    if (text === undefined) {
      text = {
        ids: fragment(`","pid":${task.pid},"tid":${task.tid}`),
        comm: fragment(`,"comm":${JSON.stringify(task.comm)}`),
      };
      this.#tasks.set(task, text);
    }
    this.#task = task;
    this.#taskText = text;
    return text;
  }
}

function putInteger(out: LineBuffer, view: EventView, field: number, type: FieldType): void {
  if (widthOf(type) < 64 || isExact(view.high(field), view.low(field), type)) {
    putDecimal(out, view, field, type);
    return;
  }
  out.byte(QUOTE);
  putDecimal(out, view, field, type);
  out.byte(QUOTE);
}

/** Whether a 64-bit number is a safe integer: below 2^53, or above -2^53. */
function isExact(high: number, low: number, type: FieldType): boolean {
  if (type !== 's64' || high < 0x8000_0000) return high < EXACT_HIGH;
  const least = 0xffff_ffff - EXACT_HIGH + 1;
  return high > least || (high === least && low > 0);
}

function putString(out: LineBuffer, view: EventView, field: number, room: number): void {
  const start = view.stringOffset(field);
  const length = view.stringLength(field);
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
      out.text(JSON.stringify(view.string(field)));
      out.reserve(room);
      return;
    }
    into[at++] = byte;
  }
  out.length = at;
  out.byte(QUOTE);
}
