/** The kernel's command word: `p`, `p:GROUP/EVENT`, `r8:EVENT`, `-:GROUP/EVENT`. */

import { MAX_EVENT_NAME } from './names.ts';
import { parseUnsigned } from './numbers.ts';
import { refusal } from './refusals.ts';
import type { Word } from './tokens.ts';

/** What a command word says. */
export interface ProbeCommand {
  readonly kind: 'probe' | 'return' | 'remove';
  readonly group?: string;
  readonly event?: string;
  /** Returns that may be awaited at the same time; of return probes only. */
  readonly maxActive?: number;
}

/** The largest MAXACTIVE that the kernel takes of a kretprobe (KRETPROBE_MAXACTIVE_MAX). */
const MOST_ACTIVE = 4096n;

/**
 * Parses a command word.
 * @param text the whole definition, for errors.
 * @throws TraplineError `bad-definition`, with the kernel's wording and column.
 */
export function parseCommand(text: string, word: Word): ProbeCommand {
  const colon = word.text.indexOf(':');
  const head = colon < 0 ? word.text : word.text.slice(0, colon);
  const kind = head === 'p' ? 'probe' : head === '-' ? 'remove' : 'return';
  const names =
    colon < 0 ? {} : parseNames(text, word.text.slice(colon + 1), word.column + colon + 1);
  if (kind !== 'return' || head === 'r') return { kind, ...names };
  const count = parseUnsigned(head.slice(1));
  if (count === undefined || count === 0n || count > MOST_ACTIVE) {
    throw refusal(text, word.column + 1, 'badMaxActive', `it is from 1 to ${MOST_ACTIVE}`);
  }
  return { kind, ...names, maxActive: Number(count) };
}

/** Writes a command word so that {@link parseCommand} reads the same. */
export function printCommand({ kind, group, event, maxActive }: ProbeCommand): string {
  const letter = kind === 'probe' ? 'p' : kind === 'remove' ? '-' : 'r';
  const names = group === undefined ? (event ?? '') : `${group}/${event ?? ''}`;
  return `${letter}${maxActive ?? ''}${names === '' ? '' : `:${names}`}`;
}

/** `[GROUP/][EVENT]`; the kernel takes a point for the slash, too. */
function parseNames(
  text: string,
  names: string,
  column: number,
): { readonly group?: string; readonly event?: string } {
  const slash = names.includes('/') ? names.indexOf('/') : names.indexOf('.');
  const group = slash < 0 ? undefined : names.slice(0, slash);
  const event = names.slice(slash + 1);
  const eventColumn = column + slash + 1;
  if (group !== undefined) {
    if (group === '') throw refusal(text, column, 'noGroupName');
    if (Buffer.byteLength(group) > MAX_EVENT_NAME) throw refusal(text, column, 'groupTooLong');
    // The kernel allows a '-' in a group, not in an event.
    if (!/^[A-Za-z_][\w-]*$/.test(group)) throw refusal(text, column, 'badGroupName');
  }
  if (event === '') {
    if (group !== undefined) return { group };
    throw refusal(text, eventColumn, 'noEventName');
  }
  if (Buffer.byteLength(event) > MAX_EVENT_NAME) throw refusal(text, eventColumn, 'eventTooLong');
  if (!/^[A-Za-z_]\w*$/.test(event)) throw refusal(text, eventColumn, 'badEventName');
  return group === undefined ? { event } : { group, event };
}
