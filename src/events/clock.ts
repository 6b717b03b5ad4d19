/**
 * From time stamp counter to CLOCK_MONOTONIC, piecewise. A piece is a line from one calibration point
 * on. What was converted once stays so: a new point never changes the past, it begins a piece where
 * the old one leads and slopes back to the truth. So times never run backwards across pieces.
 *
 * No BigInt on the path of a record: a time is a *tick key*, the distance in ticks from a base near the
 * first calibration, a double that is exact for 2^53 ticks (a month at 3 GHz) and monotone beyond.
 */

import { TraplineError } from '../base/errors.ts';

const WORD = 4_294_967_296;
const NANOSECONDS = 1_000_000_000;
/** A point this far from the prediction is a jump of the clock itself, not an error to slope away. */
const STEP_NANOSECONDS = 1_000_000;
/** A piece leans at most so much from the measured rate. */
const LEAN = 0.01;
/** In which time a piece makes an error good; also how far apart points are that give a rate. */
const LEAN_NANOSECONDS = 1_000_000_000;
/** Older pieces are forgotten: records are read within seconds. */
const MAX_PIECES = 1024;

/** The same instant on both clocks. */
export interface ClockPoint {
  readonly ticks: bigint;
  /** CLOCK_MONOTONIC. */
  readonly nanoseconds: bigint;
}

interface Piece {
  readonly key: number;
  readonly seconds: number;
  readonly nanoseconds: number; // with a fraction
  readonly nanosecondsPerTick: number;
}

/** Converts times. The result of a conversion is in two fields, so that none is allocated. */
export class Clock {
  /** Of the last conversion; at least 0. */
  seconds = 0;
  /** Of the last conversion, below one second; a whole number. */
  nanoseconds = 0;
  /** The rate that the first piece was made with. */
  readonly ticksPerSecond: number;
  readonly #baseHigh: number;
  readonly #pieces: Piece[] = [];
  readonly #points: ClockPoint[] = [];
  #current: Piece;

  /**
   * @param first a calibration point
   * @param second one later, or the rate: ticks per second where the first point stands alone
   * @throws TraplineError `bad-input` unless time and ticks grow from first to second.
   */
  constructor(first: ClockPoint, second: ClockPoint | number) {
    this.#baseHigh = Number(BigInt.asUintN(64, first.ticks) >> 32n);
    const rate = typeof second === 'number' ? NANOSECONDS / second : slope(first, second);
    if (!Number.isFinite(rate) || rate <= 0) throw invalidPoint();
    this.ticksPerSecond = NANOSECONDS / rate;
    this.#current = this.#piece(first, rate);
    this.#pieces.push(this.#current);
    this.#points.push(first);
    if (typeof second !== 'number') this.add(second);
  }

  /** The calibration points, oldest first. */
  get points(): readonly ClockPoint[] {
    return this.#points;
  }

  /**
   * Adds a calibration point, later than the last. Conversions of earlier times don't change.
   * @throws TraplineError `bad-input` unless ticks and time have grown since the last point.
   */
  add(point: ClockPoint): void {
    const last = this.#points.at(-1) ?? point;
    if (point.ticks <= last.ticks || point.nanoseconds <= last.nanoseconds) throw invalidPoint();
    const old = this.#current;
    const key = this.keyOf(point.ticks);
    // Both counted from the old piece's second, so that they are small and keep their fraction.
    const predicted = old.nanoseconds + (key - old.key) * old.nanosecondsPerTick;
    const measured = Number(point.nanoseconds - BigInt(old.seconds) * 1_000_000_000n);
    const error = measured - predicted;
    if (error > STEP_NANOSECONDS) {
      this.#points.length = 0; // the rate across a jump means nothing
      this.#current = this.#piece(point, old.nanosecondsPerTick);
    } else {
      const rate = slope(this.#rateStart(point), point);
      // Time must not run back: the piece begins at the prediction and leans until the truth is met.
      const lean = Math.max(-LEAN, Math.min(LEAN, error / LEAN_NANOSECONDS));
      this.#current = {
        key,
        seconds: old.seconds + Math.floor(predicted / NANOSECONDS),
        nanoseconds: predicted - Math.floor(predicted / NANOSECONDS) * NANOSECONDS,
        nanosecondsPerTick: rate * (1 + lean),
      };
    }
    this.#pieces.push(this.#current);
    this.#points.push(point);
    if (this.#pieces.length > MAX_PIECES) this.#pieces.shift();
    if (this.#points.length > MAX_PIECES) this.#points.shift();
  }

  /** The latest point that is far enough away to measure a rate from, else the first. */
  #rateStart(point: ClockPoint): ClockPoint {
    const enough = point.nanoseconds - BigInt(LEAN_NANOSECONDS);
    return (
      this.#points.findLast(({ nanoseconds }) => nanoseconds <= enough) ?? this.#points[0] ?? point
    );
  }

  /** The tick key of a time stamp counter's halves. */
  key(low: number, high: number): number {
    return (high - this.#baseHigh) * WORD + low;
  }

  /** The tick key of a whole time stamp counter. */
  keyOf(ticks: bigint): number {
    return Number(ticks - (BigInt(this.#baseHigh) << 32n));
  }

  /** Converts a time stamp counter's halves into `seconds` and `nanoseconds`. */
  convert(low: number, high: number): void {
    this.convertKey(this.key(low, high));
  }

  /** Converts a tick key into `seconds` and `nanoseconds`. Before the first point: its line backwards. */
  convertKey(key: number): void {
    let piece = this.#current;
    if (key < piece.key) piece = this.#pieceOf(key);
    const distance = piece.nanoseconds + (key - piece.key) * piece.nanosecondsPerTick;
    const whole = Math.floor(distance / NANOSECONDS);
    const rest = Math.floor(distance - whole * NANOSECONDS);
    const seconds = piece.seconds + whole;
    if (seconds < 0) {
      this.seconds = this.nanoseconds = 0;
    } else {
      this.seconds = seconds;
      // Beyond 2^53 ns from the piece the remainder is not exact any more.
      this.nanoseconds = Math.min(NANOSECONDS - 1, Math.max(0, rest));
    }
  }

  /** The tick key of a CLOCK_MONOTONIC time by the current piece: the pair of {@link convertKey}. */
  keyAt(nanoseconds: bigint): number {
    const { key, seconds, nanoseconds: start, nanosecondsPerTick } = this.#current;
    const distance = Number(nanoseconds - BigInt(seconds) * 1_000_000_000n) - start;
    return key + distance / nanosecondsPerTick;
  }

  #piece(point: ClockPoint, nanosecondsPerTick: number): Piece {
    return {
      key: this.keyOf(point.ticks),
      seconds: Number(point.nanoseconds / 1_000_000_000n),
      nanoseconds: Number(point.nanoseconds % 1_000_000_000n),
      nanosecondsPerTick,
    };
  }

  /** The last piece that begins at or before a key, else the first one. */
  #pieceOf(key: number): Piece {
    let low = 0;
    let high = this.#pieces.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#pieces[middle]?.key ?? 0) <= key) low = middle;
      else high = middle - 1;
    }
    return this.#pieces[low] ?? this.#current;
  }
}

function slope(from: ClockPoint, to: ClockPoint): number {
  return Number(to.nanoseconds - from.nanoseconds) / Number(to.ticks - from.ticks);
}

function invalidPoint(): TraplineError {
  return new TraplineError({
    code: 'bad-input',
    message: 'the clock ran backwards between two calibrations',
    hint: 'the time stamp counter of this machine may be unstable: see dmesg for "tsc"',
  });
}
