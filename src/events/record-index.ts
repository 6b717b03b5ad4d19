/** Where the committed records of one ring lie: filled by a ring's scan, read by whoever copies. */

/**
 * Records found by one scan of one ring. The arrays are reused and grow; entries from `count` on are
 * left over. Offsets are in bytes from the ring's start, all checked: `offset + bytes` never leaves
 * the ring and its spill area.
 */
export class RecordIndex {
  count = 0;
  offset: Uint32Array = new Uint32Array(0);
  bytes: Uint32Array = new Uint32Array(0);
  /** Event id in the low half, processor in the high half. */
  event: Uint32Array = new Uint32Array(0);
  clockLow: Uint32Array = new Uint32Array(0);
  clockHigh: Uint32Array = new Uint32Array(0);

  /** Stretches of the ring without gap or wrap: [start, end) in bytes, first record's index. */
  chunkCount = 0;
  chunkStart: Uint32Array = new Uint32Array(16);
  chunkEnd: Uint32Array = new Uint32Array(16);
  chunkFirst: Uint32Array = new Uint32Array(16);
  /** Positions of the chunks, in bytes. */
  chunkPosition: Float64Array = new Float64Array(16);

  constructor(capacity = 256) {
    this.#resize(capacity);
  }

  /** Forgets everything. */
  clear(): void {
    this.count = 0;
    this.chunkCount = 0;
  }

  /** Makes room for one more record. */
  reserve(): void {
    if (this.count >= this.offset.length) this.#resize(this.offset.length * 2);
  }

  /** Begins a chunk at a ring offset and position. */
  openChunk(offset: number, position: number): void {
    if (this.chunkCount >= this.chunkStart.length) {
      const size = this.chunkCount * 2;
      this.chunkStart = grown(this.chunkStart, size);
      this.chunkEnd = grown(this.chunkEnd, size);
      this.chunkFirst = grown(this.chunkFirst, size);
      const positions = new Float64Array(size);
      positions.set(this.chunkPosition);
      this.chunkPosition = positions;
    }
    this.chunkStart[this.chunkCount] = offset;
    this.chunkEnd[this.chunkCount] = offset;
    this.chunkFirst[this.chunkCount] = this.count;
    this.chunkPosition[this.chunkCount] = position;
    this.chunkCount++;
  }

  /** Ends the open chunk; one without records is forgotten. */
  closeChunk(end: number): void {
    const last = this.chunkCount - 1;
    if (last < 0) return;
    if (this.chunkFirst[last] === this.count) this.chunkCount--;
    else this.chunkEnd[last] = end;
  }

  #resize(capacity: number): void {
    this.offset = grown(this.offset, capacity);
    this.bytes = grown(this.bytes, capacity);
    this.event = grown(this.event, capacity);
    this.clockLow = grown(this.clockLow, capacity);
    this.clockHigh = grown(this.clockHigh, capacity);
  }
}

/** A longer copy of an array. */
export function grown(array: Uint32Array, length: number): Uint32Array {
  const larger = new Uint32Array(length);
  larger.set(array);
  return larger;
}
