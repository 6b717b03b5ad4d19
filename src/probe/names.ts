/** The names of events: generated as perf and the kernel generate them, unique in a session. */

import { hex } from '../base/brand.ts';
import type { ProbeLocation } from './location.ts';

/** The name of an event. People see `event`; `group:event` tells it apart from other files' events. */
export interface EventName {
  readonly group: string;
  readonly event: string;
}

/** The longest group or event name (MAX_EVENT_NAME_LEN, less its NUL). */
export const MAX_EVENT_NAME = 63;

/**
 * The name that an event has if nobody names it: `probe_FILE:FUNCTION` as perf has it, with `_0xOFFSET`
 * behind the function if there is one; `uprobes:p_FILE_0xOFFSET` as the kernel has it for a file offset.
 * All parts made C identifiers, and cut to {@link MAX_EVENT_NAME}.
 * @param location with the resolved function's name, where a glob named it.
 */
export function generateEventName(location: ProbeLocation): EventName {
  const base = location.file.slice(location.file.lastIndexOf('/') + 1);
  if (location.kind === 'offset') {
    // The kernel cuts the name there (kernel/trace/trace_uprobe.c), whatever the offset's length.
    const stem = identifier(`p_${base.replace(/[._-].*$/s, '')}`);
    return { group: 'uprobes', event: joined(stem, `_${hex(location.offset)}`) };
  }
  const group = identifier(`probe_${base.replace(/\.so(?:[.-].*)?$/s, '')}`);
  const version = location.name.indexOf('@', 1);
  const name = identifier(version < 0 ? location.name : location.name.slice(0, version));
  const suffix = location.offset === 0 ? '' : `_${hex(location.offset)}`;
  return { group: joined(group, ''), event: joined(name, suffix) };
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
