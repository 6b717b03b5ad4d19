/** The names of events: generated as perf and the kernel generate them, unique in a session. */

import { hex } from '../base/brand.ts';
import { unreachable } from '../base/errors.ts';
import type { FunctionLocation, ProbeLocation } from './location.ts';

/** The name of an event. People see `event`; `group:event` tells it apart from other files' events. */
export interface EventName {
  readonly group: string;
  readonly event: string;
}

/** The longest group or event name (MAX_EVENT_NAME_LEN, less its NUL). */
export const MAX_EVENT_NAME = 63;

/**
 * The name that an event has if nobody names it: `probe_FILE:FUNCTION` as perf has it, with `_0xOFFSET`
 * behind the function if there is one, its parts made C identifiers; `uprobes:p_FILE_0xOFFSET` as the
 * kernel has it for a file offset, whatever the file's characters; `uprobes:p_PID_0xADDRESS` as the kernel
 * once had it. All cut to {@link MAX_EVENT_NAME}.
 * @param location with the resolved function's name, where a glob named it.
 */
export function generateEventName(location: ProbeLocation): EventName {
  switch (location.kind) {
    case 'offset':
      return placeName(baseOf(location.file).replace(/[._-].*$/s, ''), hex(location.offset));
    case 'address':
      return placeName(`${location.pid}`, `0x${location.address.toString(16).padStart(16, '0')}`);
    case 'inode':
      return placeName(`${location.inode}`, hex(location.offset));
    case 'function':
      return functionName(location);
    default:
      return unreachable(location);
  }
}

/** `p_STEM_0x…`, as snprintf cuts it (kernel/trace/trace_uprobe.c). */
function placeName(stem: string, place: string): EventName {
  return { group: 'uprobes', event: `p_${stem}_${place}`.slice(0, MAX_EVENT_NAME) };
}

function functionName(location: FunctionLocation): EventName {
  const group = identifier(`probe_${baseOf(location.file).replace(/\.so(?:[.-].*)?$/s, '')}`);
  const version = location.name.indexOf('@', 1);
  const name = identifier(version < 0 ? location.name : location.name.slice(0, version));
  const suffix = location.offset === 0 ? '' : `_${hex(location.offset)}`;
  return { group: joined(group, ''), event: joined(name, suffix) };
}

function baseOf(file: string): string {
  return file.slice(file.lastIndexOf('/') + 1);
}

/** Hands out event names so that no two events of a session have the same. */
export class EventNames {
  readonly #taken = new Set<string>();

  /** Takes `wanted`, or where it is taken the first free one of `wanted_1`, `wanted_2` … as perf does. */
  take(wanted: EventName): EventName {
    let name = wanted;
    for (let count = 1; this.#taken.has(keyOf(name)); count++) {
      name = { group: wanted.group, event: joined(wanted.event, `_${count}`) };
    }
    this.#taken.add(keyOf(name));
    return name;
  }

  /** Gives a name back, so that another event may have it. */
  release(name: EventName): void {
    this.#taken.delete(keyOf(name));
  }
}

function keyOf({ group, event }: EventName): string {
  return `${group}:${event}`;
}

/** A C identifier that resembles `text`: runs of other characters become `_`, and nothing at its end. */
function identifier(text: string): string {
  const name = text.replace(/\W+$/, '').replaceAll(/\W+/g, '_');
  return /^[A-Za-z_]/.test(name) ? name : `_${name}`;
}

/** `stem` and `suffix`, the stem cut so that both together are short enough. */
function joined(stem: string, suffix: string): string {
  return stem.slice(0, MAX_EVENT_NAME - suffix.length) + suffix;
}
