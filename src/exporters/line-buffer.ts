/** Text made of bytes: what the line formats write into, ready for `fs.writeSync`. */

const ZERO = 0x30;
const BILLION = 1_000_000_000;
const WORD = 4_294_967_296;
/** Below this high half a 64-bit number is exact as a double. */
const EXACT_HIGH = 0x20_0000;

const HEX_DIGITS = Uint8Array.from(Buffer.from('0123456789abcdef'));

/** Text that does not change, as bytes; made once and copied often. */
export type Fragment = Uint8Array;

/** Encodes text as UTF-8, once. */
export function fragment(text: string): Fragment {
  return Uint8Array.from(Buffer.from(text, 'utf8'));
}

/**
 * A growing buffer of text. Writers call {@link LineBuffer.reserve} before a group of writes; the writes
 * themselves don't check.
 */
export class LineBuffer {
  /** The bytes; replaced when the buffer grows. */
  bytes: Buffer;
  /** Bytes in use. */
  length = 0;

  constructor(capacity: number = 1 << 16) {
    this.bytes = Buffer.allocUnsafeSlow(capacity);
  }

  /** The text so far; valid until the next write. */
  written(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  /** Forgets the text, keeps the memory. */
  clear(): void {
    this.length = 0;
  }

  /** Makes room for `count` more bytes. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2));
    larger.set(this.written());
    this.bytes = larger;
  }

  /** One byte of ASCII. */
  byte(value: number): void {
    this.bytes[this.length++] = value;
  }

  /** Fixed text. */
  put(text: Fragment): void {
    const { bytes } = this;
    let at = this.length;
    for (let from = 0; from < text.length; from++) bytes[at++] = text[from] ?? 0;
    this.length = at;
  }

  /** Text that varies, in UTF-8. For the rare and the long. */
  text(value: string): void {
    this.reserve(value.length * 3);
    this.length += this.bytes.write(value, this.length, 'utf8');
  }

  /** A whole number from 0 to 2^53 in decimal; at most 16 bytes. */
  decimal(value: number): void {
    if (value < BILLION) {
      this.#small(value);
      return;
    }
    const high = Math.floor(value / BILLION);
    this.#small(high);
    this.padded(value - high * BILLION, 9);
  }

  /** A whole number below 10^9 in `digits` digits, with zeros in front. */
  padded(value: number, digits: number): void {
    const { bytes } = this;
    let rest = value | 0;
    for (let at = this.length + digits - 1; at >= this.length; at--) {
      const next = (rest / 10) | 0;
      bytes[at] = ZERO + rest - next * 10;
      rest = next;
    }
    this.length += digits;
  }

  /** An unsigned 64-bit number in decimal; at most 20 bytes. */
  unsigned(low: number, high: number): void {
    if (high < EXACT_HIGH) {
      this.decimal(high * WORD + low);
      return;
    }
    // Long division by 10^9, 16 bits at a time, so that every step stays below 2^53.
    const first = Math.floor(high / BILLION);
    const upper = (high - first * BILLION) * 65_536 + (low >>> 16);
    const upperQuotient = Math.floor(upper / BILLION);
    const lower = (upper - upperQuotient * BILLION) * 65_536 + (low & 0xffff);
    const lowerQuotient = Math.floor(lower / BILLION);
    const remainder = lower - lowerQuotient * BILLION;
    this.decimal(first * WORD + upperQuotient * 65_536 + lowerQuotient);
    this.padded(remainder, 9);
  }

  /** An unsigned 64-bit number in hexadecimal, without 0x and zeros in front; at most 16 bytes. */
  hex(low: number, high: number): void {
    if (high !== 0) {
      this.#hexWord(high, 1);
      this.#hexWord(low, 8);
    } else {
      this.#hexWord(low, 1);
    }
  }

  #small(value: number): void {
    let digits = 1;
    for (let limit = 10; value >= limit; limit *= 10) digits++;
    this.padded(value, digits);
  }

  #hexWord(value: number, least: number): void {
    const digits = Math.max(least, (35 - Math.clz32(value)) >>> 2);
    const { bytes } = this;
    let rest = value;
    for (let at = this.length + digits - 1; at >= this.length; at--) {
      bytes[at] = HEX_DIGITS[rest & 15] ?? 0;
      rest >>>= 4;
    }
    this.length += digits;
  }
}
