/**
 * The LZMA decoder (the format's own description, "LZMA specification", and xz's file format, 5.3.1), for
 * LZMA2 chunks. It writes into one buffer that is its dictionary too, and never past the buffer's end.
 */

import { badElf } from './malformed.ts';

const STATES = 12;
const POSITION_STATES_MAX = 16;
const LENGTH_CONTEXTS = 4;
const MIN_MATCH = 2;
const ALIGN_BITS = 4;
const END_SLOT_MODEL = 14;
const FULL_DISTANCES = 128;
const LITERAL_CODER = 0x300;
const HALF = 1024;
const TOP = 2 ** 24;

/** Probabilities of one length coder: two choices, low and middle trees for each position, one high tree. */
class LengthModel {
  readonly choices = new Uint16Array(2);
  readonly low = new Uint16Array(POSITION_STATES_MAX << 3);
  readonly middle = new Uint16Array(POSITION_STATES_MAX << 3);
  readonly high = new Uint16Array(1 << 8);

  reset(): void {
    for (const part of [this.choices, this.low, this.middle, this.high]) part.fill(HALF);
  }
}

/** Decodes LZMA chunks one after another into `output`. */
export class LzmaDecoder {
  /** Where decoded bytes go; replaced by a larger one by its owner between chunks. */
  output: Uint8Array;
  /** Bytes of {@link output} that are there already. */
  position = 0;
  /** Where the dictionary begins: nothing before it may be copied. */
  dictionaryStart = 0;
  readonly #source: string;
  #input: Uint8Array = new Uint8Array();
  #at = 0;
  #range = 0;
  #code = 0;
  #literalContext = 0;
  #literalPosition = 0;
  #positionBits = 0;
  #state = 0;
  #distances = [0, 0, 0, 0] as [number, number, number, number];
  #literals = new Uint16Array();
  readonly #isMatch = new Uint16Array(STATES * POSITION_STATES_MAX);
  readonly #isRepeat = new Uint16Array(STATES);
  readonly #isRepeat0 = new Uint16Array(STATES);
  readonly #isRepeat1 = new Uint16Array(STATES);
  readonly #isRepeat2 = new Uint16Array(STATES);
  readonly #isLongRepeat0 = new Uint16Array(STATES * POSITION_STATES_MAX);
  readonly #slots = new Uint16Array(LENGTH_CONTEXTS << 6);
  readonly #special = new Uint16Array(FULL_DISTANCES);
  readonly #align = new Uint16Array(1 << ALIGN_BITS);
  readonly #lengths = new LengthModel();
  readonly #repeatLengths = new LengthModel();

  /** @param source names the data in errors */
  constructor(output: Uint8Array, source: string) {
    this.output = output;
    this.#source = source;
  }

  /** Takes the property byte (lc, lp, pb) and forgets all that was learned. @throws TraplineError `bad-elf`. */
  setProperties(byte: number): void {
    const literalContext = byte % 9;
    const rest = Math.floor(byte / 9);
    const literalPosition = rest % 5;
    // LZMA2 allows four bits for both together, so the table is small.
    if (byte > 224 || literalContext + literalPosition > 4)
      throw this.#bad('impossible properties');
    this.#literalContext = literalContext;
    this.#literalPosition = literalPosition;
    this.#positionBits = Math.floor(rest / 5);
    this.#literals = new Uint16Array(LITERAL_CODER << (literalContext + literalPosition));
    this.resetState();
  }

