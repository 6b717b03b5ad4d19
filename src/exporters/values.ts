/** Integer fields as decimal or hexadecimal digits. */

import { narrow, widthOf, type EventView } from '../events/view.ts';
import type { FieldType } from '../events/layout.ts';
import type { LineBuffer } from './line-buffer.ts';

const MINUS = 0x2d;
const WORD = 4_294_967_296;

/** The most bytes that an integer takes: a sign and 20 digits, or 0x and 16. */
export const MAX_INTEGER_BYTES = 21;

/** The name of an address in a process, where one is known. */
export type SymbolLookup = (pid: number, address: bigint) => string | undefined;

/** Writes an integer field in decimal, with the sign of its type. The caller reserved the bytes. */
export function putDecimal(
  out: LineBuffer,
  view: EventView,
  field: number,
  type: FieldType,
  element = 0,
): void {
  const low = view.low(field, element);
  if (widthOf(type) === 64) {
    const high = view.high(field, element);
    if (type !== 's64' || high < 0x8000_0000) {
      out.unsigned(low, high);
      return;
    }
    // The two's complement: what is left of 2^64, carried from the low half to the high one.
    out.byte(MINUS);
    out.unsigned(low === 0 ? 0 : WORD - low, (low === 0 ? WORD : WORD - 1) - high);
    return;
  }
  const value = narrow(type, low);
  if (value < 0) out.byte(MINUS);
  out.decimal(Math.abs(value));
}

/** Writes an integer field in hexadecimal, without 0x. The caller reserved the bytes. */
export function putHex(
  out: LineBuffer,
  view: EventView,
  field: number,
  type: FieldType,
  element = 0,
): void {
  const low = view.low(field, element);
  if (widthOf(type) === 64) out.hex(low, view.high(field, element));
  else out.hex(narrow(type, low), 0);
}
