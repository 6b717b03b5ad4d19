/** Rings full of records, as stubs leave them. */

import {
  ContextHeader,
  layoutRecord,
  RecordHeader,
  SegmentHeader,
  type RecordLayout,
  type SegmentLayout,
} from '../src/events/layout.ts';

const WORD = 4_294_967_296;

/** Two 64-bit arguments: 32 bytes. */
export const TWO_ARGUMENTS: RecordLayout = layoutRecord([
  { name: 'ptr', type: 'x64', canFault: false },
  { name: 'size', type: 'u64', canFault: false },
]);

/** Gives every context a task. */
export function claimContexts(buffer: SharedArrayBuffer, layout: SegmentLayout): void {
  for (let context = 0; context < layout.contextCount; context++) {
    const at = layout.contextsOffset + context * layout.contextStride;
    const header = new Uint32Array(buffer, at, 4);
    header[ContextHeader.tid / 4] = 4242 + context;
    header[ContextHeader.pid / 4] = 4242;
    const positions = new BigUint64Array(buffer, at, 512);
    positions[ContextHeader.tail / 8] = BigInt(layout.ringBytes);
    positions[ContextHeader.head / 8] = BigInt(layout.ringBytes);
    new Uint8Array(buffer, at + ContextHeader.comm, 16).set(Buffer.from('trapline-bench'));
    Atomics.store(header, ContextHeader.ready / 4, 1);
  }
  const claimed = new BigUint64Array(buffer, SegmentHeader.claimed, 1);
  Atomics.store(claimed, 0, BigInt(layout.contextCount));
}

/**
 * Fills what is free in every ring, the rings' times interleaved from `ticks` on, one tick apart.
 * @returns how many records
 */
export function fillRings(buffer: SharedArrayBuffer, layout: SegmentLayout, ticks: bigint): number {
  let records = 0;
  for (let context = 0; context < layout.contextCount; context++) {
    records += fillRing(buffer, layout, context, Number(ticks));
  }
  return records;
}

function fillRing(
  buffer: SharedArrayBuffer,
  layout: SegmentLayout,
  context: number,
  ticks: number,
): number {
  const { ringBytes, contextCount } = layout;
  const start = layout.contextsOffset + context * layout.contextStride;
  const positions = new BigUint64Array(buffer, start, 512);
  const tail = Number(Atomics.load(positions, ContextHeader.tail / 8));
  const head = Number(Atomics.load(positions, ContextHeader.head / 8));
  const words = new Uint32Array(buffer, start + layout.ringOffset, ringBytes / 4);
  const bytes = TWO_ARGUMENTS.fixedBytes;
  let records = 0;
  let position = head;
  for (; position + bytes - tail <= ringBytes; position += bytes, records++) {
    const at = (position % ringBytes) / 4;
    const time = ticks + records * contextCount + context;
    words[at] = position / 8;
    words[at + 1] = (context & 1) << 16; // event 0, on one of two processors
    words[at + RecordHeader.clock / 4] = time % WORD;
    words[at + RecordHeader.clock / 4 + 1] = Math.floor(time / WORD);
    words[at + 4] = (position * 2654435761) % WORD; // an address
    words[at + 5] = 0x7f52;
    words[at + 6] = (records * 24) & 0xffff; // a size
    words[at + 7] = 0;
  }
  Atomics.store(positions, ContextHeader.head / 8, BigInt(position));
  return records;
}
