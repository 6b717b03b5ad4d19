/** The notes in a file of raw records: JSON from outside, checked member by member. */

import type { ClockPoint } from '../events/clock.ts';
import type { TaskIdentity } from '../events/context.ts';
import type { EventDescriptor } from '../events/descriptor.ts';
import {
  MAX_RECORD_BYTES,
  type FieldType,
  type RecordField,
  type RecordLayout,
} from '../events/layout.ts';

/** One note; see raw.ts. */
export type RawNote =
  | { readonly kind: 'clock'; readonly point: ClockPoint; readonly ticksPerSecond: number }
  | {
      readonly kind: 'event';
      readonly segment: number;
      readonly id: number;
      readonly descriptor: EventDescriptor;
    }
  | {
      readonly kind: 'source';
      readonly id: number;
      readonly segment: number;
      readonly task: TaskIdentity;
    };

const FIELD_TYPES: readonly FieldType[] = [
  ...(['u8', 'u16', 'u32', 'u64', 's8', 's16', 's32', 's64'] as const), // literals for FieldType
  ...(['x8', 'x16', 'x32', 'x64', 'char', 'symbol', 'string'] as const), // likewise
];

type Members = ReadonlyMap<string, unknown>;

/**
 * Reads a note.
 * @throws SyntaxError or TypeError where it is none; the caller adds where it stands.
 */
export function parseNote(text: string): RawNote {
  const note = members(JSON.parse(text));
  if (note.has('clock')) {
    const clock = members(note.get('clock'));
    const point = { ticks: wide(clock, 'ticks'), nanoseconds: wide(clock, 'nanoseconds') };
    const ticksPerSecond = clock.get('ticksPerSecond');
    if (typeof ticksPerSecond !== 'number') throw new TypeError('ticksPerSecond is no number');
    return { kind: 'clock', point, ticksPerSecond };
  }
  if (note.has('event')) {
    const event = members(note.get('event'));
    const descriptor = {
      name: textOf(event, 'name'),
      address: wide(event, 'address'),
      layout: layoutOf(members(event.get('layout'))),
    };
    return { kind: 'event', segment: whole(event, 'segment'), id: whole(event, 'id'), descriptor };
  }
  const source = members(note.get('source'));
  const task = {
    pid: whole(source, 'pid'),
    tid: whole(source, 'tid'),
    comm: textOf(source, 'comm'),
  };
  return { kind: 'source', id: whole(source, 'id'), segment: whole(source, 'segment'), task };
}

function layoutOf(layout: Members): RecordLayout {
  const fields = layout.get('fields');
  if (!Array.isArray(fields)) throw new TypeError('fields is no array');
  return {
    fields: fields.map((field) => fieldOf(members(field))),
    sizeOffset: layout.has('sizeOffset') ? whole(layout, 'sizeOffset') : undefined,
    faultOffset: layout.has('faultOffset') ? whole(layout, 'faultOffset') : undefined,
    fixedBytes: whole(layout, 'fixedBytes'),
    scratchOffset: whole(layout, 'scratchOffset'),
    maxBytes: whole(layout, 'maxBytes'),
  };
}

function fieldOf(field: Members): RecordField {
  const type = FIELD_TYPES.find((known) => known === field.get('type'));
  if (type === undefined) throw new TypeError('a field of unknown type');
  return {
    name: textOf(field, 'name'),
    type,
    offset: whole(field, 'offset'),
    faultBit: field.has('faultBit') ? whole(field, 'faultBit') : undefined,
    ...(field.has('count') ? { count: countOf(field) } : {}),
    ...(field.has('cutAt') ? { cutAt: whole(field, 'cutAt') } : {}),
  };
}

function countOf(field: Members): number {
  const count = whole(field, 'count');
  if (count >= 1 && count <= MAX_RECORD_BYTES) return count;
  throw new TypeError('an array of impossible size');
}

function members(value: unknown): Members {
  if (typeof value !== 'object' || value === null) throw new TypeError('an object is missing');
  return new Map<string, unknown>(Object.entries(value));
}

function whole(object: Members, name: string): number {
  const value = object.get(name);
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw new TypeError(`${name} is no whole number of 32 bits`);
  }
  return value;
}

function wide(object: Members, name: string): bigint {
  const value = object.get(name);
  if (typeof value !== 'string' || !/^[0-9]{1,20}$/.test(value)) {
    throw new TypeError(`${name} is no number in a string`);
  }
  return BigInt.asUintN(64, BigInt(value));
}

function textOf(object: Members, name: string): string {
  const value = object.get(name);
  if (typeof value !== 'string') throw new TypeError(`${name} is no string`);
  return value;
}