  /** Forgets what was learned, and keeps the properties. */
  resetState(): void {
    this.#state = 0;
    this.#distances = [0, 0, 0, 0];
    const choices = [this.#isMatch, this.#isRepeat, this.#isRepeat0, this.#isRepeat1];
    const longer = [this.#isRepeat2, this.#isLongRepeat0, this.#slots, this.#special, this.#align];
    for (const model of [this.#literals, ...choices, ...longer]) model.fill(HALF);
    this.#lengths.reset();
    this.#repeatLengths.reset();
  }

  /**
   * Decodes one chunk, which makes exactly `size` bytes; {@link output} has room for them.
   * @throws TraplineError `bad-elf`.
   */
  decode(chunk: Uint8Array, size: number): void {
    if (this.#literals.length === 0) throw this.#bad('no properties were set');
    this.#input = chunk;
    this.#at = 5;
    if (chunk.length < 5 || chunk[0] !== 0) throw this.#bad('a chunk begins wrongly');
    this.#range = 0xffffffff;
    const [, a = 0, b = 0, c = 0, d = 0] = chunk;
    this.#code = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
    const end = this.position + size;
    while (this.position < end) this.#decodeOne(end);
    this.#normalize();
    if (this.#code !== 0 || this.#at !== chunk.length) throw this.#bad('a chunk ends wrongly');
  }

  #decodeOne(end: number): void {
    const positionState = (this.position - this.dictionaryStart) & ((1 << this.#positionBits) - 1);
    const place = this.#state * POSITION_STATES_MAX + positionState;
    if (this.#bit(this.#isMatch, place) === 0) {
      this.#literal();
      return;
    }
    let length: number;
    if (this.#bit(this.#isRepeat, this.#state) === 0) {
      length = MIN_MATCH + this.#length(this.#lengths, positionState);
      this.#state = this.#state < 7 ? 7 : 10;
      const [first, second, third] = this.#distances;
      this.#distances = [this.#distance(length), first, second, third];
    } else {
      if (this.#isShortRepeat(place)) {
        this.#state = this.#state < 7 ? 9 : 11;
        this.#copy(1, end);
        return;
      }
      length = MIN_MATCH + this.#length(this.#repeatLengths, positionState);
      this.#state = this.#state < 7 ? 8 : 11;
    }
    this.#copy(length, end);
  }

  /** Chooses one of the four last distances; true when one byte at the last of them is meant. */
  #isShortRepeat(place: number): boolean {
    const [first, second, third, fourth] = this.#distances;
    if (this.#bit(this.#isRepeat0, this.#state) === 0) {
      return this.#bit(this.#isLongRepeat0, place) === 0;
    }
    if (this.#bit(this.#isRepeat1, this.#state) === 0) {
      this.#distances = [second, first, third, fourth];
    } else if (this.#bit(this.#isRepeat2, this.#state) === 0) {
      this.#distances = [third, first, second, fourth];
    } else {
      this.#distances = [fourth, first, second, third];
    }
    return false;
  }

  #literal(): void {
    const { output, position } = this;
    const previous = position > this.dictionaryStart ? (output[position - 1] ?? 0) : 0;
    const low = (position - this.dictionaryStart) & ((1 << this.#literalPosition) - 1);
    const context = (low << this.#literalContext) + (previous >> (8 - this.#literalContext));
    const base = LITERAL_CODER * context;
    let symbol = 1;
    if (this.#state >= 7) {
      let match = this.#byteBack(this.#distances[0]);
      while (symbol < 0x100) {
        const matchBit = (match >> 7) & 1;
        match <<= 1;
        const bit = this.#bit(this.#literals, base + ((1 + matchBit) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (bit !== matchBit) break;
      }
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.#bit(this.#literals, base + symbol);
    output[this.position++] = symbol;
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6;
  }

  #length(model: LengthModel, positionState: number): number {
    if (this.#bit(model.choices, 0) === 0) return this.#tree(model.low, positionState << 3, 3);
    if (this.#bit(model.choices, 1) === 0) {
      return 8 + this.#tree(model.middle, positionState << 3, 3);
    }
    return 16 + this.#tree(model.high, 0, 8);
  }

  #distance(length: number): number {
    const context = Math.min(length - MIN_MATCH, LENGTH_CONTEXTS - 1);
    const slot = this.#tree(this.#slots, context << 6, 6);
    if (slot < 4) return slot;
    const directBits = (slot >> 1) - 1;
    const base = ((2 | (slot & 1)) << directBits) >>> 0;
    if (slot < END_SLOT_MODEL) {
      return base + this.#reverseTree(this.#special, base - slot, directBits);
    }
    const high = this.#direct(directBits - ALIGN_BITS) * (1 << ALIGN_BITS);
    return base + high + this.#reverseTree(this.#align, 0, ALIGN_BITS);
  }

  /** A distance of 0 is the byte before. @throws when that is before the dictionary. */
  #byteBack(distance: number): number {
    const from = this.position - distance - 1;
    if (from < this.dictionaryStart) throw this.#bad('a copy from before the beginning');
    return this.output[from] ?? 0;
  }

  #copy(length: number, end: number): void {
    this.#byteBack(this.#distances[0]);
    if (this.position + length > end) throw this.#bad('a copy past the end of its chunk');
    const { output } = this;
    // Byte by byte: the copy may overlap itself, and then repeats.
    let from = this.position - this.#distances[0] - 1;
    for (let left = length; left > 0; left--) output[this.position++] = output[from++] ?? 0;
  }

  #tree(model: Uint16Array, base: number, bits: number): number {
    let symbol = 1;
    for (let left = bits; left > 0; left--) {
      symbol = (symbol << 1) | this.#bit(model, base + symbol);
    }
    return symbol - (1 << bits);
  }

  #reverseTree(model: Uint16Array, base: number, bits: number): number {
    let symbol = 1;
    let value = 0;
    for (let at = 0; at < bits; at++) {
      const bit = this.#bit(model, base + symbol);
      symbol = (symbol << 1) | bit;
      value |= bit << at;
    }
    return value;
  }

  #direct(bits: number): number {
    let value = 0;
    for (let left = bits; left > 0; left--) {
      this.#normalize();
      this.#range >>>= 1;
      const bit = this.#code >= this.#range ? 1 : 0;
      if (bit === 1) this.#code -= this.#range;
      value = value * 2 + bit;
    }
    return value;
  }

  #bit(model: Uint16Array, at: number): number {
    this.#normalize();
    const probability = model[at] ?? HALF;
    const bound = (this.#range >>> 11) * probability;
    if (this.#code < bound) {
      this.#range = bound;
      model[at] = probability + ((2048 - probability) >> 5);
      return 0;
    }
    this.#range -= bound;
    this.#code -= bound;
    model[at] = probability - (probability >> 5);
    return 1;
  }

  #normalize(): void {
    if (this.#range >= TOP) return;
    const next = this.#input[this.#at++];
    if (next === undefined) throw this.#bad('a chunk ends too early');
    this.#range = (this.#range << 8) >>> 0;
    this.#code = ((this.#code << 8) | next) >>> 0;
  }

  #bad(what: string): Error {
    return badElf(this.#source, `its xz data is damaged (${what})`);
  }
}
