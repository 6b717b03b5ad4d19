/** Hits of a segment that is looked at from outside: by somebody who does not read its rings. */

import {
  CONSUMER_COUNTER_BYTES,
  ConsumerCounter,
  layoutSegment,
  SEGMENT_MAGIC,
  SEGMENT_VERSION,
  SegmentHeader,
  SHARED_COUNTER_BYTES,
  SharedCounter,
  type SegmentLayout,
} from './layout.ts';
import { PAGE_BYTES } from '../base/page.ts';

/** Reads bytes of a segment, from its start; undefined where they can't be read. */
export type ReadSegment = (offset: number, length: number) => Uint8Array | undefined;

/** No session has a larger one: its size is bounded by options. */
const MOST_CONTEXTS = 1 << 20;
const MOST_CONSUMERS = 1 << 16;
const MOST_RING_BYTES = 1 << 30;
/** What is read of counters at most, in bytes: a target may claim whatever it likes. */
const MOST_READ = 256 << 20;

/**
 * The hits of consumers so far, by their event ids. The segment is the target's to write: what it says of its own
 * shape is bounded, and must fit.
 * @param totalBytes of the segment
 * @returns undefined where it is no segment that this version knows.
 */
export function readHits(
  read: ReadSegment,
  totalBytes: number,
  consumers: readonly number[],
): ReadonlyMap<number, number> | undefined {
  const header = viewOf(read(0, PAGE_BYTES));
  const layout = header && layoutOf(header);
  if (layout === undefined || layout.totalBytes > totalBytes) return undefined;
  const known = consumers.filter((id) => id >= 0 && id < layout.consumerCapacity);
  const hits = new Map(known.map((id) => [id, 0]));
  if (known.length === 0) return hits;
  const end = known.reduce((most, id) => Math.max(most, id), 0) + 1;
  const add = (view: DataView | undefined, stride: number, counters: readonly number[]): void => {
    if (view === undefined) return;
    for (const id of known) {
      let sum = hits.get(id) ?? 0;
      for (const at of counters) sum += Number(view.getBigUint64(id * stride + at, true));
      hits.set(id, sum);
    }
  };
  const shared = viewOf(read(PAGE_BYTES, end * SHARED_COUNTER_BYTES));
  add(shared, SHARED_COUNTER_BYTES, Object.values(SharedCounter));
  const claimed = header?.getBigUint64(SegmentHeader.claimed, true) ?? 0n;
  const contexts = claimed < BigInt(layout.contextCount) ? Number(claimed) : layout.contextCount;
  if (contexts * end * CONSUMER_COUNTER_BYTES > MOST_READ) return undefined;
  const { hits: plain, filtered, aggregated } = ConsumerCounter;
  for (let context = 0; context < contexts; context++) {
    const at = layout.contextsOffset + context * layout.contextStride + PAGE_BYTES;
    const view = viewOf(read(at, end * CONSUMER_COUNTER_BYTES));
    add(view, CONSUMER_COUNTER_BYTES, [plain, filtered, aggregated]);
  }
  return hits;
}

function layoutOf(header: DataView): SegmentLayout | undefined {
  if (header.getBigUint64(SegmentHeader.magic, true) !== SEGMENT_MAGIC) return undefined;
  if (header.getUint32(SegmentHeader.version, true) !== SEGMENT_VERSION) return undefined;
  const contextCount = header.getUint32(SegmentHeader.contextCount, true);
  const consumerCapacity = header.getUint32(SegmentHeader.consumerCapacity, true);
  const ringBytes = header.getUint32(SegmentHeader.ringBytes, true);
  if (contextCount > MOST_CONTEXTS || consumerCapacity > MOST_CONSUMERS) return undefined;
  if (ringBytes > MOST_RING_BYTES) return undefined;
  return layoutSegment({ contextCount, consumerCapacity, ringBytes });
}

function viewOf(bytes: Uint8Array | undefined): DataView | undefined {
  return bytes && new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
