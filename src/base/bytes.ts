/** Reading and writing little-endian bytes without ever leaving the buffer. */

import { TraplineError, type ErrorCode } from './errors.ts';

/**
 * Reads forward through bytes. A read advances or throws; it never moves past the end and never
 * returns bytes that are not there. Offsets are in bytes from the start of the buffer.
 */
export class ByteReader {
  readonly bytes: Uint8Array;
  /** Names the source in errors: "libc.so.6 .dynsym". */
  readonly source: string;
  readonly #view: DataView;
  readonly #code: ErrorCode;
  #offset: number;

  constructor(bytes: Uint8Array, source: string, offset = 0, code: ErrorCode = 'bad-input') {
    this.bytes = bytes;
    this.source = source;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#code = code;
    this.#offset = offset;
    if (offset < 0 || offset > bytes.byteLength) this.#fail(0);
  }

  /** Where the next read begins. */
  get offset(): number {
    return this.#offset;
  }

  /** Bytes left to read. */
  get remaining(): number {
    return this.bytes.byteLength - this.#offset;
  }

  /** Moves to `offset`; @throws when that is outside the buffer. */
  seek(offset: number): void {
    if (!Number.isInteger(offset) || offset < 0 || offset > this.bytes.byteLength) {
      this.#offset = Math.min(Math.max(0, Math.trunc(offset) || 0), this.bytes.byteLength);
      this.#fail(1);
    }
    this.#offset = offset;
  }

  /** Moves forward by `count` bytes; @throws when that leaves the buffer. */
  skip(count: number): void {
    this.#take(count);
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  i8(): number {
    return this.#view.getInt8(this.#take(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }
  i16(): number {
    return this.#view.getInt16(this.#take(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }
  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }

  /** A 64-bit number that must fit a JavaScript integer (an offset, a size); @throws when not. */
  size(): number {
    const at = this.#offset;
    const value = this.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      this.#offset = at;
      throw new TraplineError({
        code: this.#code,
        message: `${this.source}: the size 0x${value.toString(16)} at offset ${at} is not possible`,
      });
    }
    return Number(value);
  }

  /** A view (not a copy) of the next `count` bytes. */
  take(count: number): Uint8Array {
    const at = this.#take(count);
    return this.bytes.subarray(at, at + count);
  }

  /** A NUL-terminated string in UTF-8, without the NUL; @throws when no NUL follows. */
  cstring(): string {
    const end = this.bytes.indexOf(0, this.#offset);
    if (end < 0) this.#fail(this.remaining + 1);
    const text = decoder.decode(this.bytes.subarray(this.#offset, end));
    this.#offset = end + 1;
    return text;
  }

  /** Unsigned LEB128 (DWARF 5, section 7.6); @throws past 64 bits. */
  uleb(): bigint {
    return this.#leb(false);
  }

  /** Signed LEB128 (DWARF 5, section 7.6); @throws past 64 bits. */
  sleb(): bigint {
    return this.#leb(true);
  }

  #leb(signed: boolean): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) {
        return signed
          ? BigInt.asIntN(Math.min(64, Number(shift) + 7), value)
          : BigInt.asUintN(64, value);
      }
    }
    throw new TraplineError({
      code: this.#code,
      message: `${this.source}: a LEB128 number at offset ${this.#offset} does not end`,
    });
  }

  #take(count: number): number {
    if (!Number.isInteger(count) || count < 0 || count > this.remaining) this.#fail(count);
    const at = this.#offset;
    this.#offset += count;
    return at;
  }

  #fail(count: number): never {
    throw new TraplineError({
      code: this.#code,
      message:
        `${this.source}: ${count} bytes at offset ${this.#offset} reach past the end ` +
        `(${this.bytes.byteLength} bytes)`,
    });
  }
}

const decoder = new TextDecoder('utf-8');

/** Appends little-endian bytes to a buffer that grows. */
export class ByteWriter {
  #bytes: Uint8Array;
  /** Made when it is needed: it takes a small array out of V8's own heap, where it costs next to nothing. */
  #view: DataView | undefined;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    const at = this.#grow(1);
    this.#bytes[at] = value;
    return this;
  }
  u16(value: number): this {
    const at = this.#grow(2);
    this.#viewed().setUint16(at, value, true);
    return this;
  }
  u32(value: number): this {
    const at = this.#grow(4);
    this.#viewed().setUint32(at, value, true);
    return this;
  }
  i32(value: number): this {
    const at = this.#grow(4);
    this.#viewed().setInt32(at, value, true);
    return this;
  }
  u64(value: bigint): this {
    const at = this.#grow(8);
    this.#viewed().setBigUint64(at, BigInt.asUintN(64, value), true);
    return this;
  }
  raw(bytes: Uint8Array | readonly number[]): this {
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  /** Overwrites four bytes written earlier (a branch displacement, a size). */
  patchI32(offset: number, value: number): void {
    if (offset < 0 || offset + 4 > this.#length) throw new RangeError(`patch outside: ${offset}`);
    this.#viewed().setInt32(offset, value, true);
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #viewed(): DataView {
    return (this.#view ??= new DataView(this.#bytes.buffer));
  }

  /** Call it before touching the buffer or the view: it may replace both. */
  #grow(count: number): number {
    const at = this.#length;
    if (at + count > this.#bytes.byteLength) {
      const larger = new Uint8Array(Math.max(this.#bytes.byteLength * 2, at + count));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = undefined;
    }
    this.#length = at + count;
    return at;
  }
}
