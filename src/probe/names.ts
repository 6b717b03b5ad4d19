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
  // A version is no part of the name; `free@plt` is another place than `free`.
  const name = identifier(location.name.replace(/(?<=.)@(?!plt$).*$/s, ''));
  const suffix = location.offset === 0 ? '' : `_${hex(location.offset)}`;
  return { group: joined(group, ''), event: joined(name, suffix) };
}

function baseOf(file: string): string {
  return file.slice(file.lastIndexOf('/') + 1);
}

/** What the probes of one event have in common. */
export interface EventShape {
  readonly isReturn: boolean;
  /** Name and type of each argument, in order. */
  readonly fields: readonly string[];
  /** The probe itself, as it is printed. */
  readonly definition: string;
}

/** Why a probe can't join an event: the kernel's classes, and for its arguments which one is the first. */
export type JoinProblem =
  | { readonly what: 'eventExists' | 'differentProbeType' | 'sameProbe' }
  | { readonly what: 'differentArguments'; readonly argument: number };

/** Hands out event names so that no two events of a session have the same. */
export class EventNames {
  /** By name; with the probes that joined it, if it was named by somebody. */
  readonly #taken = new Map<string, EventShape[]>();

  /** Takes `wanted`, or where it is taken the first free one of `wanted_1`, `wanted_2` … as perf does. */
  take(wanted: EventName): EventName {
    let name = wanted;
    for (let count = 1; this.#taken.has(keyOf(name)); count++) {
      name = { group: wanted.group, event: joined(wanted.event, `_${count}`) };
    }
    this.#taken.set(keyOf(name), []);
    return name;
  }

  /**
   * Adds a probe to the event of this very name, which is made if there is none: an event may have several
   * probes, whose arguments are the same (kernel/trace/trace_uprobe.c, append_trace_uprobe).
   * @returns why that can't be; nothing has changed then.
   */
  join(name: EventName, shape: EventShape): JoinProblem | undefined {
    const shapes = this.#taken.get(keyOf(name));
    const first = shapes?.[0];
    if (shapes === undefined || first === undefined) {
      if (shapes !== undefined) return { what: 'eventExists' };
      this.#taken.set(keyOf(name), [shape]);
      return undefined;
    }
    if (first.isReturn !== shape.isReturn) return { what: 'differentProbeType' };
    const length = Math.max(first.fields.length, shape.fields.length);
    for (let at = 0; at < length; at++) {
      if (first.fields[at] !== shape.fields[at])
        return { what: 'differentArguments', argument: at };
    }
    if (shapes.some(({ definition }) => definition === shape.definition)) {
      return { what: 'sameProbe' };
    }
    shapes.push(shape);
    return undefined;
  }

  /**
   * Gives a name back, so that another event may have it.
   * @param shape the probe that leaves an event that it joined.
   */
  release(name: EventName, shape?: EventShape): void {
    const shapes = this.#taken.get(keyOf(name));
    if (shape !== undefined && shapes?.includes(shape) === true) {
      shapes.splice(shapes.indexOf(shape), 1);
    }
    if (shapes?.length === 0) this.#taken.delete(keyOf(name));
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
