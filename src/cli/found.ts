/** Telling of processes that are found while a trace goes on: little a second, however many there are. */

import type { TargetInfo } from '../index.ts';
import type { Painter } from '../screen/colour.ts';
import { printable } from '../base/text.ts';
import { processName } from './process-name.ts';
import { notice, type Messages } from './messages.ts';
import { counted } from './summary.ts';

const INTERVAL_MILLISECONDS = 1000;
const NAMES_SHOWN = 3;
const PROBLEMS_SHOWN = 5;

/** Collects processes, and what could not be done in them, and tells of it. Disposing it tells of the rest. */
export class FoundProcesses implements Disposable {
  readonly #messages: Messages;
  readonly #paint: Painter;
  #found: TargetInfo[] = [];
  #problems: string[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(messages: Messages, paint: Painter) {
    this.#messages = messages;
    this.#paint = paint;
  }

  /** One more. The first after a while is told of at once. */
  add(target: TargetInfo): void {
    this.#found.push(target);
    this.#tellSoon();
  }

  /** Something that could not be done. */
  addProblem(problem: string): void {
    this.#problems.push(problem);
    this.#tellSoon();
  }

  #tellSoon(): void {
    if (this.#timer !== undefined || !this.#tell()) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#tellSoon();
    }, INTERVAL_MILLISECONDS).unref();
  }

  /** Tells of those of which nobody was told yet. */
  tellRest(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#tell();
  }

  [Symbol.dispose](): void {
    this.tellRest();
  }

  /** @returns whether there was something */
  #tell(): boolean {
    const [found, problems] = [this.#found, this.#problems];
    this.#found = [];
    this.#problems = [];
    const more = problems.length - PROBLEMS_SHOWN;
    const lines = [
      ...(found.length > 0 ? [`also in ${namesOf(found)}`] : []),
      ...problems.slice(0, PROBLEMS_SHOWN).map((problem) => printable(problem)),
      ...(more > 0 ? [`and ${counted(more, 'problem')} more of that kind`] : []),
    ];
    if (lines.length > 0) this.#messages.lines(lines.map((line) => notice(line, this.#paint)));
    return lines.length > 0;
  }
}

function namesOf(found: readonly TargetInfo[]): string {
  const rest = found.length - NAMES_SHOWN;
  const shown = found.slice(0, rest === 1 ? found.length : NAMES_SHOWN);
  const names = shown.map(processName).join(', ');
  return `${names}${rest > 1 ? ` and ${counted(rest, 'process')} more` : ''}`;
}
