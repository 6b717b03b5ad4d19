/** One line that says how far slow work has come. */

import { formatCount } from './numbers.ts';
import { cut, printable } from '../base/text.ts';

/** Where progress is written: `process.stderr` fits. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  /** The terminal's width. */
  readonly columns?: number;
  write(text: string): unknown;
}

/** What may be changed about a progress line. */
export interface ProgressOptions {
  /** `process.stderr` if not given. Nothing is ever written unless it is a terminal. */
  readonly stream?: ProgressStream;
  /** Milliseconds before anything is shown; 1000 if not given. */
  readonly delay?: number;
  /** A clock in milliseconds that never goes back. */
  readonly now?: () => number;
}

const REDRAW_MILLISECONDS = 100;
/** Carriage return and "erase to the end of the line" (ECMA-48, EL). */
const CLEAR_LINE = '\r\x1b[K';

/**
 * A progress line, owned by whoever started the work: `using progress = new Progress('removing probes')`.
 * It appears once the work has lasted longer than the delay and disappears at disposal. It redraws by a
 * timer that keeps no program alive, and at updates, so that work which blocks the thread shows too.
 */
export class Progress implements Disposable {
  readonly #stream: ProgressStream;
  readonly #now: () => number;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #label: string;
  #amount = '';
  #nextDraw: number;
  #shown = '';

  constructor(label: string, options: ProgressOptions = {}) {
    this.#label = printable(label);
    this.#stream = options.stream ?? process.stderr;
    this.#now = options.now ?? ((): number => performance.now());
    this.#nextDraw = this.#now() + (options.delay ?? 1000);
    if (this.#stream.isTTY === true) {
      this.#timer = setInterval(() => this.#draw(), REDRAW_MILLISECONDS);
      this.#timer.unref();
    }
  }

  /** Says how much is done, of how much if that is known. */
  update(done: number, total?: number): void {
    this.#amount = ` ${formatCount(done)}${total === undefined ? '' : ` of ${formatCount(total)}`}`;
    if (this.#timer !== undefined) this.#draw();
  }

  /** Clears the line, if there is one. */
  [Symbol.dispose](): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#nextDraw = Infinity;
    if (this.#shown !== '') this.#stream.write(CLEAR_LINE);
    this.#shown = '';
  }

  #draw(): void {
    const now = this.#now();
    if (now < this.#nextDraw) return;
    this.#nextDraw = now + REDRAW_MILLISECONDS;
    // The last column stays free: writing there makes some terminals begin a new line.
    const line = cut(`${this.#label}${this.#amount} …`, (this.#stream.columns ?? 80) - 1);
    if (line === this.#shown) return;
    this.#stream.write(CLEAR_LINE + line);
    this.#shown = line;
  }
}
