/** Telling of processes that are found while a trace goes on: a line a second at most, however many there are. */

import type { TargetInfo } from '../index.ts';
import type { Painter } from '../screen/colour.ts';
import { printable } from '../screen/text.ts';
import { notice, type Messages } from './messages.ts';
import { counted } from './summary.ts';

const INTERVAL_MILLISECONDS = 1000;
const NAMES_SHOWN = 3;

/** Collects processes, and tells of them. Disposing it tells of the rest. */
export class FoundProcesses implements Disposable {
  readonly #messages: Messages;
  readonly #paint: Painter;
  #found: TargetInfo[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(messages: Messages, paint: Painter) {
    this.#messages = messages;
    this.#paint = paint;
  }

  /** One more. The first after a while is told of at once. */
  add(target: TargetInfo): void {
    this.#found.push(target);
    if (this.#timer !== undefined) return;
    this.#tell();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#tell();
    }, INTERVAL_MILLISECONDS).unref();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#tell();
  }

  #tell(): void {
    const found = this.#found;
    this.#found = [];
    if (found.length === 0) return;
    const rest = found.length - NAMES_SHOWN;
    const shown = found.slice(0, rest === 1 ? found.length : NAMES_SHOWN);
    const names = shown.map(({ pid, comm }) => `${printable(comm)} (${pid})`).join(', ');
    const more = rest > 1 ? ` and ${counted(rest, 'process')} more` : '';
    this.#messages.lines([notice(`also in ${names}${more}`, this.#paint)]);
  }
}
